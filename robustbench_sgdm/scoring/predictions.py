"""Predictions made elsewhere, COCO results json or mmdetection's pickles, checked against the data set they are of."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_sgdm.config import CategoryIds, ImageIds
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.untrusted_input import read_json, short_list, short_repr, validate_class_name
from robustbench_sgdm.datasets import Dataset
from robustbench_sgdm.datasets.box_checks import check_boxes
from robustbench_sgdm.scoring.category_ids import alternative_readings, match_categories
from robustbench_sgdm.scoring.image_ids import match_images
from robustbench_sgdm.scoring.mmdetection import label_categories, read_mmdetection
from robustbench_sgdm.scoring.overlap_check import AlternativeReadings, OverlapCheck
from robustbench_sgdm.scoring.references import FileReferences, Reference, parse_whole_number

PICKLE_SUFFIXES = frozenset({".pkl", ".pickle"})
"""Of files that are read as mmdetection's."""

COLUMNS = ("image_id", "category_id", "score", "x1", "y1", "x2", "y2")

_KEPT = 3_000_000  # predictions of parsed files that are kept until they are asked for
_ROUNDING = 1e-6  # by which single precision may leave [0, 1]
_CUT = 0.05  # a lowest score that only a threshold explains
_SOME = 20  # predictions from which a lowest score says something
_EMPTY = 0.1  # share of images without a prediction that is worth a word
_SAME_HASH = 1000
_SAID = 3  # files that a kind of note names


def read_predictions(path: Path, dataset: Dataset) -> pd.DataFrame:
    """The predictions of one file; see `Predictions`."""
    return Predictions([path], dataset).read(path)


