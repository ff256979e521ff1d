"""What a `.pt` of Ultralytics holds: tensors, model YAML, class names and layer settings, read from its records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from torch import Tensor
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import YAML
from ultralytics.utils.checks import check_yaml

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.pickles import Global, Record
from robustbench_sgdm.core.untrusted_input import check_expanded_size, short_repr, validate_class_name
from robustbench_sgdm.detectors.ultralytics import layer_settings, yolov5
from robustbench_sgdm.detectors.ultralytics.architecture import ModelConfig, tasks
from robustbench_sgdm.detectors.ultralytics.layer_settings import Layers
from robustbench_sgdm.detectors.ultralytics.pickle_records import TensorRecord, open_checkpoint

_CARD_FIELDS = ("version", "date", "license")
_STATES = ("model", "state_dict", "model_state_dict", "model_state")  # where checkpoints have it
_MAX_DEPTH = 200  # records and values within each other; those of a detector are nested 20 deep
_TASKS = {
    "SegmentationModel": "segmentation",
    "PoseModel": "pose estimation",
    "OBBModel": "oriented boxes",
    "ClassificationModel": "classification",
    "SemanticSegmentationModel": "semantic segmentation",
    "DepthModel": "depth estimation",
    "WorldModel": "open-vocabulary detection",
    "YOLOEModel": "open-vocabulary detection",
    "YOLOESegModel": "open-vocabulary segmentation",
}
_DETECTORS = (
    "ultralytics.nn.tasks.DetectionModel",
    "ultralytics.nn.tasks.RTDETRDetectionModel",
    "ultralytics.nn.tasks.YOLOv10DetectionModel",
    "robustbench_sgdm.detectors.ultralytics.yolov5.AnchorModel",
    "robustbench_sgdm.detectors.ultralytics.yolov5.AnchorModel",  # of files written before it moved
    "models.yolo.Model",
    "models.yolo.DetectionModel",
)


@dataclass
class Checkpoint:
    """A detector as a file describes it.

    Attributes:
        state: tensors by name (`model.0.conv.weight`, ...).
        config: the model YAML.
        classes: class names in label order.
        meta: card fields, such as the version that wrote the file, and the image size it was trained at.
        layers: settings of every layer; None where the file does not say.
    """

    state: dict[str, Tensor]
    config: ModelConfig
    classes: list[str]
    meta: dict[str, str] = field(default_factory=dict)
    layers: Layers | None = None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a `.pt` as data; see `weights.read_weights`.

    Raises:
        DataError: damaged, or no detector of Ultralytics or ours; says what it is.
    """
    try:
        with open_checkpoint(path) as content:
            return _detector(content, 2 * path.stat().st_size)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # a file decides what its records hold: any kind may come up
        raise DataError(
            f"{path}: its model is damaged ({short_repr(error)}); download or copy it again"
        ) from error


def unpickle_trusted(path: Path) -> tuple[DetectionModel, dict[str, str]]:
    """The network that a `.pt` holds, unpickled with all the code that the file asks for; and its card.

    Raises:
        DataError: damaged, no detector, or in need of code that is not installed.
    """
    try:
        checkpoint, _ = tasks.torch_safe_load(path, safe_only=False)
        network = checkpoint.get("ema") or checkpoint.get("model")
    except Exception as error:  # whatever its code provokes
        raise DataError(
            f"{path}: cannot be unpickled ({type(error).__name__}: {short_repr(str(error))})"
        ) from error
    if not isinstance(network, DetectionModel):
        raise DataError(f"{path}: holds {short_repr(network)}, not a detector of Ultralytics")
    network = network.float().eval()
    network.criterion = None
    return network, _card(checkpoint)


