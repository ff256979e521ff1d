"""A COCO detection json and its images."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.untrusted_input import (
    normalize_name,
    read_json,
    short_repr,
    validate_class_name,
)
from robustbench_sgdm.datasets.base import Dataset, Image
from robustbench_sgdm.datasets.box_checks import check_boxes
from robustbench_sgdm.datasets.image_search import FileName, find_images, parse_name
from robustbench_sgdm.datasets.orientation import AnnotatedImage, resolve_orientation

_EXACT = 2**53  # ids below it, scores can hold exactly
_LISTS = ("images", "annotations", "categories")


def load_coco(path: Path, images: Path | None = None) -> Dataset:
    """Read a COCO json.

    What is written otherwise than COCO writes it, but plainly, is read: numbers as text, null for what has a default
    (`area`: w * h, `iscrowd`: 0, `width` and `height`: those of the file), paths of other systems. What is left out or
    looks wrong is counted in the notes.

    Args:
        path: the json (`instances_val2017.json`).
        images: the folder that `file_name` is relative to; looked for beside the json when None.

    Raises:
        DataError: not COCO detection ground truth, images absent, or entries that contradict each other, their images
            or the format.
    """
    content = _parse(path)
    tally = _IssueCounter(path)
    entries = _images(content["images"], path, tally)
    files, notes = find_images(path, [entry.name for entry in entries], images)
    for name, file in _repeated(entries, files):
        tally.add("images whose file another image has too, which are scored apart", f"{name}, {file.name}")
    truth = _Truth.of(content, {entry.id for entry in entries}, path, tally)
    boxes: dict[int, list[list[float]]] = defaultdict(list)
    for annotation in truth.annotations:
        boxes[annotation["image_id"]].append(annotation["bbox"])
    listed = [AnnotatedImage(e.id, file, e.size) for e, file in zip(entries, files, strict=True)]
    placed, turned = resolve_orientation(path, listed, {i: np.array(b, np.float64) for i, b in boxes.items()})
    odd = _check_boxes_fit(path, truth, {image.id: image for image in placed})
    return Dataset(
        name=path.stem,
        source=str(path),
        images=placed,
        categories=truth.categories,
        annotations=truth.annotations,
        notes=[*notes, *turned, *tally.notes(), *odd],
        annotation_file=path,
        file_category_ids=truth.file_category_ids,
    )


def describe_copy(dataset: Dataset, names: Mapping[int, str]) -> dict[str, Any]:
    """The COCO json of a copy of a data set, with every field of the json that the data set was read from.

    Entries of other images are left out, `file_name` is replaced, and `width` and `height` are those of the images as
    decoded. What the json leaves to a default (`id`, `bbox`, `area`, `iscrowd`) is written out. A data set of another
    source has the fields that scores need: its images' numbers from 1, in order, and its class numbers from 0, as ids.

    Args:
        dataset: the images that were copied, and their ground truth.
        names: the copies' file names by image id.

    Raises:
        DataError: the json has changed since the data set was read.
    """
    path = dataset.annotation_file
    if path is None:
        content = dataset.to_coco()
        content["images"] = [image | {"file_name": names[image["id"]]} for image in content["images"]]
        content["categories"] = [{**category, "supercategory": "none"} for category in content["categories"]]
        return content
    content = _parse(path)
    images = {image.id: image for image in dataset.images}
    entries = {_image(e, n, path).id: e for n, e in enumerate(content["images"], 1)}
    truth = _Truth.of(content, set(entries), path, _IssueCounter(path))
    rows = [
        (raw, read)
        for raw, read in zip(truth.raw, truth.annotations, strict=True)
        if read["image_id"] in images
    ]
    if (
        not images.keys() <= entries.keys()
        or truth.categories != list(dataset.categories)
        or [read for _, read in rows] != list(dataset.annotations)
    ):
        raise DataError(f"{path} has changed since it was read; start again")
    free = count(1 + max((i for raw, _ in rows if isinstance(i := _annotation_id(raw), int)), default=0))
    return content | {
        "images": [
            entries[image.id] | {"file_name": names[image.id], "width": image.width, "height": image.height}
            for image in dataset.images
        ],
        "annotations": [_completed(raw, read, free) for raw, read in rows],
    }


def _completed(raw: Mapping[str, Any], read: Mapping[str, Any], free: Iterator[int]) -> dict[str, Any]:
    """An annotation as written, with what it leaves to a default."""
    left = {key: read[key] for key in ("bbox", "area", "iscrowd") if _absent(raw.get(key)) or raw[key] == []}
    if _annotation_id(raw) is None:
        left["id"] = next(free)
    return {**raw, **left}


def _parse(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if isinstance(content, dict) and all(isinstance(content.get(key), list) for key in _LISTS):
        for key in _LISTS:
            if not content[key]:
                raise DataError(f"{path} has no {key}: there is nothing to score against")
        if any(isinstance(a, dict) and "segments_info" in a for a in content["annotations"][:1]):
            raise DataError(
                f"{path} holds COCO panoptic segments, not boxes; give the instances json of the same images"
            )
        return content
    raise DataError(f"{path} is not COCO ground truth: {_what_else(content)}")


def _what_else(content: Any) -> str:
    """What a json is that is no COCO ground truth, as far as its keys tell, and what to do."""
    if isinstance(content, list):
        first = content[0] if content and isinstance(content[0], dict) else {}
        if {"image_id", "score"} <= first.keys():
            return "it holds predictions (COCO results); give them to `robustbench score`, and the ground truth to --data"
        if "data" in first and ("annotations" in first or "completions" in first):
            return "it is Label Studio's own format; export as COCO"
        if "image" in first and "annotations" in first:
            return "it looks like CreateML's format; export as COCO"
        return "it holds a list, not an object with images, annotations and categories"
    if not isinstance(content, dict):
        return f"it holds a {type(content).__name__}, not an object with images, annotations and categories"
    if "shapes" in content and "imagePath" in content:
        return "it is LabelMe's format, of one image; convert the folder to COCO"
    if "_via_img_metadata" in content or any(
        isinstance(v, dict) and "regions" in v for v in content.values()
    ):
        return "it is VGG Image Annotator's format; export as COCO"
    missing = [key for key in _LISTS if not isinstance(content.get(key), list)]
    text = f"no list {' and no list '.join(map(repr, missing))}"
    annotations = content.get("annotations")
    first = annotations[0] if isinstance(annotations, list) and annotations else {}
    if isinstance(first, dict) and "caption" in first:
        return f"{text}; it holds captions, which have no boxes: give the instances json of the same images"
    if missing == ["annotations"]:
        return f"{text}; it names images only, as COCO does for its test images"
    return text


class _IssueCounter:
    """Counts what is read otherwise than it is written, or left out, with the first example."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts: dict[str, tuple[int, str]] = {}

    def add(self, what: str, example: str) -> None:
        """One more of these."""
        number, first = self._counts.get(what, (0, example))
        self._counts[what] = (number + 1, first)

    def notes(self) -> list[str]:
        """A sentence each."""
        return [
            f"{self._path}: {what}: {number:,} (first: {first})"
            for what, (number, first) in self._counts.items()
        ]


