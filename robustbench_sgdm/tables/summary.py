"""A run on one page: what the report's first page and the dashboard's overview say of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import pandas as pd

from robustbench_sgdm import robustness
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.robustness import CorruptionSet, Flips, Intervals
from robustbench_sgdm.store import Run
from robustbench_sgdm.tables.latency import format_time_ratio
from robustbench_sgdm.tables.table import Table, format_interval, format_number, humanize, starred
from robustbench_sgdm.tables.verdict import (
    Verdict,
    describe_set,
    judged_pairs,
    ranking_verdict,
    score_sentence,
    verdicts,
)

EXTREMES = 3
"""Corruptions that are named at either end of a ranking."""

WITHOUT_INTERVALS = "Without intervals a chance difference looks like a real one."
"""The limit of a run that has scores alone."""

FLIPPED_IMAGES = 2
"""Images for each direction of flips."""

_MAX_MATCHED = 5000  # images of a model, for either direction of flips, unless one cell has more
_MAX_LEFT_OUT = 4  # that a mean curve's caption names
_FEW_IMAGES = 1000  # below which only a large difference is significant
_MEANS = ("P", "mPC", "rPC")
_IMAGE = ["corruption", "severity", "image_id"]


class CorruptionValue(NamedTuple):
    """What a ranking has of a corruption, the mean over its severities; `low` and `high` are NaN without an interval."""

    corruption: str
    value: float
    low: float
    high: float
    significant: bool


@dataclass(frozen=True)
class Ranking:
    """The corruptions of one model, best first.

    Attributes:
        model: its name.
        baseline: that it is compared with; empty if it is the only model.
        by: `difference` from the baseline in points; without one `loss`, points below the clean score, or `score`
            where no clean images were run.
        values: of the corruptions.
    """

    model: str
    baseline: str
    by: Literal["difference", "loss", "score"]
    values: Sequence[CorruptionValue]

    @property
    def best(self) -> Sequence[CorruptionValue]:
        """The first three, never one of the worst."""
        return self.values[: min(EXTREMES, -(-len(self.values) // 2))]

    @property
    def worst(self) -> Sequence[CorruptionValue]:
        """The last three, the worst first."""
        return self.values[::-1][: min(EXTREMES, len(self.values) // 2)]


class FlippedImage(NamedTuple):
    """An image in which one model finds more than another.

    `kept` are the objects that only `keeper` finds and `lost` those that only `other` finds, by their rows of the ground
    truth's annotations.
    """

    keeper: str
    other: str
    corruption: str
    severity: float
    image_id: int
    kept: tuple[int, ...]
    lost: tuple[int, ...]


class ModelCost(NamedTuple):
    """What a network costs; None where it is unknown. `time_ratio` compares its time with the first model's, in words."""

    model: str
    latency_ms: float | None
    time_ratio: str
    parameters_m: float | None
    gflops: float | None
    file_mb: float | None


@dataclass(frozen=True, eq=False)
class Summary:
    """A run in short.

    Attributes:
        metric: that everything is about.
        answer: the first sentence of everything: which of three networks and more may be first, if there are intervals,
            or what the only one scores; empty with two networks, of which the verdict says it.
        verdicts: one for each of `judged_pairs`.
        reason: why there is no verdict; empty if there is one, or nothing to compare.
        means: columns model, statistic (P, mPC, rPC), estimate, low, high, of the widest set of corruptions.
        curve: as of `robustness.mean_curve`, of the widest set of corruptions.
        curve_scope: what its means are over, in words.
        rankings: one for each pair, or one for each model where there is no pair; empty with clean images only.
        flips: `FLIPPED_IMAGES` in either direction, of the first pair that has any.
        costs: of each network.
        facts: label and text, of what was run.
        limit: what the numbers do not cover, in one line.
    """

    metric: str
    answer: str
    verdicts: Sequence[Verdict]
    reason: str
    means: pd.DataFrame
    curve: pd.DataFrame
    curve_scope: str
    rankings: Sequence[Ranking]
    flips: Sequence[FlippedImage]
    costs: Sequence[ModelCost]
    facts: Sequence[tuple[str, str]]
    limit: str

    @property
    def has_intervals(self) -> bool:
        """Whether some mean has one."""
        return bool(self.means["low"].notna().any())


