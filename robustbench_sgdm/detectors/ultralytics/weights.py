"""Weights are data: read without running code from the file, written so that they rebuild their model.

Two formats are read: Ultralytics' `.pt`, as records (`pickle_records`), and ours, `.safetensors` whose header holds the
model YAML, the class names and the settings of every layer. The network is built from the YAML, compared with the file
layer by layer (`layer_settings`), and then takes the tensors.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from ultralytics.nn.tasks import DetectionModel

from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.core.untrusted_input import short_repr, validate_class_name
from robustbench_sgdm.detectors.ultralytics import architecture, checkpoints, layer_settings
from robustbench_sgdm.detectors.ultralytics.architecture import ModelConfig
from robustbench_sgdm.detectors.ultralytics.checkpoints import Checkpoint
from robustbench_sgdm.detectors.ultralytics.layer_settings import Layers

_HEADER = "robustbench_sgdm"  # one entry only: safetensors writes several in random order
_CHANNELS = 3
_DTYPES = frozenset(  # others, such as float4, can be stored and not computed with
    {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool}
    | {torch.float8_e4m3fn, torch.float8_e5m2}
    | {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8}
)


@dataclass(frozen=True, eq=False)
class Weights:
    """A model as data, and the network that it is.

    Attributes:
        state: tensors by name (`model.0.conv.weight`, ...), floating ones float32, on the CPU.
        config: the Ultralytics model YAML, `nc` and `scale` included.
        classes: class names in label order.
        layers: settings of every layer by its name.
        sha256: of the file.
        path: where it was read.
        meta: card fields, such as licence and training data; `imgsz` is the size it was trained at.
        network: in evaluation mode, with `state` loaded; `copy_network` gives a copy.
    """

    state: Mapping[str, Tensor]
    config: ModelConfig
    classes: tuple[str, ...]
    layers: Layers
    sha256: str
    path: Path
    meta: dict[str, str]
    network: DetectionModel

    @property
    def imgsz(self) -> int | None:
        """Side in pixels that the file says it was trained at, as a multiple of 32 at least as large; or None.

        Ultralytics rounds a size up to a multiple of the model's stride too.
        """
        size = self.meta.get("imgsz", "")
        return -(-int(size) // 32) * 32 if size.isdecimal() and len(size) < 6 and int(size) else None


def read_weights(path: str | Path, *, trust: bool = False) -> Weights:
    """Read a `.safetensors` that `write_weights` wrote, or an Ultralytics `.pt` (its EMA if it has one).

    Args:
        path: the file. Convolutions that were fused with their BatchNorm get one again that adds the bias.
        trust: where a `.pt` cannot be rebuilt from what it says, run the network that it holds with whatever code
            that asks for. Only for authors whom you would let use your computer.

    Raises:
        DataError: missing, damaged, no detector, or (without `trust`) not the network that the installed Ultralytics
            builds from the file's YAML; names the layer.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such weights file; give a .pt or .safetensors that exists")
    kind = path.suffix.lower()
    if kind not in (".safetensors", ".pt"):
        raise DataError(f"{path}: weights are read from .pt or .safetensors, not {kind or 'no suffix'!r}")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if kind == ".safetensors":
        return _build(_read_safetensors(path), path, sha256)
    try:
        return _build(checkpoints.read_checkpoint(path), path, sha256)
    except DataError:
        if not trust:
            raise
    network, meta = checkpoints.unpickle_trusted(path)
    try:
        names = checkpoints.parse_class_names(network.names)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    config = dict(cast(Any, network.yaml))
    layers = layer_settings.from_network(network.get_submodule("model"))
    return Weights(network.state_dict(), config, tuple(names), layers, sha256, path, meta, network)


def _build(checkpoint: Checkpoint, path: Path, sha256: str) -> Weights:
    """The network of a file, built from its YAML and made equal to what the file says."""
    config, classes = checkpoint.config, tuple(validate_class_name(name) for name in checkpoint.classes)
    try:
        architecture.check_config(config)
        if config["nc"] != len(classes):
            raise DataError(f"names {len(classes)} classes, and its model YAML has nc = {config['nc']}")
        if (channels := config.get("channels") or config.get("ch") or _CHANNELS) != _CHANNELS:
            raise DataError(
                f"its network takes images of {channels} channels; only RGB images are measured here"
            )
        needed = architecture.check_network_size(config)
        state = {_check_tensor(name, tensor): tensor.detach() for name, tensor in checkpoint.state.items()}
        state = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
        stored = sum(tensor.numel() for tensor in state.values())
        if needed > 2 * stored + 1_000_000:  # fusing drops a branch, no more
            raise DataError(
                f"its YAML's network has {needed:,} parameters, and the file holds {stored:,} values"
            )
        with torch.random.fork_rng(devices=[]):  # initial values are drawn, and overwritten at once
            network = architecture.build_network(config, classes)
        layers = checkpoint.layers
        if layers is None:
            layers = layer_settings.from_network(network.get_submodule("model"))
        layer_settings.apply_settings(network.get_submodule("model"), layers)
        network.load_state_dict(_restore_batchnorm(state, network), strict=True)
    except (UsageError, ValueError, RuntimeError, MemoryError, DataError) as error:
        reason = " ".join(str(error).split())[:500]
        raise DataError(f"{path}: {reason}") from error
    network.eval()
    layers = layer_settings.from_network(network.get_submodule("model"))
    return Weights(network.state_dict(), config, classes, layers, sha256, path, checkpoint.meta, network)


