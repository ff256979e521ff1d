"""`robustbench figure` and `robustbench report`: drawings of a stored run."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_sgdm.cli import options
from robustbench_sgdm.cli.common import BaselineOption, CorruptionDirOption, ResamplesOption, RunArgument

if TYPE_CHECKING:
    from robustbench_sgdm.store import Run


def figure(
    name: Annotated[str, typer.Argument(help="Which one; `robustbench list figures` shows them.")],
    run: RunArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="File to write; its ending decides: .svg, .png or .pdf. Default: NAME.svg."
        ),
    ] = None,
    metric: Annotated[
        str, typer.Option("--metric", help="Of COCO's twelve, such as AP50; default: the data set's own.")
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
        typer.Option("--conf", min=0, max=1, help="side-by-side: least confidence of a box that is shown."),
    ] = 0.25,
    resamples: ResamplesOption = 1000,
    corruptions: CorruptionDirOption = None,
) -> None:
    """Draw one figure of a stored run.

    Statistics that it needs are made once and kept in the run directory. Side-by-side figures show the
    images that the two models flip most, in both directions, unless you name some.
    """
    from robustbench_sgdm import api, figures
    from robustbench_sgdm.cli.console import note, stages
    from robustbench_sgdm.core.errors import unknown_name_error
    from robustbench_sgdm.tables import identical_words

    if name not in figures.figures():
        raise unknown_name_error("figure", name, figures.figures())
    path = out or Path(f"{name}.svg")
    figures.check_ending(path)
    with stages() as progress:
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
    for pair, why in opened.analysis().identical.items():
        note(identical_words(*pair, why))
    note(f"figure  {path}")


def report(
    run: RunArgument,
    baseline: BaselineOption = None,
    resamples: ResamplesOption = 1000,
    corruptions: CorruptionDirOption = None,
) -> None:
    """Write a stored run's report.html and report.pdf, and its figures with their data.

    Statistics that are not kept yet are made and kept. What the run has no data for is left out.
    """
    from robustbench_sgdm.store import Run

    opened = Run.open(run, baseline=baseline)
    tell_baseline(opened)
    write_report(opened, resamples, corruptions or [])


def tell_baseline(run: "Run", pairs: Sequence[tuple[str, str]] | None = None) -> None:
    """Say which model is the baseline, of the run's pairs or of others, where that is only its place."""
    from robustbench_sgdm.cli.console import note

    pairs = run.pairs if pairs is None else pairs
    if run.first_is_baseline and pairs:
        note(f"{pairs[0][0]} is the baseline, as the first model; --baseline NAME takes another")


def write_report(run: "Run", resamples: int = 1000, folders: Sequence[Path] = ()) -> None:
    """Pictures, figures, both files; notes what is left out and where the files are."""
    from robustbench_sgdm import api
    from robustbench_sgdm.cli.console import note, stages
    from robustbench_sgdm.core.errors import DataError

    with stages() as progress:
        opened = api.Run(run, resamples, folders, progress)
        html, pdf = opened.report()
        with contextlib.suppress(DataError):  # the report says why there is none
            for verdict in opened.verdicts():
                note(f"verdict {verdict}")
    for path in (html, pdf):
        note(f"report  {path}")


def _ids(values: Sequence[str]) -> list[int]:
    from robustbench_sgdm.core.errors import UsageError

    try:
        return [int(value) for value in options.split(values)]
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
