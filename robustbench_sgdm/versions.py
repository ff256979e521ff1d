"""Versions of everything that can change a number."""

import importlib.metadata
import platform

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


def versions() -> dict[str, str]:
    """Version by package, this one's and Python's first; `absent` where it is not installed."""
    found = {"robustbench-sgdm": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found
