"""Ultralytics' exporter: a network as it runs, traced into an ONNX file or a TensorRT engine."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from ultralytics.engine.exporter import Exporter

from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.detectors.runtimes.packages import without_installing
from robustbench_sgdm.detectors.ultralytics.adapter import UltralyticsDetector


def export_network(detector: UltralyticsDetector, folder: Path, form: str, dynamic: bool) -> Path:
    """Export a detector's network; nothing is installed for it.

    Args:
        detector: in float32.
        folder: for the file.
        form: `onnx` or `engine`.
        dynamic: for any batch and size; else for single images of the detector's size.

    Returns:
        the file.

    Raises:
        RobustBenchError: it cannot be exported.
    """
    network: Any = copy.deepcopy(detector.network)
    network.task, network.pt_path = "detect", str(folder / "exported.pt")
    for layer in network.modules():  # Ultralytics' exporter tells its own heads alone
        if hasattr(layer, "export"):
            layer.export = True
    settings = {
        "format": form,
        "imgsz": detector.imgsz,
        "dynamic": dynamic,
        "max_det": detector.settings.max_det,
        "nms": False if detector.settings.end2end else None,  # False takes the one-to-one branch
        "device": "cpu" if detector.device.type == "cpu" else str(detector.device.index or 0),
        "batch": 16 if form == "engine" and dynamic else 1,
    }
    try:
        with without_installing(), torch.no_grad(), quiet():
            return Path(str(Exporter(overrides=settings)(cast(Any, network))))
    except Exception as error:  # whatever tracing a network provokes
        reason = " ".join(str(error).split())[:300]
        raise RobustBenchError(
            f"{detector.name} cannot be exported ({type(error).__name__}: {reason})"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters and quantisers tell: progress, hints, warnings of tracing."""
    before, handlers = logging.root.manager.disable, list(logging.root.handlers)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        logging.root.handlers = handlers  # ONNX Runtime's quantiser gives the root one that repeats ours
