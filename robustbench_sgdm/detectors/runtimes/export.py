"""Checkpoints as ONNX or OpenVINO models, by Ultralytics' exporter and each runtime's own quantiser; and checkpoints that
run in another runtime: exported once into the cache, held against PyTorch's boxes."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from robustbench_sgdm.config import ExportConfig, InferenceConfig
from robustbench_sgdm.core import atomic_io
from robustbench_sgdm.core.detections import Detections
from robustbench_sgdm.core.errors import DataError, RobustBenchError, UsageError
from robustbench_sgdm.core.untrusted_input import read_json
from robustbench_sgdm.datasets import Image, image_decoding
from robustbench_sgdm.datasets.cache import cache_dir
from robustbench_sgdm.datasets.sources.scenes import load_scenes
from robustbench_sgdm.detectors import timing
from robustbench_sgdm.detectors.letterbox import letterbox, resize_square
from robustbench_sgdm.detectors.runtimes.detector import ExportedDetector, is_exported, load_exported
from robustbench_sgdm.detectors.runtimes.packages import (
    environment_variable,
    require,
    version,
)
from robustbench_sgdm.detectors.ultralytics.adapter import UltralyticsDetector, load_detector
from robustbench_sgdm.detectors.ultralytics.exporting import export_network, quiet
from robustbench_sgdm.detectors.ultralytics.square import SquareDetector

_LOG = logging.getLogger(__name__)
SUFFIXES = {"onnx": ".onnx", "openvino": "_openvino_model"}
"""How the names of exports end, by format."""

TOLERANCE = 0.1
"""Pixels that a box above `CONFIDENCE` may move by an export in float32."""

CONFIDENCE = 0.05
CALIBRATION_IMAGES = 128
"""Of the data that a quantiser is shown."""

_CHECKED = 4  # images
_ROUNDS = 7  # of `auto`'s timing
_FILES = {"onnx": "model.onnx", "openvino": "model_openvino_model", "tensorrt": "model.engine"}
# Of OpenVINO; what follows the convolutions.
_DECODING = ("Add", "Subtract", "Multiply", "Divide", "Sigmoid", "Softmax")


def export_detector(
    detector: UltralyticsDetector,
    path: Path,
    form: str,
    *,
    dynamic: bool = False,
    calibration: Sequence[Image] = (),
) -> None:
    """Write a detector as it runs (fused, folded, at its size) as a model of another runtime.

    Args:
        detector: on the CPU, in float32.
        path: the file or, for OpenVINO, the folder.
        form: `onnx` or `openvino`.
        dynamic: for any batch and size; else for single images of the detector's size, which is quicker.
        calibration: images to choose 8-bit ranges by; float32 if none.

    Raises:
        UsageError: a package is missing, or the path does not end as the format's.
        RobustBenchError: the model cannot be exported.
    """
    if not path.name.endswith(SUFFIXES[form]) or path.name == SUFFIXES[form]:
        name = f"{path.name.removesuffix(path.suffix)}{SUFFIXES[form]}"
        raise UsageError(
            f"--out {path} must end in {SUFFIXES[form]}, as --model knows it by: {path.with_name(name)}"
        )
    for module in ("onnx", "onnxslim", *(["onnxruntime"] if form == "onnx" else ["openvino"])):
        require(module, form)
    if calibration:
        require("onnxruntime.quantization", "onnx") if form == "onnx" else _import_nncf()
    if path.is_dir() != (form == "openvino") and path.exists():
        raise UsageError(f"--out {path} is there already and is another kind of file; give another name")
    if path.is_dir() and {p.suffix for p in path.iterdir()} - {".xml", ".bin", ".yaml"}:
        raise UsageError(f"--out {path} is a folder with other files in it; give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
        draft = Path(folder) / path.name
        onnx_path = _export_onnx(detector, Path(folder), dynamic)
        inputs = [_input(detector, image) for image in calibration]
        if form == "openvino":
            _convert_openvino(onnx_path, draft, inputs)
        else:
            _finish_onnx(onnx_path, draft, inputs)
        if path.is_dir():
            shutil.rmtree(path)
        draft.replace(path)


def export_model(config: ExportConfig, images: Sequence[Image] = ()) -> Path:
    """Export a checkpoint, and hold its boxes against the checkpoint's on a few rendered images.

    Args:
        config: what to export, and where to.
        images: to choose ranges by, where it is quantised; as many as `CALIBRATION_IMAGES` of them are taken, evenly.

    Raises:
        UsageError: as `export_detector`, or the model is exported already.
        DataError: a file is missing or damaged.
        RobustBenchError: the export in float32 finds other boxes.
    """
    if is_exported(config.model):
        raise UsageError(f"{config.model} is exported already; give a checkpoint or a name of the zoo")
    inference = replace(config.inference, runtime="pytorch", device="cpu")
    detector = load_detector(config.model, inference, weights=config.weights)
    path = config.out or Path(f"{detector.name}{'-int8' * config.int8}{SUFFIXES[config.format]}")
    chosen = (
        [images[i * len(images) // CALIBRATION_IMAGES] for i in range(CALIBRATION_IMAGES)] if images else []
    )
    calibration = list({image.id: image for image in chosen}.values())
    export_detector(detector, path, config.format, dynamic=config.dynamic, calibration=calibration)
    exported = load_exported(path, replace(inference, imgsz=detector.imgsz, end2end=None))
    shift = largest_shift(detector, exported, rendered_images())
    if not config.int8 and shift > TOLERANCE:
        raise RobustBenchError(
            f"{path} moves boxes of {detector.name} by {shift:.2f} px; the limit is {TOLERANCE}: the export differs from "
            "its checkpoint"
        )
    how = (
        f"8 bits by {len(calibration)} images; `robustbench run --model {config.model},{path}` says what that costs"
        if config.int8
        else f"boxes above confidence {CONFIDENCE} move by at most {shift:.4f} px on {_CHECKED} images"
    )
    files = path.iterdir() if path.is_dir() else [path]
    _LOG.info("%s: %.1f MB; %s", path, sum(one.stat().st_size for one in files) / 1e6, how)
    return path


def largest_shift(detector: SquareDetector, other: SquareDetector, images: Sequence[Tensor]) -> float:
    """Pixels by which boxes above `CONFIDENCE` differ at most; infinite where a box or its label has no counterpart.

    Args:
        detector: the reference.
        other: to compare with it.
        images: uint8 (3, H, W).
    """
    shift = 0.0
    for image in images:
        one, two = detector.predict([image])[0], other.predict([image])[0]
        shift = max(shift, _shift(one, two), _shift(two, one))
    return shift


def convert(detector: UltralyticsDetector, runtime: str) -> UltralyticsDetector | ExportedDetector:
    """The same detector in another runtime.

    Args:
        detector: of a checkpoint.
        runtime: `pytorch`, `onnx`, `openvino`, `tensorrt`, or `auto` for the one that is fastest here.

    Raises:
        UsageError: a package is missing, or the runtime cannot use the device.
        RobustBenchError: the export does not find the same boxes.
    """
    if runtime == "pytorch":
        return detector
    if runtime == "auto":
        return _fastest(detector)
    if detector.settings.half:
        raise UsageError(f"--runtime {runtime} computes in float32: leave out --half")
    if runtime != "tensorrt":
        require("onnxruntime" if runtime == "onnx" else "openvino", runtime)
    place = _cache(detector, runtime) / _FILES[runtime]
    trusted = replace(
        detector.settings, trust_weights=True, end2end=None, imgsz=0, device=str(detector.device)
    )
    if not place.exists():
        _export_into_cache(detector, runtime, place, trusted)
    return _adopt(load_exported(place, trusted), detector)


def rendered_images(count: int = _CHECKED) -> list[Tensor]:
    """A few rendered images, uint8 (3, H, W)."""
    images = load_scenes().images[:count]
    return [torch.from_numpy(image_decoding.read_image(image).transpose(2, 0, 1).copy()) for image in images]


def _export_into_cache(
    detector: UltralyticsDetector, form: str, place: Path, settings: InferenceConfig
) -> None:
    """Export, hold it against the detector, and only then put it where it is found again."""
    place.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=place.parent.parent) as folder:
        draft = Path(folder) / "draft" / place.name
        draft.parent.mkdir()
        if form == "tensorrt":
            _export_engine(detector, draft)
        else:
            export_detector(detector, draft, form, dynamic=detector.device.type != "cpu")
        images = [image.to(detector.device) for image in rendered_images()]
        shift = largest_shift(detector, load_exported(draft, settings), images)
        if shift > TOLERANCE:
            raise RobustBenchError(
                f"{detector.name} in {form} moves boxes by {shift:.2f} px; the limit is {TOLERANCE}: use "
                "--runtime pytorch"
            )
        _LOG.info("%s exported for %s: boxes move by at most %.4f px", detector.name, form, shift)
        try:
            draft.parent.rename(place.parent)
        except OSError:  # another process was first
            if not place.exists():
                raise


def _adopt(exported: ExportedDetector, detector: UltralyticsDetector) -> ExportedDetector:
    """An export under the name of its checkpoint; its key is the checkpoint's, however often it is exported."""
    exported.name, exported.parameters, exported.module = detector.name, detector.parameters, detector.module
    exported.sha256, exported.trained_imgsz = f"export of {detector.fingerprint}", detector.trained_imgsz
    exported.takes_one_size = False  # another is exported
    exported.settings = replace(detector.settings)  # which branch, also where the checkpoint has but one
    return exported


