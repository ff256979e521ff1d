"""What a network's layers are set to, beside their tensors: compared with what a file says, layer by layer.

A model YAML does not say everything. Ultralytics has changed what the same YAML builds: from 8.4.0 to about 8.4.140
`SPPF.cv1` had no activation, and 8.3.0 built every head in the style of YOLO11. A checkpoint of another release, or one
whose layers somebody changed, would run as another network if it were rebuilt from its YAML and tensors alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.modules.block import RepVGGDW
from ultralytics.nn.modules.conv import Conv2, RepConv
from ultralytics.nn.modules.head import Detect
from ultralytics.nn.tasks import DetectionModel

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.pickles import Global, Record
from robustbench_sgdm.core.untrusted_input import short_repr
from robustbench_sgdm.detectors.ultralytics.pickle_records import TensorRecord

Settings = dict[str, Any]
"""A layer's class and plain attributes; values that json can hold."""

Layers = dict[str, Settings]
"""Settings of every layer of a network by its name: `0.conv`, `22.cv2.0.2`, ..."""

_CLASS = "class"
_MAX_LAYERS = 10_000
_MAX_NAME = 1_000  # with those of the layers around it
_FORWARD = "forward"  # Ultralytics sets `layer.forward = layer.forward_fuse` on a layer that it has fused
# Without a part in what an evaluated network puts out, or set by whoever runs it.
_IGNORED = frozenset(
    {"training", "type", "np", "momentum", "num_batches_tracked", "inplace", "p", "dropout", "init"}
    | {"max_det", "conf", "iou", "agnostic_nms", "export", "format", "dynamic", "end2end", "process_group"}
    | {"shape", "shapes", "anchors", "strides", "valid_mask", "grid", "anchor_grid"}  # worked out for a size
    | {"label_noise_ratio", "box_noise_scale", "num_denoising"}  # of training
)
# Carried over from the file: they change no shape, so a file cannot ask for more memory with them.
_CARRIED = frozenset(
    # Of activations.
    {"eps", "add", "mode", "align_corners", "residual", "sigmoid", "all_head_dim"}
    | {"negative_slope", "approximate", "alpha", "beta", "threshold", "lambd", "min_val", "max_val"}
)
_PLACE_AND_WIDTHS = frozenset({"i", "f", "nc", "no", "in_channels", "out_channels", "num_features", "groups"})
# What newer releases of Ultralytics added, and what a file of an older one, which lacks it, does.
_ADDED_SETTINGS: Mapping[tuple[str, str], Any] = {
    ("ultralytics.SPPF", "n"): 3,
    ("ultralytics.SPPF", "add"): False,
    ("ultralytics.MLP", "residual"): False,
    ("ultralytics.MLP", "sigmoid"): False,
    ("torch.Upsample", "recompute_scale_factor"): None,
}
# What Ultralytics works out where a file lacks it.
_DERIVED = frozenset({("ultralytics.AAttn", "all_head_dim")})
_ADDED_LAYERS: Mapping[tuple[str, str], type[nn.Module]] = {
    ("ultralytics.MLP", "act"): nn.ReLU,
    ("ultralytics.MLP", "out_norm"): nn.Identity,
}
_LIBRARIES = {
    "torch.nn.modules.": "torch",
    "ultralytics.nn.": "ultralytics",
    "models.yolo.": "yolov5",  # the yolov5 repository
    "models.common.": "ultralytics",
    "robustbench_sgdm.": "robustbench_sgdm",
    "timm.": "timm",
    "torchvision.ops.": "torchvision",
}
_RENAMED = {
    "ultralytics.Silence": "torch.Identity",  # YOLOv9e until 8.2
    "yolov5.Detect": "robustbench_sgdm.AnchorDetect",
    "torch.SyncBatchNorm": "torch.BatchNorm2d",  # the same in evaluation; training on several GPUs puts it there
}
_ABSENT, _UNKNOWN = "not set", "a tensor"
_MAX_SETTING_BYTES = 256  # bytes of a tensor that is a setting, such as the strides of a head
_ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    f"torch.{name}": getattr(nn, name)
    for name in (*nn.modules.activation.__all__, "Identity")
    if name != "MultiheadAttention"
}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def from_network(layers: nn.Module) -> Layers:
    """The settings of a network's layers.

    Args:
        layers: an Ultralytics model's `model`, the sequence of its layers.
    """
    settings: Layers = {}
    for name, layer in _named_layers(layers):
        settings[name] = _settings(_library_and_name(_path(type(layer))), layer, vars(layer))
    return settings


