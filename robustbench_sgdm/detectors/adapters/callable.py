"""Any function from images to boxes as a `Detector`."""

import hashlib
import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from robustbench_sgdm.core.detections import Detections
from robustbench_sgdm.core.errors import RobustBenchError, UsageError

Boxes = Detections | tuple[ArrayLike, ArrayLike, ArrayLike] | ArrayLike
"""What a function may give for an image: `Detections`; (xyxy, scores, labels); rows of x1, y1, x2, y2, score, label."""

Function = Callable[[list[NDArray[np.uint8]]], Sequence[Boxes]]
"""Takes uint8 (H, W, 3) RGB arrays at their own sizes, gives the boxes of each in its pixels."""


class CallableDetector:
    """A `Detector` around a function. Results are clipped to the image and sorted by score.

    Args:
        function: see `Function`.
        classes: class names; a label is an index into them.
        name: what results call it.
        version: of the function and its weights. Stored results are used again as long as it stays the same; without
            one every detector is new, and nothing stored is used again.
        thread_safe: whether several threads may call the function at once.

    Raises:
        UsageError: no class.
    """

    imgsz = 0  # its own
    parameters = 0  # not known

    def __init__(
        self,
        function: Function,
        classes: Sequence[str],
        name: str,
        version: str | None = None,
        thread_safe: bool = False,
    ) -> None:
        if not classes:
            raise UsageError(f"{name} has no class; give the names that its labels are indices into")
        self.name = name
        self.classes = tuple(map(str, classes))
        self.version = version or uuid.uuid4().hex
        self._function = function
        self._lock = None if thread_safe else threading.Lock()

    @property
    def fingerprint(self) -> str:
        """Of the version and the classes; the function itself cannot be compared."""
        return hashlib.sha256(repr(("function", self.version, self.classes)).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """What the manifest keeps."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "version": self.version,
            "fingerprint": self.fingerprint,
        }

    def predict(self, images: Sequence[Tensor]) -> list[Detections]:
        """Detect in uint8 (3, H, W) RGB images; see `Detector.predict`.

        Raises:
            RobustBenchError: the function raised, or gave what cannot be read as boxes.
        """
        arrays = [np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()) for image in images]
        try:
            results = self._call(arrays)
            if len(results) != len(arrays):
                raise ValueError(f"{len(results)} results for {len(arrays)} images")
            return [self._detections(one, array) for one, array in zip(results, arrays, strict=True)]
        except RobustBenchError:
            raise
        except Exception as error:
            raise RobustBenchError(f"detector {self.name} failed: {type(error).__name__}: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": self._lock is not None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = {**state, "_lock": threading.Lock() if state["_lock"] else None}

    def _call(self, arrays: list[NDArray[np.uint8]]) -> Sequence[Boxes]:
        if self._lock is None:
            return self._function(arrays)
        with self._lock:
            return self._function(arrays)

    def _detections(self, result: Boxes, image: NDArray[np.uint8]) -> Detections:
        boxes: Any
        scores: Any
        labels: Any
        if isinstance(result, Detections):
            boxes, scores, labels = result.xyxy, result.scores, result.labels
        elif isinstance(result, tuple):
            boxes, scores, labels = (np.asarray(_numpy(part)) for part in result)
        else:
            rows = np.asarray(_numpy(result), np.float64).reshape(-1, 6)
            boxes, scores, labels = rows[:, :4], rows[:, 4], rows[:, 5]
        order = np.argsort(-scores, kind="stable")
        limit = np.array([image.shape[1], image.shape[0]] * 2, np.float32)
        xyxy = np.asarray(boxes, np.float32).reshape(-1, 4)[order]
        detections = Detections(
            np.clip(xyxy, 0, limit),
            np.asarray(scores, np.float32)[order],
            np.asarray(labels, np.int64)[order],
        )
        if len(detections) and not 0 <= detections.labels.min() <= detections.labels.max() < len(
            self.classes
        ):
            raise ValueError(
                f"labels span {detections.labels.min()} to {detections.labels.max()}, "
                f"must be 0 to {len(self.classes) - 1}: "
                "indices into the classes"
            )
        return detections


def wrap_detector(
    function: Function,
    classes: Sequence[str],
    *,
    name: str | None = None,
    version: str | None = None,
    thread_safe: bool = False,
) -> CallableDetector:
    """Make a function a detector that `evaluate` takes; arguments as `CallableDetector`'s.

    >>> nothing = wrap_detector(lambda images: [np.zeros((0, 6)) for _ in images], ["cat"], name="nothing")
    >>> nothing.classes
    ('cat',)
    """
    return CallableDetector(
        function, classes, name or str(getattr(function, "__name__", "detector")), version, thread_safe
    )


def _numpy(value: Any) -> Any:
    """Tensors, on whatever device, as arrays."""
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else value
