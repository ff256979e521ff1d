"""An Ultralytics detection dataset YAML: image folders or lists, and label files beside them."""

from pathlib import Path
from typing import Any

import yaml

from robustbench_sgdm.datasets import images as decoding
from robustbench_sgdm.datasets.base import Dataset, Image
from robustbench_sgdm.errors import DataError

_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def load(path: Path, split: str = "val", root: Path | None = None) -> Dataset:
    """Read one split of an Ultralytics YAML (`path`, `val`, `names`); nothing is downloaded.

    A relative `path` in it is looked for beside the file, then in `root`.

    Label rows are `class x y w h` (or a polygon, whose box is taken), in shares of the image. Area is
    the box's: AP by size differs a little from ground truth with masks.

    Raises:
        DataError: the YAML, an image or a label file is missing or unsound.
    """
    content = _parse(path, split)
    classes = _names(content["names"], path)
    files = _image_files(path, content, split, root)
    listed: list[Image] = []
    annotations: list[dict[str, Any]] = []
    for number, file in enumerate(files, start=1):
        try:
            width, height = decoding.size(str(file))
        except decoding.FAILURES as error:
            raise DataError(f"{file} is not a readable image ({error})") from error
        listed.append(Image(number, file, width, height))
        for label, box in _labels(_label_file(file), len(classes)):
            x, y, w, h = box
            bbox = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": label,
                    "bbox": bbox,
                    "area": bbox[2] * bbox[3],
                    "iscrowd": 0,
                }
            )
    if not annotations:
        raise DataError(
            f"no label file of {path}'s {split} split holds a box: there is nothing to score against"
        )
    categories = [{"id": i, "name": name} for i, name in enumerate(classes)]
    return Dataset(path.stem, str(path), listed, categories, annotations)


def _parse(path: Path, split: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as YAML: {error}") from error
    if (
        not isinstance(content, dict)
        or not isinstance(content.get("names"), dict | list)
        or not content["names"]
    ):
        raise DataError(f"{path} is not an Ultralytics dataset YAML: 'names' is missing or empty")
    if not content.get(split):
        raise DataError(f"{path} has no {split!r} split")
    return content


def _names(names: dict[Any, Any] | list[Any], path: Path) -> list[str]:
    """Class names in the order of their labels, which count from 0."""
    if isinstance(names, list):
        names = dict(enumerate(names))
    if set(names) != set(range(len(names))):
        raise DataError(f"{path}: the keys of 'names' must be 0 to {len(names) - 1}, each once")
    classes = [str(names[label]) for label in range(len(names))]
    if len(set(classes)) != len(classes):
        raise DataError(f"{path}: 'names' holds a class twice")
    return classes


def _image_files(path: Path, content: dict[str, Any], split: str, root: Path | None) -> list[Path]:
    named = Path(str(content.get("path") or "."))
    base = path.parent / named  # `named` alone if it is absolute
    if root is not None and not base.is_dir():
        base = root / named
    entries = content[split] if isinstance(content[split], list) else [content[split]]
    files: list[Path] = []
    for entry in entries:
        place = base / str(entry)
        if place.is_dir():
            files += sorted(f for f in place.rglob("*") if f.suffix.lower() in _SUFFIXES)
        elif place.is_file() and place.suffix == ".txt":
            lines = [line for line in _lines(place) if line.strip()]
            files += [f if (f := Path(line)).is_absolute() else place.parent / f for line in lines]
        else:
            raise DataError(
                f"{place}, the {split} split of {path}, is neither a folder nor a .txt list; "
                "download the data first (Ultralytics' `download` key is not run)"
            )
    if not files:
        raise DataError(f"the {split} split of {path} holds no image")
    return files


def _label_file(image: Path) -> Path:
    """Ultralytics' rule: the last `images` folder of the path becomes `labels`."""
    parts = list(image.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _labels(path: Path, classes: int) -> list[tuple[int, tuple[float, float, float, float]]]:
    """Class and (x, y, w, h) of the centre-form box in shares of the image; no file means no object."""
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            label, *values = (float(v) for v in line.split())
            box = _box(values)
        except ValueError as error:
            raise DataError(f"{path}:{number}: not a label row ({error})") from error
        if not (label.is_integer() and 0 <= label < classes):
            raise DataError(f"{path}:{number}: class {label:g} is outside 0 to {classes - 1}")
        if not all(-0.01 <= v <= 1.01 for v in box) or min(box[2:]) < 0:
            raise DataError(f"{path}:{number}: {box} is outside [0, 1]; values are shares of the image")
        rows.append((int(label), box))
    return rows


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text ({error}); write it as UTF-8") from error


def _box(values: list[float]) -> tuple[float, float, float, float]:
    if len(values) == 4:
        return (values[0], values[1], values[2], values[3])
    if len(values) < 6 or len(values) % 2:
        raise ValueError(
            f"{len(values)} values after the class; a box has 4, a polygon an even number from 6"
        )
    xs, ys = values[::2], values[1::2]
    return ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, max(xs) - min(xs), max(ys) - min(ys))
