"""Intervals, p-values and Holm's correction against SciPy and against their definitions."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from robustbench_sgdm.robustness.significance import (
    Variance,
    holm,
    mark_significant,
    p_value,
    pool_variances,
    student_interval,
)

finite = st.floats(-1e3, 1e3, allow_nan=False, width=32)


def test_interval_and_p_are_scipys_of_a_mean() -> None:
    """Student's, with the spread of the mean itself."""
    sample = np.random.default_rng(0).normal(0.3, 1, 25)
    spread = Variance(float(np.var(sample, ddof=1)) / 25, 24)
    theirs = stats.ttest_1samp(sample, 0)
    assert p_value(float(sample.mean()), spread) == pytest.approx(theirs.pvalue)
    assert student_interval(float(sample.mean()), spread, 0.9) == pytest.approx(
        tuple(theirs.confidence_interval(0.9))
    )


def test_unequal_spreads_are_pooled_as_welch_does() -> None:
    rng = np.random.default_rng(1)
    one, two = rng.normal(0, 1, 6), rng.normal(1, 3, 4)
    parts = [Variance(float(np.var(x, ddof=1)) / len(x), len(x) - 1) for x in (one, two)]
    theirs = stats.ttest_ind(one, two, equal_var=False)
    assert pool_variances(parts).freedom == pytest.approx(theirs.df)
    assert p_value(float(one.mean() - two.mean()), pool_variances(parts)) == pytest.approx(theirs.pvalue)


@given(finite, st.floats(1e-3, 1e6), st.floats(1, 1e12), st.floats(0.5, 0.999))
def test_an_interval_leaves_zero_out_exactly_where_p_is_small(
    estimate: float, variance: float, freedom: float, level: float
) -> None:
    spread = Variance(variance, freedom)
    low, high = student_interval(estimate, spread, level)
    p = p_value(estimate, spread)
    assert low <= estimate <= high and 0 <= p <= 1
    if abs(p - (1 - level)) > 1e-9:
        assert (low > 0 or high < 0) == (p < 1 - level)


def test_what_never_varies_is_no_proof() -> None:
    assert p_value(0, Variance(0, 50)) == 1 and math.isnan(p_value(1.0, Variance(0, 50)))
    assert (
        math.isnan(p_value(1.0, Variance(1.0, 0)))
        and np.isnan(student_interval(1.0, Variance(1.0, 0), 0.95)).all()
    )
    assert np.isnan(student_interval(1.0, Variance(math.nan, 5), 0.95)).all()


def test_significance_is_holms_within_each_family() -> None:
    frame = pd.DataFrame({"p": [0.02, 0.04, 0.04, np.nan, 0.001]})
    found = mark_significant(frame, ["a", "a", "b", "b", "a"])
    assert found["p_holm"].tolist() == pytest.approx([0.04, 0.04, 0.04, np.nan, 0.003], nan_ok=True)
    assert found["significant"].tolist() == [True, True, True, False, True]
    assert mark_significant(frame, ["a"] * 5, 0.99)["significant"].tolist() == [
        False,
        False,
        False,
        False,
        True,
    ]
    assert mark_significant(pd.DataFrame({"p": [0.05]}), ["a"])["significant"].tolist() == [False]


def test_a_clear_difference_outlives_the_correction_over_a_benchmark() -> None:
    """76 cells and 1,000 resamples: a count alone could say 0.15 at the least."""
    clear = p_value(6, Variance(1, 199))
    adjusted = holm(np.array([clear] + 75 * [0.5]))
    assert adjusted[0] < 0.001 and (adjusted[1:] == 1).all()
    assert p_value(6, Variance(1, 3)) > 100 * clear  # four images are no proof


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