def _fastest(detector: UltralyticsDetector) -> UltralyticsDetector | ExportedDetector:
    """What takes least time for a few images, in one thread as workers compute; chosen once and kept in the cache."""
    kept = _cache(detector, "auto").with_suffix(".json")
    with suppress(DataError):  # none yet, or damaged: it is chosen again
        content = read_json(kept, 1000)
        if isinstance(content, dict) and (chosen := content.get("runtime")) in ("pytorch", *_FILES):
            return convert(detector, chosen)
    candidates: dict[str, UltralyticsDetector | ExportedDetector] = {"pytorch": detector}
    for runtime in ("onnx", "openvino") if detector.device.type == "cpu" else ("onnx", "tensorrt"):
        try:
            candidates[runtime] = convert(detector, runtime)
        except RobustBenchError as error:
            _LOG.info("--runtime auto leaves out %s: %s", runtime, error)
    images = [image.to(detector.device) for image in rendered_images()]
    calls = {name: (lambda one=one: one.predict(images)) for name, one in candidates.items()}
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        times = pool.submit(timing.benchmark_interleaved, calls, _ROUNDS, str(detector.device)).result()
    fastest = min(times, key=lambda name: times[name].milliseconds)
    each = ", ".join(f"{name} {one.milliseconds / len(images):.1f} ms" for name, one in times.items())
    _LOG.info("%s: --runtime auto takes %s (an image: %s)", detector.name, fastest, each)
    atomic_io.write_text(kept, json.dumps({"runtime": fastest}))
    return candidates[fastest]


