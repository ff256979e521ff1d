"""`--data`, `--images` and `--split`: one meaning in every command that reads a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_sgdm.cli import options

if TYPE_CHECKING:
    from robustbench_sgdm.datasets import Dataset

DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        help="scenes (embedded), coco (val2017, downloaded on first use), a COCO json, or an Ultralytics dataset YAML.",
    ),
]
ImagesOption = Annotated[
    Path | None,
    typer.Option("--images", help="Image folder of a COCO json, if not in a usual place beside it."),
]
SplitOption = Annotated[
    str,
    typer.Option(
        "--split", help="Split of coco (train or val) or of an Ultralytics dataset YAML (test too)."
    ),
]


def find(source: str, images: Path | None = None) -> tuple[str, Path | None]:
    """The options as the file system writes them."""
    return str(options.find_path(source) or source), images and (options.find_path(str(images)) or images)


def load_dataset(source: str, images: Path | None = None, split: str = "val") -> "Dataset":
    """The data set that the options name; what was noted while reading goes to standard error.

    Raises:
        UsageError: not a known name and not a file, or an option that does not go with it.
        DataError: the file is not what it should be.
    """
    from robustbench_sgdm import datasets
    from robustbench_sgdm.cli.console import note, stages

    name, folder = find(source, images)
    with stages() as progress:
        dataset = datasets.load(name, folder, split=split, progress=progress)
    for text in dataset.notes:
        note(f"warning: {text}")
    return dataset
