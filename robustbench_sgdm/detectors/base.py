"""What every detector can do, wherever it comes from."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from robustbench_sgdm.core.detections import Detections


def validate_images(images: Sequence[Tensor]) -> None:
    """Refuse images that no detector takes.

    Raises:
        ValueError: one is not uint8 (3, H, W).
    """
    for image in images:
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
            raise ValueError(f"an image is {image.dtype} {tuple(image.shape)}, must be uint8 (3, H, W)")


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
