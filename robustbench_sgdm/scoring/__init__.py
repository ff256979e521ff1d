"""COCO scores: pycocotools is the definition, hotcoco computes them (bit-equal, about 90 times faster)."""

from robustbench_sgdm.scoring.category_ids import CategoryIds
from robustbench_sgdm.scoring.coco import Scorer, Scores, coco_rows
from robustbench_sgdm.scoring.image_ids import ImageIds
from robustbench_sgdm.scoring.predictions import PICKLE_SUFFIXES, Predictions, read_predictions

__all__ = [
    "PICKLE_SUFFIXES",
    "CategoryIds",
    "ImageIds",
    "Predictions",
    "Scorer",
    "Scores",
    "coco_rows",
    "read_predictions",
]