def read_state(path: Path) -> tuple[dict[str, Tensor], list[str] | None]:
    """A state dict, by itself or as the one of a checkpoint, and the checkpoint's `classes`.

    Raises:
        DataError: damaged, or without a state dict.
    """
    try:
        with open_checkpoint(path) as content:
            inner = [content.get(key) for key in _STATES] if isinstance(content, dict) else []
            state = next((one for one in (content, *inner) if isinstance(one, dict) and _is_state(one)), None)
            if state is None:
                raise DataError(f"holds no state dict but {short_repr(content)}; save model.state_dict()")
            names = None if state is content else content.get("classes")
            return _load(state, 2 * path.stat().st_size), names and parse_class_names(names)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def from_yolov5_state(state: Mapping[str, Tensor]) -> Checkpoint | None:
    """A bare state dict of the yolov5 repository, with COCO's names for 80 classes; None for another."""
    detected = yolov5.detect_original_yolov5(state)
    if detected is None:
        return None
    config, count = detected
    coco = cast(Any, YAML).load(cast(Any, check_yaml)("coco.yaml"))["names"].values()
    names = coco if count == 80 else map(str, range(count))
    return Checkpoint(dict(state), config, list(names))


def parse_class_names(names: Any) -> list[str]:
    """Class names in label order, from a list or from a dict whose keys are labels, as numbers or as text.

    Raises:
        DataError: the labels are not 0, 1, ... without a gap.
    """
    if isinstance(names, list | tuple):
        return [_class_name(name) for name in names]
    try:
        by_label = {int(key): name for key, name in names.items()}
    except (AttributeError, TypeError, ValueError):
        raise DataError(
            f"its class names are {short_repr(names)}, must be a list of texts or a dict by label; nothing "
            "else is made "
            "from a file without --trust-weights"
        ) from None
    if len(by_label) != len(names) or set(by_label) != set(range(len(by_label))):
        raise DataError(
            f"its class names have the labels {short_repr(sorted(by_label))}, must be 0, 1, 2, ..."
        )
    return [_class_name(by_label[number]) for number in range(len(by_label))]


def _class_name(name: Any) -> str:
    try:
        return validate_class_name(name)
    except ValueError as error:
        raise DataError(f"among its class names, {error}; save them as plain text") from error


def _detector(content: Any, most_bytes: int) -> Checkpoint:
    network = content
    if isinstance(content, Record) and content.name in ("YOLO", "RTDETR"):  # torch.save(YOLO(...), ...)
        attributes = content.attributes()
        network = (attributes.get("_modules") or {}).get("model") or attributes.get("model")
    elif isinstance(content, dict) and not _is_state(content):
        network = next((n for n in (content.get("ema"), content.get("model")) if n is not None), None)
    while isinstance(network, Record) and network.path.startswith("torch.nn.parallel."):  # of several GPUs
        network = (network.attributes().get("_modules") or {}).get("module")
    if isinstance(network, dict) and _is_state(network):
        return _bare_state(network, most_bytes)
    check_expanded_size(network, _parts, _MAX_DEPTH)
    if not isinstance(network, Record) or network.path not in _DETECTORS:
        raise DataError(_describe_other(content, network))
    if isinstance(content, dict) and content.get("modelopt"):
        raise DataError("is quantised for training (NVIDIA ModelOpt); export it and give the export")
    attributes = network.attributes()
    layers = (attributes.get("_modules") or {}).get("model")
    if not isinstance(layers, Record):
        raise DataError("its model has no layers")
    for part in (network, layers):
        layer_settings.reject_code(part)
    state = _state(layers, most_bytes)
    config = json.loads(json.dumps(attributes.get("yaml"), default=_refuse_value))
    if known := yolov5.detect_original_yolov5(state):
        config = known[0]  # the repository's own YAML names its head as Ultralytics names another
    classes = parse_class_names(attributes.get("names"))
    return Checkpoint(state, config, classes, _card(content), layer_settings.from_record(layers))


def _bare_state(tensors: Mapping[str, TensorRecord], most_bytes: int) -> Checkpoint:
    original = from_yolov5_state(_load(tensors, most_bytes))
    if original is None:
        raise DataError(
            "holds tensors alone (a state dict): neither class names nor what the layers are set to. Load it where it "
            "was made, model.load_state_dict(torch.load(...)), and save the whole checkpoint: YOLO.save('best.pt')"
        )
    return original


