"""Detectors for pages that run them: loaded when first asked for, checked against the run they belong to."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from robustbench_sgdm.core.errors import DataError, RobustBenchError
from robustbench_sgdm.datasets.class_matching import match_classes

if TYPE_CHECKING:
    from app.pictures import Picture
    from robustbench_sgdm.detectors import UltralyticsDetector

COLUMNS = ["category_id", "score", "x1", "y1", "x2", "y2"]

_PATIENCE = 60.0  # s for the work of other visits
_ONE = threading.RLock()


@contextmanager
def turn() -> Iterator[None]:
    """Do what loads or runs a detector or decodes a picture: one visit at a time, so that many cost no more memory than
    one.

    Raises:
        RobustBenchError: other visits are before this one for a minute.
    """
    if not _ONE.acquire(timeout=_PATIENCE):
        raise RobustBenchError("pictures and detectors of other visitors come first; try again in a minute")
    try:
        yield
    finally:
        _ONE.release()


@st.cache_resource(max_entries=6, show_spinner="Loading a detector, a few seconds")
def _loaded(
    model: str, weights: str, imgsz: int, conf: float, iou: float, max_det: int, end2end: bool | None
) -> "UltralyticsDetector":
    from robustbench_sgdm import detectors
    from robustbench_sgdm.config import InferenceConfig

    file = None if weights == "embedded" else weights
    name = model if file is None or not _is_file(model) else file
    settings = InferenceConfig(
        imgsz=imgsz, conf=conf, iou=iou, max_det=max_det, end2end=end2end, device="cpu"
    )
    with turn():
        return detectors.load_detector(name, settings, weights=None if name == file else file)


def can_load(about: Mapping[str, Any]) -> bool:
    """Whether a run's model has weights that a detector can be made of."""
    weights = str(about.get("weights", "embedded"))
    return weights == "embedded" or _is_file(weights)


def of_run(plan: Mapping[str, Any], model: str) -> "UltralyticsDetector":
    """A detector of a run, which must be the one that made its cells.

    Raises:
        DataError: it has no weights, or they are gone, or others by now.
    """
    about = plan["models"][model]
    weights = str(about.get("weights", "embedded"))
    if not can_load(about):
        raise DataError(f"{model} cannot run here: its weights are {weights!r}, no .pt or .safetensors file")
    end2end = bool(about.get("end2end")) or None
    settings = int(about["imgsz"]), float(about["conf"]), float(about["iou"]), int(about["max_det"]), end2end
    detector = _loaded(model if weights == "embedded" else _zoo_or_file(model, weights), weights, *settings)
    if str(about.get("device", "cpu")) == "cpu" and detector.fingerprint != about.get("fingerprint"):
        raise DataError(f"the weights of {model} are not those of the run any more; run it again")
    return detector


def embedded(model: str) -> "UltralyticsDetector":
    """A detector whose weights come with the package, at the size they were made for."""
    from robustbench_sgdm.detectors import bundled_weights as file

    if file(model) is None:
        raise DataError(f"{model} has no weights in this package")
    return _loaded(model, "embedded", 0, 0.001, 0.7, 300, None)


def detect(detector: "UltralyticsDetector", picture: "Picture") -> pd.DataFrame:
    """What a detector finds in a run's picture, as `find` gives it; from cache where it looked before."""
    return _detected(detector, detector.fingerprint, picture)


@st.cache_data(max_entries=64, show_spinner="Detecting")
def _detected(_detector: "UltralyticsDetector", fingerprint: str, picture: "Picture") -> pd.DataFrame:
    with turn():
        return find(_detector, picture.pixels)


def find(detector: "UltralyticsDetector", pixels: NDArray[np.uint8]) -> pd.DataFrame:
    """What a detector finds in (H, W, 3) RGB: label (index into its classes), score, x1, y1, x2, y2 (px)."""
    import torch

    with turn():
        (found,) = detector.predict([torch.from_numpy(pixels.transpose(2, 0, 1).copy())])
    frame = pd.DataFrame(found.xyxy, columns=["x1", "y1", "x2", "y2"])
    return frame.assign(score=found.scores, label=found.labels)


def named(frame: pd.DataFrame, classes: tuple[str, ...], categories: pd.DataFrame) -> pd.DataFrame:
    """Detections with the data set's category ids, matched by class name as a run does; others are left out."""
    places = match_classes(classes, categories["name"].astype(str).tolist())
    ids = [categories["category_id"].iloc[place] if place >= 0 else -1 for place in places]
    found = frame.assign(category_id=[ids[label] for label in frame["label"]])
    return found[found["category_id"] >= 0].reset_index(drop=True)


def _zoo_or_file(model: str, weights: str) -> str:
    """A run names a checkpoint by its file; a zoo model keeps its name."""
    stem = Path(weights).stem
    return weights if model in (stem, weights) or model.endswith(f"-{stem}") else model


def _is_file(model: str) -> bool:
    return Path(model).suffix.lower() in {".pt", ".safetensors"}
