"""First failures against plain loops over objects and severities."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustbench_sgdm.robustness import (
    bootstrap_intervals,
    first_failures,
    match_outcomes,
    operating_confidences,
)
from robustbench_sgdm.robustness.first_failure import RULES, UNITS, failure_index
from robustbench_sgdm.robustness.found_objects import FoundObjects
from robustbench_sgdm.store import Run

MODELS: dict[str, str | None] = {"base": None, "module": "base"}
NOISE = {"gaussian_noise": [1.0, 2.0, 4.0], "fog": [1.0, 3.0]}


@cache
def found(path: Path, model: str, corruption: str, severity: float) -> list[bool]:
    """Which annotations the model finds."""
    run = Run.open(path)
    cell = next(c for c in run.cells if (c.model, c.corruption, c.severity) == (model, corruption, severity))
    confidence = operating_confidences(run)[model]
    outcomes = match_outcomes(run.ground_truth(), run.store.read_detections(cell), confidence)
    return (outcomes.objects["outcome"] == "matched").tolist()


def endured(run: Run, models: list[str], model: str, corruption: str, unit: str, rule: str) -> list[float]:
    """Mean severity endured, and percent still found by severity; by loops."""
    levels = NOISE[corruption]
    clean = [all(marks) for marks in zip(*(found(run.path, m, "clean", 0.0) for m in models), strict=True)]
    at = [found(run.path, model, corruption, s) for s in levels]
    images = run.ground_truth().annotations["image_id"].tolist()
    histories: dict[Any, list[bool]] = {}
    for row, counts in enumerate(clean):
        if counts:
            key = row if unit == "object" else images[row]
            history = histories.setdefault(key, [True] * len(levels))
            for k in range(len(levels)):
                history[k] = history[k] and at[k][row]
    failures = []
    for history in histories.values():
        index = len(levels)
        for k in reversed(range(len(levels))):
            fails_here = not history[k] if rule == "first" else not any(history[k:])
            index = k if fails_here else index
        failures.append(index)
    still = [1.0] + [sum(f > k for f in failures) / len(failures) for k in range(len(levels))]
    mean = sum((still[k] + still[k + 1]) / 2 * (levels[k] - ([0.0, *levels])[k]) for k in range(len(levels)))
    return [mean, *(100 * s for s in still[1:])]


def pick(table: pd.DataFrame, **where: Any) -> pd.Series:
    chosen = table[np.all([table[k] == v for k, v in where.items()], axis=0)]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_equal_to_loops(make_run: Any) -> None:
    run = make_run(MODELS, NOISE)
    result = first_failures(bootstrap_intervals(run, resamples=50), resamples=50)
    for unit in UNITS:
        for rule in RULES:
            for corruption, levels in NOISE.items():
                where = {"unit": unit, "rule": rule, "corruption": corruption}
                for model in MODELS:
                    theirs = endured(run, [model], model, corruption, unit, rule)
                    row = pick(result.table, model=model, baseline="", **where)
                    assert row["estimate"] == pytest.approx(theirs[0], abs=1e-12)
                    assert row["low"] < row["estimate"] < row["high"] and row["to"] == max(levels)
                    assert row["low"] >= 0 and row["high"] <= row["to"]
                    for severity, share in zip(levels, theirs[1:], strict=True):
                        point = pick(result.survival, model=model, severity=severity, **where)
                        assert point["share"] == pytest.approx(share, abs=1e-9)
                        assert point["low"] <= share <= point["high"]
                    below = [
                        severity for severity, share in zip(levels, theirs[1:], strict=True) if share <= 50
                    ]
                    assert row["median"] <= below[0] if below else row["median"] == np.inf
                both = [endured(run, list(MODELS), m, corruption, unit, rule)[0] for m in MODELS]
                row = pick(result.table, model="module", baseline="base", **where)
                assert row["estimate"] == pytest.approx(both[1] - both[0], abs=1e-12)
                assert row["count"] <= pick(result.table, model="base", baseline="", **where)["count"]
            own = result.table[
                (result.table["model"] == "base")
                & (result.table["unit"] == unit)
                & (result.table["rule"] == rule)
            ].set_index("corruption")["estimate"]
            assert own[""] == pytest.approx((own["gaussian_noise"] + own["fog"]) / 2)


def test_rules_order_and_holm(make_run: Any) -> None:
    run = make_run(MODELS, NOISE, worse=3)
    table = first_failures(bootstrap_intervals(run, resamples=100), resamples=100).table
    keys = ["model", "baseline", "unit", "corruption"]
    first, lasting = (table[table["rule"] == rule].set_index(keys)["estimate"] for rule in RULES)
    own = first.index.get_level_values("baseline") == ""
    assert (first[own] <= lasting[own] + 1e-12).all()  # what fails for good has failed
    paired = table[table["baseline"] != ""]
    assert (paired["p_holm"] >= paired["p"] - 1e-15).all()
    excludes = (paired["low"] > 0) | (paired["high"] < 0)
    assert (excludes == (paired["p"] < 0.05)).all()


def test_absent_with_its_reason(make_run: Any) -> None:
    run = make_run(MODELS, NOISE, leave=(("module", "clean", 0.0), ("base", "fog", 3.0)))
    table = first_failures(bootstrap_intervals(run, resamples=5), resamples=5).table
    mine = table[table["model"] == "module"]
    assert mine["estimate"].isna().all() and (mine["missing"] == "module: no clean detections").all()
    fog = pick(table, model="base", baseline="", unit="object", rule="first", corruption="fog")
    assert (fog["used"], fog["lacking"]) == ("1", "3") and fog["estimate"] > 0
    few = make_run(MODELS, {"fog": [1.0]}, name="few", images=2)
    strict = first_failures(bootstrap_intervals(few, resamples=5), confidence=1.0, resamples=5).table
    reasons = set(strict.loc[strict["estimate"].isna(), "missing"])
    assert reasons and all("finds nothing on clean images" in r for r in reasons if r)


def test_seed_groups_are_paired_by_seed(make_run: Any) -> None:
    models = dict.fromkeys(("a0", "a1", "b0", "b1"))
    run = make_run(models, NOISE)
    groups = {"a": ["a0", "a1"], "b": ["b0", "b1"]}
    intervals = bootstrap_intervals(run, resamples=30, groups=groups)
    table = first_failures(intervals, [("a", "b")], resamples=30).table
    row = pick(table, model="b", baseline="a", unit="object", rule="first", corruption="fog")
    pairs = intervals.trainings("a", "b")
    theirs = []
    for pair in pairs:
        base, model = (endured(run, list(pair), one, "fog", "object", "first")[0] for one in pair)
        theirs.append(model - base)
    assert row["estimate"] == pytest.approx(np.mean(theirs), abs=1e-12)
    assert row["seeds"] == len(pairs)


def test_no_severity_no_index() -> None:
    assert failure_index(np.empty((0, 3), bool), "first").tolist() == [0, 0, 0]


def test_confidences_with_the_same_six_digits_do_not_share_what_is_cached(make_run: Any) -> None:
    run = make_run({"base": None}, {"fog": [1.0]}, images=5)
    cell = run.cells[0]
    above = float(np.nextafter(np.float32(0.5), np.float32(1)))  # many boxes have 0.5 itself
    assert f"{above:g}" == "0.5"
    at = FoundObjects(run, 0.5)(cell)
    assert at.sum() > FoundObjects(run, above)(cell).sum() > 0