def _is_state(content: Mapping[Any, Any]) -> bool:
    return bool(content) and all(
        isinstance(name, str) and isinstance(tensor, TensorRecord) for name, tensor in content.items()
    )


def _state(layers: Record, most_bytes: int) -> dict[str, Tensor]:
    """The state dict of a model from the records of its layers."""
    tensors: dict[str, TensorRecord] = {}
    for name, layer in layer_settings.iter_layers(layers):
        attributes = layer.attributes()
        temporary = attributes.get("_non_persistent_buffers_set") or ()
        for part in ("_parameters", "_buffers"):
            for own, tensor in (attributes.get(part) or {}).items():
                if tensor is not None and not (part == "_buffers" and own in temporary):
                    tensors[f"model.{name}.{own}"] = tensor
    return _load(tensors, most_bytes)


def _load(tensors: Mapping[str, Any], most_bytes: int) -> dict[str, Tensor]:
    state = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, TensorRecord):
            raise DataError(f"{short_repr(name)} is {short_repr(tensor)}, not a plain tensor")
        try:
            state[name] = tensor.load()
        except ValueError as error:
            raise DataError(f"{short_repr(name)}: {error}") from error
        most_bytes -= tensor.nbytes
        if most_bytes < 0:
            raise DataError("its tensors share storage so that they hold more than twice what the file does")
    return state


def _card(content: Any) -> dict[str, str]:
    """The fields of a checkpoint that say where it comes from, and the image size of its training."""
    if not isinstance(content, dict):
        return {}
    fields = {
        key: value[:200] for key in _CARD_FIELDS if isinstance(value := content.get(key), str) and value
    }
    arguments = content.get("train_args") or content.get("opt")  # of the yolov5 repository
    size = arguments.get("imgsz") if isinstance(arguments, dict) else None
    if isinstance(size, str):  # "640" or "[640, 480]"
        size = [
            int(one) if one.isdecimal() and len(one) < 6 else None
            for one in re.split(r"[\[\](), ]+", size)
            if one
        ]
    sizes = size if isinstance(size, list | tuple) else [size]
    if sizes and all(isinstance(one, int | float) and 0 < one < 100_000 and one == int(one) for one in sizes):
        fields["imgsz"] = str(int(max(sizes)))
    return fields


def _describe_other(content: Any, network: Any) -> str:
    """What a file is that holds no detector."""
    path = network.path if isinstance(network, Record | Global) else ""
    kind = path.rpartition(".")[2]
    if path.startswith("ultralytics.nn.tasks.") and kind in _TASKS:
        return f"holds a {kind} ({_TASKS[kind]}); only detection is measured here: give one trained with task=detect"
    if path.startswith("torch."):
        return f"holds a {path}, which is not a detection model of Ultralytics or ours"
    if path:
        return (
            f"holds {short_repr(path)}, which is not a detection model of Ultralytics or ours. --trust-weights "
            "(trust=True) would run it, with all your rights: only if you trust its author and have its code installed"
        )
    if isinstance(content, dict):
        keys = ", ".join(sorted(map(str, content))[:8])
        return (
            f"holds no model of Ultralytics but a dict of {short_repr(keys)}; give the .pt that Ultralytics' training "
            "wrote"
        )
    what = "a single tensor" if isinstance(content, TensorRecord) else short_repr(content)
    return f"holds {what}, not a checkpoint of Ultralytics"


def _parts(value: Any) -> Iterable[Any]:
    """The parts of a value: pickle can share them so that a small file has no end when written out."""
    if isinstance(value, Record):
        if value.path == "builtins.getattr" and isinstance(value.args, tuple):
            # A fused layer holds a method of its own, and so itself.
            return [*value.args[1:], value.state, value.items]
        return [value.path, value.args, value.state, value.items]
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list | tuple | set | frozenset) else ()


def _refuse_value(value: object) -> str:
    raise DataError(f"its model YAML holds {short_repr(value)}, which is not a plain value")
