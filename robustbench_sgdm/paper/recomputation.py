"""Recomputes the numbers of the SGDM paper from its tables and the zoo.

Every printed number of parameters, operations or time gets a verdict: the recomputed one equals it as it stands, or by a
rule that the verdict names, or by none, and then why. Printed AP is listed beside the model to train, a printed time
beside the model to measure.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.detectors import select_device, timing
from robustbench_sgdm.detectors.timing import Timing
from robustbench_sgdm.detectors.ultralytics import zoo
from robustbench_sgdm.detectors.ultralytics.flops import ModelCost
from robustbench_sgdm.modules import SGDMOptions, sgdm_cost
from robustbench_sgdm.paper.printed_numbers import (
    Judgement,
    Outcome,
    PrintedNumber,
    Quantity,
    judge_number,
    paper_data,
)
from robustbench_sgdm.tables import format_time_ratio

TABLES = (2, 3, 4, 5, 6, 7, 8)
LATENCY = (3, 5)
_TABLE_6 = (2, 512, 40, 40)  # batch, channels, height, width


def recompute(table: int) -> list[PrintedNumber]:
    """The numbers of a table: counts of tables 2 to 6, times of 3 and 5, AP of the ablations in tables 6 to 8.

    Times are not measured here; see `latency_numbers`.

    Raises:
        UsageError: no such table.
    """
    if table not in TABLES:
        raise UsageError(f"table {table} is not recomputed; use one of {', '.join(map(str, TABLES))}")
    counts = _table_6() if table == 6 else _detectors(table) if table in paper_data()["recompute"] else ()
    times = [cell for cell, _, _ in _times(table)] if table in LATENCY else ()
    return [*counts, *times, *_ablation(table)]


def latency_models(table: int) -> dict[str, list[str]]:
    """Each row of a table with latency: its models, the baseline first.

    Raises:
        UsageError: the table has no latency.
    """
    if table not in LATENCY:
        raise UsageError(f"table {table} prints no latency; tables {', '.join(map(str, LATENCY))} do")
    plan = paper_data()["recompute"][table]
    return {row: [_model(plan, row, column) for column in modules] for row, modules in _rows(plan["key"])}


def latency_numbers(
    table: int, row: str, timings: Mapping[str, Timing], conditions: str
) -> list[PrintedNumber]:
    """Printed times relative to the baseline's beside measured ones: equal if the interval includes the rounded time.

    Args:
        table, row: as in `latency_models`.
        timings: by model.
        conditions: device and rounds, for the verdict.
    """
    return [
        replace(cell, value=timing.ratio, verdict=_judge_time(timing, low, high, conditions))
        for cell, low, high in _times(table)
        if cell.row == row and (timing := timings[cell.model])
    ]


def measure_times(
    table: int,
    *,
    rounds: int = 15,
    device: str | None = None,
    report: Callable[[str], object] = lambda _: None,
) -> list[PrintedNumber]:
    """Measure the models of a table with latency, interleaved by row; see `latency_numbers`.

    Args:
        table: of `LATENCY`.
        rounds: passes of each model.
        device: the first GPU, or the CPU without one, if None.
        report: called with a line before each row.
    """
    device = select_device(device)
    classes = paper_data()["recompute"][table]["classes"][0]
    numbers = []
    for row, models in latency_models(table).items():
        report(f"timing {', '.join(models)} on {device}, {rounds} rounds interleaved")
        timings = timing.benchmark_forward(models, classes, device=device, rounds=rounds)
        numbers += latency_numbers(table, row, timings, f"{device}, batch 1, {rounds} rounds interleaved")
    return numbers


def _times(table: int) -> Iterator[tuple[PrintedNumber, float, float]]:
    """Printed times relative to their baseline's, not measured yet, each with its bounds before rounding."""
    plan = paper_data()["recompute"][table]
    unmeasured = Judgement("to measure", None, "`robustbench paper --latency` measures it on this machine")
    for row, modules in _rows(plan["key"]):
        base = modules["baseline"][plan["time"]]
        for column, numbers in modules.items():
            own = numbers[plan["time"]]
            if column != "baseline":
                aim, model = round(own / base, 3), _model(plan, row, column)
                cell = PrintedNumber(
                    table, row, column, "time", model, plan["classes"][0], aim, None, None, unmeasured
                )
                yield cell, (own - 0.05) / (base + 0.05), (own + 0.05) / (base - 0.05)


def _judge_time(timing: Timing, low: float, high: float, conditions: str) -> Judgement:
    outcome: Outcome = "equal" if timing.low <= high and low <= timing.high else "differs"
    ratio = format_time_ratio(timing.ratio, timing.low, timing.high, "the baseline")
    why = f"{conditions}: {ratio}; printed to 0.1 ms on two RTX A4000, so {low:.2f} to {high:.2f}"
    return Judgement(outcome, timing.ratio, why)


@cache
def _summary(model: str, classes: int) -> ModelCost:
    return zoo.model_cost(model, classes)


