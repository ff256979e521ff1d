"""An Ultralytics detection dataset YAML, read as Ultralytics reads it: the same images, boxes and classes."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import UnidentifiedImageError

from robustbench_sgdm.core.errors import DataError, unknown_name_error
from robustbench_sgdm.core.untrusted_input import (
    make_names_unique,
    read_yaml,
    short_repr,
    validate_class_name,
)
from robustbench_sgdm.datasets import image_decoding as decoding
from robustbench_sgdm.datasets import yolo_files, yolo_labels
from robustbench_sgdm.datasets.base import Dataset, Image
from robustbench_sgdm.datasets.box_checks import check_boxes
from robustbench_sgdm.datasets.yolo_files import printable_path
from robustbench_sgdm.datasets.yolo_labels import Box, InvalidLabelsError

T = TypeVar("T")
_Identity = tuple[int, int] | str

SPLITS = ("train", "val", "test")

_MAX_CLASSES = 100_000
_MAX_REPEATED = 1_000_000  # boxes of images that are named again; of large data sets 20 times their own
_SMALLEST = 10  # px; Ultralytics skips smaller images
_SOME_DECODERS = frozenset({".avif", ".dng", ".heic", ".heif"})
_NOT_TAKEN = frozenset({"GIF", "PPM"})  # read here, but no image for Ultralytics whatever its suffix


def load_ultralytics_yaml(path: Path, split: str = "val", root: Path | None = None) -> Dataset:
    """Read one split of an Ultralytics YAML; nothing is downloaded.

    `path` is the root: absolute, or looked for in the current folder, then in Ultralytics' folder for data sets,
    then beside the file. What the split and its lists name lies in it. Images are numbered from 1 in the order of
    their paths, classes from 0. What Ultralytics skips, an image for its own sake or for its label file's, is
    skipped and noted. As there, headers of images are read, PNGs and JPEGs without an end to the last byte: other
    damage to an image's body is refused when the image is decoded.

    Label rows are `class x y w h`, in shares of the image, a polygon, whose box is taken, or with the keypoints that
    `kpt_shape` announces. Area is the box's: AP by size differs a little from ground truth with masks.

    Args:
        path: the YAML.
        split: `train`, `val` or `test`.
        root: where Ultralytics keeps data sets; as its settings say if None.

    Raises:
        UsageError: another split.
        DataError: the YAML or what it names is missing or unsound, or no box is left.
    """
    if split not in SPLITS:
        raise unknown_name_error("split", split, SPLITS)
    notes: list[str] = []
    content = _parse(path, notes)
    entries = _entries(path, content, split)
    classes = _names(path, content, notes)
    pose = _pose_columns(path, content)
    named = content.get("path") or None
    if named is not None and not isinstance(named, str):
        raise DataError(f"{path}: path {short_repr(named)} is not text; put it in quotes")
    files, found = yolo_files.find_split_images(
        path, named, split, entries, root or yolo_files.datasets_dir()
    )
    if not files:
        raise DataError(
            f"the {split} split of {path} holds no image" + "".join(f"; {text}" for text in found)
        )

    try:
        images, annotations, more = _read(files, len(classes), pose)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    notes += found + more
    if not annotations:
        raise DataError(
            f"no label file of {path}'s {split} split holds a box: there is nothing to score against; "
            + "; ".join(notes)
        )
    categories = [{"id": i, "name": name} for i, name in enumerate(classes)]
    return Dataset(path.stem, str(path), images, categories, annotations, notes)


def _read(
    files: Sequence[str], classes: int, pose: int
) -> tuple[list[Image], list[dict[str, Any]], list[str]]:
    """Images, annotations and notes; what Ultralytics skips is left out."""
    images: list[Image] = []
    annotations: list[dict[str, Any]] = []
    skipped: dict[str, list[str]] = defaultdict(list)
    repeated: list[tuple[int, str]] = []
    boxes_of: list[tuple[str, Image]] = []  # of each annotation
    unlabelled: dict[str, tuple[int, int]] = {}  # by folder of labels: images without a file, images
    places = [_identity(file) for file in files]
    times = Counter(places)
    # Of images that are named again, perhaps by other paths: a line of a list is not to cost what its files do.
    sizes: dict[_Identity, tuple[int, int] | InvalidLabelsError] = {}
    labels: dict[_Identity, tuple[list[Box], int] | InvalidLabelsError | None] = {}
    own = more = 0
    for file, place in zip(files, places, strict=True):
        source = yolo_files.label_file(file)
        again = times[place] > 1
        size = _memoize(sizes, place if again else None, lambda file=file: _size(Path(file)))  # type: ignore[misc]
        if isinstance(size, InvalidLabelsError):
            skipped[size.kind].append(size.example)
            continue
        key = _identity(source) if again else None
        is_known = key in labels
        boxes = _memoize(labels, key, lambda source=source: yolo_labels.read_labels(source, classes, pose))  # type: ignore[misc]
        if isinstance(boxes, InvalidLabelsError):
            skipped[boxes.kind].append(boxes.example)
            continue
        rows, repeats = boxes or ((), 0)
        own, more = own + len(rows) * (not is_known), more + len(rows) * is_known
        if more > max(_MAX_REPEATED, 20 * own):
            raise DataError(
                f"images that are named more than once have more than {_MAX_REPEATED:,} boxes in all (reached at "
                f"{printable_path(file)}); name each image once"
            )
        image = Image(len(images) + 1, Path(file), *size)
        images.append(image)
        folder = source.rpartition(os.sep)[0]
        without, count = unlabelled.get(folder, (0, 0))
        unlabelled[folder] = without + (boxes is None), count + 1
        if repeats:
            repeated.append((repeats, source))
        boxes_of += [(source, image)] * len(rows)
        for category, x, y, w, h in rows:
            width, height = w * image.width, h * image.height
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image.id,
                    "category_id": category,
                    "bbox": [(x - w / 2) * image.width, (y - h / 2) * image.height, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
    notes = _notes(len(files), skipped, repeated, unlabelled)
    notes += _check_boxes_fit(annotations, boxes_of)
    return images, annotations, notes


def _notes(
    count: int,
    skipped: Mapping[str, Sequence[str]],
    repeated: Sequence[tuple[int, str]],
    unlabelled: Mapping[str, tuple[int, int]],
) -> list[str]:
    """What a user should know of a split of `count` images.

    Args:
        count: of images, skipped ones included.
        skipped: examples by the reason.
        repeated: label rows left out, and their file.
        unlabelled: images without a label file, and images, by the folder of labels.
    """
    notes = [
        f"{len(examples):,} of {count:,} images skipped: {kind} (first: {examples[0]})"
        for kind, examples in skipped.items()
    ]
    if repeated:
        notes.append(
            f"label rows that repeat another, left out as in Ultralytics: {sum(again for again, _ in repeated):,} "
            f"(first: {printable_path(repeated[0][1])})"
        )
    notes += [
        f"images that count as without objects because {printable_path(folder)} holds none of their label files: "
        f"{total:,}"
        for folder, (without, total) in unlabelled.items()
        if without == total
    ]
    return notes


def _check_boxes_fit(annotations: Sequence[dict[str, Any]], owners: Sequence[tuple[str, Image]]) -> list[str]:
    """Notes on boxes that do not fit their images; an error where they fit in another reading of the rows."""
    values = np.array([one["bbox"] for one in annotations], np.float64).reshape(-1, 4)
    values[:, :2] += values[:, 2:] / 2
    return check_boxes(
        values,
        np.array([image.width for _, image in owners], np.float64),
        np.array([image.height for _, image in owners], np.float64),
        "labels",
        lambda n: f"in {printable_path(owners[n][0])}",
        form="cxcywh",
        from_shares=True,
    )


def _parse(path: Path, notes: list[str]) -> dict[str, Any]:
    """The YAML, decoded as Ultralytics does: bytes that are not UTF-8 are dropped."""
    content = read_yaml(path, errors="ignore")
    if not isinstance(content, dict):
        raise DataError(f"{path} is not an Ultralytics dataset YAML: it holds no `names:` and no `val:`")
    if repr(content) != repr(read_yaml(path, errors="replace")):
        notes.append(
            f"characters that are not UTF-8 are dropped from the values of {path}, as in Ultralytics: save it as UTF-8"
        )
    content = {key: None if value == "None" else value for key, value in content.items()}
    if "val" not in content and "validation" in content:
        content["val"] = content["validation"]
    if (channels := content.get("channels") or 3) != 3:
        notes.append(f"channels: {short_repr(channels)} is not followed; images are read in colour (RGB)")
    return content


def _entries(path: Path, content: dict[str, Any], split: str) -> list[str]:
    """What a split names."""
    given = content.get(split)
    if not given:
        others = [name for name in SPLITS if content.get(name)]
        instead = (
            f"give --split {' or --split '.join(others)}" if others else f"write `{split}: FOLDER` into it"
        )
        raise DataError(f"{path} has no {split!r} split; {instead}")
    entries: list[Any] = given if isinstance(given, list) else [given]
    if wrong := [entry for entry in entries if not isinstance(entry, str)]:
        raise DataError(
            f"{path}: {split} {short_repr(wrong[0])} is not text; write a folder or a list file, or several as a list"
        )
    return entries


def _names(path: Path, content: dict[str, Any], notes: list[str]) -> tuple[str, ...]:
    """Class names in the order of their labels, which count from 0, each once."""
    ordered = _in_order(path, content)
    for number, name in enumerate(ordered):
        if not isinstance(name, str | int) or isinstance(name, bool):
            notes.append(
                f"class {number} of {path} is called {short_repr(str(name))}, as in Ultralytics, because YAML does "
                "not read "
                "the name as text: put names in quotes"
            )
            break
    try:
        classes = [
            validate_class_name(name if isinstance(name, list | dict) else str(name)) for name in ordered
        ]
    except ValueError as error:
        raise DataError(f"{path}: in 'names' {error}") from error
    unique = make_names_unique(classes)
    for number, (name, own) in enumerate(zip(classes, unique, strict=True)):
        if name != own:
            notes.append(
                f"'names' of {path} holds {short_repr(name)} more than once; class {number} is called "
                f"{short_repr(own)} here and "
                "scored by itself"
            )
            break
    return unique


def _in_order(path: Path, content: dict[str, Any]) -> list[Any]:
    """What stands in `names`, a list or numbered, or `class_0`, ... where there is `nc` alone."""
    names, count = content.get("names"), content.get("nc")
    if count is not None:
        try:
            whole = int(float(count))
        except (TypeError, ValueError, OverflowError):
            whole = -1
        if not 0 <= whole <= _MAX_CLASSES or float(count) != whole:
            raise DataError(
                f"{path}: nc {short_repr(count)} is not a whole number of classes, up to {_MAX_CLASSES:,}"
            )
        if names is None:
            names = [f"class_{number}" for number in range(whole)]
        elif isinstance(names, list | dict) and len(names) != whole:
            raise DataError(f"{path}: nc is {whole}, but 'names' holds {len(names)}; correct one of them")
    if not names:
        raise DataError(f"{path} is not an Ultralytics dataset YAML: 'names' is missing or empty")
    if not isinstance(names, list | dict):
        raise DataError(f"{path}: 'names' is {short_repr(names)}; write a list, or each name with its number")
    if isinstance(names, list):
        return names
    try:
        by_label = {int(key): name for key, name in names.items()}
    except (TypeError, ValueError, OverflowError):
        by_label = {}
    if set(by_label) != set(range(len(names))):
        raise DataError(
            f"{path}: the keys of 'names' must be 0 to {len(names) - 1}, each once, not {short_repr(list(names))}"
        )
    return [by_label[number] for number in range(len(names))]


def _pose_columns(path: Path, content: dict[str, Any]) -> int:
    """Columns of a label row with keypoints, 0 where there are none."""
    shape = content.get("kpt_shape")
    if shape is None:
        return 0
    if not (
        isinstance(shape, list)
        and len(shape) == 2
        and all(type(n) is int and 0 <= n < _MAX_CLASSES for n in shape)
    ):
        raise DataError(
            f"{path}: kpt_shape {short_repr(shape)} is not [keypoints, values of each], such as [17, 3]"
        )
    points, values = shape
    return 5 + points * values if points else 0


def _identity(file: str) -> _Identity:
    """What the system calls a file, by whatever path; the path where there is none."""
    try:
        status = os.stat(file)  # noqa: PTH116
    except (OSError, ValueError):
        return file
    return status.st_dev, status.st_ino


def _memoize(
    cache: dict[_Identity, T | InvalidLabelsError], key: _Identity | None, read: Callable[[], T]
) -> T | InvalidLabelsError:
    """What `read` gives or rejects; under a key it is read once."""
    if key is not None and key in cache:
        return cache[key]
    result: T | InvalidLabelsError
    try:
        result = read()
    except InvalidLabelsError as rejected:
        result = rejected
    if key is not None:
        cache[key] = result
    return result


def _size(path: Path) -> tuple[int, int]:
    """Width and height of an image by its header.

    Raises:
        Rejected: Ultralytics skips it, or it cannot be decoded here.
    """
    try:
        header = decoding.read_header(path)
        # As Ultralytics, which writes a JPEG without an end anew, if it decodes.
        if header.format == "PNG" or not header.is_complete:
            decoding.verify_image(path)
    except DataError as error:
        name, cause = printable_path(str(path)), error.__cause__
        if isinstance(cause, FileNotFoundError | NotADirectoryError):
            raise InvalidLabelsError("the file does not exist", name) from error
        if (suffix := path.suffix.lower()) in _SOME_DECODERS and isinstance(
            cause, UnidentifiedImageError | ImportError
        ):
            raise InvalidLabelsError(
                f"{suffix} cannot be decoded here; convert them to PNG or JPEG", name
            ) from error
        raise InvalidLabelsError("the file cannot be read as an image", str(error)) from error
    width, height = header.upright
    if min(width, height) < _SMALLEST:
        fault = f"the image is under {_SMALLEST} px wide or high"
        raise InvalidLabelsError(fault, f"{printable_path(str(path))}, {width} x {height}")
    if header.format in _NOT_TAKEN:
        fault = f"the file holds a {header.format}, whatever its suffix; convert them to PNG or JPEG"
        raise InvalidLabelsError(fault, printable_path(str(path)))
    return width, height
