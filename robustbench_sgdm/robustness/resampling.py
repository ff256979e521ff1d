"""COCO's average precision of a cell under a weight per image, its number of copies.

Drawing images with replacement gives each a number of copies. Matching within an image does not change, so the score
of a resample follows from the matches of the cell: in order of score, weighted counts of true and of false positives
up to each true positive. Copies of an image follow it in the order of ids, which breaks ties of scores. Every operation
on floats is pycocotools' own (`COCOeval.accumulate`, `summarize`), so the result equals, bit for bit, pycocotools run
on a data set in which images really are repeated.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustbench_sgdm.core.numba_utils import compiled
from robustbench_sgdm.robustness.matching import (
    ALL_THRESHOLDS,
    IOU_THRESHOLDS,
    Matches,
    SortedTruth,
)
from robustbench_sgdm.robustness.sizes import COCO_SIZES

METRICS = COCO_SIZES.metrics
"""The metrics of a resample, in percent; NaN where its images have no such object."""

RECALLS: NDArray[np.float64] = np.linspace(0.0, 1.0, 101, dtype=np.float64)
"""Recalls at which precision is interpolated."""

_THRESHOLDS = len(IOU_THRESHOLDS)
_CURVE_POINTS = _THRESHOLDS * len(RECALLS)
_BLOCK = 8  # classes whose curves are written to memory together
_SPACING = float(np.spacing(1))  # pycocotools adds it to avoid dividing by zero


class _Events(NamedTuple):
    """A cell's detections as resampling needs them, by area range and class, best score first.

    Most are false positives at every threshold and are only counted: the plain ones. The others, the events, each know
    how many plain ones precede them. Detections of one image with the same score, some of them true, form a group: with
    two copies of the image the whole group is repeated, not each member.

    Attributes:
        image: (e,) index of an event's image.
        true: (e,) thresholds at which it is a true positive, as bits.
        false: (e,) those at which it is a false one.
        plain: (e,) end in `plain_image` of the plain ones before it.
        group: (e,) size of its group at the group's first event, else 0.
        start: (b + 1,) first event of each (area range, class).
        plain_image: (p,) index of a plain detection's image.
        plain_start: (b,) first plain one of each (area range, class).
    """

    image: NDArray[np.int32]
    true: NDArray[np.uint16]
    false: NDArray[np.uint16]
    plain: NDArray[np.int64]
    group: NDArray[np.int64]
    start: NDArray[np.int64]
    plain_image: NDArray[np.int32]
    plain_start: NDArray[np.int64]


class Resampler:
    """One cell, ready to be scored under any weights; threads must not share it."""

    def __init__(
        self, truth: SortedTruth, matches: Matches, areas: NDArray[np.float64] = COCO_SIZES.areas
    ) -> None:
        """Sort what is resampled.

        Args:
            truth: of all images.
            matches: of the cell, with these area ranges.
            areas: of `Sizes`.
        """
        self.images, self.classes = len(truth.images), len(truth.categories)
        self._objects = truth.counted(areas)
        self._events = _events(matches, self.classes, len(areas))
        self._precision = np.empty((len(areas), _CURVE_POINTS * self.classes))

    def score(self, weights: NDArray[np.uint16]) -> NDArray[np.float64]:
        """The metrics of `Sizes.metrics` (m,) in percent, with (n,) copies of each image in order of id."""
        present = _precision(weights, *self._objects, self._events, RECALLS, self._precision)
        areas = [self._precision[a, : _CURVE_POINTS * k] for a, k in enumerate(present)]
        one = len(RECALLS) * present[0]
        # AP, then AP50 and AP75: the first and the sixth threshold, then the area ranges.
        parts = [areas[0], areas[0][:one], areas[0][5 * one : 6 * one], *areas[1:]]
        return np.array([np.mean(part) * 100 if part.size else np.nan for part in parts])

    def score_classes(self, weights: NDArray[np.uint16]) -> NDArray[np.float64]:
        """AP of each class, in order of id, (k,) in percent under (n,) weights; NaN where no object is."""
        count = _precision(weights, *self._objects, self._events, RECALLS, self._precision)[0]
        image, start = self._objects
        copies = np.add.reduceat(np.append(weights[image], 0), start[: self.classes].clip(max=len(image)))
        present = (copies > 0) & (np.diff(start[: self.classes + 1]) > 0)
        scores = np.full(self.classes, np.nan)
        curves = self._precision[0, : _CURVE_POINTS * count].reshape(_CURVE_POINTS, count)
        scores[present] = 100 * curves.mean(axis=0)
        return scores


def _events(matches: Matches, classes: int, areas: int) -> _Events:
    """The events of every area range, one after the other."""
    same = np.zeros(len(matches.score), bool)  # class, score and image as the one before
    same[1:] = np.all([v[1:] == v[:-1] for v in (matches.label, matches.score, matches.image)], axis=0)
    tie = np.cumsum(~same)
    parts = [_area_events(matches, area, tie, classes) for area in range(areas)]
    events = np.cumsum([0, *(len(part.image) for part in parts)])
    plain = np.cumsum([0, *(len(part.plain_image) for part in parts)])
    moved = [
        part._replace(plain=part.plain + p, start=part.start + e, plain_start=part.plain_start + p)
        for part, e, p in zip(parts, events, plain, strict=False)
    ]
    joined = _Events(*(np.concatenate(column) for column in zip(*moved, strict=True)))
    return joined._replace(start=np.append(joined.start, events[-1]))


def _area_events(matches: Matches, area: int, tie: NDArray[np.int64], classes: int) -> _Events:
    """The events of one area range; `tie` numbers groups of equal class, score and image, from 1."""
    true, false = matches.true[:, area], matches.false[:, area]
    counted = (true | false) > 0
    size = np.bincount(tie, counted, len(tie) + 1).astype(np.int64)
    hits = np.bincount(tie, true > 0, len(tie) + 1)
    tied = counted & ((size > 1) & (hits > 0))[tie]
    event = tied | (true > 0) | (counted & (false < ALL_THRESHOLDS))
    plain = counted & ~event
    index = np.flatnonzero(event)
    first = np.diff(tie[index], prepend=0) > 0
    return _Events(
        matches.image[index],
        true[index],
        false[index],
        np.cumsum(plain, dtype=np.int64)[index],
        np.where(tied[index], np.where(first, size[tie[index]], 0), 1),
        np.searchsorted(matches.label[index], np.arange(classes)),
        matches.image[plain],
        np.searchsorted(matches.label[plain], np.arange(classes)),
    )


@compiled
def _precision(
    weights: NDArray[np.uint16],
    object_image: NDArray[np.int32],
    object_start: NDArray[np.int64],
    events: _Events,
    recalls: NDArray[np.float64],
    out: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Interpolated precision (thresholds x recalls x present classes) of each area range, into a row of `out`.

    Returns how many classes are present in each.
    """
    areas = len(out)
    classes = (len(object_start) - 1) // areas
    present = np.zeros(areas, np.int64)
    objects = np.zeros(areas * classes, np.int64)
    for b in range(areas * classes):
        for i in range(object_start[b], object_start[b + 1]):
            objects[b] += weights[object_image[i]]
        present[b // classes] += objects[b] > 0
    need = np.empty(len(recalls), np.int64)
    block = np.empty((_BLOCK, _CURVE_POINTS))
    for a in range(areas):
        column = 0
        for b in range(a * classes, (a + 1) * classes):
            if objects[b] == 0:
                continue
            _needed(objects[b], recalls, need)
            _curves(weights, events, b, need, block[column % _BLOCK])
            column += 1
            # A class is a column of `out`: written one at a time, every value would touch its own cache line.
            if column % _BLOCK == 0 or column == present[a]:
                first = (column - 1) // _BLOCK * _BLOCK
                for i in range(_CURVE_POINTS):
                    for c in range(first, column):
                        out[a, i * present[a] + c] = block[c - first, i]
    return present


@compiled
def _needed(objects: int, recalls: NDArray[np.float64], need: NDArray[np.int64]) -> None:
    """The fewest true positives whose share of `objects` reaches each recall, in floats as pycocotools has it."""
    for r in range(len(recalls)):
        fewest = int(np.ceil(recalls[r] * objects))
        while fewest > 0 and (fewest - 1) / objects >= recalls[r]:
            fewest -= 1
        while fewest / objects < recalls[r]:
            fewest += 1
        need[r] = fewest


@compiled
def _curves(
    weights: NDArray[np.uint16], events: _Events, b: int, need: NDArray[np.int64], out: NDArray[np.float64]
) -> None:
    """Interpolated precision of one class in one area range, (thresholds x recalls) into `out`."""
    weight, true, false, before = _copies(weights, events, b)
    found = np.empty(len(weight) + 2, np.int32)
    seen = np.empty(len(weight) + 2, np.int32)
    recalls = len(need)
    for t in range(_THRESHOLDS):
        found[0] = 0
        tp, fp, hits = 0, 0, 1
        for i in range(len(weight)):
            hit = (true[i] >> t) & 1
            tp += weight[i] * hit
            fp += weight[i] * ((false[i] >> t) & 1)
            found[hits] = tp
            seen[hits] = tp + fp + before[i]
            hits += hit
        base, best, r = t * recalls, 0.0, recalls - 1  # r: the highest recall not read off yet
        while need[r] > tp:
            out[base + r] = 0.0
            r -= 1
        for i in range(hits - 1, 0, -1):
            best = max(best, found[i] / (seen[i] + _SPACING))
            while need[r] > found[i - 1]:
                out[base + r] = best
                r -= 1
        out[base] = best


@compiled
def _copies(
    weights: NDArray[np.uint16], events: _Events, b: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """The events of a resample: weight, true, false, and the weight of the plain ones before."""
    begin, end = events.start[b], events.start[b + 1]
    steps = 0
    e = begin
    while e < end:
        steps += 1 if events.group[e] == 1 else events.group[e] * weights[events.image[e]]
        e += events.group[e]
    weight = np.empty(steps, np.int32)
    true = np.empty(steps, np.int32)
    false = np.empty(steps, np.int32)
    before = np.empty(steps, np.int32)
    count, passed, at = 0, 0, events.plain_start[b]
    e = begin
    while e < end:
        for p in range(at, events.plain[e]):
            passed += weights[events.plain_image[p]]
        at = events.plain[e]
        copies = weights[events.image[e]]
        if copies > 0:
            # Precision cannot fall between the copies of a single detection: the last of them will do.
            single = events.group[e] == 1
            for _ in range(1 if single else copies):
                for m in range(e, e + events.group[e]):
                    weight[count] = copies if single else 1
                    true[count] = events.true[m]
                    false[count] = events.false[m]
                    before[count] = passed
                    count += 1
        e += events.group[e]
    return weight[:count], true[:count], false[:count], before[:count]
