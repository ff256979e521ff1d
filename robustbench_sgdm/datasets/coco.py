"""A COCO detection json and its images."""

import operator
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from robustbench_sgdm.datasets.base import Dataset, Image
from robustbench_sgdm.errors import DataError
from robustbench_sgdm.foreign import inside, label, read_json, shown

_EXACT = 2**53  # ids below it, scores can hold exactly


def load(path: Path, images: Path | None = None) -> Dataset:
    """Read a COCO json.

    Args:
        path: the json (`instances_val2017.json`).
        images: the folder that `file_name` is relative to; looked for beside the json when None.

    Raises:
        DataError: not COCO detection ground truth, images absent, or entries that contradict each other.
    """
    content = _parse(path)
    unplaced = [_image(entry, path) for entry in content["images"]]
    folder = images if images is not None else _find_images(path, [str(i.path) for i in unplaced[:20]])
    listed = [Image(i.id, folder / i.path, i.width, i.height) for i in unplaced]
    ids = {i.id for i in listed}
    if len(ids) != len(listed):
        raise DataError(f"{path} lists an image id twice")
    absent = [i.path for i in listed if not i.path.is_file()]
    if absent:
        raise DataError(
            f"{len(absent)} of {len(listed)} images named by {path} are not there (first: {absent[0]}); "
            "give their folder with --images"
        )
    categories = _categories(content["categories"], path)
    known = {c["id"] for c in categories}
    _refuse_repeated(content["annotations"], path)
    annotations = [_annotation(a, n, ids, known, path) for n, a in enumerate(content["annotations"], start=1)]
    return Dataset(
        name=path.stem, source=str(path), images=listed, categories=categories, annotations=annotations
    )


def _parse(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(
            f"{path} is not COCO ground truth: it holds a {type(content).__name__}, not an object; "
            "predictions go elsewhere"
        )
    missing = [k for k in ("images", "annotations", "categories") if not isinstance(content.get(k), list)]
    if missing:
        raise DataError(
            f"{path} is not COCO ground truth: no list {' and no list '.join(map(repr, missing))}"
        )
    for key in ("images", "annotations", "categories"):
        if not content[key]:
            raise DataError(f"{path} has no {key}: there is nothing to score against")
    return content


def _find_images(path: Path, names: Sequence[str]) -> Path:
    """The usual places, best match first: `images/<split>`, `<split>`, `images`, beside the json."""
    split = path.stem.removeprefix("instances_")
    bases = (path.parent.parent, path.parent)
    places = [base / sub for base in bases for sub in (f"images/{split}", split, "images", "")]
    found = max(places, key=lambda p: sum((p / n).is_file() for n in names))
    if not any((found / n).is_file() for n in names):
        looked = ", ".join(str(p) for p in places[:4])
        raise DataError(f"the images of {path} are in none of the usual places ({looked}); give --images")
    return found


def _image(entry: Any, path: Path) -> Image:
    """An image, its path still relative to the image folder."""
    try:
        name, identity = entry["file_name"], entry["id"]
        width, height = int(entry["width"]), int(entry["height"])
        if not isinstance(name, str):
            raise TypeError(f"file_name is {shown(name)}")
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}: an image entry lacks a sound id, file_name, width or height ({shown(error)})"
        ) from error
    try:
        if Path(name).is_absolute() or "\\" in name:
            raise ValueError(f"{shown(name)} leaves its folder; it must be relative, without '..'")
        relative = inside(Path(), name)
    except ValueError as error:
        raise DataError(f"{path}: file_name {error}") from error
    if not isinstance(identity, int) or isinstance(identity, bool) or not 0 <= identity < _EXACT:
        raise DataError(f"{path}: image id {shown(identity)} is not an integer from 0 to 2^53 - 1")
    if not (0 < width < 2**31 and 0 < height < 2**31):
        raise DataError(
            f"{path}: image {identity} has size {width} x {height}; both must lie between 1 and 2^31 - 1"
        )
    return Image(identity, relative, width, height)


def _categories(entries: Iterable[Any], path: Path) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = [
            {"id": operator.index(c["id"]), "name": label(c["name"])} for c in entries
        ]
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(f"{path}: a category lacks a sound id or name ({shown(error)})") from error
    if odd := [c["id"] for c in found if not 0 <= c["id"] < _EXACT]:
        raise DataError(f"{path}: category id {shown(odd[0])} is not from 0 to 2^53 - 1")
    for key in ("id", "name"):
        if len({c[key] for c in found}) != len(found):
            raise DataError(f"{path} lists a category {key} twice")
    return sorted(found, key=lambda c: int(c["id"]))


def _refuse_repeated(annotations: Sequence[Any], path: Path) -> None:
    """pycocotools keeps the last of two annotations with one id; ids may be missing."""
    seen: set[int | str] = set()
    for entry in annotations:
        identity = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(identity, int | str):
            if identity in seen:
                raise DataError(f"{path} lists the annotation id {shown(identity)} twice")
            seen.add(identity)


def _annotation(
    entry: Any, number: int, images: set[int], categories: set[int], path: Path
) -> dict[str, Any]:
    """One annotation with every field scores need; `area` falls back to w * h and `iscrowd` to 0."""
    try:
        image, category = operator.index(entry["image_id"]), operator.index(entry["category_id"])
        x, y, w, h = (float(v) for v in entry["bbox"])
        area = float(entry.get("area", w * h))
        crowd = int(bool(int(entry.get("iscrowd", 0))))
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}: annotation {number} lacks a sound image_id, category_id or bbox ({shown(error)})"
        ) from error
    finite = all(abs(v) < 1e9 for v in (x, y, w, h)) and abs(area) < 1e18  # NaN fails too
    if not finite or w < 0 or h < 0:
        raise DataError(
            f"{path}: annotation {number} has bbox {shown(entry['bbox'])}; it must be finite [x, y, w, h], w and h >= 0"
        )
    if image not in images:
        raise DataError(
            f"{path}: annotation {number} belongs to image {shown(image)}, which the file does not list"
        )
    if category not in categories:
        raise DataError(
            f"{path}: annotation {number} has category {shown(category)}, which the file does not list"
        )
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [x, y, w, h],
        "area": area,
        "iscrowd": crowd,
    }
