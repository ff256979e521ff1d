"""What `run` and `score` print of a run: its tables, with significant differences marked."""

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from robustbench_sgdm.api import Run
    from robustbench_sgdm.figures import RunAnalysis
    from robustbench_sgdm.tables import Table


def print_results(run: "Run") -> None:
    """Print a table per corruption, in parts where the terminal is narrow."""
    from robustbench_sgdm.cli.console import info, print_line, print_numbers, progress_bars
    from robustbench_sgdm.core.errors import DataError
    from robustbench_sgdm.tables import identical_sentence

    with progress_bars() as progress:
        analysis = replace(run, progress=progress).analysis()
        if run.directory.baseline_pairs:
            with suppress(DataError):  # the report says why there are no intervals
                _ = analysis.intervals
    if not run.results().empty:
        print_baseline(run)
        notes: dict[str, None] = {}
        for table, parts in _tables(analysis):
            for part in parts:
                print_numbers(replace(part, notes=()))
            notes |= dict.fromkeys(table.notes)
        notes |= {f"{identical_sentence(*pair, why)}.": None for pair, why in analysis.identical.items()}
        for text in notes:  # the same for all tables
            print_line(text)
    if run.directory.manifest.shifts:
        _print_shifts(analysis)
    info(f"results {run.path / 'results.csv'}")


def _print_shifts(analysis: "RunAnalysis") -> None:
    """Print a table for each shift."""
    from robustbench_sgdm import tables
    from robustbench_sgdm.cli.console import info, print_table
    from robustbench_sgdm.core.errors import DataError

    try:
        for table in tables.shift_tables(analysis.shifts, 0.95):
            print_table(table)
    except DataError as error:
        info(f"warning: {error}")


def print_baseline(run: "Run") -> None:
    """Say which model is the baseline, if nobody chose it."""
    from robustbench_sgdm.cli.console import info

    if run.default_baseline:
        info(f"{run.default_baseline} is the baseline, as the first model; --baseline NAME takes another")


def _tables(analysis: "RunAnalysis") -> "list[tuple[Table, list[Table]]]":
    """Each corruption's table, and the parts of it that fit the terminal."""
    from robustbench_sgdm import tables
    from robustbench_sgdm.cli.console import fits_terminal
    from robustbench_sgdm.core.errors import DataError

    results, all_pairs, intervals = analysis.results, analysis.run.baseline_pairs, None
    with suppress(DataError):
        intervals = analysis.intervals if all_pairs else None
    metrics = list(dict.fromkeys([analysis.metric_name, *tables.METRICS_SHOWN]))

    def part(title: str, metric: str, pairs: "Sequence[tuple[str, str]]") -> "list[Table]":
        names = {name for pair in pairs for name in pair}
        rows = results[results["model"].isin(names)] if len(pairs) == 1 else results
        return [t for t in tables.corruption_tables(rows, pairs, [metric], intervals) if t.title == title]

    split = []
    for table in tables.corruption_tables(results, all_pairs, metrics, intervals):
        parts = [table]
        if not fits_terminal(table):
            parts = [t for metric in metrics for t in part(table.title, metric, all_pairs)]
        if not all(map(fits_terminal, parts)) and len(all_pairs) > 1:
            parts = [
                replace(t, title=f"{t.title}: {model} minus {baseline}")
                for metric in metrics
                for baseline, model in all_pairs
                for t in part(table.title, metric, [(baseline, model)])
            ]
        split.append((table, parts))
    return split