def from_record(layers: Record) -> Layers:
    """As `from_network`, of layers that a checkpoint describes.

    Raises:
        DataError: damaged, or a layer carries hooks, which are code.
    """
    settings: Layers = {}
    for name, record in iter_layers(layers):
        attributes = record.attributes()
        _reject_hooks(attributes, f"its layer {short_repr(name)}")
        settings[name] = _settings(_library_and_name(record.path), record, attributes)
    return settings


def reject_code(network: Record) -> None:
    """Refuse the record of a whole model that has hooks, or functions in the places of its class's methods.

    Raises:
        DataError: names what.
    """
    attributes = network.attributes()
    _reject_hooks(attributes, "its model")
    for key, value in attributes.items():
        if _is_function(value) and hasattr(DetectionModel, key):
            raise DataError(
                f"its model has another function in the place of its method {key}; remove it and save it again"
            )


def iter_layers(layers: Record) -> Iterator[tuple[str, Record]]:
    """Every layer below a record of a module, with its name.

    Raises:
        DataError: a part is not a layer, they are numbered out of order, or there are more than 10,000.
    """
    stack = [(name, part) for name, part in reversed(_children(layers, ""))]
    count = 0
    while stack:
        name, record = stack.pop()
        count += 1
        if count > _MAX_LAYERS:
            raise DataError(f"its network has more than {_MAX_LAYERS:,} layers")
        yield name, record
        stack += reversed(_children(record, f"{name}."))


def apply_settings(network: nn.Module, layers: Layers) -> None:
    """Make a network that was built from a file's YAML the one that the file holds, but for the tensors; in place.

    Layers are fused and dropped as they are in the file, and settings without a part in shapes are carried over.

    Args:
        network: an Ultralytics model's `model`, on any device.
        layers: of the file.

    Raises:
        DataError: any other difference; names the layer and both values.
    """
    layers = dict(layers)
    _match_structure(network, layers)
    for _ in range(2):  # the second time, nothing may be left to carry over
        changes = list(_differences(network, layers))
        for name, key, value in changes:
            _carry_over(network, name, key, value, layers)
    if changes:
        name, key, value = changes[0]
        raise DataError(f"its layer {name} cannot be given {key} = {short_repr(value)}")


def copy_settings(network: nn.Module, layers: Layers, names: Mapping[str, str]) -> None:
    """Give a network the settings of layers that it shares with another.

    Args:
        network: an Ultralytics model's `model`.
        layers: of the other network.
        names: for each shared layer, its name in `layers` by its name in `network`.

    Raises:
        DataError: a difference that cannot be carried over.
    """
    shared = {new: _without_place(layers[old]) for new, old in names.items() if old in layers}
    modules = dict(network.named_modules(remove_duplicate=False))
    for name, settings in from_network(network).items():
        if name in shared:
            for _, key, value in _setting_differences(
                name, modules[name], _without_place(settings), shared[name]
            ):
                _carry_over(network, name, key, value, shared)


def _without_place(settings: Settings) -> Settings:
    """Without a layer's place in its network, and without its widths, which tensors tell.

    Two networks that share a layer may place it differently, and a head's widths go by the number of classes.
    """
    return {key: value for key, value in settings.items() if key not in _PLACE_AND_WIDTHS}


def _match_structure(network: nn.Module, layers: Layers) -> None:
    """Fuse, drop and rebuild the parts of a fresh network that the file has fused, dropped or built otherwise."""
    for name, layer in list(network.named_modules()):
        if isinstance(layer, RepConv | Conv2 | RepVGGDW) and _is_fused(layers, name):
            fused: Any = layer
            (fused.fuse if isinstance(layer, RepVGGDW) else fused.fuse_convs)()
            fused.forward = fused.forward_fuse
        elif isinstance(layer, Detect):
            if getattr(layer, "one2one_cv2", None) is not None:
                for branch in ("cv2", "cv3", "one2one_cv2", "one2one_cv3"):
                    _match_branch(layer, name, branch, layers)
            _match_classifier(layer, layers.get(f"{name}.cv3.0.0", {}).get(_CLASS))


def _is_fused(layers: Layers, name: str) -> bool:
    return layers.get(name, {}).get(_FORWARD) == "forward_fuse"


def _match_branch(head: Detect, name: str, branch: str, layers: Layers) -> None:
    """Drop one of the two branches where fusion has dropped it; Ultralytics 8.3 left identities in its place."""
    below = [one for one in layers if one.startswith(f"{name}.{branch}.")]
    if all(layers[one][_CLASS] == "torch.Identity" for one in below):
        setattr(head, branch, None)
        for one in (f"{name}.{branch}", *below):
            layers.pop(one, None)