@dataclass(frozen=True, slots=True)
class _Entry:
    """An image entry: id, file name, and size in pixels if it has one."""

    id: int
    name: FileName
    size: tuple[int, int] | None


def _image(entry: Any, number: int, path: Path) -> _Entry:
    where = f"{path}: image {number}"
    if not isinstance(entry, dict):
        raise DataError(f"{where} is {short_repr(entry)}, not an object with id and file_name")
    identity = _identity(entry, "id", where)
    written = entry.get("file_name")
    if written is None:  # LVIS has addresses alone
        written = entry.get("coco_url")
    if not isinstance(written, str):
        raise DataError(f"{where} has file_name {short_repr(written)}; it must name the image's file")
    try:
        name = parse_name(written)
    except ValueError as error:
        raise DataError(f"{where}: file_name {error}") from error
    sides = [entry.get(key) for key in ("width", "height")]
    if any(map(_absent, sides)):
        return _Entry(identity, name, None)
    try:
        width, height = map(_parse_whole, sides)
    except ValueError as error:
        raise DataError(f"{where} has width or height {error}; give pixels, or leave both out") from error
    if not (0 < width < 2**31 and 0 < height < 2**31):
        raise DataError(
            f"{where} (id {identity}) has size {width} x {height}; both must lie between 1 and 2^31 - 1"
        )
    return _Entry(identity, name, (width, height))


def _repeated(entries: Sequence[_Entry], files: Sequence[Path]) -> list[tuple[str, Path]]:
    """Entries whose file an earlier one has."""
    seen: set[Path] = set()
    found = []
    for entry, file in zip(entries, files, strict=True):
        if file in seen:
            found.append((f"image {entry.id}", file))
        seen.add(file)
    return found


