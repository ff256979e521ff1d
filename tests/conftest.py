"""Fixtures: real photographs, the COCO images and weights beside the checkout where they are, small data sets."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow

from robustbench_sgdm.store import Run
from robustbench_sgdm.types import METRICS

os.environ.setdefault("OMP_NUM_THREADS", "1")  # pytest runs a process per core

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's cache; what is rendered is shared by all tests of a session."""
    own = tmp_path_factory.getbasetemp()
    session = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(session / "cache"))


@pytest.fixture(scope="session")
def photographs() -> list[NDArray[np.uint8]]:
    """Photographs that scikit-image bundles, (H, W, 3) uint8 RGB."""
    from skimage import data

    return [getattr(data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")]


@pytest.fixture(scope="session")
def coco_json() -> Path:
    """128 genuine COCO val2017 images with their annotations."""
    return _shared("coco-val-mini/annotations/instances_val2017.json")


@pytest.fixture(scope="session")
def coco_weights() -> Path:
    """YOLOv8n for COCO, rebuilt from 8-bit exports."""
    return _shared("weights/yolov8n-int8deq.pt")


def _shared(relative: str) -> Path:
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    return path


@pytest.fixture
def tiny_coco(tmp_path: Path, photographs: list[NDArray[np.uint8]]) -> Path:
    """A COCO json over four photographs of two sizes, with two of the COCO classes."""
    return write_coco(tmp_path / "tiny", photographs)


@pytest.fixture
def coco_of() -> Callable[..., Path]:
    """`write_coco`, for pictures of a test's own."""
    return write_coco


def write_coco(root: Path, pictures: list[NDArray[np.uint8]], **changes: Any) -> Path:
    """Write pictures and a COCO json (annotations/val.json, images/val/*.png); `changes` replace its keys."""
    (root / "images/val").mkdir(parents=True)
    (root / "annotations").mkdir()
    images, annotations = [], []
    for number, picture in enumerate(pictures, start=1):
        small = np.asarray(Pillow.fromarray(picture).resize((96, 96) if number % 2 else (128, 80)))
        name = f"{number:03d}.png"
        Pillow.fromarray(small).save(root / "images/val" / name)
        height, width = small.shape[:2]
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1 + number % 2,
                "bbox": [10, 10, 40 + number, 50],
                "area": (40 + number) * 50,
                "iscrowd": 0,
            }
        )
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "cat"}]
    content = {"images": images, "annotations": annotations, "categories": categories} | changes
    path = root / "annotations/val.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def small_run(tmp_path: Path) -> Run:
    """A stored run of two models, clean and two severities, with scores entered as data; nothing small in it."""
    scores = {("base", 0): 40.0, ("base", 2): 30.0, ("base", 4): 20.0}
    scores |= {("base-module", 0): 40.0, ("base-module", 2): 31.5, ("base-module", 4): 20.0}
    cells = [
        {
            "model": m,
            "corruption": "gaussian_noise" if s else "clean",
            "severity": float(s),
            "key": f"{m}{s}" * 8,
        }
        for m, s in scores
    ]
    plan = {
        "command": "robustbench run",
        "models": {
            "base": {"baseline": None, "parameters": 1},
            "base-module": {"baseline": "base", "parameters": 2},
        },
        "data": {
            "name": "<script>alert(1)</script>",
            "source": "x",
            "images": 4,
            "boxes": 4,
            "fingerprint": "f",
        },
        "corruptions": {
            "gaussian_noise": {
                "family": "noise",
                "summary": "Noise.",
                "source": "a paper",
                "strengths": {"2": "sigma=0.12"},
            }
        },
        "settings": {"engine": "torch", "seed": 0},
        "versions": {"python": "3"},
        "cells": cells,
    }
    run = Run.start(tmp_path, "small", plan)
    for cell, ap in zip(run.cells, scores.values(), strict=True):
        run.store.merge(cell, 0)
        metrics = {m: None if m in {"AP_S", "AR_S"} else ap for m in METRICS}
        run.store.finish(cell, {"detections": 0, "metrics": metrics, "per_class": {}})
    return run