def _match_classifier(head: Any, first: str | None) -> None:
    """Build the classification branch in the style of the file: YOLOv8's plain convolutions or YOLO11's depthwise."""
    legacy = {"ultralytics.Conv": True, "torch.Sequential": False}.get(first or "")
    if type(head) is not Detect or legacy is None or head.cv3 is None:
        return
    branches: Any = head.cv3
    if legacy != isinstance(branches[0][0], nn.Sequential):
        return
    before, Detect.legacy = Detect.legacy, legacy
    try:
        one2one = getattr(head, "one2one_cv3", None) is not None
        boxes: Any = head.cv2
        widths = [branch[0].conv.in_channels for branch in boxes]
        with torch.random.fork_rng(devices=[]):
            fresh = Detect(head.nc, head.reg_max, one2one, widths)
    finally:
        Detect.legacy = before
    head.cv3 = fresh.cv3
    if one2one:
        head.one2one_cv3 = fresh.one2one_cv3


def _differences(network: nn.Module, layers: Layers) -> Iterator[tuple[str, str, Any]]:
    """(layer, setting, the file's value) where they differ and the file's can be carried over.

    Raises:
        DataError: it cannot.
    """
    built = from_network(network)
    modules = dict(network.named_modules(remove_duplicate=False))
    for name in layers.keys() - built.keys():
        raise DataError(_message(name, f"is a {layers[name][_CLASS]}", "there is none"))
    for name, settings in built.items():
        parent, _, leaf = name.rpartition(".")
        if name in layers:
            if leaf == "bn" and _is_fused(layers, parent):
                raise DataError(
                    f"its layer {parent} skips its BatchNorm, as if it were fused, but still has it; save the model "
                    "before it is fused, or after"
                )
            yield from _setting_differences(name, modules[name], settings, layers[name])
        elif added := _ADDED_LAYERS.get((built.get(parent, {}).get(_CLASS, ""), leaf)):
            if type(modules[name]) is not added:
                yield name, _CLASS, f"torch.{added.__name__}"
        elif not (leaf == "bn" and _is_fused(layers, parent)):  # its tensors come from the fused bias
            raise DataError(_message(name, "is missing", f"there is a {settings[_CLASS]}"))


def _setting_differences(
    name: str, layer: nn.Module, built: Settings, file: Settings
) -> Iterator[tuple[str, str, Any]]:
    kind = built[_CLASS]
    if file.get(_FORWARD, _FORWARD) not in (_FORWARD, "forward_fuse"):
        raise DataError(f"its layer {name} has another function in the place of its forward method")
    if kind != file[_CLASS]:
        if not {kind, file[_CLASS]} <= _ACTIVATIONS.keys():
            raise DataError(_message(name, f"is a {file[_CLASS]}", f"it is a {kind}"))
        yield name, _CLASS, file[_CLASS]
        return
    for key in sorted((built.keys() | file.keys()) - {_CLASS, _FORWARD}):
        if key in file and key not in built:
            ours = _plain(getattr(type(layer), key, _ABSENT))
            theirs = file[key]
        else:
            ours = built[key]
            theirs = file.get(
                key, _ADDED_SETTINGS.get((kind, key), ours if (kind, key) in _DERIVED else _ABSENT)
            )
        if ours == theirs or _UNKNOWN in (ours, theirs):
            continue
        if key not in _CARRIED or key not in built or not isinstance(theirs, bool | int | float | str):
            raise DataError(
                _message(name, f"({kind}) has {key} = {short_repr(theirs)}", f"it has {short_repr(ours)}")
            )
        yield name, key, theirs


def _carry_over(network: nn.Module, name: str, key: str, value: Any, layers: Layers) -> None:
    layer = network.get_submodule(name)
    if type(layer) in _ACTIVATIONS.values() or key == _CLASS:
        # Ultralytics shares one activation among many layers, so the layer gets one of its own.
        parent, _, leaf = name.rpartition(".")
        wanted = layers.get(name, {_CLASS: value})
        network.get_submodule(parent).register_module(leaf, _activation(name, wanted))
    else:
        setattr(layer, key, value)


def _activation(name: str, settings: Settings) -> nn.Module:
    count = settings.get("num_parameters")
    options = {"num_parameters": count} if isinstance(count, int) and 0 < count <= 100_000 else {}
    try:
        layer = _ACTIVATIONS[settings[_CLASS]](**options)
    except TypeError as error:
        raise DataError(
            f"its layer {name} is a {settings[_CLASS]}, which needs arguments: {error}"
        ) from error
    for key, value in settings.items():
        if key in _CARRIED and key in vars(layer):
            setattr(layer, key, value)
    return layer.eval()


