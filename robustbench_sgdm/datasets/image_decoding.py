"""Decoding: any image file a camera or a tool wrote becomes uint8 RGB, or a clear error."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageFile, UnidentifiedImageError

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.rgb import to_rgb
from robustbench_sgdm.datasets import image_headers
from robustbench_sgdm.datasets.base import Image

MAX_PIXELS = 89_000_000
"""Larger images are taken for decompression bombs, at about Pillow's own limit."""

# Other formats that Pillow knows are rare, and some hand the file to a program: EPS to Ghostscript.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_NO_PICTURE = (UnidentifiedImageError, ImportError)  # Ultralytics has Pillow ask for a plugin
_ORIENTATION = 0x0112  # tag of EXIF and of TIFF
_TO_UPRIGHT = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}
_TO_STORED = _TO_UPRIGHT | {6: _TO_UPRIGHT[8], 8: _TO_UPRIGHT[6]}  # the others undo themselves
_JPEG2000 = 60  # percent of these pixels: its decoder takes 25 bytes for each, others 16 at the most
_BAND = 2**20  # pixels that are converted at a time
_MAX_CHUNKS = 1_000_000  # of a PNG, looked through for its EXIF


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image file says of itself before its pixels.

    Attributes:
        stored: width and height in pixels, as stored.
        orientation: the EXIF (or TIFF) orientation, 1 to 8; 1 where there is none.
        format: Pillow's name of the format, such as `JPEG`.
        is_complete: False where a JPEG's last bytes are not those that end one: it is cut off, or something follows.
    """

    stored: tuple[int, int]
    orientation: int
    format: str
    is_complete: bool

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height once the orientation is applied."""
        width, height = self.stored
        return (height, width) if self.orientation >= 5 else (width, height)


def read_image(image: Image) -> NDArray[np.uint8]:
    """Decode one image to (H, W, 3) uint8 RGB, of the annotated size.

    Grey, palette, CMYK and 16-bit files are converted (16 bits keep their upper eight), alpha is
    dropped, and the EXIF orientation is applied, as OpenCV and so Ultralytics do; unless the image is
    not `upright`, or has the size of the picture as stored and not of the one turned.

    Raises:
        DataError: the file is missing, damaged, not an image, too large to be one (over
            89 million pixels, as a decompression bomb), or not of the annotated size.
    """
    try:
        with _open_image(image.path, MAX_PIXELS) as file:
            header = _header(file, image.path)
            annotated = (image.width, image.height)
            as_stored = annotated == header.stored and annotated != header.upright
            array = _pixels(file, image.upright and not as_stored)
    except FileNotFoundError:
        raise DataError(f"{image.path} does not exist; give the image folder with --images") from None
    except _NO_PICTURE as error:
        raise DataError(
            f"{image.path} {_describe_other(image.path)}; replace the file or remove it from the data set"
        ) from error
    except Exception as error:  # whatever the bytes of a damaged file provoke
        raise DataError(
            f"{image.path} cannot be decoded ({error}); replace the file or remove it from the data set"
        ) from error
    if array.shape[:2] != (image.height, image.width):
        raise DataError(
            f"{image.path} is {array.shape[1]} x {array.shape[0]} px but annotated as {image.width} x {image.height}; "
            "its boxes would not fit: give the images that were annotated"
        )
    return array


