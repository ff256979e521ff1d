"""An Ultralytics detection dataset YAML: image folders or lists, and label files beside them."""

from pathlib import Path
from typing import Any

from robustbench_sgdm.datasets import images as decoding
from robustbench_sgdm.datasets.base import Dataset, Image
from robustbench_sgdm.errors import DataError
from robustbench_sgdm.foreign import inside, label, read_yaml, shown

_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def load(path: Path, split: str = "val", root: Path | None = None) -> Dataset:
    """Read one split of an Ultralytics YAML (`path`, `val`, `names`); nothing is downloaded.

    `path` is the root, absolute or looked for beside the file, then in `root`; what the split and its lists name
    lies in it. An entry that begins with `../`, as Roboflow writes them, is taken from the root.

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
        width, height = decoding.size(file)
        listed.append(Image(number, file, width, height))
        for category, box in _labels(_label_file(file), len(classes)):
            x, y, w, h = box
            bbox = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category,
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
    content = read_yaml(path)
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
    try:
        classes = [label(names[number]) for number in range(len(names))]
    except ValueError as error:
        raise DataError(f"{path}: in 'names' {error}") from error
    if len(set(classes)) != len(classes):
        raise DataError(f"{path}: 'names' holds a class twice")
    return classes


def _image_files(path: Path, content: dict[str, Any], split: str, root: Path | None) -> list[Path]:
    base = _root(path, content, root)
    entries = content[split] if isinstance(content[split], list) else [content[split]]
    files: list[Path] = []
    for entry in entries:
        place = _inside(base, str(entry).removeprefix("../"), path)
        if place.is_dir():
            files += sorted(f for f in place.rglob("*") if f.suffix.lower() in _SUFFIXES)
        elif place.is_file() and place.suffix == ".txt":
            files += [_listed(line, place, base) for line in _lines(place) if line.strip()]
        else:
            raise DataError(
                f"{place}, the {split} split of {path}, is neither a folder nor a .txt list; "
                "download the data first (Ultralytics' `download` key is not run)"
            )
    if not files:
        raise DataError(f"the {split} split of {path} holds no image")
    return files


def _root(path: Path, content: dict[str, Any], root: Path | None) -> Path:
    """The folder that `path` names: what the user who gives the file says yes to."""
    named = str(content.get("path") or ".")
    base = path.parent / named  # `named` alone if it is absolute
    try:
        base = base if base.is_dir() or root is None else root / named
        whole = base.resolve() == Path(base.resolve().anchor)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: path {shown(named)} cannot be looked for: {str(error)[:100]}") from error
    if whole:
        raise DataError(f"{path}: path {shown(named)} is the whole file system; name the folder of the data")
    return base


def _inside(base: Path, name: str, path: Path) -> Path:
    try:
        return inside(base, name)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _listed(line: str, place: Path, base: Path) -> Path:
    """An image of a list: in the list's own folder where its path is relative, in the root in any case."""
    return _inside(base if Path(line).is_absolute() else place.parent, line, place)


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
            category, *values = (float(v) for v in line.split())
            box = _box(values)
        except ValueError as error:
            raise DataError(f"{path}:{number}: not a label row ({error})") from error
        if not (category.is_integer() and 0 <= category < classes):
            raise DataError(f"{path}:{number}: class {category:g} is outside 0 to {classes - 1}")
        if not all(-0.01 <= v <= 1.01 for v in box) or min(box[2:]) < 0:
            raise DataError(f"{path}:{number}: {box} is outside [0, 1]; values are shares of the image")
        rows.append((int(category), box))
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
