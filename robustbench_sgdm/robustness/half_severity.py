"""The severity at which a model has lost half of its clean score."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_sgdm.core import errors
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.robustness.inference import Cells, Intervals, mean_of
from robustbench_sgdm.robustness.resample_cache import BootstrapSamples


def half_severities(intervals: Intervals, metric: str = "AP", models: Sequence[str] = ()) -> pd.DataFrame:
    """The severity at which each model's score first falls to half its clean score, by linear interpolation.

    All models are read at the same severities, those that each of them has, because the crossing depends on them.

    Args:
        intervals: of the bootstrap; each resample has its own crossing, and their quantiles are the interval.
        metric: of the intervals'; one of errors has no half, and so no severity.
        models: or groups, with the mean over their trainings; all by default.

    Returns:
        Columns model, corruption, metric, severity, low, high: infinite where more than half is left at the highest
        severity, which is `to`; NaN without a severity. `used`: the severities above 0, as text; `lacking`: those
        that were planned and that a model lacks. Models without a clean cell are left out.

    Raises:
        UsageError: an unknown metric or model.
    """
    if metric not in intervals.metrics:
        raise errors.unknown_name_error("metric", metric, intervals.metrics)
    for name in models:
        if name not in intervals.groups:
            raise errors.unknown_name_error("model", name, intervals.groups)
    groups = {name: _mean(intervals, name) for name in models or intervals.groups}
    groups = {name: cells for name, cells in groups.items() if (CLEAN, 0.0) in cells}
    planned = list(dict.fromkeys(cell for one in intervals.sets for cell in one.cells))
    rows = []
    for corruption in dict.fromkeys(c for c, _ in planned):
        of_corruption = {m: cells for m, cells in groups.items() if any(c == corruption for c, _ in cells)}
        wanted = sorted(s for c, s in planned if c == corruption)
        used = [s for s in wanted if all((corruption, s) in cells for cells in of_corruption.values())]
        text = [", ".join(f"{s:g}" for s in levels) for levels in (used, sorted(set(wanted) - set(used)))]
        for model, cells in of_corruption.items():
            half = _half_severity(cells, corruption, used, intervals.metrics.index(metric), intervals.level)
            rows.append((model, corruption, metric, *half, max(used, default=np.nan), *text))
    columns = ["model", "corruption", "metric", "severity", "low", "high", "to", "used", "lacking"]
    return pd.DataFrame(rows, columns=columns)


def _mean(intervals: Intervals, group: str) -> Cells:
    """The mean over a group's trainings of the cells that all of them have."""
    first, *others = (intervals.cells[m] for m in intervals.groups[group])
    shared = [cell for cell in first if all(cell in c for c in others)]
    return {cell: BootstrapSamples.map(mean_of, first[cell], *(c[cell] for c in others)) for cell in shared}


def _half_severity(
    cells: Cells, corruption: str, severities: Sequence[float], column: int, level: float
) -> tuple[float, float, float]:
    if not severities:
        return np.nan, np.nan, np.nan
    levels = np.array([0.0, *severities])
    samples = [cells[CLEAN, 0.0], *(cells[corruption, s] for s in severities)]
    crossing = BootstrapSamples.map(lambda *v: crossings(levels, np.stack(v)[..., column]), *samples)
    has_images = len(crossing.jackknife) > 1
    return float(crossing.estimate), *percentile_interval(
        crossing.resamples if has_images else np.empty(0), level
    )


def crossings(severities: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first severity at which a score has fallen to half of its first, by linear interpolation.

    Args:
        severities: (s,) ascending, the first one 0.
        scores: (s, ...).

    Returns:
        (...), infinite where it never falls so far; NaN where a score is absent or the first is 0.

    >>> crossings(np.array([0.0, 1.0, 3.0]), np.array([40.0, 30.0, 10.0])).item()
    2.0
    """
    half = scores[0] / 2
    below = scores <= half
    first = np.argmax(below, axis=0)
    after = np.take_along_axis(scores, first[None], 0)[0]
    before = np.take_along_axis(scores, np.maximum(first - 1, 0)[None], 0)[0]
    left, right = severities[np.maximum(first - 1, 0)], severities[first]
    with np.errstate(invalid="ignore", divide="ignore"):
        at = left + (right - left) * (before - half) / (before - after)
    at = np.where(below.any(axis=0), at, np.inf)
    crossing: NDArray[np.float64] = np.where(np.isnan(scores).any(axis=0) | (scores[0] <= 0), np.nan, at)
    return crossing


def percentile_interval(resamples: NDArray[np.float64], level: float) -> tuple[float, float]:
    """The percentile interval between actual resamples, because some may be infinite."""
    present = resamples[~np.isnan(resamples)]
    if not len(present):
        return np.nan, np.nan
    low, high = np.quantile(present, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return float(low), float(high)
