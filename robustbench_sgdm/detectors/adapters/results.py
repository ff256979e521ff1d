"""Reads what libraries return for an image, recognised by its structure: none of them is imported."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.core.detections import Detections

Result = Any
"""For one image: `Detections`; Ultralytics `Results`; `supervision.Detections`; a MAITE target; the dict of torchvision
or transformers (boxes, scores, labels); a tuple (xyxy, scores, labels); or rows of x1, y1, x2, y2, score, label."""


class RawBoxes(NamedTuple):
    """As a library gave them: neither clipped nor checked against an image or classes.

    Attributes:
        xyxy: (n, 4) float32, px.
        scores: (n,) float32.
        labels: (n,) int64, the library's own.
    """

    xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


def read_result(result: Result) -> RawBoxes:
    """The boxes of one image in any of the known forms.

    Raises:
        ValueError: none of the forms, or its parts do not go together.
    """
    if isinstance(result, Detections):
        return RawBoxes(result.xyxy, result.scores, result.labels)
    if hasattr(result, "xyxy") and hasattr(result, "class_id"):  # supervision
        if result.confidence is None or result.class_id is None:
            raise ValueError("supervision.Detections without confidence or class_id; fill both in")
        return _raw(result.xyxy, result.confidence, result.class_id)
    if hasattr(result, "boxes") and hasattr(result, "orig_img"):  # Ultralytics
        if result.boxes is None:
            raise ValueError("Ultralytics results without boxes; give a model of the task detect")
        return _raw(result.boxes.xyxy, result.boxes.conf, result.boxes.cls)
    if all(hasattr(result, part) for part in ("boxes", "scores", "labels")):  # MAITE
        scores, labels = _array(result.scores), _array(result.labels)
        if scores.ndim == 2:  # MAITE allows a score for each class
            labels, scores = (scores.argmax(1), scores.max(1)) if scores.size else (labels, scores.ravel())
        return _raw(result.boxes, scores, labels)
    if isinstance(result, Mapping):
        if missing := [key for key in ("boxes", "scores", "labels") if key not in result]:
            raise ValueError(f"a dict of {', '.join(map(str, result))}, without {', '.join(missing)}")
        return _raw(result["boxes"], result["scores"], result["labels"])
    if isinstance(result, tuple):
        if len(result) != 3:
            raise ValueError(f"a tuple of {len(result)}, must be (xyxy, scores, labels)")
        return _raw(*result)
    rows = _array(result)
    if rows.dtype.kind not in "fiub":
        raise ValueError(
            f"{type(result).__name__} is not a known form of boxes; return (xyxy, scores, labels)"
        )
    rows = _table(rows, 6, "rows of x1, y1, x2, y2, score, label")
    return _raw(rows[:, :4], rows[:, 4], rows[:, 5])


def _raw(xyxy: Any, scores: Any, labels: Any) -> RawBoxes:
    parts = {"boxes": _array(xyxy), "scores": _array(scores), "labels": _array(labels)}
    for name, part in parts.items():
        if part.size and part.dtype.kind not in "fiub":
            raise ValueError(f"{name} are of type {part.dtype}, must be numbers")
    boxes, scores, labels = _table(parts["boxes"], 4, "boxes"), parts["scores"], parts["labels"]
    if scores.shape != (len(boxes),) or labels.shape != (len(boxes),):
        raise ValueError(
            f"{len(boxes)} boxes with scores of shape {scores.shape} and labels of shape {labels.shape}"
        )
    if not (
        np.isfinite(labels).all() and (np.abs(labels) < 2**53).all() and (labels == np.round(labels)).all()
    ):
        raise ValueError("labels are not whole numbers; the order is boxes, scores, labels")
    with np.errstate(over="ignore"):  # infinity, which is refused later
        return RawBoxes(boxes.astype(np.float32), scores.astype(np.float32), labels.astype(np.int64))


def _table(values: NDArray[Any], width: int, what: str) -> NDArray[Any]:
    """Rows of so many numbers; one of them, or none, may come in any shape."""
    if values.size and values.shape != (width,) and (values.ndim != 2 or values.shape[1] != width):
        raise ValueError(f"{what} have the shape {values.shape}, must have (n, {width})")
    return values.reshape(-1, width)


def _array(value: Any) -> NDArray[Any]:
    """A tensor, on whatever device, or anything like an array; numbers that come as objects, as numbers."""
    array = np.asarray(value.detach().float().cpu().numpy() if isinstance(value, Tensor) else value)
    try:
        return array.astype(np.float64) if array.dtype == object and array.ndim else array
    except (TypeError, ValueError):
        return array
