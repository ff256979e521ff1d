"""COCO scores: pycocotools is the definition, hotcoco computes them (bit-equal, about 90 times faster)."""

from robustbench_sgdm.scoring.coco import Scorer, Scores, rows

__all__ = ["Scorer", "Scores", "rows"]
