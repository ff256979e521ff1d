"""The SGDM paper's tables recomputed, cell beside cell: pure functions of `paper_tables.yaml` and the zoo.

Every printed number of parameters, operations or time gets a verdict: what is recomputed equals it as it stands,
or by a rule that the verdict names, or by none, and then why. Printed AP is listed beside the model to train, and
a printed time beside the model to measure until that is done here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
import yaml

from robustbench_sgdm.core import escaping
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.detectors.timing import Timing
from robustbench_sgdm.detectors.ultralytics import zoo
from robustbench_sgdm.detectors.ultralytics.flops import ModelCost
from robustbench_sgdm.modules import SGDMOptions, sgdm_cost
from robustbench_sgdm.tables import Table, time_ratio

TABLES = (2, 3, 4, 5, 6, 7, 8)
Outcome = Literal["equal", "by rule", "differs", "to train", "to measure"]
Quantity = Literal["params", "flops", "time", "ap50", "ap"]
LATENCY = (3, 5)
_TABLE_6 = (2, 512, 40, 40)  # batch, channels, height, width


class Verdict(NamedTuple):
    """What became of a cell: the value compared, and the rules or the reason."""

    outcome: Outcome
    value: float | None
    why: str


@dataclass(frozen=True)
class Cell:
    """One printed number beside the recomputed one.

    Attributes:
        table: number in the paper.
        row: its label there.
        column: module, or "" where the table has none.
        quantity: "params" in millions; "flops" in 1e9, 2 for a multiply-add but 1 in table 6; "time" over the
            baseline's; "ap50", "ap" in percent.
        model: name in the zoo.
        classes: of that model; None for a module alone.
        printed: as in the paper.
        value: recomputed, operations as the paper counts them; None for AP, and for a time not measured.
        at_640: operations of the same layers on a true 640 x 640 image; None for what is no operation.
        verdict: equal or not.
    """

    table: int
    row: str
    column: str
    quantity: Quantity
    model: str
    classes: int | None
    printed: float
    value: float | None
    at_640: float | None
    verdict: Verdict


def facts() -> dict[str, Any]:
    """`paper_tables.yaml`: every number the paper prints, what recomputes it, what is known of the rest."""
    return dict(_facts())


def recompute(table: int) -> list[Cell]:
    """The cells of a table: counts of tables 2 to 6, times of 3 and 5, AP of the ablations in tables 6 to 8.

    A time is yet to measure: `latency_cells` takes its place once it is.

    Raises:
        UsageError: no such table.
    """
    if table not in TABLES:
        raise UsageError(f"table {table} is not recomputed; must be one of {', '.join(map(str, TABLES))}")
    counts = _table_6() if table == 6 else _detectors(table) if table in _facts()["recompute"] else ()
    times = [cell for cell, _, _ in _times(table)] if table in LATENCY else ()
    return [*counts, *times, *_ablation(table)]


def latency_models(table: int) -> dict[str, list[str]]:
    """Each row of a table with latency: its models, the baseline first.

    Raises:
        UsageError: the table has no latency.
    """
    if table not in LATENCY:
        raise UsageError(f"table {table} prints no latency; tables {', '.join(map(str, LATENCY))} do")
    plan = _facts()["recompute"][table]
    return {row: [_model(plan, row, column) for column in modules] for row, modules in _rows(plan["key"])}


def latency_cells(table: int, row: str, timings: Mapping[str, Timing], where: str) -> list[Cell]:
    """Printed time over the baseline's, beside that measured: equal where its interval meets the rounding.

    Args:
        table, row: as in `latency_models`.
        timings: by model.
        where: device and rounds, for the verdict.
    """
    return [
        replace(cell, value=timing.ratio, verdict=_judge_time(timing, least, most, where))
        for cell, least, most in _times(table)
        if cell.row == row and (timing := timings[cell.model])
    ]


def _times(table: int) -> Iterator[tuple[Cell, float, float]]:
    """Printed times over their baseline's, yet to measure, each with the bounds that its rounding leaves."""
    plan = _facts()["recompute"][table]
    waits = Verdict("to measure", None, "`robustbench paper --latency` times it on this machine")
    for row, modules in _rows(plan["key"]):
        base = modules["baseline"][plan["time"]]
        for column, numbers in modules.items():
            own = numbers[plan["time"]]
            if column != "baseline":
                aim, model = round(own / base, 3), _model(plan, row, column)
                cell = Cell(table, row, column, "time", model, plan["classes"][0], aim, None, None, waits)
                yield cell, (own - 0.05) / (base + 0.05), (own + 0.05) / (base - 0.05)


