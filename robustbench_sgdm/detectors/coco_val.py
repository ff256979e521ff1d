"""COCO val2017 where Ultralytics keeps it, fetched by its own means when the user asks for `coco` by name."""

from pathlib import Path

from ultralytics.utils import SETTINGS
from ultralytics.utils.downloads import safe_download

from robustbench_sgdm.errors import RobustBenchError

_IMAGES = "http://images.cocodataset.org/zips/val2017.zip"  # 1 GB, 5,000 images
_ANNOTATIONS = "http://images.cocodataset.org/annotations/annotations_trainval2017.zip"  # 240 MB


def coco_folder() -> Path:
    """`coco` in the datasets folder of the user's Ultralytics settings."""
    return Path(SETTINGS["datasets_dir"]) / "coco"


def coco_val() -> Path:
    """`instances_val2017.json` with its images beside it; downloads what is missing.

    Raises:
        RobustBenchError: the download failed.
    """
    root = coco_folder()
    json = root / "annotations" / "instances_val2017.json"
    try:
        if not json.is_file():
            safe_download(_ANNOTATIONS, dir=root, delete=True, exist_ok=True)
        if len(list((root / "images" / "val2017").glob("*.jpg"))) < 5000:  # absent, or half unpacked
            safe_download(_IMAGES, dir=root / "images", delete=True, exist_ok=True)
    except (OSError, ConnectionError, MemoryError) as error:
        raise RobustBenchError(
            f"COCO val2017 could not be downloaded to {root} ({error}); put annotations/ and images/val2017/ there, "
            "or give --data the path of a json"
        ) from error
    if not json.is_file():
        raise RobustBenchError(f"the download left no {json}; give --data the path of a COCO json")
    return json
