"""What an Ultralytics model YAML says, checked before it is built: it may come out of a downloaded file."""

from __future__ import annotations

import ast
import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from ultralytics.nn import tasks as _tasks
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.head import Detect
from ultralytics.nn.tasks import DetectionModel

from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.core.untrusted_input import read_yaml, short_repr
from robustbench_sgdm.detectors.ultralytics import yolov5
from robustbench_sgdm.detectors.ultralytics.backbones import TimmBackbone
from robustbench_sgdm.detectors.ultralytics.yolov5 import AnchorDetect, AnchorModel
from robustbench_sgdm.modules import MODULES

tasks: Any = _tasks  # it declares types and has few

_checked: dict[bytes, int] = {}
"""Parameters of the configs that have passed `check_network_size`."""
_MAX_CHECKED = 100

ModelConfig = dict[str, Any]
"""An Ultralytics model YAML as a dict, `scale` and `nc` included."""

HEADS = ("Detect", "v10Detect", yolov5.ANCHOR_HEAD)
QUERY_HEAD = "RTDETRDecoder"
Head = Detect | AnchorDetect
"""A head that reads maps of its own, before which a module can be grafted."""
_ACTIVATIONS = frozenset(nn.modules.activation.__all__) - {"MultiheadAttention"}
# All far above any detector's: a file that asks for more would only keep this machine busy.
_MAX_ROWS, _MAX_REPEATS, _MAX_MODULES, _MAX_PARAMETERS = 1000, 100, 10_000, 300_000_000
_MAX_VALUES = 2**28  # in the results of all operations on an image of _SMALL; yolov8x-p6 computes 2 * 10**8
_MAX_OPERATIONS = 10**12  # floating-point ones, for that image: the largest detector takes a tenth
_MAX_CALLS = 20_000  # of operations; the largest makes a tenth
_PROBE_SIZE = 256  # px, of the image that Ultralytics finds the strides with
_MAX_ARGUMENT = 100_000
_MAX_SCALES = {"depth_multiple": 10, "width_multiple": 10, "channels": 64, "reg_max": 64}
# What detectors are made of: maps in, maps out. Everything else that the parser could name builds whole models, which
# read YAML from files and addresses, or takes more than its output shows.
_TORCH_LAYERS = frozenset(
    {
        "Conv2d",
        "ConvTranspose2d",
        "BatchNorm2d",
        "GroupNorm",
        "InstanceNorm2d",
        "LayerNorm",
        "Linear",
        "Identity",
    }
    | {
        "Upsample",
        "UpsamplingNearest2d",
        "UpsamplingBilinear2d",
        "PixelShuffle",
        "PixelUnshuffle",
        "ChannelShuffle",
    }
    | {f"{kind}2d" for kind in ("MaxPool", "AvgPool", "LPPool", "AdaptiveAvgPool", "AdaptiveMaxPool")}
    | {f"{kind}2d" for kind in ("ZeroPad", "ReflectionPad", "ReplicationPad", "ConstantPad", "Dropout")}
    | {"Dropout", "Flatten"}
    | _ACTIVATIONS
)
_TORCHVISION_LAYERS = frozenset(
    {"Conv2dNormActivation", "DropBlock2d", "FrozenBatchNorm2d", "SqueezeExcitation"}
)
_ULTRALYTICS = "ultralytics.nn.modules."
_DOWNLOADS = ("TorchVision",)  # a layer that fetches pretrained weights when built
_PARSER = _tasks.parse_model.__code__
_PARSER_VARIABLES = frozenset(_PARSER.co_varnames + _PARSER.co_cellvars)  # those of its generators are cells
_NAMED_VARIABLES = ("nc",)  # the one that models do name


def register_modules() -> None:
    """Make our modules known to Ultralytics' YAML parser, under their class names.

    Raises:
        RuntimeError: Ultralytics has another class of that name, which would be shadowed.
    """
    for cls in _own_layers():
        name = cls.__name__
        if getattr(tasks, name, cls) is not cls:
            raise RuntimeError(f"ultralytics.nn.tasks has another {name} than {cls.__module__}: rename ours")
        setattr(tasks, name, cls)


