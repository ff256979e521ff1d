"""The reference engine: COCO-C's own code (Michaelis et al. 2019) through imgaug, an image at a time."""

import importlib.metadata
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from robustbench_sgdm.core.constants import BENCHMARK, HOLDOUT
from robustbench_sgdm.core.errors import UsageError

MIN_SIZE = 32
_NAMES = (*BENCHMARK, *HOLDOUT)
_LIBRARIES = (
    *("imaug", "imagecorruptions-imaug", "numpy", "scipy", "scikit-image"),
    *("opencv-python", "opencv-python-headless", "pillow"),
)

# The reference draws from NumPy's global state, which threads share.
_LOCK = threading.Lock()


def corrupt(name: str, image: NDArray[np.uint8], severity: float, seed: int) -> NDArray[np.uint8]:
    """Corrupt one RGB image (H, W, 3); NumPy's global random state is left as it was.

    Raises:
        UsageError: not one of COCO-C's names, a severity other than 1 to 5, or an image under 32 px.
    """
    if name not in _NAMES:
        raise UsageError(f"the imgaug engine has no {name!r}, only {', '.join(_NAMES)}")
    if severity not in range(1, 6):
        raise UsageError(f"the imgaug engine has severities 1 to 5, not {severity:g}")
    if min(image.shape[:2]) < MIN_SIZE:
        size = f"{image.shape[1]} x {image.shape[0]}"
        raise UsageError(
            f"the imgaug engine needs {MIN_SIZE} px a side, not {size}; the torch engine takes any size"
        )
    with _LOCK, _preserve_numpy_state():
        from imgaug.augmenters import imgcorruptlike

        function = getattr(imgcorruptlike, f"apply_{name}")
        return np.array(function(np.ascontiguousarray(image), int(severity), seed=seed % 2**32), np.uint8)


def library_versions() -> dict[str, str]:
    """The versions that decide this engine's pixels, by distribution."""
    installed = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    return {name: installed[name] for name in _LIBRARIES if name in installed}


@contextmanager
def _preserve_numpy_state() -> Iterator[None]:
    state = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
