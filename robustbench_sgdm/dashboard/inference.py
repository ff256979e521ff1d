"""Detectors for the pages that run them: loaded on first use, checked against the run they belong to."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.errors import DataError, RobustBenchError
from robustbench_sgdm.core.parsing import is_library_model
from robustbench_sgdm.dashboard import image_viewer
from robustbench_sgdm.datasets.class_matching import match_classes
from robustbench_sgdm.store import Manifest, ModelInfo

if TYPE_CHECKING:
    from robustbench_sgdm.dashboard.run_images import RunImage
    from robustbench_sgdm.detectors import Detector

MIN_IOU = 0.5
"""Overlap of two boxes of one class that count as the same object."""

_LOCK_TIMEOUT = 60.0  # s
_LOCK = threading.RLock()  # an image is prepared inside a detection


@contextmanager
def exclusive_use() -> Iterator[None]:
    """Load or run a detector or decode an image: one visitor at a time, so that many need no more memory than one.

    Raises:
        RobustBenchError: other visitors have had it for a minute.
    """
    if not _LOCK.acquire(timeout=_LOCK_TIMEOUT):
        raise RobustBenchError("the server is busy with images of other visitors; try again in a minute")
    try:
        yield
    finally:
        _LOCK.release()


@st.cache_resource(max_entries=6, show_spinner="Loading a detector, a few seconds")
def _load(model: str, weights: str, settings: InferenceConfig, classes: tuple[str, ...] = ()) -> "Detector":
    from robustbench_sgdm import detectors

    file = None if weights == "embedded" else weights
    name = model if file is None or not _is_file(model) else file
    with exclusive_use():
        if is_library_model(model):
            return detectors.load_library_model(model, settings, weights=weights, classes=classes or None)
        # Not `api.load_detector`: a run's model may be called `module:factory`, which that would import and call.
        return detectors.load_file(name, settings, weights=None if name == file else file)


def is_loadable(model: ModelInfo) -> bool:
    """Whether a run's model has weights that can be loaded here; never a file that runs code."""
    return model.weights == "embedded" or _is_file(model.weights) or _is_library_model(model)


def _is_library_model(model: ModelInfo) -> bool:
    """Whether a library loads it by a name; its weights are read as data too."""
    return model.loader is not None and is_library_model(model.loader)


def load_run_detector(manifest: Manifest, model: str) -> "Detector":
    """A detector of a run, checked to be the one that made its cells.

    Raises:
        DataError: its weights are missing or have changed.
    """
    info = manifest.models[model]
    weights = info.weights
    if not is_loadable(info):
        raise DataError(
            f"{model} cannot run here: its weights are {weights!r}, no .pt, .safetensors, .onnx or OpenVINO file"
        )
    if weights == "embedded" and (info.loader is not None or not _is_bundled(model)):
        # Else a name that is a file's, or a loader's folder, would be read by an address alone.
        raise DataError(
            f"{model} cannot run here: its manifest says that its weights come with this package, which has none of "
            "that name"
        )
    is_library = _is_library_model(info)
    iou = InferenceConfig.iou if is_library else info.iou
    if info.imgsz is None or info.conf is None or iou is None or info.max_det is None:
        raise DataError(f"{model} cannot run here: its manifest lacks its size or a threshold")
    settings = InferenceConfig(
        imgsz=info.imgsz,
        conf=info.conf,
        iou=iou,
        max_det=info.max_det,
        end2end=info.end2end or None,
        device="cpu",
        **_reading_options(manifest, info),
    )
    name = model if weights == "embedded" else _zoo_or_file(model, weights)
    classes = info.classes if is_library else ()  # the weights may not name them
    detector = _load(str(info.loader) if is_library else name, weights, settings, classes)
    if info.device in (None, "cpu") and detector.fingerprint != info.fingerprint:
        raise DataError(f"the weights of {model} have changed since the run; run it again")
    return detector


def _reading_options(manifest: Manifest, info: ModelInfo) -> dict[str, Any]:
    """What the run said of how an exported file is read, or which runtime computed a checkpoint."""
    if not _is_export(info.weights):
        return {"runtime": info.runtime or InferenceConfig.runtime}
    config = manifest.config
    return {"classes": config.classes, "layout": config.layout, "normalize": config.normalize}


def load_bundled_detector(model: str) -> "Detector":
    """A detector whose weights come with the package, at the size they were trained at."""
    if not _is_bundled(model):
        raise DataError(f"{model} has no weights in this package")
    return _load(model, "embedded", InferenceConfig(device="cpu"))


def _is_bundled(model: str) -> bool:
    from robustbench_sgdm import detectors

    return detectors.bundled_weights(model) is not None


def detect_cached(detector: "Detector", image: "RunImage") -> pd.DataFrame:
    """`detect` on a run's image, from cache."""
    return _detect_cached(detector, detector.fingerprint, image)


