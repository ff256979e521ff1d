"""COCO val2017 where Ultralytics keeps it, fetched by its own means when the user asks for `coco` by name."""

import hashlib
from pathlib import Path

from ultralytics.utils import SETTINGS
from ultralytics.utils.downloads import safe_download, unzip_file

from robustbench_sgdm.errors import RobustBenchError

# Fetched without encryption, so known by their MD5, which COCO's server has always given and others print.
_IMAGES = (
    "http://images.cocodataset.org/zips/val2017.zip",
    "442b8da7639aecaf257c1dceb8ba8c80",
)  # 1 GB, 5,000 images
_ANNOTATIONS = (
    "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
    "f4bbac642086de4f52a3fdda2de5fa2c",
)  # 240 MB


def coco_folder() -> Path:
    """`coco` in the datasets folder of the user's Ultralytics settings."""
    return Path(SETTINGS["datasets_dir"]) / "coco"


def coco_val() -> Path:
    """`instances_val2017.json` with its images beside it; downloads what is missing.

    Raises:
        RobustBenchError: the download failed, or is not the file that COCO published.
    """
    root = coco_folder()
    json = root / "annotations" / "instances_val2017.json"
    try:
        if not json.is_file():
            _fetch(*_ANNOTATIONS, root)
        if len(list((root / "images" / "val2017").glob("*.jpg"))) < 5000:  # absent, or half unpacked
            _fetch(*_IMAGES, root / "images")
    except (OSError, ConnectionError, MemoryError) as error:
        raise RobustBenchError(
            f"COCO val2017 could not be downloaded to {root} ({error}); put annotations/ and images/val2017/ there, "
            "or give --data the path of a json"
        ) from error
    if not json.is_file():
        raise RobustBenchError(f"the download left no {json}; give --data the path of a COCO json")
    return json


def _fetch(address: str, md5: str, folder: Path) -> None:
    """Download an archive, and unpack it if it is the one that is meant."""
    archive = folder / address.rpartition("/")[2]
    try:
        safe_download(address, dir=folder, unzip=False, exist_ok=True)
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != md5:
            raise RobustBenchError(
                f"{address} gave a file of MD5 {found}, COCO's has {md5}; it is not unpacked. Try again later, or give "
                "--data the path of a json"
            )
        unzip_file(archive, folder, exist_ok=True)
    finally:
        archive.unlink(missing_ok=True)
