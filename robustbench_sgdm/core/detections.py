"""The one container for boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import supervision


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Boxes found in one image, validated when built.

    Attributes:
        xyxy: (n, 4) float32, corners in pixels of the original image.
        scores: (n,) float32 in [0, 1].
        labels: (n,) int64, index into the detector's class names.

    Raises:
        ValueError: shapes disagree, a value is not finite, or a corner is out of order.
    """

    xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.scores)
        for name, shape, dtype in (
            ("xyxy", (n, 4), np.float32),
            ("scores", (n,), np.float32),
            ("labels", (n,), np.int64),
        ):
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(f"{name} is {array.dtype}{array.shape}, must be {np.dtype(dtype)}{shape}")
        if not (np.isfinite(self.xyxy).all() and np.isfinite(self.scores).all()):
            raise ValueError("a box or score is NaN or infinite")
        if n and (self.xyxy[:, 2:] < self.xyxy[:, :2]).any():
            raise ValueError("a box has x2 < x1 or y2 < y1")
        if n and (self.scores.min() < 0 or self.scores.max() > 1):
            raise ValueError(f"scores span [{self.scores.min()}, {self.scores.max()}], must lie in [0, 1]")

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> Self:
        """No boxes."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    def to_supervision(self, classes: Sequence[str] | None = None) -> "supervision.Detections":
        """As `supervision.Detections`, which must be installed; with `data["class_name"]` where classes are given."""
        import supervision

        data: dict[str, Any] = {}
        if classes is not None:
            data["class_name"] = np.array([classes[label] for label in self.labels], dtype=str)
        return supervision.Detections(self.xyxy, confidence=self.scores, class_id=self.labels, data=data)

    @classmethod
    def from_supervision(cls, detections: "supervision.Detections") -> Self:
        """Of `supervision.Detections`, or whatever has its `xyxy`, `confidence` and `class_id`.

        Raises:
            ValueError: no confidence or class_id, or boxes that `Detections` refuses.
        """
        if detections.confidence is None or detections.class_id is None:
            raise ValueError("supervision.Detections without confidence or class_id; fill both in")
        return cls(
            np.asarray(detections.xyxy, np.float32).reshape(-1, 4),
            np.asarray(detections.confidence, np.float32),
            np.asarray(detections.class_id, np.int64),
        )
