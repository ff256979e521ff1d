"""YOLO label files: boxes, polygons and poses, accepted and rejected row by row as Ultralytics does."""

import os
import stat
from array import array
from collections.abc import Sequence

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.untrusted_input import short_repr

Box = tuple[int, float, float, float, float]
"""Class, then x and y of the centre, width and height, in shares of the image."""

_MAX_BYTES = 64 * 2**20
# Ultralytics compares in single precision; these are its bounds as it sees them.
_LOW, _HIGH = array("f", [-0.01, 1.01])


class InvalidLabelsError(Exception):
    """A label file that Ultralytics takes for corrupt; it skips the image.

    Attributes:
        kind: what is wrong and what to write instead, the same text for all files of this fault.
        example: the place and the value.
    """

    def __init__(self, kind: str, example: str) -> None:
        super().__init__(kind, example)
        self.kind, self.example = kind, example


def read_labels(path: str, classes: int, pose: int = 0) -> tuple[list[Box], int] | None:
    """The boxes of one label file.

    Args:
        path: the file.
        classes: how many classes there are.
        pose: columns of a row with keypoints, which are dropped; 0 where there are none.

    Returns:
        Boxes in the order of the file, and how many rows were left out because they repeat another; None if there
        is no such file.

    Raises:
        Rejected: Ultralytics would skip the image.
        DataError: the file is larger than a label file can be.
    """
    try:
        status = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):  # a pipe would keep its reader waiting
        return None
    if status.st_size > _MAX_BYTES:
        raise DataError(f"{path} has {status.st_size:,} bytes; a label file may have {_MAX_BYTES:,}")
    try:
        with open(path, "rb") as file:  # noqa: PTH123  pathlib is slower, and there is one for each image
            text = file.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidLabelsError("the label file is not UTF-8 text", f"{path}: {error}") from error
    except OSError as error:
        raise InvalidLabelsError("the label file cannot be read", f"{path}: {error.strerror}") from error
    lines = text.removeprefix("\ufeff").splitlines()
    rows = [(number, row) for number, line in enumerate(lines, start=1) if (row := line.split())]
    return _boxes(path, rows, classes, pose)


def _boxes(
    path: str, rows: Sequence[tuple[int, list[str]]], classes: int, pose: int
) -> tuple[list[Box], int]:
    if pose:
        rows = [(number, row[:5] if len(row) == pose else row) for number, row in rows]
    polygons = any(len(row) > 6 for _, row in rows)
    boxes: list[Box] = []
    seen: set[tuple[float, ...]] = set()
    for number, row in rows:
        if fault := _wrong_length(len(row), polygons, pose):
            raise InvalidLabelsError(fault, f"{path}, row {number} has {len(row)}")
        try:
            category, *values = map(float, row)
        except ValueError as error:
            fault = "a label row holds something that is not a number"
            raise InvalidLabelsError(fault, f"{path}, row {number}: {error}") from error
        single = array("f", (category, *values))
        box, checked = (
            (_bounding_box(values), _bounding_box(single[1:])) if polygons else (values, single[1:])
        )
        if fault := _out_of_range(single[0], checked, classes):
            raise InvalidLabelsError(fault, f"{path}, row {number}: {short_repr(' '.join(row))}")
        if (key := tuple(single)) not in seen:
            seen.add(key)
            boxes.append((int(category), box[0], box[1], box[2], box[3]))
    return boxes, len(rows) - len(boxes)


def _wrong_length(columns: int, polygons: bool, pose: int) -> str:
    """What is wrong with a row of so many columns, in a file with polygons or without; empty if nothing."""
    if polygons and columns == 5:
        return "one label file mixes rows of boxes and of polygons; write all rows alike"
    if (columns % 2 == 0 or columns < 3) if polygons else columns != 5:
        poses = f", {pose} with keypoints (kpt_shape)" if pose else ""
        return f"a label row needs 5 columns (class x y w h){poses}, or an odd number from 7 on as a polygon"
    return ""


def _out_of_range(category: float, box: Sequence[float], classes: int) -> str:
    """What is wrong with a row's numbers; empty if nothing. The comparisons are such that NaN is wrong."""
    x, y, w, h = box
    if not (x <= _HIGH and y <= _HIGH and w <= _HIGH and h <= _HIGH):
        return "a coordinate is above 1; write shares of the image, not pixels"
    if not (x >= _LOW and y >= _LOW and w >= 0 and h >= 0):
        return "a coordinate or a size is negative"
    if not (category >= 0 and category % 1 == 0):
        return "a class is not a whole number from 0 on"
    if category >= classes:
        return f"a class is above {classes - 1}, the last that the YAML names"
    return ""


def _bounding_box(points: Sequence[float]) -> Sequence[float]:
    """The box around a polygon, in the precision of its points."""
    xs, ys = points[::2], points[1::2]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    box = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    return array("f", box) if isinstance(points, array) else box
