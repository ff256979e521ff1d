"""Decoding: any image file a camera or a tool wrote becomes uint8 RGB, or a clear error."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from robustbench_sgdm.datasets.base import Image
from robustbench_sgdm.errors import DataError

MOST_PIXELS = 89_000_000
"""Larger images are taken for decompression bombs, at about Pillow's own limit."""

# ImportError: where Ultralytics is loaded, Pillow's `open` asks for a HEIF plugin when it knows no better.
FAILURES = (OSError, SyntaxError, ValueError, EOFError, ImportError, Pillow.DecompressionBombError, Warning)
"""What decoding a bad file can raise."""

_ORIENTATION = 0x0112  # EXIF tag


def read(image: Image) -> NDArray[np.uint8]:
    """Decode one image to (H, W, 3) uint8 RGB, of the annotated size.

    Grey, palette, CMYK and 16-bit files are converted (16 bits keep their upper eight), alpha is
    dropped, and the EXIF orientation is applied, as OpenCV and so Ultralytics do; unless the
    annotations were plainly made on the unrotated picture.

    Raises:
        DataError: the file is missing, damaged, not an image, too large to be one (over
            89 million pixels, as a decompression bomb), or not of the annotated size.
    """
    try:
        with Pillow.open(image.path) as file:
            if file.width * file.height > MOST_PIXELS:
                raise ValueError(f"{file.width} x {file.height} is more than {MOST_PIXELS:,} pixels")
            array = _rgb(_oriented(file, image))
    except FileNotFoundError:
        raise DataError(f"{image.path} does not exist; give the image folder with --images") from None
    except FAILURES as error:
        raise DataError(
            f"{image.path} cannot be decoded ({error}); replace the file or remove it from the data set"
        ) from error
    if array.shape[:2] != (image.height, image.width):
        raise DataError(
            f"{image.path} is {array.shape[1]} x {array.shape[0]} px but annotated as "
            f"{image.width} x {image.height}; its boxes would not fit"
        )
    return array


def decode(content: bytes, most_pixels: int = MOST_PIXELS) -> NDArray[np.uint8]:
    """Decode a picture that is in no data set, such as an upload, to (H, W, 3) uint8 RGB, as `read` does.

    Raises:
        DataError: not an image, damaged, or of more pixels than `most_pixels`; says which.
    """
    try:
        with Pillow.open(io.BytesIO(content)) as file:
            if file.width * file.height > most_pixels:
                raise ValueError(f"{file.width} x {file.height} is more than {most_pixels:,} pixels")
            return _rgb(ImageOps.exif_transpose(file))
    except (UnidentifiedImageError, ImportError):  # Ultralytics has Pillow ask for a plugin
        raise DataError("this is no picture that can be read; give a PNG, JPEG or WebP file") from None
    except FAILURES as error:
        raise DataError(f"this picture cannot be decoded ({error}); give another one") from error


def size(path: str) -> tuple[int, int]:
    """Width and height in pixels as `read` will give them, from the header alone."""
    with Pillow.open(path) as file:
        width, height = file.size
        turned = file.getexif().get(_ORIENTATION, 1) >= 5
    return (height, width) if turned else (width, height)


def _oriented(file: Pillow.Image, image: Image) -> Pillow.Image:
    turned = ImageOps.exif_transpose(file)
    annotated = (image.width, image.height)
    return file if turned.size != annotated and file.size == annotated else turned


def _rgb(picture: Pillow.Image) -> NDArray[np.uint8]:
    if picture.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip at 255
        grey = np.clip(np.asarray(picture).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no defined range")
    return np.array(picture.convert("RGB"))
