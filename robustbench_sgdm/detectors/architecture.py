"""What an Ultralytics model YAML says, checked before it is built: it may come out of a downloaded file."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
import yaml
from torch import nn
from ultralytics.nn import tasks as _tasks
from ultralytics.nn.modules.head import Detect
from ultralytics.nn.tasks import DetectionModel

from robustbench_sgdm.detectors import yolov5
from robustbench_sgdm.detectors.backbones import TimmBackbone
from robustbench_sgdm.detectors.yolov5 import AnchorDetect, AnchorModel
from robustbench_sgdm.errors import UsageError
from robustbench_sgdm.modules import MODULES

tasks: Any = _tasks  # it declares types and has few

Config = dict[str, Any]
"""An Ultralytics model YAML as a dict, `scale` and `nc` included."""

HEADS = ("Detect", "v10Detect", yolov5.KIND)
QUERY_HEAD = "RTDETRDecoder"
Head = Detect | AnchorDetect
"""A head that reads maps of its own, before which a module can be grafted."""
_ACTIVATION = re.compile(r"(torch\.)?nn\.[A-Z]\w*\([\w\s=.,-]*\)")
# Everything else that the parser could name builds whole models, which read YAML from files and addresses.
_LAYERS = ("torch.nn.modules.", "torchvision.ops.", "ultralytics.nn.modules.")
_DOWNLOADS = ("TorchVision",)  # a layer that fetches pretrained weights when built


def register() -> None:
    """Make our modules known to Ultralytics' YAML parser, under their class names.

    Raises:
        RuntimeError: Ultralytics has another class of that name, which would be shadowed.
    """
    for cls in _ours():
        name = cls.__name__
        if getattr(tasks, name, cls) is not cls:
            raise RuntimeError(f"ultralytics.nn.tasks has another {name} than {cls.__module__}: rename ours")
        setattr(tasks, name, cls)


def check(config: Config) -> None:
    """Refuse a config that is no detector's, or that would do more than build layers.

    Ultralytics' parser evaluates `activation` as Python and looks layers up among all that it has imported.

    Raises:
        UsageError: says which part.
    """
    register()
    try:
        rows, classes = list(layers(config)), config["nc"]
        kinds = [str(kind) for _, _, kind, _ in rows]
    except (KeyError, TypeError, ValueError):
        raise UsageError("no model config: it needs nc, and rows of layers in backbone and head") from None
    if not isinstance(classes, int) or not 1 <= classes <= 10_000:
        raise UsageError(f"the model config's nc is {classes!r}, must be a whole number from 1 to 10000")
    if not kinds or kinds[-1] not in (*HEADS, QUERY_HEAD):
        raise _no_head(kinds[-1] if kinds else "missing", *HEADS, QUERY_HEAD)
    activation = config.get("activation")
    if activation and not _ACTIVATION.fullmatch(str(activation)):
        raise UsageError(f"the model config's activation {activation!r} is not a layer such as nn.SiLU()")
    for kind in kinds:
        if not _is_layer(kind):
            raise UsageError(f"the model config names {kind!r}, which is no layer that a file may ask for")


def from_file(path: str | Path) -> Config:
    """The config that a model YAML of the user's holds; its rows may name our modules, such as SGDM.

    Nothing else is looked up: Ultralytics itself would take its own `yolov8.yaml` for a `yolov8n.yaml` here.

    Raises:
        UsageError: it cannot be read, or is refused by `check`.
    """
    try:
        loaded = yaml.safe_load(Path(path).read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path} cannot be read as a model YAML: {reason}") from error
    if not isinstance(loaded, dict):
        raise UsageError(f"{path} is no model YAML: it holds a {type(loaded).__name__}, not a mapping")
    scale = loaded.get("scale") or tasks.guess_model_scale(path)
    config = {"nc": 80, **loaded, "scale": scale, "yaml_file": Path(path).name}
    try:
        check(config)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return config


def layers(config: Config) -> Iterator[Sequence[Any]]:
    """The rows (from, repeats, kind, arguments) of a config, in order."""
    for row in [*config["backbone"], *config["head"]]:
        source, repeats, kind, arguments = row
        yield source, repeats, kind, arguments


def skeleton(config: Config) -> nn.Sequential:
    """The layers as Ultralytics parses them, on the meta device: shapes without memory or initialisation.

    Raises:
        UsageError: the config is refused by `check`, or does not parse.
    """
    with torch.device("meta"):
        built: nn.Sequential = _parsed(_parse, config)
    return built


def build(config: Config, classes: Sequence[str]) -> DetectionModel:
    """A freshly initialised Ultralytics model, in training mode, that carries its config and class names.

    Raises:
        UsageError: as `skeleton`, or `classes` are not as many as the config's nc.
    """
    model: DetectionModel = _parsed(_build, config)
    if len(classes) != config["nc"]:
        raise UsageError(f"{len(classes)} class names for a model of {config['nc']} classes")
    model.names = dict(enumerate(classes))
    return model


def head_of(layers: nn.Module) -> Head:
    """The detection head, the last of a model's layers.

    Raises:
        UsageError: it ends in another, such as RT-DETR's decoder.
    """
    head = list(layers.children())[-1]
    if not isinstance(head, Head):
        raise _no_head(type(head).__name__, *HEADS)
    return head


def head_widths(head: Head) -> list[int]:
    """Channels of the maps that the head reads, one a level, P3 first."""
    branches = head.m if isinstance(head, AnchorDetect) else head.cv2
    return [next(branch.parameters()).shape[1] for branch in branches]


def _no_head(found: str, *allowed: str) -> UsageError:
    return UsageError(f"the model's last layer is {found}, must be a detection head: {' or '.join(allowed)}")


def _build(config: Config, **options: Any) -> Any:
    special = {yolov5.KIND: AnchorModel, QUERY_HEAD: tasks.RTDETRDetectionModel}
    return special.get(config["head"][-1][2], tasks.DetectionModel)(config, **options)


def _parse(config: Config, **options: Any) -> nn.Sequential:
    layers: nn.Sequential = tasks.parse_model(yolov5.parseable(config), **options)[0]
    yolov5.put_head(layers, config)
    return layers


def _parsed(parser: Callable[..., Any], config: Config) -> Any:
    check(config)
    try:
        return parser(copy.deepcopy(config), ch=int(config.get("channels", 3)), verbose=False)
    except Exception as error:  # the parser does not check what it reads: any kind may come up
        raise UsageError(f"Ultralytics cannot build this model config: {error!r}") from error


def _is_layer(kind: str) -> bool:
    space: Any = tasks
    for prefix, module in (("torchvision.ops.", torchvision.ops), ("nn.", nn)):
        if kind.startswith(prefix):
            space, kind = module, kind.removeprefix(prefix)
            break
    found = getattr(space, kind, None)
    if not isinstance(found, type) or not issubclass(found, nn.Module) or kind in _DOWNLOADS:
        return False
    return found in _ours() or found.__module__.startswith(_LAYERS)


def _ours() -> tuple[type[nn.Module], ...]:
    return (TimmBackbone, AnchorDetect, *(spec.cls for spec in MODULES.values()))
