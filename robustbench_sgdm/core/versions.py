"""Versions of everything that can change a number.

What a stored number depends on beside its inputs is named here, not guessed from source text: rewording code makes no
stored result outdated, and a change of behaviour does. `tests/golden` fails when outputs change and a version does not.
"""

import importlib.metadata
import platform
from functools import cache

from robustbench_sgdm import __version__

_PACKAGES = (
    "torch",
    "torchvision",
    "ultralytics",
    "numpy",
    "opencv-python",
    "pillow",
    "imaug",
    "hotcoco",
    "pycocotools",
)


INFERENCE = 1
"""Of detections: decoding of images, letterbox, networks, suppression, class matching."""

CORRUPTIONS = 1
"""Of what all corruptions share: random draws, filters, rounding. Each has a version of its own beside it."""

SCORING = 1
"""Of scores from detections and ground truth."""

_INFERENCE_LIBRARIES = ("torch", "torchvision", "ultralytics", "opencv-python", "pillow")
_SCORING_LIBRARIES = ("hotcoco", "numpy")


def inference_version() -> str:
    """What decides detections beside weights, settings and images: our version and the libraries'."""
    return _with_libraries(INFERENCE, _INFERENCE_LIBRARIES)


def scoring_version() -> str:
    """What decides scores beside detections and ground truth."""
    return _with_libraries(SCORING, _SCORING_LIBRARIES)


@cache
def _with_libraries(number: int, libraries: tuple[str, ...]) -> str:
    installed = installed_versions()
    return f"{number}; " + ", ".join(f"{name} {installed[name]}" for name in libraries)


def installed_versions() -> dict[str, str]:
    """Version by package, this one's and Python's first; `absent` where it is not installed."""
    installed = {"robustbench-sgdm": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            installed[package] = "absent"
    return installed
