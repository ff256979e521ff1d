"""What an image file claims, read before Pillow believes it: small files whose headers ask for gigabytes or minutes."""

import io
import re
import struct
from collections.abc import Iterator
from typing import IO

_TIFF_KINDS = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
"""Bytes of a value of each kind."""

_ORIENTATION = 0x0112
_WHOLE = {3: "H", 4: "I", 8: "h", 9: "i"}  # kinds of a whole number
_MAX_SCANNED = 2**31  # pixels times scans of a JPEG; of the largest picture that is decoded, as many as 24
_MAX_TILES, _MAX_CHANNELS = 2**14, 4  # of a JPEG 2000
# Its codestream begins so, with its sizes; seen also where such bytes lie within each other.
_SIZ = re.compile(rb"(?=\xff\x4f\xff\x51(..)..(.{32})(..))", re.DOTALL)
_MAX_EXIF = 100  # segments of a JPEG: Pillow copies all before each
_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 322, 323  # tags of a TIFF
_LARGEST_TILE = 2**24  # pixels; a larger one only of a picture of half its size
# Markers that Pillow takes no length of.
_STANDALONE = frozenset({0x00, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")  # of a JPEG; not the restarts within its pixels
_END, _SCAN, _BARE = 0xD9, 0xDA, {*range(0xC0), 0xD8}  # markers; the bare ones have no length behind them


def check_header(file: IO[bytes], most_pixels: int) -> None:
    """Refuse what costs much as soon as Pillow opens it; leaves the file at its begin.

    Raises:
        ValueError: a WebP of more pixels, a TIFF whose tags hold more than the file or whose tiles are larger than its
            picture, or a JPEG whose EXIF lies in too many parts.
    """
    head = file.read(30)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":  # Pillow makes room for all pixels
        width, height = _webp_size(head)
        if width * height > most_pixels:
            raise ValueError(f"{width} x {height} is more than {most_pixels:,} pixels")
    elif head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):  # Pillow reads the values of all tags
        size = file.seek(0, 2)
        file.seek(0)
        claimed, sides = 0, dict.fromkeys((_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT), 0)
        for tag, kind, count, value in _tiff_tags(file):
            claimed += _TIFF_KINDS.get(kind, 0) * count
            if tag in sides:
                sides[tag] = max(sides[tag], _tag_number(kind, value))
        if claimed > size:
            raise ValueError("its tags claim more bytes than it has")
        # Whose pixels are all decoded, whatever the picture's size.
        tile = sides[_TILE_WIDTH] * sides[_TILE_HEIGHT]
        if tile > max(_LARGEST_TILE, 2 * sides[_WIDTH] * sides[_HEIGHT]):
            raise ValueError(
                f"its tiles have {sides[_TILE_WIDTH]} x {sides[_TILE_HEIGHT]} pixels, more than its picture"
            )
    elif head[:2] == b"\xff\xd8" and sum(_exif_segments(file)) > _MAX_EXIF:
        raise ValueError(f"its EXIF lies in more than {_MAX_EXIF} parts")
    file.seek(0)


def check_pixels(file: IO[bytes], kind: str, size: tuple[int, int]) -> None:
    """Refuse what costs much when it is decoded; leaves the file where it is.

    Args:
        file: the whole file.
        kind: Pillow's name of the format.
        size: width and height in pixels.

    Raises:
        ValueError: a JPEG that draws its pixels too many times, or a JPEG 2000 of more tiles or channels, or of
            another size than its header says.
    """
    if kind not in ("JPEG", "MPO", "JPEG2000"):
        return
    place = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(place)
    if kind != "JPEG2000":
        scans = jpeg_scans(data)
        if scans * size[0] * size[1] > _MAX_SCANNED:
            raise ValueError(
                f"it draws its {size[0]} x {size[1]} pixels in {scans:,} scans, more than any picture"
            )
        return
    for found in _SIZ.finditer(data):
        right, bottom, left, top, across, down, begin, above = struct.unpack(">8I", found[2])
        length, channels = (int.from_bytes(found[place], "big") for place in (1, 3))
        if length != 38 + 3 * channels:  # its decoder refuses it: bytes of pixels that look like a begin
            continue
        tiles = -(-(right - begin) // max(across, 1)) * -(-(bottom - above) // max(down, 1))
        if (right - left, bottom - top) != size or channels > _MAX_CHANNELS or tiles > _MAX_TILES:
            raise ValueError(
                f"it holds {right - left} x {bottom - top} pixels in {tiles:,} tiles and {channels} channels; may hold "
                f"the {size[0]} x {size[1]} of its header in {_MAX_TILES:,} and {_MAX_CHANNELS}"
            )


def jpeg_scans(data: bytes) -> int:
    """How often a JPEG's first picture is drawn; what lies in its tags or behind its end is not.

    Phones put a film behind a photograph, in which the bytes of any marker occur.
    """
    scans, at = 0, 2
    while (marker := _MARKER.search(data, at)) and (kind := marker[1][0]) != _END:
        at = marker.end()
        if kind not in _BARE:
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
        scans += kind == _SCAN
    return scans


def exif_orientation(data: bytes) -> int:
    """What EXIF says of the orientation; 0 where it says nothing.

    Pillow would read the values of all tags, each of which may be all the others' bytes.

    Raises:
        struct.error: it is cut off.
    """
    while data.startswith(b"Exif\0\0"):
        data = data[6:]
    orientation = 0
    for tag, kind, count, value in _tiff_tags(io.BytesIO(data)):
        if tag == _ORIENTATION:
            whole = kind in _WHOLE and count == 1
            orientation = struct.unpack_from(value[0] + _WHOLE[kind], value[1])[0] if whole else 0
    return int(orientation)


def _exif_segments(file: IO[bytes]) -> Iterator[bool]:
    """For each segment of a JPEG before its first scan, in Pillow's reading, whether it holds EXIF."""
    file.seek(2)
    while byte := file.read(1):
        while byte == b"\xff":
            byte = file.read(1)
            code = byte[0] if byte else 0xDA
            if code == 0xDA:
                return
            if code not in _STANDALONE and code != 0xFF:
                length = max(2, int.from_bytes(file.read(2), "big"))
                start = file.read(min(6, length - 2))
                yield code == 0xE1 and start == b"Exif\0\0"
                file.seek(length - 2 - len(start), 1)


def _tag_number(kind: int, value: tuple[str, bytes]) -> int:
    """The whole number that a TIFF's tag holds; 0 where it holds none."""
    form = {**_WHOLE, 16: "Q"}.get(kind)
    return 0 if form is None else int(struct.unpack_from(value[0] + form, value[1].ljust(8, b"\0"))[0])


def _webp_size(head: bytes) -> tuple[int, int]:
    """Width and height from a WebP's first 30 bytes; (0, 0) where they are another's."""
    if head[12:16] == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if head[12:16] == b"VP8 ":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return 0, 0


def _tiff_tags(file: IO[bytes]) -> Iterator[tuple[int, int, int, tuple[str, bytes]]]:
    """Tag, kind, count, and (byte order, bytes of the value or its place) of the first directory of a TIFF."""
    order = {b"II": "<", b"MM": ">"}.get(file.read(2))
    if order is None:
        return
    big = struct.unpack(f"{order}H", file.read(2))[0] == 43
    if big:
        file.seek(8)
    file.seek(struct.unpack(f"{order}{'Q' if big else 'I'}", file.read(8 if big else 4))[0])
    entry = f"{order}HHQ8s" if big else f"{order}HHI4s"
    (count,) = struct.unpack(f"{order}{'Q' if big else 'H'}", file.read(8 if big else 2))
    for _ in range(count):
        if len(row := file.read(struct.calcsize(entry))) < struct.calcsize(entry):
            return
        tag, kind, number, value = struct.unpack(entry, row)
        yield tag, kind, number, (order, value)
