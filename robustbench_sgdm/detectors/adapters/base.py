"""A `Detector` of another library: its results checked, clipped, sorted, and labelled by our classes."""

from __future__ import annotations

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.detections import Detections
from robustbench_sgdm.core.errors import RobustBenchError, UsageError
from robustbench_sgdm.core.transfer import to_device
from robustbench_sgdm.core.untrusted_input import short_repr, validate_class_name
from robustbench_sgdm.detectors.adapters.results import RawBoxes, read_result
from robustbench_sgdm.detectors.base import check_images
from robustbench_sgdm.detectors.device import is_out_of_memory, select_device
from robustbench_sgdm.detectors.operations import count_gflops
from robustbench_sgdm.detectors.runtimes.metadata import read_class_names

_LOG = logging.getLogger(__name__)

_COUNTED_SIDE = (
    640  # px, of the image whose operations are counted where a library scales images by its own rules
)
_MAX_LABEL = 1_000_000
_SEVERAL = 5  # boxes in one pixel that are no chance
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
        UsageError: no class, or labels or names that cannot be.

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
        by_label = _by_label(name, classes)
        kept = {label: text for label, text in by_label.items() if text not in PLACEHOLDERS}
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
        except (Exception, SystemExit) as error:
            if is_out_of_memory(error):  # a smaller batch may do
                raise
            raise self._failed(error) from error

    def predict(self, images: Sequence[Tensor]) -> list[Detections]:
        """Detect in uint8 (3, H, W) RGB images; see `Detector.predict`."""
        boxes_of = self.raw(images)
        try:
            return [
                self._detections(boxes, *image.shape[1:])
                for boxes, image in zip(boxes_of, images, strict=True)
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
        if not np.isfinite(boxes.xyxy).all():
            raise ValueError("a box is NaN or infinite")
        if len(boxes.scores) and boxes.scores.min() < 0:
            raise ValueError(f"scores go down to {boxes.scores.min():.3g}, must lie in [0, 1]")
        if _are_shares(boxes.xyxy, height, width):
            raise ValueError(
                f"all {len(boxes.xyxy)} boxes lie in [0, 1]: shares of the image, must be its pixels ({width} x {height})"
            )
        labels = self.index(boxes.labels)
        order = np.argsort(-boxes.scores, kind="stable")
        order = order[(labels[order] >= 0) & ~(boxes.scores[order] < self._conf)][: self._max_det]
        limit = np.array([width, height] * 2, np.float32)
        return Detections(np.clip(boxes.xyxy[order], 0, limit), boxes.scores[order], labels[order])

    def _failed(self, error: BaseException) -> RobustBenchError:
        reason = " ".join(str(error).split())[:500]
        return RobustBenchError(f"detector {self.name} failed: {type(error).__name__}: {reason}")


def _by_label(model: str, classes: Sequence[str] | Mapping[int, str]) -> dict[int, str]:
    """Names by label, in the order of labels.

    Raises:
        UsageError: a text in place of a list, or a label or name that cannot be.
    """
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        raise UsageError(f"the classes of {model} are {short_repr(classes)}, must be a list of names")
    by_label = dict(classes) if isinstance(classes, Mapping) else dict(enumerate(classes))
    for label in by_label:
        if not isinstance(label, int | np.integer) or not 0 <= label < _MAX_LABEL:
            raise UsageError(
                f"a class of {model} has the label {short_repr(label)}, must be a whole number below {_MAX_LABEL:,}"
            )
    try:
        return {int(label): validate_class_name(text) for label, text in sorted(by_label.items())}
    except ValueError as error:
        raise UsageError(f"among the classes of {model}, {error}") from error


def _are_shares(xyxy: NDArray[np.float32], height: int, width: int) -> bool:
    """Whether several boxes, none of them empty, lie in one pixel of an image that has many."""
    sides = xyxy[:, 2:] - xyxy[:, :2]
    return bool(
        len(xyxy) >= _SEVERAL
        and min(height, width) >= 16
        and xyxy.min() >= 0
        and xyxy.max() <= 1
        and (sides > 0).all()
    )


def model_name(model: str) -> str:
    """What results call `LIBRARY:NAME`.

    >>> model_name("hf:facebook/detr-resnet-50"), model_name("torchvision:ssd300_vgg16")
    ('detr-resnet-50', 'ssd300_vgg16')
    """
    path = Path(model.partition(":")[2])
    return path.name or path.resolve().name


def name_classes(
    model: str, own: Mapping[int, str], given: Sequence[str] | None, config: InferenceConfig, *, named: bool
) -> dict[int, str]:
    """Class names by label: those given for this model, those of the run where they fit, or the weights' own.

    Args:
        model: what `--model` names it by.
        own: by label, the background and other `PLACEHOLDERS` too.
        given: for this model, a name for each class; or for each label.
        config: whose `classes` are of all models of a run that have none, or as many.
        named: whether the weights name their classes; else `own` holds stand-ins.

    Raises:
        UsageError: the weights have no names and none fit, or those given for this model do not.
        DataError: the file of names cannot be read.
    """
    names = given if config.classes is None or given is not None else read_class_names(config.classes)
    real = [label for label, name in own.items() if name not in PLACEHOLDERS]
    if names is not None and len(names) == len(own) > len(real) and names[0].strip("_") == "background":
        names = names[1:]
    for labels in (real, [label for label in own if label or label in real]):  # COCO's gaps may be theirs
        if names is not None and len(names) == len(labels):
            return {**own, **dict(zip(labels, names, strict=True))}
    if not named or given is not None:
        found = "the weights do not name them" if names is None else f"{len(names)} class names are given"
        raise UsageError(f"{model} has {len(real)} classes, and {found}; give {len(real)} with --classes")
    if names is not None:
        _LOG.warning("%s keeps the names of its %d classes: --classes has %d", model, len(real), len(names))
    return dict(own)


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
            there = [to_device(images[i], self.device) for i in same]
            results.update(zip(same, self._detect(there), strict=True))
        return [results[i] for i in range(len(images))]

    @abstractmethod
    def _detect(self, images: list[Tensor]) -> Sequence[Any]:
        """What the library returns for uint8 images of one size, on the device."""


def _by_shape(images: Sequence[Tensor]) -> Iterator[list[int]]:
    for shape in dict.fromkeys(image.shape for image in images):
        yield [i for i, image in enumerate(images) if image.shape == shape]
