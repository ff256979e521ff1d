"""Pictures as 8-bit RGB, the same from a file of a data set and from Python."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow


def to_rgb(picture: Pillow.Image) -> NDArray[np.uint8]:
    """The pixels, (H, W, 3); of 16-bit grey the upper byte.

    Raises:
        ValueError: floating-point pixels.
    """
    if picture.mode.startswith("I"):  # Pillow's own conversion would clip at 255
        grey = np.clip(np.asarray(picture).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no defined range")
    return np.array(picture.convert("RGB"))