def summarize(
    run: Run,
    results: pd.DataFrame,
    metric: str,
    bootstrap: Callable[[], Intervals] | None = None,
    flips: Callable[..., Flips] | None = None,
) -> Summary:
    """Summarize a run.

    Args:
        run: with at least one complete cell.
        results: as of `Run.results`.
        metric: of COCO's twelve.
        bootstrap: gives the run's intervals; without it, or where it raises a DataError, numbers have no interval and
            there is no verdict.
        flips: as `robustness.find_flips` without the run; by default at the standard confidence.
    """
    sets, pairs = robustness.corruption_sets(run), run.baseline_pairs
    primary = next(iter(sets), None)
    found, reason, answer, told = None, "", "", list[Verdict]()
    if bootstrap is not None:
        try:
            found = bootstrap()
        except DataError as error:
            reason = str(error)
        if found is not None and metric not in found.metrics:
            found, reason = None, f"{metric} is not resampled"
    if found is None:
        rows = robustness.point_estimates(results, run.groups, [metric], pairs, sets, losses=True)
    else:
        rows = found.table([metric], pairs=pairs, losses=True)
        same = robustness.find_identical_pairs(run) if pairs else {}
        told = verdicts(rows, judged_pairs(run), metric, primary, same)
        if len(run.groups) > 2:
            answer = ranking_verdict(robustness.rank_networks(found, metric, primary), metric, primary)
    means = _means(rows, primary)
    if len(run.groups) == 1:
        answer = score_sentence(means, metric, primary)
    curve = robustness.mean_curve(results, run.groups, metric, primary, found)
    return Summary(
        metric,
        answer,
        told,
        reason if pairs else "",
        means,
        curve,
        curve_scope(curve, primary),
        _rankings(rows, pairs, sets),
        _first_flipped_images(run, results, metric, flips or partial(robustness.find_flips, run), primary),
        model_costs(run),
        _facts(run, primary),
        _limit(run, has_intervals=bool(means["low"].notna().any())),
    )


def model_costs(run: Run) -> list[ModelCost]:
    """What each network of a run costs, by its first training."""
    latency = {str(row["model"]): row for row in run.read_latency().to_dict("records")}
    first, costs = next(iter(latency), ""), []
    for name, members in run.groups.items():
        info, time = run.manifest.models[members[0]], latency.get(members[0])
        ratio = ""
        if time is not None and members[0] != first:
            ratio = format_time_ratio(time["ratio"], time["low"], time["high"], first)
        costs.append(
            ModelCost(
                name,
                None if time is None else float(time["milliseconds"]),
                ratio,
                None if info.parameters is None else info.parameters / 1e6,
                info.gflops,
                None if info.file_bytes is None else info.file_bytes / 1e6,
            )
        )
    return costs


def summary_tables(summary: Summary) -> list[Table]:
    """The numbers of a summary: means and costs of the models, then the best and worst corruptions."""
    means = summary.means.set_index(["model", "statistic"])
    columns = {
        name: name for name in _MEANS if name in set(summary.means.dropna(subset="estimate")["statistic"])
    }
    costs = {
        "latency_ms": "ms per image",
        "parameters_m": "parameters (millions)",
        "gflops": "GFLOPs",
        "file_mb": "file (MB)",
    }
    costs = {
        name: text for name, text in costs.items() if any(getattr(c, name) is not None for c in summary.costs)
    }
    rows = []
    for cost in summary.costs:
        cells = []
        for statistic in columns:
            known = means[means.index == (cost.model, statistic)].to_numpy(float)
            cells.append(format_interval(*map(float, known[0])) if len(known) else format_number(None))
        rows.append([cost.model, *cells, *(format_number(getattr(cost, name)) for name in costs)])
    models = Table(f"Means of {summary.metric} and costs", ["model", *columns, *costs.values()], rows)
    return [models, *_ranking_tables(summary)]


