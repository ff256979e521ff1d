"""A table as CSV: every number in a column of its own, as it is written in the table."""

import re
from collections.abc import Sequence

import pandas as pd

from robustbench_sgdm.core import escaping
from robustbench_sgdm.tables.table import Table

_NUMBER = r"[+-]?\d[\d,]*(?:\.\d+)?"
_CELL = re.compile(rf"(?P<value>{_NUMBER})(?: \[(?P<low>{_NUMBER}), (?P<high>{_NUMBER})\])?(?P<star>\*?)")
_ABSENT = "–"


def to_csv(table: Table) -> str:
    """The rows of a table, without its title and notes.

    `45.00 [43.87, 46.13]` becomes three columns, a star a column `significant`, a dash an empty cell. A column with
    anything else is kept as text.

    >>> print(to_csv(Table("t", ["item", "Δ"], [["fog", "+1.20 [+0.40, +2.00]*"], ["snow", "–"]])))
    item,Δ,Δ low,Δ high,Δ significant
    fog,+1.20,+0.40,+2.00,yes
    snow,,,,
    <BLANKLINE>
    """
    columns: dict[str, list[str]] = {}
    for place, name in enumerate(table.columns):
        cells = [row[place] for row in table.rows]
        for ending, values in (_split(cells) if place else {"": cells}).items():
            label = f"{name} {ending}".strip()
            columns[label if label not in columns else f"{label} ({place + 1})"] = values
    return escaping.csv(pd.DataFrame(columns))


def _split(cells: Sequence[str]) -> dict[str, list[str]]:
    """The columns that a column of cells becomes, by what is added to its name."""
    found = [_CELL.fullmatch(cell) for cell in cells]
    if any(match is None and cell != _ABSENT for match, cell in zip(found, cells, strict=True)):
        return {"": ["" if cell == _ABSENT else cell for cell in cells]}

    def part(name: str) -> list[str]:
        return ["" if match is None else (match[name] or "").replace(",", "") for match in found]

    columns = {"": part("value")}
    if any(part("low")):
        columns |= {"low": part("low"), "high": part("high")}
    if any(part("star")):
        columns["significant"] = ["" if m is None else "yes" if m["star"] else "no" for m in found]
    return columns
