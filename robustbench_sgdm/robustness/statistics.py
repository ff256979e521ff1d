"""Intervals, p-values and their correction, from a statistic's bootstrap distribution.

Percentile and BCa intervals: Efron & Tibshirani 1993, An Introduction to the Bootstrap, sections 13.3 and
14.3. p-values: Davison & Hinkley 1997, Bootstrap Methods and their Application, sections 4.2 and 5.4: twice the
share of the distribution on the far side of 0, which is the level at which the percentile interval just
reaches 0. Correction: Holm 1979, Scandinavian Journal of Statistics 6:65.
"""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

SIGNIFICANT = 0.05
"""Level below which p, corrected by Holm where there are several, speaks against chance."""

_NORMAL = NormalDist()


def percentile(draws: NDArray[np.float64], level: float) -> tuple[float, float]:
    """The percentile interval of (r,) draws; NaN where there is none."""
    return _quantiles(draws, (1 - level) / 2, (1 + level) / 2)


def bca(
    estimate: float, draws: NDArray[np.float64], jackknife: NDArray[np.float64], level: float
) -> tuple[float, float]:
    """The bias-corrected and accelerated interval.

    Args:
        estimate: of the sample itself.
        draws: (r,) estimates of the resamples.
        jackknife: (g,) estimates with one of g equal groups of images left out each time. The acceleration
            is a third of the skewness of the sum over all images, which groups estimate as single images
            do (Efron & Tibshirani, equation 14.15), at a fraction of the cost.
        level: such as 0.95.

    Returns:
        NaN where every draw lies on one side of the estimate, so that its bias cannot be told, or where the
        acceleration is beyond what the interval is defined for.
    """
    if not len(draws) or not np.isfinite(estimate):
        return math.nan, math.nan
    below = float(np.mean(draws < estimate) + np.mean(draws == estimate) / 2)
    if not 0 < below < 1:
        return math.nan, math.nan
    bias = _NORMAL.inv_cdf(below)
    jackknife = jackknife[np.isfinite(jackknife)]  # a mean may have nothing to be relative to without a group
    spread = np.mean(jackknife) - jackknife if len(jackknife) else np.zeros(1)
    scale = 6 * float(np.sum(spread**2)) ** 1.5
    acceleration = float(np.sum(spread**3)) / scale if scale > 0 else 0.0
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = bias + _NORMAL.inv_cdf(tail)
        if not acceleration * z < 1:  # or it is no number, where estimates are beyond squaring
            return math.nan, math.nan
        ends.append(_NORMAL.cdf(bias + z / (1 - acceleration * z)))
    return _quantiles(draws, *ends)


def p_value(draws: NDArray[np.float64], groups: int) -> float:
    """Two-sided p of the hypothesis that a difference is 0, from its (r,) draws.

    Where no draw lies on the far side the share says only that p is below 2 / (r + 1), which Holm's
    correction over the 76 cells of a benchmark would raise above any level. There p is the tail of Student's
    distribution at the draws' mean over their deviation, as of the t-test; draws without spread tell nothing.

    Args:
        draws: of the difference.
        groups: of images that were drawn from; one more than the degrees of freedom.
    """
    if not len(draws):
        return math.nan
    side = min(int(np.sum(draws <= 0)), int(np.sum(draws >= 0)))
    if side:
        return min(1.0, 2 * (1 + side) / (len(draws) + 1))
    spread = float(np.std(draws, ddof=1)) if len(draws) > 1 else 0.0
    if spread == 0 or groups < 2:
        return math.nan
    return float(2 * stdtr(groups - 1, -abs(float(np.mean(draws))) / spread))


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """p-values of one family, (n,), made to hold for all of them together; NaN stays and does not count.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)[: int(np.sum(~np.isnan(p)))]
    adjusted = np.full(len(p), np.nan)
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted


def _quantiles(draws: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    if not len(draws):
        return math.nan, math.nan
    found = np.quantile(draws, [low, high])
    return float(found[0]), float(found[1])
