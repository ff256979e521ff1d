"""The twelve COCO box statistics and AP by class, from ground truth and detections."""

import contextlib
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_sgdm.datasets import Dataset
from robustbench_sgdm.errors import DataError

Engine = Literal["hotcoco", "pycocotools"]

# name: (is precision, IoU threshold index or None for all, area index, detections-per-image index)
_STATISTICS: dict[str, tuple[bool, int | None, int, int]] = {
    "AP": (True, None, 0, 2),
    "AP50": (True, 0, 0, 2),
    "AP75": (True, 5, 0, 2),
    "AP_S": (True, None, 1, 2),
    "AP_M": (True, None, 2, 2),
    "AP_L": (True, None, 3, 2),
    "AR1": (False, None, 0, 0),
    "AR10": (False, None, 0, 1),
    "AR100": (False, None, 0, 2),
    "AR_S": (False, None, 1, 2),
    "AR_M": (False, None, 2, 2),
    "AR_L": (False, None, 3, 2),
}


@dataclass(frozen=True)
class Scores:
    """What one cell scored, in percent; None where the ground truth has no such object.

    Attributes:
        metrics: the twelve COCO statistics, AP to AR_L.
        per_class: AP by class name.
    """

    metrics: Mapping[str, float | None]
    per_class: Mapping[str, float | None]


def rows(detections: pd.DataFrame) -> NDArray[np.float64]:
    """What `Scorer.score` takes, from columns image_id, x1, y1, x2, y2 (px), score and category_id."""
    corners = detections[["x1", "y1", "x2", "y2"]].to_numpy(np.float64)
    parts = [
        detections[["image_id"]].to_numpy(np.float64),
        corners[:, :2],
        corners[:, 2:] - corners[:, :2],
        detections[["score", "category_id"]].to_numpy(np.float64),
    ]
    return np.concatenate(parts, axis=1)


class Scorer:
    """Scores detections against one data set's ground truth.

    Args:
        dataset: the ground truth.
        engine: `hotcoco`, or `pycocotools`, which defines the numbers.
    """

    def __init__(self, dataset: Dataset, engine: Engine = "hotcoco") -> None:
        self.dataset = dataset
        self.engine = engine
        truth = dataset.coco()
        self._images = {int(image["id"]): image for image in truth["images"]}
        self._objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for annotation in truth["annotations"]:
            self._objects[annotation["image_id"]].append(annotation)

    def score(self, parts: Iterable[NDArray[np.float64]]) -> Scores:
        """Score all detections of one cell.

        Args:
            parts: each (n, 7) rows of image id, x, y, w, h (px), score, category id; n may be 0. All of an image
                in one part. hotcoco holds one part at a time, and of its detections 44 bytes each.

        Raises:
            DataError: detections of an image that the data set lacks, or of one in two parts.

        Returns:
            The statistics of pycocotools' `COCOeval(..., "bbox")` at its default parameters, times 100.
        """
        precision, recall = self._hotcoco(parts) if self.engine == "hotcoco" else self._pycocotools(parts)
        metrics = {name: _statistic(precision, recall, *where) for name, where in _STATISTICS.items()}
        per_class = {name: _mean(precision[:, :, k, 0, 2]) for k, name in enumerate(self.dataset.classes)}
        return Scores(metrics, per_class)

    def _hotcoco(
        self, parts: Iterable[NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        import hotcoco

        streaming = hotcoco.StreamingEval([dict(c) for c in self.dataset.categories])
        left = dict(self._images)

        def update(images: list[dict[str, Any]], detections: NDArray[np.float64]) -> None:
            objects = [a for image in images for a in self._objects.get(image["id"], ())]
            streaming.update(images, objects, detections)

        for part in parts:
            ids = np.unique(part[:, 0]).astype(np.int64).tolist()
            if strange := [i for i in ids if i not in left]:
                raise DataError(f"image {strange[0]} is not of {self.dataset.name}, or comes in two parts")
            update([left.pop(i) for i in ids], part)
        update(list(left.values()), np.zeros((0, 7)))
        evaluation: Any = streaming.finalize()
        evaluation.accumulate()
        return np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"])

    def _pycocotools(
        self, parts: Iterable[NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        detections = np.concatenate([np.zeros((0, 7)), *parts])
        if not len(detections):  # loadRes raises on an empty array
            return self._unmatched()
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = self.dataset.coco()
            truth.createIndex()
            evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
        return np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"])

    def _unmatched(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What an evaluation without a detection accumulates: 0 where there is ground truth, -1 elsewhere."""
        counted = [a for a in self.dataset.annotations if not a["iscrowd"]]
        ranges = [(0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10)]
        present = np.array(
            [
                [
                    any(a["category_id"] == c["id"] and low <= a["area"] <= high for a in counted)
                    for low, high in ranges
                ]
                for c in self.dataset.categories
            ]
        )
        recall = np.where(present, 0.0, -1.0)[None, :, :, None].repeat(10, 0).repeat(3, 3)
        return recall[:, None].repeat(101, 1), recall


def _statistic(
    precision: NDArray[np.float64],
    recall: NDArray[np.float64],
    of_precision: bool,
    iou: int | None,
    area: int,
    cap: int,
) -> float | None:
    values = precision[:, :, :, area, cap] if of_precision else recall[:, :, area, cap]
    return _mean(values if iou is None else values[[iou]])


def _mean(values: NDArray[np.float64]) -> float | None:
    """Percent; -1 marks what the ground truth does not hold and is never averaged."""
    present = values[values > -1]
    mean = float(np.mean(present)) * 100 if present.size else math.nan
    return None if math.isnan(mean) else mean