def check_config(config: ModelConfig) -> None:
    """Refuse a config that is no detector's, or that would do more than build layers.

    Ultralytics' parser evaluates `activation` as Python, looks layers up among all that it has imported, takes an
    argument that is called like one of its own variables for that variable, and builds whatever number it reads.

    Raises:
        UsageError: says which part.
    """
    register_modules()
    try:
        rows, classes = list(config_rows(config)), config["nc"]
        kinds = [str(kind) for _, _, kind, _ in rows]
    except (KeyError, TypeError, ValueError):
        raise UsageError("no model config: it needs nc, and rows of layers in backbone and head") from None
    if not isinstance(classes, int) or not 1 <= classes <= 10_000:
        raise UsageError(
            f"the model config's nc is {short_repr(classes)}, must be a whole number from 1 to 10000"
        )
    if not kinds or kinds[-1] not in (*HEADS, QUERY_HEAD):
        raise _head_error(kinds[-1] if kinds else "missing", *HEADS, QUERY_HEAD)
    if (activation := config.get("activation")) and not _is_activation(activation):
        raise UsageError(
            f"the model config's activation {short_repr(activation)} is not a layer such as nn.SiLU()"
        )
    for kind in kinds:
        if not _is_layer(kind):
            raise UsageError(
                f"the model config names {short_repr(kind)}, which is not a layer that a file may ask for"
            )
    if len(rows) > _MAX_ROWS:
        raise UsageError(f"the model config has {len(rows)} layers; the limit is {_MAX_ROWS}")
    for _, repeats, kind, arguments in rows:
        if type(repeats) is not int or not 1 <= repeats <= _MAX_REPEATS:
            raise UsageError(
                f"the model config repeats {kind} {short_repr(repeats)} times, may from 1 to {_MAX_REPEATS}"
            )
        if not isinstance(arguments, list) or not all(map(_is_argument, arguments)):
            raise UsageError(
                f"the model config gives {kind} {short_repr(arguments)}, which no layer is built from"
            )
    for key, most in _MAX_SCALES.items():
        if not _is_number(value := config.get(key) or 1) or not 0 < float(value) <= most:
            raise UsageError(
                f"the model config's {key} is {short_repr(value)}, must be over 0 and {most} at the most"
            )
    if not _are_scales(config.get("scales") or {}):
        raise UsageError(
            f"the model config's scales are {short_repr(config['scales'])}, must be {{n: [0.33, 0.25, 1024]}}"
        )


