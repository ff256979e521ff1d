"""The bootstrap of one run, or of several runs that are put together."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from robustbench_sgdm.core import errors
from robustbench_sgdm.robustness.aggregates import corruption_sets
from robustbench_sgdm.robustness.inference import Intervals
from robustbench_sgdm.robustness.measures import measures
from robustbench_sgdm.robustness.operating_point import operating_confidences, operating_point, why_undefined
from robustbench_sgdm.robustness.resample_cache import (
    BootstrapSamples,
    Statistic,
    average_precision,
    load_samples,
)
from robustbench_sgdm.robustness.resampling import METRICS
from robustbench_sgdm.robustness.sizes import COCO_SIZES, Sizes
from robustbench_sgdm.store import ModelInfo, Run


def bootstrap_intervals(
    runs: Run | Sequence[Run],
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    groups: Mapping[str, Sequence[str]] | None = None,
    metrics: Sequence[str] = METRICS,
    confidence: float | None = None,
    sizes: Sizes = COCO_SIZES,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Intervals:
    """Resample the images of a run, the same ones for every cell and model; cached, so a second call is instant.

    Args:
        runs: one, or several over the same images, seed and engine. A model of several runs is called `name@run`, by
            the directory's name, or its path if two have the same; the first run's is a baseline of the others'. If no
            run has a pair, the first model of all is the baseline.
        resamples: how many.
        seed: of the resampled images.
        level: of the intervals, in (0, 1).
        groups: networks trained from several seeds, name -> models, in addition to the runs' own.
        metrics: of METRICS and MEASURES, or those of other sizes; all of METRICS are computed where one is named, and
            so of MEASURES.
        confidence: from which boxes count in measures; None for each model's own, see `operating_confidences`.
        sizes: of objects.
        workers: threads; one per core if None.
        progress: called with the number of cells just done, from any thread; each cell counts once for METRICS and
            once for MEASURES.

    Raises:
        UsageError: an unknown metric, a confidence outside [0, 1], too few resamples, an impossible level, or a model
            that is unknown, in two groups, or in one with its baseline.
        DataError: runs that cannot be compared, no ground truth, or damaged cells.
    """
    if not 0 < level < 1:
        raise errors.UsageError(f"level {level} is outside (0, 1); 0.95 is usual")
    several = [runs] if isinstance(runs, Run) else list(runs)
    known = [*sizes.metrics, *measures(sizes)]
    for metric in metrics:
        if metric not in known:
            raise errors.unknown_name_error("metric", metric, known)
    statistics: list[list[Statistic]] = []
    undefined: list[dict[str, dict[str, str]]] = [{} for _ in several]
    if set(metrics) & set(sizes.metrics):
        statistics.append([average_precision(sizes)] * len(several))
    if set(metrics) & set(measures(sizes)):
        confidences = [operating_confidences(run, confidence) for run in several]
        statistics.append([operating_point(by_model, sizes) for by_model in confidences])
        undefined = [why_undefined(by_model, sizes) for by_model in confidences]
    parts = [
        load_samples(several, one, resamples=resamples, seed=seed, workers=workers, progress=progress)
        for one in statistics
    ]
    samples = [
        {cell: BootstrapSamples.join([part[cell] for part in of_run]) for cell in of_run[0]}
        for of_run in zip(*parts, strict=True)
    ]
    renamed = unique_model_names(several)
    sources = {
        names[m]: (run, m) for run, names in zip(several, renamed, strict=True) for m in run.manifest.models
    }
    cells: dict[str, dict[tuple[str, float], BootstrapSamples]] = {}
    known_groups: dict[str, list[str]] = {}
    seeds: dict[str, int] = {}
    pairs, repeated, distinct = [], [], []
    first_name: dict[str, str] = {}
    for run, by_cell, names in zip(several, samples, renamed, strict=True):
        cells |= {names[m]: {} for m in run.manifest.models}
        known_groups |= {names[g]: [names[m] for m in members] for g, members in run.groups.items()}
        seeds |= {names[m]: s for m, s in run.seeds.items()}
        pairs += [(names[b], names[m]) for b, m in run.training_pairs]
        distinct += [] if run.has_default_baseline else [(names[b], names[m]) for b, m in run.baseline_pairs]
        repeated += [
            (first_name[m], name) for m, name in names.items() if m in first_name and m in run.manifest.models
        ]
        first_name = names | first_name
        for cell, of_cell in by_cell.items():
            cells[names[cell.model]][cell.corruption, cell.severity] = of_cell
    joined = _join_groups(cells, groups or {}, known_groups)
    group_of = {m: group for group, members in joined.items() for m in members}
    infos = {name: run.manifest.models[m] for name, (run, m) in sources.items()}
    for baseline, model in distinct:
        theirs, own = ({group_of[m]: m for m in known_groups[network]} for network in (baseline, model))
        mixed = [g for g in own if g in theirs and not _same_network(infos[own[g]], infos[theirs[g]])]
        if mixed:
            raise errors.UsageError(
                f"group {mixed[0]!r} joins {own[mixed[0]]} with its baseline {theirs[mixed[0]]}; a group is one network "
                "trained several times: use a group for each"
            )
    tested = [(group_of[b], group_of[m]) for b, m in [*pairs, *repeated]]
    tested = list(dict.fromkeys(pair for pair in tested if pair[0] != pair[1]))
    if all(run.has_default_baseline for run in several):
        first, *others = joined
        unpaired = set(others) - {name for pair in tested for name in pair}
        tested += [(first, group) for group in others if group in unpaired]
    return Intervals(
        cells,
        corruption_sets(*several),
        tested,
        joined,
        seeds,
        level,
        sources,
        metrics=[name for one in statistics for name in one[0].columns],
        undefined={
            names[m]: why for names, by in zip(renamed, undefined, strict=True) for m, why in by.items()
        },
    )


def unique_model_names(runs: Sequence[Run]) -> list[dict[str, str]]:
    """For each run, the names of its models and groups among those of all; see `bootstrap_intervals`."""
    count = Counter(name for run in runs for name in {*run.manifest.models, *run.groups})
    directories = Counter(run.path.name for run in runs)
    renamed = []
    for run in runs:
        where = run.path.name if directories[run.path.name] == 1 else run.path
        names = dict.fromkeys([*run.manifest.models, *run.groups])
        renamed.append({m: m if count[m] == 1 else f"{m}@{where}" for m in names})
    return renamed


def _same_network(one: ModelInfo, two: ModelInfo) -> bool:
    """Whether two models are known to be trainings of one network."""
    return one.parameters is not None and (one.parameters, one.module) == (two.parameters, two.module)


def _join_groups(
    models: Mapping[str, Any], requested: Mapping[str, Sequence[str]], known: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """The trainings of every network, in the models' order: the requested groups, the runs' own, and single models."""
    members = [m for group in requested.values() for m in group]
    for model, times in Counter(members).items():
        if model not in models:
            raise errors.unknown_name_error("model", model, models)
        if times > 1:
            raise errors.UsageError(f"{model} is in two groups, or twice in one; a training counts once")
    for group in requested:
        if group in models and group not in members:
            raise errors.UsageError(
                f"group {group!r} has the name of a model that is not in it; use another name"
            )
        if not requested[group]:
            raise errors.UsageError(f"group {group!r} has no model; name its trainings")
    own = {group: list(trained) for group, trained in known.items() if not set(trained) & set(members)}
    if taken := [group for group in requested if group in own]:
        raise errors.UsageError(
            f"group {taken[0]!r} has the name of a group of the run with other trainings; use another name"
        )
    single = {
        m: [m] for m in models if m not in members and not any(m in trained for trained in own.values())
    }
    joined = {group: list(trained) for group, trained in requested.items()} | own | single
    order = {m: i for i, m in enumerate(models)}
    return dict(sorted(joined.items(), key=lambda item: min(order[m] for m in item[1])))
