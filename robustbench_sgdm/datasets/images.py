"""Decoding: any image file a camera or a tool wrote becomes uint8 RGB, or a clear error."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageFile, ImageOps, UnidentifiedImageError

from robustbench_sgdm.datasets.base import Image
from robustbench_sgdm.errors import DataError

MOST_PIXELS = 89_000_000
"""Larger images are taken for decompression bombs, at about Pillow's own limit."""

# Other formats that Pillow knows are rare, and some hand the file to a program: EPS to Ghostscript.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_NO_PICTURE = (UnidentifiedImageError, ImportError)  # Ultralytics has Pillow ask for a plugin
_ORIENTATION = 0x0112  # EXIF tag


class Header(NamedTuple):
    """What an image's header says: size in pixels as decoded, Pillow's name of the format, and whether it ends well.

    `ended` is False where a JPEG's last bytes are not those that end one: it is cut off, or something follows.
    """

    width: int
    height: int
    format: str
    ended: bool


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
        with _opened(image.path, MOST_PIXELS) as file:
            array = _rgb(_oriented(file, image))
    except FileNotFoundError:
        raise DataError(f"{image.path} does not exist; give the image folder with --images") from None
    except _NO_PICTURE as error:
        raise DataError(
            f"{image.path} {_why(image.path)}; replace the file or remove it from the data set"
        ) from error
    except Exception as error:  # whatever the bytes of a damaged file provoke
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
        with _opened(io.BytesIO(content), most_pixels) as file:
            return _rgb(ImageOps.exif_transpose(file))
    except _NO_PICTURE:
        raise DataError("this is no picture that can be read; give a PNG, JPEG or WebP file") from None
    except Exception as error:
        raise DataError(f"this picture cannot be decoded ({error}); give another one") from error


def size(path: Path) -> tuple[int, int]:
    """Width and height in pixels as `read` will give them, from the header alone.

    Raises:
        DataError: as `read`, as far as the header shows it.
    """
    found = header(path)
    return found.width, found.height


def header(path: Path) -> Header:
    """What the header of an image file says.

    Raises:
        DataError: as `size`.
    """
    try:
        with _opened(path, MOST_PIXELS) as file:
            width, height = file.size
            kind = str(file.format)
            ended = kind != "JPEG" or file.fp is None or _ends_with(file.fp, b"\xff\xd9")
            turned = file.getexif().get(_ORIENTATION, 1) >= 5
    except _NO_PICTURE as error:
        raise DataError(f"{path} {_why(path)}") from error
    except Exception as error:
        raise DataError(f"{path} is not a readable image ({error})") from error
    return Header(height, width, kind, ended) if turned else Header(width, height, kind, ended)


def verify(path: Path) -> None:
    """Read an image file to its end: a PNG's checksums, of other formats the pixels.

    Raises:
        DataError: it is damaged.
    """
    try:
        with _opened(path, MOST_PIXELS) as file:
            if file.format == "PNG":
                file.verify()
            else:
                file.load()
    except Exception as error:
        raise DataError(f"{path} is damaged ({error})") from error


def _ends_with(file: IO[bytes], end: bytes) -> bool:
    place = file.tell()
    file.seek(-len(end), os.SEEK_END)
    found = file.read(len(end))
    file.seek(place)
    return found == end


def _why(path: Path) -> str:
    """What a file is that is no picture."""
    return "is empty" if path.is_file() and not path.stat().st_size else "is no picture that can be read"


@contextmanager
def _opened(source: Path | BinaryIO, most_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """An image of a known format, its pixels counted before any is decoded."""
    if isinstance(source, Path) and source.exists() and not source.is_file():
        raise ValueError("no file")  # a pipe would keep its reader waiting
    try:
        opened = Pillow.open(source, formats=_formats())
    except Pillow.DecompressionBombError:
        raise ValueError(f"more than {most_pixels:,} pixels") from None
    with opened as file:
        if file.width * file.height > most_pixels:
            raise ValueError(f"{file.width} x {file.height} is more than {most_pixels:,} pixels")
        yield file


@cache
def _formats() -> tuple[str, ...]:
    Pillow.init()  # AVIF came with Pillow 11.3
    return tuple(name for name in _FORMATS if name in Pillow.OPEN)


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