def _ranking_tables(summary: Summary) -> list[Table]:
    """One table of one ranking, or of the ends of several."""
    rankings = summary.rankings
    if not rankings or len(rankings[0].values) < 2:
        return []
    what = {
        "difference": f"difference in {summary.metric}",
        "loss": f"{summary.metric} lost",
        "score": f"mean {summary.metric}",
    }[rankings[0].by]
    if len(rankings) == 1:
        ends = [*rankings[0].best, *reversed(rankings[0].worst)]
        title = (
            "Best and worst corruptions" if len(ends) < len(rankings[0].values) else "Corruptions, best first"
        )
        return [
            Table(
                title, ["corruption", what], [[humanize(v.corruption), _value(rankings[0], v)] for v in ends]
            )
        ]

    def side(ranking: Ranking, values: Sequence[CorruptionValue]) -> str:
        return ", ".join(f"{humanize(one.corruption)} {_short_value(ranking, one)}" for one in values)

    rows = [[one.model, side(one, one.best), side(one, one.worst)] for one in rankings]
    return [Table(f"Best and worst corruptions: {what}", ["model", "best", "worst"], rows)]


def _value(ranking: Ranking, one: CorruptionValue) -> str:
    text = format_interval(one.value, one.low, one.high, signed=ranking.by == "difference")
    return starred(text, one.significant)


def _short_value(ranking: Ranking, one: CorruptionValue) -> str:
    return starred(format_number(one.value, signed=ranking.by == "difference"), one.significant)


def _means(rows: pd.DataFrame, primary: CorruptionSet | None) -> pd.DataFrame:
    own = rows[(rows["baseline"] == "") & rows["statistic"].isin(_MEANS)]
    over = "" if primary is None else primary.name
    own = own[(own["statistic"] == "P") | (own["over"] == over)].drop_duplicates(["model", "statistic"])
    return own[["model", "statistic", "estimate", "low", "high"]].reset_index(drop=True)


def _rankings(
    rows: pd.DataFrame, pairs: Sequence[tuple[str, str]], sets: Mapping[CorruptionSet, str]
) -> list[Ranking]:
    single = {one.name: one.corruptions[0] for one in sets if len(one.corruptions) == 1}
    if pairs:
        return [ranking for b, m in pairs if (ranking := _ranking(rows, m, b, "difference", single)).values]
    rankings = []
    for model in dict.fromkeys(rows["model"]):
        by_loss = _ranking(rows, model, "", "loss", single)
        ranking = by_loss if by_loss.values else _ranking(rows, model, "", "score", single)
        rankings += [ranking] if ranking.values else []
    return rankings


def _ranking(
    rows: pd.DataFrame,
    model: str,
    baseline: str,
    by: Literal["difference", "loss", "score"],
    single: Mapping[str, str],
) -> Ranking:
    statistic = "loss" if by == "loss" else "mPC"
    chosen = rows[
        (rows["model"] == model)
        & (rows["baseline"] == baseline)
        & (rows["statistic"] == statistic)
        & rows["over"].isin(list(single))
    ]
    chosen = chosen.dropna(subset="estimate").sort_values("estimate", ascending=by == "loss", kind="stable")
    values = [
        CorruptionValue(
            single[row["over"]], row["estimate"], row["low"], row["high"], bool(row["significant"])
        )
        for row in chosen.to_dict("records")
    ]
    return Ranking(model, baseline, by, values)


def _first_flipped_images(
    run: Run, results: pd.DataFrame, metric: str, flips: Callable[..., Flips], over: CorruptionSet | None
) -> list[FlippedImage]:
    """Those of the first pair that has any."""
    if over is None:
        return []
    for pair in run.baseline_pairs:
        try:
            images = flipped_images(flips, results, metric, run.match_trainings(*pair)[0], over)
        except DataError:  # no ground truth, or scores without detections
            continue
        if images:
            return images
    return []