@dataclass
class _Truth:
    """Categories and annotations, checked against each other; `raw` are the annotations as the json has them."""

    categories: list[dict[str, Any]]
    file_category_ids: list[int]
    annotations: list[dict[str, Any]]
    raw: list[Any]

    @classmethod
    def of(cls, content: Mapping[str, Any], images: set[int], path: Path, tally: _IssueCounter) -> "_Truth":
        """Of a json's lists; `images` are the ids that it lists."""
        ids = dict.fromkeys(
            _identity(c, "id", f"{path}: category {n}") for n, c in enumerate(content["categories"], 1)
        )
        raw, annotations = [], []
        for number, entry in enumerate(content["annotations"], 1):
            where = f"{path}: annotation {number}"
            if not isinstance(entry, dict):
                raise DataError(
                    f"{where} is {short_repr(entry)}, not an object with image_id, category_id and bbox"
                )
            # Who takes a part of the images often leaves all annotations; pycocotools passes over them too.
            if (image := _identity(entry, "image_id", where)) not in images:
                tally.add("annotations left out, of images that the file does not list", f"image_id {image}")
                continue
            raw.append(entry)
            annotations.append(_annotation(entry, number, image, ids, path, tally))
        if not annotations:
            raise DataError(
                f"{path}: no annotation is of an image that it lists; there is nothing to score against"
            )
        _count_repeated(raw, annotations, tally)
        used = {a["category_id"] for a in annotations}
        categories = _categories(content["categories"], used, path, tally)
        known = {category["id"] for category in categories}
        return cls(categories, [i for i in ids if i in known], annotations, raw)


def _categories(
    entries: Sequence[Any], used: set[int], path: Path, tally: _IssueCounter
) -> list[dict[str, Any]]:
    """Those that boxes use, and those without boxes whose name is no other's.

    Uniqueness is asked only of what is used: Roboflow's exports begin with a root that no box has, often called as a
    class is.
    """
    by_id: dict[int, str] = {}
    for number, entry in enumerate(entries, 1):
        identity = _identity(entry, "id", f"{path}: category {number}")
        try:
            name = validate_class_name(entry.get("name"))
        except ValueError as error:
            if identity in used:
                raise DataError(f"{path}: category {identity} has no usable name: {error}") from error
            tally.add("categories left out, which have no box and no name", f"id {identity}")
            continue
        if identity in by_id and normalize_name(by_id[identity]) != normalize_name(name):
            raise DataError(
                f"{path} lists category id {identity} twice, as {short_repr(by_id[identity])} and as {short_repr(name)}; "
                "give each class an id of its own"
            )
        if identity in by_id:
            tally.add("categories listed twice, of which one is kept", f"{short_repr(name)}, id {identity}")
        by_id.setdefault(identity, name)
    by_name: dict[str, list[int]] = defaultdict(list)
    for identity, name in by_id.items():
        by_name[name].append(identity)
    for same in by_name.values():
        boxed = [i for i in same if i in used]
        if len(boxed) > 1:
            raise DataError(
                f"{path}: categories {boxed[0]} and {boxed[1]} are both called {short_repr(by_id[boxed[0]])}, and "
                "both have "
                "boxes; classes are matched by name: rename one, or give the boxes of both one id"
            )
        for identity in set(same) - {(boxed or same)[-1]}:
            tally.add(
                "categories left out, which have no box and the name of another one",
                f"{short_repr(by_id[identity])}, id {identity}",
            )
            del by_id[identity]
    return [{"id": identity, "name": by_id[identity]} for identity in sorted(by_id)]


def _annotation(
    entry: dict[str, Any],
    number: int,
    image: int,
    categories: Collection[int],
    path: Path,
    tally: _IssueCounter,
) -> dict[str, Any]:
    """One annotation with every field scores need; `area` falls back to w * h and `iscrowd` to 0."""
    where = f"{path}: annotation {number}"
    category = _identity(entry, "category_id", where)
    if category not in categories:
        raise DataError(
            f"{where} has category_id {category}, which the file does not list (its {len(categories):,} ids lie from "
            f"{min(categories)} to {max(categories)}); list it, or leave the annotation out"
        )
    box = _box(entry, where, tally)
    if not all(abs(v) < 1e9 for v in box):  # NaN fails too
        raise DataError(
            f"{where} has bbox {short_repr(box)}; it must be finite [x, y, width, height] in pixels"
        )
    area = full = box[2] * box[3]
    if not _absent(entry.get("area")):
        area = _number(entry["area"], f"{where} has area")
        if not 0 <= area < 1e18:
            raise DataError(f"{where} has area {short_repr(entry['area'])}; it must be px^2, from 0")
    if full >= 4 and not min(1, full / 100) <= area <= 4 * full:
        tally.add(
            "annotations whose area cannot be that of their box, though AP by size goes by it",
            where.rpartition(": ")[2],
        )
    crowd = entry.get("iscrowd")
    try:
        crowd = (
            0 if _absent(crowd) else int(bool(_parse_whole(int(crowd) if isinstance(crowd, bool) else crowd)))
        )
    except ValueError as error:
        raise DataError(f"{where} has iscrowd {error}; it must be 0 or 1") from error
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": area,
        "iscrowd": crowd,
    }


