"""Weights are data: read without running code from the file, written so that they rebuild their model.

Two formats are read: Ultralytics' `.pt`, through its restricted loader, and ours, `.safetensors` whose header
holds the model YAML and the class names. The model is always built anew from the YAML and takes tensors only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from ultralytics.nn.tasks import DetectionModel

from robustbench_sgdm import atomic
from robustbench_sgdm.detectors import architecture, checkpoints
from robustbench_sgdm.detectors.architecture import Config
from robustbench_sgdm.detectors.checkpoints import Parts
from robustbench_sgdm.errors import DataError, UsageError
from robustbench_sgdm.foreign import label, shown

_HEADER = "robustbench_sgdm"  # one entry only: safetensors writes several in random order
_BN_EPS = 1e-3  # what Ultralytics sets on every BatchNorm


@dataclass(frozen=True, eq=False)
class Weights:
    """A model as data.

    Attributes:
        state: tensors by name (`model.0.conv.weight`, ...), floating ones float32, on the CPU.
        config: the Ultralytics model YAML, `nc` and `scale` included.
        classes: class names in label order.
        sha256: of the file.
        path: where it was read.
        meta: card fields, such as licence and training data.
    """

    state: dict[str, Tensor]
    config: Config
    classes: tuple[str, ...]
    sha256: str
    path: Path
    meta: dict[str, str]


def read(path: str | Path, *, trust: bool = False) -> Weights:
    """Read a `.safetensors` that `write` wrote, or an Ultralytics `.pt` (its EMA if it has one).

    Args:
        path: the file. Fused checkpoints are unfused, with a BatchNorm that adds the bias.
        trust: run whatever code a `.pt` asks for. Only for authors whom you would let use your computer.

    Raises:
        DataError: missing, damaged, no detector, or (without `trust`) in need of code other than layers.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such weights file; give a .pt or .safetensors that exists")
    kind = path.suffix.lower()
    if kind not in (".safetensors", ".pt"):
        raise DataError(f"{path}: weights are read from .pt or .safetensors, not {kind or 'no suffix'!r}")
    parts = checkpoints.load(path, trust) if kind == ".pt" else _read_safetensors(path)
    state, config, classes, meta = parts
    try:
        architecture.check(config)
        config["nc"] = len(classes)
        architecture.check_size(config)
        names = tuple(label(name) for name in classes)
        plain = {_checked(name, tensor): tensor.detach() for name, tensor in state.items()}
        state = {name: t.float() if t.is_floating_point() else t for name, t in plain.items()}
        unfused = _unfuse(state, config)
    except (UsageError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Weights(unfused, config, names, sha256, path, meta)


def write(
    path: str | Path,
    state: Mapping[str, Tensor],
    config: Config,
    classes: Sequence[str],
    meta: Mapping[str, str] | None = None,
    *,
    half: bool = True,
) -> None:
    """Write a `.safetensors` that `read` turns back into the same model; equal content gives equal bytes.

    The file is complete or absent: written beside its place, flushed, then renamed over it.

    Args:
        path: ends in `.safetensors`; its folder is made.
        state: the model's state dict.
        config: its YAML; `nc` is set from `classes`.
        classes: class names in label order.
        meta: card fields.
        half: store float16, half the size; a tensor that float16 cannot hold stays float32.

    Raises:
        UsageError: another suffix, or `config` is no detector's.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: weights are written as .safetensors, not {path.suffix or 'no suffix'!r}")
    config = {**config, "nc": len(classes)}
    architecture.check(config)
    header = {"config": config, "classes": list(classes), "meta": dict(meta or {})}
    tensors = {name: _stored(tensor, half) for name, tensor in state.items()}
    data = safetensors.torch.save(tensors, {_HEADER: json.dumps(header, sort_keys=True, default=str)})
    atomic.write_bytes(path, data)


def rebuild(weights: Weights) -> DetectionModel:
    """The model, built from its YAML with our modules registered and every tensor loaded; in evaluation mode.

    Raises:
        DataError: the tensors are not exactly those of the YAML's model.
    """
    try:
        model = architecture.build(weights.config, weights.classes)
        model.load_state_dict(weights.state, strict=True)
    except (UsageError, RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"{weights.path}: its tensors do not fit its own model config: {reason}") from error
    return model.eval()


def embedded(name: str) -> Path | None:
    """The weights of a zoo model that come with this package, if any."""
    path = Path(__file__).parents[1] / "weights" / f"{name}.safetensors"
    return path if path.is_file() else None


def digest(state: Mapping[str, Tensor]) -> str:
    """sha256 of tensors by name, type, shape and value, whatever file they came in."""
    sha = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        sha.update(tensor.numpy().tobytes())
    return sha.hexdigest()


def _read_safetensors(path: Path) -> Parts:
    try:
        file: Any = safetensors.safe_open(path, framework="pt")
        header = (file.metadata() or {}).get(_HEADER)
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except Exception as error:  # SafetensorError, OSError, and torch's on a type it does not have
        raise DataError(f"{path}: no safetensors file, or damaged ({shown(error)}); get it again") from error
    if header is None and (original := checkpoints.original_yolov5(state)):
        return original
    if header is None:
        raise DataError(f"{path}: does not say which model it is for; give the .pt it was made from")
    try:
        fields = json.loads(header)
        meta = {str(key): str(value) for key, value in fields["meta"].items()}
        return state, dict(fields["config"]), [str(c) for c in fields["classes"]], meta
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: its header is damaged ({shown(error)}); get it again") from error


def _checked(name: object, tensor: object) -> str:
    """The name of a plain tensor on the CPU that holds all its values; a file can claim any shape over a few."""
    if not isinstance(name, str) or not isinstance(tensor, Tensor):
        raise ValueError(f"{shown(name)} is no tensor")
    if (
        tensor.layout != torch.strided
        or tensor.device.type != "cpu"
        or tensor.is_quantized
        or tensor.is_complex()
    ):
        raise ValueError(
            f"{shown(name)} is no plain tensor but {tensor.layout}, {tensor.dtype}, on {tensor.device}"
        )
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"{shown(name)} claims a shape of {tuple(tensor.shape)}, more than the file holds")
    return name


def _unfuse(state: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Turn each bias that took a BatchNorm's place back into one, so that fused weights can be grafted."""
    if not any(name.endswith(".conv.bias") for name in state):
        return state
    unfused = dict(state)
    for name in architecture.skeleton(config).state_dict():
        layer, _, _ = f"model.{name}".partition(".bn.weight")
        bias = unfused.get(f"{layer}.conv.bias")
        if not name.endswith(".bn.weight") or f"{layer}.bn.weight" in state or bias is None:
            continue
        del unfused[f"{layer}.conv.bias"]
        ones = torch.ones_like(bias)
        values = {"weight": ones, "bias": bias, "running_mean": ones - 1, "running_var": ones - _BN_EPS}
        unfused |= {f"{layer}.bn.{key}": value for key, value in values.items()}
        unfused[f"{layer}.bn.num_batches_tracked"] = torch.tensor(0)
    return unfused


def _stored(tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().cpu().contiguous().clone()
    if not (half and tensor.is_floating_point()):
        return tensor
    halved = tensor.half()
    return halved if halved.isfinite().all() else tensor.float()