def _cache(detector: UltralyticsDetector, form: str) -> Path:
    packages = [f"{name} {version(name)}" for name in ("ultralytics", "torch", "onnx", "onnxslim")]
    runtimes = ["onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt"]
    parts = [detector.fingerprint, form, *packages, *(f"{name} {version(name)}" for name in runtimes)]
    return cache_dir() / "exports" / hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _shift(detections: Detections, others: Detections) -> float:
    """How far each box above `CONFIDENCE` is from the nearest one with its label; boxes at the edge may be gone."""
    shift = 0.0
    for box, score, label in zip(detections.xyxy, detections.scores, detections.labels, strict=True):
        if score > CONFIDENCE:
            same = others.xyxy[others.labels == label]
            shift = max(shift, float(np.abs(same - box).max(1).min(initial=np.inf)))
    return shift


def _input(detector: UltralyticsDetector, image: Image) -> Any:
    """An image as the detector shows it to its network: float32 (1, 3, S, S)."""
    pixels = torch.from_numpy(image_decoding.read_image(image).transpose(2, 0, 1).copy())
    square, _ = (resize_square if detector.fills_square else letterbox)(pixels, detector.imgsz)
    return (square[None].float() / 255).numpy()


def _export_onnx(detector: UltralyticsDetector, folder: Path, dynamic: bool) -> Path:
    if detector.settings.half:
        raise UsageError("--half: an export is made of float32 weights; leave it out")
    return export_network(detector, folder, "onnx", dynamic)


