"""What two models both find, and what is one's alone."""

import pandas as pd

from robustbench_sgdm.dashboard.inference import pair_boxes


def boxes(*rows: tuple[str, float, float]) -> pd.DataFrame:
    """Squares of 10 px: class, score, left edge."""
    frame = pd.DataFrame(rows, columns=["category_id", "score", "x1"])
    return frame.assign(y1=0.0, x2=frame["x1"] + 10, y2=10.0)


def test_partners_are_of_one_class_and_overlap_and_are_used_once() -> None:
    left, right = pair_boxes(
        boxes(("cat", 0.9, 0), ("cat", 0.8, 1), ("dog", 0.7, 50), ("dog", 0.6, 90)),
        boxes(("cat", 0.5, 1), ("cat", 0.4, 70), ("dog", 0.3, 53), ("cat", 0.2, 90)),
    )
    assert left["partner"].tolist() == [0.5, 0, 0.3, 0]
    assert right["partner"].tolist() == [0.9, 0, 0.7, 0]


def test_nothing_found() -> None:
    left, right = pair_boxes(boxes(), boxes(("cat", 0.5, 0)))
    assert left.empty and right["partner"].tolist() == [0]


def test_equal_boxes_are_paired_one_to_one() -> None:
    left, right = pair_boxes(
        boxes(("cat", 0.9, 0), ("cat", 0.9, 0), ("dog", 0.9, 0)),
        boxes(("cat", 0.8, 0), ("dog", 0.7, 0), ("cat", 0.6, 0), ("cat", 0.5, 0)),
    )
    assert left["partner"].tolist() == [0.8, 0.6, 0.7]
    assert right["partner"].tolist() == [0.9, 0.9, 0.9, 0]
