"""The paper's tables: no printed count without a verdict, and each verdict is what the numbers say."""

import io
import re
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from robustbench_sgdm import paper, tables
from robustbench_sgdm.core import escaping
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.detectors import timing
from robustbench_sgdm.detectors.timing import Timing, benchmark_interleaved, median_interval
from robustbench_sgdm.detectors.ultralytics import zoo
from robustbench_sgdm.paper import Judgement, PrintedNumber
from robustbench_sgdm.tables import are_distinguishable

KEYS = {table: plan["key"] for table, plan in paper.paper_data()["recompute"].items()} | {
    6: "table_6_razor_ratio"
}
# Rows and modules whose parameters and operations no rule reconciles; everything else is equal somehow.
DIFFERS = {
    2: set(),
    3: {(row, dynamic) for row in ("yolov5n", "yolov8n") for dynamic in ("condconv", "dyconv", "odconv")},
    4: {("fasternet_t0", "sgdm"), ("convnextv2_atto", "sgdm")},
    5: set(),
    6: set(),
}


@cache
def cells(table: int) -> list[PrintedNumber]:
    return paper.recompute(table)


def printed(table: int) -> set[tuple[str, str, str, float]]:
    """Every count that the paper prints: row, module, quantity, number."""
    found = set()
    for row, values in paper.paper_data()[KEYS[table]].items():
        if row in ("columns", "note"):
            continue
        for module, numbers in (values if isinstance(values, dict) else {"": values}).items():
            found |= {(row, module, "params", numbers[0]), (row, module, "flops", numbers[1])}
    return found


@pytest.mark.parametrize("table", KEYS)
def test_every_printed_count_has_a_verdict(table: int) -> None:
    counts = [c for c in cells(table) if c.quantity in ("params", "flops")]
    assert {(c.row, c.column, c.quantity, c.printed) for c in counts} == printed(table)
    for cell in counts:
        assert cell.value is not None and cell.verdict.value is not None
        assert cell.verdict.outcome in ("equal", "by rule", "differs")
        assert bool(cell.verdict.why) == (cell.verdict.outcome != "equal")
        zoo.resolve_model(cell.model if cell.classes else f"yolov8n-{cell.model}")


@pytest.mark.parametrize("table", KEYS)
def test_verdicts(table: int) -> None:
    differing = {(c.row, c.column) for c in cells(table) if c.verdict.outcome == "differs"}
    assert differing == DIFFERS[table]
    digits = 2 if table == 6 else 1
    for cell in cells(table):
        if cell.quantity not in ("params", "flops"):
            continue
        value = cell.verdict.value
        assert value is not None
        near = abs(value - cell.printed) <= 0.5 / 10**digits + 1e-9
        cut = 0 <= value - cell.printed < 1 / 10**digits
        assert near or cut if cell.verdict.outcome != "differs" else not near
        assert ("cut off" in cell.verdict.why) == (cell.verdict.outcome == "by rule" and not near)


def test_rules_are_named() -> None:
    found = {(c.table, c.row, c.column, c.quantity): c.verdict.why for t in (4, 5, 6) for c in cells(t)}
    assert found[4, "efficientvit_m0", "sgdm", "flops"].startswith("counted on a true 640 x 640 image")
    assert "unused ImageNet classifier" in found[4, "convnextv2_atto", "baseline", "params"]
    assert found[5, "yolov8n", "baseline", "flops"] == "BatchNorm folded"
    assert found[5, "yolov5n", "sgdm", "params"] == "cut off, not rounded"
    assert "table 2 prints" in found[5, "yolov8n", "ca", "params"]
    assert found[6, "0.125", "", "params"] == "split tied to razor / 2"
    assert "cannot be built" in found[6, "0.75", "", "flops"]
    assert found[6, "0.5", "", "flops"] == ""


def test_both_cells_of_a_model_are_of_one_class_count() -> None:
    counts = [c for c in cells(5) if c.quantity in ("params", "flops")]
    assert all(a.classes == b.classes for a, b in zip(counts[::2], counts[1::2], strict=True))


@pytest.mark.parametrize(
    ("value", "aim", "outcome", "compared"),
    [
        (3.343, 3.3, "equal", 3.343),
        (4.554, 4.5, "by rule", 4.554),
        (8.86, 8.7, "by rule", 8.744),
        (8.86, 8.5, "differs", 8.86),
    ],
)
def test_judge(value: float, aim: float, outcome: str, compared: float) -> None:
    verdict = paper.judge_number(value, [("BatchNorm folded", 8.744)], aim)
    assert (verdict.outcome, verdict.value) == (outcome, compared)


@pytest.mark.parametrize("table", [6, 7, 8])
def test_ablations_are_models_beside_their_printed_ap(table: int) -> None:
    to_train = [c for c in cells(table) if c.verdict.outcome == "to train"]
    rows = paper.paper_data()[paper.paper_data()["ablations"][table]["key"]]
    assert len(to_train) == 2 * (len(rows) - 1)
    for cell in to_train:
        assert cell.printed in rows[cell.row]
        assert zoo.model_config(cell.model, 20)["nc"] == 20


