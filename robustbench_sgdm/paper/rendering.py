"""The paper's numbers as a table and as CSV."""

from collections.abc import Sequence

import pandas as pd

from robustbench_sgdm.core import escaping
from robustbench_sgdm.paper.printed_numbers import PrintedNumber, paper_data
from robustbench_sgdm.tables import Table


def to_table(cells: Sequence[PrintedNumber]) -> Table:
    """The numbers of one table of the paper, a row each, with rules and reasons as numbered notes."""
    table = cells[0].table
    reasons: list[str] = []
    rows = []
    for cell in cells:
        digits = 4 if table == 6 else 3 if cell.quantity == "params" else 2
        mark = ""
        if cell.verdict.why:
            reasons += [] if cell.verdict.why in reasons else [cell.verdict.why]
            mark = f" [{reasons.index(cell.verdict.why) + 1}]"
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
    count = (
        f"of {len(judged)} printed numbers {equal} are equal as they stand and {by_rule} by the named rule"
    )
    notes = [count] if judged else []
    plan = paper_data()["recompute"].get(table, {})
    if any(c.at_640 is not None for c in cells):
        notes.append("here: by the paper's counting rule; at 640: the same layers on a true 640 x 640 image")
    notes += [plan["note"]] if "note" in plan else []
    notes += [f"[{number}] {why}" for number, why in enumerate(reasons, start=1)]
    columns = ["model", "classes", "quantity", "printed", "here", "at 640", "verdict"]
    return Table(f"table {table}: {paper_data()['titles'][table]}", columns, rows, notes)


def _under_rule(cell: PrintedNumber, digits: int) -> str:
    """The number that a rule gives, if it differs from the one shown."""
    compared = cell.verdict.value
    if cell.verdict.outcome != "by rule" or compared is None or compared == cell.value:
        return ""
    return f": {compared:.{digits}f}"


def to_csv(cells: Sequence[PrintedNumber]) -> str:
    """A row per number; `value` by the paper's counting rule, `compared` is the one that the verdict is about."""
    rows = []
    for cell in cells:
        fields = {key: value for key, value in vars(cell).items() if key != "verdict"}
        outcome, compared, why = cell.verdict
        rows.append({**fields, "compared": compared, "verdict": outcome, "why": why})
    return escaping.csv(pd.DataFrame(rows).round(4))


def _label(cell: PrintedNumber) -> str:
    operations = "MACs (G)" if cell.table == 6 else "GFLOPs"
    labels = {
        "params": "params (M)",
        "flops": operations,
        "time": "time / baseline",
        "ap50": "AP50",
        "ap": "AP",
    }
    return labels[cell.quantity]
