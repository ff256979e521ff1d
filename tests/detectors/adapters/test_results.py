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
from robustbench_sgdm.core.errors import RobustBenchError, UsageError
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
        (np.zeros((2, 5)), r"label have the shape \(2, 5\), must have \(n, 6\)"),
        (np.zeros((3, 4)), r"must have \(n, 6\)"),  # boxes alone
        ((XYXY.T, SCORES, LABELS), r"boxes have the shape \(4, 2\)"),
        ((XYXY.ravel(), SCORES, LABELS), r"boxes have the shape \(8,\)"),
        ((XYXY, SCORES, ["a", "b"]), "labels are of type <U1, must be numbers"),
        ((XYXY.astype(complex), SCORES, LABELS), "boxes are of type complex128"),
        ((XYXY, SCORES, [0, 1e20]), "labels are not whole numbers"),
        ((XYXY, SCORES[:, None], LABELS[:, None]), r"scores of shape \(2, 1\)"),
        ((box for box in XYXY), "generator is not a known form"),
    ],
)
def test_what_cannot_be_boxes_is_refused(result: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_result(result)


def found(function: Any, classes: Any = ("a", "b")) -> Detections:
    """What is found in one image of 40 x 60 px."""
    image = torch.zeros((3, 40, 60), dtype=torch.uint8)
    (detections,) = rb.wrap_detector(function, classes, name="mine", fingerprint="1").predict([image])
    return detections


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ((XYXY, [-3.2, -0.5], LABELS), r"scores go down to -3.2, must lie in \[0, 1\]"),  # logarithms
        ((XYXY, [90, 50], LABELS), "scores span"),
        ((XYXY, [np.nan, 0.5], LABELS), "NaN or infinite"),
        ((XYXY * np.inf, SCORES, LABELS), "a box is NaN or infinite"),
        ((XYXY.astype(float) * 1e39, SCORES, LABELS), "a box is NaN or infinite"),
        ((XYXY[:, [2, 3, 0, 1]], SCORES, LABELS), "x2 < x1"),
        ((XYXY, SCORES, LABELS + 1), "labels span 1 to 2, must be 0 to 1: indices into the classes"),
        (
            (np.tile(XYXY, (3, 1)) / 10, np.tile(SCORES, 3), np.tile(LABELS, 3)),
            r"shares of the image.*60 x 40",
        ),
    ],
)
def test_boxes_that_cannot_be_are_refused(result: Any, reason: str) -> None:
    with pytest.raises(RobustBenchError, match=f"detector mine failed: ValueError: .*{reason}"):
        found(lambda images: [result] * len(images))


def test_results_for_all_images_at_once_are_refused() -> None:
    rows = FORMS["rows"]()
    for returned, reason in (
        (rows[:1], r"one array of \(1, 6\) for 1 images; return a list"),
        (torch.from_numpy(rows[:1]), "one array of"),
        (None, "'NoneType' object is not iterable"),
        ([rows, rows], "2 results for 1 images"),
        ({"boxes": XYXY}, "str is not a known form"),
    ):
        with pytest.raises(RobustBenchError, match=reason):
            found(lambda images, returned=returned: returned)
    assert len(found(lambda images: (rows for _ in images))) == len(found(lambda images: rows[None])) == 2


def test_a_function_that_ends_the_process_or_says_too_much() -> None:
    def ends(images: Any) -> Any:
        raise SystemExit(3)

    def talks(images: Any) -> Any:
        raise ValueError("x\n" * 5000)

    for function in (ends, talks):
        with pytest.raises(RobustBenchError, match="detector mine failed") as caught:
            found(function)
        assert len(str(caught.value)) < 600 and "\n" not in str(caught.value)


def test_a_function_may_write_into_its_images() -> None:
    def blacken(images: list[NDArray[np.uint8]]) -> list[Any]:
        for image in images:
            image[:] = 0
        return [[] for _ in images]

    kept = torch.full((9, 8, 3), 7, dtype=torch.uint8).permute(2, 0, 1)  # as images are decoded
    rb.wrap_detector(blacken, ["a"], fingerprint="1").predict([kept])
    assert (kept == 7).all()


@pytest.mark.parametrize(
    ("classes", "reason"),
    [
        (None, "must be a list of texts or a dict"),
        ([], "has no class"),
        (["a", None], "must be a list of texts or a dict"),
        (["a" * 501], "has 501 characters"),
        ({-1: "a"}, "has the label -1, must be a whole number"),
        ({10**9: "a"}, "has the label 1000000000"),  # a table of labels that long would fill the memory
        ({0.5: "a"}, "must be a list of texts or a dict"),
    ],
)
def test_classes_that_cannot_be(classes: Any, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        found(lambda images: [], classes)


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
