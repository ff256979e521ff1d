"""`robustbench paper`: the SGDM paper's tables, recomputed beside what it printed."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_sgdm.cli.shared_options import DeviceOption, FormatOption


def paper(
    table: Annotated[
        list[int] | None,
        typer.Option("--table", help="Table of the paper, 2 to 8; may be repeated. All of them by default."),
    ] = None,
    form: FormatOption = "table",
    out: Annotated[
        Path | None, typer.Option("--out", help="Write into this file instead: CSV, LaTeX, else Markdown.")
    ] = None,
    latency: Annotated[
        bool,
        typer.Option(
            "--latency",
            help="Also time the models of tables 3 and 5 on this machine; takes minutes on a CPU.",
        ),
    ] = False,
    rounds: Annotated[int, typer.Option("--rounds", min=6, help="Passes of each model, for --latency.")] = 15,
    device: DeviceOption = None,
) -> None:
    """Recompute the SGDM paper's tables 2 to 8: each printed number is equal, equal by a named rule, or differs and why.

    Parameters, operations by two counting rules, latency relative to the baseline; for ablations the models beside their
    printed AP.
    """
    from robustbench_sgdm import paper, tables
    from robustbench_sgdm.cli import console
    from robustbench_sgdm.core import atomic_io

    chosen = sorted(set(table or paper.TABLES))
    if bad := [n for n in chosen if n not in paper.TABLES]:
        from robustbench_sgdm.core.errors import UsageError

        raise UsageError(
            f"table {bad[0]} is not recomputed; use --table {paper.TABLES[0]} to {paper.TABLES[-1]}"
        )
    results = []
    for number in chosen:
        cells = paper.recompute(number)
        if latency and number in paper.LATENCY:
            times = paper.measure_times(number, rounds=rounds, device=device, report=console.info)
            cells = [c for c in cells if c.quantity != "time"] + times
        results.append(cells)
        if form == "table" and out is None:
            console.print_table(paper.to_table(cells))
    if form == "csv":
        text = paper.to_csv([cell for cells in results for cell in cells])
    else:
        text = tables.to_document(map(paper.to_table, results), "markdown" if form == "table" else form)
    if out:
        atomic_io.write_bytes(out, text.encode())
    elif form != "table":
        console.print_document(text)
