"""What every detector can do, wherever it comes from."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from robustbench_sgdm.core.detections import Detections


@runtime_checkable
class Detector(Protocol):
    """Finds boxes in images. Safe to call from several threads at once."""

    @property
    def name(self) -> str:
        """What tables and figures call it."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a detection's label is an index into them."""

    @property
    def imgsz(self) -> int:
        """Side in pixels of the square that every image is fitted into."""

    @property
    def parameters(self) -> int:
        """Number of trainable values, before BatchNorm is folded."""

    def describe(self) -> dict[str, Any]:
        """What rebuilds it, as plain types: classes, sizes, settings, and its fingerprint."""

    @property
    def fingerprint(self) -> str:
        """sha256, in hexadecimal, of the weights and of every setting that decides the output."""

    def predict(self, images: Sequence[Tensor]) -> list[Detections]:
        """Detect in each image by itself: what else is in the batch plays no part, rounding aside.

        Args:
            images: uint8 (3, H, W) RGB tensors at their original sizes, on any device.

        Returns:
            For each image, boxes in its own pixels and within it, best score first.

        Raises:
            ValueError: an image has another type or shape.
            RobustBenchError: the model's output is NaN or infinite.
        """
