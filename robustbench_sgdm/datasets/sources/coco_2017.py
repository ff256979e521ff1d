"""`coco`: COCO 2017, whose val2017 is downloaded on first use."""

from pathlib import Path

from robustbench_sgdm.datasets import coco
from robustbench_sgdm.datasets.base import DatasetSource
from robustbench_sgdm.datasets.coco_2017 import coco_folder, coco_json


def _status() -> tuple[str, Path]:
    folder = coco_folder()
    there = (folder / "images/val2017").is_dir()
    return "there" if there else "downloaded on first use (1 GB)", folder


SOURCE = DatasetSource(
    name="coco",
    description="COCO 2017; val2017 has 5,000 images",
    load=lambda request: coco.load_coco(coco_json(request.split)),
    status=_status,
    splits=("val", "train"),
)
