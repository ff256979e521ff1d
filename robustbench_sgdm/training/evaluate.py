"""COCO scores of a network that has just been trained, on clean images, by pycocotools."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.detections import Detections
from robustbench_sgdm.datasets import Dataset, Image, image_decoding
from robustbench_sgdm.detectors.ultralytics import adapter
from robustbench_sgdm.scoring import Scorer, Scores


def evaluate_weights(
    weights: Path, dataset: Dataset, *, imgsz: int, batch: int, device: str = "cpu"
) -> Scores:
    """Score a weights file as `load_detector` reads it: what a user will get, rounded to half precision.

    Args:
        weights: a `.safetensors` of a training.
        dataset: ground truth with at least the classes that the file names.
        imgsz: side of the square that each image is letterboxed to, px.
        batch: images at a time; plays no part in the scores.
        device: `cpu`, `cuda:0`...
    """
    detector = adapter.load_detector(weights, InferenceConfig(imgsz=imgsz, device=device))
    ids = {str(c["name"]): int(c["id"]) for c in dataset.categories}
    categories = np.array([ids[name] for name in detector.classes])
    rows: list[NDArray[np.float64]] = []
    for start in range(0, len(dataset), batch):
        chosen = dataset.images[start : start + batch]
        detections = detector.predict([_tensor(image) for image in chosen])
        rows += [_rows(image.id, boxes, categories) for image, boxes in zip(chosen, detections, strict=True)]
    return Scorer(dataset, "pycocotools").score(rows)


def _tensor(image: Image) -> Tensor:
    """uint8 (3, H, W) RGB."""
    return torch.from_numpy(image_decoding.read_image(image)).permute(2, 0, 1)


def _rows(image: int, detections: Detections, categories: NDArray[np.int64]) -> NDArray[np.float64]:
    """`Scorer`'s rows: image id, x, y, w, h, score, category id."""
    corner, size = detections.xyxy[:, :2], detections.xyxy[:, 2:] - detections.xyxy[:, :2]
    identity = np.full((len(detections.xyxy), 1), image)
    parts: list[NDArray[Any]] = [
        identity,
        corner,
        size,
        detections.scores[:, None],
        categories[detections.labels][:, None],
    ]
    return np.concatenate(parts, 1, dtype=np.float64)
