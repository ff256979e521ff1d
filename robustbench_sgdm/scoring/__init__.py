"""COCO scores: pycocotools is the definition, hotcoco computes them (bit-equal, about 90 times faster)."""

from robustbench_sgdm.scoring.coco import Scorer, Scores, coco_rows
from robustbench_sgdm.scoring.predictions import PICKLE_SUFFIXES, Predictions, read_predictions

__all__ = [
    "PICKLE_SUFFIXES",
    "Predictions",
    "Scorer",
    "Scores",
    "coco_rows",
    "read_predictions",
]
