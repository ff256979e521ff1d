"""Prints tables, messages and progress bars to the terminal."""

import itertools
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import typer
from rich import box
from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.table import Table as RichTable
from rich.text import Text

from robustbench_sgdm.cli.shared_options import TableFormat
from robustbench_sgdm.core.escaping import terminal
from robustbench_sgdm.core.progress import JobClock, format_clock
from robustbench_sgdm.core.progress import Progress as Report
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.tables import Table, split_columns, to_document

_LABEL = 28  # characters that a row's label has at least before numbers are wrapped
_SHORT_LABEL = 15  # the same in a compact table
_SHORT_HEAD = 16  # that a compact column's head is folded at
_LINE_LABEL = 12  # columns before the text of a labelled line
_PIPE = 160  # characters; a file or a pipe has no width for which a table must be wrapped

out = Console(emoji=False)
if not out.is_terminal and "COLUMNS" not in os.environ:
    out.width = _PIPE
err = Console(stderr=True, emoji=False)

_silence: set[str] = set()


def pluralize(count: int, what: str) -> str:
    """A count and its noun.

    >>> pluralize(1, "cell"), pluralize(1200, "cell")
    ('1 cell', '1,200 cells')
    """
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


@contextmanager
def quiet(is_quiet: bool = True) -> Iterator[None]:
    """Within it `info` prints nothing and there is no progress; warnings and errors are printed all the same."""
    log, before = logging.getLogger("robustbench_sgdm"), _silence.copy()
    level = log.level
    if is_quiet:
        _silence.add("info")
        log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        _silence.clear()
        _silence.update(before)
        log.setLevel(level)


def info(text: str) -> None:
    """Print a message to standard error, so that tables can be piped."""
    if not _silence:
        warn(text)


def warn(text: str) -> None:
    """Print a message to standard error, also within `quiet`."""
    err.print(terminal(text), highlight=False, soft_wrap=True, markup=False)


def print_line(text: str) -> None:
    """Print a line of the result to standard output."""
    out.print(terminal(text), highlight=False, soft_wrap=True, markup=False)


def print_document(text: str) -> None:
    """Print a document to standard output as it is; on a terminal with control characters escaped."""
    text = escape_control_chars(text, "\n") if out.is_terminal else text
    typer.echo(text, nl=False)


def print_as(table: Table, form: TableFormat) -> None:
    """Print a table for people, or as a document."""
    if form == "table":
        print_table(table)
    else:
        print_document(to_document([table], form))


def print_table(table: Table) -> None:
    """Print a table; only a label is wrapped where the terminal is wide enough for the rest."""
    whole = fits_terminal(table)  # then only labels are wrapped
    drawn = RichTable(title=table_cell(table.title), box=box.SIMPLE_HEAD, title_justify="left")
    for index, column in enumerate(table.columns):
        drawn.add_column(
            table_cell(column, " "),
            justify="right" if index and column not in table.text else "left",
            overflow="fold",
            no_wrap=whole and index > 0,
        )
    for row in table.rows:
        drawn.add_row(*map(table_cell, row))
    out.print(drawn)
    for note in table.notes:
        print_line(note)


def print_numbers(table: Table) -> None:
    """Print a table of numbers, split by columns on a narrow terminal: a wrapped number misleads."""
    for most in range(len(table.columns), 1, -1):
        parts = split_columns(table, most)
        if most == 2 or all(map(fits_terminal, parts)):
            break
    for part in parts[:-1]:
        print_table(replace(part, notes=()))
    print_table(parts[-1])


def print_compact(widths: Sequence[Table]) -> None:
    """Print the widest of a table's versions that fits, or the narrowest in parts; labels and heads are folded."""
    for line in compact_lines(widths):
        out.print(line, highlight=False, soft_wrap=True, markup=False)


def compact_lines(widths: Sequence[Table]) -> list[str]:
    """The lines that `print_compact` prints."""
    for table, gap in itertools.product(widths, (2, 1)):
        if _compact_width(table, gap) <= out.width:
            return _draw_compact(table, gap)
    for most in range(len(widths[-1].columns) - 1, 1, -1):
        parts = split_columns(widths[-1], most)
        if most == 2 or all(_compact_width(part, 2) <= out.width for part in parts):
            break
    shown = [part if part is parts[-1] else replace(part, notes=()) for part in parts]
    return [line for part in shown for line in _draw_compact(part, 2)]


def _column_widths(table: Table) -> list[int]:
    """Of each column's cells, and of its head when that is folded."""
    widths = []
    for index, column in enumerate(table.columns):
        cells = max((cell_len(terminal(row[index])) for row in table.rows), default=0)
        widths.append(max([cells, *map(cell_len, _wrap(terminal(column), _SHORT_HEAD, least=True))]))
    return widths


