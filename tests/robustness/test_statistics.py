"""Intervals, p-values and Holm's correction against SciPy and against their definitions."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from robustbench_sgdm.robustness.statistics import bca, holm, p_value, percentile

finite = st.floats(-1e3, 1e3, allow_nan=False, width=32)


def test_bca_where_its_acceleration_is_beyond_it_or_a_group_has_no_estimate() -> None:
    draws = np.arange(1000) / 999
    jackknife = np.array([0.5, 0.4, 0.45, 0.55, np.nan, np.inf])
    kept = bca(0.5, draws, jackknife[:4], 0.95)
    assert bca(0.5, draws, jackknife, 0.95) == kept and np.isfinite(kept).all()
    lone = np.append(np.full(200, 0.5), -1e6)  # one group decides everything
    assert np.isnan(bca(0.9995, draws, lone, 0.999999)).all()
    with np.errstate(over="ignore", invalid="ignore"):
        assert np.isnan(bca(0.5, draws, np.array([1e308, -1e308, 1e300]), 0.95)).all()


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_bca_is_scipys(level: float) -> None:
    """On a skewed statistic; both draw 20,000 times, so that ends differ by the draws alone: a tenth of se."""
    sample = np.random.default_rng(0).exponential(size=40)

    def statistic(values: Any, axis: int = -1) -> Any:
        return np.log(np.mean(values**2, axis=axis))

    theirs = stats.bootstrap((sample,), statistic, n_resamples=20_000, confidence_level=level, rng=1)
    draws = statistic(np.random.default_rng(2).choice(sample, (20_000, len(sample))))
    jackknife = np.array([statistic(np.delete(sample, i)) for i in range(len(sample))])
    ours = bca(float(statistic(sample)), draws, jackknife, level)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.1 * theirs.standard_error)
    assert abs(ours[0] - percentile(draws, level)[0]) > 0.2 * theirs.standard_error  # BCa moves both ends


@given(st.lists(finite, min_size=2, max_size=60))
def test_intervals_hold_the_middle_of_their_draws(values: list[float]) -> None:
    draws = np.array(values)
    low, high = percentile(draws, 0.95)
    assert draws.min() <= low <= np.median(draws) <= high <= draws.max()
    assert p_value(draws, 30) == p_value(-draws, 30) or math.isnan(p_value(draws, 30))
    for estimate in (float(np.median(draws)), float(draws.mean())):
        ends = bca(estimate, draws, draws, 0.95)
        assert math.isnan(ends[0]) or draws.min() <= ends[0] <= ends[1] <= draws.max()


@given(st.integers(0, 1000), st.floats(0.1, 10))
def test_intervals_of_well_behaved_draws_hold_their_own_mean(seed: int, spread: float) -> None:
    draws = np.random.default_rng(seed).normal(0, spread, 200) ** 2  # skewed
    mean = float(draws.mean())
    for low, high in (percentile(draws, 0.95), bca(float(np.median(draws)), draws, draws[:50], 0.95)):
        assert low <= mean <= high


def test_p_is_twice_the_share_on_the_far_side() -> None:
    draws = np.arange(-9, 191) / 10.0  # ten of 200 at or below 0
    assert p_value(draws, 50) == pytest.approx(2 * 11 / 201)
    assert p_value(-draws, 50) == p_value(draws, 50)
    assert p_value(np.zeros(5), 50) == 1
    assert math.isnan(p_value(np.array([]), 50))


def test_a_clear_difference_outlives_the_correction_over_a_benchmark() -> None:
    """76 cells and 1,000 resamples: a count alone could say 0.15 at the least."""
    rng = np.random.default_rng(0)
    clear = p_value(rng.normal(6, 1, 1000), 200)
    assert clear == pytest.approx(2 * stats.t(199).sf(6), rel=1)
    adjusted = holm(np.array([clear] + 75 * [0.5]))
    assert adjusted[0] < 0.001 and (adjusted[1:] == 1).all()
    few = p_value(rng.normal(6, 1, 1000), 4)
    assert few > 100 * clear  # four images are no proof
    assert math.isnan(p_value(np.full(1000, 6.0), 200))


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_its_steps_reject(values: list[float]) -> None:
    """The definition: in order of p, each at level / (those left), stop at the first that is not rejected."""
    p = np.array(values)
    adjusted = holm(p)
    for level in (0.01, 0.05, 0.3):
        rejected = np.zeros(len(p), bool)
        for left, place in zip(range(len(p), 0, -1), np.argsort(p, kind="stable"), strict=True):
            if p[place] * left > level:
                break
            rejected[place] = True
        assert np.array_equal(adjusted <= level, rejected)
