"""Intervals, p-values and significance, from a statistic's bootstrap distribution.

One construction gives both the interval and p: Student's distribution about the estimate, with the bootstrap's
standard error (Efron & Tibshirani 1993, An Introduction to the Bootstrap, section 12.4). So an interval leaves
out the hypothesis exactly where p is below 1 - level. Where networks were trained from several seeds, the variance
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
"""Percent: a distribution no wider than this is of one value, which sums round now one way, now the other."""


class Spread(NamedTuple):
    """A variance of an estimate and the degrees of freedom that it was estimated with."""

    variance: float
    freedom: float


def pooled(parts: Sequence[Spread]) -> Spread:
    """The sum of independent variances; its degrees of freedom are Satterthwaite's.

    >>> pooled([Spread(1.0, 10), Spread(1.0, 10)])
    Spread(variance=2.0, freedom=20.0)
    """
    total = sum(part.variance for part in parts)
    below = sum(part.variance**2 / part.freedom for part in parts)
    return Spread(total, total**2 / below if below > 0 else math.inf)


def interval(estimate: float, spread: Spread, level: float) -> tuple[float, float]:
    """Student's interval about an estimate; NaN where there is no degree of freedom."""
    if spread.freedom < 1 or math.isnan(spread.variance):
        return math.nan, math.nan
    half = float(stdtrit(min(spread.freedom, 1e9), (1 + level) / 2)) * math.sqrt(spread.variance)
    return estimate - half, estimate + half


def p_value(distance: float, spread: Spread) -> float:
    """Two-sided p of the hypothesis that an estimate lies `distance` from its value by chance.

    NaN where nothing can be said: no degree of freedom, or a distance that never varies.
    """
    if spread.freedom < 1 or math.isnan(spread.variance):
        return math.nan
    if spread.variance <= ROUNDING**2:
        return 1.0 if abs(distance) <= ROUNDING else math.nan
    return float(2 * stdtr(min(spread.freedom, 1e9), -abs(distance) / math.sqrt(spread.variance)))


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


def decide(frame: pd.DataFrame, families: Sequence[object], level: float = 0.95) -> pd.DataFrame:
    """The one rule of significance: p, corrected by Holm over its family, is below 1 - level.

    Args:
        frame: with a column `p`, NaN where nothing is tested.
        families: for each row, the tests that it is corrected with.
        level: of the intervals beside the tests.

    Returns:
        The frame with `p_holm` and `significant`.
    """
    p = frame["p"].to_numpy(float)
    adjusted = np.full(len(p), np.nan)
    places: dict[object, list[int]] = {}
    for place, family in enumerate(families):
        places.setdefault(family, []).append(place)
    for rows in places.values():
        adjusted[rows] = holm(p[rows])
    return frame.assign(p_holm=adjusted, significant=adjusted < round(1 - level, 12))
