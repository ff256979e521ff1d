"""How wide a table is on paper: one that is too wide is set smaller, and then cut between columns.

A table that is wider than its page would make plutoprint shrink every page of the document.
"""

import unicodedata
from collections.abc import Sequence
from functools import cache

from PIL import ImageFont

from robustbench_sgdm.figures import fonts
from robustbench_sgdm.tables import Table

ROOM = 505.0
"""Points of a column of text on A4; Letter has a little more."""

LONG_CELL = 40
"""Characters from which a cell is text that wraps."""

LONG_NAME = 24
"""Characters from which a row's name wraps."""

HEAD_WORD = 14
"""Characters from which a word in a column's head wraps."""

_NORMAL, _DENSE = (7.2, 8.4), (6.3, 5.2)  # points of a letter, and beside each column; see `report.css`
_UNITS = 100  # pixels of an em, to measure with


def is_dense(table: Table) -> bool:
    """Whether a table fits only in small letters."""
    return _width(table, range(len(table.columns)), *_NORMAL) > ROOM


def split_to_page(table: Table) -> list[Table]:
    """Cut a table between columns, so that each part fits a page; each has the first column.

    A difference stays beside its interval and its p.
    """
    parts: list[list[int]] = [[]]
    for group in _groups(table.columns):
        if parts[-1] and _width(table, [0, *parts[-1], *group], *_DENSE) > ROOM:
            parts.append([])
        for column in group:  # a group too wide for a page by itself is cut too
            if parts[-1] and _width(table, [0, *parts[-1], column], *_DENSE) > ROOM:
                parts.append([])
            parts[-1].append(column)
    if len(parts) == 1:
        return [table]
    return [
        Table(
            table.title if place == 0 else f"{table.title} (continued)",
            [table.columns[i] for i in (0, *part)],
            [[row[i] for i in (0, *part)] for row in table.rows],
            table.notes if place == len(parts) - 1 else (),
        )
        for place, part in enumerate(parts)
    ]


def _groups(columns: Sequence[str]) -> list[list[int]]:
    """Columns after the first that belong together: `AP Δ b`, `Δ b 95 % interval` and `Δ b p (Holm)`."""
    groups: list[list[int]] = []
    for column, name in enumerate(columns[1:], 1):
        mark = columns[groups[-1][0]].partition("Δ")[1:] if groups else ("", "")
        if mark[0] and name.startswith(f"{''.join(mark)} "):
            groups[-1].append(column)
        else:
            groups.append([column])
    return groups


def _width(table: Table, columns: Sequence[int], size: float, beside: float) -> float:
    return sum(size * _column_ems(table, column) + beside for column in columns)


def _column_ems(table: Table, column: int) -> float:
    most = LONG_CELL if column else LONG_NAME
    cells = max((_ems(row[column][:most]) for row in table.rows), default=0.0)
    head = max(_ems(word[:HEAD_WORD]) * 1.06 for word in table.columns[column].split(" "))  # they are bold
    return max(cells, head)


@cache
def _ems(text: str) -> float:
    """The width of a text in em; a character that the font lacks counts as its widest."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return float(_font().getlength(text)) / _UNITS + 0.4 * wide


@cache
def _font() -> ImageFont.FreeTypeFont:
    path = fonts.FOLDER / "text" / "NotoSans-Regular.ttf"
    return ImageFont.truetype(
        path, _UNITS, layout_engine=ImageFont.Layout.BASIC
    )  # the other one fails for odd names
