"""torchvision's detection models: `--model torchvision:NAME`."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import safetensors
import torch
from torch import Tensor, nn
from torchvision.models import detection, get_model_builder, get_model_weights, list_models

from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.errors import DataError, UsageError, unknown_name_error
from robustbench_sgdm.core.untrusted_input import short_repr
from robustbench_sgdm.detectors.adapters.base import PLACEHOLDERS, LibraryDetector, name_classes
from robustbench_sgdm.detectors.ultralytics import checkpoints
from robustbench_sgdm.detectors.ultralytics.weights import hash_tensors

_COCO = 91  # labels of COCO's classes, the background first
_BACKGROUND = "__background__"
_SHA = 8  # digits of a published file's hash that stand in its name


class TorchvisionDetector(LibraryDetector):
    """A network of `torchvision.models.detection`, with its own scaling, suppression and thresholds.

    Args:
        model: `torchvision:NAME`.
        network: as its builder makes it.
        classes: names by label; 0 is the background.
        config: see `LibraryDetector`. `imgsz` limits the longer side of images; 0 leaves torchvision's own sizes.
        weights: the file of its weights.

    Raises:
        UsageError: as `LibraryDetector`, or another size for an SSD, whose boxes are laid out for one.
    """

    def __init__(
        self,
        model: str,
        network: nn.Module,
        classes: Mapping[int, str],
        config: InferenceConfig = InferenceConfig(),
        *,
        weights: str,
    ) -> None:
        transform = cast(Any, network.transform)
        if config.imgsz and transform.fixed_size:
            if transform.fixed_size != (config.imgsz, config.imgsz):
                raise UsageError(
                    f"imgsz is {config.imgsz}, and {model} takes {transform.fixed_size[0]} px only"
                )
        elif config.imgsz:
            transform.min_size, transform.max_size = (config.imgsz,), config.imgsz
        state = hash_tensors(network.state_dict()) + repr(network)
        real = {label: name for label, name in classes.items() if label}
        super().__init__(model, network, real, state, config, weights=weights)

    def _detect(self, images: list[Tensor]) -> Sequence[Any]:
        results: Sequence[Any] = self._network([image.float() / 255 for image in images])
        return results


def load_torchvision(
    model: str,
    config: InferenceConfig = InferenceConfig(),
    *,
    weights: str | Path | None = None,
    classes: Sequence[str] | None = None,
) -> TorchvisionDetector:
    """Load one of torchvision's detection models.

    Args:
        model: `torchvision:NAME`.
        config: see `TorchvisionDetector`. Without `weights` the published ones are taken: from torch's cache, or with
            `download` from torchvision's server.
        weights: a state dict as `.safetensors` or `.pth`, by itself or as a checkpoint's `model`.
        classes: names, without the background; by default the weights' own, for 91 labels those of COCO.

    Raises:
        UsageError: no such model, no weights, or class names that do not fit.
        DataError: the weights are damaged, or of another network.
    """
    name = model.partition(":")[2]
    known = list_models(module=detection)
    if name not in known:
        raise unknown_name_error(f"model of torchvision (--model {model})", name, known)
    path = Path(weights) if weights else _published_file(model, name, config.download)
    if not path.is_file():
        raise DataError(f"{path}: no such weights file; give a .pth or .safetensors that exists")
    state, names = _read(path, legacy=config.trust_weights or weights is None)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    state, count = _match(name, state, path)
    network: Any = get_model_builder(name)(weights=None, weights_backbone=None, num_classes=count)
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise DataError(
            f"{path}: not the weights of {model} ({short_repr(' '.join(str(error).split()))})"
        ) from error
    published = next((one for one in get_model_weights(name) if f"-{sha256[:_SHA]}." in one.url), None)
    if published is not None and str(published).endswith("COCO_V1") and _has_frozen(state):
        for layer in network.modules():  # as torchvision does for these files alone, which were trained so
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps = 0.0
    own, named = _own_names(name, count, names)
    labels = name_classes(model, own, classes, config, named=named)
    return TorchvisionDetector(model, network, labels, config, weights=str(path))


def _published_file(model: str, name: str, download: bool) -> Path:
    url = get_model_weights(name).DEFAULT.url
    path = Path(str(torch.hub.get_dir())) / "checkpoints" / str(url).rpartition("/")[2]
    if path.is_file():
        return path
    if not download:
        raise UsageError(
            f"{model} has no weights here: give a file (--weights {model}=FILE), or --download to fetch "
            f"{path.name} from torchvision's server"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(
            url, str(path), hash_prefix=path.stem.rpartition("-")[2], progress=False
        )
    except (OSError, RuntimeError) as error:  # no network; another hash
        raise DataError(f"{url} cannot be downloaded ({error}); give --weights {model}=FILE") from error
    return path


def _read(path: Path, *, legacy: bool) -> tuple[dict[str, Tensor], list[str] | None]:
    """Tensors by name, and the names of classes where the file has some.

    Args:
        path: the file; a `.safetensors` names classes as a json list in its metadata.
        legacy: whether torch's own restricted unpickler may read a file of before torch 1.6, as some published ones are.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            file: Any = safetensors.safe_open(path, framework="pt")
            names = (file.metadata() or {}).get("classes")
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no dict)
            return state, names and checkpoints.parse_class_names(json.loads(names))
        if legacy and not zipfile.is_zipfile(path):
            return dict(torch.load(path, map_location="cpu", weights_only=True)), None
    except Exception as error:  # whatever the bytes of a damaged file provoke
        raise DataError(f"{path}: not a state dict, or damaged ({short_repr(str(error))})") from error
    return checkpoints.read_state(path)


