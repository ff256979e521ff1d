"""The detectors known by name: `yolov8n`, `yolov8n-sgdm`, `yolov8n-sgdm[razor=0.25,strip=11]`.

`<detector>[-<module>][[options]]`: the detector one of `names()` or of Ultralytics' own, the module of `MODULES`.
Or the path of a model YAML, `mine.yaml`, in which modules and their options stand as rows.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ultralytics.nn.tasks import DetectionModel

from robustbench_sgdm.core.errors import UsageError, unknown_name_error
from robustbench_sgdm.detectors.ultralytics import architecture, backbones, library_models, yolov5
from robustbench_sgdm.detectors.ultralytics.architecture import ModelConfig, tasks
from robustbench_sgdm.detectors.ultralytics.flops import ModelCost, count_cost
from robustbench_sgdm.detectors.ultralytics.graft import bind_module_args, graft_module
from robustbench_sgdm.modules import MODULES

FAMILIES = ("yolov5", "yolov6", "yolov8")
SCALES = ("n", "s")
_WIDE = 1024  # channels to try options at; grafting checks them at the real widths
_NAME = re.compile(r"(?P<stem>[^\[\]]+)(\[(?P<options>[^\[\]]*)\])?")


@dataclass(frozen=True)
class ZooEntry:
    """A detector of the zoo.

    Attributes:
        name: as asked for, options included.
        base_model: name of the detector without module or options.
        module: name in `MODULES` of what is grafted before the head, or None.
        options: the module's options.
        baseline: `base_model` where there is a module; None for a detector that is a baseline itself.
    """

    name: str
    base_model: str
    module: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def baseline(self) -> str | None:
        """The detector without the module; None for one that is a baseline itself."""
        return self.base_model if self.module else None


def model_names() -> list[str]:
    """The paper's detectors without options, baselines before what is grafted into them.

    Not all that `resolve_model` knows: any module goes into any detector, and Ultralytics' models are detectors too.
    """
    crossed = [
        name + suffix for name in _base_models() for suffix in ("", *(f"-{module}" for module in MODULES))
    ]
    return crossed + [name + suffix for name in _further_base_models() for suffix in ("", "-sgdm")]


def resolve_model(name: str) -> ZooEntry:
    """The entry that `name`, with or without options in brackets, stands for.

    Raises:
        UsageError: no such detector, module or option, an option's value is refused, or the detector has no head
            that a module can go before.
    """
    if is_model_yaml(name):
        return ZooEntry(name, name)
    match = _NAME.fullmatch(name)
    stem = match["stem"] if match else name
    plain = _longest_base_model(stem)
    module = stem.removeprefix(f"{plain}-") if stem != plain else None
    if match is None or plain is None or module not in (None, *MODULES):
        raise _unknown(name, plain)
    options = _parse_options(match["options"] or "", name)
    if module is None:
        if options:
            raise UsageError(f"{name}: {plain} has no module, so no options; write {plain}-sgdm[...]")
        return ZooEntry(name, plain)
    if (head := head_name(plain)) not in architecture.HEADS:
        raise UsageError(
            f"{name}: {plain} ends in {head}, and modules go before {' or '.join(architecture.HEADS)} only; "
            f"write {plain}, or take another detector such as yolo11n-{module}"
        )
    bind_module_args(module, _WIDE, options)
    return ZooEntry(name, plain, module, options)


def is_model_yaml(name: str) -> bool:
    """Whether it is the path of a model YAML; the file is read when the model is asked for."""
    return name.lower().endswith((".yaml", ".yml"))


def head_name(plain: str) -> str:
    """What a detector without a module ends in, as its YAML calls it."""
    return str(_base_config(plain)["head"][-1][2])


def model_config(name: str, classes: int, **options: Any) -> ModelConfig:
    """The Ultralytics model YAML of a detector, as a dict with `scale` and `nc` set.

    Args:
        name: of the zoo, options in brackets allowed.
        classes: number of classes.
        options: the module's, over those in the brackets.

    Raises:
        UsageError: as `resolve_model`, or the module cannot be grafted into the detector.
    """
    entry = resolve_model(name)
    baseline = {**_base_config(entry.base_model), "nc": classes}
    if entry.module is None:
        if options:
            raise UsageError(f"{name} has no module, so no options: {', '.join(options)}")
        return baseline
    grafted = graft_module(baseline, entry.module, **{**entry.options, **options})
    grafted["yaml_file"] = f"{entry.baseline}-{entry.module}.yaml"
    return grafted


def build_model(
    name: str, classes: int, class_names: Sequence[str] | None = None, **options: Any
) -> DetectionModel:
    """A freshly initialised detector; classes without `class_names` are called "0", "1", ...

    Raises:
        UsageError: as `resolve_model`, or `class_names` are not `classes` many.
    """
    labels = [str(i) for i in range(classes)] if class_names is None else class_names
    return architecture.build_network(model_config(name, classes, **options), labels)


def model_cost(name: str, classes: int = 80, imgsz: int = 640) -> ModelCost:
    """Parameters and GFLOPs of a detector for one square image.

    Raises:
        UsageError: as `resolve_model`.
    """
    return count_cost(model_config(name, classes), imgsz)


def model_sources(name: str) -> list[str]:
    """Where a detector comes from, and its module if it has one.

    Raises:
        UsageError: as `resolve_model`.
    """
    entry = resolve_model(name)
    origin = entry.base_model if is_model_yaml(entry.base_model) else f"Ultralytics {entry.base_model}.yaml"
    if entry.base_model in backbones.model_names():
        origin = f"{backbones.backbone_source(entry.base_model)}; neck and head of Ultralytics yolov8n.yaml"
    if entry.base_model in yolov5.model_names():
        origin = (
            "the anchor-based YOLOv5 of the ultralytics/yolov5 repository, v6 and v7; trained there, not here"
        )
    return [origin, MODULES[entry.module].source] if entry.module else [origin]


def _further_base_models() -> list[str]:
    return [*(f"{yolov5.FAMILY}{scale}" for scale in SCALES), *backbones.model_names()]


def _base_models() -> list[str]:
    return [family + scale for family in FAMILIES for scale in SCALES]


def _longest_base_model(stem: str) -> str | None:
    """The longest detector's name that `stem` is, or goes on from with a module's: some hold a `-` themselves."""
    known = (
        *_base_models(),
        *_further_base_models(),
        *yolov5.model_names(),
        *library_models.library_model_names(),
    )
    return max((name for name in known if f"{stem}-".startswith(f"{name}-")), key=len, default=None)


def _unknown(name: str, plain: str | None) -> UsageError:
    """Offers a known detector's names with each module, or else the nearest names and the rule they follow."""
    if plain:
        return unknown_name_error("model", name, [plain, *(f"{plain}-{module}" for module in MODULES)])
    near = difflib.get_close_matches(
        name, {*model_names(), *library_models.library_model_names()}, n=3, cutoff=0.5
    )
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return UsageError(
        f"unknown model {name!r}; {hint}A name is <detector>[-<module>]: a detector is one of "
        f"{', '.join([*_base_models(), *_further_base_models()])}, or another of Ultralytics such as yolo11n; a "
        "module is "
        f"one of {', '.join(MODULES)}"
    )


def _base_config(plain: str) -> ModelConfig:
    if is_model_yaml(plain):
        return architecture.read_config(plain)
    if plain in backbones.model_names():
        return backbones.model_config(plain, tasks.yaml_model_load("yolov8n.yaml"))
    if plain in yolov5.model_names():
        return yolov5.model_config(plain)
    loaded: ModelConfig = tasks.yaml_model_load(f"{plain}.yaml")
    return loaded


def _parse_options(text: str, name: str) -> dict[str, Any]:
    """`razor=0.25,spatial=channel` as a dict; values are Python literals, or else words."""
    options: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not (key and equals and value) or key in options:
            raise UsageError(f"{name}: {item!r} is not option=value, or is there twice")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value
    return options
