"""Data sets: whatever `sources/` takes becomes one `Dataset`."""

from pathlib import Path

from robustbench_sgdm.core.errors import DataError, UsageError, unknown_name_error
from robustbench_sgdm.core.progress import Progress, no_progress
from robustbench_sgdm.datasets.base import Dataset, DatasetRequest, DatasetSource, Image
from robustbench_sgdm.datasets.sources import dataset_sources
from robustbench_sgdm.datasets.sources.scenes import SCENES_VAL, load_scenes

__all__ = [
    "SCENES_VAL",
    "Dataset",
    "DatasetSource",
    "Image",
    "dataset_sources",
    "load_dataset",
    "load_scenes",
]


def load_dataset(
    source: str | Path,
    images: Path | None = None,
    *,
    split: str = "val",
    progress: Progress = no_progress,
) -> Dataset:
    """Load a data set by what names it.

    Args:
        source: a name such as `scenes` or `coco`, or the path of a COCO json or an Ultralytics dataset YAML.
        images: image folder of a COCO json, where it is not in a usual place beside it.
        split: of a source that has several.
        progress: called while a source makes its images.

    Raises:
        UsageError: not a known name and not a file, or an argument that does not go with it.
        DataError: the file is not what it should be.
    """
    wanted = str(source)
    known_source = next((one for one in dataset_sources() if one.accepts(wanted)), None)
    names = [one.name for one in dataset_sources() if not one.suffixes]
    kinds = " or ".join(one.name for one in dataset_sources() if one.suffixes)
    if (known_source is None or known_source.suffixes) and not Path(wanted).exists():
        raise UsageError(f"no data set {wanted!r}: give {', '.join(names)}, or the path of a {kinds}")
    if known_source is None:
        raise UsageError(f"{wanted} is not a {kinds}")
    if images is not None and not images.is_dir():
        raise DataError(f"--images {images} is not a folder")
    if images is not None and not known_source.takes_images:
        raise UsageError(f"--images is for a COCO json; {wanted} has its own images")
    if split not in known_source.splits:
        if len(known_source.splits) == 1:
            raise UsageError(f"--split {split} is for an Ultralytics dataset YAML; {wanted} has one split")
        raise unknown_name_error("split", split, known_source.splits)
    return known_source.load(DatasetRequest(wanted, images, split, progress))