def _box(entry: Mapping[str, Any], where: str, tally: _IssueCounter) -> list[float]:
    """The box; that of the polygons where there is none."""
    box, outlines = entry.get("bbox"), entry.get("segmentation")
    if box is None or box == []:
        if not outlines:
            raise DataError(
                f"{where} has no bbox and no segmentation; every annotation needs [x, y, width, height]"
            )
        if not isinstance(outlines, list):
            raise DataError(
                f"{where} has no bbox, and its segmentation is not a polygon; add the box of its mask as bbox"
            )
        flat = [outlines] if isinstance(outlines[0], int | float) else outlines
        try:
            points = [[float(v) for v in outline] for outline in flat]
            xs, ys = ([v for outline in points for v in outline[side::2]] for side in (0, 1))
            box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"{where} has no bbox and a segmentation that is not a polygon ({short_repr(error)})"
            ) from error
        tally.add(
            "annotations without bbox, for which that of their polygons is taken", where.rpartition(": ")[2]
        )
    if not isinstance(box, list) or len(box) != 4:
        values = f" of {len(box)} values" if isinstance(box, list) else ""
        raise DataError(f"{where} has bbox {short_repr(box)}{values}; it must be [x, y, width, height]")
    return [_number(v, f"{where} has bbox") for v in box]


def _check_boxes_fit(path: Path, truth: _Truth, images: Mapping[int, Image]) -> list[str]:
    """Notes on boxes that do not fit their images; where most do not, an error."""
    owners = [images[a["image_id"]] for a in truth.annotations]
    return check_boxes(
        np.array([a["bbox"] for a in truth.annotations], np.float64),
        np.array([image.width for image in owners], np.float64),
        np.array([image.height for image in owners], np.float64),
        str(path),
        lambda n: f"annotation {n + 1}, of {owners[n].path.name}",
    )


def _identity(entry: Any, key: str, where: str) -> int:
    """A whole number from 0 that scores hold exactly; as text or 12.0 too."""
    value = entry.get(key) if isinstance(entry, dict) else None
    try:
        whole = _parse_whole(value)
    except ValueError:
        whole = -1
    if not 0 <= whole < _EXACT:
        raise DataError(f"{where} has {key} {short_repr(value)}, which is not an integer from 0 to 2^53 - 1")
    return whole


def _annotation_id(annotation: Any) -> Any:
    """An annotation's own id, which nothing but other tools need; None where there is none."""
    value = annotation.get("id") if isinstance(annotation, dict) else None
    return value if isinstance(value, int | str) else None


def _images(listed: Sequence[Any], path: Path, tally: _IssueCounter) -> list["_Entry"]:
    """Image entries, each id once: pycocotools keeps one of two with the same id."""
    by_id: dict[int, tuple[int, _Entry]] = {}
    for number, raw in enumerate(listed, 1):
        entry = _image(raw, number, path)
        earlier, first = by_id.setdefault(entry.id, (number, entry))
        if first != entry:
            raise DataError(
                f"{path} lists the image id {entry.id} twice (images {earlier:,} and {number:,} of the list, "
                f"{short_repr(first.name.text)} and {short_repr(entry.name.text)}); give each an id of its own"
            )
        if earlier != number:
            tally.add("images listed twice, of which one is kept", f"id {entry.id}")
    return [entry for _, entry in by_id.values()]


def _count_repeated(
    raw: Sequence[Any], annotations: Sequence[Mapping[str, Any]], tally: _IssueCounter
) -> None:
    """Say which annotations repeat an id, which nothing here uses, or a whole box, and whether most are crowds."""
    ids: set[Any] = set()
    boxes: set[tuple[Any, ...]] = set()
    for number, (written, read) in enumerate(zip(raw, annotations, strict=True), 1):
        identity = _annotation_id(written)
        box = (read["image_id"], read["category_id"], read["iscrowd"], *read["bbox"])
        if box in boxes:
            tally.add("annotations that repeat another's box, scored as they are", f"annotation {number}")
        elif identity in ids:
            tally.add(
                "annotations with the id of another one, scored all the same (pycocotools would take the last for both)",
                f"annotation {number}",
            )
        boxes.add(box)
        ids.update(() if identity is None else (identity,))
    crowds = [a["id"] for a in annotations if a["iscrowd"]]
    if 2 * len(crowds) > len(annotations):
        for number in crowds:
            tally.add(
                "annotations with iscrowd 1, most of all: AP leaves crowds out",
                f"annotation {number}",
            )


def _absent(value: Any) -> bool:
    """Null, or the NaN that pandas writes for it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _parse_whole(value: Any) -> int:
    """A whole number, as 12, 12.0 or "12".

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and len(value) < 20 and value.strip().isdecimal():
        return int(value)
    raise ValueError(f"{short_repr(value)}, which is not a whole number")


def _number(value: Any, where: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where} {short_repr(value)}; it must be numbers") from error
