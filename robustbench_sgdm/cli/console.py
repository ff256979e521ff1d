"""Prints tables, messages and progress bars to the terminal."""

import os
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import replace

import typer
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table as RichTable
from rich.text import Text

from robustbench_sgdm.core.escaping import terminal
from robustbench_sgdm.core.progress import Progress as Report
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.tables import Table, split_columns

_LABEL = 28  # characters that a row's label has at least before numbers are wrapped
_PIPE = 160  # characters; a file or a pipe has no width for which a table must be wrapped

out = Console(emoji=False)
if not out.is_terminal and "COLUMNS" not in os.environ:
    out.width = _PIPE
err = Console(stderr=True, emoji=False)


def pluralize(count: int, what: str) -> str:
    """A count and its noun.

    >>> pluralize(1, "cell"), pluralize(1200, "cell")
    ('1 cell', '1,200 cells')
    """
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def info(text: str) -> None:
    """Print a message to standard error, so that tables can be piped."""
    err.print(terminal(text), highlight=False, soft_wrap=True, markup=False)


def print_line(text: str) -> None:
    """Print a line of the result to standard output."""
    out.print(terminal(text), highlight=False, soft_wrap=True, markup=False)


def print_document(text: str) -> None:
    """Print a document to standard output as it is; on a terminal with control characters escaped."""
    text = escape_control_chars(text, "\n") if out.is_terminal else text
    typer.echo(text, nl=False)


def print_table(table: Table, text: Container[str] = ()) -> None:
    """Print a table; columns of `text` are aligned to the left, as the first one is."""
    whole = fits_terminal(table)  # then only labels are wrapped
    drawn = RichTable(title=table_cell(table.title), box=box.SIMPLE_HEAD, title_justify="left")
    for index, column in enumerate(table.columns):
        drawn.add_column(
            table_cell(column, " "),
            justify="right" if index and column not in text else "left",
            overflow="fold",
            no_wrap=whole and index > 0,
        )
    for row in table.rows:
        drawn.add_row(*map(table_cell, row))
    out.print(drawn)
    for text in table.notes:
        print_line(text)


def print_numbers(table: Table) -> None:
    """Print a table of numbers, split by columns on a narrow terminal: a wrapped number misleads."""
    for most in range(len(table.columns), 1, -1):
        parts = split_columns(table, most)
        if most == 2 or all(map(fits_terminal, parts)):
            break
    for part in parts[:-1]:
        print_table(replace(part, notes=()))
    print_table(parts[-1])


def table_cell(text: str, at: str = "") -> Text:
    """A table cell; plain text would be markup to rich. The first `at`, if any, becomes a line break."""
    return Text(terminal(text).replace(at, "\n", bool(at)))


def fits_terminal(table: Table) -> bool:
    """Whether the terminal is wide enough for a table without wrapping anything but long row labels."""
    heads = [max(map(len, column.split(" ", 1))) for column in table.columns]
    widths = [max(head, *(len(terminal(row[i])) for row in table.rows)) for i, head in enumerate(heads)]
    widths[0] = min(widths[0], _LABEL)
    return sum(w + 3 for w in widths) + 1 <= out.width  # padding and separators


@contextmanager
def progress_bars() -> Iterator[Report]:
    """Progress bars below each other; yields a function of (what, done, total), callable from any thread."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:

        def update(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what)
            bar.update(tasks[what], completed=done, total=total)

        yield update
