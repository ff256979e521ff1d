"""Graft a module into an Ultralytics detector: from YAML dict to YAML dict, then the baseline's weights."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_sgdm.core.errors import DataError, UsageError, unknown_name_error
from robustbench_sgdm.detectors.ultralytics import layer_settings
from robustbench_sgdm.detectors.ultralytics.architecture import (
    Head,
    ModelConfig,
    build_meta,
    config_rows,
    detection_head,
    head_widths,
)
from robustbench_sgdm.detectors.ultralytics.layer_settings import Layers
from robustbench_sgdm.modules import MODULES


def bind_module_args(module: str, channels: int, options: Mapping[str, Any]) -> list[Any]:
    """The positional arguments of `MODULES[module].cls(channels, **options)`, up to the last one given.

    Raises:
        UsageError: no such module or option, or a value that the module refuses.
    """
    if module not in MODULES:
        raise unknown_name_error("module", module, MODULES)
    cls = MODULES[module].cls
    parameters = inspect.signature(cls).parameters
    names = list(parameters)
    for option, value in options.items():
        if option not in names[1:]:
            raise unknown_name_error(f"option of {module}", option, names[1:])
        _check_type(module, option, value, parameters[option].default)
    try:
        with torch.device("meta"):
            cls(channels, **options)
    except ValueError as error:
        raise UsageError(f"{module}: {error}") from error
    except (ArithmeticError, RuntimeError, TypeError) as error:  # how torch refuses what no tensor can hold
        given = ",".join(f"{name}={value}" for name, value in options.items())
        raise UsageError(
            f"{module}[{given}] asks for a size beyond what can be computed; stay nearer to the defaults"
        ) from error
    bound = inspect.signature(cls).bind(channels, **options)
    bound.apply_defaults()
    last = max(names.index(name) for name in (names[0], *options))
    return list(bound.arguments.values())[: last + 1]


def _check_type(module: str, option: str, value: Any, default: Any) -> None:
    """Refuse a value of another kind than the default; where that is None, a whole number is meant."""
    words = {bool: "True or False", float: "a number", int: "a whole number", str: "a word"}
    kind = int if default is None else type(default)
    fits = type(value) is kind or (kind is float and type(value) is int) or value is default
    if not fits:
        raise UsageError(f"{module}: {option} is {value!r}, must be {words[kind]}; its default is {default}")


def graft_module(config: ModelConfig, module: str, **options: Any) -> ModelConfig:
    """Insert `module` before each input (P3, P4, P5) of the detection head.

    Args:
        config: Ultralytics model YAML with its `scale` and `nc`; left as it is.
        module: a name of `MODULES`.
        options: the module's, as `gamma=0` to change nothing until trained.

    Returns:
        A new config, an ordinary Ultralytics model once `register` has run. The head, at index L before, is
        at L + n for its n inputs.

    Raises:
        UsageError: the last layer is no detection head, or the module, an option or its value is unknown.
    """
    widths = head_widths(detection_head(build_meta(config)))
    grafted = copy.deepcopy(config)
    *_, (sources, repeats, kind, arguments) = config_rows(grafted)
    start = len(config["backbone"]) + len(config["head"]) - 1
    name = MODULES[module].cls.__name__ if module in MODULES else module
    inserted = [
        # -1, the layer before, would shift.
        [source % start, 1, name, bind_module_args(module, width, options)]
        for source, width in zip(sources, widths, strict=True)
    ]
    head = [list(range(start, start + len(inserted))), repeats, kind, arguments]
    grafted["head"] = [*grafted["head"][:-1], *inserted, head]
    return grafted


@dataclass(frozen=True)
class TransferReport:
    """What became of every tensor when weights were transferred.

    Attributes:
        matched: names in the grafted model that were loaded.
        new: names in the grafted model that keep their initial values.
        unmatched: names in the baseline that were not used.
    """

    matched: list[str]
    new: list[str]
    unmatched: list[str]

    def summary(self) -> str:
        """One line for a log."""
        return f"{len(self.matched)} tensors loaded, {len(self.new)} new, {len(self.unmatched)} not used"


def transfer_weights(
    baseline: Mapping[str, Tensor],
    grafted: nn.Module,
    *,
    layers: Layers | None = None,
    new_classes: bool = False,
) -> TransferReport:
    """Load a baseline's weights into the model grafted from it, in place, every tensor accounted for.

    The head moved from `model.L.` to `model.L+n.` behind the n inserted layers; loading by name alone would
    silently leave it at its initial values.

    Args:
        baseline: state dict of the ungrafted model (`model.0.conv.weight`, ...).
        grafted: the model to load into; an ungrafted one too (n = 0).
        layers: settings of the ungrafted model's layers, which the grafted model gets too; None leaves its own.
        new_classes: keep the classification branch's initial values where the baseline has other classes.

    Raises:
        UsageError: class counts differ, or a tensor has no counterpart or another shape. Nothing is loaded.
    """
    start, end = _inserted_range(grafted)
    inserted = tuple(f"model.{i}." for i in range(start, end))
    target = {name: value for name, value in grafted.state_dict().items() if not name.startswith(inserted)}
    moved = {_moved(name, start, end): name for name in baseline}
    differing = {n for n in {*moved, *target} if _shape(baseline, moved.get(n)) != _shape(target, n)}
    classifier = tuple(f"model.{end}.{branch}." for branch in ("cv3", "one2one_cv3"))
    if any(new.startswith(classifier) for new in differing) and not new_classes:
        _refuse_classes(baseline, target, start, end)
    refused = sorted(new for new in differing if not (new_classes and new.startswith(classifier)))
    if refused:
        raise UsageError(
            f"the weights are not those of this model's baseline: {len(refused)} tensors differ in shape or "
            f"are missing on one side, one of them is {refused[0]}"
        )
    if layers is not None:
        _carry_settings(grafted, layers, start, end)
    keep = [new for new in moved if not (new_classes and new.startswith(classifier))]
    grafted.load_state_dict({new: baseline[moved[new]] for new in keep}, strict=False)
    return TransferReport(
        matched=keep,
        new=[name for name in grafted.state_dict() if name not in keep],
        unmatched=[old for new, old in moved.items() if new not in keep],
    )


def _carry_settings(grafted: nn.Module, layers: Layers, start: int, end: int) -> None:
    """Set the layers of the grafted model as those of its baseline are."""
    network = grafted.get_submodule("model")
    names = {name: name for name in layers if name.partition(".")[0] != str(start)}
    names |= {_moved(f"model.{n}.", start, end)[6:-1]: n for n in layers if n.partition(".")[0] == str(start)}
    try:
        layer_settings.copy_settings(network, layers, names)
    except DataError as error:
        raise UsageError(f"the weights are not those of this model's baseline: {error}") from error


def _inserted_range(model: nn.Module) -> tuple[int, int]:
    """Indices (first inserted layer, head) of a model's layers; equal where nothing is inserted."""
    ours = tuple(spec.cls for spec in MODULES.values())
    sequence = list(model.get_submodule("model").children())
    end = len(sequence) - 1
    start = end
    while start and isinstance(sequence[start - 1], ours):
        start -= 1
    if not isinstance(sequence[end], Head):
        raise UsageError(
            f"the model's last layer is {type(sequence[end]).__name__}: only models that end in a detection head "
            "such as Detect are grafted, or trained here; use Ultralytics itself for others"
        )
    return start, end


def _moved(name: str, start: int, end: int) -> str:
    prefix = f"model.{start}."
    return f"model.{end}.{name.removeprefix(prefix)}" if name.startswith(prefix) else name


def _shape(state: Mapping[str, Tensor], name: str | None) -> torch.Size | None:
    return state[name].shape if name is not None and name in state else None


def _refuse_classes(
    baseline: Mapping[str, Tensor], target: Mapping[str, Tensor], start: int, end: int
) -> None:
    """Raise if the class counts, read off the bias of the last classification layer, are what differs."""
    last = "cv3.0.2.bias"
    old, new = baseline.get(f"model.{start}.{last}"), target.get(f"model.{end}.{last}")
    if old is not None and new is not None and len(old) != len(new):
        raise UsageError(
            f"the weights are for {len(old)} classes, the model for {len(new)}: build it for {len(old)}, or "
            "train it from these weights"
        )
