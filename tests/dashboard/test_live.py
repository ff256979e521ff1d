"""What two models both find, and what is one's alone."""

from pathlib import Path

import pandas as pd
import pytest

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.dashboard.inference import find_again, load_run_detector, pair_all, pair_boxes
from tests.support.synthetic_runs import make_manifest


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


def test_a_partner_is_one_that_all_models_have() -> None:
    frames = [
        boxes(("cat", 0.9, 0), ("dog", 0.8, 50)),
        boxes(("cat", 0.7, 1)),
        boxes(("cat", 0.6, 0), ("dog", 0.5, 51)),
    ]
    assert [frame["partner"].tolist() for frame in pair_all(frames)] == [[0.6, 0], [0.6], [0.7, 0]]
    assert pair_all(frames[:1])[0]["partner"].tolist() == [0.9, 0.8]
    assert [len(frame) for frame in pair_all([boxes(), boxes()])] == [0, 0]


def test_what_is_found_again() -> None:
    """The objects are those that any model finds in the clean picture, each once."""
    clean = [boxes(("cat", 0.9, 0), ("dog", 0.2, 50)), boxes(("cat", 0.8, 1), ("car", 0.7, 90))]
    noisy = [boxes(("cat", 0.4, 2)), boxes(("car", 0.3, 90), ("dog", 0.9, 50))]
    found = find_again(clean, noisy, 0.25)
    assert found.to_dict("list") == {"category": ["cat", "car"], 0: [0.4, 0.0], 1: [0.0, 0.3]}
    assert find_again([boxes()], [boxes()], 0.25).empty


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


@pytest.mark.parametrize(
    ("name", "loader"), [("best.pt", None), ("best.onnx", None), ("yolov8n", "hf:folder")]
)
def test_weights_of_the_package_are_no_file_that_a_run_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, loader: str | None
) -> None:
    """Such weights are loaded without a click."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(b"x")
    about = {"weights": "embedded", "loader": loader, "imgsz": 64, "conf": 0.1, "iou": 0.7, "max_det": 9}
    with pytest.raises(DataError, match="weights come with this package"):
        load_run_detector(make_manifest(models={name: about}), name)