def _match(name: str, state: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor], int]:
    """Tensors by their names in the network, and how many labels they are for: by one whose size depends on that."""
    shapes = []
    for labels in (2, 3):
        with torch.device("meta"):  # no memory
            built = get_model_builder(name)(weights=None, weights_backbone=None, num_classes=labels)
        shapes.append({key: value.shape for key, value in built.state_dict().items()})
    key = next(key for key, shape in shapes[0].items() if shape != shapes[1][key])
    each = shapes[1][key][0] - shapes[0][key][0]
    state = _without_prefix(state, key)
    held = state[key].shape if isinstance(state.get(key), Tensor) else torch.Size()
    if held[1:] != shapes[0][key][1:] or not held or held[0] % each or held[0] // each < 2:
        raise DataError(
            f"{path}: not the weights of torchvision:{name}, which have {key}; give another file or name"
        )
    return state, int(held[0] // each)


def _has_frozen(state: Mapping[str, Tensor]) -> bool:
    """Whether the BatchNorms were frozen, which do not count batches."""
    return not any(key.endswith("num_batches_tracked") for key in state)


def _own_names(name: str, count: int, said: Sequence[str] | None) -> tuple[dict[int, str], bool]:
    """Class names by label, and whether the weights have them; else they are stand-ins.

    Args:
        name: of the builder.
        count: of labels, the background's too.
        said: what the file says.
    """
    published: Sequence[str] = get_model_weights(name).DEFAULT.meta["categories"]
    if said is None and count in (_COCO, len(published)):
        return {**dict(enumerate(published)), 0: _BACKGROUND}, True  # keypoint networks call it otherwise
    real = list(said or ())
    if len(real) == count and real[0] in PLACEHOLDERS:
        real = real[1:]
    named = len(real) == count - 1
    return dict(enumerate([_BACKGROUND, *(real if named else map(str, range(1, count)))])), named


def _without_prefix(state: Mapping[str, Tensor], key: str) -> dict[str, Tensor]:
    """Tensors by their names in the network, without what wrappers put before all of them (`module.`, `model.`).

    Args:
        state: as it was saved.
        key: name of a tensor that the network has.
    """
    prefixes = {name.removesuffix(key) for name in state if name.endswith(f".{key}")}
    prefix = min(prefixes, default="")
    if key in state or not all(name.startswith(prefix) for name in state):
        prefix = ""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
