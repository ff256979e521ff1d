"""COCO's matching of detections to ground truth, done once per cell: resampling images does not change it.

A detection is matched only within its image, class, area range and IoU threshold, so a resampled data set has the
matches of the original one. The result is, for each detection and area range, two sets of thresholds: at which it is
a true positive and at which a false one. In neither, it is ignored.

The rules are pycocotools' `COCOeval.evaluateImg` for boxes at its default parameters (Lin et al. 2014,
arXiv:1405.0312; the code defines the numbers), and a test holds them equal.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.numba_utils import compiled
from robustbench_sgdm.robustness.sizes import COCO_SIZES

IOU_THRESHOLDS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10, dtype=np.float64)
"""IoU thresholds; bit t of a mask is the t-th."""

_MAX_DETECTIONS = 100  # per image and class
_MAX_GROUPS = 2**27  # images times classes: LVIS's training images have 120 million
_MAX_PAIRS = 2**32  # of a box and an object in its image: COCO's validation images have 130 million
ALL_THRESHOLDS = (1 << len(IOU_THRESHOLDS)) - 1
"""The mask of all thresholds."""


@dataclass(frozen=True, eq=False)
class SortedTruth:
    """Ground truth in the order in which COCO's rules process it.

    Attributes:
        images: (n,) image ids, ascending.
        categories: (k,) category ids, ascending.
        box: (g, 4) x, y, w, h px; rows by class, then image, then as annotated.
        area: (g,) px^2.
        crowd: (g,) whether the box marks a crowd.
        start: (k n + 1,) first row of each (class, image).
        row: (g,) index of each in the table that it was built from.
    """

    images: NDArray[np.int64]
    categories: NDArray[np.int64]
    box: NDArray[np.float64]
    area: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    start: NDArray[np.int64]
    row: NDArray[np.int64]

    @classmethod
    def build(cls, images: ArrayLike, categories: ArrayLike, boxes: pd.DataFrame) -> Self:
        """Sort ground truth.

        Args:
            images: every image's id, with or without boxes, in any order.
            categories: every category's id.
            boxes: columns image_id, category_id, x, y, w, h (px), area (px^2), iscrowd.

        Raises:
            DataError: a box belongs to an image or category that is not listed, or there are too many images times
                categories.
        """
        ids = np.unique(np.asarray(images, np.int64))
        classes = np.unique(np.asarray(categories, np.int64))
        if len(ids) * len(classes) > _MAX_GROUPS:
            raise DataError(
                f"{len(ids):,} images times {len(classes):,} categories is more than {_MAX_GROUPS:,}; leave out the "
                "categories without boxes, or take fewer images"
            )
        key = _keys(ids, classes, boxes)
        order = np.argsort(key, kind="stable")
        rows = boxes.iloc[order]
        return cls(
            ids,
            classes,
            rows[["x", "y", "w", "h"]].to_numpy(np.float64),
            rows["area"].to_numpy(np.float64),
            rows["iscrowd"].to_numpy(bool),
            np.searchsorted(key[order], np.arange(len(ids) * len(classes) + 1)),
            order,
        )

    def counted(self, areas: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The image of each object that counts, by range of areas (a, 2) and class; and each (range, class)'s start."""
        key = np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))
        label, image = np.divmod(key, max(len(self.images), 1))
        counts = (self.area >= areas[:, :1]) & (self.area <= areas[:, 1:]) & ~self.crowd
        parts = [image[row] for row in counts]
        bounds = [np.searchsorted(label[row], np.arange(len(self.categories))) for row in counts]
        offsets = np.cumsum([0, *map(len, parts)])
        starts = [b + o for b, o in zip(bounds, offsets, strict=False)]
        return np.concatenate(parts).astype(np.int32), np.concatenate([*starts, offsets[-1:]])


@dataclass(frozen=True, eq=False)
class Matches:
    """The detections of a cell, best score first within each class; equal scores in order of image id.

    Attributes:
        image: (d,) index into the sorted image ids.
        label: (d,) index into the sorted category ids, ascending.
        score: (d,).
        true: (d, a) for each area range, the thresholds at which it is a true positive, as bits.
        false: (d, a) the same for false positives; in neither, it is ignored.
        iou: (d,) with the object, of any size, that it finds at the lowest threshold; 0 where it finds none.
    """

    image: NDArray[np.int32]
    label: NDArray[np.int32]
    score: NDArray[np.float64]
    true: NDArray[np.uint16]
    false: NDArray[np.uint16]
    iou: NDArray[np.float64]


