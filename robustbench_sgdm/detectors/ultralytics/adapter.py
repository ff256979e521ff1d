"""The Ultralytics adapter: its models, its letterbox and its suppression, with the settings of its `val`."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from ultralytics.nn.modules.head import Detect, RTDETRDecoder
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.ops import xywh2xyxy

from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.errors import DataError, RobustBenchError, UsageError
from robustbench_sgdm.detectors.device import select_device
from robustbench_sgdm.detectors.operations import count_gflops
from robustbench_sgdm.detectors.ultralytics import layer_settings, zoo
from robustbench_sgdm.detectors.ultralytics.architecture import ModelConfig, build_meta
from robustbench_sgdm.detectors.ultralytics.graft import transfer_weights
from robustbench_sgdm.detectors.ultralytics.square import SquareDetector
from robustbench_sgdm.detectors.ultralytics.weights import (
    Weights,
    bundled_weights,
    copy_network,
    hash_tensors,
    read_weights,
)
from robustbench_sgdm.modules import MODULES

_LOG = logging.getLogger(__name__)
_ONE_BRANCH = "the head has no one-to-one branch to choose; leave out --end2end and --no-end2end"
_IMGSZ = 640  # where a file does not say; Ultralytics' own default


class NoEnd2EndError(UsageError):
    """`end2end` was asked of a head that has a single branch."""


class UltralyticsDetector(SquareDetector):
    """A `Detector` around an Ultralytics detection model. `predict` changes nothing, so threads may share it.

    Attributes:
        trained_imgsz: size in pixels that the file says it was trained at; None if it does not say.

    Args:
        model: copied, then fused for inference: BatchNorm into convolutions, SGDM's guide into its kernels.
        name: what results call it.
        settings: sizes, thresholds and device; the CPU where it names none, and 640 px.

    Raises:
        UsageError: no such device, half precision without CUDA, or `imgsz` no multiple of the model's stride.
        RobustBenchError: the model's output is NaN or infinite.
    """

    def __init__(
        self,
        model: DetectionModel,
        name: str,
        settings: InferenceConfig = InferenceConfig(),
    ) -> None:
        self.name = name
        settings = replace(settings, imgsz=settings.imgsz or _IMGSZ)
        self.settings = settings
        self.trained_imgsz: int | None = None
        self.device = torch.device(select_device(settings.device or "cpu"))
        self.classes = tuple(str(model.names[i]) for i in range(len(model.names)))
        self.parameters = sum(p.numel() for p in model.parameters())
        layers = list(model.get_submodule("model").children())
        self.module = next(
            (n for n, spec in MODULES.items() if any(type(x) is spec.cls for x in layers)), None
        )
        self._model = _for_inference(model, self.settings, self.device)
        # As it is, where it was left open.
        self.settings = replace(settings, end2end=bool(self._model.end2end))
        self.fingerprint = fingerprint_network(model, self.classes, self.settings, self.device)
        stride = int(model.stride.max())
        if self.imgsz % stride:
            raise UsageError(f"imgsz is {self.imgsz}, must be a multiple of {name}'s stride {stride}")
        if self.settings.half and self.device.type != "cuda":
            raise UsageError(f"half is for CUDA; on {self.device.type} leave it off")
        self.fills_square = isinstance(layers[-1], RTDETRDecoder)
        self.is_end_to_end = self.fills_square or bool(self.settings.end2end)
        # The head caches its anchor grid by batch shape. Its values depend on imgsz alone, so threads that
        # replace it at the same time replace it by the same.
        self.forward(torch.zeros(1, 3, self.imgsz, self.imgsz, dtype=torch.uint8))

    @property
    def imgsz(self) -> int:
        """Side in pixels of the square that every image is fitted into."""
        return self.settings.imgsz

    @property
    def network(self) -> DetectionModel:
        """As it runs: fused and folded."""
        return self._model

    @cached_property
    def gflops(self) -> float:
        """Operations on one image of `imgsz`, as it runs: with BatchNorm folded."""
        image = torch.zeros(1, 3, self.imgsz, self.imgsz, dtype=torch.uint8)
        return count_gflops(lambda: self.forward(image))

    def describe(self) -> dict[str, Any]:
        """What rebuilds it, as plain types."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "parameters": self.parameters,
            "gflops": self.gflops,
            **({"module": self.module} if self.module else {}),
            **self.settings.output_settings,
            "device": str(self.device),
            "fingerprint": self.fingerprint,
        }

    @torch.inference_mode()
    def forward(self, batch: Tensor) -> Tensor:
        """See `SquareDetector.forward`."""
        dtype = torch.float16 if self.settings.half else torch.float32
        x = batch.to(self.device, dtype, memory_format=torch.channels_last) / 255
        output: Tensor = self._model(x)[0]
        if not bool(output.isfinite().all()):
            half = " or too large for half precision" if self.settings.half else ""
            raise RobustBenchError(f"{self.name} outputs NaN or infinity: its weights are damaged{half}")
        if self.fills_square:  # centre and size as shares of the square, a row for each box
            boxes = cast(Any, xywh2xyxy)(output[..., :4] * self.imgsz)
            output = torch.cat((boxes, output[..., 4:]), 2)
        return output


