"""An exported model as a `Detector`: its own runtime, and letterbox, suppression and boxes of the PyTorch path."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.errors import DataError, RobustBenchError, UsageError
from robustbench_sgdm.core.untrusted_input import read_json, short_list
from robustbench_sgdm.detectors.device import select_device
from robustbench_sgdm.detectors.runtimes import trial
from robustbench_sgdm.detectors.runtimes.base import Runtime
from robustbench_sgdm.detectors.runtimes.files import ModelFile, TensorSpec
from robustbench_sgdm.detectors.runtimes.layouts import Layout, Output, recognise, suggest_classes
from robustbench_sgdm.detectors.runtimes.metadata import FileMetadata, read_class_names
from robustbench_sgdm.detectors.runtimes.onnx import OnnxRuntime
from robustbench_sgdm.detectors.runtimes.onnx_file import read_onnx
from robustbench_sgdm.detectors.runtimes.openvino import OpenVinoRuntime
from robustbench_sgdm.detectors.runtimes.openvino_file import read_openvino
from robustbench_sgdm.detectors.ultralytics.adapter import NoEnd2EndError
from robustbench_sgdm.detectors.ultralytics.autobackend import AutoBackendRuntime, format_of
from robustbench_sgdm.detectors.ultralytics.square import SquareDetector

_LOG = logging.getLogger(__name__)
_LARGEST = 7680  # px
_MAX_BATCH = 1024
_PIXELS = ("float32", "float16", "uint8")
_OPENVINO_FOLDER = "_openvino_model"
_PROCESSOR = "preprocessor_config.json"  # Hugging Face's, beside a model
_MAX_PROCESSOR = 2**20
NORMALIZATIONS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""What `--normalize` takes: mean and standard deviation that pixels in [0, 1] are normalised with."""


@dataclass(frozen=True)
class Pixels:
    """How a network takes pixels.

    Attributes:
        dtype: NumPy's name; uint8 takes them as they are.
        mean: for each channel, of pixels in [0, 1].
        std: likewise.
        channels_last: (B, S, S, 3), as TensorFlow's.
    """

    dtype: str
    mean: tuple[float, ...] = NORMALIZATIONS["unit"][0]
    std: tuple[float, ...] = NORMALIZATIONS["unit"][1]
    channels_last: bool = False

    def prepare(self, batch: Tensor) -> Tensor:
        """uint8 (B, 3, S, S) as the network takes it."""
        x = batch if self.dtype == "uint8" else self._normalize(batch)
        return (x.permute(0, 2, 3, 1) if self.channels_last else x).contiguous()

    def _normalize(self, batch: Tensor) -> Tensor:
        x = batch.float() / 255
        if (self.mean, self.std) != NORMALIZATIONS["unit"]:
            x = (x - torch.tensor(self.mean, device=x.device)[:, None, None]) / torch.tensor(
                self.std, device=x.device
            )[:, None, None]
        return x.half() if self.dtype == "float16" else x

    def __str__(self) -> str:
        last = ", channels last" if self.channels_last else ""
        if self.dtype == "uint8":
            return f"uint8 pixels{last}"
        known = next((n for n, values in NORMALIZATIONS.items() if values == (self.mean, self.std)), "")
        how = {"unit": "in [0, 1]", "imagenet": "normalised as ImageNet's"}.get(
            known, f"normalised by mean {self.mean} and std {self.std}"
        )
        return f"{self.dtype} pixels {how}{last}"


@dataclass(frozen=True)
class Format:
    """What is known of an exported file.

    Attributes:
        classes: names by label.
        imgsz: side of the square it takes, px.
        batch: images it takes at once; None for any number.
        layout: what its outputs mean.
        pixels: how it takes images.
        sha256: of its files.
    """

    classes: tuple[str, ...]
    imgsz: int
    batch: int | None
    layout: Layout
    pixels: Pixels
    sha256: str


