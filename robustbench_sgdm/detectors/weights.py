"""Weights are data: read without running code from the file, written so that they rebuild their model.

Two formats are read: Ultralytics' `.pt`, through its restricted loader, and ours, `.safetensors` whose header
holds the model YAML and the class names. The model is always built anew from the YAML and takes tensors only.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from timm.layers.format import Format
from timm.models import FeatureInfo
from torch import Tensor
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import YAML
from ultralytics.utils.checks import check_yaml, check_yolov5u_filename

from robustbench_sgdm import atomic
from robustbench_sgdm.detectors import architecture, yolov5
from robustbench_sgdm.detectors.architecture import Config, tasks
from robustbench_sgdm.detectors.backbones import BACKBONES, TimmBackbone
from robustbench_sgdm.detectors.yolov5 import AnchorDetect, AnchorModel
from robustbench_sgdm.errors import DataError, UsageError
from robustbench_sgdm.modules import MODULES

_HEADER = "robustbench_sgdm"  # one entry only: safetensors writes several in random order
_BN_EPS = 1e-3  # what Ultralytics sets on every BatchNorm
_FOREIGN = re.compile(r"GLOBAL ([\w.]+)")
_CARD = ("version", "date", "license")


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
    parts = _read_checkpoint(path, trust) if kind == ".pt" else _read_safetensors(path)
    state, config, classes, meta = parts
    try:
        architecture.check(config)
    except UsageError as error:
        raise DataError(f"{path}: {error}") from error
    config["nc"] = len(classes)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    state = {name: t.detach().float() if t.is_floating_point() else t.detach() for name, t in state.items()}
    return Weights(_unfuse(state, config), config, tuple(classes), sha256, path, meta)


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
    except (UsageError, RuntimeError) as error:
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


_Parts = tuple[dict[str, Tensor], Config, list[str], dict[str, str]]


def _read_safetensors(path: Path) -> _Parts:
    try:
        file: Any = safetensors.safe_open(path, framework="pt")
        header = (file.metadata() or {}).get(_HEADER)
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except (safetensors.SafetensorError, OSError) as error:
        raise DataError(f"{path}: no safetensors file, or damaged ({error}); get it again") from error
    if header is None and (original := _original_yolov5(state)):
        return original
    if header is None:
        raise DataError(f"{path}: does not say which model it is for; give the .pt it was made from")
    try:
        fields = json.loads(header)
        meta = {str(key): str(value) for key, value in fields["meta"].items()}
        return state, dict(fields["config"]), [str(c) for c in fields["classes"]], meta
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: its header is damaged ({error!r}); get it again") from error


def _read_checkpoint(path: Path, trust: bool) -> _Parts:
    _allow_our_modules()
    architecture.register()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on a file that is about to be refused
            with _not_renamed(path) as file:
                checkpoint, _ = tasks.torch_safe_load(file, safe_only=not trust)
    except Exception as error:  # whatever the bytes of a foreign file provoke
        raise DataError(f"{path}: {_reason(error)}") from error
    model = next((m for m in (checkpoint.get("ema"), checkpoint.get("model")) if m is not None), None)
    if original := _original_yolov5(checkpoint) or _original_yolov5(model):
        return original
    if not isinstance(model, DetectionModel):
        kind = "no model" if model is None else f"a {type(model).__name__}"
        raise DataError(f"{path}: holds {kind}, no Ultralytics detector; give one trained with task=detect")
    try:
        names = model.names
        classes = [names[i] for i in sorted(names)] if isinstance(names, dict) else list(names)
        config = json.loads(json.dumps(model.yaml, default=str))
        state = model.state_dict()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: its model is damaged ({error!r}); get it again") from error
    if known := yolov5.recognise(state):
        config = known[0]  # the repository's own YAML names its head as Ultralytics names another
    meta = {key: str(checkpoint[key]) for key in _CARD if checkpoint.get(key)}
    return state, config, [str(name) for name in classes], meta


@contextmanager
def _not_renamed(path: Path) -> Iterator[Path]:
    """Where Ultralytics may read: for `yolov5n.pt` it would download its own yolov5nu.pt and read that."""
    if check_yolov5u_filename(str(path), verbose=False) == str(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copyfile(path, Path(folder) / "checkpoint.pt"))


def _original_yolov5(state: object) -> _Parts | None:
    """A bare state dict of the yolov5 repository, with COCO's names for 80 classes."""
    found = yolov5.recognise(state)
    if found is None:
        return None
    config, count = found
    coco = cast(Any, YAML).load(cast(Any, check_yaml)("coco.yaml"))["names"].values()
    names = coco if count == 80 else map(str, range(count))
    return {str(name): tensor for name, tensor in cast(Any, state).items()}, config, list(names), {}


def _reason(error: Exception) -> str:
    """One line on why a checkpoint did not load, and what to do."""
    text = f"{error} {error.__cause__ or ''}"
    if "TorchScript" in text:
        return "a TorchScript archive, which runs code when loaded; give the .pt it was exported from"
    if found := _FOREIGN.search(text):
        return (
            f"not loaded, since it asks to run {found[1]}, which is none of Ultralytics' layers or ours. "
            "--trust-weights (trust=True) would run it, with all your rights: only if you trust its author"
        )
    if isinstance(error, ModuleNotFoundError) or "Can't get attribute" in text:
        return f"needs code that is not installed here ({error}); convert it where it was trained"
    return "no checkpoint of Ultralytics, or damaged; get it again"


@cache
def _allow_our_modules() -> None:
    """Let the restricted loader rebuild the layers our modules and backbones consist of; it knows torch's own."""
    with torch.device("meta"):
        built = [spec.cls(64) for spec in MODULES.values()] + [TimmBackbone(name) for name in BACKBONES]
    kinds = {type(part) for module in built for part in module.modules()} | {FeatureInfo, Format}
    ours = [kind for kind in kinds if not kind.__module__.startswith("torch.")]
    torch.serialization.add_safe_globals([*ours, AnchorDetect, AnchorModel, *yolov5.ALIASES])


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
