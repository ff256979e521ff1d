"""What `run` and `score` print of a run: its tables, with the differences that are significant."""

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from robustbench_sgdm.store import Run
    from robustbench_sgdm.tables import Table


def show_results(run: "Run") -> None:
    """Print a table per corruption, in parts where the terminal is narrow."""
    from robustbench_sgdm import robustness, tables
    from robustbench_sgdm.cli.console import fits, line, note, show_numbers

    results = robustness.average_trainings(run.results(), run.groups)
    intervals = None if results.empty else _intervals(run)
    metrics = list(dict.fromkeys([robustness.headline(run), *tables.METRICS_SHOWN]))
    notes: dict[str, None] = {}

    def of(title: str, metric: str, pairs: "Sequence[tuple[str, str]]") -> "list[Table]":
        names = {name for pair in pairs for name in pair}
        rows = results[results["model"].isin(names)] if len(pairs) == 1 else results
        found = tables.corruption_tables(rows, pairs, [metric], intervals)
        return [t for t in found if t.title == title]

    for table in tables.corruption_tables(results, run.pairs, metrics, intervals):
        parts = [table]
        if not fits(table):
            parts = [t for metric in metrics for t in of(table.title, metric, run.pairs)]
        if not all(map(fits, parts)) and len(run.pairs) > 1:
            parts = [
                replace(t, title=f"{t.title}: {model} minus {baseline}")
                for metric in metrics
                for baseline, model in run.pairs
                for t in of(table.title, metric, [(baseline, model)])
            ]
        for part in parts:
            show_numbers(replace(part, notes=()))
        notes |= dict.fromkeys(table.notes)
    same = robustness.identical(run)
    notes |= dict.fromkeys(f"{tables.identical_words(*pair, why)}." for pair, why in same.items())
    for text in notes:  # the same for all tables
        line(text)
    note(f"results {run.path / 'results.csv'}")


def _intervals(run: "Run") -> "pd.DataFrame | None":
    """Of the differences; None where they cannot be made, for a reason that the report names."""
    from robustbench_sgdm import robustness
    from robustbench_sgdm.cli.console import counting
    from robustbench_sgdm.core.errors import DataError

    if not run.pairs:
        return None
    try:
        with counting("resampling", len(run.cells) - len(run.missing())) as update:
            return robustness.bootstrap(run, progress=update).table()
    except DataError:
        return None
