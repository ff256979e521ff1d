"""Ours as MAITE's protocols take them: a detector as an object detection model, a corruption as an augmentation.

Structural: MAITE (maite.protocols.object_detection) is not imported.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from robustbench_sgdm.core.detections import Detections
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.corruption import Corruption, apply_corruption
from robustbench_sgdm.detectors.base import Detector, check_detector


@dataclass(frozen=True, eq=False)
class MaiteTarget:
    """MAITE's `ObjectDetectionTarget`: corners (n, 4) px, labels (n,) and scores (n,)."""

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]

    @classmethod
    def of(cls, found: Detections) -> "MaiteTarget":
        """The same boxes."""
        return cls(found.xyxy, found.labels, found.scores)


class MaiteModel:
    """MAITE's `Model` around a detector.

    Args:
        detector: any.
    """

    def __init__(self, detector: Detector) -> None:
        self.detector = check_detector(detector)
        self.metadata: dict[str, Any] = {
            "id": detector.name,
            "index2label": dict(enumerate(detector.classes)),
        }

    def __call__(self, batch: Sequence[ArrayLike], /) -> list[MaiteTarget]:
        """Detect in uint8 (3, H, W) RGB images, arrays or tensors.

        Raises:
            UsageError: images of another type or shape.
        """
        return [MaiteTarget.of(one) for one in self.detector.predict([_tensor(image) for image in batch])]


class MaiteAugmentation:
    """MAITE's `Augmentation` that corrupts a batch; boxes and metadata stay.

    Args:
        corruption: what to do.
        severity: 0 (unchanged) to 5, any real number.
        seed: of the corruptions. Pixels depend on it and on the `id` of an image's metadata, not on the batch.
    """

    def __init__(self, corruption: Corruption, severity: float, seed: int = 0) -> None:
        self.corruption, self.severity, self.seed = corruption, severity, seed
        self.metadata: dict[str, Any] = {"id": f"{corruption.name}@{severity:g}"}

    def __call__(
        self, batch: tuple[Sequence[ArrayLike], Sequence[Any], Sequence[Mapping[str, Any]]], /
    ) -> tuple[list[Any], Sequence[Any], Sequence[Mapping[str, Any]]]:
        """Corrupt uint8 (3, H, W) RGB images; each comes back as the array or tensor that it was.

        Raises:
            UsageError: images of another type or shape.
        """
        images, targets, metadata = batch
        noisy = []
        for image, about in zip(images, metadata, strict=True):
            (one,) = apply_corruption(
                self.corruption,
                _tensor(image)[None],
                self.severity,
                seed=self.seed,
                image_ids=[_image_id(about["id"])],
            )
            noisy.append(one if isinstance(image, Tensor) else one.numpy())
        return noisy, targets, metadata


def _tensor(image: ArrayLike | Tensor) -> Tensor:
    tensor = image if isinstance(image, Tensor) else torch.from_numpy(np.array(image))
    if tensor.dtype != torch.uint8 or tensor.ndim != 3 or tensor.shape[0] != 3:
        raise UsageError(
            f"an image is {tensor.dtype} {tuple(tensor.shape)}; give uint8 (3, H, W) RGB: shares of 1 times 255, rounded"
        )
    return tensor


def _image_id(text: str | int) -> int:
    """A data set's id where it is a whole number, so that pixels are those of a run; else a hash."""
    if str(text).isdecimal() and int(text) < 2**53:
        return int(text)
    return int.from_bytes(hashlib.sha256(str(text).encode()).digest()[:6], "big")
