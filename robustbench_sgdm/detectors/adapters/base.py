"""A `Detector` of another library: its results checked, clipped, sorted, and labelled by our classes."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.detections import Detections
from robustbench_sgdm.core.errors import RobustBenchError, UsageError
from robustbench_sgdm.detectors.adapters.results import RawBoxes, read_result
from robustbench_sgdm.detectors.base import check_images
from robustbench_sgdm.detectors.device import is_out_of_memory, select_device
from robustbench_sgdm.detectors.operations import count_gflops

_COUNTED_SIDE = (
    640  # px, of the image whose operations are counted where a library scales images by its own rules
)

PLACEHOLDERS = frozenset({"__background__", "N/A"})
"""Names that COCO's 91 labels have where there is no class; boxes with such a label are left out."""


class AdaptedDetector(ABC):
    """A `Detector` whose boxes another library finds.

    Args:
        name: what results call it.
        classes: class names by the library's label. Labels without a name, and `PLACEHOLDERS`, are no classes.
        imgsz: what tables show as its size; 0 where it scales images by rules of its own.
        parameters: number of trainable values; 0 where that is not known.
        conf: score below which boxes are dropped.
        max_det: most boxes of an image.

    Raises:
        UsageError: no class.

    Attributes:
        label_index: our label for each of the library's, -1 where it has no class.
    """

    fingerprint: str

    def __init__(
        self,
        name: str,
        classes: Sequence[str] | Mapping[int, str],
        *,
        imgsz: int = 0,
        parameters: int = 0,
        conf: float = 0.0,
        max_det: int | None = None,
    ) -> None:
        by_label = dict(classes) if isinstance(classes, Mapping) else dict(enumerate(classes))
        kept = {label: str(text) for label, text in sorted(by_label.items()) if text not in PLACEHOLDERS}
        if not kept:
            raise UsageError(f"{name} has no class; give the names that its labels are indices into")
        self.name, self.classes = name, tuple(kept.values())
        self.imgsz, self.parameters = imgsz, parameters
        self._conf, self._max_det = conf, max_det
        self.label_index = np.full(max(by_label) + 1, -1, np.int64)
        self.label_index[list(kept)] = range(len(kept))

    @abstractmethod
    def _call(self, images: Sequence[Tensor]) -> Sequence[Any]:
        """What the library returns for uint8 (3, H, W) RGB images, in a form that `read_result` knows."""

    def raw(self, images: Sequence[Tensor]) -> list[RawBoxes]:
        """What the library found in each image, as it gave it.

        Raises:
            UsageError: an image has another type or shape.
            RobustBenchError: the library failed, or gave what cannot be read as boxes.
        """
        check_images(images)
        try:
            return self._read(images) if images else []
        except RobustBenchError:
            raise
        except Exception as error:
            if is_out_of_memory(error):  # a smaller batch may do
                raise
            raise self._failed(error) from error

    def predict(self, images: Sequence[Tensor]) -> list[Detections]:
        """Detect in uint8 (3, H, W) RGB images; see `Detector.predict`."""
        found = self.raw(images)
        try:
            return [
                self._detections(boxes, *image.shape[1:]) for boxes, image in zip(found, images, strict=True)
            ]
        except ValueError as error:
            raise self._failed(error) from error

    def describe(self) -> dict[str, Any]:
        """What the manifest keeps."""
        known = {"parameters": self.parameters, "imgsz": self.imgsz}
        return {
            "name": self.name,
            "classes": list(self.classes),
            **{key: value for key, value in known.items() if value},
            "fingerprint": self.fingerprint,
        }

    def index(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Our label for each of the library's; -1 for a placeholder's.

        Raises:
            ValueError: a label that no class can have.
        """
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.label_index):
            raise ValueError(
                f"labels span {labels.min()} to {labels.max()}, must be 0 to {len(self.label_index) - 1}: "
                "indices into the classes"
            )
        return self.label_index[labels]

    def _read(self, images: Sequence[Tensor]) -> list[RawBoxes]:
        results = list(self._call(images))
        if len(results) != len(images):
            raise ValueError(f"{len(results)} results for {len(images)} images")
        return [read_result(result) for result in results]

    def _detections(self, boxes: RawBoxes, height: int, width: int) -> Detections:
        labels = self.index(boxes.labels)
        order = np.argsort(-boxes.scores, kind="stable")
        order = order[(labels[order] >= 0) & ~(boxes.scores[order] < self._conf)][: self._max_det]
        limit = np.array([width, height] * 2, np.float32)
        return Detections(np.clip(boxes.xyxy[order], 0, limit), boxes.scores[order], labels[order])

    def _failed(self, error: Exception) -> RobustBenchError:
        return RobustBenchError(f"detector {self.name} failed: {type(error).__name__}: {error}")


def model_name(model: str) -> str:
    """What results call `LIBRARY:NAME`.

    >>> model_name("hf:facebook/detr-resnet-50"), model_name("torchvision:ssd300_vgg16")
    ('detr-resnet-50', 'ssd300_vgg16')
    """
    path = Path(model.partition(":")[2])
    return path.name or path.resolve().name


class LibraryDetector(AdaptedDetector):
    """A network that `--model LIBRARY:NAME` loads, with what its manifest and its fingerprint say.

    The library's own scaling and suppression stay, as its published figures are made with them; `conf` and `max_det`
    drop further boxes, and `iou` plays no part.

    Args:
        model: what `--model` names it by.
        network: in evaluation mode.
        classes: see `AdaptedDetector`.
        digest: of the network's weights and whatever else decides its output.
        config: sizes, thresholds and device; the CPU where it names none.
        weights: the file or folder they came from.

    Raises:
        UsageError: no such device, or half precision.
    """

    def __init__(
        self,
        model: str,
        network: torch.nn.Module,
        classes: Mapping[int, str],
        digest: str,
        config: InferenceConfig,
        *,
        weights: str,
    ) -> None:
        if config.half:
            raise UsageError(f"--half is for detectors of Ultralytics; leave it out for {model}")
        if config.end2end is not None:
            raise UsageError(f"--end2end is for detectors of Ultralytics; leave it out for {model}")
        super().__init__(
            model_name(model),
            classes,
            imgsz=config.imgsz,
            parameters=sum(one.numel() for one in network.parameters()),
            conf=config.conf,
            max_det=config.max_det,
        )
        self.model, self.weights = model, weights
        self.device = torch.device(select_device(config.device or "cpu"))
        self._network = network.to(self.device).eval().requires_grad_(False)
        self._settings = {"imgsz": config.imgsz, "conf": config.conf, "max_det": config.max_det}
        parts = [model.partition(":")[0], digest, sorted(classes.items()), self._settings, self.device.type]
        self.fingerprint = hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """What rebuilds it, as plain types; `loader` is what `--model` takes."""
        side = self.imgsz or _COUNTED_SIDE
        gflops = count_gflops(lambda: self.raw([torch.zeros(3, side, side, dtype=torch.uint8)]))
        own = {"loader": self.model, "device": str(self.device), "gflops": gflops}
        return super().describe() | self._settings | own

    @torch.inference_mode()
    def _call(self, images: Sequence[Tensor]) -> list[Any]:
        """Images of one size together: what libraries add to smaller ones of a batch would change their boxes.

        On the CPU each image alone, where that costs no time: rounding too depends on the batch.
        """
        results: dict[int, Any] = {}
        for same in _by_shape(images) if self.device.type != "cpu" else ([i] for i in range(len(images))):
            results.update(zip(same, self._detect([images[i].to(self.device) for i in same]), strict=True))
        return [results[i] for i in range(len(images))]

    @abstractmethod
    def _detect(self, images: list[Tensor]) -> Sequence[Any]:
        """What the library returns for uint8 images of one size, on the device."""


def _by_shape(images: Sequence[Tensor]) -> Iterator[list[int]]:
    for shape in dict.fromkeys(image.shape for image in images):
        yield [i for i, image in enumerate(images) if image.shape == shape]