class Predictions:
    """Files of `[{image_id, category_id, bbox [x, y, w, h], score}, ...]`, each of one detector on one data set.

    `file_name` finds the image where there is one, whatever `image_id` says in the manner of Ultralytics; else
    `image_id` is the data set's id, or the stem of the image's file. `category_id` is the data set's; for a dataset
    YAML, whose classes have no ids, it is a label counted from 0 or from 1. What cannot be known is refused. Files of
    `PICKLE_SUFFIXES` are mmdetection's test results, whose labels are places in `label_categories`.

    Args:
        paths: the files; an empty list in one is a detector that found nothing.
        dataset: whose images and categories they must be of.
        image_ids: see `ImageIds`.
        category_ids: see `CategoryIds`.

    Raises:
        DataError: no such list, or an entry that is damaged, of an unknown image or class, of a score outside [0, 1],
            or of boxes that cannot be pixels of its image; it names the file and the entry.
        UsageError: a numbering that the data set cannot have.

    Attributes:
        notes: what a user should know of how they were read: one sentence each.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        dataset: Dataset,
        *,
        image_ids: ImageIds = "auto",
        category_ids: CategoryIds = "auto",
    ) -> None:
        self._dataset = dataset
        self._order = {image.id: place for place, image in enumerate(dataset.images)}
        self._kept: dict[Path, _File] = {}
        self._references: dict[Path, FileReferences] = {}
        free = _KEPT
        for path in dict.fromkeys(paths):
            file = self._parse(path)
            self._references[path] = file.references()
            if len(file.scores) <= free:
                self._kept[path] = file
                free -= len(file.scores)
        references = list(self._references.values())
        images = match_images(references, dataset, image_ids)
        self._images = images.ids
        # Labels of mmdetection are places among the classes, whatever the ids of other files mean.
        numbered = [file for file in references if not _is_pickle(file.path)]
        labels = _label_references(dataset) if len(numbered) < len(references) else {}
        categories, notes = match_categories(numbered, dataset, category_ids, images)
        self._categories = {**categories, **labels}
        self.notes = [*images.notes, *notes, *_label_notes(references, dataset)]
        self._check(lambda: alternative_readings(numbered, dataset) if category_ids == "auto" else [])

    def reference_digest(self, path: Path) -> str:
        """A digest of the images and categories that a file's references mean; equal bytes may mean others."""
        references = self._references[path]
        images = [[*r, self._images[r]] for r in references.images]
        categories = [[*r, self._categories[r]] for r in references.categories]
        return hashlib.sha256(json.dumps([images, categories]).encode()).hexdigest()

    def read(self, path: Path) -> pd.DataFrame:
        """The predictions of a file.

        Returns:
            Columns `COLUMNS`, px, in the order of the data set's images and then of the file; those of classes that
            the data set lacks are left out.
        """
        file = self._kept.get(path) or self._parse(path)
        images, categories = self._ids(file)
        corners = np.concatenate([file.boxes[:, :2], file.boxes[:, :2] + file.boxes[:, 2:]], 1)
        frame = pd.DataFrame(
            {"image_id": images, "category_id": categories, "score": file.scores}
            | {name: corners[:, k] for k, name in enumerate(COLUMNS[3:])}
        )
        order = np.argsort([self._order[i] for i in images.tolist()], kind="stable")
        return frame.iloc[order[categories[order] >= 0]].reset_index(drop=True)

    def _parse(self, path: Path) -> "_File":
        return _parse_pickle(path, self._dataset) if _is_pickle(path) else _parse_json(path)

    def _ids(self, file: "_File") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        try:
            images = np.array([self._images[r] for r in file.images], np.int64)
            categories = np.array([self._categories[r] for r in file.categories], np.int64)
        except KeyError as error:
            raise DataError(f"{file.path} changed while it was read; run the same command again") from error
        return images[file.image], categories[file.category]

    def _check(self, readings: AlternativeReadings) -> None:
        """Hold boxes against their images and objects, and note what is odd in files that can be scored."""
        sides = {image.id: (image.width, image.height) for image in self._dataset.images}
        twice, outside, empty = [], [], []
        predicted: set[int] = set()
        overlaps = OverlapCheck(self._dataset)
        lowest, total = math.inf, 0
        for path in self._references:
            file = self._kept.get(path) or self._parse(path)
            images, categories = self._ids(file)
            if not len(images):
                empty.append(f"{path} has no prediction, as if the detector found nothing")
                continue
            size = np.array([sides[i] for i in images.tolist()], np.float64)
            outside += check_boxes(
                file.boxes, size[:, 0], size[:, 1], str(path), lambda n: f"prediction {n + 1}", predicted=True
            )
            kept = categories >= 0
            repeated = (
                pd.DataFrame(file.boxes).assign(i=images, c=categories, s=file.scores).duplicated() & kept
            )
            if count := int(repeated.sum()):
                first = int(np.flatnonzero(repeated)[0]) + 1
                twice.append(
                    f"{path}: {count:,} of {len(images):,} predictions repeat an earlier one (first: prediction {first}) "
                    "and are scored as they are, as pycocotools does"
                )
            without = len(self._order) - len(np.unique(images[kept]))
            if without >= _EMPTY * len(self._order):
                empty.append(
                    f"{path}: {without:,} of {len(self._order):,} images have no prediction; if the detector did not see "
                    "them, score it on the images that it saw"
                )
            overlaps.add(
                file.boxes[kept], file.scores[kept], images[kept], file.category[kept], file.categories
            )
            predicted.update(np.unique(categories[kept]).tolist())
            lowest, total = min(lowest, float(file.scores.min())), total + len(images)
        self.notes += [*_first(twice), *_first(outside), *_first(empty)]
        self.notes += overlaps.notes(self._categories, readings)
        annotated = {a["category_id"] for a in self._dataset.annotations if not a["iscrowd"]}
        missed = [c["name"] for c in self._dataset.categories if c["id"] in annotated - predicted]
        if missed and total:
            self.notes.append(
                f"no prediction is of {len(missed)} of the {len(annotated)} classes that have boxes; they count as AP 0: "
                f"{short_list(missed)}"
            )
        if total >= _SOME and lowest >= _CUT:
            self.notes.append(
                f"no prediction has a score below {lowest:.3g}: a confidence threshold lowers AP, which is measured over "
                "all confidences (Ultralytics' val keeps them from 0.001)"
            )


