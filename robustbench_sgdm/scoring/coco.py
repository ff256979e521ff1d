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

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.datasets import Dataset

_CLASSES = 1000  # of which tables are made at a time

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


def coco_rows(detections: pd.DataFrame) -> NDArray[np.float64]:
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
        truth = dataset.to_coco()
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
        per_class = {name: _mean(precision[:, :, k, 0]) for k, name in enumerate(self.dataset.classes)}
        return Scores(metrics, per_class)

    def _hotcoco(
        self, parts: Iterable[NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Group by group of classes: those of one take up to 400 MB, of which a tenth is kept."""
        import hotcoco

        classes = [dict(c) for c in self.dataset.categories]
        groups = [classes[at : at + _CLASSES] for at in range(0, len(classes), _CLASSES)]
        streaming = [hotcoco.StreamingEval(group) for group in groups]
        group_of = {c["id"]: number for number, group in enumerate(groups) for c in group}
        known = np.array(sorted(group_of), float)
        groups_of_known = np.array([group_of[int(one)] for one in known])
        left = dict(self._images)

        def update(images: list[dict[str, Any]], detections: NDArray[np.float64]) -> None:
            objects = [a for image in images for a in self._objects.get(image["id"], ())]
            if len(groups) == 1:
                streaming[0].update(images, objects, detections)
                return
            place = groups_of_known[np.searchsorted(known, detections[:, 6]).clip(max=len(known) - 1)]
            for number, one in enumerate(streaming):
                own = [a for a in objects if group_of[a["category_id"]] == number]
                one.update(images, own, detections[place == number])

        for part in parts:
            ids = np.unique(part[:, 0]).astype(np.int64).tolist()
            if strange := [i for i in ids if i not in left]:
                raise DataError(f"image {strange[0]} is not of {self.dataset.name}, or comes in two parts")
            update([left.pop(i) for i in ids], part)
        update(list(left.values()), np.zeros((0, 7)))
        kept = []
        while streaming:
            evaluation: Any = streaming.pop(0).finalize()
            evaluation.accumulate()
            kept.append(_needed(evaluation.eval))
        precision, recall = zip(*kept, strict=True)
        return np.concatenate(precision, axis=2), np.concatenate(recall, axis=1)

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
            truth.dataset = self.dataset.to_coco()
            truth.createIndex()
            evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
        return _needed(evaluation.eval)

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
        return recall[:, None, ..., -1].repeat(101, 1), recall


def _needed(tables: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision at the most detections per image, (thresholds, recalls, classes, areas); recall, with each number."""
    return np.array(np.asarray(tables["precision"])[..., -1]), np.asarray(tables["recall"])


def _statistic(
    precision: NDArray[np.float64],
    recall: NDArray[np.float64],
    of_precision: bool,
    iou: int | None,
    area: int,
    cap: int,
) -> float | None:
    values = precision[:, :, :, area] if of_precision else recall[:, :, area, cap]
    return _mean(values if iou is None else values[[iou]])


def _mean(values: NDArray[np.float64]) -> float | None:
    """Percent; -1 marks what the ground truth does not hold and is never averaged."""
    present = values[values > -1]
    mean = float(np.mean(present)) * 100 if present.size else math.nan
    return None if math.isnan(mean) else mean