@st.cache_data(max_entries=64, show_spinner="Detecting")
def _detect_cached(_detector: "Detector", fingerprint: str, image: "RunImage") -> pd.DataFrame:
    with exclusive_use():
        return detect(_detector, image.pixels)


def detect(detector: "Detector", pixels: NDArray[np.uint8]) -> pd.DataFrame:
    """Detections in (H, W, 3) RGB: label (index into the detector's classes), score, x1, y1, x2, y2 (px)."""
    import torch

    with exclusive_use():
        (detections,) = detector.predict([torch.from_numpy(pixels.transpose(2, 0, 1).copy())])
    frame = pd.DataFrame(detections.xyxy, columns=["x1", "y1", "x2", "y2"])
    return frame.assign(score=detections.scores, label=detections.labels)


def map_to_categories(
    detections: pd.DataFrame, classes: tuple[str, ...], categories: pd.DataFrame
) -> pd.DataFrame:
    """Detections with the data set's category ids, matched by class name as a run does; others are dropped."""
    places = match_classes(classes, categories["name"].astype(str).tolist())
    ids = [categories["category_id"].iloc[place] if place >= 0 else -1 for place in places]
    detections = detections.assign(category_id=[ids[label] for label in detections["label"]])
    return detections[detections["category_id"] >= 0].reset_index(drop=True)


def pair_boxes(left: pd.DataFrame, right: pd.DataFrame) -> list[pd.DataFrame]:
    """Each model's boxes with `partner`: the score of the other's box for the same object, 0 if there is none.

    Boxes of one class that overlap by at least `MIN_IOU` are paired one to one, those with the best scores first.

    Args:
        left: a row per box: category_id, score, x1, y1, x2, y2; highest score first.
        right: the same of the other model.
    """
    partners = np.zeros(len(left)), np.zeros(len(right))
    free = list(range(len(right)))  # in order, so that of equal boxes the one with the best score comes first
    for i, box in enumerate(image_viewer.rows(left)):
        overlaps = {j: _iou(box, right.iloc[j]) for j in free if right["category_id"][j] == box.category_id}
        j = max(overlaps, key=overlaps.__getitem__, default=-1)
        if j >= 0 and overlaps[j] >= MIN_IOU:
            free.remove(j)
            partners[0][i], partners[1][j] = right["score"][j], box.score
    return [left.assign(partner=partners[0]), right.assign(partner=partners[1])]


def pair_all(frames: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Each model's boxes with `partner`: the least score that any other model has for the same object, 0 for none.

    Args:
        frames: as of `pair_boxes`; of a single model, whose boxes are their own partners.
    """
    paired = []
    for place, frame in enumerate(frames):
        others = [other for number, other in enumerate(frames) if number != place] or [frame]
        partners = [pair_boxes(frame, other)[0]["partner"] for other in others]
        paired.append(frame.assign(partner=np.min(partners, axis=0) if len(frame) else 0.0))
    return paired


def find_again(
    clean: Sequence[pd.DataFrame], noisy: Sequence[pd.DataFrame], confidence: float
) -> pd.DataFrame:
    """Which objects of a clean picture each model still finds under corruption.

    Args:
        clean: each model's boxes in the clean picture, as of `pair_boxes`.
        noisy: the same in the corrupted picture.
        confidence: from which a box in the clean picture counts.

    Returns:
        A row per object that any model finds in the clean picture: category, and by the model's place the score of its
        box for it in the corrupted picture, 0 for none.
    """
    first, *others = (frame[frame["score"] >= confidence].reset_index(drop=True) for frame in clean)
    objects = first
    for other in others:
        alone = pair_boxes(objects, other)[1]
        alone = alone[alone["partner"] == 0].drop(columns="partner")
        objects = pd.concat([objects, alone], ignore_index=True)
    objects = objects.sort_values("score", ascending=False, kind="stable", ignore_index=True)
    found = pd.DataFrame({"category": objects["category_id"]})
    for place, frame in enumerate(noisy):
        found[place] = pair_boxes(objects, frame)[0]["partner"]
    return found


def _iou(a: Any, b: Any) -> float:
    width = min(a.x2, b.x2) - max(a.x1, b.x1)
    height = min(a.y2, b.y2) - max(a.y1, b.y1)
    if width <= 0 or height <= 0:
        return 0.0
    shared_area = width * height
    areas = (a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1)
    return float(shared_area / (areas - shared_area))


def _zoo_or_file(model: str, weights: str) -> str:
    """What loads a model: its weights if it is called after them, else its name in the zoo."""
    stem = Path(weights).stem
    return weights if model in (stem, weights) or model.endswith(f"-{stem}") else model


def _is_file(model: str) -> bool:
    return Path(model).suffix.lower() in {".pt", ".safetensors"} or _is_export(model)


def _is_export(model: str) -> bool:
    """Whether it is an exported model that is data."""
    return Path(model).suffix.lower() in {".onnx", ".xml"} or Path(model).name.endswith("_openvino_model")