def decode_image(content: bytes, most_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a picture that is in no data set, such as an upload, to (H, W, 3) uint8 RGB, as `read_image` does.

    Raises:
        DataError: not an image, damaged, or of more pixels than `most_pixels`; says which.
    """
    try:
        with _open_image(io.BytesIO(content), most_pixels) as file:
            return _pixels(file, upright=True)
    except _NO_PICTURE:
        raise DataError("this is not an image that can be read; give a PNG, JPEG or WebP file") from None
    except Exception as error:
        raise DataError(f"this picture cannot be decoded ({error}); give another one") from error


def read_header(path: Path) -> ImageHeader:
    """Size as stored, orientation and format, without decoding a pixel.

    Raises:
        DataError: as `read_image`, as far as the header shows it.
    """
    try:
        with _open_image(path, MAX_PIXELS) as file:
            return _header(file, path)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; give the image folder with --images") from error
    except _NO_PICTURE as error:
        raise DataError(f"{path} {_describe_other(path)}") from error
    except Exception as error:
        raise DataError(f"{path} is not a readable image ({error})") from error


def verify_image(path: Path) -> None:
    """Read an image file to its end: a PNG's checksums, of other formats the pixels.

    Raises:
        DataError: it is damaged.
    """
    try:
        with _open_image(path, MAX_PIXELS) as file:
            if file.format == "PNG":
                file.verify()
            else:
                _load(file)
    except Exception as error:
        raise DataError(f"{path} is damaged ({error})") from error


def _ends_with(file: IO[bytes], end: bytes) -> bool:
    place = file.tell()
    file.seek(-len(end), os.SEEK_END)
    ending = file.read(len(end))
    file.seek(place)
    return ending == end


def _describe_other(path: Path) -> str:
    """What a file is that is no picture."""
    return "is empty" if path.is_file() and not path.stat().st_size else "is not an image that can be read"


@contextmanager
def _open_image(source: Path | BinaryIO, most_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """An image of a known format, its pixels counted before any is decoded."""
    if isinstance(source, Path) and source.exists() and not source.is_file():
        raise ValueError("no file")  # a pipe would keep its reader waiting
    with source.open("rb") if isinstance(source, Path) else nullcontext(source) as content:
        image_headers.check_header(content, most_pixels)
        try:
            opened = Pillow.open(content, formats=_formats())
        except Pillow.DecompressionBombError:
            raise ValueError(f"more than {most_pixels:,} pixels") from None
        with opened as file:
            most = most_pixels * _JPEG2000 // 100 if file.format == "JPEG2000" else most_pixels
            if file.width * file.height > most:
                raise ValueError(f"{file.width} x {file.height} is more than {most:,} pixels")
            yield file


@cache
def _formats() -> tuple[str, ...]:
    Pillow.init()  # AVIF came with Pillow 11.3
    return tuple(name for name in _FORMATS if name in Pillow.OPEN)


def _header(file: ImageFile.ImageFile, path: Path | None = None) -> ImageHeader:
    orientation = _orientation(file, path)
    kind = str(file.format)
    is_complete = kind != "JPEG" or file.fp is None or _ends_with(file.fp, b"\xff\xd9")
    if kind == "TIFF":  # Pillow turns these itself: it gives the size as turned from the start
        tags = file.tag_v2  # type: ignore[attr-defined]
        return ImageHeader((int(tags[256]), int(tags[257])), orientation, kind, is_complete)
    return ImageHeader(file.size, orientation, kind, is_complete)


def _orientation(file: Pillow.Image, path: Path | None) -> int:
    """EXIF's, as OpenCV and browsers have it: Pillow would take an editor's XMP, which neither of them reads.

    EXIF that cannot be parsed turns nothing; a picture is decoded without it.
    """
    try:
        if file.format == "TIFF":
            value = file.tag_v2.get(_ORIENTATION)  # type: ignore[attr-defined]
        else:
            value = image_headers.exif_orientation(_exif(file, path) or b"")
    except Exception:  # noqa: BLE001 - whatever damaged bytes provoke
        return 1
    return value if value in _TO_UPRIGHT else 1


def _exif(file: Pillow.Image, path: Path | None) -> bytes | None:
    if "exif" in file.info:
        return bytes(file.info["exif"])
    if "Raw profile type exif" in file.info:  # how ImageMagick puts it into a PNG
        return bytes.fromhex("".join(str(file.info["Raw profile type exif"]).split("\n")[3:]))
    if file.format == "PNG" and path is not None:  # Pillow would decode all pixels to see what follows them
        with path.open("rb") as content:
            content.seek(8)
            for _ in range(_MAX_CHUNKS):
                length, kind = int.from_bytes(content.read(4), "big"), content.read(4)
                if kind == b"eXIf":
                    return content.read(length)
                if kind in {b"IEND", b""}:
                    break
                content.seek(length + 4, io.SEEK_CUR)
    return None


def _load(file: ImageFile.ImageFile) -> None:
    if file.fp is not None:
        image_headers.check_pixels(file.fp, str(file.format), file.size)
    file.load()


def _pixels(file: ImageFile.ImageFile, upright: bool) -> NDArray[np.uint8]:
    """(H, W, 3) RGB, turned upright, or as it is stored."""
    orientation = _orientation(file, None)  # a TIFF forgets it while it is decoded
    _load(file)
    if file.format == "PNG":  # may have it behind its pixels
        orientation = _orientation(file, None)
    turns = _TO_STORED if file.format == "TIFF" else _TO_UPRIGHT
    if orientation not in turns or upright == (file.format == "TIFF"):
        return _rgb(file)
    return _rgb(file.transpose(turns[orientation]))


def _rgb(picture: Pillow.Image) -> NDArray[np.uint8]:
    """Band by band: Pillow holds four bytes a pixel while it converts, beside those of the result."""
    width, height = picture.size
    rows = max(1, _BAND // max(width, 1))
    if rows >= height:
        return to_rgb(picture)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        band = (0, top, width, min(top + rows, height))
        pixels[top : top + rows] = to_rgb(picture.crop(band))
    return pixels
