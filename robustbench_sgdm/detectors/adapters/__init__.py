"""Detectors of other libraries as a `Detector`."""

from robustbench_sgdm.detectors.adapters.callable import CallableDetector, wrap_detector

__all__ = ["CallableDetector", "wrap_detector"]
