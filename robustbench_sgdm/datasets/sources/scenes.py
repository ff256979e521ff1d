"""`scenes`: the embedded data set, rendered into the cache on first use."""

from dataclasses import replace
from functools import partial

from robustbench_sgdm.core.progress import Progress, no_progress
from robustbench_sgdm.datasets import coco, scenes
from robustbench_sgdm.datasets.base import Dataset, DatasetSource
from robustbench_sgdm.datasets.cache import cache_dir

SCENES_VAL = 256
"""Images in the validation split."""


def load_scenes(progress: Progress = no_progress) -> Dataset:
    """The validation split."""
    root = cache_dir() / f"scenes-v{scenes.VERSION}"
    step = partial(progress, "rendering scenes")
    loaded = coco.load_coco(scenes.write_split(root, "val", SCENES_VAL, progress=step))
    return replace(loaded, name="scenes", source="scenes")


SOURCE = DatasetSource(
    name="scenes",
    description=f"rendered, {SCENES_VAL} images",
    load=lambda request: load_scenes(request.progress),
    status=lambda: ("rendered on first use, in seconds", cache_dir()),
)
