"""hotcoco's twelve statistics equal pycocotools' exactly; nothing crashes, no -1 is averaged."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from robustbench_sgdm.core.constants import METRICS
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.datasets import Dataset, Image, load_dataset
from robustbench_sgdm.scoring import Scorer, Scores, coco


@pytest.fixture(autouse=True, params=[1000, 1, 2])
def classes_at_a_time(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco, "_CLASSES", request.param)


def dataset(annotations: list[dict[str, Any]], images: int = 3) -> Dataset:
    full = [
        {"id": n, "iscrowd": 0, "area": a["bbox"][2] * a["bbox"][3]} | a for n, a in enumerate(annotations, 1)
    ]
    pictures = [Image(i, Path(f"{i}.png"), 640, 480) for i in range(1, images + 1)]
    categories = [{"id": 1, "name": "a"}, {"id": 5, "name": "b"}, {"id": 90, "name": "never"}]
    return Dataset("test", "test", pictures, categories, full)


def both(data: Dataset, rows: NDArray[np.float64]) -> Scores:
    ours, reference = Scorer(data).score([rows]), Scorer(data, "pycocotools").score([rows])
    assert ours == reference
    return ours


TRUTH = [
    {"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20]},
    {"image_id": 1, "category_id": 5, "bbox": [100, 100, 200, 200]},
    {"image_id": 2, "category_id": 1, "bbox": [50, 50, 60, 60]},
]


def test_no_detection_is_zero_not_an_error() -> None:
    scores = both(dataset(TRUTH), np.zeros((0, 7)))
    assert tuple(scores.metrics) == METRICS
    assert set(scores.metrics.values()) == {0.0}
    assert scores.per_class == {"a": 0.0, "b": 0.0, "never": None}


def test_a_size_without_ground_truth_is_absent() -> None:
    scores = both(dataset(TRUTH[:1]), np.array([[1, 10, 10, 20, 20, 0.9, 1.0]]))
    assert scores.metrics["AP"] == pytest.approx(100) and scores.metrics["AP_S"] == pytest.approx(100)
    assert scores.metrics["AP_M"] is None and scores.metrics["AR_L"] is None


def test_only_crowds_leave_nothing_to_average() -> None:
    crowd = [{**TRUTH[0], "iscrowd": 1}]
    for rows in (np.zeros((0, 7)), np.array([[1, 10, 10, 20, 20, 0.9, 1.0]])):
        assert set(both(dataset(crowd), rows).metrics.values()) == {None}


def test_a_crowd_swallows_detections() -> None:
    truth = [TRUTH[0], {"image_id": 1, "category_id": 1, "bbox": [200, 200, 200, 200], "iscrowd": 1}]
    rows = np.array([[1, 210, 210, 50, 50, 0.95, 1], [1, 10, 10, 20, 20, 0.9, 1.0]])
    assert both(dataset(truth), rows).metrics["AP"] == pytest.approx(100)


@pytest.mark.parametrize("seed", range(6))
def test_random_detections_score_alike(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = 1 if seed == 0 else 20
    truth = [
        {
            "image_id": int(rng.integers(1, images + 1)),
            "category_id": int(rng.choice([1, 5])),
            "bbox": [*rng.uniform(0, 300, 2), *rng.uniform(4, 200, 2)],
            "iscrowd": int(rng.random() < 0.1),
        }
        for _ in range(60)
    ]
    near = [
        [t["image_id"], *(np.array(t["bbox"]) + rng.normal(0, 4, 4)), rng.random(), t["category_id"]]
        for t in truth
    ]
    noise = [
        [rng.integers(1, images + 1), *rng.uniform(1, 200, 4), rng.random(), rng.choice([1, 5, 90])]
        for _ in range(300)
    ]
    rows = np.array(near + noise, np.float64)
    rows[:, 5] = np.round(rows[:, 5], 1)  # many ties, where the order of equals matters
    rows[:, 3:5] = np.maximum(rows[:, 3:5], 1)
    both(dataset(truth, images), rows)


def test_real_images_score_alike(coco_json: Path) -> None:
    """Ground truth as detections, jittered: crowds, every size, 75 classes."""
    data = load_dataset(str(coco_json))
    rng = np.random.default_rng(0)
    rows = np.array(
        [
            [a["image_id"], *(np.array(a["bbox"]) * rng.normal(1, 0.05, 4)), rng.random(), a["category_id"]]
            for a in data.annotations
        ]
    )
    scores = both(data, np.repeat(rows, 3, axis=0))
    assert scores.metrics["AP"] is not None and 10 < scores.metrics["AP"] < 100


def test_a_strange_image_or_one_in_two_parts_is_refused() -> None:
    row = np.array([[1, 10, 10, 20, 20, 0.9, 1.0]])
    for parts in ([row, row], [np.array([[9, *row[0, 1:]]])]):
        with pytest.raises(DataError, match="is not of test, or comes in two parts"):
            Scorer(dataset(TRUTH)).score(parts)