def match_detections(
    truth: SortedTruth,
    detections: pd.DataFrame,
    thresholds: NDArray[np.float64] = IOU_THRESHOLDS,
    areas: NDArray[np.float64] = COCO_SIZES.areas,
) -> Matches:
    """Match one cell's detections, at most the best 100 of each image and class.

    Args:
        detections: columns image_id, category_id, score, x1, y1, x2, y2 (px).
        thresholds: (at most 16,) IoU above 0, ascending.
        areas: (a, 2) least and largest area of each range, px^2, both ends included; the first range holds all.

    Raises:
        DataError: a detection belongs to an image or category that is not in the ground truth.
    """
    order, key, box = _sort_detections(truth, detections)
    score = detections["score"].to_numpy(np.float64)[order]
    truths = truth.start, truth.box, truth.area, truth.crowd
    true, false, _, iou = _match(key, box, *truths, areas, thresholds)
    label, image = np.divmod(key, max(len(truth.images), 1))
    best = best_first(label, score)
    return Matches(
        image[best].astype(np.int32),
        label[best].astype(np.int32),
        score[best],
        true[best],
        false[best],
        iou[best],
    )


def match_objects(truth: SortedTruth, detections: pd.DataFrame) -> NDArray[np.int64]:
    """Match one cell's detections at the lowest threshold, whatever their size.

    Args:
        detections: as of `match_detections`.

    Returns:
        For each detection the row of the object that it finds, in the table that `truth` was built from; a crowd may
        be found by several. -1 where it finds none.
    """
    order, key, box = _sort_detections(truth, detections)
    truths = truth.start, truth.box, truth.area, truth.crowd
    _, _, objects, _ = _match(key, box, *truths, np.array([[0.0, np.inf]]), IOU_THRESHOLDS[:1])
    rows = np.full(len(detections), -1)
    rows[order] = np.where(objects < 0, -1, truth.row[objects] if len(truth.row) else -1)
    return rows