def flipped_images(
    find_flips: Callable[..., Flips],
    results: pd.DataFrame,
    metric: str,
    pair: tuple[str, str],
    over: CorruptionSet,
) -> list[FlippedImage]:
    """The images that show best how two models differ: `FLIPPED_IMAGES` in either direction, those with most flips.

    They are of the cells where the scores differ most for and against the model, at least one each and more in small
    runs: matching the boxes of all cells of a large run takes minutes.

    Args:
        find_flips: as `robustness.find_flips` without the run.
        results: as of `Run.results`.
        metric: that the cells are chosen by.
        pair: two trainings, the baseline first.
        over: the cells to choose from.

    Raises:
        DataError: no ground truth, or scores without detections.
    """
    names, images = dict(zip(("baseline", "model"), pair, strict=True)), list[FlippedImage]()
    scores = results.set_index(["corruption", "severity"]).groupby("model")[metric]
    own = {name: rows for name, rows in scores if name in pair}
    if len(own) < 2:
        return images
    changes = (own[pair[1]] - own[pair[0]]).reindex(list(over.cells)).dropna().sort_values(kind="stable")
    if changes.empty:
        return images
    most = max(1, _MAX_MATCHED // max(1, int(results["images"].max())))
    flips = find_flips(*pair, only={*changes.index[:most], *changes.index[-most:]})
    for keeper, frame in flips.examples(FLIPPED_IMAGES).items():
        other = "baseline" if keeper == "model" else "model"
        for corruption, severity, image_id in frame[_IMAGE].itertuples(index=False):
            objects = flips.objects[(flips.objects[_IMAGE] == [corruption, severity, image_id]).all(axis=1)]
            kept, lost = (
                tuple(map(int, objects.loc[objects["keeper"] == side, "annotation"]))
                for side in (keeper, other)
            )
            where = (str(corruption), float(severity), int(image_id))
            images.append(FlippedImage(names[keeper], names[other], *where, kept, lost))
    return images


def curve_scope(curve: pd.DataFrame, over: CorruptionSet | None) -> str:
    """What the means of a curve are over, in words, and which cells of the set are not counted.

    Args:
        curve: as of `robustness.mean_curve`.
        over: the corruptions that were asked for.
    """
    count = int(curve["corruptions"].max()) if len(curve) else 0
    if over is None or not count:
        return "on clean images"
    if len(over.corruptions) == 1:
        return f"under {humanize(over.corruptions[0])}"
    text = f"over {count} corruption{'s' * (count > 1)}"
    counted = robustness.curve_set(over)
    rest = _left_out(over, counted)
    if len(rest) > _MAX_LEFT_OUT:
        rest[_MAX_LEFT_OUT:] = [f"{len(rest) - _MAX_LEFT_OUT} more"]
    return f"{text} {counted.severity_text}".strip() + f"; not counted: {', '.join(rest)}" if rest else text


def _left_out(over: CorruptionSet, counted: CorruptionSet) -> list[str]:
    """What a mean curve leaves out of a set: corruptions that lack a severity, severities that not all have."""
    levels, rest = {severity for _, severity in counted.cells}, []
    for name in over.corruptions:
        own = {severity for corruption, severity in over.cells if corruption == name}
        is_counted = name in counted.corruptions
        missed = ", ".join(
            f"{severity:g}" for severity in sorted(own - levels if is_counted else levels - own)
        )
        if missed:
            rest.append(
                f"{humanize(name)} at {missed}" if is_counted else f"{humanize(name)} (lacks {missed})"
            )
    return rest


def _facts(run: Run, primary: CorruptionSet | None) -> list[tuple[str, str]]:
    manifest, settings = run.manifest, run.manifest.settings
    data = _images(manifest.data.images)
    if manifest.data.boxes:
        data += f", {manifest.data.boxes:,} objects"
    sizes = ", ".join(f"{size:g}" for size in sorted({m.imgsz for m in manifest.models.values() if m.imgsz}))
    how = [
        f"{sizes} px" * bool(sizes),
        f"seed {settings.seed}",
        f"corrupted by {settings.engine}",
        f"on {settings.device}",
    ]
    missing = len(run.missing_cells())
    cells = f"{len(run.cells):,} of model, corruption and severity" + f", {missing:,} missing" * bool(missing)
    return [
        ("Data", f"{manifest.data.name}: {data}"),
        ("Corruptions", "none: clean images only" if primary is None else describe_set(primary)),
        ("Cells", cells),
        ("Settings", ", ".join(filter(None, how))),
    ]


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def _limit(run: Run, *, has_intervals: bool) -> str:
    data, has_seeds = run.manifest.data, min(map(len, run.groups.values())) > 1
    covered = "images and training seeds" if has_seeds else "images, not training"
    few = ", enough only for large differences" * (data.images < _FEW_IMAGES)
    intervals = f"Intervals cover the choice of {covered}." if has_intervals else WITHOUT_INTERVALS
    return (
        f"{intervals} The data are {_images(data.images)} of {data.name}{few}; other data "
        "and real corruptions can give other results."
    )