def _judge_time(timing: Timing, least: float, most: float, where: str) -> Verdict:
    outcome: Outcome = "equal" if timing.low <= most and least <= timing.high else "differs"
    ratio = time_ratio(timing.ratio, timing.low, timing.high, "the baseline")
    why = f"{where}: {ratio}; printed to 0.1 ms on two RTX A4000, so {least:.2f} to {most:.2f}"
    return Verdict(outcome, timing.ratio, why)


def judge(value: float, others: Sequence[tuple[str, float]], aim: float, digits: int = 1) -> Verdict:
    """Compare with a printed number: rounded, then cut off, then each other value with its rule, rounded.

    >>> judge(3.343, [], 3.3), judge(4.554, [], 4.5).why
    (Verdict(outcome='equal', value=3.343, why=''), 'cut off, not rounded')
    >>> judge(2.95, [("BatchNorm folded", 2.9)], 3.5).outcome
    'differs'
    """
    if _prints(value, aim, digits):
        return Verdict("equal", value, "")
    if _prints(math.floor(value * 10**digits) / 10**digits, aim, digits):
        return Verdict("by rule", value, "cut off, not rounded")
    for rule, other in others:
        if _prints(other, aim, digits):
            return Verdict("by rule", other, rule)
    return Verdict("differs", value, "")


def show(cells: Sequence[Cell]) -> Table:
    """The cells of one table of the paper, a row each, their rules and reasons numbered below."""
    table = cells[0].table
    whys: list[str] = []
    rows = []
    for cell in cells:
        digits = 4 if table == 6 else 3 if cell.quantity == "params" else 2
        mark = ""
        if cell.verdict.why:
            whys += [] if cell.verdict.why in whys else [cell.verdict.why]
            mark = f" [{whys.index(cell.verdict.why) + 1}]"
        rows.append(
            [
                cell.model,
                str(cell.classes or "–"),
                _label(cell),
                f"{cell.printed:g}",
                *("–" if n is None else f"{n:.{digits}f}" for n in (cell.value, cell.at_640)),
                cell.verdict.outcome + mark + _under_rule(cell, digits),
            ]
        )
    judged = [c for c in cells if c.verdict.outcome not in ("to train", "to measure")]
    equal, by_rule = (sum(c.verdict.outcome == outcome for c in judged) for outcome in ("equal", "by rule"))
    told = f"of {len(judged)} printed numbers {equal} are equal as they stand and {by_rule} by the rule named"
    notes = [told] if judged else []
    plan = _facts()["recompute"].get(table, {})
    if any(c.at_640 is not None for c in cells):
        notes.append("here: by the paper's counting rule; at 640: the same layers on a true 640 x 640 image")
    notes += [plan["note"]] if "note" in plan else []
    notes += [f"[{number}] {why}" for number, why in enumerate(whys, start=1)]
    columns = ["model", "classes", "what", "printed", "here", "at 640", "verdict"]
    return Table(f"table {table}: {_facts()['titles'][table]}", columns, rows, notes)


def _under_rule(cell: Cell, digits: int) -> str:
    """The number that a rule gives, where it is another one than the one shown."""
    compared = cell.verdict.value
    if cell.verdict.outcome != "by rule" or compared is None or compared == cell.value:
        return ""
    return f": {compared:.{digits}f}"


def to_csv(cells: Sequence[Cell]) -> str:
    """A row a cell; `value` by the paper's counting rule, `compared` is what the verdict is about."""
    rows = []
    for cell in cells:
        fields = {key: value for key, value in vars(cell).items() if key != "verdict"}
        outcome, compared, why = cell.verdict
        rows.append({**fields, "compared": compared, "verdict": outcome, "why": why})
    return escaping.csv(pd.DataFrame(rows).round(4))


@cache
def _facts() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("paper_tables.yaml").read_text("utf-8"))
    return loaded


@cache
def _summary(model: str, classes: int) -> ModelCost:
    return zoo.model_cost(model, classes)


def _rows(key: str) -> list[tuple[str, Any]]:
    return [(str(row), values) for row, values in _facts()[key].items() if row not in ("columns", "note")]


def _model(plan: Mapping[str, Any], row: str, column: str) -> str:
    detector = plan.get("detectors", {}).get(row, row)
    return detector if column == "baseline" else f"{detector}-{plan.get('modules', {}).get(column, column)}"


def _detectors(table: int) -> Iterator[Cell]:
    plan = _facts()["recompute"][table]
    for row, modules in _rows(plan["key"]):
        for column, numbers in modules.items():
            yield from _pair(table, row, column, numbers[:2])


