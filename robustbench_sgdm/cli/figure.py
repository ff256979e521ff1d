"""`robustbench figure` and `robustbench report`: drawings of a stored run."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_sgdm.cli import options
from robustbench_sgdm.types import FIGURES

if TYPE_CHECKING:
    from robustbench_sgdm.figures import Material, Shown
    from robustbench_sgdm.store import Run

RunArgument = Annotated[Path, typer.Argument(help="A run directory, as `robustbench run` leaves it.")]
CorruptionsOption = Annotated[
    list[Path] | None,
    typer.Option("--corruptions", help="Folder with corruptions of your own; may be repeated."),
]
BASELINE = (
    "Compare all others with this model; default: a module variant with its own, else all with the first."
)
BaselineOption = Annotated[str | None, typer.Option("--baseline", help=BASELINE)]
ResamplesOption = Annotated[
    int, typer.Option("--resamples", min=2, help="Draws of the bootstrap behind every interval.")
]


def figure(
    name: Annotated[
        str, typer.Argument(help=f"Which: {'; '.join(f'{n}: {what}' for n, what in FIGURES.items())}.")
    ],
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
        typer.Option("--noise", help="side-by-side: corruption:severity to show, such as gaussian_noise:3."),
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
    corruptions: CorruptionsOption = None,
) -> None:
    """Draw one figure of a stored run.

    Statistics that it needs are made once and kept in the run directory. Side-by-side figures show the
    images that the two models flip most, in both directions, unless you name some.
    """
    from robustbench_sgdm import figures
    from robustbench_sgdm.cli.console import note, stages
    from robustbench_sgdm.errors import unknown
    from robustbench_sgdm.store import Run
    from robustbench_sgdm.tables import identical_words

    if name not in FIGURES:
        raise unknown("figure", name, FIGURES)
    path = out or Path(f"{name}.svg")
    figures.check_ending(path)
    opened = Run.open(run)
    models = None
    if name == "side-by-side" and model:
        models = _models(opened, baseline, model)
    elif baseline:
        opened = opened.against(baseline)
    with stages() as progress:
        material = figures.Material(
            opened, metric, _ids(image or []), _noise(noise), rows, confidence, resamples, progress, models
        )
        wanted = {"side-by-side": lambda: material.pictures, "contact-sheet": lambda: material.sheet}
        if name in wanted:
            make_pictures(material, wanted[name](), corruptions or [], progress)
        figures.save(figures.draw(name, material).figure, path)
    for pair, why in material.identical.items():
        note(identical_words(*pair, why))
    note(f"figure  {path}")


def report(
    run: RunArgument,
    baseline: BaselineOption = None,
    resamples: ResamplesOption = 1000,
    corruptions: CorruptionsOption = None,
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
    from robustbench_sgdm import report as reporting
    from robustbench_sgdm.cli.console import note, stages
    from robustbench_sgdm.errors import DataError, UnsafeFileError
    from robustbench_sgdm.figures import Material

    with stages() as progress:
        material = Material(run, resamples=resamples, progress=progress)
        for each, wanted in [*((pair, "pictures") for pair in material.by_pair), (material, "sheet")]:
            try:
                make_pictures(each, getattr(each, wanted), folders, progress)
            except (DataError, UnsafeFileError, ImportError) as error:
                note(f"without some pictures: {error}")
        html, pdf = reporting.write(material)
    with contextlib.suppress(DataError):  # the report says why there is none
        for verdict in material.verdicts:
            note(f"verdict {verdict.headline}")
    for path in (html, pdf):
        note(f"report  {path}")


def make_pictures(
    material: "Material",
    wanted: "Sequence[Shown]",
    folders: Sequence[Path],
    progress: Callable[[str, int, int], None],
) -> None:
    """Keep the pictures that a run lacks, from its data set's images."""
    from robustbench_sgdm.store import has_picture

    todo = [picture for picture in dict.fromkeys(wanted) if not has_picture(material.run, *picture)]
    if not todo:
        return  # neither torch nor the images are needed
    from robustbench_sgdm import corruption, sweep
    from robustbench_sgdm.errors import UsageError
    from robustbench_sgdm.figures import counter

    registry, known = corruption.load(folders), {}
    for name in dict.fromkeys(name for name, *_ in todo):
        with contextlib.suppress(UsageError):  # one that is not there is told of where it is needed
            known[name] = registry.get(name)
    sweep.make_pictures(material.run, todo, known, progress=counter(progress, "making pictures", len(todo)))


def _models(run: "Run", baseline: str | None, model: str) -> tuple[str, str]:
    """Single trainings of what was asked for, trainings or networks: of one seed where both have it."""
    from robustbench_sgdm.errors import UsageError, unknown

    groups, seeds = run.groups, run.seeds
    known = dict.fromkeys([*groups, *run.plan["models"]])
    for name in [model, *([baseline] if baseline else [])]:
        if name not in known:
            raise unknown("model", name, known)
    if baseline is None:
        pairs = [pair for pair in [*run.pairs, *run.trained_pairs] if pair[1] == model]
        if not pairs:
            raise UsageError(f"--model {model} has no baseline in this run; give --baseline too")
        baseline = pairs[0][0]
    sides = [groups.get(name, [name]) for name in (baseline, model)]
    found = [(b, m) for b in sides[0] for m in sides[1] if b != m]
    if not found or model == baseline:
        raise UsageError(f"--model and --baseline are both {model}; name another model")
    return next(((b, m) for b, m in found if b in seeds and seeds[b] == seeds.get(m)), found[0])


def _ids(values: Sequence[str]) -> list[int]:
    from robustbench_sgdm.errors import UsageError

    try:
        return [int(value) for value in options.split(values)]
    except ValueError:
        raise UsageError(f"--image {','.join(values)} must be image ids, such as 139,285") from None


def _noise(value: str | None) -> tuple[str, float] | None:
    from robustbench_sgdm.errors import UsageError

    if value is None:
        return None
    name, _, severity = value.rpartition(":")
    try:
        return name, float(severity)
    except ValueError:
        raise UsageError(f"--noise {value} must be corruption:severity, such as gaussian_noise:3") from None
