"""`robustbench results`, and what `run` and `score` print: a table per metric, and the result in a few lines."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from robustbench_sgdm.cli.shared_options import BaselineOption, ResamplesOption, RunArgument
from robustbench_sgdm.core.errors import UsageError

if TYPE_CHECKING:
    from robustbench_sgdm.api import Run
    from robustbench_sgdm.figures import RunAnalysis
    from robustbench_sgdm.tables import ScoreTables, Table

Form = Literal["table", "csv", "markdown", "latex", "json", "model-card"]
"""Of what is printed."""


def results(
    run: RunArgument,
    form: Annotated[
        Form,
        typer.Option(
            "--format",
            help="table for the terminal, csv with a row per cell, markdown or latex for documents, json for programs, "
            "model-card for the `model-index` of a model card on Hugging Face.",
        ),
    ] = "table",
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Also a table per corruption, with every model, interval and p-value; in Markdown and LaTeX every "
            "table of the report too.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write csv, markdown, latex, json or model-card into this file instead."),
    ] = None,
    baseline: BaselineOption = None,
    resamples: ResamplesOption = 1000,
) -> None:
    """Print the results of a stored run: scores by corruption and severity, P, mPC, rPC, differences, verdicts.

    No model or image is read, and nothing is computed but statistics.
    """
    from robustbench_sgdm import api, tables
    from robustbench_sgdm.cli.console import info, print_document, progress_bars
    from robustbench_sgdm.core import atomic_io, escaping

    if out is not None and form == "table":
        raise UsageError("--out is for --format csv, markdown, latex, json or model-card; choose one of them")
    with progress_bars() as progress:
        opened = api.Run.open(run, baseline=baseline, resamples=resamples, progress=progress)
        analysis = opened.analysis()
        score_tables = analysis.score_tables
    if form == "table":
        print_results(opened, every=every)
        return
    if form == "json":
        text = tables.to_json_text(results_record(opened))
    elif form == "csv":
        text = escaping.csv(analysis.results)
    elif form == "model-card":
        text = opened.model_index()
    else:
        shown = [score_tables.metric_tables(metric)[0] for metric in _metrics(analysis)]
        shown += [one for one in [score_tables.ranking(analysis.metric_name)] if one]
        if every:
            shown += [*_by_corruption(analysis), *opened.report_tables()]
        text = tables.to_document(shown, form)
    if out is None:
        print_document(text)
        return
    atomic_io.write_text(out, text)
    info(f"results     {out}")


def print_results(run: "Run", *, every: bool = False, brief: bool = False) -> None:
    """Print a table per metric and the closing lines, and the file of the scores.

    Args:
        run: whose analysis is computed if it is not yet.
        every: also a table per corruption.
        brief: only the closing lines.
    """
    from robustbench_sgdm.cli.console import (
        info,
        print_compact,
        print_labelled,
        print_line,
        print_note,
        print_numbers,
    )
    from robustbench_sgdm.tables import identical_sentence

    if not run.results().empty:
        analysis = run.analysis()
        score_tables = analysis.score_tables
        print_baseline(run)
        if not brief:
            for table in _by_corruption(analysis) if every else []:
                print_numbers(table)
            _print_once([score_tables.metric_tables(metric) for metric in _metrics(analysis)])
        if ranking := score_tables.ranking(analysis.metric_name):
            print_compact([ranking])
        if not brief:
            print_note(explain_terms(score_tables, _metrics(analysis)))
            _print_shifts(analysis)
            print_line("")
        print_labelled(score_tables.closing(analysis.metric_name))
        if not score_tables.verdicts:
            for pair, why in analysis.identical.items():
                print_line(f"{identical_sentence(*pair, why)}.")
    info(f"results     {run.path / 'results.csv'}")


def _print_once(tables: "Sequence[Sequence[Table]]") -> None:
    """Print tables of several widths each; their notes, which are the same, once."""
    from dataclasses import replace

    from robustbench_sgdm.cli.console import print_compact

    for number, widths in enumerate(tables):
        print_compact(widths if number == len(tables) - 1 else [replace(one, notes=()) for one in widths])


def explain_terms(score_tables: "ScoreTables", metrics: Sequence[str]) -> str:
    """What the tables of these metrics have and the closing lines do not explain."""
    from robustbench_sgdm.core import glossary

    has_tests = bool(score_tables.rows["significant"].any()) or bool(score_tables.ranks)
    return glossary.explain([*(m for m in metrics if m == "AP_S"), *["Holm's correction"] * has_tests])


def results_record(run: "Run") -> dict[str, object]:
    """The results of a run as `--json` prints them."""
    analysis = run.analysis()
    manifest = run.directory.manifest
    return {
        "run": str(run.path),
        "data": {"name": manifest.data.name, "images": manifest.data.images},
        "missing": [str(cell) for cell in run.directory.missing_cells()],
        "metrics": []
        if run.results().empty
        else [analysis.score_tables.record(m) for m in _metrics(analysis)],
    }


def print_baseline(run: "Run") -> None:
    """Say which model is the baseline, if nobody chose it."""
    from robustbench_sgdm.cli.console import info

    if run.default_baseline:
        info(
            f"{run.default_baseline} is the baseline because it is the first model; --baseline NAME chooses another"
        )


def _metrics(analysis: "RunAnalysis") -> list[str]:
    """The metrics to show: the data set's own, and others that it has objects for."""
    from robustbench_sgdm import tables

    known = [metric for metric in tables.METRICS_SHOWN if analysis.results[metric].notna().any()]
    return list(dict.fromkeys([analysis.metric_name, *known]))


def _by_corruption(analysis: "RunAnalysis") -> "list[Table]":
    """A table per corruption: every model, severity and metric; of the first metric with intervals and p-values."""
    from robustbench_sgdm import tables

    pairs, score_tables = analysis.run.baseline_pairs, analysis.score_tables
    tested = score_tables.rows if pairs and not score_tables.reason else None
    return tables.notes_once(tables.corruption_tables(analysis.results, pairs, _metrics(analysis), tested))


def _print_shifts(analysis: "RunAnalysis") -> None:
    """Print a table for each shift."""
    from robustbench_sgdm import tables
    from robustbench_sgdm.cli.console import print_table, warn
    from robustbench_sgdm.core.errors import DataError

    if not analysis.run.manifest.shifts:
        return
    try:
        for table in tables.shift_tables(analysis.shifts, 0.95):
            print_table(table)
    except DataError as error:
        warn(f"warning: {error}")
