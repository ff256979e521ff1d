"""`robustbench compare`: models side by side, with intervals; limits as an exit code."""

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_sgdm.cli import options
from robustbench_sgdm.cli.common import ResamplesOption
from robustbench_sgdm.cli.figure import tell_baseline

if TYPE_CHECKING:
    import pandas as pd

    from robustbench_sgdm.gate import Limit
    from robustbench_sgdm.robustness import Intervals
    from robustbench_sgdm.store import Run


class Form(StrEnum):
    """Of what is printed."""

    table = "table"
    csv = "csv"
    markdown = "markdown"
    json = "json"


class Drops(StrEnum):
    """That count against --max-drop."""

    significant = "significant"
    any = "any"


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Run directories over the same images, seed and engine; several are put together."
        ),
    ],
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            help="Compare with this model; default: a module variant with its own, a model of several runs with the "
            "first run's, else all with the first.",
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
            "--metric", help="AP, AP50, AP75, AP_S, AP_M, AP_L; default: AP, AP_S. Commas or repeats."
        ),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            "--seed-group",
            "--arm",
            help="NAME=MODEL+MODEL: one network trained from several seeds, whose spread counts too. Two such are paired "
            "by seed where names hold seed0, seed1, ... Repeats.",
        ),
    ] = None,
    resamples: ResamplesOption = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the resamples.")] = 0,
    level: Annotated[float, typer.Option("--level", help="Of the intervals, in (0, 1).")] = 0.95,
    form: Annotated[
        Form,
        typer.Option("--format", help="For the terminal, a row per number, for a document, for programs."),
    ] = Form.table,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write csv, markdown or json there instead.")
    ] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-under",
            help="Exit with 3 if a model has less: rPC=50, mPC:AP_S=10, or AP=20 for every cell. Commas or repeats.",
        ),
    ] = None,
    max_drop: Annotated[
        list[str] | None,
        typer.Option(
            "--max-drop",
            help="Exit with 3 if a model lies further below its baseline: mPC=1, or AP_S=1.0 for every cell.",
        ),
    ] = None,
    drops: Annotated[
        Drops,
        typer.Option(
            "--drops",
            help="Which drops count: those that are significant after Holm's correction, or any.",
        ),
    ] = Drops.significant,
    junit: Annotated[
        Path | None, typer.Option("--junit", help="Also write the limits' verdicts as JUnit XML.")
    ] = None,
) -> None:
    """Put the models of runs side by side: clean and mean scores, differences, intervals, p-values, flips.

    The same images are resampled for every cell and model, so that differences are paired. Exit code 3: a limit was
    not kept.
    """
    from robustbench_sgdm import gate, robustness
    from robustbench_sgdm.core.errors import UsageError, unknown_name_error
    from robustbench_sgdm.store import Run

    opened = [Run.open(path) for path in {path.resolve(): path for path in runs}.values()]
    headline = robustness.headline(opened[0])
    limits = [gate.parse(t, "fail-under", headline) for t in options.split(fail_under or [])]
    limits += [gate.parse(t, "max-drop", headline) for t in options.split(max_drop or [])]
    if junit and not limits:
        raise UsageError("--junit needs a limit: --fail-under or --max-drop")
    if not baseline and all(run.first_is_baseline for run in opened):
        tell_baseline(opened[0])
    metrics = options.split(metric or []) or list(dict.fromkeys([headline, "AP_S"]))
    for name in metrics:
        if name not in robustness.METRICS:
            raise unknown_name_error("metric", name, robustness.METRICS)
    known = {name for names in robustness.model_names(opened) for name in names.values()}
    found = _bootstrap(opened, resamples, seed, level, _groups(arm or [], known))
    pairs = _pairs(found, baseline, options.split(model or [], found.groups.__contains__))
    shown = (
        list(dict.fromkeys(m for pair in pairs for m in pair)) if baseline or model else list(found.groups)
    )
    if baseline is None and all(run.first_is_baseline for run in opened) and len({b for b, _ in pairs}) == 1:
        tell_baseline(opened[0], pairs)
    _print(found, pairs, shown, metrics, form, out)
    if limits:
        _hold(found, pairs, limits, drops is Drops.significant, junit)


def _groups(values: Sequence[str], known: Collection[str]) -> dict[str, list[str]]:
    """The groups of --seed-group; a comma or + in the name of a known model belongs to it."""
    from robustbench_sgdm.core.errors import UsageError

    def is_whole(text: str) -> bool:
        name, _, models = text.partition("=")
        return bool(name) and set(_members(models, known)) <= set(known)

    groups: dict[str, list[str]] = {}
    for value in options.split(values, is_whole):
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