def read_config(path: str | Path) -> ModelConfig:
    """The config that a model YAML of the user's holds; its rows may name our modules, such as SGDM.

    Nothing else is looked up: Ultralytics itself would take its own `yolov8.yaml` for a `yolov8n.yaml` here.

    Raises:
        UsageError: it cannot be read, or is refused by `check_config`.
    """
    try:
        loaded = read_yaml(Path(path))
    except DataError as error:
        raise UsageError(f"{path} cannot be read as a model YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise UsageError(f"{path} is not a model YAML: it holds a {type(loaded).__name__}, not a mapping")
    scale = loaded.get("scale") or tasks.guess_model_scale(path)
    config = {"nc": 80, **loaded, "scale": scale, "yaml_file": Path(path).name}
    try:
        check_config(config)
        check_network_size(config)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return config


def config_rows(config: ModelConfig) -> Iterator[Sequence[Any]]:
    """The rows (from, repeats, kind, arguments) of a config, in order."""
    for row in [*config["backbone"], *config["head"]]:
        source, repeats, kind, arguments = row
        yield source, repeats, kind, arguments


def build_meta(config: ModelConfig) -> nn.Sequential:
    """The layers as Ultralytics parses them, on the meta device: shapes without memory or initialisation.

    Raises:
        UsageError: the config is refused by `check_config`, does not parse, or is larger than any detector.
    """
    with torch.device("meta"), _limit_modules():
        built: nn.Sequential = _run_parser(_parse, config)
    if (count := sum(t.numel() for t in (*built.parameters(), *built.buffers()))) > _MAX_PARAMETERS:
        raise UsageError(f"the model config has {count:,} parameters; the limit is {_MAX_PARAMETERS:,}")
    return built


def check_network_size(config: ModelConfig) -> int:
    """Refuse a config whose network a file should not be able to make this machine build.

    Returns:
        The number of its parameters.

    Raises:
        UsageError: as `build_meta`; its layers do not fit each other; or one makes more of a small image than any
            detector's does.
    """
    # A training reads the same architecture a dozen times, and a check takes 0.3 s.
    key = hashlib.sha256(repr(config).encode("utf-8", "surrogatepass")).digest()
    if (count := _checked.get(key)) is None:
        network = build_meta(config).eval()
        _run_without_memory(config, network)
        count = sum(parameter.numel() for parameter in network.parameters())
        if len(_checked) >= _MAX_CHECKED:
            _checked.clear()
        _checked[key] = count
    return count


def _run_without_memory(config: ModelConfig, network: nn.Sequential) -> None:
    """Give every layer the shape of a small image.

    Raises:
        UsageError: as `check_network_size`.
    """
    outputs: list[Any] = [
        torch.empty(1, int(config.get("channels") or 3), _PROBE_SIZE, _PROBE_SIZE, device="meta")
    ]
    counted = _WorkCounter()
    for number, layer in enumerate(network):
        source: Any = layer.f
        try:
            inputs = [
                outputs[i if i < 0 else i + 1] for i in ([source] if isinstance(source, int) else source)
            ]
            with torch.no_grad(), torch.device("meta"), counted:
                outputs.append(layer(inputs[0] if isinstance(source, int) else inputs))
        except _TooLargeError as error:
            raise UsageError(
                f"the model config's {layer.type} (row {number}) {error}, more than any detector's"
            ) from None
        except Exception as error:
            if number == len(network) - 1:  # heads need values, which there are none of yet
                return
            raise UsageError(
                f"the model config's {layer.type} (row {number}) does not fit its input: {short_repr(str(error))}"
            ) from error


class _TooLargeError(Exception):
    """An operation would take more memory or time than any detector's."""


class _WorkCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks at every operation on shapes without memory before the same one takes memory."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._values = self._operations = self._calls = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """One operation."""
        result = func(*args, **(kwargs or {}))
        self._calls += 1
        for one in result if isinstance(result, list | tuple) else [result]:
            if isinstance(one, torch.Tensor) and not one._is_view():
                self._values += one.numel()
                if self._values > _MAX_VALUES:
                    raise _TooLargeError(
                        f"computes {tuple(one.shape)} values and brings them to {self._values:.0e}"
                    )
        if (count := flop_registry.get(func.overloadpacket)) is not None:
            self._operations += count(*args, **(kwargs or {}), out_val=result)
        if self._operations > _MAX_OPERATIONS or self._calls > _MAX_CALLS:
            raise _TooLargeError(f"brings it to {self._operations:.0e} operations in {self._calls:,} calls")
        return result


def build_network(config: ModelConfig, classes: Sequence[str]) -> DetectionModel:
    """A freshly initialised Ultralytics model, in training mode, that carries its config and class names.

    Raises:
        UsageError: as `build_meta`, or `classes` are not as many as the config's nc.
    """
    model: DetectionModel = _run_parser(_build, config)
    if len(classes) != config["nc"]:
        raise UsageError(f"{len(classes)} class names for a model of {config['nc']} classes")
    model.names = dict(enumerate(classes))
    return model


def detection_head(layers: nn.Module) -> Head:
    """The detection head, the last of a model's layers.

    Raises:
        UsageError: it ends in another, such as RT-DETR's decoder.
    """
    head = list(layers.children())[-1]
    if not isinstance(head, Head):
        raise _head_error(type(head).__name__, *HEADS)
    return head


def head_widths(head: Head) -> list[int]:
    """Channels of the maps that the head reads, one a level, P3 first."""
    branches = head.m if isinstance(head, AnchorDetect) else head.cv2
    return [next(branch.parameters()).shape[1] for branch in branches]


def _head_error(kind: str, *allowed: str) -> UsageError:
    return UsageError(f"the model's last layer is {kind}, must be a detection head: {' or '.join(allowed)}")


def _build(config: ModelConfig, **options: Any) -> Any:
    special = {yolov5.ANCHOR_HEAD: AnchorModel, QUERY_HEAD: tasks.RTDETRDetectionModel}
    return special.get(config["head"][-1][2], tasks.DetectionModel)(config, **options)


def _parse(config: ModelConfig, **options: Any) -> nn.Sequential:
    layers: nn.Sequential = tasks.parse_model(yolov5.with_detect_head(config), **options)[0]
    yolov5.replace_head(layers, config)
    return layers


def _run_parser(parser: Callable[..., Any], config: ModelConfig) -> Any:
    check_config(config)
    # A config may set it, and parsers that fail leave it so for all later networks.
    activation = Conv.default_act
    try:
        return parser(copy.deepcopy(config), ch=int(config.get("channels", 3)), verbose=False)
    except Exception as error:  # the parser does not check what it reads: any kind may come up
        raise UsageError(f"Ultralytics cannot build this model config: {short_repr(error)}") from error
    finally:
        Conv.default_act = activation


def _is_activation(text: object) -> bool:
    """Whether it is a plain call of an activation of torch with small numbers: all that its evaluation does then."""
    try:
        call = ast.parse(str(text)[:200].strip(), mode="eval").body
        if not isinstance(call, ast.Call):
            return False
        name = ast.unparse(call.func).removeprefix("torch.").removeprefix("nn.")
        values = [ast.literal_eval(value) for value in (*call.args, *(k.value for k in call.keywords))]
        named = ast.unparse(call.func) in (f"nn.{name}", f"torch.nn.{name}")
        return named and name in _ACTIVATIONS and all(map(_is_number, values)) and len(str(text)) <= 200
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False


def _is_argument(value: object, depth: int = 0) -> bool:
    """Whether a layer's argument is a small number, a word the parser leaves alone, or a list of such."""
    if isinstance(value, list):
        return depth < 4 and len(value) <= 1000 and all(_is_argument(one, depth + 1) for one in value)
    if isinstance(value, str):
        return value in _NAMED_VARIABLES or (
            value not in _PARSER_VARIABLES and value.isidentifier() and len(value) <= 80
        )
    return value is None or _is_number(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) <= _MAX_ARGUMENT  # NaN is not


def _are_scales(value: object) -> bool:
    """Whether it is a table of depth, width and most channels by letter."""
    return isinstance(value, dict) and all(
        isinstance(row, list) and len(row) == 3 and all(map(_is_number, row)) and max(row[:2]) <= 10
        for row in value.values()
    )


@contextmanager
def _limit_modules() -> Iterator[None]:
    """Stop building after `_MAX_MODULES`: an argument can ask a single layer for any number of them."""
    made = 0

    def count(*_: object) -> None:
        nonlocal made
        made += 1
        if made > _MAX_MODULES:
            raise ValueError(f"more than {_MAX_MODULES:,} modules")

    hook = nn.modules.module.register_module_module_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _is_layer(kind: str) -> bool:
    for prefix, names, module in (
        ("torchvision.ops.", _TORCHVISION_LAYERS, torchvision.ops),
        ("nn.", _TORCH_LAYERS, nn),
    ):
        if kind.startswith(prefix):
            return kind.removeprefix(prefix) in names and hasattr(module, kind.removeprefix(prefix))
    layer = getattr(tasks, kind, None)
    if not isinstance(layer, type) or not issubclass(layer, nn.Module) or kind in _DOWNLOADS:
        return False
    return layer in _own_layers() or layer.__module__.startswith(_ULTRALYTICS)


def _own_layers() -> tuple[type[nn.Module], ...]:
    return (TimmBackbone, AnchorDetect, *(spec.cls for spec in MODULES.values()))
