"""The outcome of each object and each box at one confidence: found or missed, right or wrong."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from robustbench_sgdm.robustness.matching import SortedTruth, match_objects
from robustbench_sgdm.scoring import coco_rows
from robustbench_sgdm.store import GroundTruth

CONFIDENCE = 0.25
"""Lowest score of a box that is shown; the default of Ultralytics' `predict`."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The objects and the boxes of some images.

    Attributes:
        objects: the annotations, in order, with `outcome` (matched, missed, or ignored for a crowd) and `score`, that
            of the box that found it, else NaN.
        detections: the boxes of at least the confidence, in order, with `outcome` (matched, false, or ignored for one
            that found a crowd) and `object`, the row of `objects` that it found, else -1.
    """

    objects: pd.DataFrame
    detections: pd.DataFrame


def match_outcomes(truth: GroundTruth, detections: pd.DataFrame, confidence: float = CONFIDENCE) -> Outcomes:
    """Match boxes to objects as COCO does: within image and class, best score first, overlap at least 0.5.

    Args:
        truth: of all the images that the detections are of.
        detections: columns image_id, category_id, score, x1, y1, x2, y2 (px).
        confidence: boxes below it are left out.
    """
    shown = detections[detections["score"] >= confidence].reset_index(drop=True)
    objects = truth.annotations.reset_index(drop=True)
    finds = match_objects(sort_truth(truth), shown)
    crowd = objects["iscrowd"].to_numpy(bool)
    is_crowd = np.append(crowd, False)[finds]  # finds is -1 for none, which reads the appended False
    score = np.full(len(objects), np.nan)
    right = (finds >= 0) & ~is_crowd
    score[finds[right]] = shown["score"].to_numpy()[right]
    object_outcome = np.where(np.isnan(score), "missed", "matched")
    box_outcome = np.where(right, "matched", np.where(is_crowd, "ignored", "false"))
    return Outcomes(
        objects.assign(outcome=np.where(crowd, "ignored", object_outcome), score=score),
        shown.assign(outcome=box_outcome, object=finds),
    )


def sort_truth(truth: GroundTruth) -> SortedTruth:
    """Ground truth as `matching` needs it."""
    return SortedTruth.build(truth.images["image_id"], truth.categories["category_id"], truth.annotations)


def to_hotcoco(truth: GroundTruth) -> Any:
    """Ground truth as a hotcoco object; annotation number i has id i + 1."""
    import hotcoco

    boxes = truth.annotations[["x", "y", "w", "h"]].to_numpy(float)
    fields = truth.annotations[["image_id", "category_id", "area", "iscrowd"]].to_dict("records")
    keys = {"image_id": "id", "category_id": "id", "file": "file_name"}
    return hotcoco.COCO(
        {
            "images": truth.images.rename(columns=keys).to_dict("records"),
            "categories": truth.categories.rename(columns=keys).to_dict("records"),
            "annotations": [
                {"id": n, "bbox": box, **row}
                for n, (row, box) in enumerate(zip(fields, boxes.tolist(), strict=True), 1)
            ],
        }
    )


def evaluate_with_hotcoco(truth: Any, detections: pd.DataFrame) -> Any:
    """hotcoco's evaluation, with its matching done; detection number i has id i + 1."""
    import hotcoco

    evaluation = hotcoco.COCOeval(truth, truth.load_res(coco_rows(detections)), "bbox")
    evaluation.evaluate()
    return evaluation