def write_weights(
    path: str | Path,
    state: Mapping[str, Tensor],
    config: ModelConfig,
    classes: Sequence[str],
    meta: Mapping[str, str] | None = None,
    *,
    layers: Layers | None = None,
    half: bool = True,
    files: SafeDirectory | None = None,
) -> None:
    """Write a `.safetensors` that `read_weights` turns back into the same model; equal content gives equal bytes.

    The file is complete or absent: written beside its place, flushed, then renamed over it.

    Args:
        path: ends in `.safetensors`; its folder is made.
        state: the model's state dict.
        config: its YAML; `nc` is set from `classes`.
        classes: class names in label order.
        meta: card fields.
        layers: settings of the model's layers; those of the network that the installed Ultralytics builds if None.
        half: store float16, half the size; a tensor that float16 cannot hold stays float32.
        files: of the comparison that the path lies in, if it lies in one.

    Raises:
        UsageError: another suffix, or `config` is no detector's.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: weights are written as .safetensors, not {path.suffix or 'no suffix'!r}")
    config = {**config, "nc": len(classes)}
    architecture.check_config(config)
    if layers is None:
        with torch.random.fork_rng(devices=[]):
            layers = layer_settings.from_network(
                architecture.build_network(config, classes).get_submodule("model")
            )
    header = {"config": config, "classes": list(classes), "meta": dict(meta or {}), "layers": layers}
    tensors = {name: _for_storage(tensor, half) for name, tensor in state.items()}
    data = safetensors.torch.save(tensors, {_HEADER: json.dumps(header, sort_keys=True, default=str)})
    (files or SafeDirectory(path.parent)).write_bytes(path, data)


def copy_network(weights: Weights) -> DetectionModel:
    """A copy of the network, in evaluation mode."""
    return copy.deepcopy(weights.network)


def bundled_weights(name: str) -> Path | None:
    """The weights of a zoo model that come with this package, if any."""
    path = Path(__file__).parents[2] / "weights" / f"{name}.safetensors"
    return path if path.is_file() else None


def hash_tensors(state: Mapping[str, Tensor]) -> str:
    """sha256 of tensors by name, type, shape and value, whatever file they came in."""
    sha = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        sha.update(tensor.numpy().tobytes())
    return sha.hexdigest()


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        file: Any = safetensors.safe_open(path, framework="pt")
        header = (file.metadata() or {}).get(_HEADER)
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except Exception as error:  # SafetensorError, OSError, and torch's on a type it does not have
        raise DataError(
            f"{path}: not a safetensors file, or damaged ({short_repr(error)}); download or copy it again"
        ) from error
    if header is None and (original := checkpoints.from_yolov5_state(state)):
        return original
    if header is None:
        raise DataError(f"{path}: does not say which model it is for; give the .pt it was made from")
    try:
        fields = json.loads(header)
        if fields.keys() >= {"config", "classes", "meta"} and "layers" not in fields:
            raise DataError(
                f"{path}: written by an earlier version, which did not say what the layers are set to (releases of "
                "Ultralytics build one model YAML differently); give the .pt it was made from, such as "
                "best.pt beside it"
            )
        meta = {str(key): str(value) for key, value in fields["meta"].items()}
        layers = {
            str(name): {**settings, "class": str(settings["class"])}
            for name, settings in fields["layers"].items()
        }
        return Checkpoint(state, dict(fields["config"]), [str(c) for c in fields["classes"]], meta, layers)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: its header is damaged ({short_repr(error)}); download or copy it again"
        ) from error


def _check_tensor(name: object, tensor: object) -> str:
    """The name of a plain tensor on the CPU that holds all its values; a file can claim any shape over a few."""
    if not isinstance(name, str) or not isinstance(tensor, Tensor):
        raise ValueError(f"{short_repr(name)} is not a tensor")
    if (
        tensor.layout != torch.strided
        or tensor.device.type != "cpu"
        or tensor.is_quantized
        or tensor.dtype not in _DTYPES
    ):
        raise ValueError(
            f"{short_repr(name)} is not a plain tensor but {tensor.layout}, {tensor.dtype}, on {tensor.device}"
        )
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(
            f"{short_repr(name)} claims a shape of {tuple(tensor.shape)}, more than the file holds"
        )
    return name


def _restore_batchnorm(state: Mapping[str, Tensor], network: DetectionModel) -> dict[str, Tensor]:
    """Turn each bias that took a BatchNorm's place back into one, so that fused weights can be grafted."""
    unfused = dict(state)
    for name, layer in network.named_modules():
        owner, _, leaf = name.rpartition(".")
        if leaf != "bn" or f"{name}.weight" in state or not isinstance(layer, torch.nn.BatchNorm2d):
            continue
        for kind in ("conv", "conv_transpose"):
            if (bias := unfused.pop(f"{owner}.{kind}.bias", None)) is not None:
                ones = torch.ones_like(bias)
                values = {
                    "weight": ones,
                    "bias": bias,
                    "running_mean": ones - 1,
                    "running_var": ones - layer.eps,
                }
                unfused |= {f"{name}.{key}": value for key, value in values.items()}
                unfused[f"{name}.num_batches_tracked"] = torch.tensor(0)
    return unfused


def _for_storage(tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().cpu().contiguous().clone()
    if not (half and tensor.is_floating_point()):
        return tensor
    halved = tensor.half()
    return halved if halved.isfinite().all() else tensor.float()