def _message(name: str, file: str, built: str) -> str:
    return (
        f"its layer {short_repr(name)} {file}; in the network that the installed Ultralytics builds from the file's "
        "YAML, "
        f"{built}. Use the release of Ultralytics that wrote the file, or the file's own code with --trust-weights"
    )


def _named_layers(layers: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """As `named_modules`, with layers that share a module listed each."""
    for name, layer in layers._modules.items():  # named_children would leave out a layer's second name
        if layer is not None:
            yield f"{prefix}{name}", layer
            yield from _named_layers(layer, f"{prefix}{name}.")


def _reject_hooks(attributes: Mapping[str, Any], what: str) -> None:
    if any(attributes.get(key) for key in _HOOKS):
        raise DataError(f"{what} has hooks, which are code that runs with it; remove them and save it again")


def _children(record: Record, prefix: str) -> list[tuple[str, Record]]:
    parts = record.attributes().get("_modules") or {}
    if not isinstance(parts, dict):
        raise DataError("its layers are damaged")
    if any(not isinstance(name, str) or len(prefix) + len(name) > _MAX_NAME for name in parts):
        raise DataError(f"its layers have names that are not text, or of more than {_MAX_NAME:,} characters")
    numbers = [int(name) for name in parts if name.isdecimal()]
    if numbers != sorted(numbers):  # the order in which a sequence runs them
        raise DataError(
            f"the layers of {short_repr(prefix[:-1]) if prefix else 'its network'} stand in the order "
            f"{short_repr(numbers)}; number them in the order in which they run"
        )
    children = [(f"{prefix}{name}", part) for name, part in parts.items() if part is not None]
    for name, part in children:
        if not isinstance(part, Record):
            raise DataError(f"its layer {short_repr(name)} is {short_repr(part)}, which is not a layer")
    return children


def _settings(kind: str, layer: nn.Module | Record, attributes: Mapping[str, Any]) -> Settings:
    settings: Settings = {_CLASS: kind}
    for key, value in attributes.items():
        if key == _FORWARD:
            settings[key] = _method(value, layer)
        elif _is_function(value) if key.startswith("_") else key not in _IGNORED:
            settings[key] = _plain(value)
    return settings


def _is_function(value: Any) -> bool:
    """Whether a value is a function or class, live or as pickle names it."""
    if isinstance(value, Record):
        return value.path in ("builtins.getattr", "functools.partial")
    return isinstance(value, Global | type | FunctionType | BuiltinFunctionType | MethodType)


def _method(value: Any, layer: nn.Module | Record) -> str:
    """The name of a method of the layer's own, live or as pickle writes it: `getattr(layer, name)`."""
    if isinstance(value, MethodType) and value.__self__ is layer:
        return value.__name__
    own: Any = value.args if isinstance(value, Record) and value.path == "builtins.getattr" else ()
    is_own = len(own) == 2 and own[0] is layer and isinstance(own[1], str)
    return str(own[1]) if is_own else f"<{_path(value)}>"


def _plain(value: Any, depth: int = 0) -> Any:
    """A value that json can hold; for any other value, the name of its type."""
    if isinstance(value, Enum):  # some are text too; a pickle calls the class with the value
        return f"<{_path(value)}({value.value!r})>"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if depth < 5 and isinstance(value, list | tuple):
        return [_plain(one, depth + 1) for one in value]
    if depth < 5 and isinstance(value, dict):
        return {str(key): _plain(one, depth + 1) for key, one in value.items()}
    if isinstance(value, TensorRecord):
        return value.load().float().tolist() if value.nbytes <= _MAX_SETTING_BYTES else _UNKNOWN
    if isinstance(value, Tensor):
        small = value.numel() * value.element_size() <= _MAX_SETTING_BYTES and not value.is_meta
        return value.detach().float().cpu().tolist() if small else _UNKNOWN
    if isinstance(value, Record) and len(value.args) == 1 and isinstance(value.args[0], str | int):
        return f"<{value.path}({value.args[0]!r})>"
    return f"<{_path(value)}>"


def _path(value: Any) -> str:
    """The path of a class or function, or of an object's class."""
    if isinstance(value, Global | Record):
        return value.path
    if isinstance(value, torch.dtype):
        return str(value)
    named = value if isinstance(value, type | FunctionType | BuiltinFunctionType) else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def _library_and_name(path: str) -> str:
    """A layer's class without the modules it was moved between: `torch.Conv2d`, `ultralytics.SPPF`."""
    for start, library in _LIBRARIES.items():
        if path.startswith(start):
            path = f"{library}.{path.rpartition('.')[2]}"
            break
    return _RENAMED.get(path, path)
