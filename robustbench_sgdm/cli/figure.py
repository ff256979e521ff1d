"""`robustbench figure` and `robustbench report`: drawings of a stored run."""

import contextlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_sgdm.cli.results import print_baseline
from robustbench_sgdm.cli.shared_options import (
    BaselineOption,
    CorruptionDirOption,
    ResamplesOption,
    RunArgument,
)
from robustbench_sgdm.core import parsing

if TYPE_CHECKING:
    from robustbench_sgdm.api import Run


def figure(
    name: Annotated[str, typer.Argument(help="Name of the figure; see `robustbench list figures`.")],
    run: RunArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="File to write; its ending decides: .svg, .png or .pdf. Default: NAME.svg."
        ),
    ] = None,
    metric: Annotated[
        str, typer.Option("--metric", help="One of COCO's twelve, such as AP50; default: the data set's own.")
    ] = "",
    image: Annotated[
        list[str] | None,
        typer.Option("--image", help="side-by-side: ids of images to show. Several: commas or repeats."),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option("--noise", help="side-by-side: corruption@severity to show, such as gaussian_noise@3."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="side-by-side: show this model; default: the first that is compared."),
    ] = None,
    baseline: BaselineOption = None,
    rows: Annotated[
        int, typer.Option("--rows", min=1, help="side-by-side: images for each direction of flips.")
    ] = 2,
    confidence: Annotated[
        float,
        typer.Option("--conf", min=0, max=1, help="side-by-side: lowest confidence of a box that is shown."),
    ] = 0.25,
    resamples: ResamplesOption = 1000,
    corruptions: CorruptionDirOption = None,
) -> None:
    """Draw one figure of a stored run.

    Statistics that it needs are computed once and cached in the run directory. Side-by-side figures show the images with
    most flips between the two models, in both directions, unless --image chooses some.
    """
    from robustbench_sgdm import api, figures
    from robustbench_sgdm.cli.console import info, progress_bars
    from robustbench_sgdm.tables import identical_sentence

    path = out or Path(f"{name}.svg")
    figures.check_suffix(path)
    with progress_bars() as progress:
        pair = (baseline, model) if baseline and model and name == "side-by-side" else None
        opened = api.Run.open(
            run,
            baseline=None if pair else baseline,
            resamples=resamples,
            corruptions=corruptions or [],
            progress=progress,
        )
        drawn = opened.figure(
            name,
            metric=metric,
            model=pair or model,
            images=_ids(image or []),
            noise=_noise(noise),
            rows=rows,
            confidence=confidence,
        )
        drawn.save(path)
    for identical, why in opened.analysis().identical.items():
        info(identical_sentence(*identical, why))
    info(f"figure  {path}")


def report(
    runs: Annotated[
        list[Path], typer.Argument(help="A run directory, or several over the same images, seed and engine.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="New run directory into which several runs are joined, with the report."),
    ] = None,
    baseline: BaselineOption = None,
    resamples: ResamplesOption = 1000,
    corruptions: CorruptionDirOption = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Write only the first page, as summary.html and summary.pdf.")
    ] = False,
    paper: Annotated[str, typer.Option("--paper", help="Page size of the PDF: A4 or letter.")] = "A4",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print only warnings and errors.")] = False,
) -> None:
    """Write a stored run's report.html and report.pdf, and its figures with their data.

    Statistics that are not cached yet are computed. Sections without data are left out. Several runs are joined into the
    run directory --out, with one report; a model that several have is compared with the first run's.
    """
    from robustbench_sgdm import api
    from robustbench_sgdm.cli import console
    from robustbench_sgdm.core.errors import UsageError

    if (len(runs) > 1) != (out is not None):
        raise UsageError("several runs need --out DIR, where they are joined, and --out needs several runs")
    run = runs[0]
    if out is not None:
        run = api.join_runs(runs, out, command=shlex.join(["robustbench", *sys.argv[1:]])).path
    opened = api.Run.open(run, baseline=baseline, resamples=resamples, corruptions=corruptions or [])
    with console.quiet(quiet):
        print_baseline(opened)
        write_report(opened, summary=summary, page_size=paper)


def write_report(run: "Run", *, summary: bool = False, page_size: str = "A4") -> None:
    """Write both files and print the verdicts; missing images are logged."""
    from robustbench_sgdm.cli.console import info, progress_bars
    from robustbench_sgdm.core.errors import DataError

    with progress_bars() as progress:
        run = replace(run, progress=progress)
        paths = run.report(summary=summary, page_size=page_size)
    with contextlib.suppress(DataError):  # the report says why there are none
        for verdict in run.verdicts():
            info(f"verdict {verdict}")
    for path in paths:
        info(f"report  {path}")


def _ids(values: Sequence[str]) -> list[int]:
    from robustbench_sgdm.core.errors import UsageError

    try:
        return [int(value) for value in parsing.split_list(values)]
    except ValueError:
        raise UsageError(f"--image {','.join(values)} must be image ids, such as 139,285") from None


def _noise(value: str | None) -> tuple[str, float] | None:
    from robustbench_sgdm.core.errors import UsageError

    if value is None:
        return None
    name, _, severity = value.replace(":", "@").rpartition("@")  # `:` as older versions had it
    try:
        return name, float(severity)
    except ValueError:
        raise UsageError(f"--noise {value} must be corruption@severity, such as gaussian_noise@3") from None
