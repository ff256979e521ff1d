"""`robustbench paper`: the SGDM paper's tables, recomputed beside what it printed."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_sgdm.cli.common import DeviceOption

if TYPE_CHECKING:
    from robustbench_sgdm.paper import Cell


class Form(StrEnum):
    """How to print."""

    table = "table"
    csv = "csv"
    markdown = "markdown"


def paper(
    table: Annotated[
        list[int] | None,
        typer.Option("--table", help="Table of the paper, 2 to 8; may be repeated. All of them by default."),
    ] = None,
    form: Annotated[
        Form, typer.Option("--format", help="For the terminal, or a row a cell, or for a document.")
    ] = Form.table,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write there instead: CSV, or else Markdown.")
    ] = None,
    latency: Annotated[
        bool, typer.Option("--latency", help="Time the models of tables 3 and 5 here too; minutes on a CPU.")
    ] = False,
    rounds: Annotated[
        int, typer.Option("--rounds", min=6, help="Passes through each model, for --latency.")
    ] = 15,
    device: DeviceOption = None,
) -> None:
    """The SGDM paper's tables 2 to 8, recomputed: each printed number equal, equal by a named rule, or why not.

    Parameters, operations by two counting rules, latency as a ratio to the baseline; the ablations as model
    names beside their printed AP.
    """
    from robustbench_sgdm import paper, tables
    from robustbench_sgdm.cli import console
    from robustbench_sgdm.core import atomic_io

    chosen = sorted(set(table or paper.TABLES))
    if bad := [n for n in chosen if n not in paper.TABLES]:
        from robustbench_sgdm.core.errors import UsageError

        raise UsageError(
            f"table {bad[0]} is not recomputed; --table takes {paper.TABLES[0]} to {paper.TABLES[-1]}"
        )
    results = []
    for number in chosen:
        cells = paper.recompute(number)
        if latency and number in paper.LATENCY:
            cells = [c for c in cells if c.quantity != "time"] + _latency(number, rounds, device)
        results.append(cells)
        if form is Form.table and out is None:
            console.show(paper.show(cells))
    if form is Form.csv:
        text = paper.to_csv([cell for cells in results for cell in cells])
    else:
        text = "\n".join(tables.to_markdown(paper.show(cells)) for cells in results)
    if out:
        atomic_io.write_bytes(out, text.encode())
    elif form is not Form.table:
        console.document(text)


def _latency(table: int, rounds: int, device: str | None) -> "list[Cell]":
    from robustbench_sgdm import paper
    from robustbench_sgdm.cli.console import note
    from robustbench_sgdm.detectors import select_device, timing

    on = select_device(device)
    cells = []
    classes = paper.facts()["recompute"][table]["classes"][0]
    for row, models in paper.latency_models(table).items():
        note(f"timing {', '.join(models)} on {on}, {rounds} rounds in turns")
        found = timing.benchmark_forward(models, classes, device=on, rounds=rounds)
        cells += paper.latency_cells(table, row, found, f"{on}, batch 1, {rounds} rounds in turns")
    return cells
