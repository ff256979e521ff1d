"""What libraries return is read alike, by structure; what cannot be boxes is refused with the reason."""

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import robustbench_sgdm as rb
from robustbench_sgdm.core.detections import Detections
from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.detectors.adapters import read_result

XYXY = np.array([[1, 2, 3, 4], [2, 2, 6, 7]], np.float32)
SCORES = np.array([0.5, 0.9], np.float32)
LABELS = np.array([0, 1])


def of_ultralytics() -> Any:
    from ultralytics.engine.results import Results

    rows = torch.from_numpy(np.concatenate([XYXY, SCORES[:, None], LABELS[:, None]], 1))
    return Results(np.zeros((9, 9, 3), np.uint8), "a.jpg", {0: "a", 1: "b"}, boxes=rows)


def of_supervision() -> Any:
    return pytest.importorskip("supervision").Detections(XYXY, confidence=SCORES, class_id=LABELS)


def of_maite_classes() -> Any:
    scores = np.array([[0.5, 0.1], [0.05, 0.9]])  # one for each class
    return SimpleNamespace(boxes=XYXY, labels=np.zeros(2), scores=scores)


FORMS: dict[str, Callable[[], Any]] = {
    "Detections": lambda: Detections(XYXY, SCORES, LABELS),
    "ultralytics": of_ultralytics,
    "supervision": of_supervision,
    "maite": lambda: SimpleNamespace(boxes=XYXY, labels=LABELS, scores=SCORES),
    "maite, scores of classes": of_maite_classes,
    "torchvision": lambda: {
        "boxes": torch.from_numpy(XYXY).requires_grad_(),
        "labels": torch.from_numpy(LABELS),
        "scores": torch.from_numpy(SCORES).bfloat16().float(),
        "masks": None,
    },
    "tuple": lambda: (XYXY, SCORES, LABELS),
    "lists": lambda: (XYXY.tolist(), SCORES.tolist(), LABELS.tolist()),
    "rows": lambda: np.concatenate([XYXY, SCORES[:, None], LABELS[:, None]], 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_are_the_same(form: str) -> None:
    found = read_result(FORMS[form]())
    assert np.array_equal(found.xyxy, XYXY) and found.labels.tolist() == [0, 1]
    assert np.allclose(found.scores, SCORES, atol=5e-3)


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ((XYXY, LABELS + 0.25, SCORES), "the order is boxes, scores, labels"),
        ((XYXY, SCORES), "a tuple of 2"),
        ((XYXY, SCORES[:1], LABELS), "2 boxes with scores of shape"),
        ({"boxes": XYXY, "logits": SCORES}, "without scores, labels"),
        ("boxes", "not a known form of boxes"),
        (None, "not a known form of boxes"),
        (SimpleNamespace(boxes=None, orig_img=XYXY), "a model of the task detect"),
        (SimpleNamespace(xyxy=XYXY, confidence=None, class_id=LABELS), "without confidence"),
        (np.zeros((2, 5)), "cannot reshape"),
    ],
)
def test_what_cannot_be_boxes_is_refused(result: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_result(result)


def test_placeholders_and_gaps_are_no_classes() -> None:
    def labels(images: list[NDArray[np.uint8]]) -> list[Any]:
        return [(np.tile(XYXY[0], (4, 1)), np.array([0.9, 0.8, 0.7, 0.6]), np.arange(4)) for _ in images]

    names = ["__background__", "person", "N/A", "dog"]
    for classes in (names, {1: "person", 3: "dog"}):
        detector = rb.wrap_detector(labels, classes, fingerprint="1")
        assert detector.classes == ("person", "dog")
        (found,) = detector.predict([torch.zeros((3, 9, 9), dtype=torch.uint8)])
        assert found.labels.tolist() == [0, 1] and np.allclose(found.scores, [0.8, 0.6])


def test_arrays_that_ultralytics_takes_for_bgr_are_refused() -> None:
    def predict(images: list[NDArray[np.uint8]]) -> list[Any]:
        return [SimpleNamespace(boxes=of_ultralytics().boxes, orig_img=image) for image in images]

    image = torch.zeros((3, 9, 9), dtype=torch.uint8)
    image[0] = 200
    with pytest.raises(RobustBenchError, match=r"pass image\[\.\.\., ::-1\]"):
        rb.wrap_detector(predict, ["a", "b"], fingerprint="1").predict([image])

    def right(images: list[NDArray[np.uint8]]) -> list[Any]:
        return predict([image[..., ::-1] for image in images])

    assert len(rb.wrap_detector(right, ["a", "b"], fingerprint="1").predict([image])[0]) == 2


def test_a_state_dict_is_a_fingerprint_and_its_lack_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    class Owner:
        def __init__(self, bias: float) -> None:
            self.model = torch.nn.Linear(1, 1)
            torch.nn.init.constant_(self.model.bias, bias)
            torch.nn.init.ones_(self.model.weight)

        def __call__(self, images: list[NDArray[np.uint8]]) -> list[Any]:
            return [np.zeros((0, 6)) for _ in images]

        def method(self, images: list[NDArray[np.uint8]]) -> list[Any]:
            return self(images)

    caplog.set_level(logging.WARNING, "robustbench_sgdm")
    found = [
        rb.wrap_detector(form(bias), ["a"]).fingerprint
        for form in (Owner, lambda b: Owner(b).method)
        for bias in (0, 1)
    ]
    assert found[0] == found[2] and found[1] == found[3] != found[0] and not caplog.records
    given = rb.wrap_detector(Owner(0), ["a"], fingerprint="threshold 0.1")
    assert given.fingerprint != found[0]
    nothing = rb.wrap_detector(lambda images: [np.zeros((0, 6)) for _ in images], ["a"], name="mine")
    nothing.predict([torch.zeros((3, 9, 9), dtype=torch.uint8)])
    assert [record.getMessage()[:45] for record in caplog.records] == [
        "mine has no fingerprint and no state_dict to "
    ]


def test_supervision_there_and_back() -> None:
    pytest.importorskip("supervision")
    found = Detections(XYXY, SCORES, LABELS)
    theirs = found.to_supervision(["a", "b"])
    assert list(theirs.data["class_name"]) == ["a", "b"] and len(theirs.with_nms(0.5)) == 2
    back = Detections.from_supervision(theirs)
    assert all(
        np.array_equal(getattr(back, part), getattr(found, part)) for part in ("xyxy", "scores", "labels")
    )
    assert len(Detections.from_supervision(Detections.empty().to_supervision())) == 0
    theirs.confidence = None
    with pytest.raises(ValueError, match="without confidence"):
        Detections.from_supervision(theirs)
