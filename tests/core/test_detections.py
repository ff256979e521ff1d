"""The container for boxes refuses what is not boxes."""

from typing import Any

import numpy as np
import pytest

from robustbench_sgdm.core.detections import Detections

GOOD = {
    "xyxy": np.array([[0, 0, 2, 3]], np.float32),
    "scores": np.array([0.5], np.float32),
    "labels": np.array([1]),
}


def test_good_boxes() -> None:
    assert len(Detections(**GOOD)) == 1 and len(Detections.empty()) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"xyxy": np.zeros((1, 5), np.float32)}, "must be float32"),
        ({"xyxy": np.zeros((1, 4))}, "must be float32"),
        ({"xyxy": np.zeros((2, 4), np.float32)}, "xyxy is"),
        ({"labels": np.array([1.0])}, "labels is"),
        ({"xyxy": np.array([[0, 0, np.nan, 1]], np.float32)}, "NaN or infinite"),
        ({"scores": np.array([np.inf], np.float32)}, "NaN or infinite"),
        ({"xyxy": np.array([[5, 0, 2, 3]], np.float32)}, "x2 < x1"),
        ({"scores": np.array([1.5], np.float32)}, r"must lie in \[0, 1\]"),
    ],
)
def test_bad_boxes(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Detections(**(GOOD | change))
