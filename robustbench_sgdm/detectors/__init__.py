"""Detectors: a zoo, modules grafted into it, weights read without running code, the Ultralytics adapter.

Importing this package imports Ultralytics, quietly: every submodule, and whoever imports this first, may then
import it plainly.
"""
# ruff: noqa: E402 (what Ultralytics reads from the environment, it reads at its first import)

from robustbench_sgdm.detectors.quiet import import_ultralytics

import_ultralytics()

from robustbench_sgdm.detectors import graft, weights, yolo, zoo
from robustbench_sgdm.detectors.adapters import is_library_model, load_library_model, wrap_detector
from robustbench_sgdm.detectors.base import Detector
from robustbench_sgdm.detectors.device import out_of_memory, pick_device
from robustbench_sgdm.detectors.lineup import Entrant, added_baselines, against, line_up, line_up_trained
from robustbench_sgdm.detectors.plugins import is_plugin, load_plugin, plugin_names
from robustbench_sgdm.detectors.weights import embedded
from robustbench_sgdm.detectors.yolo import YoloDetector, load

__all__ = [
    "Detector",
    "Entrant",
    "YoloDetector",
    "added_baselines",
    "against",
    "embedded",
    "graft",
    "is_library_model",
    "is_plugin",
    "line_up",
    "line_up_trained",
    "load",
    "load_library_model",
    "load_plugin",
    "out_of_memory",
    "pick_device",
    "plugin_names",
    "weights",
    "wrap_detector",
    "yolo",
    "zoo",
]
