"""`robustbench compare`: models side by side, with intervals; thresholds as an exit code."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from robustbench_sgdm.cli.shared_options import ResamplesOption
from robustbench_sgdm.core import parsing
from robustbench_sgdm.core.errors import UsageError

if TYPE_CHECKING:
    from robustbench_sgdm.comparison import Comparison
    from robustbench_sgdm.gate import Threshold
    from robustbench_sgdm.tables import Table


Form = Literal["table", "csv", "markdown", "latex", "json"]
"""Of what is printed."""

_LINES = 58  # without --all, of everything on standard output
_VERDICT_LINES = 12  # of those, of all verdicts; the ranking has the same differences
_CLOSING_LINES = 6  # kept for an empty line and for what is not shown


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run directories over the same images, seed and engine."),
    ],
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            help="Compare with this model; default: a module variant with its own baseline, a model of several runs with "
            "the first run's, else all with the first model.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", help="Compare these with the baseline; default: all others. Commas or repeats."
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metrics",
            "--metric",
            help="AP, AP50, AP75, AP_S, AP_M, AP_L; recall, recall_S, recall_M, recall_L, precision, F1, "
            "false_per_image, D-ECE, LaECE at --confidence; oLRP, oLRP_Loc, oLRP_FP, oLRP_FN; first-failure. "
            "Default: AP, AP_S. Commas or repeats.",
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            "--confidence",
            help="Boxes below it do not count in recall, precision and the like; default: for each model, the confidence "
            "with the highest F1 on clean images.",
        ),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            "--sizes",
            help="Ranges of object sizes in pixels, instead of COCO's: 0,16,32,96,inf gives AP_0-16, recall_16-32, ... "
            "of AP and recall in --metrics. First failures and --by-class are of all sizes.",
        ),
    ] = None,
    by_class: Annotated[
        bool,
        typer.Option(
            "--by-class",
            help="Also each class, ranked by what it loses: AP, or recall, precision and F1 where --metrics "
            "names them.",
        ),
    ] = False,
    seed_group: Annotated[
        list[str] | None,
        typer.Option(
            "--seed-group",
            "--arm",
            help="NAME=MODEL+MODEL: one network trained from several seeds; the variance between them counts too. Two "
            "groups are paired by seed if the names contain seed0, seed1, ... May be repeated.",
        ),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Every table: each mean, each cell's difference with its interval and p, half-severities, flips. "
            "Without it, what fits into 60 lines; csv, markdown, latex and json always have everything.",
        ),
    ] = False,
    resamples: ResamplesOption = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the resamples.")] = 0,
    level: Annotated[
        float, typer.Option("--level", help="Confidence level of the intervals, in (0, 1).")
    ] = 0.95,
    form: Annotated[
        Form,
        typer.Option(
            "--format",
            help="table for the terminal, csv with a row per number, markdown or latex for documents, json for programs.",
        ),
    ] = "table",
    out: Annotated[
        Path | None, typer.Option("--out", help="Write csv, markdown, latex or json into this file instead.")
    ] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-under",
            help="Exit with 3 if a score is lower: rPC=50, mPC:AP_S=10, or AP=20 for every cell. Commas or repeats.",
        ),
    ] = None,
    max_drop: Annotated[
        list[str] | None,
        typer.Option(
            "--max-drop",
            help="Exit with 3 if a score is further below its baseline's: mPC=1, or AP_S=1.0 for every cell.",
        ),
    ] = None,
    drops: Annotated[
        Literal["significant", "any"],
        typer.Option(
            "--drops",
            help="Which drops fail: those that are significant after Holm's correction, or any.",
        ),
    ] = "significant",
    junit: Annotated[
        Path | None, typer.Option("--junit", help="Also write the results of the thresholds as JUnit XML.")
    ] = None,
) -> None:
    """Compare the models of runs: clean and mean scores, differences, intervals, p-values, flips.

    The same images are resampled for every cell and model, so that differences are paired. Exit code 3: a
    threshold failed.
    """
    from robustbench_sgdm import api, gate
    from robustbench_sgdm.cli.console import info, progress_bars

    opened = [api.Run.open(path) for path in {path.resolve(): path for path in runs}.values()]
    known = api.comparison_names(opened)
    groups = _groups(seed_group or [], known)
    with progress_bars() as progress:
        comparison = api.compare(
            opened,
            baseline=baseline,
            models=parsing.split_list(model or [], {*known, *groups}.__contains__),
            metrics=parsing.split_list(metric or []),
            confidence=confidence,
            sizes=sizes,
            by_class=by_class,
            seed_groups=groups,
            resamples=resamples,
            seed=seed,
            level=level,
            progress=progress,
        )
        metric_name = comparison.primary_metric
        given: dict[gate.Kind, list[str]] = {"fail-under": fail_under or [], "max-drop": max_drop or []}
        thresholds = [
            gate.parse_threshold(text, kind, metric_name, comparison.known_metrics)
            for kind, texts in given.items()
            for text in parsing.split_list(texts)
        ]
        if junit and not thresholds:
            raise UsageError("--junit needs a threshold: --fail-under or --max-drop")
        # Computed below the progress bars, which must be gone before tables are printed.
        _ = comparison.rows() if every or form != "table" or out else comparison.short_tables()
    if comparison.default_baseline:
        info(
            f"{comparison.default_baseline} is the baseline because it is the first model; --baseline NAME chooses "
            "another"
        )
    _print(comparison, form, out, every)
    if thresholds:
        _check(comparison, thresholds, drops == "significant", junit)


def _groups(values: Sequence[str], known: Collection[str]) -> dict[str, list[str]]:
    """The groups of --seed-group; a comma or + in the name of a known model belongs to it."""

    def is_whole(text: str) -> bool:
        name, _, models = text.partition("=")
        return bool(name) and set(_members(models, known)) <= set(known)

    groups: dict[str, list[str]] = {}
    for value in parsing.split_list(values, is_whole):
        name, equals, models = value.partition("=")
        if not equals or not name:
            raise UsageError(f"--seed-group {value!r} is not NAME=MODEL+MODEL")
        if name in groups:
            raise UsageError(f"--seed-group {name} is given twice; join its models with +")
        groups[name] = [m for m in _members(models, known) if m]
    return groups


def _members(text: str, known: Collection[str]) -> list[str]:
    """The models that + joins, each the longest that is known."""
    parts, members = text.split("+"), []
    while parts:
        lengths = range(len(parts), 0, -1)
        length = next((n for n in lengths if "+".join(parts[:n]) in known), 1)
        members.append("+".join(parts[:length]))
        parts = parts[length:]
    return members


def _print(comparison: "Comparison", form: Form, out: Path | None, every: bool) -> None:
    from robustbench_sgdm import tables
    from robustbench_sgdm.cli.console import info, print_document, print_labelled, print_numbers
    from robustbench_sgdm.core import atomic_io, escaping

    if form == "table" and out is None:
        closing = [
            line for line in comparison.score_tables.closing(comparison.metrics[0]) if line[0] == "verdict"
        ]
        if not every:
            _print_short(comparison, closing)
            return
        for table in comparison.tables():
            print_numbers(table)
        every_pair = [("verdict", verdict.headline) for verdict in comparison.verdicts]
        print_labelled(dict.fromkeys([*closing, *every_pair]))
        return
    if form == "csv":
        text = escaping.csv(comparison.rows())
    elif form == "json":
        text = tables.to_json(comparison.rows())
    else:
        text = tables.to_document(comparison.tables(), "markdown" if form == "table" else form)
    for pair, why in comparison.identical.items():
        info(tables.identical_sentence(*pair, why))
    if out is None:
        print_document(text)
        return
    atomic_io.write_text(out, text)
    info(f"comparison  {out}")


def _print_short(comparison: "Comparison", verdicts: Sequence[tuple[str, str]]) -> None:
    """Print the most important tables and verdicts, as many as fit into a screen, and say what does not."""
    from robustbench_sgdm.cli import console
    from robustbench_sgdm.cli.results import explain_terms

    shown = list(verdicts)
    while len(shown) > 1 and len(console.labelled_lines(shown)) > _VERDICT_LINES:
        shown.pop()
    missed = len(verdicts) - len(shown)
    left_out = [console.pluralize(missed, "verdict")] if missed else []
    terms = explain_terms(comparison.score_tables, comparison.metrics)
    room = _LINES - _CLOSING_LINES - len(console.labelled_lines(shown)) - len(console.note_lines(terms))
    for number, widths in enumerate(comparison.short_tables()):
        whole = len(widths[0].rows)
        rows = whole if number else _rows_that_fit(widths, room)
        count = len(console.compact_lines(_cut(widths, rows)))
        if rows < whole:
            left_out.append(f"{console.pluralize(whole - rows, 'row')} of {widths[0].title}")
        if number and count > room:
            left_out.append(widths[0].title)
            continue
        room -= count
        console.print_compact(_cut(widths, rows))
    console.print_note(terms)
    console.print_line("")
    if left_out:
        console.print_note(f"Not shown: {'; '.join(left_out)}. --all prints everything.")
    console.print_labelled(shown)


def _rows_that_fit(widths: "Sequence[Table]", room: int) -> int:
    """How many of a table's rows can be printed in so many lines; at least one."""
    from robustbench_sgdm.cli.console import compact_lines

    rows = len(widths[0].rows)
    while rows > 1 and len(compact_lines(_cut(widths, rows))) > room:
        rows -= 1
    return rows


def _cut(widths: "Sequence[Table]", rows: int) -> "list[Table]":
    return [replace(table, rows=table.rows[:rows]) for table in widths]


def _check(
    comparison: "Comparison", thresholds: "Sequence[Threshold]", significant: bool, junit: Path | None
) -> None:
    from robustbench_sgdm import gate
    from robustbench_sgdm.cli.console import info
    from robustbench_sgdm.core import atomic_io

    results = comparison.check(thresholds, significant=significant)
    failed = [result for result in results if not result.passed]
    for one in failed:
        info(f"--{one.threshold.kind} {one.threshold.text} failed: {one.subject}: {one.message}")
    for line in gate.summarize_results(results):
        info(line)
    if junit:
        atomic_io.write_text(junit, gate.to_junit(results))
    if failed:
        raise typer.Exit(gate.EXIT_CODE)