@dataclass(frozen=True, eq=False)
class _File:
    """A parsed file: distinct references, and for each prediction which of them it has, its score and its box."""

    path: Path
    images: Sequence[Reference]
    categories: Sequence[Reference]
    image: NDArray[np.int32]
    category: NDArray[np.int32]
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]

    def references(self) -> FileReferences:
        """What it refers to."""
        return FileReferences(
            self.path, _uses(self.images, self.image), _uses(self.categories, self.category)
        )


def _uses(references: Sequence[Reference], index: NDArray[np.int32]) -> dict[Reference, tuple[int, int]]:
    _, first, counts = np.unique(index, return_index=True, return_counts=True)
    return {r: (int(f) + 1, int(c)) for r, f, c in zip(references, first, counts, strict=True)}


def _parse_json(path: Path) -> _File:
    images: dict[Reference, int] = {}
    categories: dict[Reference, int] = {}
    image, category, scores, boxes = [], [], [], []
    shared: Counter[int] = Counter()  # ids by hash
    for place, entry in enumerate(_entries(path), 1):
        try:
            if not isinstance(entry, dict):
                raise TypeError(f"it is {short_repr(entry)}")
            scores.append(float(entry["score"]))
            if not isinstance(entry["bbox"], list) or len(entry["bbox"]) != 4:
                raise TypeError(f"bbox is {short_repr(entry['bbox'])}, not [x, y, width, height]")
            x, y, w, h = entry["bbox"]
            boxes.append((float(x), float(y), float(w), float(h)))
            what = _identity(entry.get("image_id")), _file_name(entry.get("file_name"))
            which = _category(entry.get("category_id"), entry.get("category_name"))
            if what == (None, None) or which == (None, None):
                raise KeyError("image_id" if what == (None, None) else "category_id")
        except (TypeError, KeyError, ValueError, OverflowError) as error:
            reason = f"no {error.args[0]}" if isinstance(error, KeyError) else str(error)[:200]
            raise DataError(
                f"{path}: prediction {place} has no valid image_id, category_id, bbox or score: {reason}"
            ) from error
        for known, reference in ((images, what), (categories, which)):
            if reference not in known:
                known[reference] = len(known)
                shared[hash(reference[0])] += isinstance(reference[0], int)
                # Which take the square of their number to tell apart.
                if shared[hash(reference[0])] > _SAME_HASH:
                    raise DataError(
                        f"{path}: more than {_SAME_HASH:,} ids such as {short_repr(reference[0])} share one hash, as "
                        "ids of a "
                        "data set do not; give them at most 20 digits"
                    )
        image.append(images[what])
        category.append(categories[which])
    file = _File(
        path,
        list(images),
        list(categories),
        np.array(image, np.int32),
        np.array(category, np.int32),
        np.array(scores, np.float64),
        np.array(boxes, np.float64).reshape(-1, 4),
    )
    _check_values(file)
    return file


def _is_pickle(path: Path) -> bool:
    return path.suffix.lower() in PICKLE_SUFFIXES


def _parse_pickle(path: Path, dataset: Dataset) -> _File:
    results = read_mmdetection(path, dataset)
    images: list[Reference] = []
    for number, (identity, name) in enumerate(results.images, 1):
        try:
            images.append((_identity(identity), _file_name(name)))
        except TypeError as error:
            raise DataError(f"{path}: image {number} has an unusable img_id or img_path: {error}") from error
        if images[-1] == (None, None):
            raise DataError(f"{path}: image {number} has neither img_id nor img_path")
    places: dict[Reference, int] = {}
    place = np.array([places.setdefault(r, len(places)) for r in images], np.int64)
    image, used_images = _distinct(np.repeat(place, results.counts), list(places))
    category, used_categories = _distinct(results.labels, list(_label_references(dataset)))
    file = _File(path, used_images, used_categories, image, category, results.scores, results.boxes)
    _check_values(file)
    return file


def _label_references(dataset: Dataset) -> dict[Reference, int]:
    """What stands for each label of mmdetection, in their order, and its category."""
    return {(int(c["id"]), str(c["name"])): int(c["id"]) for c in label_categories(dataset)}


def _distinct(
    places: NDArray[np.int64], references: Sequence[Reference]
) -> tuple[NDArray[np.int32], list[Reference]]:
    """Places among the references that occur, and those."""
    used, index = np.unique(places, return_inverse=True)
    return index.astype(np.int32), [references[n] for n in used.tolist()]


