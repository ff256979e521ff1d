"""Predictions made elsewhere: COCO results json, checked against the data set that they are of."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from robustbench_sgdm.datasets import Dataset
from robustbench_sgdm.errors import DataError
from robustbench_sgdm.foreign import read_json, shown

COLUMNS = ("image_id", "category_id", "score", "x1", "y1", "x2", "y2")


def read_predictions(path: Path, dataset: Dataset) -> pd.DataFrame:
    """Read `[{image_id, category_id, bbox [x, y, w, h], score}, ...]`.

    Args:
        path: the json; an empty list is a detector that found nothing.
        dataset: whose images and categories they must be of.

    Returns:
        Columns `COLUMNS`, px, in the order of the data set's images and then of the file.

    Raises:
        DataError: no such list, or an entry that is damaged, of an unknown image or class, of NaN score, of
            negative size, of a score outside [0, 1], or there twice; it names the file and the entry.
    """
    place = {image.id: n for n, image in enumerate(dataset.images)}
    known = {int(c["id"]) for c in dataset.categories}
    seen: dict[tuple[Any, ...], int] = {}
    rows = []
    for number, entry in enumerate(_entries(path), 1):
        row = _row(entry, f"{path}: prediction {number}")
        if row[0] not in place:
            raise DataError(
                f"{path}: prediction {number} is of image {shown(row[0])}, which {dataset.name} does not have"
            )
        if row[1] not in known:
            raise DataError(
                f"{path}: prediction {number} is of category {shown(row[1])}, which {dataset.name} does not have; COCO's "
                "80 classes have ids from 1 to 90, with gaps"
            )
        if row in seen:
            raise DataError(
                f"{path}: prediction {number} is the same as {seen[row]}; a detection counts once"
            )
        seen[row] = number
        rows.append(row)
    rows.sort(key=lambda row: place[row[0]])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _entries(path: Path) -> Sequence[Any]:
    content = read_json(path)
    if not isinstance(content, list):
        raise DataError(
            f"{path} holds no COCO results: it is a {type(content).__name__}, not a list of "
            "{image_id, category_id, bbox, score}"
        )
    return content


def _row(entry: Any, where: str) -> tuple[int, int, float, float, float, float, float]:
    try:
        image, category, score = entry["image_id"], entry["category_id"], float(entry["score"])
        x, y, w, h = (float(v) for v in entry["bbox"])
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise DataError(
            f"{where} lacks a sound image_id, category_id, bbox or score ({shown(error)})"
        ) from error
    if not all(isinstance(v, int) and not isinstance(v, bool) for v in (image, category)):
        raise DataError(
            f"{where} has image_id {shown(image)} and category_id {shown(category)}; both must be integers"
        )
    if not (math.isfinite(score) and all(abs(v) < 1e9 for v in (x, y, w, h))):
        raise DataError(f"{where} has score {score} and bbox {[x, y, w, h]}; all must be finite numbers")
    if not 0 <= score <= 1:
        raise DataError(f"{where} has score {score}; a confidence must lie in [0, 1]")
    if w < 0 or h < 0:
        raise DataError(f"{where} has bbox {[x, y, w, h]} of negative size; it must be [x, y, width, height]")
    return image, category, score, x, y, x + w, y + h
