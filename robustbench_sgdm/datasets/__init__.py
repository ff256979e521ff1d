"""Data sets: a COCO json, an Ultralytics YAML, or the embedded `scenes`, all one `Dataset`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from robustbench_sgdm.datasets import coco, scenes, yolo
from robustbench_sgdm.datasets.base import Dataset, Image
from robustbench_sgdm.datasets.cache import cache_dir
from robustbench_sgdm.errors import DataError, UsageError

__all__ = ["SCENES_VAL", "Dataset", "Image", "load", "load_scenes"]

SCENES_VAL = 256
"""Images in the validation split of `scenes`."""


def load(
    source: str,
    images: Path | None = None,
    *,
    split: str = "val",
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Load a data set by what names it.

    Args:
        source: `scenes`, the path of a COCO json, or the path of an Ultralytics dataset YAML.
        images: image folder of a COCO json, where it is not in a usual place beside it.
        split: of an Ultralytics YAML.
        progress: called with (done, total) while `scenes` is rendered on first use.

    Raises:
        UsageError: not a known name and not a file.
        DataError: the file is not what it should be.
    """
    if source == "scenes":
        return load_scenes(progress)
    path = Path(source)
    if not path.exists():
        raise UsageError(
            f"no data set {source!r}: give scenes, coco, or the path of a COCO json or Ultralytics YAML"
        )
    if images is not None and not images.is_dir():
        raise DataError(f"--images {images} is not a folder")
    if path.suffix.lower() in {".yaml", ".yml"}:
        if images is not None:
            raise UsageError("--images goes with a COCO json; an Ultralytics YAML names its own images")
        return yolo.load(path, split)
    if path.suffix.lower() == ".json":
        return coco.load(path, images)
    raise UsageError(f"{source} is neither a COCO .json nor an Ultralytics .yaml")


def load_scenes(progress: Callable[[int, int], None] | None = None) -> Dataset:
    """The validation split of the embedded `scenes`, rendered into the cache on first use."""
    root = cache_dir() / f"scenes-v{scenes.VERSION}"
    loaded = coco.load(scenes.make(root, "val", SCENES_VAL, progress=progress))
    return replace(loaded, name="scenes", source="scenes")
