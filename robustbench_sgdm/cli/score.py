"""`robustbench score`: predictions made elsewhere become the cells of a run."""

import shlex
import sys
from enum import StrEnum
from typing import Annotated

import typer

from robustbench_sgdm.cli.common import (
    RUNS,
    CorruptionDirOption,
    DataOption,
    ImagesOption,
    ProjectOption,
    SplitOption,
)
from robustbench_sgdm.cli.data import find
from robustbench_sgdm.cli.figure import tell_baseline
from robustbench_sgdm.cli.results import show_results


class ImageIds(StrEnum):
    """What `image_id` is."""

    auto = "auto"
    id = "id"
    file_name = "file-name"


class CategoryIds(StrEnum):
    """What `category_id` is."""

    auto = "auto"
    id = "id"
    from_0 = "from-0"
    from_1 = "from-1"
    coco = "coco"
    name = "name"


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
    image_ids: Annotated[
        ImageIds,
        typer.Option(
            "--image-ids",
            help="What finds the image of a prediction: id, the data's own ids in image_id; file-name, file_name, else "
            "image_id as the file's stem; auto, what all predictions agree with.",
        ),
    ] = ImageIds.auto,
    category_ids: Annotated[
        CategoryIds,
        typer.Option(
            "--category-ids",
            help="What category_id is: id, the data's own; from-0 or from-1, the place among its classes; coco, COCO's 1 "
            "to 90; name, not used, category_name is; auto, what all predictions agree with.",
        ),
    ] = CategoryIds.auto,
    corruptions: CorruptionDirOption = None,
    project: ProjectOption = RUNS,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", help="Run directory, which other models may be in; default: that of the data."
        ),
    ] = None,
) -> None:
    """Score predictions made elsewhere, COCO results json for each corruption and severity, like a run's own.

    A file is a list of {image_id, category_id, bbox [x, y, w, h], score}. Images are found by file_name where it is
    there; else image_id is an id of the data or the stem of the image's file. category_id is an id of the data; of a
    dataset YAML, whose classes have none, the label from 0 or, as Ultralytics writes it, from 1. What can mean two
    things is refused until --image-ids or --category-ids says which. mmdetection's nested results hold scores alone:
    they have no intervals and no flips.
    """
    from robustbench_sgdm import api
    from robustbench_sgdm.cli.console import stages

    source, folder = find(data, images)
    with stages() as progress:
        run = api.score(
            sources,
            model=model,
            data=source,
            images=folder,
            split=split,
            baseline=baseline,
            engine=engine.value,
            seed=seed,
            image_ids=image_ids.value,
            category_ids=category_ids.value,
            corruptions=corruptions or [],
            project=project,
            name=name,
            command=shlex.join(["robustbench", *sys.argv[1:]]),
            progress=progress,
        ).directory
    tell_baseline(run)
    show_results(run)
