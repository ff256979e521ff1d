"""Data sets by `--data`, `--images` and `--split`."""

from pathlib import Path
from typing import TYPE_CHECKING

from robustbench_sgdm.cli import options

if TYPE_CHECKING:
    from robustbench_sgdm.datasets import Dataset


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
        dataset = datasets.load_dataset(name, folder, split=split, progress=progress)
    for text in dataset.notes:
        note(f"warning: {text}")
    return dataset
