"""Detectors of other libraries as a `Detector`."""

from robustbench_sgdm.detectors.adapters.function import FunctionDetector, wrap_detector

__all__ = ["FunctionDetector", "wrap_detector"]
