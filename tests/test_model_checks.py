"""Why is this not the published AP: each finding appears for a detector with exactly that fault, none for a sound one."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import robustbench_sgdm as rb
from robustbench_sgdm.core import resources
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.datasets import scenes
from robustbench_sgdm.detectors import Detector
from robustbench_sgdm.detectors.letterbox import letterbox_placement

models: Any = resources.import_file(resources.root() / "tests/detectors/runtimes/models.py")
IMAGES = 20
Rows = NDArray[np.float64]


class Remembering:
    """The embedded detector, which looks at each image once."""

    def __init__(self) -> None:
        self.detector = rb.load_detector("yolov8n")
        self.seen: dict[str, Rows] = {}

    def __call__(self, image: NDArray[np.uint8]) -> Rows:
        """Rows of x1, y1, x2, y2, score, label."""
        key = hashlib.sha256(image.tobytes()).hexdigest()
        if key not in self.seen:
            tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
            (found,) = self.detector.predict([tensor])
            self.seen[key] = np.concatenate([found.xyxy, found.scores[:, None], found.labels[:, None]], 1)
        return self.seen[key].copy()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scenes.write_split(tmp_path_factory.mktemp("data"), "val", IMAGES)


@pytest.fixture(scope="module")
def sound() -> Remembering:
    return Remembering()


def boxes(change: Callable[[Rows, NDArray[np.uint8]], Rows]) -> Callable[[Remembering], Any]:
    """A detector whose rows are changed."""
    return lambda find: lambda images: [change(find(image), image) for image in images]


def in_form(to: Callable[[Rows, float, float], Rows]) -> Callable[[Remembering], Any]:
    """A detector whose four numbers mean something else."""

    def change(rows: Rows, image: NDArray[np.uint8]) -> Rows:
        height, width = image.shape[:2]
        return np.concatenate([to(rows[:, :4], width, height), rows[:, 4:]], 1)

    return boxes(change)


def squared(b: Rows, width: float, height: float) -> Rows:
    where = letterbox_placement(int(height), int(width), 640)
    return np.asarray(b * (where.width / width) + np.array([where.left, where.top] * 2))


def duplicated(rows: Rows, _: NDArray[np.uint8]) -> Rows:
    near = [rows + np.array([*[shift] * 4, -0.1 * shift * 0, 0]) for shift in (0, 0.4, 0.8)]
    return np.concatenate(near)


def swapped(find: Remembering) -> Any:
    """Wants BGR: it is sure of what it finds in images of swapped channels, and less in the others."""
    marks = {"first": True}

    def predict(images: list[NDArray[np.uint8]]) -> list[Rows]:
        found = []
        for image in images:
            key = hashlib.sha256(image[..., ::-1].tobytes()).hexdigest()
            is_swapped = key in marks
            marks[hashlib.sha256(image.tobytes()).hexdigest()] = True
            rows = find(image[..., ::-1] if is_swapped else image)
            rows[:, 4] *= 1.0 if is_swapped else 0.5 + 0.1 * np.sin(np.arange(len(rows)))
            found.append(rows)
        return found

    return predict


FAULTS: dict[str, tuple[str, Callable[[Remembering], Any], str]] = {
    "width and height": (
        "box format",
        in_form(lambda b, w, h: np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], 1)),
        "as x, y, width, height in pixels",
    ),
    "centres": (
        "box format",
        in_form(lambda b, w, h: np.concatenate([(b[:, :2] + b[:, 2:]) / 2, b[:, 2:] - b[:, :2]], 1)),
        "as centre x, centre y, width, height in pixels",
    ),
    "shares": (
        "box format",
        in_form(lambda b, w, h: b / np.array([w, h, w, h])),
        "as x1, y1, x2, y2 as shares of the image",
    ),
    "rows first": ("box format", in_form(lambda b, w, h: b[:, [1, 0, 3, 2]]), "as y1, x1, y2, x2 in pixels"),
    "left in the letterbox": ("box format", in_form(squared), "in a letterboxed square of 640 px"),
    "stretched": (
        "box format",
        in_form(lambda b, w, h: b * 640 / np.array([w, h, w, h])),
        "in a stretched square of 640 px",
    ),
    "a threshold": ("scores", boxes(lambda r, _: r[r[:, 4] > 0.25]), "scores from 0.25"),
    "percent": ("scores", boxes(lambda r, _: r * np.array([1, 1, 1, 1, 100, 1])), "scores from 0.1"),
    "equal scores": (
        "scores",
        boxes(lambda r, _: np.where(np.arange(6) == 4, 0.5, r[r[:, 4] > 0.3])),
        "0.5 to 0.5",
    ),
    "one more": ("labels", boxes(lambda r, _: r + np.array([0, 0, 0, 0, 0, 1])), "with one less"),
    "another order": (
        "labels",
        boxes(lambda r, _: np.where(np.arange(6) == 5, (r * 5) % 12, r)),
        "objects that a box fits",
    ),
    "few boxes": ("boxes an image", boxes(lambda r, _: r[:15]), "have exactly 15"),
    "no suppression": ("suppression", boxes(duplicated), "drops 6"),
    "nothing in some": (
        "images without boxes",
        boxes(lambda r, image: r[: 0 if int(image.sum()) % 3 == 0 else None]),
        "images that have objects",
    ),
    "BGR": ("colour order", swapped, "as BGR"),
}


def wrap(function: Any, classes: tuple[str, ...]) -> Detector:
    return rb.wrap_detector(function, classes, name="mine", fingerprint="1")


def test_a_sound_detector_has_nothing_to_change(data: Path, sound: Remembering) -> None:
    for detector in (sound.detector, wrap(boxes(lambda r, _: r)(sound), sound.detector.classes)):
        found = rb.checks(detector, data=data)
        assert not found.problems and found.images == IMAGES
        assert {"AP", "class names", "scores", "box format", "labels", "colour order"} <= {
            one.check for one in found.findings
        }
    assert "<table" in found._repr_html_() and list(found.frame()) == ["check", "evidence", "remedy"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_nothing_else(fault: str, data: Path, sound: Remembering) -> None:
    check, make, evidence = FAULTS[fault]
    found = rb.checks(wrap(make(sound), sound.detector.classes), data=data)
    assert [one.check for one in found.problems] == [check], found.problems
    assert evidence in found.problems[0].evidence


def test_class_names(data: Path, sound: Remembering) -> None:
    function = boxes(lambda r, _: r)(sound)
    renamed = tuple("pot" if name == "mug" else name for name in sound.detector.classes)
    (problem,) = rb.checks(wrap(function, renamed), data=data).problems
    assert problem.check == "class names" and "mug; it has pot instead" in problem.evidence
    found = rb.checks(wrap(function, tuple("abcdefghijkl")), data=data).problems
    assert found[0].check == "class names" and "share no class name" in found[0].evidence


def test_size_and_thresholds_of_a_file(data: Path) -> None:
    found = rb.checks("yolov8n", data=data, imgsz=128, conf=0.3, limit=8)
    problems = {one.check: one for one in found.problems}
    assert {"image size", "scores", "thresholds"} <= set(problems)
    assert "320 px that its file says" in problems["image size"].evidence
    assert "--imgsz 320" in problems["image size"].remedy


def exported(path: Path, **how: Any) -> Path:
    path.write_bytes(models.raw(**how))
    return path


@pytest.mark.parametrize(
    ("side", "said", "evidence", "is_problem"),
    [
        (64, 640, "64 px, the one size that the file takes; its metadata say 640 px", True),
        (64, 64, "64 px, as its file says", False),
        (
            "any",
            99_999,
            "64 px; the 99999 px that its file says it was trained at cannot be tried: imgsz is",
            False,
        ),
        ("any", 128, "at 64 px, ", True),
    ],
)
def test_the_size_of_an_exported_file(
    tiny_coco: Path, tmp_path: Path, side: int | str, said: int, evidence: str, is_problem: bool
) -> None:
    """What a file says of its size may be wrong; it runs at the size that it takes."""
    path = exported(tmp_path / "m.onnx", side=side, metadata=models.METADATA | {"imgsz": f"[{said}, {said}]"})
    found = rb.checks(path, data=tiny_coco, limit=2, imgsz=0 if side == 64 else 64)
    (size,) = (one for one in found.findings if one.check == "image size")
    assert evidence in size.evidence and bool(size.remedy) == is_problem


def test_a_file_that_says_nothing_of_itself(
    tiny_coco: Path, tmp_path: Path, command: Callable[..., str]
) -> None:
    path = exported(tmp_path / "m.onnx", metadata={}, batch=1)
    words = ("checks", "--model", str(path), "--data", str(tiny_coco), "--limit", "2")
    assert "give as many as it has" in command(*words, code=2)
    how = ("--classes", "cat,dog,cow", "--layout", "raw", "--normalize", "unit", "--runtime", "auto")
    shown = command(*words, *how, code=1).splitlines()
    (head,) = (line for line in shown if line.split() == ["check", "result", "evidence"])
    place = head.index("evidence")
    (scores,) = (line for line in shown if " boxes, scores from " in line)
    assert scores[place - 1] == " " and scores[place].isdigit(), "the column is aligned to the left"
    assert "names 2 models; check one" in command("checks", "--model", f"{path},yolov8n", code=2)


def test_an_untrained_model_is_said_to_be_one(data: Path) -> None:
    def random(images: list[NDArray[np.uint8]]) -> list[Rows]:
        rng = np.random.default_rng(int(images[0].sum()))
        corner = rng.uniform(0, 200, (50, 2))
        rows = [
            corner,
            corner + rng.uniform(1, 20, (50, 2)),
            rng.uniform(0, 1, (50, 1)),
            rng.integers(0, 12, (50, 1)),
        ]
        return [np.concatenate(rows, 1)]

    found = rb.checks(wrap(random, scenes.CLASSES), data=data, limit=6).problems
    assert found and found[0].check in ("AP", "labels", "boxes an image")


def test_stored_predictions(
    data: Path, sound: Remembering, tmp_path: Path, command: Callable[..., str]
) -> None:
    from robustbench_sgdm import datasets

    dataset = datasets.load_dataset(str(data))
    entries = []
    for image in dataset.images:
        pixels = datasets.image_decoding.read_image(image)
        for x1, y1, x2, y2, score, label in sound(pixels).tolist():
            category = dataset.categories[int(label)]["id"]
            box = [x1, y1, x2 - x1, y2 - y1]
            entries.append({"image_id": image.id, "category_id": category, "bbox": box, "score": score})
    path = tmp_path / "found.json"
    path.write_text(json.dumps(entries))
    assert not rb.checks(predictions=path, data=data).problems
    path.write_text(json.dumps([one for one in entries if one["score"] > 0.3]))
    shown = command("checks", "--predictions", str(path), "--data", str(data), code=1)
    assert "found.json on 20 images" in shown and "lower the model's threshold" in shown


def test_the_command(data: Path, command: Callable[..., str]) -> None:
    shown = command("checks", "--model", "yolov8n", "--data", str(data), "--limit", "8")
    assert "nothing to change" in shown and "yolov8n on 8 images" in shown
    shown = command(
        "checks", "--model", "yolov8n", "--data", str(data), "--limit", "8", "--conf", "0.3", code=1
    )
    assert "scores: AP is measured over all confidences" in shown
    with pytest.raises(UsageError, match="either a model or stored predictions"):
        rb.checks("yolov8n", predictions=Path("x.json"))
    assert "CPU cores" in command("checks")