def _label_notes(files: Sequence[FileReferences], dataset: Dataset) -> list[str]:
    pickles = [file.path for file in files if _is_pickle(file.path)]
    if not pickles:
        return []
    names = short_list((f"{n} is {c['name']}" for n, c in enumerate(label_categories(dataset))), 3)
    return [
        f"{pickles[0]}: mmdetection's labels are read in the order of {dataset.name}'s categories ({names}), and "
        "lists of mmdetection 2 in the order of its images"
    ]


def _entries(path: Path) -> Sequence[Any]:
    content = read_json(path)
    parts = ("images", "annotations", "categories")
    if isinstance(content, dict) and all(isinstance(content.get(part), list) for part in parts):
        return _described(path, content)
    if not isinstance(content, list):
        raise DataError(
            f"{path} holds no COCO results: it is a {type(content).__name__}, not a list of "
            "{image_id, category_id, bbox, score}"
        )
    return content


def _described(path: Path, content: dict[str, Any]) -> list[Any]:
    """The predictions of a file that has images and categories of its own: by their names, its ids are its own too."""
    try:
        files = {image["id"]: image["file_name"] for image in content["images"]}
        classes = {category["id"]: category["name"] for category in content["categories"]}
        return [
            {**one, "image_id": None, "file_name": files[one["image_id"]]}
            | {"category_id": None, "category_name": classes[one["category_id"]]}
            for one in content["annotations"]
        ]
    except (TypeError, KeyError) as error:
        raise DataError(
            f"{path} has images and categories of its own, and a prediction is of none of them, or one has no name "
            f"({short_repr(error)})"
        ) from error


def _identity(value: object) -> int | str | None:
    """An id as it is written: 139, 139.0, "139", "frame_1"; none where a table had a gap."""
    if _absent(value):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"{short_repr(value)}: ids must be integers, or image_id the stem of a file")
    return value


def _file_name(value: object) -> str | None:
    if _absent(value):
        return None
    if not isinstance(value, str):
        raise TypeError(f"file_name {short_repr(value)} is not text")
    return value


def _category(value: object, name: object) -> Reference:
    """The id of a category, also where a string holds it, and its name; any other string is a name."""
    identity = _identity(value)
    known = None if _absent(name) else validate_class_name(name)
    if isinstance(identity, str):
        digits = parse_whole_number(identity)
        return (digits, known) if digits is not None else (None, known or validate_class_name(identity))
    return identity, known


def _absent(value: object) -> bool:
    """What a table without gaps has in place of a gap."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _check_values(file: _File) -> None:
    """Refuse what is not finite, and scores that are no confidences.

    Scores that single precision rounded past the bounds are clipped.
    """
    finite = np.isfinite(file.scores) & (np.abs(file.boxes) < 1e9).all(1)
    if not finite.all():
        n = int(np.argmin(finite))
        raise DataError(
            f"{file.path}: prediction {n + 1} has score {file.scores[n]} and bbox {file.boxes[n].tolist()}; all must be "
            f"finite numbers ({int((~finite).sum()):,} of {len(finite):,} are not)"
        )
    odd = np.abs(file.scores - 0.5) > 0.5 + _ROUNDING
    if odd.any():
        n, low, high = int(np.argmax(odd)), file.scores.min(), file.scores.max()
        looks = ""
        if low < 0:
            looks = "; they look like logits: write 1 / (1 + exp(-score))"
        elif high <= 100 and odd.mean() > 0.2:
            looks = "; they look like percent: divide them by 100"
        raise DataError(
            f"{file.path}: prediction {n + 1} has score {file.scores[n]:g}; a confidence must lie in [0, 1], and "
            f"{int(odd.sum()):,} of {len(odd):,} do not, from {low:g} to {high:g}{looks}"
        )
    np.clip(file.scores, 0, 1, out=file.scores)


def _first(notes: Sequence[str]) -> list[str]:
    """The first notes of a kind, and how many more files have one."""
    more = len(notes) - _SAID
    return [*notes[:_SAID], *([f"{more} more notes like the last"] if more > 0 else [])]
