"""`coco`, by name: COCO 2017 where Ultralytics keeps it; what is missing of val2017 is downloaded."""

from pathlib import Path

from torchvision.datasets.utils import check_integrity, download_url, extract_archive

from robustbench_sgdm.core.errors import DataError, RobustBenchError, UsageError
from robustbench_sgdm.datasets import coco
from robustbench_sgdm.datasets.yolo_files import datasets_dir

# Fetched without encryption, so known by their MD5, which COCO's server has always given and others print.
# The images take 1 GB, the annotations 240 MB.
_IMAGES = ("http://images.cocodataset.org/zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80")
_ANNOTATIONS = (
    "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
    "f4bbac642086de4f52a3fdda2de5fa2c",
)


def coco_folder() -> Path:
    """`coco` in the datasets folder of the user's Ultralytics settings; below `datasets` here where there are none."""
    return (datasets_dir() or Path("datasets").resolve()) / "coco"


def coco_json(split: str = "val") -> Path:
    """The annotations of COCO 2017, with their images where `datasets.load_dataset` looks for them.

    Args:
        split: `val`, of which what is missing is downloaded, or `train`, which must be there.

    Raises:
        UsageError: another split; COCO keeps the boxes of its test split to itself.
        DataError: train2017 is not on this machine.
        RobustBenchError: the download failed, or is not the file that COCO published.
    """
    if split == "val":
        return download_coco_val()
    if split != "train":
        raise UsageError(f"coco has the splits train and val, not {split!r}")
    root = coco_folder()
    json = root / "annotations" / "instances_train2017.json"
    if not json.is_file() or not _folders("train2017"):
        lacking = json if _folders("train2017") else root / "images" / "train2017"
        raise DataError(
            f"COCO train2017 is not on this machine: {lacking} is missing. It is 118,287 images (18 GB) and is not "
            f"downloaded: unpack train2017.zip into {root / 'images'} and annotations_trainval2017.zip into {root}, both "
            "from cocodataset.org"
        )
    return json


def download_coco_val() -> Path:
    """`instances_val2017.json` with its images beside it; downloads what is missing.

    Raises:
        RobustBenchError: the download failed, or is not the file that COCO published.
    """
    root = coco_folder()
    json = root / "annotations" / "instances_val2017.json"
    try:
        if not json.is_file():
            _download(*_ANNOTATIONS, root)
        if not _is_complete(json):
            _download(*_IMAGES, root / "images")
    except (OSError, ConnectionError, MemoryError) as error:
        raise RobustBenchError(
            f"COCO val2017 could not be downloaded to {root} ({error}); put annotations/ and images/val2017/ there, "
            "or give --data the path of a json"
        ) from error
    if not json.is_file():
        raise RobustBenchError(f"the download left no {json}; give --data the path of a COCO json")
    return json


def _folders(split: str) -> list[Path]:
    """Where images of a split are: as Ultralytics lays them out, or as COCO's archives do."""
    return [p for p in (coco_folder() / "images" / split, coco_folder() / split) if p.is_dir()]


def _is_complete(json: Path) -> bool:
    """Whether the images of val2017 are there: all 5,000, or those that the annotations list."""
    if any(len(list(folder.glob("*.jpg"))) >= 5000 for folder in _folders("val2017")):
        return True
    try:
        return bool(_folders("val2017")) and len(coco.load_coco(json)) > 0
    except DataError:  # absent, or half unpacked
        return False


def _download(address: str, md5: str, folder: Path) -> None:
    """Download an archive, and unpack it if it is the one that is meant."""
    archive = folder / address.rpartition("/")[2]
    try:
        download_url(address, folder)
        if not check_integrity(archive, md5):
            raise RobustBenchError(
                f"{address} gave another file than COCO published (of MD5 {md5}); it is not unpacked. Try again later, "
                "or give --data the path of a json"
            )
        extract_archive(archive, folder)
    finally:
        archive.unlink(missing_ok=True)
