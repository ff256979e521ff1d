"""P, mPC, rPC and mCE: published figures, the definitions written out, and what is missing."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustbench_sgdm.core.constants import BENCHMARK, CLEAN
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.robustness import (
    CorruptionSet,
    class_scores,
    corruption_sets,
    primary_metric,
    summarize,
    summary,
)
from robustbench_sgdm.robustness.aggregates import relative_score

MODELS: dict[str, str | None] = {"base": None, "module": "base"}
NOISE = {"gaussian_noise": [1.0, 3.0], "fog": [1.0, 3.0]}


def results(scores: dict[tuple[str, float], float], model: str = "m") -> pd.DataFrame:
    rows = [(model, c, s, ap) for (c, s), ap in scores.items()]
    return pd.DataFrame(rows, columns=["model", "corruption", "severity", "AP"])


def one(frame: pd.DataFrame, over: dict[CorruptionSet, str], baselines: dict[str, str] | None = None) -> Any:
    (row,) = summarize(frame, ["m"], over, ["AP"], baselines or {}).to_dict("records")
    return row


def test_a_published_row_of_gaussian_noise() -> None:
    """Faster R-CNN R-50-FPN of the robust detection benchmark, box AP under Gaussian noise at severities 1 to 5."""
    levels = dict(zip((1.0, 2.0, 3.0, 4.0, 5.0), (28.9, 23.7, 17.0, 9.8, 4.0), strict=True))
    scores = {(CLEAN, 0.0): 36.39} | {("gaussian_noise", s): ap for s, ap in levels.items()}
    row = one(results(scores), {CorruptionSet.from_product(["gaussian_noise"]): "noise"})
    assert row["P"] == 36.39 and row["mPC"] == pytest.approx(16.68)
    assert row["rPC"] == pytest.approx(100 * 16.68 / 36.39)
    assert (row["over"], row["cells"], row["missing"]) == ("gaussian_noise", 5, "")


@pytest.mark.parametrize(
    ("clean", "corrupted", "kept", "digits"),
    [
        (36.39, 18.00, 49.47, 0.005 + 0.02),  # its raw data, to two digits
        (36.3, 18.2, 50.2, 0.2),  # its table, to one digit: the quotient of rounded numbers may be off by 0.2
        (37.3, 18.7, 50.1, 0.2),
        (35.6, 17.8, 50.1, 0.2),
        (34.6, 20.4, 58.9, 0.2),
        (21.5, 14.1, 65.6, 0.3),
        (50.6, 32.7, 64.7, 0.2),
    ],
)
def test_published_relative_performance(clean: float, corrupted: float, kept: float, digits: float) -> None:
    assert float(relative_score(corrupted, clean)) == pytest.approx(kept, abs=digits)


def test_the_benchmark_alone_has_the_bare_name_and_every_cell_one_vote() -> None:
    rng = np.random.default_rng(0)
    scores = {(c, s): float(rng.uniform(0, 40)) for c in BENCHMARK for s in (1.0, 2.0, 3.0, 4.0, 5.0)}
    row = one(results({(CLEAN, 0.0): 40.0} | scores), {CorruptionSet.from_product(BENCHMARK): ""})
    assert row["over"] == "" and row["cells"] == 75
    assert row["mPC"] == pytest.approx(np.mean(list(scores.values())))


def test_each_corruption_has_one_vote_however_many_severities() -> None:
    over = CorruptionSet((("fog", 1.0), ("fog", 3.0), ("snow", 5.0)))
    row = one(
        results({(CLEAN, 0.0): 50.0, ("fog", 1.0): 40.0, ("fog", 3.0): 20.0, ("snow", 5.0): 10.0}), {over: ""}
    )
    assert row["mPC"] == pytest.approx((30 + 10) / 2)
    assert row["over"] == "fog at 1, 3, snow at 5"


def test_mce_is_relative_to_the_named_baseline() -> None:
    over = {CorruptionSet.from_product(["fog", "snow"], [1, 2]): ""}
    mine = {
        ("fog", 1.0): 40.0,
        ("fog", 2.0): 20.0,
        ("snow", 1.0): 30.0,
        ("snow", 2.0): 10.0,
        (CLEAN, 0.0): 50.0,
    }
    theirs = {cell: ap / 2 for cell, ap in mine.items()}
    frame = pd.concat([results(mine), results(theirs, "b")])
    row = one(frame, over, {"m": "b"})
    fog, snow = (60 + 80) / (80 + 90), (70 + 90) / (85 + 95)
    assert row["baseline"] == "b" and row["mCE"] == pytest.approx(100 * (fog + snow) / 2)
    itself = one(results(mine), over, {"m": "m"})
    assert itself["mCE"] == pytest.approx(100)


def test_a_missing_cell_makes_a_mean_absent_and_is_named() -> None:
    over = {CorruptionSet.from_product(["fog"], [1, 2, 3]): "weather"}
    row = one(results({(CLEAN, 0.0): 50.0, ("fog", 2.0): 20.0}), over)
    assert np.isnan(row["mPC"]) and np.isnan(row["rPC"]) and row["P"] == 50
    assert row["missing"] == "m: fog 1 3"
    row = one(results({("fog", s): 20.0 for s in (1.0, 2.0, 3.0)}), over)
    assert row["mPC"] == pytest.approx(20) and np.isnan(row["rPC"]) and row["missing"] == "m: clean"


def test_what_the_data_do_not_hold_is_never_averaged() -> None:
    over = {CorruptionSet.from_product(["fog"], [1, 2]): ""}
    row = one(results({(CLEAN, 0.0): 50.0, ("fog", 1.0): float("nan"), ("fog", 2.0): 20.0}), over)
    assert np.isnan(row["mPC"]) and row["missing"] == ""


def test_a_run_by_family_and_class(make_run: Any) -> None:
    run = make_run(MODELS, NOISE)
    found = corruption_sets(run)
    assert list(found.values()) == ["", "noise", "weather"]  # a family of one corruption is that corruption
    table = summary(run, metrics=["AP", "AP_S"])
    assert len(table) == 2 * 2 * 3 and (table.loc[table["model"] == "module", "mCE"].notna()).all()
    assert table.loc[table["model"] == "base", "mCE"].isna().all()
    assert primary_metric(run) == "AP"
    by_class = summary(run, by_class=True)
    stored = class_scores(run)
    part = stored[(stored["model"] == "base") & (stored["class"] == "c1") & (stored["corruption"] == "fog")]
    chosen = by_class[
        (by_class["model"] == "base") & (by_class["class"] == "c1") & (by_class["family"] == "weather")
    ]
    assert chosen["mPC"].item() == pytest.approx(part["AP"].mean())
    assert by_class.loc[by_class["class"] == "c90", "mPC"].isna().all()  # nothing is annotated as such
    with pytest.raises(UsageError, match="did you mean base"):
        summary(run, baseline="bse")
