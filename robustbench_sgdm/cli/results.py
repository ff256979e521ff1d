"""What `run` and `score` print of a run: its tables, with the differences that are significant."""

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from robustbench_sgdm.store import Run


def show_results(run: "Run") -> None:
    """Write `results.csv`, and print a table per corruption, in parts where the terminal is narrow."""
    from robustbench_sgdm import robustness, tables
    from robustbench_sgdm.cli.console import fits, note, out, show

    csv = run.write_results()
    results = robustness.average_trainings(run.results(), run.groups)
    intervals = None if results.empty else _intervals(run)
    metrics = list(dict.fromkeys([_primary(run), *tables.METRICS_SHOWN]))
    notes: dict[str, None] = {}
    for table in tables.corruption_tables(results, run.pairs, metrics, intervals):
        parts = [table]
        if not fits(table):
            narrow = (tables.corruption_tables(results, run.pairs, [m], intervals) for m in metrics)
            parts = [t for found in narrow for t in found if t.title == table.title]
        for part in parts:
            show(replace(part, notes=()))
        notes |= dict.fromkeys(table.notes)
    same = robustness.identical(run)
    told = [f"{tables.identical_words(*pair, why)}." for pair, why in same.items()]
    for line in [*notes, *told]:  # the same for all tables
        out.print(line, highlight=False, soft_wrap=True, markup=False)
    note(f"results {csv}")


def _primary(run: "Run") -> str:
    from robustbench_sgdm import robustness
    from robustbench_sgdm.errors import DataError

    try:
        return robustness.headline(run)
    except DataError:  # an older run, without its ground truth
        return "AP"


def _intervals(run: "Run") -> "pd.DataFrame | None":
    """Of the differences; None where they cannot be made, for a reason that the report names."""
    from robustbench_sgdm import robustness
    from robustbench_sgdm.cli.console import counting
    from robustbench_sgdm.errors import DataError

    if not run.pairs:
        return None
    try:
        with counting("resampling", len(run.cells) - len(run.missing())) as update:
            return robustness.bootstrap(run, progress=update).table()
    except DataError:
        return None
