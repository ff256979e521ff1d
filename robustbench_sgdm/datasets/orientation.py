"""Which way up the annotations mean an image: as stored, or as its EXIF orientation turns it.

Annotation tools show pictures upright; some write the size as stored nevertheless, and some show and write the
picture as stored. Neither the size nor the orientation tells them apart, but the boxes do: they fit one of the two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.datasets import image_decoding as decoding
from robustbench_sgdm.datasets.base import Image
from robustbench_sgdm.datasets.box_checks import boxes_fit

_PLAIN = 9  # boxes for one reading to each against it, from which it is taken to be meant
_AS_OPENCV = "as OpenCV and browsers do"
_DEFAULT = (
    f"they are turned upright, {_AS_OPENCV}: if they were annotated as stored, remove that tag from the files"
)


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """An image as an annotation file has it.

    Attributes:
        id: of the image.
        path: its file.
        size: width and height in pixels; None where the annotation file gives none.
    """

    id: int
    path: Path
    size: tuple[int, int] | None


def resolve_orientation(
    source: Path, listed: Sequence[AnnotatedImage], boxes: Mapping[int, NDArray[np.float64]]
) -> tuple[list[Image], list[str]]:
    """Hold sizes and boxes against the files, and decide which way up each image is meant.

    Args:
        source: the annotation file.
        listed: its images.
        boxes: (n, 4) [x, y, w, h] px by image id; images without boxes may be missing.

    Returns:
        The images with their sizes as decoded, and notes. Where nothing tells, images are upright, as OpenCV and
        browsers show them, and a note says so.

    Raises:
        DataError: images of another size than annotated; boxes that contradict each other about the orientation; an
            image without annotated size that cannot be read.
    """
    headers = [_header(one) for one in listed]
    images: list[Image] = []
    groups: dict[str, list[int]] = {"as stored": [], "as shown": [], "hidden": [], "other": []}
    for n, (one, header) in enumerate(zip(listed, headers, strict=True)):
        size = (one.size or (0, 0)) if header is None else header.upright
        images.append(Image(one.id, one.path, *size))
        if header is not None:  # else decoding will say why
            groups.get(_group(one, header), []).append(n)
    notes: list[str] = []

    def evidence(group: Sequence[int]) -> tuple[int, int]:
        return _evidence([images[n] for n in group], boxes)

    def say(group: Sequence[int], text: str) -> None:
        verb = "image has" if len(group) == 1 else "images have"
        first = images[group[0]].path.name
        notes.append(f"{source}: {len(group):,} of {len(listed):,} {verb} {text} (first: {first})")

    other = groups["other"]
    if other:
        swapped = all(listed[n].size == (images[n].height, images[n].width) for n in other)
        as_file, as_written = evidence(other)
        if not (swapped and as_file > _PLAIN * as_written):
            raise DataError(
                _size_error(source, [listed[n] for n in other], [images[n] for n in other], len(listed))
            )
        say(other, "width and height swapped; their boxes fit the file's own size, which is taken")

    readings = set()
    for name in ("as stored", "as shown"):
        group = groups[name]
        upright, stored = evidence(group)
        if upright > _PLAIN * stored:
            readings.add("upright")
            if name == "as stored":
                say(
                    group,
                    "a width and height as stored, but boxes that fit only the picture turned by its EXIF orientation; "
                    f"they are turned, {_AS_OPENCV}",
                )
        elif stored > _PLAIN * upright:
            readings.add("stored")
            _keep_stored(images, headers, group)
            say(
                group,
                "an EXIF orientation, but boxes that fit only the picture as stored; they are not turned, though "
                "OpenCV, and what reads images with it, would turn them",
            )
        elif upright or stored:
            raise DataError(
                f"{source}: {len(group):,} images have an EXIF orientation; {upright:,} of their boxes fit only the "
                f"picture turned by it, {stored:,} only the picture as stored (first image: "
                f"{images[group[0]].path.name}); save the images upright, and annotate all of them the same way"
            )
        elif group and name == "as stored":
            say(group, f"an EXIF orientation that their boxes neither prove nor disprove; {_DEFAULT}")
        elif group:
            readings.add("upright")
    if groups["hidden"] and readings == {"stored"}:
        _keep_stored(images, headers, groups["hidden"])
    elif groups["hidden"] and "upright" not in readings:
        say(groups["hidden"], f"an EXIF orientation that their size does not show; {_DEFAULT}")
    return images, notes


def _group(one: AnnotatedImage, header: decoding.ImageHeader) -> str:
    if one.size not in {None, header.stored, header.upright}:
        return "other"
    if header.stored != header.upright:
        return "as shown" if one.size == header.upright else "as stored"
    return "hidden" if header.orientation > 1 else ""


def _evidence(images: Sequence[Image], boxes: Mapping[int, NDArray[np.float64]]) -> tuple[int, int]:
    """How many boxes fit only their images' size, and how many only the one with width and height swapped."""
    held = [(boxes[i.id], i.width, i.height) for i in images if len(boxes.get(i.id, ()))]
    if not held:
        return 0, 0
    values = np.concatenate([b for b, _, _ in held])
    widths, heights = (
        np.repeat(np.array([h[side] for h in held], np.float64), [len(h[0]) for h in held]) for side in (1, 2)
    )
    as_is, swapped = boxes_fit(values, widths, heights), boxes_fit(values, heights, widths)
    return int((as_is & ~swapped).sum()), int((swapped & ~as_is).sum())


def _keep_stored(
    images: list[Image], headers: Sequence[decoding.ImageHeader | None], group: Sequence[int]
) -> None:
    for n in group:
        width, height = headers[n].stored  # type: ignore[union-attr]
        images[n] = replace(images[n], width=width, height=height, upright=False)


def _size_error(source: Path, listed: Sequence[AnnotatedImage], images: Sequence[Image], total: int) -> str:
    first, image = listed[0], images[0]
    wide, high = first.size or (0, 0)
    return (
        f"{source}: {len(listed):,} of {total:,} images have another size than annotated (first: {image.path} is "
        f"{image.width} x {image.height} px but annotated as {wide} x {high}); their boxes would not fit: give the "
        "images that were annotated, or correct width and height"
    )


def _header(one: AnnotatedImage) -> decoding.ImageHeader | None:
    try:
        return decoding.read_header(one.path)
    except DataError:
        if one.size is None:
            raise
        return None
