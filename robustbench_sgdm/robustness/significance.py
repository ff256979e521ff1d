"""Intervals, p-values and significance, from a statistic's bootstrap distribution.

One construction gives both the interval and p: Student's distribution about the estimate, with the bootstrap's
standard error (Efron & Tibshirani 1993, An Introduction to the Bootstrap, section 12.4). So an interval excludes
the hypothesis exactly where p is below 1 - level. Where networks were trained from several seeds, the variance
between trainings is added, and the degrees of freedom are Satterthwaite's (1946, Biometrics Bulletin 2:110).
Correction: Holm 1979, Scandinavian Journal of Statistics 6:65.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

ROUNDING = 1e-9
"""Percent: a distribution no wider than this is of one value; only the rounding of sums differs."""


class Variance(NamedTuple):
    """A variance and the degrees of freedom that it was estimated with."""

    value: float
    freedom: float


def pool_variances(parts: Sequence[Variance]) -> Variance:
    """The sum of independent variances; its degrees of freedom are Satterthwaite's, 0 if a part has none.

    >>> pool_variances([Variance(1.0, 10), Variance(1.0, 10)])
    Variance(value=2.0, freedom=20.0)
    >>> pool_variances([Variance(1.0, 10), Variance(1.0, 0)])
    Variance(value=2.0, freedom=0)
    """
    total = sum(part.value for part in parts)
    if any(
        part.freedom == 0 for part in parts
    ):  # unknown, as mCE of a training whose baseline makes no error
        return Variance(total, 0)
    below = sum(part.value**2 / part.freedom for part in parts)
    return Variance(total, total**2 / below if below > 0 else math.inf)


def student_interval(estimate: float, variance: Variance, level: float) -> tuple[float, float]:
    """Student's interval about an estimate; NaN where there is no degree of freedom."""
    if variance.freedom < 1 or math.isnan(variance.value):
        return math.nan, math.nan
    half_width = float(stdtrit(min(variance.freedom, 1e9), (1 + level) / 2)) * math.sqrt(variance.value)
    return estimate - half_width, estimate + half_width


def p_value(distance: float, variance: Variance) -> float:
    """Two-sided p of the hypothesis whose value is `distance` away from the estimate.

    NaN where it is unknown: no degree of freedom, or a distance that never varies.
    """
    if variance.freedom < 1 or math.isnan(variance.value):
        return math.nan
    if variance.value <= ROUNDING**2:
        return 1.0 if abs(distance) <= ROUNDING else math.nan
    return float(2 * stdtr(min(variance.freedom, 1e9), -abs(distance) / math.sqrt(variance.value)))


def p_values(
    distances: NDArray[np.float64], resamples: NDArray[np.float64], freedom: int
) -> NDArray[np.float64]:
    """`p_value` of many hypotheses that a difference is 0 at once.

    Args:
        distances: (n,) the estimates.
        resamples: (n, r) of each, finite.
        freedom: degrees of it.
    """
    if freedom < 1:
        return np.full(len(distances), np.nan)
    variances = resamples.var(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # of variances that are none, below
        p: NDArray[np.float64] = 2 * stdtr(min(freedom, 1e9), -np.abs(distances) / np.sqrt(variances))
    none = variances <= ROUNDING**2
    p[none] = np.where(np.abs(distances[none]) <= ROUNDING, 1.0, np.nan)
    is_constant = np.ptp(resamples, axis=1) <= ROUNDING
    p[is_constant & (np.abs(resamples[:, 0]) > ROUNDING)] = np.nan
    return p


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """p-values (n,) of one family of tests, adjusted by Holm; NaN stays NaN and does not count.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)[: int(np.sum(~np.isnan(p)))]
    adjusted = np.full(len(p), np.nan)
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted


def mark_significant(frame: pd.DataFrame, families: Sequence[object], level: float = 0.95) -> pd.DataFrame:
    """Apply the one rule of significance: p, corrected by Holm over its family, is below 1 - level.

    Args:
        frame: with a column `p`, NaN where nothing is tested.
        families: of each row; it is corrected over the rows of the same one.
        level: of the intervals beside the tests.

    Returns:
        The frame with `p_holm` and `significant`.
    """
    p = frame["p"].to_numpy(float)
    adjusted = np.full(len(p), np.nan)
    rows_of: dict[object, list[int]] = {}
    for row, family in enumerate(families):
        rows_of.setdefault(family, []).append(row)
    for rows in rows_of.values():
        adjusted[rows] = holm(p[rows])
    return frame.assign(p_holm=adjusted, significant=adjusted < round(1 - level, 12))
