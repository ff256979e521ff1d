"""AP, and recall, precision and F1 at the operating confidence, of each class, with intervals and differences."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_sgdm.core import errors
from robustbench_sgdm.robustness.inference import Intervals
from robustbench_sgdm.robustness.matching import SortedTruth
from robustbench_sgdm.robustness.measures import ClassCounts, MeasureSampler
from robustbench_sgdm.robustness.operating_point import operating_confidences, why_undefined
from robustbench_sgdm.robustness.resample_cache import (
    CLASS_FILE,
    CLASS_VERSION,
    DEFAULT_RESAMPLES,
    BootstrapSamples,
    Statistic,
    average_precision_by_class,
    has_cached_samples,
    load_samples,
    sample_images,
)
from robustbench_sgdm.robustness.significance import mark_significant
from robustbench_sgdm.store import Cell, Run

FEW_OBJECTS = 10
"""A class with fewer objects is marked: its scores say little."""

_RATIOS: dict[str, Callable[[ClassCounts], tuple[NDArray[np.float64], NDArray[np.float64]]]] = {
    "recall": lambda counts: (counts.true, counts.objects),
    "precision": lambda counts: (counts.true, counts.true + counts.false),
    "F1": lambda counts: (2 * counts.true, counts.true + counts.false + counts.objects),
}
CLASS_METRICS = ("AP", *_RATIOS)
"""The metrics that a class can have."""


def class_intervals(
    intervals: Intervals,
    metric: str = "AP",
    *,
    confidence: float | None = None,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> pd.DataFrame:
    """A metric of each class in each cell, its mean, and what is lost of the clean value; cached.

    Args:
        intervals: of the same runs, with their networks, pairs, sets and level; only the cells of `sources` are read.
        metric: of `CLASS_METRICS`.
        confidence: as of `operating_confidences`.
        resamples, seed: of the images.
        progress: called with the number of cells just done, from any thread.

    Returns:
        The columns of `Intervals.table` but rPC and mCE, with the statistic `loss`, and class, objects (how many are
        annotated) and few (fewer than `FEW_OBJECTS`). Classes without objects are left out. For each network, baseline
        and statistic the classes that lose most over the first set of corruptions come first; p_holm and significant
        are over the classes.

    Raises:
        UsageError: an unknown metric.
        DataError: as of `bootstrap_intervals`.
    """
    if metric not in CLASS_METRICS:
        raise errors.unknown_name_error("metric of a class", metric, CLASS_METRICS)
    runs = list({run.path: run for run, _ in intervals.sources.values()}.values())
    truth = runs[0].ground_truth()
    confidences = [{} if metric == "AP" else operating_confidences(run, confidence) for run in runs]
    statistics = [class_statistic(*one, metric) for one in zip(runs, confidences, strict=True)]
    ids = statistics[0].columns
    wanted = {own for _, own in intervals.sources.values()}
    loaded = load_samples(
        runs,
        statistics,
        resamples=resamples,
        seed=seed,
        only=lambda cell: cell.model in wanted,
        progress=progress,
    )
    samples = {run.path: by_cell for run, by_cell in zip(runs, loaded, strict=True)}
    cells = {
        name: {(c.corruption, c.severity): s for c, s in samples[run.path].items() if c.model == own}
        for name, (run, own) in intervals.sources.items()
    }
    undefined = {
        run.path: {model: dict.fromkeys(ids, why[metric]) for model, why in why_undefined(by_model).items()}
        for run, by_model in zip(runs, confidences, strict=True)
    }
    by_class = Intervals(
        cells,
        intervals.sets,
        intervals.pairs,
        intervals.groups,
        intervals.seeds,
        intervals.level,
        metrics=ids,
        undefined={name: undefined[run.path].get(own, {}) for name, (run, own) in intervals.sources.items()},
    )
    objects = truth.annotations.loc[truth.annotations["iscrowd"] == 0, "category_id"].value_counts()
    present = [i for i in ids if objects.get(int(i), 0)]
    frame = by_class.table(losses=True)
    frame = frame[frame["metric"].isin(present) & ~frame["statistic"].isin(("rPC", "mCE"))]
    label = frame["metric"].astype(int)
    names = truth.categories.set_index("category_id")["name"]
    frame = frame.assign(metric=metric, objects=label.map(objects), few=label.map(objects) < FEW_OBJECTS)
    frame.insert(0, "class", label.map(names))
    keys = ["model", "baseline", "statistic", "over", "corruption", "severity"]
    families = [str(row) for row in frame[keys].itertuples(index=False)]
    frame = mark_significant(frame, families, intervals.level)
    return _rank(frame, keys)


def has_class_intervals(run: Run) -> bool:
    """Whether the AP of each class is cached for all complete cells, so that `class_intervals` resamples nothing."""
    return has_cached_samples(run, class_statistic(run, {}))


def _rank(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Sort the classes of each network by what they lose over the first set of corruptions."""
    means = frame[(frame["statistic"] == "loss") & (frame["corruption"] == "") & (frame["baseline"] == "")]
    first = means[means["over"] == means["over"].iloc[0]] if len(means) else means
    lost = first.set_index(["model", "class"])["estimate"]
    order = frame[keys].apply(tuple, axis=1).astype(str)
    ranked = frame.assign(
        _block=pd.factorize(order)[0],
        _lost=[lost.get((m, c), np.nan) for m, c in zip(frame["model"], frame["class"], strict=True)],
    ).sort_values(["_block", "_lost"], ascending=[True, False], kind="stable")
    return ranked.drop(columns=["_block", "_lost"]).reset_index(drop=True)


def class_statistic(run: Run, confidences: Mapping[str, float], metric: str = "AP") -> Statistic:
    """A metric of each class as a statistic of cells; its columns are the category ids as text, ascending.

    Args:
        run: of the cells.
        confidences: from which each model's boxes count; AP needs none.
        metric: of `CLASS_METRICS`.
    """
    by_class = average_precision_by_class(run)
    if metric == "AP":
        return by_class
    return Statistic(
        by_class.columns,
        CLASS_FILE.format(metric),
        partial(_resample, metric, confidences),
        lambda *_: np.full(len(by_class.columns), np.nan),
        lambda cell: [CLASS_VERSION, repr(confidences.get(cell.model))],
    )


def _resample(
    metric: str,
    confidences: Mapping[str, float],
    run: Run,
    cell: Cell,
    truth: SortedTruth,
    weights: NDArray[np.uint16],
) -> BootstrapSamples:
    sampler = MeasureSampler(truth, run.store.read_detections(cell), confidences[cell.model])

    def score(rows: NDArray[np.uint16]) -> NDArray[np.float64]:
        above, below = _RATIOS[metric](sampler.class_counts(rows))
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio: NDArray[np.float64] = 100 * above / below
        return np.full_like(ratio, np.nan) if np.isnan(confidences[cell.model]) else ratio

    return sample_images(score, sampler.images, weights)