def load_detector(
    model: str | Path,
    config: InferenceConfig = InferenceConfig(),
    *,
    weights: str | Path | None = None,
    classes: Sequence[str] | None = None,
) -> UltralyticsDetector:
    """Load a detector by its name in the zoo, or from a file of weights.

    Args:
        model: a zoo name (its weights given, or in the package), or the path of a `.pt` or `.safetensors`.
        config: sizes, thresholds and device; the CPU where it names none.
        weights: for a zoo name. Those of its baseline do for a grafted model too: the graft then starts as
            the identity, so that it detects what the baseline does until it is trained.
        classes: names to use in place of those in the file, as many.

    Raises:
        UsageError: unknown name or value, or weights of another model.
        DataError: the weights cannot be read; see `weights.read_weights`.
    """
    if Path(model).suffix.lower() in (".pt", ".safetensors"):
        if weights is not None:
            raise UsageError(f"{model} is a file of weights already; give a zoo name to use {weights} with")
        data = read_weights(model, trust=config.trust_weights)
        name, network = Path(model).stem, copy_network(data)
    else:
        name = zoo.resolve_model(str(model)).name
        path = weights or bundled_weights(name)
        if path is None:
            raise UsageError(f"{name} has no weights in this package: give --weights FILE, or train it")
        data = read_weights(path, trust=config.trust_weights)
        network = load_into(data, name)
    if classes is not None:
        if len(classes) != len(data.classes):
            raise UsageError(f"{len(classes)} class names given, {data.path} has {len(data.classes)} classes")
        network.names = dict(enumerate(classes))
    settings = replace(config, imgsz=config.imgsz or data.imgsz or _IMGSZ)
    try:
        detector = UltralyticsDetector(network, name, settings)
        detector.trained_imgsz = data.imgsz
        return detector
    except (RobustBenchError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # its first forward pass: a file's layers may build and not fit each other
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"{data.path}: its network cannot run ({type(error).__name__}: {reason})") from error


def load_into(weights: Weights, name: str) -> DetectionModel:
    """The zoo model `name` with these weights, or with those of its baseline and the graft as the identity.

    Raises:
        UsageError: the weights are another model's, or the module cannot start as the identity.
    """
    entry, count = zoo.resolve_model(name), len(weights.classes)
    shapes = {tensor.removeprefix("model."): values.shape for tensor, values in weights.state.items()}
    if shapes == _shapes(zoo.model_config(name, count)):
        return copy_network(weights)
    if (
        entry.module is None
        or entry.baseline is None
        or shapes != _shapes(zoo.model_config(entry.baseline, count))
    ):
        holds = Path(str(weights.config.get("yaml_file", "another model"))).stem
        raise UsageError(
            f"{weights.path} holds {holds} for {count} classes, which is not {name}: give "
            f"other weights, or {holds} as the model"
        )
    if not MODULES[entry.module].can_start_as_identity:
        raise UsageError(f"{weights.path} holds {entry.baseline}: train {name} from it before it can detect")
    with torch.random.fork_rng(devices=[]):
        # The module's own tensors play no part yet, but count for the fingerprint: the same in every process.
        torch.set_rng_state(torch.Generator().manual_seed(0).get_state())
        model = zoo.build_model(name, count, weights.classes, gamma=0.0)
    moved = transfer_weights(weights.state, model, layers=weights.layers)
    _LOG.info("%s from %s: %s", name, weights.path.name, moved.summary())
    return model.eval()


def _shapes(config: ModelConfig) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in build_meta(config).state_dict().items()}


def _for_inference(model: DetectionModel, settings: InferenceConfig, device: torch.device) -> DetectionModel:
    model = copy.deepcopy(model).eval().requires_grad_(False)
    head: Any = list(model.get_submodule("model").children())[-1]
    if isinstance(head, Detect):
        wanted = bool(settings.end2end)
        if settings.end2end is not None and getattr(head, "one2one_cv2", None) is None:
            raise NoEnd2EndError(_ONE_BRANCH)
        if settings.end2end is False and head.cv2 is None:
            raise UsageError(
                "--no-end2end: the one-to-many branch was removed when the model was fused; give the file before that"
            )
        head.end2end = wanted  # decides which branch fusion keeps
    elif settings.end2end is not None:
        raise NoEnd2EndError(_ONE_BRANCH)
    cast(Any, model).fuse(verbose=False)
    for layer in model.modules():
        if fold := getattr(layer, "fold_", None):
            fold()
    head.max_det = settings.max_det  # an end-to-end head chooses by itself
    model.to(device, torch.float16 if settings.half else torch.float32)
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


def fingerprint_network(
    model: DetectionModel,
    classes: tuple[str, ...],
    settings: InferenceConfig,
    device: torch.device,
) -> str:
    """sha256, in hexadecimal, of a network's weights and layers and of the settings that decide its boxes.

    The kind of device counts, as it decides the letterbox; the file that held the weights does not.
    """
    config = cast(ModelConfig, model.yaml)
    rows = {key: value for key, value in config.items() if key not in ("nc", "yaml_file")}
    layers = layer_settings.from_network(model.get_submodule("model"))
    parts = [hash_tensors(model.state_dict()), rows, layers, classes, settings.output_settings, device.type]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
