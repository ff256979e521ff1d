"""`robustbench score`: predictions made elsewhere become the cells of a run."""

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from robustbench_sgdm.cli.data import DataOption, ImagesOption, SplitOption, load_dataset


class Engine(StrEnum):
    """What corrupted the images."""

    elsewhere = "elsewhere"
    torch = "torch"
    imgaug = "imgaug"


def score(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Folders with CORRUPTION/SEVERITY/*.json and clean.json, as `robustbench corrupt` lays them out; "
            "CORRUPTION@SEVERITY=FILE or clean=FILE; or mmdetection's nested results as json or YAML."
        ),
    ],
    model: Annotated[str, typer.Option("--model", help="Name of the detector.")],
    data: DataOption,
    images: ImagesOption = None,
    split: SplitOption = "val",
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="Model of the same directory to compare it with.")
    ] = None,
    engine: Annotated[
        Engine,
        typer.Option(
            "--engine",
            help="What corrupted the images: `robustbench corrupt` with this engine makes them comparable with "
            "runs of ours.",
        ),
    ] = Engine.elsewhere,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed that they were corrupted with.")] = 0,
    corruptions: Annotated[
        list[Path] | None,
        typer.Option("--corruptions", help="Folder with corruptions of your own; may be repeated."),
    ] = None,
    project: Annotated[
        Path, typer.Option("--project", help="Folder that run directories are made in.")
    ] = Path("runs/robustness"),
    name: Annotated[
        str | None,
        typer.Option(
            "--name", help="Run directory, which other models may be in; default: that of the data."
        ),
    ] = None,
) -> None:
    """Score predictions made elsewhere, COCO results json for each corruption and severity, like a run's own.

    A file is a list of {image_id, category_id, bbox [x, y, w, h], score}. mmdetection's nested results hold scores
    alone: they have no intervals and no flips.
    """
    from robustbench_sgdm import corruption as corrupting
    from robustbench_sgdm import tables
    from robustbench_sgdm.cli.console import counting, note, show
    from robustbench_sgdm.errors import UsageError
    from robustbench_sgdm.sweep import elsewhere

    if Path(model).name != model or model in {"", "..", "."}:
        raise UsageError(f"--model {model!r} must be a plain name: a folder is called after it")
    given = [one for source in sources for one in elsewhere.find(source)]
    dataset = load_dataset(data, images, split)
    with counting("scoring", len(given)) as update:
        run = elsewhere.score(
            given,
            dataset,
            corrupting.load(corruptions or []),
            model=model,
            baseline=baseline,
            engine=engine.value,
            seed=seed,
            project=project,
            name=name or f"scored_{dataset.name}",
            command=shlex.join(["robustbench", *sys.argv[1:]]),
            progress=update,
        )
    csv = run.write_results()
    for table in tables.corruption_tables(run.results(), run.pairs):
        show(table)
    note(f"results  {csv}")