def _pair(table: int, row: str, column: str, aims: Sequence[float]) -> list[Cell]:
    """Parameters and operations of one model, both at the one class count that explains more of them."""
    plan = _facts()["recompute"][table]
    model, usual = _model(plan, row, column), plan["classes"][0]
    found = {}
    for classes in plan["classes"]:
        summary = _summary(model, classes)
        found[classes] = summary, _judge_both(summary, plan.get("unused", {}).get(row), aims)
        if all(verdict.outcome == "equal" for verdict in found[classes][1]):
            break
    classes = min(found, key=lambda n: _distance(found[n][1], aims))
    summary, verdicts = found[classes]
    remark = _facts()["reasons"].get(table, {}).get(f"{row}.{column}", "")
    rule = "" if classes == usual else f"{classes} classes, not {usual}"
    params, flops = (_explained(verdict, rule, remark) for verdict in verdicts)
    return [
        Cell(table, row, column, "params", model, classes, aims[0], summary.parameters / 1e6, None, params),
        Cell(
            table, row, column, "flops", model, classes, aims[1], summary.gflops_paper, summary.gflops_thop, flops
        ),
    ]  # fmt: skip


def _distance(verdicts: Sequence[Verdict], aims: Sequence[float]) -> tuple[int, float]:
    """How far from explained: rules and unexplained cells first, then how far off the latter are."""
    steps = {"equal": 0, "by rule": 1, "differs": 3}
    off = [
        abs((verdict.value or 0) / aim - 1)
        for verdict, aim in zip(verdicts, aims, strict=True)
        if verdict.outcome == "differs"
    ]
    return sum(steps[verdict.outcome] for verdict in verdicts), sum(off)


def _judge_both(
    summary: ModelCost, unused: Mapping[str, Any] | None, aims: Sequence[float]
) -> tuple[Verdict, Verdict]:
    millions = summary.parameters / 1e6
    more = [(unused["what"], millions + unused["parameters"] / 1e6)] if unused else []
    operations = [
        ("counted on a true 640 x 640 image", summary.gflops_thop),
        ("BatchNorm folded", summary.gflops),
    ]
    return judge(millions, more, aims[0]), judge(summary.gflops_paper, operations, aims[1])


def _table_6() -> Iterator[Cell]:
    for row, numbers in _rows("table_6_razor_ratio"):
        razor = float(row)
        fixed, tied = (sgdm_cost(_TABLE_6, SGDMOptions(split, razor)) for split in (0.25, razor / 2))
        remark = _facts()["reasons"][6].get(row, "")
        pairs: tuple[tuple[Quantity, float, float], ...] = (
            ("params", fixed.params / 1e6, tied.params / 1e6),
            ("flops", fixed.macs / 1e9, tied.macs / 1e9),
        )
        for (quantity, value, other), aim in zip(pairs, numbers, strict=False):
            verdict = _explained(
                judge(value, [("split tied to razor / 2", other)], aim, digits=2), "", remark
            )
            shown = value if verdict.value is None else verdict.value
            yield Cell(6, row, "", quantity, f"sgdm[razor={row}]", None, aim, shown, None, verdict)


def _ablation(table: int) -> Iterator[Cell]:
    plan = _facts()["ablations"].get(table)
    if plan is None:
        return
    columns = _facts()[plan["key"]]["columns"]
    quantities: tuple[Quantity, ...] = ("ap50", "ap")
    for row, numbers in _rows(plan["key"]):
        for quantity in quantities:
            verdict = Verdict("to train", None, "")
            aim = numbers[columns.index(quantity)]
            yield Cell(table, row, "", quantity, plan["model"].format(row), 20, aim, None, None, verdict)


def _explained(verdict: Verdict, rule: str, remark: str) -> Verdict:
    """With the row's rule where the cell is equal, and with the remark where it is not so as it stands."""
    outcome, value, why = verdict
    if outcome == "equal" and not rule:
        return verdict
    if outcome == "differs":
        return Verdict(outcome, value, remark or "no rule known gives the printed number")
    return Verdict("by rule", value, "; ".join(filter(None, (rule, why, remark))))


def _prints(value: float, aim: float, digits: int) -> bool:
    return round(abs(round(value, digits) - aim), digits + 1) == 0


def _label(cell: Cell) -> str:
    operations = "MACs (G)" if cell.table == 6 else "GFLOPs"
    labels = {
        "params": "params (M)",
        "flops": operations,
        "time": "time / baseline",
        "ap50": "AP50",
        "ap": "AP",
    }
    return labels[cell.quantity]
