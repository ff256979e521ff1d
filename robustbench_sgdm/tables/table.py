"""A table of text cells, and the format of numbers and names in it and everywhere else."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from robustbench_sgdm.core.escaping import latex, markdown

_LATEX_CELL = 40  # characters; LaTeX breaks no line of a longer one by itself
_MIN_DIFFERENCE = 0.0001  # points; a smaller one is shown as zero


@dataclass(frozen=True)
class Table:
    """A titled table of text cells; the first column labels the rows, the others are numbers but for those of `text`."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=tuple)
    text: Collection[str] = ()


def format_number(value: float | None, *, signed: bool = False) -> str:
    """Two decimals, or a dash for an absent value; a small difference has as many as show its sign.

    >>> format_number(42.978), format_number(1.7, signed=True), format_number(float("nan"))
    ('42.98', '+1.70', '–')
    >>> format_number(-0.0034, signed=True), format_number(-1e-9, signed=True), format_number(-1e-9)
    ('-0.003', '+0.00', '0.00')
    """
    if value is None or pd.isna(value):
        return "–"
    if signed and _MIN_DIFFERENCE <= abs(value) < 0.005:
        return f"{value:+.1g}"
    rounded = round(value, 2) + 0.0  # no -0.00
    return f"{rounded:+.2f}" if signed else f"{rounded:.2f}"


def format_interval(estimate: float, low: float, high: float, *, signed: bool = False) -> str:
    """An estimate and its interval.

    >>> format_interval(2.1, 0.9, 3.3, signed=True), format_interval(float("nan"), 0, 0)
    ('+2.10 [+0.90, +3.30]', '–')
    """
    value = format_number(estimate, signed=signed)
    if value == "–" or pd.isna(low):
        return value
    return f"{value} [{format_number(low, signed=signed)}, {format_number(high, signed=signed)}]"


def format_p_value(p: float) -> str:
    """A p-value to three decimals; not smaller than 1,000 resamples can support, nor rounded up to 0.05.

    >>> format_p_value(0.0421), format_p_value(0.0002), format_p_value(0.0498), format_p_value(float("nan"))
    ('0.042', '< 0.001', '< 0.05', '–')
    """
    if math.isnan(p):
        return "–"
    if p < 0.001:
        return "< 0.001"
    text = f"{p:.3f}"
    return "< 0.05" if p < 0.05 <= float(text) else text  # it is beside the star of a significant difference


def starred(text: str, significant: object) -> str:
    """The text of a difference, with a star if it is significant; see `Intervals.table`."""
    return f"{text}*" if significant is True or significant == True else text  # noqa: E712 - numpy's too


STARRED = "*: significant, p below {alpha:g} after Holm's correction over {what}."
"""The note under a table whose differences are starred."""


UNROUNDED = "Differences are computed from unrounded scores, so printed scores may differ from them by 0.01."
"""The note under a table that has differences beside scores."""


def humanize(name: str) -> str:
    """A corruption's name as people write it.

    >>> humanize("gaussian_noise[0.1]")
    'gaussian noise [0.1]'
    """
    return name.replace("_", " ").replace("[", " [")


def notes_once(tables: Sequence[Table]) -> list[Table]:
    """The tables, each note under the first that has it."""
    said: set[str] = set()
    shown = []
    for table in tables:
        shown.append(replace(table, notes=[note for note in table.notes if note not in said]))
        said.update(table.notes)
    return shown


def split_columns(table: Table, most: int) -> list[Table]:
    """Split a table into parts of at most `most` columns, each with the first column."""
    if len(table.columns) <= most:
        return [table]
    step = most - 1
    return [
        Table(
            table.title if start == 1 else f"{table.title} (continued)",
            [table.columns[0], *table.columns[start : start + step]],
            [[row[0], *row[start : start + step]] for row in table.rows],
            table.notes,
            table.text,
        )
        for start in range(1, len(table.columns), step)
    ]


def to_markdown(table: Table) -> str:
    """A table with its title and notes, as Markdown."""
    head, *rows = ([markdown(cell) for cell in line] for line in (table.columns, *table.rows))
    lines = [head, ["---"] * len(head), *rows]
    drawn = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "".join(f"* {markdown(note)}\n" for note in table.notes)
    return f"## {markdown(table.title)}\n\n{drawn}\n\n{notes}"


def to_latex(table: Table) -> str:
    r"""A table with its title and notes as LaTeX that needs `\\usepackage{booktabs,textcomp}` and UTF-8."""
    head, *rows = ([latex(cell) for cell in line] for line in (table.columns, *table.rows))
    # After the end of a line, [ and * would be its arguments.
    lines = [f"  {'{}' * line[0].startswith(('[', '*'))}{' & '.join(line)} \\\\" for line in (head, *rows)]
    notes = [f"  \\par\\footnotesize {latex(note)}" for note in table.notes]
    kinds = "".join(_latex_column(table, index) for index in range(len(head)))
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{latex(table.title)}}}",
            f"  \\begin{{tabular}}{{{kinds}}}",
            r"  \toprule",
            lines[0],
            r"  \midrule",
            *lines[1:],
            r"  \bottomrule",
            r"  \end{tabular}",
            *notes,
            r"\end{table}",
            "",
        ]
    )


def _latex_column(table: Table, index: int) -> str:
    """Text to the left, in lines of its own where it is long; numbers to the right."""
    if index and table.columns[index] not in table.text:
        return "r"
    is_long = any(len(row[index]) > _LATEX_CELL for row in table.rows)
    return r"p{0.45\linewidth}" if index and is_long else "l"
