"""mmdetection's pickled test results are read as the json that mmdetection writes of them, or refused."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.datasets import Dataset, Image
from robustbench_sgdm.scoring import Predictions, read_predictions

FILES = ("000000000010.jpg", "000000000002.jpg", "000000000033.jpg")
IDS = (10, 2, 33)
ORDER = (3, 1, 7)  # the categories in a json that does not sort them


def make_dataset(categories: tuple[int, ...] = (1, 3, 7), **more: Any) -> Dataset:
    """Three images of 100 x 100 px, not sorted by id, each with a box."""
    images = [Image(i, Path("root/val2017") / f, 100, 100) for i, f in zip(IDS, FILES, strict=True)]
    classes = [{"id": c, "name": n} for c, n in zip(categories, ("person", "dog", "cat"), strict=True)]
    box = {"category_id": categories[0], "bbox": [9, 9, 20, 20], "area": 400, "iscrowd": 0}
    annotations = [{"id": n, "image_id": i, **box} for n, i in enumerate(IDS, 1)]
    return Dataset("data", more.pop("source", "val.json"), images, classes, annotations, **more)


@pytest.fixture
def dataset() -> Dataset:
    """The categories of its json are not sorted by id."""
    return make_dataset(file_category_ids=ORDER)


def detections(dataset: Dataset) -> list[list[np.ndarray[Any, Any]]]:
    """Of each image by label, (n, 5) as mmdetection 2 has them; none for the last label."""
    rng = np.random.default_rng(0)
    found = []
    for _ in dataset.images:
        corners = rng.uniform(0, 40, (5, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (5, 2)), rng.random((5, 1))], 1)
        found.append(
            [boxes[:3].astype(np.float32), boxes[3:].astype(np.float32), np.zeros((0, 5), np.float32)]
        )
    return found


def as_json(found: list[list[np.ndarray[Any, Any]]]) -> list[dict[str, Any]]:
    """As mmdetection's `results2json` does it: Python's numbers of float32, sides in double precision."""
    return [
        {"image_id": image, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
        for image, by_class in zip(IDS, found, strict=True)
        for category, boxes in zip(ORDER, by_class, strict=True)
        for x1, y1, x2, y2, score in boxes.tolist()
    ]


def samples_of(found: list[list[np.ndarray[Any, Any]]], make: Any, **more: Any) -> list[dict[str, Any]]:
    """As mmdetection 3 writes them: boxes and scores are views of one tensor."""
    made = []
    for image, file, by_class in zip(IDS, FILES, found, strict=True):
        whole = make(np.concatenate(by_class))
        labels = make(np.repeat(np.arange(3), [len(one) for one in by_class]))
        instances = {"bboxes": whole[:, :4], "scores": whole[:, 4], "labels": labels}
        made.append(
            {"img_id": image, "img_path": f"data/coco/val2017/{file}", "ori_shape": (100, 100)} | more
        )
        made[-1]["pred_instances"] = instances
    return made


def read(path: Path, content: Any, dataset: Dataset, protocol: int = 2) -> pd.DataFrame:
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return read_predictions(path, dataset)


@pytest.fixture
def expected(dataset: Dataset, tmp_path: Path) -> pd.DataFrame:
    (tmp_path / "p.json").write_text(json.dumps(as_json(detections(dataset))))
    return read_predictions(tmp_path / "p.json", dataset)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_each_form_is_read_as_its_json(
    tmp_path: Path, dataset: Dataset, expected: pd.DataFrame, protocol: int
) -> None:
    found = detections(dataset)
    forms = (
        found,
        [(boxes, [[{"size": [100, 100], "counts": b"a0"}] * len(b) for b in boxes]) for boxes in found],
        samples_of(found, torch.from_numpy),
        samples_of(found, np.asarray),
        samples_of(found, torch.from_numpy, img_path=None),
        [
            {k: v for k, v in s.items() if k != "img_id"}
            for s in reversed(samples_of(found, torch.from_numpy))
        ],
    )
    for number, form in enumerate(forms):
        frame = read(tmp_path / "r.pkl", form, dataset, protocol)
        pd.testing.assert_frame_equal(frame, expected, check_exact=True, obj=f"form {number}")


def test_images_without_detections(tmp_path: Path, dataset: Dataset) -> None:
    none = [[np.zeros((0, 5), np.float32)] * 3] * 3
    assert read(tmp_path / "r.pkl", none, dataset).empty
    assert read(tmp_path / "r.pkl", samples_of(none, torch.from_numpy), dataset).empty


def test_labels_are_said_and_are_no_ids(tmp_path: Path, dataset: Dataset) -> None:
    """Beside a json of ids in one command, and for data whose own classes have no ids."""
    (tmp_path / "r.pkl").write_bytes(pickle.dumps(detections(dataset)))
    (tmp_path / "p.json").write_text(json.dumps(as_json(detections(dataset))))
    paths = [tmp_path / "p.json", tmp_path / "r.pkl"]
    both = Predictions(paths, dataset)
    assert both.read(paths[0]).equals(both.read(paths[1]))
    assert any("in the order of data's categories (0 is dog, 1 is person, 2 is cat)" in n for n in both.notes)
    yaml = make_dataset((0, 1, 2), source="data.yaml")
    frame = read(tmp_path / "r.pkl", detections(dataset), yaml)
    assert sorted(set(frame["category_id"])) == [0, 1]


class Evil:
    """Pickled, asks to run a command."""

    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


def changed(**more: Any) -> Any:
    """One sample of mmdetection 3 with other instances."""
    sound = {
        "bboxes": torch.zeros(2, 4),
        "scores": torch.zeros(2),
        "labels": torch.zeros(2, dtype=torch.int64),
    }
    return [{"img_id": 10, "pred_instances": sound | more}]


empty = np.zeros((0, 5), np.float32)
REFUSED: dict[str, tuple[Any, str]] = {
    "fewer images": ([[empty] * 3] * 2, "results of 2 images, and data has 3; mmdetection 2 writes no ids"),
    "other classes": ([[empty] * 80] * 3, "image 1 has 80 classes, and data has 3"),
    "other classes later": ([[empty] * 3] * 2 + [[empty] * 2], "image 3 has 2 classes, and data has 3"),
    "labels beyond": (
        changed(labels=torch.tensor([0, 3])),
        "image 1 has labels from 0 to 3, and data has 3 classes",
    ),
    "labels below": (changed(labels=torch.tensor([-1, 0])), "image 1 has labels from -1 to 0"),
    "labels that are no whole numbers": (changed(labels=torch.zeros(2)), "float32; they must be"),
    "fewer scores": (changed(scores=torch.zeros(1)), r"bboxes of shape \(2, 4\), scores of \(1,\)"),
    "turned boxes": (changed(bboxes=torch.zeros(2, 5)), r"bboxes of shape \(2, 5\)"),
    "turned boxes of 2": ([[np.zeros((1, 6))] * 3] * 3, r"image 1 has boxes of shape \(1, 6\), not \(n, 5\)"),
    "bfloat16": (
        changed(scores=torch.zeros(2).bfloat16()),
        "image 1 holds a tensor of type 'torch.BFloat16Storage'",
    ),
    "no instances": ([{"img_id": 10}], "image 1 has pred_instances None"),
    "another image": ([*changed(), {"img_id": 10}], "image 2 has pred_instances None"),
    "no id": ([{**changed()[0], "img_id": None}], "image 1 has neither img_id nor img_path"),
    "an odd id": ([{**changed()[0], "img_id": [1]}], "image 1 has an unusable img_id or img_path"),
    "an unknown image": ([{**changed()[0], "img_id": 5}], "is of image 5, which data does not have"),
    "proposals": ([empty] * 3, "image 1 is Record"),
    "nested results": ({"fog": {1: {"bbox": {"AP": 0.5}}}}, "no results of mmdetection: it holds {'fog'"),
    "nothing": ([], r"no results of mmdetection: it holds \[\]; tools/test.py --out writes"),
    "code": (Evil(), r"no results of mmdetection: it holds Record\(path='\w+.system'\)"),
    "code of a class": (
        [[Evil(), empty, empty]] * 3,
        r"image 1 holds a '\w+.system' in the place of an array",
    ),
    "boxes that share one array": ([[np.zeros((10**4, 5))] * 3] * 3, "its arrays repeat each other"),
    "a score beyond 1": ([[np.full((1, 5), 2.0)] * 3] * 3, r"score 2; a confidence must lie in \[0, 1\]"),
    "a number": ([[np.float64(0.5), empty, empty]] * 3, r"image 1 has boxes of shape \(\), not \(n, 5\)"),
    "an infinite box": ([[np.full((1, 5), np.inf)] * 3] * 3, "all must be finite numbers"),
    "no finite box": ([[np.full((1, 5), np.nan)] * 3] * 3, "all must be finite numbers"),
    "text": (b"[]", "cannot be read: not a pickle"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, dataset: Dataset, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=REFUSED[kind][1]) as caught:
        read(tmp_path / "r.pkl", REFUSED[kind][0], dataset)
    assert str(caught.value).startswith(str(tmp_path / "r.pkl")) and len(str(caught.value)) < 1000
    assert not (tmp_path / "ran").exists()
