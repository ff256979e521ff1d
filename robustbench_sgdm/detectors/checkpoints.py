"""Ultralytics' `.pt`, read through its restricted loader; whatever a file holds, an error of ours or its parts."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePath
from typing import Any, cast

import torch
from timm.layers.format import Format
from timm.models import FeatureInfo
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import YAML
from ultralytics.utils.checks import check_yaml, check_yolov5u_filename

from robustbench_sgdm.detectors import architecture, yolov5
from robustbench_sgdm.detectors.architecture import Config, tasks
from robustbench_sgdm.detectors.backbones import BACKBONES, TimmBackbone
from robustbench_sgdm.detectors.yolov5 import AnchorDetect, AnchorModel
from robustbench_sgdm.errors import DataError
from robustbench_sgdm.foreign import label, refuse_large, shown
from robustbench_sgdm.modules import MODULES

Parts = tuple[dict[str, Tensor], Config, list[str], dict[str, str]]
"""Tensors by name, the model YAML, class names, the card."""

_FOREIGN = re.compile(r"GLOBAL ([\w.]+)")
_SCRIPT = "a TorchScript archive, which runs code when loaded; give the .pt it was exported from"
_CARD = ("version", "date", "license")


def load(path: Path, trust: bool) -> Parts:
    """The tensors, model YAML, class names and card of a `.pt`; see `weights.read`.

    Raises:
        DataError: damaged, no detector, or in need of code other than layers without `trust`.
    """
    _allow_our_modules()
    architecture.register()
    _refuse_compressed(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on a file that is about to be refused
            with _not_renamed(path) as file:
                checkpoint, _ = tasks.torch_safe_load(file, safe_only=not trust)
    except Exception as error:  # whatever the bytes of a foreign file provoke
        raise DataError(f"{path}: {_reason(error)}") from error
    try:
        return _parts(checkpoint)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # a file decides what its objects hold: any kind may come up
        raise DataError(f"{path}: its model is damaged ({shown(error)}); get it again") from error


def _parts(checkpoint: Any) -> Parts:
    model = next((m for m in (checkpoint.get("ema"), checkpoint.get("model")) if m is not None), None)
    if original := original_yolov5(checkpoint) or original_yolov5(model):
        return original
    if not isinstance(model, DetectionModel):
        kind = "no model" if model is None else f"a {type(model).__name__}"
        raise DataError(f"holds {kind}, no Ultralytics detector; give one trained with task=detect")
    refuse_large(model, _below)
    names = model.names
    classes = [names[i] for i in sorted(names)] if isinstance(names, dict) else list(names)
    config = json.loads(json.dumps(model.yaml, default=_plain))
    state = model.state_dict()
    if known := yolov5.recognise(state):
        config = known[0]  # the repository's own YAML names its head as Ultralytics names another
    meta = {key: value[:200] for key in _CARD if isinstance(value := checkpoint.get(key), str) and value}
    return state, config, [label(name) for name in classes], meta


def _below(value: Any) -> Iterable[Any]:
    """What `state_dict` and json go through: pickle can share parts without end."""
    if isinstance(value, nn.Module):
        return [*vars(value).get("_modules", {}).values(), vars(value).get("yaml"), vars(value).get("names")]
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list | tuple) else ()


def _plain(value: object) -> str:
    """For json: the path of a YAML file; nothing else that is no plain value."""
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"its config holds a {type(value).__name__}")


def _refuse_compressed(path: Path) -> None:
    """torch.save never compresses; compressed entries can unpack to a thousand times the file."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
            script = any("/code/" in name for name in archive.namelist())
    except Exception as error:
        raise DataError(f"{path}: no checkpoint of Ultralytics, or damaged; get it again") from error
    if packed and script:
        raise DataError(f"{path}: {_SCRIPT}")
    if packed:
        raise DataError(
            f"{path}: holds compressed entries, which torch.save does not write; save it again with torch"
        )


@contextmanager
def _not_renamed(path: Path) -> Iterator[Path]:
    """Where Ultralytics may read: for `yolov5n.pt` or `it's.pt` it would look for, and download, another name."""
    if check_yolov5u_filename(str(path).strip().replace("'", ""), verbose=False) == str(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copyfile(path, Path(folder) / "checkpoint.pt"))


def original_yolov5(state: object) -> Parts | None:
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
        return _SCRIPT
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
