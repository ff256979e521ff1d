"""Pictures that visitors upload: decoded within bounds, and kept nowhere but in their session."""

import hashlib

import cv2
import numpy as np
from numpy.typing import NDArray

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.dashboard.access import MAX_UPLOAD_MEGABYTES
from robustbench_sgdm.dashboard.inference import exclusive_use
from robustbench_sgdm.datasets import image_decoding

FORMATS = ("png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff")
MAX_PIXELS = 25_000_000
MAX_SIDE = 1600
"""Pixels; a larger picture is shrunk before anything else."""
MIN_SIDE = 8
"""Pixels; a smaller picture is rejected."""


def decode_upload(content: bytes, name: str) -> tuple[NDArray[np.uint8], str]:
    """Pixels, (H, W, 3) RGB, and an identifier of an uploaded file. Its content counts, whatever its name says.

    Raises:
        DataError: not a picture, damaged, or of too many or too few pixels.
        RobustBenchError: the server is busy for other visitors.
    """
    if len(content) > MAX_UPLOAD_MEGABYTES * 2**20:
        raise DataError(
            f"{len(content) / 2**20:.1f} MB is more than {MAX_UPLOAD_MEGABYTES}; choose a smaller picture"
        )
    with exclusive_use():
        pixels = image_decoding.decode_image(content, MAX_PIXELS)
        scale = MAX_SIDE / max(pixels.shape[:2])
        if min(pixels.shape[:2]) < MIN_SIDE:
            raise DataError(f"the picture is under {MIN_SIDE} pixels high or wide; choose a larger one")
        if scale < 1:
            size = [max(MIN_SIDE, round(side * scale)) for side in pixels.shape[1::-1]]
            pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    return pixels, f"{name[:80]}:{hashlib.sha256(content).hexdigest()}"