def _rows(key: str) -> list[tuple[str, Any]]:
    return [(str(row), values) for row, values in paper_data()[key].items() if row not in ("columns", "note")]


def _model(plan: Mapping[str, Any], row: str, column: str) -> str:
    detector = plan.get("detectors", {}).get(row, row)
    return detector if column == "baseline" else f"{detector}-{plan.get('modules', {}).get(column, column)}"


def _detectors(table: int) -> Iterator[PrintedNumber]:
    plan = paper_data()["recompute"][table]
    for row, modules in _rows(plan["key"]):
        for column, numbers in modules.items():
            yield from _pair(table, row, column, numbers[:2])


def _pair(table: int, row: str, column: str, aims: Sequence[float]) -> list[PrintedNumber]:
    """Parameters and operations of one model, at the number of classes that explains more of them."""
    plan = paper_data()["recompute"][table]
    model, usual = _model(plan, row, column), plan["classes"][0]
    by_classes = {}
    for classes in plan["classes"]:
        summary = _summary(model, classes)
        by_classes[classes] = summary, _judge_both(summary, plan.get("unused", {}).get(row), aims)
        if all(verdict.outcome == "equal" for verdict in by_classes[classes][1]):
            break
    classes = min(by_classes, key=lambda n: _distance(by_classes[n][1], aims))
    summary, verdicts = by_classes[classes]
    remark = paper_data()["reasons"].get(table, {}).get(f"{row}.{column}", "")
    rule = "" if classes == usual else f"{classes} classes, not {usual}"
    params, flops = (_explain(verdict, rule, remark) for verdict in verdicts)
    return [
        PrintedNumber(table, row, column, "params", model, classes, aims[0], summary.parameters / 1e6, None, params),
        PrintedNumber(
            table, row, column, "flops", model, classes, aims[1], summary.gflops_paper, summary.gflops_thop, flops
        ),
    ]  # fmt: skip


def _distance(verdicts: Sequence[Judgement], aims: Sequence[float]) -> tuple[int, float]:
    """How far from explained: first by rules and unexplained numbers, then by the error of the latter."""
    steps = {"equal": 0, "by rule": 1, "differs": 3}
    off = [
        abs((verdict.value or 0) / aim - 1)
        for verdict, aim in zip(verdicts, aims, strict=True)
        if verdict.outcome == "differs"
    ]
    return sum(steps[verdict.outcome] for verdict in verdicts), sum(off)


def _judge_both(
    summary: ModelCost, unused: Mapping[str, Any] | None, aims: Sequence[float]
) -> tuple[Judgement, Judgement]:
    millions = summary.parameters / 1e6
    more = [(unused["what"], millions + unused["parameters"] / 1e6)] if unused else []
    operations = [
        ("counted on a true 640 x 640 image", summary.gflops_thop),
        ("BatchNorm folded", summary.gflops),
    ]
    return judge_number(millions, more, aims[0]), judge_number(summary.gflops_paper, operations, aims[1])


def _table_6() -> Iterator[PrintedNumber]:
    for row, numbers in _rows("table_6_razor_ratio"):
        razor = float(row)
        fixed, tied = (sgdm_cost(_TABLE_6, SGDMOptions(split, razor)) for split in (0.25, razor / 2))
        remark = paper_data()["reasons"][6].get(row, "")
        pairs: tuple[tuple[Quantity, float, float], ...] = (
            ("params", fixed.params / 1e6, tied.params / 1e6),
            ("flops", fixed.macs / 1e9, tied.macs / 1e9),
        )
        for (quantity, value, other), aim in zip(pairs, numbers, strict=False):
            verdict = _explain(
                judge_number(value, [("split tied to razor / 2", other)], aim, digits=2), "", remark
            )
            shown = value if verdict.value is None else verdict.value
            yield PrintedNumber(6, row, "", quantity, f"sgdm[razor={row}]", None, aim, shown, None, verdict)


def _ablation(table: int) -> Iterator[PrintedNumber]:
    plan = paper_data()["ablations"].get(table)
    if plan is None:
        return
    columns = paper_data()[plan["key"]]["columns"]
    quantities: tuple[Quantity, ...] = ("ap50", "ap")
    for row, numbers in _rows(plan["key"]):
        for quantity in quantities:
            verdict = Judgement("to train", None, "")
            aim = numbers[columns.index(quantity)]
            yield PrintedNumber(
                table, row, "", quantity, plan["model"].format(row), 20, aim, None, None, verdict
            )


def _explain(verdict: Judgement, rule: str, remark: str) -> Judgement:
    """Add the row's rule if the number is equal, and the remark if it is not equal as it stands."""
    outcome, value, why = verdict
    if outcome == "equal" and not rule:
        return verdict
    if outcome == "differs":
        return Judgement(outcome, value, remark or "no known rule gives the printed number")
    return Judgement("by rule", value, "; ".join(filter(None, (rule, why, remark))))
