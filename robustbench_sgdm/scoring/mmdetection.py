"""Test results of mmdetection as it pickles them (`tools/test.py --out results.pkl`), without mmdetection.

mmdetection 2 writes a list: of each image a list of each class of an (n, 5) array [x1, y1, x2, y2, score]. Nothing in it
says which image or class is which: images are in the order of the annotation file, and so are labels.
mmdetection 3 writes a list of dicts with `img_id`, `img_path` and `pred_instances` {bboxes, scores, labels}.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.pickled_arrays import ArrayReader, read_pickle
from robustbench_sgdm.core.untrusted_input import short_repr
from robustbench_sgdm.datasets import Dataset

_JSON = "mmdetection also writes json, by --format-only (2) or the evaluator's outfile_prefix (3)"
_FORMS = (
    "tools/test.py --out writes (n, 5) arrays by class for each image (mmdetection 2), or a dict with img_id and "
    f"pred_instances {{bboxes, scores, labels}} for each image (mmdetection 3). {_JSON}"
)


@dataclass(frozen=True)
class MMDetectionResults:
    """Detections of a file, image by image.

    Attributes:
        images: `image_id` and `file_name` of each image of the file, as they stand there.
        counts: (images,) detections of each.
        labels: (n,) places in `label_categories`.
        scores: (n,).
        boxes: (n, 4) [x, y, w, h], px.
    """

    images: Sequence[tuple[Any, Any]]
    counts: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]


def label_categories(dataset: Dataset) -> list[dict[str, Any]]:
    """The category of each label of mmdetection's: in the order of the annotation file, whatever that of `CLASSES` is."""
    by_id = {c["id"]: dict(c) for c in dataset.categories}
    return [by_id[identity] for identity in dataset.file_category_ids or by_id]


def read_mmdetection(path: Path, dataset: Dataset) -> MMDetectionResults:
    """Read a pickle of either form.

    Raises:
        DataError: it is damaged, something else, or of another number of images or classes than the data set; with the
            image.
    """
    content = read_pickle(path)
    arrays = ArrayReader(path.stat().st_size)
    if not isinstance(content, list) or not content:
        _refuse(path, f"it holds {short_repr(content)}")
    if isinstance(content[0], dict):
        return _read_samples(path, content, arrays, dataset)
    if len(content) != len(dataset.images):
        raise DataError(
            f"{path} has results of {len(content):,} images, and {dataset.name} has {len(dataset.images):,}; "
            "mmdetection 2 writes no ids, so that the images must be those of the annotation file: give the one that "
            "the detector was tested on"
        )
    return _read_lists(path, content, arrays, dataset)


def _read_lists(
    path: Path, content: Sequence[Any], arrays: ArrayReader, dataset: Dataset
) -> MMDetectionResults:
    detections: list[NDArray[Any]] = [np.empty((0, 5))]
    labels, counts = [], []
    for number, result in enumerate(content, 1):
        by_class = result[0] if isinstance(result, tuple) and result else result  # masks are beside the boxes
        if not isinstance(by_class, list):
            _refuse(path, f"image {number} is {short_repr(result)}")
        if len(by_class) != len(dataset.categories):
            raise DataError(
                f"{path}: image {number} has {len(by_class):,} classes, and {dataset.name} has "
                f"{len(dataset.categories):,}; give the data that the detector was tested on. {_JSON}"
            )
        count = 0
        for label, value in enumerate(by_class):
            array = _read(path, number, arrays, value)
            if not array.size:
                continue
            if array.ndim != 2 or array.shape[1] != 5:
                _refuse(path, f"image {number} has boxes of shape {short_repr(array.shape)}, not (n, 5)")
            detections.append(array)
            labels.append((label, len(array)))
            count += len(array)
        counts.append(count)
    whole = np.concatenate(detections).astype(np.float64)
    label_of = np.repeat(*np.array(labels, np.int64).reshape(-1, 2).T)
    images = [(image.id, str(image.path)) for image in dataset.images]
    return MMDetectionResults(
        images, np.array(counts), label_of, whole[:, 4], _corners_to_sides(whole[:, :4])
    )


def _read_samples(
    path: Path, content: Sequence[Any], arrays: ArrayReader, dataset: Dataset
) -> MMDetectionResults:
    images, counts = [], []
    boxes: list[NDArray[Any]] = [np.empty((0, 4))]
    scores: list[NDArray[Any]] = [np.empty(0)]
    labels: list[NDArray[Any]] = [np.empty(0, np.int64)]
    for number, sample in enumerate(content, 1):
        found = sample.get("pred_instances") if isinstance(sample, dict) else None
        if not isinstance(found, dict) or not {"bboxes", "scores", "labels"} <= found.keys():
            _refuse(path, f"image {number} has pred_instances {short_repr(found)}")
        box, score, label = (
            _read(path, number, arrays, found[name]) for name in ("bboxes", "scores", "labels")
        )
        count = len(score) if score.ndim == 1 else -1
        if box.shape != (count, 4) or label.shape != (count,) or label.dtype.kind not in "iu":
            _refuse(
                path,
                f"image {number} has bboxes of shape {short_repr(box.shape)}, scores of {short_repr(score.shape)} and "
                f"labels of {short_repr(label.shape)}, {label.dtype}; they must be (n, 4), (n,) and (n,) whole numbers",
            )
        if count and not 0 <= int(label.min()) <= int(label.max()) < len(dataset.categories):
            raise DataError(
                f"{path}: image {number} has labels from {label.min()} to {label.max()}, and {dataset.name} has "
                f"{len(dataset.categories):,} classes, counted from 0; give the data that the detector was tested on"
            )
        try:
            images.append(
                (arrays.read_plain(sample.get("img_id")), arrays.read_plain(sample.get("img_path")))
            )
        except ValueError as error:
            raise DataError(f"{path}: image {number} {error}") from error
        counts.append(count)
        boxes.append(box)
        scores.append(score)
        labels.append(label.astype(np.int64))
    return MMDetectionResults(
        images,
        np.array(counts),
        np.concatenate(labels),
        np.concatenate(scores).astype(np.float64),
        _corners_to_sides(np.concatenate(boxes).astype(np.float64)),
    )


def _read(path: Path, number: int, arrays: ArrayReader, value: Any) -> NDArray[Any]:
    try:
        return arrays.read(value)
    except ValueError as error:
        raise DataError(f"{path}: image {number} {error}. {_JSON}") from error


def _corners_to_sides(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 4) [x1, y1, x2, y2] as [x, y, w, h], computed in double precision as mmdetection does."""
    with np.errstate(invalid="ignore"):  # boxes that are not finite are refused later, with their number
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)


def _refuse(path: Path, what: str) -> NoReturn:
    raise DataError(f"{path} has no results of mmdetection: {what}; {_FORMS}")