def _bootstrap(
    runs: "Sequence[Run]", resamples: int, seed: int, level: float, groups: Mapping[str, Sequence[str]]
) -> "Intervals":
    from robustbench_sgdm.cli.console import counting
    from robustbench_sgdm.core.errors import DataError
    from robustbench_sgdm.robustness import bootstrap

    total = 0
    for run in runs:
        done = len(run.cells) - len(run.missing())
        if not done:
            raise DataError(
                f"{run.path} has no complete cell to compare; start it again with the same command"
            )
        total += done
    with counting("resampling", total) as update:
        return bootstrap(runs, resamples=resamples, seed=seed, level=level, groups=groups, progress=update)


def _pairs(found: "Intervals", baseline: str | None, models: Sequence[str]) -> list[tuple[str, str]]:
    from robustbench_sgdm.core.errors import UsageError, unknown_name_error

    for name in [*models, *([baseline] if baseline else [])]:
        if name not in found.groups:
            raise unknown_name_error("model", name, found.groups)
    if baseline is None:
        lone = [m for m in models if m not in {module for _, module in found.pairs}]
        if lone:
            raise UsageError(f"{lone[0]} has no baseline in these runs; give --baseline")
        return [pair for pair in found.pairs if not models or pair[1] in models]
    if set(models) == {baseline}:
        raise UsageError(f"--model and --baseline are both {baseline}; name another model")
    return [(baseline, m) for m in models or found.groups if m != baseline]


def _print(
    found: "Intervals",
    pairs: Sequence[tuple[str, str]],
    models: Sequence[str],
    metrics: Sequence[str],
    form: Form,
    out: Path | None,
) -> None:
    from robustbench_sgdm import robustness, tables
    from robustbench_sgdm.cli.console import document, note, show_numbers
    from robustbench_sgdm.core import atomic_io, escaping

    table = found.table(metrics, pairs=pairs)
    lives = robustness.half_lives(found, metrics[0], models)
    flipped = _flips(found, [trained for pair in pairs for trained in found.trainings(*pair)])
    same = _identical(found, pairs)
    if form in (Form.csv, Form.json):
        rows = tables.comparison_rows(table, lives, flipped)
        text = escaping.csv(rows) if form is Form.csv else tables.to_json(rows)
    else:
        shown = tables.comparison_tables(table, found.level, same)
        shown += [tables.half_life_table(lives)] if len(lives) else []
        shown += [tables.flip_table(counts, *pair) for pair, counts in flipped.items()]
        if form is Form.table and out is None:
            for one in shown:
                show_numbers(one)
            over = next(iter(found.over), None)
            for verdict in tables.verdicts(table, pairs, metrics[0], over, same, level=found.level):
                note(f"verdict {verdict.headline}")
            return
        text = "\n".join(map(tables.to_markdown, shown))
    for pair, why in same.items():
        note(tables.identical_words(*pair, why))
    if out is None:
        document(text)
        return
    atomic_io.write_text(out, text)
    note(f"comparison  {out}")


def _identical(found: "Intervals", pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The pairs that put out the same, and why."""
    from robustbench_sgdm.robustness import why_identical

    reasons = {
        pair: why_identical((found.sources[one], found.sources[two]) for one, two in found.trainings(*pair))
        for pair in pairs
    }
    return {pair: why for pair, why in reasons.items() if why}


def _flips(found: "Intervals", pairs: Sequence[tuple[str, str]]) -> "dict[tuple[str, str], pd.DataFrame]":
    """Counts of the pairs that lie in one run, which alone has both models' boxes side by side."""
    from robustbench_sgdm.cli.console import counting
    from robustbench_sgdm.robustness import flips

    counted = {}
    for pair in pairs:
        (run, baseline), (other, model) = (found.sources[name] for name in pair)
        if run is not other:
            continue
        with counting("flips", sum(c.model == model for c in run.cells)) as update:
            counts = flips(run, baseline, model, level=found.level, progress=update).counts
        if len(counts):
            counted[pair] = counts
    return counted


def _hold(
    found: "Intervals",
    pairs: Sequence[tuple[str, str]],
    limits: "Sequence[Limit]",
    significant: bool,
    junit: Path | None,
) -> None:
    from robustbench_sgdm import gate
    from robustbench_sgdm.cli.console import note
    from robustbench_sgdm.core import atomic_io

    table = found.table(list(dict.fromkeys(limit.metric for limit in limits)), pairs=pairs)
    verdicts = gate.check(table, limits, significant=significant)
    broken = [v for v in verdicts if not v.kept]
    for v in broken:
        note(f"--{v.limit.kind} {v.limit.text} not kept: {v.subject}: {v.message}")
    for line in gate.told(verdicts):
        note(line)
    if junit:
        atomic_io.write_text(junit, gate.junit(verdicts))
    if broken:
        raise typer.Exit(gate.EXIT_CODE)
