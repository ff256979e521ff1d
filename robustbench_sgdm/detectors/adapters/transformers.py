"""Object detection of Hugging Face's transformers: `--model hf:FOLDER` or `hf:NAME` of the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import Tensor

from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.errors import DataError, RobustBenchError, UsageError
from robustbench_sgdm.core.untrusted_input import read_json, short_list, short_repr
from robustbench_sgdm.detectors.adapters.base import LibraryDetector, name_classes
from robustbench_sgdm.detectors.ultralytics.checkpoints import parse_class_names
from robustbench_sgdm.detectors.ultralytics.weights import hash_tensors

_JSON_BYTES = 2**22
_MAX_INTEGER = 100_000  # of a config: labels, widths; the largest that detectors have is 20,000
_MAX_SIDE = 7680  # px that a processor may scale an image to, if it is trusted
_USUAL_SIDE = 2048  # px otherwise; an image costs a transformer with the fourth power of its side
_LAYERS = re.compile(r"layer|depth|block|stage|repeat")
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_FETCHED = ("config.json", "preprocessor_config.json", "processor_config.json", "*.safetensors", _INDEX)
_OWN = ("_name_or_path", "transformers_version", "dtype", "architectures")  # of a config; decides no box


class TransformersDetector(LibraryDetector):
    """A network of transformers with its image processor; boxes are those of `post_process_object_detection` at 0.

    Args:
        model: `hf:` and the folder or name.
        network: an `AutoModelForObjectDetection`.
        processor: its `AutoImageProcessor`.
        classes: names by label.
        config: see `LibraryDetector`. `imgsz` is the side that images are scaled to, or within; 0 leaves the processor's.
        weights: the folder.

    Raises:
        UsageError: as `LibraryDetector`.
    """

    def __init__(
        self,
        model: str,
        network: transformers.PreTrainedModel,
        processor: Any,
        classes: Mapping[int, str],
        config: InferenceConfig = InferenceConfig(),
        *,
        weights: str,
    ) -> None:
        settings = {key: value for key, value in network.config.to_dict().items() if key not in _OWN}
        parts = [hash_tensors(network.state_dict()), settings, processor.to_dict()]
        state = json.dumps(parts, sort_keys=True, default=str)
        super().__init__(model, network, classes, state, config, weights=weights)
        self._processor = processor
        self._size = _size(processor.size, config.imgsz)

    def _detect(self, images: list[Tensor]) -> Sequence[Any]:
        how: dict[str, Any] = {"return_tensors": "pt", "input_data_format": "channels_first"}
        batch = self._processor(images=images, **how, **({"size": self._size} if self._size else {}))
        outputs = self._network(**batch.to(self.device))
        sizes = [tuple(image.shape[1:]) for image in images]
        results: Sequence[Any] = self._processor.post_process_object_detection(
            outputs, threshold=0.0, target_sizes=sizes
        )
        return results


def load_transformers(
    model: str,
    config: InferenceConfig = InferenceConfig(),
    *,
    weights: str | Path | None = None,
    classes: Sequence[str] | None = None,
) -> TransformersDetector:
    """Load a detector of transformers from a folder that `save_pretrained` wrote, or by its name on the hub.

    No code of the folder is run, and only `.safetensors` are read, or with `trust_weights` also torch's `.bin`.

    Args:
        model: `hf:` and the folder or name.
        config: see `TransformersDetector`. A name is looked for in the hub's cache; `download` fetches it.
        weights: the folder, in place of the one that `model` names.
        classes: names in place of those in the config, for all labels or for those that are classes.

    Raises:
        UsageError: a name that is not here, or class names that do not fit.
        DataError: the folder is damaged, of another task, or asks for what is not loaded from strangers.
    """
    folder = Path(weights) if weights else _folder(model, config.download)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give one that save_pretrained wrote")
    held, tensors = _held(folder, config.trust_weights)
    content = _read_config(folder, tensors)
    _check_processor(folder, config)
    try:
        with _quiet():
            settings = transformers.CONFIG_MAPPING[content["model_type"]].from_dict(content)
            _check_size(settings, held, folder)
            network, report = transformers.AutoModelForObjectDetection.from_pretrained(
                folder,
                config=settings,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # which are an error below
                use_safetensors=None if config.trust_weights else True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
            processor = transformers.AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except RobustBenchError:
        raise
    except Exception as error:  # whatever a folder provokes in a library that reads many kinds
        reason = short_repr(" ".join(str(error).split()))
        raise DataError(
            f"{folder}: transformers cannot load it ({type(error).__name__}: {reason})"
        ) from error
    # What is mismatched comes as (name, shape, shape).
    absent = [*report["missing_keys"], *(one[0] for one in report["mismatched_keys"])]
    if missing := sorted(map(str, absent)):
        raise DataError(
            f"{folder}: its weights lack {len(missing)} tensors of the config's network ({short_list(missing, 3)}), "
            "which would have random values; save the whole model"
        )
    if not hasattr(processor, "post_process_object_detection"):
        raise DataError(
            f"{folder}: its {type(processor).__name__} does not output boxes; give one for object detection"
        )
    try:
        own = dict(enumerate(parse_class_names(network.config.id2label)))
    except DataError as error:
        raise DataError(f"{folder}: {error}") from error
    names = name_classes(model, own, classes, config, named=True)
    return TransformersDetector(model, network, processor, names, config, weights=str(folder))


def _folder(model: str, download: bool) -> Path:
    """Where a model lies: a folder, or the hub's cache."""
    name = model.partition(":")[2]
    if Path(name).is_dir():
        return Path(name)
    try:
        with _quiet():
            return Path(snapshot_download(name, local_files_only=not download, allow_patterns=list(_FETCHED)))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        if download:
            raise DataError(f"{model} cannot be downloaded ({short_repr(str(error))})") from error
        raise UsageError(
            f"{model}: no such folder, and not in the hub's cache; give a folder that save_pretrained wrote, or "
            "--download to fetch the name from huggingface.co"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise DataError(f"{model} cannot be downloaded ({short_repr(str(error))})") from error


def _read_config(folder: Path, tensors: int) -> dict[str, Any]:
    """The config, without what would make transformers fetch or run something.

    Args:
        folder: the model's.
        tensors: that its weights have; no network has more layers.

    Raises:
        DataError: no config of object detection, or larger than any detector's.
    """
    if (folder / "adapter_config.json").exists():
        raise DataError(f"{folder}: an adapter (PEFT) of another model; merge it and save the whole model")
    content, path = read_json(folder / "config.json", _JSON_BYTES), folder / "config.json"
    known = transformers.models.auto.modeling_auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES
    kind = content.get("model_type") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in known:
        raise DataError(
            f"{path}: model_type is {short_repr(kind)}, which is not an object detection model of transformers "
            f"{transformers.__version__}: {', '.join(known)}"
        )
    for key, value in _values(content):
        _check_value(key, value, tensors, path)
    return dict(content)


def _check_processor(folder: Path, config: InferenceConfig) -> None:
    """Refuse an image processor that makes images of a size that costs any memory and time.

    Raises:
        DataError: names the number, or there is no processor.
    """
    path = next((folder / one for one in _FETCHED[1:3] if (folder / one).exists()), None)
    if path is None:
        raise DataError(f"{folder}: has no {_FETCHED[1]}; save the image processor beside the model")
    content = read_json(path, _JSON_BYTES)
    most = _MAX_SIDE if config.trust_weights else _USUAL_SIDE
    if config.imgsz and isinstance(content, dict):  # which takes the place of the processor's
        content = {key: value for key, value in content.items() if key != "size"}
    for key, value in _values(content):
        if isinstance(value, int | float) and abs(value) > most:
            raise DataError(
                f"{path}: {short_repr(key)} is {short_repr(value)}; the limit is {most:,}: set another size with --imgsz"
            )


def _check_value(key: str, value: Any, tensors: int, path: Path) -> None:
    if key in ("quantization_config", "auto_map", "_attn_implementation", "attn_implementation"):
        raise DataError(f"{path}: has {key}, which runs further code; save the model without it, as float32")
    if key == "backbone" and not (
        value is None or (isinstance(value, str) and re.fullmatch(r"[\w.]+", value))
    ):
        raise DataError(f"{path}: its backbone is {short_repr(value)}, not a plain name")
    most = tensors if _LAYERS.search(key) else _MAX_INTEGER
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > most:
        raise DataError(f"{path}: {short_repr(key)} is {short_repr(value)}; the limit is {most:,}")


def _values(content: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every value and the last key above it."""
    if depth > 50:
        raise DataError("a config is nested deeper than 50")
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield str(name), value if not isinstance(value, dict | list) else None
            yield from _values(value, str(name), depth + 1) if isinstance(value, dict | list) else ()
    elif isinstance(content, list):
        for value in content:
            yield from _values(value, key, depth + 1) if isinstance(value, dict | list) else ((key, value),)


def _held(folder: Path, trusted: bool) -> tuple[int, int]:
    """Values and tensors in the folder's weights."""
    paths = [folder / _WEIGHTS]
    if (folder / _INDEX).exists():
        index = read_json(folder / _INDEX, _JSON_BYTES)
        names = index.get("weight_map") if isinstance(index, dict) else None
        paths = (
            [folder / str(name) for name in sorted(set(map(str, names.values())))]
            if isinstance(names, dict)
            else []
        )
        if not paths or any(path.parent != folder for path in paths):
            raise DataError(f"{folder / _INDEX}: names no files of its own folder")
    elif not paths[0].exists():
        others = [*folder.glob("*.bin"), *folder.glob("*.safetensors")]
        if others and trusted:
            return sum(path.stat().st_size for path in others), _MAX_INTEGER
        what = f"; {others[0].name} is not read without --trust-weights" if others else ""
        raise DataError(f"{folder}: has no {_WEIGHTS}{what}; save_pretrained writes it")
    values = tensors = 0
    for path in paths:
        try:
            file: Any = safetensors.safe_open(path, framework="pt")
            for key in file.keys():  # noqa: SIM118 (it is no dict)
                size = 1
                for side in file.get_slice(key).get_shape():
                    size *= side
                values, tensors = values + size, tensors + 1
        except Exception as error:  # SafetensorError, OSError
            raise DataError(f"{path}: damaged ({short_repr(str(error))}); copy it again") from error
    return values, tensors


def _check_size(settings: Any, held: int, folder: Path) -> None:
    """Refuse a config whose network is larger than the weights: it would be allocated before they are missed."""
    with torch.device("meta"):
        network = transformers.AutoModelForObjectDetection.from_config(settings)
    wanted = sum(one.numel() for one in network.parameters())
    if wanted > 2 * held + 1_000_000:
        raise DataError(
            f"{folder}: its config's network has {wanted:,} parameters, and the files hold {held:,} values"
        )


def _size(size: Any, imgsz: int) -> dict[str, int] | None:
    """A processor's size at another side."""
    if not imgsz:
        return None
    keys = [key for key in ("height", "width", "shortest_edge", "longest_edge") if key in dict(size)]
    return dict.fromkeys(keys, imgsz)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and warnings: what matters is an error here."""
    log, bars = transformers.utils.logging, transformers.utils.logging.is_progress_bar_enabled()
    level = log.get_verbosity()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
