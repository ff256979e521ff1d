"""Runtimes: exported models as detectors, and checkpoints exported to run in another runtime than PyTorch.

ONNX and OpenVINO files are data: read with bounds, and tried in a process of their own before they are loaded.
"""

from robustbench_sgdm.detectors.runtimes.detector import (
    NORMALIZATIONS,
    ExportedDetector,
    is_exported,
    is_folder,
    load_exported,
)
from robustbench_sgdm.detectors.runtimes.export import convert, export_detector, export_model
from robustbench_sgdm.detectors.runtimes.layouts import LAYOUTS

__all__ = [
    "LAYOUTS",
    "NORMALIZATIONS",
    "ExportedDetector",
    "convert",
    "export_detector",
    "export_model",
    "is_exported",
    "is_folder",
    "load_exported",
]
