"""Parts of images that show what corruptions do, pixel by pixel."""

import cv2
import numpy as np
from numpy.typing import NDArray

_DETECTOR_SIDE = 640  # px of an image's longer side as a detector sees it
# Px of its middle, high and wide: a whole image would have to be scaled down, and noise with it.
_CROP = (192, 256)


def crop_middle(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle of an image at the size that a detector sees, (192, 256, 3) at most."""
    height, width = picture.shape[:2]
    scale = min(1, _DETECTOR_SIDE / max(height, width))
    if scale < 1:
        picture = scale_down(picture, max(1, round(width * scale)))
    top, left = (max(0, side - most) // 2 for side, most in zip(picture.shape, _CROP, strict=False))
    return picture[top : top + _CROP[0], left : left + _CROP[1]]


def scale_down(picture: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """The image at a smaller width, each pixel the mean of those that it replaces."""
    size = (width, max(1, round(picture.shape[0] * width / picture.shape[1])))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
