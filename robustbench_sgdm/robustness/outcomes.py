"""What became of each object and each box at one confidence: found or missed, right or wrong; by hotcoco."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from robustbench_sgdm.scoring import rows
from robustbench_sgdm.store import GroundTruth

CONFIDENCE = 0.25
"""Least score of a box that counts as shown; Ultralytics' `predict` has the same."""

IOU = 0.5
"""Least overlap of a box with the object that it found."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The objects and the boxes of some images.

    Attributes:
        objects: the annotations, in order, with `outcome` (matched, missed, or ignored for a crowd) and `score`,
            that of the box that found it, NaN where none did.
        detections: the boxes of at least the confidence, in order, with `outcome` (matched, false, or ignored
            for one that found a crowd).
    """

    objects: pd.DataFrame
    detections: pd.DataFrame


def outcomes(truth: GroundTruth, detections: pd.DataFrame, confidence: float = CONFIDENCE) -> Outcomes:
    """Match boxes to objects as COCO does: within image and class, best score first, overlap at least `IOU`.

    Args:
        truth: of the images in question; `GroundTruth.of` leaves others out.
        detections: columns image_id, category_id, score, x1, y1, x2, y2 (px).
        confidence: boxes below it are left out.
    """
    shown = detections[detections["score"] >= confidence].reset_index(drop=True)
    objects = truth.annotations.reset_index(drop=True)
    found: Mapping[str, Any] = {"dt_status": {}, "gt_status": {}, "gt_match": {}}
    if len(shown):
        found = evaluation(coco(truth), shown).image_diagnostics(iou_thr=IOU)
    scores = shown["score"].to_numpy()
    match = {a - 1: float(scores[d - 1]) for a, d in found["gt_match"].items()}
    crowd = objects["iscrowd"].to_numpy(bool)
    matched = objects.index.isin(list(match)) & ~crowd
    status = shown.index.map(lambda d: found["dt_status"].get(d + 1))
    return Outcomes(
        objects.assign(
            outcome=np.where(crowd, "ignored", np.where(matched, "matched", "missed")),
            score=[match.get(i, np.nan) if m else np.nan for i, m in enumerate(matched)],
        ),
        shown.assign(outcome=[{"tp": "matched", "fp": "false"}.get(str(s), "ignored") for s in status]),
    )


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

    made = hotcoco.COCOeval(truth, truth.load_res(rows(detections)), "bbox")
    made.evaluate()
    return made
