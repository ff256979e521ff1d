"""What became of each object and each box at one confidence: found or missed, right or wrong."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from robustbench_sgdm.robustness.matching import Truth, finders
from robustbench_sgdm.scoring import coco_rows
from robustbench_sgdm.store import GroundTruth

CONFIDENCE = 0.25
"""Least score of a box that counts as shown; Ultralytics' `predict` has the same."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The objects and the boxes of some images.

    Attributes:
        objects: the annotations, in order, with `outcome` (matched, missed, or ignored for a crowd) and `score`,
            that of the box that found it, NaN where none did.
        detections: the boxes of at least the confidence, in order, with `outcome` (matched, false, or ignored
            for one that found a crowd) and `object`, the row of `objects` that it found, -1 where none.
    """

    objects: pd.DataFrame
    detections: pd.DataFrame


def outcomes(truth: GroundTruth, detections: pd.DataFrame, confidence: float = CONFIDENCE) -> Outcomes:
    """Match boxes to objects as COCO does: within image and class, best score first, overlap at least 0.5.

    Args:
        truth: of all the images that the detections are of.
        detections: columns image_id, category_id, score, x1, y1, x2, y2 (px).
        confidence: boxes below it are left out.
    """
    shown = detections[detections["score"] >= confidence].reset_index(drop=True)
    objects = truth.annotations.reset_index(drop=True)
    finds = finders(ordered(truth), shown)
    crowd = objects["iscrowd"].to_numpy(bool)
    crowded = np.append(crowd, False)[finds]  # -1: none
    score = np.full(len(objects), np.nan)
    right = (finds >= 0) & ~crowded
    score[finds[right]] = shown["score"].to_numpy()[right]
    found = np.where(np.isnan(score), "missed", "matched")
    became = np.where(right, "matched", np.where(crowded, "ignored", "false"))
    return Outcomes(
        objects.assign(outcome=np.where(crowd, "ignored", found), score=score),
        shown.assign(outcome=became, object=finds),
    )


def ordered(truth: GroundTruth) -> Truth:
    """Ground truth as matching has it."""
    return Truth.build(truth.images["image_id"], truth.categories["category_id"], truth.annotations)


def coco(truth: GroundTruth) -> Any:
    """Ground truth as hotcoco has it; annotation number i has id i + 1."""
    import hotcoco

    boxes = truth.annotations[["x", "y", "w", "h"]].to_numpy(float)
    facts = truth.annotations[["image_id", "category_id", "area", "iscrowd"]].to_dict("records")
    keys = {"image_id": "id", "category_id": "id", "file": "file_name"}
    return hotcoco.COCO(
        {
            "images": truth.images.rename(columns=keys).to_dict("records"),
            "categories": truth.categories.rename(columns=keys).to_dict("records"),
            "annotations": [
                {"id": n, "bbox": box, **fact}
                for n, (fact, box) in enumerate(zip(facts, boxes.tolist(), strict=True), 1)
            ],
        }
    )


def evaluation(truth: Any, detections: pd.DataFrame) -> Any:
    """hotcoco's evaluation, matched; detection number i has id i + 1."""
    import hotcoco

    made = hotcoco.COCOeval(truth, truth.load_res(coco_rows(detections)), "bbox")
    made.evaluate()
    return made
