"""COCO scores: pycocotools is the definition, hotcoco computes them (bit-equal, about 90 times faster)."""

from robustbench_sgdm.scoring.coco import Scorer, Scores, rows
from robustbench_sgdm.scoring.predictions import read_predictions

__all__ = ["Scorer", "Scores", "read_predictions", "rows"]