def _sort_detections(
    truth: SortedTruth, detections: pd.DataFrame
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Indices, keys and boxes x, y, w, h of the best 100 of each class and image, best first."""
    key = _keys(truth.images, truth.categories, detections)
    order = best_first(key, detections["score"].to_numpy(np.float64))
    key = key[order]
    begins = np.append(True, np.diff(key) > 0)[: len(key)]
    rank = np.arange(len(key)) - np.flatnonzero(begins)[np.cumsum(begins) - 1]  # within its image and class
    order, key = order[rank < _MAX_DETECTIONS], key[rank < _MAX_DETECTIONS]
    x1, y1, x2, y2 = (detections[c].to_numpy(np.float64)[order] for c in ("x1", "y1", "x2", "y2"))
    return order, key, np.stack([x1, y1, x2 - x1, y2 - y1], axis=1)


def best_first(key: NDArray[np.int64], score: NDArray[np.float64]) -> NDArray[np.int64]:
    """`np.lexsort((-score, key))`: by key, best score first; as stable as pycocotools' mergesort, and faster.

    NumPy sorts integers of 16 bits by counting, so both are sorted by their digits, the last first.
    """
    bits = (0.0 - score).view(np.uint64)  # never -0.0, whose bits are not those of 0.0
    sign = np.uint64(1 << 63)
    order: NDArray[np.int64] = np.arange(len(key))
    for number in (np.where(bits & sign > 0, ~bits, bits | sign), key.astype(np.uint64)):
        for shift in range(0, 64, 16):
            digit = (number >> np.uint64(shift)).astype(np.uint16)
            if (digit != digit[:1]).any():
                order = order[np.argsort(digit[order], kind="stable")]
    return order


def _keys(images: NDArray[np.int64], classes: NDArray[np.int64], rows: pd.DataFrame) -> NDArray[np.int64]:
    """class index * number of images + image index, for each row."""
    indices = []
    for column, known in (("category_id", classes), ("image_id", images)):
        values = rows[column].to_numpy(np.int64)
        index = pd.Index(known).get_indexer(pd.Index(values))  # by hash: far faster than searching
        if (index < 0).any():
            raise DataError(
                f"{column} {values[index < 0][0]} is not among the {len(known)} of the ground truth"
            )
        indices.append(index)
    keys: NDArray[np.int64] = indices[0] * len(images) + indices[1]
    return keys


def check_pair_count(boxes: ArrayLike, objects: ArrayLike) -> None:
    """Reject images so full that comparing every box with every object takes minutes.

    Args:
        boxes: image id of each box.
        objects: image id of each object.

    Raises:
        DataError: more than `_MAX_PAIRS` pairs within images.
    """
    (images, counts), (others, more) = (np.unique(ids, return_counts=True) for ids in (boxes, objects))
    common, here, there = np.intersect1d(images, others, assume_unique=True, return_indices=True)
    pairs = counts[here].astype(float) * more[there]
    if pairs.sum() > _MAX_PAIRS:
        worst = int(pairs.argmax())
        raise DataError(
            f"its boxes and objects make {pairs.sum():,.0f} pairs within images; the limit is {_MAX_PAIRS:,} (image "
            f"{common[worst]} has {counts[here][worst]:,} boxes and {more[there][worst]:,} objects); drop the boxes with "
            "the lowest scores"
        )


@compiled
def _iou(a: NDArray[np.float64], b: NDArray[np.float64], crowd: bool) -> float:
    """IoU of boxes x, y, w, h, in the order of operations of pycocotools' `bbIou`; over `a` alone for a crowd."""
    width = min(a[2] + a[0], b[2] + b[0]) - max(a[0], b[0])
    if width <= 0:
        return 0.0
    height = min(a[3] + a[1], b[3] + b[1]) - max(a[1], b[1])
    if height <= 0:
        return 0.0
    shared = width * height
    own = a[2] * a[3]
    return float(shared / (own if crowd else own + b[2] * b[3] - shared))


@compiled
def closest_objects(
    box: NDArray[np.float64],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    truth: NDArray[np.float64],
    crowd: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The object that each box overlaps most, whatever its class; of equals the first.

    Args:
        box: (d, 4) x, y, w, h px.
        start, end: (d,) the rows of `truth` that are in its image.
        truth: (g, 4) as `box`.
        crowd: (g,) those that do not count.

    Returns:
        The object's row, -1 where none overlaps, and the overlap (IoU); (d,) each.
    """
    nearest = np.full(len(box), -1, np.int64)
    overlap = np.zeros(len(box))
    for d in range(len(box)):
        for g in range(start[d], end[d]):
            shared = 0.0 if crowd[g] else _iou(box[d], truth[g], False)
            if shared > overlap[d]:
                nearest[d], overlap[d] = g, shared
    return nearest, overlap


@compiled
def _match(
    key: NDArray[np.int64],
    box: NDArray[np.float64],
    start: NDArray[np.int64],
    truth: NDArray[np.float64],
    area: NDArray[np.float64],
    crowd: NDArray[np.bool_],
    areas: NDArray[np.float64],
    thresholds: NDArray[np.float64],
) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.int64], NDArray[np.float64]]:
    """Match detections sorted by (key, -score).

    Returns:
        Masks of true and of false positives, (d, areas) each; and of the object, crowds included, that each finds
        in the first area range at the first threshold, its row, or -1, and their IoU, or 0.
    """
    count = len(key)
    every = (1 << len(thresholds)) - 1
    true = np.zeros((count, len(areas)), np.uint16)
    false = np.zeros((count, len(areas)), np.uint16)
    found = np.full(count, -1, np.int64)
    overlap = np.zeros(count)
    begin = 0
    while begin < count:
        end = begin
        while end < count and key[end] == key[begin]:
            end += 1
        low, high = start[key[begin]], start[key[begin] + 1]
        objects = high - low
        ious = np.empty((end - begin, objects))
        largest = 0.0
        for d in range(end - begin):
            for g in range(objects):
                ious[d, g] = _iou(box[begin + d], truth[low + g], crowd[low + g])
                largest = max(largest, ious[d, g])
        order = np.empty(objects, np.int64)
        taken = np.empty(objects, np.bool_)
        ignored = np.empty(objects, np.bool_)
        for a in range(len(areas)):
            counted = 0
            for g in range(objects):
                size = area[low + g]
                ignored[g] = crowd[low + g] or size < areas[a, 0] or size > areas[a, 1]
                counted += not ignored[g]
            regular, other = 0, counted
            # pycocotools' order: ignored objects last, else as annotated.
            for g in range(objects):
                if ignored[g]:
                    order[other] = g
                    other += 1
                else:
                    order[regular] = g
                    regular += 1
            for d in range(begin, end):
                size = box[d, 2] * box[d, 3]
                if not (size < areas[a, 0] or size > areas[a, 1]):
                    false[d, a] = every
            for t in range(len(thresholds) if largest >= thresholds[0] else 0):
                taken[:] = False
                for d in range(begin, end):
                    # The bound is pycocotools': IoU 1 must pass a threshold of 1 in spite of rounding.
                    best, chosen = min(thresholds[t], 1 - 1e-10), -1
                    for g in order:
                        if taken[g] and not crowd[low + g]:
                            continue
                        if chosen > -1 and not ignored[chosen] and ignored[g]:
                            break  # a regular match is never given up for an ignored object
                        if ious[d - begin, g] < best:
                            continue
                        best, chosen = ious[d - begin, g], g
                    if chosen > -1:
                        taken[chosen] = True
                        if a == 0 and t == 0:
                            found[d], overlap[d] = low + chosen, best
                        false[d, a] &= ~np.uint16(1 << t)
                        if not ignored[chosen]:
                            true[d, a] |= np.uint16(1 << t)
        begin = end
    return true, false, found, overlap