def _wrap(text: str, width: int, *, least: bool = False) -> list[str]:
    """The lines of a text, broken at spaces and hyphens, and within words that are wider; with `least` at every place."""
    lines, line = [], ""
    for word in re.split(r"(?<= )|(?<=\w-)(?=\w)", text):
        if line and (least or cell_len(line + word.rstrip()) > width):
            lines.append(line.rstrip())
            line = ""
        *whole, rest = (
            chop_cells(line + word, width) if cell_len(line + word.rstrip()) > width else [line + word]
        )
        lines += whole
        line = rest
    return [*lines, line.rstrip()]


def _compact_width(table: Table, gap: int) -> int:
    label, *others = _column_widths(table)
    return min(label, _SHORT_LABEL) + sum(width + gap for width in others)


def _draw_compact(table: Table, gap: int) -> list[str]:
    label, *others = _column_widths(table)
    label = max(min(label, out.width - sum(width + gap for width in others)), 1)

    def lines(cells: Sequence[str]) -> Iterator[str]:
        folded = [
            _wrap(terminal(cell), max(width, 1)) for cell, width in zip(cells, [label, *others], strict=True)
        ]
        for first, *rest in itertools.zip_longest(*folded, fillvalue=""):
            columns = [" " * (w + gap - cell_len(text)) + text for text, w in zip(rest, others, strict=True)]
            yield f"{first}{' ' * (label - cell_len(first))}{''.join(columns)}".rstrip()

    head = [*lines(table.columns)]
    rule = "─" * max(map(cell_len, head))
    notes = [part for note in table.notes for part in _fold(note)]
    body = [line for row in table.rows for line in lines(row)]
    return ["", *_fold(table.title), *head, rule, *body, *notes]


def print_labelled(lines: Iterable[tuple[str, str]]) -> None:
    """Print lines of a label and a text to standard output; on a terminal long texts are folded beside their label."""
    for line in labelled_lines(lines):
        out.print(line, highlight=False, soft_wrap=True, markup=False)


def labelled_lines(lines: Iterable[tuple[str, str]]) -> list[str]:
    """The lines that `print_labelled` prints."""
    return [
        f"{'' if number else label:<{_LINE_LABEL}}{part}"
        for label, text in lines
        for number, part in enumerate(_fold(text, _LINE_LABEL))
    ]


def print_note(text: str) -> None:
    """Print a text below tables to standard output, folded on a terminal; nothing where it is empty."""
    for line in note_lines(text):
        out.print(line, highlight=False, soft_wrap=True, markup=False)


def note_lines(text: str) -> list[str]:
    """The lines that `print_note` prints."""
    return _fold(text) if text else []


def _fold(text: str, indent: int = 0) -> list[str]:
    """Lines of a text that a terminal shows beside an indent; one line in a file or a pipe."""
    if not out.is_terminal and "COLUMNS" not in os.environ:
        return [terminal(text)]
    return _wrap(terminal(text), max(out.width - indent, 20))


def table_cell(text: str, at: str = "") -> Text:
    """A table cell; plain text would be markup to rich. The first `at`, if any, becomes a line break."""
    return Text(terminal(text).replace(at, "\n", bool(at)))


def fits_terminal(table: Table) -> bool:
    """Whether the terminal is wide enough for a table without wrapping anything but long row labels."""
    heads = [max(map(len, column.split(" ", 1))) for column in table.columns]
    widths = [max([head, *(len(terminal(row[i])) for row in table.rows)]) for i, head in enumerate(heads)]
    widths[0] = min(widths[0], _LABEL)
    return sum(w + 3 for w in widths) + 1 <= out.width  # padding and separators


@contextmanager
def progress_bars() -> Iterator[Report]:
    """Progress bars below each other; yields a function of (what, done, total), callable from any thread."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=err, transient=True, disable=_is_hidden()) as bar:

        def update(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what)
            bar.update(tasks[what], completed=done, total=total)

        yield update


@contextmanager
def job_progress(clock: JobClock) -> Iterator[None]:
    """One bar for a whole job, with the time elapsed and the time left."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), _JobColumn(clock))
    with Progress(*columns, console=err, transient=True, disable=_is_hidden()) as bar:
        bar.add_task("")
        yield


class _JobColumn(ProgressColumn):
    """The state of a job's clock; it moves the bar too, which no event would between two events."""

    def __init__(self, clock: JobClock) -> None:
        super().__init__(
            Column(no_wrap=True)
        )  # on a narrow terminal the bar gets shorter, not the line longer
        self._clock = clock

    def render(self, task: Task) -> Text:
        clock = self._clock
        task.description, task.completed, task.total = clock.stage, clock.share, 1
        left = clock.remaining()
        words = "left unknown" if left is None else f"left {format_clock(left)}"
        return Text(f"{clock.counts} elapsed {format_clock(clock.elapsed())} {words}".strip())


def _is_hidden() -> bool:
    return bool(_silence) or not err.is_terminal