def test_csv_reads_back() -> None:
    every = [cell for table in (4, 6, 8) for cell in cells(table)]
    frame = pd.read_csv(io.StringIO(paper.to_csv(every)), dtype={"row": str}, keep_default_na=False)
    assert list(frame["model"]) == [c.model for c in every]
    assert list(frame["row"]) == [c.row for c in every]
    assert list(frame["verdict"]) == [c.verdict.outcome for c in every]
    assert list(frame["printed"]) == [c.printed for c in every]


def test_a_table_names_every_reason_once() -> None:
    shown = paper.to_table(cells(4))
    assert shown.notes[0].startswith("of 12 printed numbers 6 are equal")
    assert len(shown.rows) == len(cells(4)) and all(len(row) == len(shown.columns) for row in shown.rows)
    assert {re.findall(r"\[(\d+)\]", row[-1])[0] for row in shown.rows if "[" in row[-1]} == set("1234")
    text = tables.to_markdown(shown)
    assert text.count("\n| ") == len(shown.rows) + 2 and all(
        f"* {escaping.markdown(note)}\n" in text for note in shown.notes
    )


@pytest.mark.parametrize("table", paper.LATENCY)
def test_every_printed_time_is_listed_before_it_is_measured(table: int) -> None:
    waiting = [c for c in cells(table) if c.quantity == "time"]
    assert {(c.row, c.model) for c in waiting} == {
        (row, model) for row, models in paper.latency_models(table).items() for model in models[1:]
    }
    for cell in waiting:
        values = paper.paper_data()[KEYS[table]][cell.row]
        place = values[cell.column][-1] / values["baseline"][-1]
        assert cell.printed == pytest.approx(place, abs=5e-4)
        assert (cell.value, cell.verdict.outcome) == (None, "to measure") and "--latency" in cell.verdict.why
    judged = len(cells(table)) - len(waiting)
    assert f"of {judged} printed" in paper.to_table(cells(table)).notes[0]


def test_latency_is_a_ratio_beside_its_spread() -> None:
    models = paper.latency_models(3)["yolov8n"]
    assert models[0] == "yolov8n" and models[-1] == "yolov8n-sgdm"
    timings = {m: Timing(10.0, 1.5, 1.4, 1.65) for m in models}
    found = {c.column: c for c in paper.latency_numbers(3, "yolov8n", timings, "cpu")}
    assert found["condconv"].printed == 1.6
    assert found["condconv"].verdict == Judgement("equal", 1.5, found["condconv"].verdict.why)
    assert found["rdconv"].verdict.outcome == "differs"
    assert found["rdconv"].verdict.why.endswith("so 0.90 to 1.11")
    assert "1.50 [1.40, 1.65] of the baseline's time" in found["rdconv"].verdict.why
    assert len(found) == len(models) - 1


def test_calls_are_timed_in_turns_in_random_order() -> None:
    order: list[str] = []
    calls: Any = {name: (lambda name=name: order.append(name)) for name in ("a", "b")}
    found = benchmark_interleaved(calls, rounds=20)
    rounds = ["".join(order[i : i + 2]) for i in range(len(order) - 40, len(order), 2)]
    assert set(rounds) == {"ab", "ba"}
    assert found["a"].ratio == found["a"].low == found["a"].high == 1


@pytest.mark.parametrize("count", [1, 5, 6, 15, 25, 100])
def test_the_interval_of_a_median_is_the_sign_tests(count: int) -> None:
    """A binomial test at 5 % rejects every median beyond its ends, and none between."""
    values = np.random.default_rng(count).permutation(np.arange(1.0, count + 1))
    low, high = median_interval(values)
    if count < 6:
        assert (low, high) == (0, np.inf)
    else:
        assert binomtest(int((values <= low).sum()), count).pvalue > 0.05
        assert binomtest(int((values < low).sum()), count).pvalue <= 0.05
        assert low + high == count + 1


@pytest.mark.parametrize("bias", [1.0, 1.25])
def test_two_copies_of_a_network_are_not_distinguishable(
    bias: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a clock says that noise is heavy-tailed, and that whatever runs second in a round is slower."""
    rng, calls = np.random.default_rng(0), [0]

    def seconds(*_: Any) -> float:
        calls[0] += 1
        return float(np.exp(rng.standard_t(2) / 20)) * (bias if calls[0] % 2 else 1.0)

    monkeypatch.setattr(timing, "_seconds", seconds)
    same: Any = {"a": int, "b": int}
    found = [benchmark_interleaved(same, timing.ROUNDS)["b"] for _ in range(400)]
    assert sum(are_distinguishable(one.low, one.high) for one in found) <= 0.05 * len(found)


@pytest.mark.parametrize("use", [paper.recompute, paper.latency_models])
def test_other_tables_are_refused(use: Any) -> None:
    with pytest.raises(UsageError, match="table 9"):
        use(9)
