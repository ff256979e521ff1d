"""COCO scores: pycocotools is the definition, hotcoco computes them (bit-equal, about 90 times faster)."""

from robustbench_sgdm.scoring.coco import Scorer, Scores, coco_rows
from robustbench_sgdm.scoring.predictions import Predictions, read_predictions

__all__ = [
    "Predictions",
    "Scorer",
    "Scores",
    "coco_rows",
    "read_predictions",
]
