"""The severity at which a model has lost half of its clean score."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_sgdm import errors
from robustbench_sgdm.robustness.bootstrap import Draws
from robustbench_sgdm.robustness.intervals import Cells, Intervals
from robustbench_sgdm.robustness.resampling import METRICS
from robustbench_sgdm.types import CLEAN


def half_lives(found: Intervals, metric: str = "AP") -> pd.DataFrame:
    """Where each model's score first falls to half its clean one, straight between the severities that were run.

    Args:
        found: of the bootstrap; each resample has its own crossing, whose quantiles are the interval.
        metric: of METRICS.

    Returns:
        Columns model, corruption, metric, severity, low, high; infinite where half is left at the strongest
        severity that was run, whose number is `to`. Models without a clean cell are left out.
    """
    if metric not in METRICS:
        raise errors.unknown("metric", metric, METRICS)
    column = METRICS.index(metric)
    rows = []
    for model, cells in found.cells.items():
        if (CLEAN, 0.0) not in cells:
            continue
        for corruption in dict.fromkeys(c for c, _ in cells if c != CLEAN):
            severities, draws = _curve(cells, corruption)
            crossing = Draws.map(lambda *v, s=severities: crossings(s, np.stack(v)[..., column]), *draws)
            several = len(crossing.jackknife) > 1  # images
            low, high = _interval(crossing.resamples if several else np.empty(0), found.level)
            rows.append((model, corruption, metric, float(crossing.estimate), low, high, severities[-1]))
    return pd.DataFrame(rows, columns=["model", "corruption", "metric", "severity", "low", "high", "to"])


def crossings(severities: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first severity at which a score is down to half of its first, between those given by straight lines.

    Args:
        severities: (s,) ascending, the first one 0.
        scores: (s, ...).

    Returns:
        (...), infinite where it never is; NaN where a score is absent or the first is 0.

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
    found: NDArray[np.float64] = np.where(np.isnan(scores).any(axis=0) | (scores[0] <= 0), np.nan, at)
    return found


def _interval(draws: NDArray[np.float64], level: float) -> tuple[float, float]:
    """The percentile interval between draws that there are, since some may be infinite."""
    present = draws[~np.isnan(draws)]
    if not len(present):
        return np.nan, np.nan
    low, high = np.quantile(present, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return float(low), float(high)


def _curve(cells: Cells, corruption: str) -> tuple[NDArray[np.float64], list[Draws]]:
    levels = sorted(s for c, s in cells if c == corruption)
    return np.array([0.0, *levels]), [cells[CLEAN, 0.0], *(cells[corruption, s] for s in levels)]
