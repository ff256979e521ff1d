"""Writes `golden.json`: what this code puts out for fixed inputs, under the versions that it says it has.

    python tests/golden/make.py      # or: make golden

Run it only after the version of what changed was raised in `robustbench_sgdm/core/versions.py`, or in the corruption's
own declaration, and CHANGELOG.md says why.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robustbench_sgdm import corruption, datasets, detectors
from robustbench_sgdm.core import versions
from robustbench_sgdm.datasets import image_decoding
from robustbench_sgdm.scoring import Scorer

FILE = Path(__file__).with_name("golden.json")
SEVERITIES = (1, 3, 4.5)
_BLOCK = 20  # px


def corruptions() -> dict[str, dict[str, Any]]:
    """Of each corruption its version, and mean and deviation of blocks of a picture at some severities."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (3, 7, 9), np.uint8).repeat(16, 1).repeat(16, 2)[:, :100, :140]
    picture = torch.from_numpy(coarse.copy())[None]
    found = {}
    for one in corruption.load_corruptions():
        blocks = []
        for severity in SEVERITIES:
            noisy = corruption.apply_corruption(one, picture, severity, seed=3, image_ids=[7])[0].double()
            parts = noisy.unfold(1, _BLOCK, _BLOCK).unfold(2, _BLOCK, _BLOCK).flatten(3)
            blocks.append([parts.mean(3).flatten().tolist(), parts.std(3).flatten().tolist()])
        found[one.name] = {"version": one.version, "blocks": np.round(blocks, 3).tolist()}
    return found


def inference() -> dict[str, Any]:
    """The boxes of the embedded detectors on two images: xyxy px, score, label."""
    boxes = {}
    chosen = datasets.load_dataset("scenes").images[3:5]
    pixels = [
        torch.from_numpy(image_decoding.read_image(image).transpose(2, 0, 1).copy()) for image in chosen
    ]
    for name in ("yolov8n", "yolov8n-sgdm"):
        found = detectors.load_detector(name).predict(pixels)
        boxes[name] = [
            np.column_stack([one.xyxy, one.scores, one.labels])[:6].round(4).tolist() for one in found
        ]
    return boxes


def scoring() -> dict[str, float | None]:
    """COCO's twelve numbers of made detections: every third box shifted, every fifth lost, some invented."""
    data = datasets.load_dataset("scenes").subset(0.2)
    rows = []
    for number, one in enumerate(data.annotations):
        x, y, w, h = one["bbox"]
        shift = 0.2 * w * (number % 3)
        if number % 5:
            rows.append([one["image_id"], x + shift, y, w, h, 1 / (1 + number % 7), one["category_id"]])
        if number % 4 == 0:
            rows.append([one["image_id"], x + w, y + h, w, h, 0.3, one["category_id"]])
    return dict(Scorer(data).score([np.array(rows, np.float64)]).metrics)


def made() -> dict[str, Any]:
    """All of it."""
    return {
        "CORRUPTIONS": versions.CORRUPTIONS,
        "INFERENCE": versions.INFERENCE,
        "SCORING": versions.SCORING,
        "corruptions": corruptions(),
        "inference": inference(),
        "scoring": scoring(),
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(made(), separators=(",", ":")) + "\n")
    print(f"{FILE}: {FILE.stat().st_size / 1e3:.0f} kB")
