"""Detectors: what `--model` means, the protocol that all follow, and adapters of what is none yet.

`detectors.ultralytics` has the zoo, the grafting of modules and the reading of weights.
"""

from robustbench_sgdm.detectors.adapters import load_library_model, wrap_detector
from robustbench_sgdm.detectors.base import Detector
from robustbench_sgdm.detectors.device import is_out_of_memory, select_device
from robustbench_sgdm.detectors.registry import (
    DetectorEntry,
    added_baselines,
    compare_with_baseline,
    is_plugin,
    load_detectors,
    load_file,
    load_plugin,
    load_trained_detectors,
    plugin_names,
)
from robustbench_sgdm.detectors.runtimes import ExportedDetector, is_exported
from robustbench_sgdm.detectors.ultralytics.adapter import UltralyticsDetector, load_detector
from robustbench_sgdm.detectors.ultralytics.weights import bundled_weights

__all__ = [
    "Detector",
    "DetectorEntry",
    "ExportedDetector",
    "UltralyticsDetector",
    "added_baselines",
    "bundled_weights",
    "compare_with_baseline",
    "is_exported",
    "is_out_of_memory",
    "is_plugin",
    "load_detector",
    "load_detectors",
    "load_file",
    "load_library_model",
    "load_plugin",
    "load_trained_detectors",
    "plugin_names",
    "select_device",
    "wrap_detector",
]
