"""What every detector can do, wherever it comes from."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from robustbench_sgdm.core.detections import Detections
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.core.untrusted_input import short_repr


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
            UsageError: an image has another type or shape.
            RobustBenchError: the model's output is NaN or infinite.
        """


def check_detector(model: object) -> Detector:
    """The model, which must be a detector.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(model, Detector):
        raise UsageError(
            f"{short_repr(model)} is not a detector; give a name, the path of a file, or what wrap_detector returns"
        )
    return model


def check_images(images: Sequence[Tensor]) -> None:
    """Refuse what no detector takes.

    Raises:
        UsageError: an image is not a uint8 (3, H, W) tensor.
    """
    for image in images:
        is_tensor = isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3
        if not is_tensor or image.shape[0] != 3 or 0 in image.shape:
            kind = f"{getattr(image, 'dtype', type(image).__name__)} {tuple(getattr(image, 'shape', ()))}"
            raise UsageError(f"an image is {kind}, must be a uint8 (3, H, W) tensor, RGB")