def _export_engine(detector: UltralyticsDetector, path: Path) -> None:
    if detector.device.type != "cuda":
        raise UsageError(
            "--runtime tensorrt needs an NVIDIA GPU: give --device cuda, or --runtime onnx or openvino"
        )
    require("tensorrt", "tensorrt")
    shutil.move(export_network(detector, path.parent, "engine", dynamic=True), path)


def _finish_onnx(source: Path, path: Path, inputs: Sequence[Any]) -> None:
    onnx = require("onnx", "onnx")
    model = onnx.load(source)
    # Equal exports, equal bytes.
    fields = [(one.key, one.value) for one in model.metadata_props if one.key != "date"]
    if inputs:
        model = _quantize_onnx(source, model, inputs)
    del model.metadata_props[:]
    for key, value in fields:
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _quantize_onnx(source: Path, model: Any, inputs: Sequence[Any]) -> Any:
    """Convolutions and matrix products in 8 bits, by ONNX Runtime's static quantiser.

    What decodes boxes stays in float32: one scale for boxes up to 640 px and scores up to 1 would round scores to 0.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(inputs)

        def get_next(self) -> Mapping[str, Any] | None:
            one = next(self._left, None)
            return None if one is None else {model.graph.input[0].name: one}

    kept = [node.name for node in model.graph.node if node.op_type not in ("Conv", "Gemm", "MatMul")]
    target = source.with_name("quantized.onnx")
    with quiet():
        quantize_static(
            *(str(source), str(target), Reader()),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,  # with 8 signed bits x86 takes longer than in float32
            per_channel=True,
            nodes_to_exclude=[*kept, *(n.name for n in model.graph.node if "dfl" in n.name)],
        )
    return require("onnx", "onnx").load(target)


def _convert_openvino(source: Path, path: Path, inputs: Sequence[Any]) -> None:
    """OpenVINO reads the ONNX file itself: its converter for networks of torch would report the use to its makers."""
    openvino, onnx = require("openvino", "openvino"), require("onnx", "onnx")
    fields = {one.key: one.value for one in onnx.load(source).metadata_props if one.key != "date"}
    model = openvino.Core().read_model(source)
    if inputs:
        nncf = _import_nncf()
        head = max((_place(op.get_friendly_name()) for op in model.get_ordered_ops()), default=-1)
        names = [
            op.get_friendly_name()
            for op in model.get_ordered_ops()
            # OpenVINO's matrix products in 8 bits differ from one loading to the next where a stream has one thread.
            if op.get_type_name() == "MatMul"
            or (
                _place(op.get_friendly_name()) == head
                and (op.get_type_name() in _DECODING or "dfl" in op.get_friendly_name())
            )
        ]
        with quiet():
            model = nncf.quantize(
                model,
                nncf.Dataset(list(inputs)),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(inputs),
                ignored_scope=nncf.IgnoredScope(names=names),
            )
    path.mkdir()
    openvino.save_model(model, path / "model.xml", compress_to_fp16=False)
    (path / "metadata.yaml").write_text(yaml.safe_dump(fields, allow_unicode=True, sort_keys=False), "utf-8")


def _place(name: str) -> int:
    """The number of the layer of an operator that Ultralytics' exporter called `/model.22/...`; -1 for others."""
    _, found, rest = name.partition("/model.")
    number = rest.partition("/")[0]
    return int(number) if found and number.isdecimal() else -1


def _import_nncf() -> Any:
    """NNCF, which would report its use to its makers unless this variable is set when it is first imported."""
    with environment_variable("NNCF_CI", "1"):
        return require("nncf", "openvino")
