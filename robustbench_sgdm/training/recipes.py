"""Training recipes as data: what Ultralytics' trainer is told, one table for all models of a comparison."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import inf
from types import MappingProxyType, SimpleNamespace
from typing import Any

from torch import nn
from ultralytics.cfg import CFG_FLOAT_KEYS, CFG_INT_KEYS, get_cfg
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.utils import DEFAULT_CFG_DICT

from robustbench_sgdm.core.errors import UsageError, unknown_name_error
from robustbench_sgdm.detectors.ultralytics import zoo

# Common to every recipe: nothing is downloaded, drawn or sent, and a seed decides everything.
_COMMON = {
    "pretrained": False,
    "plots": False,
    "save_json": False,
    "deterministic": True,
    "compile": False,
    "amp": False,  # `--set amp=bf16` mixes precision; `true` would let Ultralytics download a model to check with
}

# Ultralytics multiplies `weight_decay` by batch x accumulate / nbs before its optimiser gets it: 0.01 x 8 / 1 = 0.08 in
# `quick`, and 0.0005 x 48 / 64 = 0.000375 in the paper's recipe at batch 48, as YOLOv5's own code did. What a recipe says
# is the argument; `effective` in a run's recipe.yaml is what the optimiser got.

# Table 1 of the paper, one recipe for each family; the batch goes by scale. Its "LR decay" is the weight decay of
# the YOLO code bases; what it does not print is Ultralytics' default. Label smoothing, 0 there, is no argument of
# Ultralytics any more. YOLOv5's table has no close-mosaic: its code base kept the mosaic to the end.
_PAPER = {
    **_COMMON,
    "epochs": 300,
    "imgsz": 640,
    "optimizer": "SGD",
    "lr0": 0.01,
    "momentum": 0.937,
    "weight_decay": 0.0005,
}
PAPER_BATCH = {
    "yolov5n": 72,
    "yolov5s": 48,
    "yolov6n": 128,
    "yolov6s": 72,
    "yolov8n": 48,
    "yolov8s": 36,
}

RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # From scratch in few iterations: a step per small batch, so that warm-up and averaging are soon done.
        "quick": {
            **_COMMON,
            "epochs": 20,
            "imgsz": 320,
            "batch": 8,
            "workers": 0,
            "optimizer": "AdamW",
            "lr0": 0.002,
            "lrf": 0.02,
            "cos_lr": True,
            "momentum": 0.9,
            "weight_decay": 0.01,
            "warmup_epochs": 1.0,
            "warmup_bias_lr": 0.0,
            "warmup_momentum": 0.9,
            "nbs": 1,
            "cache": "ram",
            "conf": 0.01,  # in the validation after each epoch only, where the many weakest boxes cost most
            "mosaic": 0.0,
            "close_mosaic": 0,
            "scale": 0.2,
            "translate": 0.1,
            "fliplr": 0.5,
            "hsv_h": 0.015,
            "hsv_s": 0.4,
            "hsv_v": 0.3,
            "auto_augment": None,
            "erasing": 0.0,
        },
        "paper-yolov5": {**_PAPER, "close_mosaic": 0},
        "paper-yolov6": {**_PAPER, "close_mosaic": 10},
        "paper-yolov8": {**_PAPER, "close_mosaic": 10},
        # Ultralytics' own defaults, whatever the installed version has.
        "ultralytics": {**{key: DEFAULT_CFG_DICT[key] for key in ("epochs", "imgsz", "batch")}, **_COMMON},
    }
)

# What a comparison decides, what the trainer does not read (`cfg`), or what would make another network of a model.
_OURS = {
    "cfg",
    "distill_model",
    "mode",
    "model",
    "pretrained",
    "quantize",
    "resume",
    "save",
    "save_dir",
    "split",
    "task",
    "time",
    "val",
}


def recipe(name: str, models: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a recipe for all `models`, with a user's overrides; None overrides nothing.

    `paper` is the one of the models' family; its batch goes by their scale.

    Raises:
        UsageError: no such recipe or argument, none for these models, or a value that cannot be; the nearest
            names are offered.
    """
    arguments = _arguments(name, models, overrides)
    _check(arguments)
    return arguments


def _arguments(name: str, models: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {key: value for key, value in overrides.items() if value is not None}
    for key in chosen:
        if key in _OURS:
            raise UsageError(f"{key} cannot be given: a comparison decides it; leave it out")
        if key not in DEFAULT_CFG_DICT:
            raise unknown_name_error("training argument", key, sorted(DEFAULT_CFG_DICT))
    if name != "paper" and not name.startswith("paper-"):
        if name not in RECIPES:
            raise unknown_name_error("recipe", name, ["paper", *RECIPES])
        return {**RECIPES[name], **chosen}
    plain = _detector(models)
    resolved = f"paper-{plain[:-1]}"
    if name not in ("paper", resolved):
        known = unknown_name_error("recipe", name, ["paper", *RECIPES])
        raise UsageError(f"{name} is not a recipe for {plain}: use {resolved}") if name in RECIPES else known
    return {**RECIPES[resolved], "batch": PAPER_BATCH[plain], **chosen}


def _check(arguments: Mapping[str, Any]) -> None:
    """Refuse now what Ultralytics would refuse after the data are exported, and what it would make up itself."""
    for key, least in (("batch", 1), ("workers", 0)):
        value = arguments.get(key, least)
        if not (type(value) is int and value >= least):
            raise UsageError(f"{key} is {value!r}; give a whole number from {least}")
    for key in sorted((CFG_FLOAT_KEYS | CFG_INT_KEYS) - {"save_period"}):  # -1 there: never
        value = arguments.get(key)
        if isinstance(value, int | float) and not 0 <= value < inf:
            raise UsageError(f"{key} is {value!r}; give a finite number from 0")
    freeze = arguments.get("freeze")
    for layer in freeze if isinstance(freeze, list) else [freeze or 0]:
        if not (type(layer) is int and layer >= 0):
            raise UsageError(f"freeze is {freeze!r}; give how many layers, or a list of their numbers")
    build: Any = BaseTrainer.build_optimizer
    network = nn.ModuleDict({"model": nn.Sequential(nn.Linear(1, 1))})
    try:
        args = get_cfg(overrides=dict(arguments))
        with suppress(AttributeError):  # of a trainer that another version reads: it will judge itself
            build(SimpleNamespace(args=args, data={}), network, args.optimizer, args.lr0, args.momentum)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UsageError(" ".join(str(error).split())) from error


def _detector(models: Sequence[str]) -> str:
    """The one detector that the paper's recipe is for, of the models with and without modules."""
    plain = sorted({zoo.resolve_model(model).base_model for model in models})
    if len(plain) > 1:
        raise UsageError(
            f"the paper's recipe depends on the detector, and {' and '.join(plain)} are two: "
            "compare each with its own variants, in a comparison of its own"
        )
    if plain[0] not in PAPER_BATCH:
        raise UsageError(
            f"the paper has no recipe for {plain[0]}, only for {', '.join(PAPER_BATCH)}; use --recipe ultralytics"
        )
    return plain[0]
