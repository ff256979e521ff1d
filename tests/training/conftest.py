"""A data set small enough to train on in a test."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from robustbench_sgdm.datasets import coco
from robustbench_sgdm.training import TrainingData


@pytest.fixture(scope="session")
def boxes() -> Callable[[Path], TrainingData]:
    """`given`, for a folder of a test's own."""
    return given


def given(root: Path) -> TrainingData:
    """Ten noisy images with a bright box each as COCO jsons, the same ones for every process."""
    for name, count in (("train", 10), ("val", 3)):
        if (root / f"{name}.json").is_file():
            continue
        (root / name).mkdir(parents=True)
        rng = np.random.default_rng(count)
        images, boxes = [], []
        for number in range(1, count + 1):
            picture = rng.integers(0, 80, (96, 96, 3), np.uint8)
            picture[10:60, 10:50] = rng.integers(80, 255, 3)
            Pillow.fromarray(picture).save(root / name / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "width": 96, "height": 96})
            box = {"bbox": [10, 10, 40, 50], "area": 2000, "iscrowd": 0}
            boxes.append({"id": number, "image_id": number, "category_id": 1, **box})
        content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "box"}]}
        (root / f"{name}.json").write_text(json.dumps(content))
    return TrainingData.of("boxes", coco.load_coco(root / "train.json"), coco.load_coco(root / "val.json"))