class ExportedDetector(SquareDetector):
    """A `Detector` around an exported model; threads may share it.

    Attributes:
        runtime: what computes.
        layout: what its outputs mean.
        pixels: how it takes images.
        parameters: number of trainable values, where the checkpoint that it was made from is known; else 0.
        module: the module of that checkpoint, if any.
        trained_imgsz: size (px) that the file says; None if it does not say.
        takes_one_size: whether it takes images of `imgsz` alone.
    """

    module: str | None

    def __init__(
        self,
        runtime: Runtime,
        name: str,
        file: Format,
        settings: InferenceConfig,
        device: str,
    ) -> None:
        self.runtime, self.name, self.classes = runtime, name, file.classes
        self.settings, self.layout, self.pixels = settings, file.layout, file.pixels
        self.device = torch.device(device)
        self.fills_square, self.is_end_to_end = file.layout.fills_square, file.layout.is_end_to_end
        self.parameters, self.module = 0, None
        self.trained_imgsz: int | None = None
        self.takes_one_size = False
        self.sha256 = file.sha256
        self._imgsz, self._batch = file.imgsz, file.batch

    @property
    def imgsz(self) -> int:
        """Side in pixels of the square that every image is fitted into."""
        return self._imgsz

    @property
    def fingerprint(self) -> str:
        """Of the file, the runtime and its version, and all that decides boxes."""
        parts = [
            *("exported", self.sha256, self.runtime.name, self.runtime.version, self.classes),
            *(self._output_settings, self.layout.name, str(self.pixels), self.device.type),
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def _output_settings(self) -> dict[str, Any]:
        return {**self.settings.output_settings, "imgsz": self.imgsz}

    def describe(self) -> dict[str, Any]:
        """What rebuilds it, as plain types."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "parameters": self.parameters,
            **({"module": self.module} if self.module else {}),
            **self._output_settings,
            "runtime": self.runtime.name,
            "runtime_version": self.runtime.version,
            "layout": self.layout.name,
            "pixels": str(self.pixels),
            "device": str(self.device),
            "fingerprint": self.fingerprint,
        }

    @torch.inference_mode()
    def forward(self, batch: Tensor) -> Tensor:
        """See `SquareDetector.forward`."""
        images = self.pixels.prepare(batch)
        count = len(images)
        size = self._batch or count
        parts = []
        for start in range(0, count, size):
            chunk = images[start : start + size]
            if (lacking := size - len(chunk)) > 0:  # a fixed batch takes no fewer
                chunk = torch.cat((chunk, chunk.new_zeros(lacking, *chunk.shape[1:])))
            parts.append(self._decoded(chunk)[: min(size, count - start)])
        if len(parts) == 1:
            return parts[0]
        if self.is_end_to_end:  # as many rows as the image with most; a score of 0 is no box
            most = max(part.shape[1] for part in parts)
            parts = [torch.nn.functional.pad(part, (0, 0, 0, most - part.shape[1])) for part in parts]
        return torch.cat(parts)

    def _decoded(self, images: Tensor) -> Tensor:
        try:
            outputs = self.runtime.run(images[0] if len(self.runtime.image.shape) == 3 else images)
        except RobustBenchError:
            raise
        except Exception as error:  # each runtime has its own kinds
            reason = " ".join(str(error).split())[:300]
            raise RobustBenchError(
                f"{self.name}: {self.runtime.name} failed on a batch of {tuple(images.shape)} ({reason})"
            ) from error
        decoded = self.layout.decode(outputs, self.imgsz, len(self.classes), self.settings.max_det)
        decoded = decoded.to(self.device)
        if not bool(decoded.isfinite().all()):
            raise RobustBenchError(f"{self.name} outputs NaN or infinity: its file is damaged")
        scores = decoded[..., 4] if self.is_end_to_end else decoded[:, 4:]
        low, high = _span(scores)
        if low < -1e-3 or high > 1 + 1e-3:
            raise RobustBenchError(f"{self.name} outputs scores from {low:.3g} to {high:.3g}, outside [0, 1]")
        scores.clamp_(0, 1)
        if self.is_end_to_end:
            low, high = _span(decoded[..., 5])
            if low < 0 or high >= len(self.classes):
                raise RobustBenchError(
                    f"{self.name} outputs labels from {low:g} to {high:g}, and {len(self.classes)} classes are named: "
                    "labels are indices into them, so name the background too if it has a label"
                )
            decoded[..., 2:4] = torch.maximum(decoded[..., 2:4], decoded[..., :2])
        return decoded


def _span(values: Tensor) -> tuple[float, float]:
    """Least and greatest; zeros of none."""
    return (float(values.min()), float(values.max())) if values.numel() else (0.0, 0.0)


def is_exported(model: str | Path) -> bool:
    """Whether a model is the path of an exported file or folder, by its name."""
    path = Path(model)
    return path.suffix.lower() in (".onnx", ".xml") or is_folder(path) or format_of(path) is not None


def is_folder(path: Path) -> bool:
    """Whether the name is that of a folder that holds a model."""
    name = path.name.lower()
    return name.endswith("_model") and (name.endswith(_OPENVINO_FOLDER) or format_of(path) is not None)


def load_exported(model: str | Path, config: InferenceConfig = InferenceConfig()) -> ExportedDetector:
    """Load an exported model: `.onnx`, an OpenVINO folder or `.xml`, and what AutoBackend loads if it is trusted.

    Args:
        model: the file or folder.
        config: sizes, thresholds and device (the CPU where it names none); `classes`, `layout` and `normalize` say what
            the file does not.

    Raises:
        UsageError: a package is missing, or the file needs to be told something: classes, size, layout.
        DataError: damaged, refused, of another task or layout, or it cannot be run.
    """
    path, device = Path(model), select_device(config.device or "cpu")
    if not path.exists():
        raise DataError(f"{path}: no such file; give an exported model that exists")
    if config.half:
        raise UsageError(
            f"{path}: --half is for checkpoints; an exported model has the precision of its file; leave it out"
        )
    if config.end2end is not None:
        raise NoEnd2EndError(f"{path}: its branch was chosen at export; leave out --end2end and --no-end2end")
    if format_of(path) is not None:
        if not config.trust_weights:
            raise DataError(
                f"{path}: loading it runs code, which --trust-weights "
                "(trust_weights=True) allows, with your rights: only if you trust its author. ONNX "
                "and OpenVINO files do not need it"
            )
        return _load_trusted(path, config, device)
    return load_file(
        read_onnx(path) if path.suffix.lower() == ".onnx" else read_openvino(path), config, device
    )


def load_file(file: ModelFile, config: InferenceConfig, device: str) -> ExportedDetector:
    """Load a model that was read and checked; see `load_exported`."""
    what = _Loading(file.path, file.image, file.metadata, file.sha256, config, device)
    kind = "openvino" if "weights" in file.contents else "onnx"

    def try_out(batches: Sequence[NDArray[Any]]) -> list[list[NDArray[Any]]]:
        return trial.try_out(kind, file.contents, batches, size=what.imgsz)

    try:
        try:
            what.study(*try_out(what.noise()))
        except trial.TrialError:
            if what.batch is not None:
                raise
            what.batch = 1  # an axis that is declared and does not work
            what.study(*try_out(what.noise()))
            _LOG.info("%s: runs one image at a time: its batch axis does not work", file.path)
    except trial.TrialError as error:
        raise DataError(f"{file.path}: {error}") from None
    return what.finish((OpenVinoRuntime if kind == "openvino" else OnnxRuntime)(file, device))


def _load_trusted(path: Path, config: InferenceConfig, device: str) -> ExportedDetector:
    runtime = AutoBackendRuntime(path, device)
    what = _Loading(path, runtime.image, runtime.metadata, runtime.sha256, config, device)
    try:
        outputs = [
            [one.float().cpu().numpy() for one in runtime.run(torch.from_numpy(images))]
            for images in what.noise()
        ]
    except Exception as error:
        reason = " ".join(str(error).split())[-300:]
        raise DataError(f"{path}: cannot be run ({type(error).__name__}: {reason})") from error
    runtime.output_names = tuple(f"output{number}" for number in range(len(outputs[0])))
    what.study(*outputs)
    return what.finish(runtime)


class _Loading:
    """What is known of a model before it is run, and what follows when it was.

    Raises:
        UsageError: the file does not say a size or classes, and neither does the user; or they disagree.
        DataError: of another task, or it does not take square RGB images.
    """

    def __init__(
        self,
        path: Path,
        image: TensorSpec,
        metadata: FileMetadata,
        sha256: str,
        config: InferenceConfig,
        device: str,
    ) -> None:
        if metadata.task not in (None, "detect"):
            raise DataError(
                f"{path} is a model of the task {metadata.task!r}; only detection is measured here: export "
                "one trained with task=detect"
            )
        self.path, self.image, self.metadata, self.sha256 = path, image, metadata, sha256
        self.config, self.device = config, device
        self.batch, self.imgsz = self._sizes()
        if image.dtype not in _PIXELS:
            raise DataError(
                f"{path} takes images as {image.dtype or 'a type that is no number'}, must be "
                f"{', '.join(_PIXELS)}; export it so"
            )

    def noise(self) -> list[NDArray[Any]]:
        """Images of noise as the network takes them: a batch, two where it takes any number; where it takes several, also
        the last one without the others."""
        count = self.batch or 2
        draw = np.random.default_rng(0).integers(0, 256, (count, 3, self.imgsz, self.imgsz), np.uint8)
        if count > 1:
            draw[-1] //= 4  # ranges that are chosen for a batch as a whole would be too wide for it
        pixels = Pixels(self.image.dtype, channels_last=self.channels_last)
        images = pixels.prepare(torch.from_numpy(draw)).numpy()
        if len(self.image.shape) == 3:
            return [images[0]]
        if count == 1:
            return [images]
        alone = images.copy()
        alone[:-1] = 0
        return [images, alone[-(self.batch or 1) :]]

    def study(self, values: Sequence[NDArray[Any]], alone: Sequence[NDArray[Any]] = ()) -> None:
        """Take what the network put out for `noise`; one image at a time where others of a batch play a part.

        Ultralytics' suppression inside a file, and ranges that a quantised file chooses as it runs, depend on the batch.

        Raises:
            DataError: others play a part, and the file takes no fewer.
        """
        count = self.batch or 2
        self.outputs = [one[:1] if count > 1 and one.shape[:1] == (count,) else one for one in values]
        if not alone:
            return
        first, last = [np.atleast_1d(one)[:1] for one in values], [np.atleast_1d(one)[-1:] for one in values]
        single = [np.atleast_1d(one)[-1:] for one in alone]
        is_independent = _are_near(last, single)
        if self.batch is not None and not is_independent:
            raise DataError(
                f"{self.path}: the boxes of an image depend on the others of its batch of {count}; export it for "
                "single images"
            )
        if self.batch is None and (not is_independent or _are_near(last, first)):
            self.batch, self.outputs = 1, list(alone)
            _LOG.info(
                "%s: runs one image at a time: the boxes of an image depend on its batch, or may", self.path
            )

    def finish(self, runtime: Runtime) -> ExportedDetector:
        """The detector, from what the network put out for noise; says what was recognised."""
        names = [
            *runtime.output_names,
            *(f"output{n}" for n in range(len(runtime.output_names), len(self.outputs))),
        ]
        outputs = [Output(name, one) for name, one in zip(names, self.outputs, strict=False)]
        classes = self._classes(outputs)
        try:
            layout = recognise(outputs, len(classes), self.metadata, self.config.layout)
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from None
        pixels = self._pixels(layout)
        file = Format(tuple(classes), self.imgsz, self.batch, layout, pixels, self.sha256)
        detector = ExportedDetector(runtime, self.path.name, file, self.config.inference, self.device)
        detector.trained_imgsz = self.metadata.imgsz or self.fixed_imgsz
        detector.takes_one_size = self.fixed_imgsz is not None
        _LOG.info(
            "%s: %s %s, %s, %s; %s: %s",
            *(self.path.name, runtime.name, runtime.version),
            f"{self.imgsz} px, batches of {self.batch or 'any size'}",
            pixels,
            short_list(map(str, outputs), 6),
            layout.description,
        )
        if self.metadata.has_nms:
            _LOG.warning(
                "%s: its NMS is inside the file, at the confidence of its export (Ultralytics: "
                "0.25), so AP is lower than that of its checkpoint; export it without nms",
                self.path.name,
            )
        return detector

    def _sizes(self) -> tuple[int | None, int]:
        """Images in a batch, None for any number; side of the square."""
        shape, path = self.image.shape, self.path
        last = self.channels_last = shape[-1:] == (3,) and shape[-3:-2] != (3,)
        if len(shape) not in (3, 4) or not (last or shape[-3] in (3, None)):
            raise DataError(
                f"{path} takes an input of shape {_shape(shape)}, must be (batch, 3, height, width) or (batch, height, "
                "width, 3): RGB images"
            )
        height, width = shape[-3:-1] if last else shape[-2:]
        self.fixed_imgsz = height
        if height != width:
            raise DataError(
                f"{path} takes images of {height or 'any'} x {width or 'any'} px; only squares are "
                "measured: export it with one size for both"
            )
        asked, said = self.config.imgsz, self.metadata.imgsz
        if height is not None and asked and asked != height:
            raise UsageError(
                f"{path} takes images of {height} px only, and --imgsz is {asked}; leave it out, or export the model for "
                "that size"
            )
        imgsz = height or asked or said
        if imgsz is None:
            raise UsageError(
                f"{path} takes images of any size and does not say its training size; set it with --imgsz"
            )
        if not 1 <= imgsz <= _LARGEST:
            raise DataError(f"{path} takes images of {imgsz} px; the limit is {_LARGEST}")
        batch = 1 if len(shape) == 3 else shape[0]
        most = min(_MAX_BATCH, (_LARGEST // imgsz) ** 2)  # no more pixels than the largest image has
        if batch is not None and batch > most:
            raise DataError(f"{path} takes batches of {batch} images of {imgsz} px; the limit is {most}")
        return batch, imgsz

    def _classes(self, outputs: Sequence[Output]) -> tuple[str, ...]:
        """The user's names, else the file's."""
        given = None if self.config.classes is None else read_class_names(self.config.classes)
        said = self.metadata.classes
        if given and said and len(given) != len(said):
            raise UsageError(f"--classes has {len(given)} names, and {self.path} has {len(said)} classes")
        if not (given or said):
            raise UsageError(
                f"{self.path} does not name its classes; give as many as it "
                f"has{suggest_classes(outputs)} with --classes, a file or names between commas"
            )
        return given or said or ()

    def _pixels(self, layout: Layout) -> Pixels:
        """Types as the file declares; mean and deviation as the user, or a file beside the model, says."""
        dtype = self.image.dtype
        whole = Pixels(dtype, channels_last=self.channels_last)
        if dtype == "uint8":
            if self.config.normalize:
                _LOG.warning(
                    "%s takes pixels from 0 to 255, which it normalises itself: --normalize is ignored",
                    self.path.name,
                )
            return whole
        if self.config.normalize:
            mean, std = NORMALIZATIONS[self.config.normalize]
            return replace(whole, mean=mean, std=std)
        beside = self.path.parent / _PROCESSOR
        if layout.name == "detr":
            if not beside.is_file():
                raise UsageError(
                    f"{self.path} has DETR's outputs, and nothing says how its pixels are normalised: set "
                    f"it with --normalize {' or '.join(NORMALIZATIONS)}, or put its {_PROCESSOR} beside it"
                )
            return _read_processor(beside, whole)
        return whole


def _read_processor(path: Path, pixels: Pixels) -> Pixels:
    """With mean and deviation as Hugging Face's image processors say them."""
    content = read_json(path, _MAX_PROCESSOR)
    if not isinstance(content, dict):
        raise DataError(f"{path} does not hold an image processor's settings; set --normalize")
    scale = content.get("rescale_factor", 1 / 255)
    if content.get("do_rescale") is False or not isinstance(scale, float) or abs(scale * 255 - 1) > 1e-6:
        raise DataError(f"{path} scales pixels by another factor than 1/255, which is not supported")
    if content.get("do_normalize") is False:
        return pixels
    parts = [content.get(key) for key in ("image_mean", "image_std")]
    for part in parts:
        if not (
            isinstance(part, list)
            and len(part) == 3
            and all(type(v) in (int, float) and -10 < v < 10 for v in part)
        ):
            raise DataError(f"{path} does not hold three means and deviations; set --normalize")
    mean, std = (tuple(map(float, part)) for part in parts if part)
    if min(std) <= 0:
        raise DataError(f"{path} has a deviation of {min(std):g}; it must be above 0")
    return replace(pixels, mean=mean, std=std)


def _are_near(ones: Sequence[NDArray[Any]], others: Sequence[NDArray[Any]]) -> bool:
    """Whether outputs are equal but for rounding."""
    return all(
        one.shape == other.shape and np.allclose(one, other, rtol=2e-3, atol=1e-3)
        for one, other in zip(ones, others, strict=True)
    )


def _shape(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("any" if side is None else str(side) for side in shape) + ")"
