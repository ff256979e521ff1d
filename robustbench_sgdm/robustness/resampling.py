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
_BLOCK = 8  # classes whose curves are computed side by side
_SPACING = float(np.spacing(1))  # pycocotools adds it to avoid dividing by zero
_COPIES = 8  # of a group that are laid out at first: few images are drawn more often


class _Layout(NamedTuple):
    """A cell's detections as resampling needs them, by area range and class, best score first.

    Only the copies of a detection change, never at which thresholds it is true, false or ignored. So at each threshold
    the true positives form fixed runs, and sums of copies up to the ends of runs are all that a curve needs: precision
    cannot fall within a run, nor between the copies of one detection.

    Detections of one image with the same score but not the same outcomes form a group, which is repeated as a whole: it
    is laid out once for each copy that its image may have.

    Attributes:
        copies: how often groups are laid out; 0 where there are none.
        source: (d,) where the copies of each detection that counts are found: index of its image, plus n times c for the
            c-th copy in a group. Those after the last true positive of a class are left out.
        start: (b + 1,) first detection of each (area range, class).
        first: (r,) first detection, within the class, that a run adds to those before: false ones, then true ones. The
            ignored ones lie between runs; a run that ends before them may lack true ones.
        hit: (r,) its first true one.
        end: (r,) the detection after its last one.
        run_start: (10 b + 1,) first run of each (area range, class, threshold).
    """

    copies: int
    source: NDArray[np.uint32]
    start: NDArray[np.int64]
    first: NDArray[np.uint32]
    hit: NDArray[np.uint32]
    end: NDArray[np.uint32]
    run_start: NDArray[np.int64]


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
        self._matches = matches
        self._layout = _layout(matches, self.images, self.classes, _COPIES)
        self._precision = np.empty((len(areas), _CURVE_POINTS * self.classes))

    def score(self, weights: NDArray[np.uint16]) -> NDArray[np.float64]:
        """The metrics of `Sizes.metrics` (m,) in percent, with (n,) copies of each image in order of id."""
        return self._average(self._compute_curves(weights))

    def score_classes(self, weights: NDArray[np.uint16]) -> NDArray[np.float64]:
        """AP of each class, in order of id, (k,) in percent under (n,) weights; NaN where no object is."""
        return self._average_classes(self._compute_curves(weights))

    def score_all(self, weights: NDArray[np.uint16]) -> NDArray[np.float64]:
        """What `score` and `score_classes` give, (m + k,), at the cost of the first."""
        objects = self._compute_curves(weights)
        return np.concatenate([self._average(objects), self._average_classes(objects)])

    def _average(self, objects: NDArray[np.int64]) -> NDArray[np.float64]:
        """Of the curves, with the objects of each area range and class."""
        present = (objects > 0).sum(axis=1)
        areas = [self._precision[a, : _CURVE_POINTS * k] for a, k in enumerate(present)]
        one = len(RECALLS) * present[0]
        # AP, then AP50 and AP75: the first and the sixth threshold, then the area ranges.
        parts = [areas[0], areas[0][:one], areas[0][5 * one : 6 * one], *areas[1:]]
        return np.array([np.mean(part) * 100 if part.size else np.nan for part in parts])

    def _average_classes(self, objects: NDArray[np.int64]) -> NDArray[np.float64]:
        present = objects[0] > 0
        scores = np.full(self.classes, np.nan)
        curves = self._precision[0, : _CURVE_POINTS * present.sum()].reshape(_CURVE_POINTS, -1)
        scores[present] = 100 * curves.mean(axis=0)
        return scores

    def _compute_curves(self, weights: NDArray[np.uint16]) -> NDArray[np.int64]:
        """Fill `_precision`; how many objects each area range has of each class, (a, k)."""
        if 0 < self._layout.copies < (most := int(weights.max(initial=0))):
            self._layout = _layout(self._matches, self.images, self.classes, most)
        nth = (weights >= c for c in range(1, self._layout.copies + 1))
        copies = np.concatenate([weights, *nth], dtype=np.int32)
        return _precision(copies, *self._objects, self._layout, RECALLS, self._precision)


def _layout(matches: Matches, images: int, classes: int, copies: int) -> _Layout:
    """The layout of every area range, one after the other."""
    same = np.zeros(len(matches.score), bool)  # class, score and image as the one before
    same[1:] = np.all([v[1:] == v[:-1] for v in (matches.label, matches.score, matches.image)], axis=0)
    tie = np.cumsum(~same)
    areas = range(matches.true.shape[1])
    parts = [_area_layout(matches, area, tie, images, classes, copies) for area in areas]
    detections = np.cumsum([0, *(len(part.source) for part in parts)])
    runs = np.cumsum([0, *(len(part.hit) for part in parts)])
    moved = [
        part._replace(start=part.start + d, run_start=part.run_start + r)
        for part, d, r in zip(parts, detections, runs, strict=False)
    ]
    joined = _Layout(
        max(part.copies for part in parts),
        *(np.concatenate(column) for column in list(zip(*moved, strict=True))[1:]),
    )
    return joined._replace(
        start=np.append(joined.start, detections[-1]), run_start=np.append(joined.run_start, runs[-1])
    )


def _area_layout(
    matches: Matches, area: int, tie: NDArray[np.int64], images: int, classes: int, copies: int
) -> _Layout:
    """The layout of one area range; `tie` numbers groups of equal class, score and image, from 1."""
    true, false = matches.true[:, area], matches.false[:, area]
    last = np.zeros(classes, np.int64)
    hits = np.flatnonzero(true)
    last[matches.label[hits]] = tie[hits]  # of several of a class, the last is assigned
    index = np.flatnonzero(true | false)
    index = index[tie[index] <= last[matches.label[index]]]

    # Only groups whose members differ are repeated member by member.
    differs = (np.diff(true[index]) != 0) | (np.diff(false[index]) != 0)
    group = tie[index]
    tied = np.bincount(group[1:], (np.diff(group) == 0) & differs, len(tie) + 1)[group] > 0
    nth = np.zeros(len(index), np.int64)
    if tied.any():
        repeats = np.where(tied, copies, 1)
        nth = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats - tied, repeats)
        index = np.repeat(index, repeats)
        order = np.lexsort((nth, tie[index]))  # stable: the members of a group once for each copy
        index, nth = index[order], nth[order]
    label, true, false = matches.label[index], true[index], false[index]
    start = np.searchsorted(label, np.arange(classes))

    # Runs of neighbours that are all true, or all ignored, at a threshold; most detections are false at every one.
    event = np.flatnonzero(false < ALL_THRESHOLDS)
    place = event - start[label[event]]
    bits = np.arange(_THRESHOLDS)[:, None]
    is_true, is_false = ((mask[event] >> bits) & 1 > 0 for mask in (true, false))
    follows = (np.diff(event) == 1) & (np.diff(label[event]) == 0)
    joined = follows & ~is_false[:, 1:] & ~is_false[:, :-1] & (is_true[:, 1:] == is_true[:, :-1])
    edge = np.zeros((_THRESHOLDS, 1), bool)
    threshold, begin = np.nonzero(~is_false & ~np.hstack([edge, joined]))
    _, final = np.nonzero(~is_false & ~np.hstack([joined, edge]))
    key = label[event[begin]] * _THRESHOLDS + threshold
    order = np.argsort(key, kind="stable")
    key, begin, final, threshold = key[order], begin[order], final[order], threshold[order]
    hit, after = place[begin], place[final] + 1
    first, later = np.zeros_like(hit), 1 + np.flatnonzero(np.diff(key) == 0)
    first[later] = after[later - 1]
    end = np.where(is_true[threshold, begin], after, hit)  # a run of ignored ones adds none of them
    return _Layout(
        copies if tied.any() else 0,
        (matches.image[index] + images * nth).astype(np.uint32),
        start,
        first.astype(np.uint32),
        hit.astype(np.uint32),
        end.astype(np.uint32),
        np.searchsorted(key, np.arange(classes * _THRESHOLDS)),
    )


@compiled
def _precision(
    copies: NDArray[np.int32],
    object_image: NDArray[np.int32],
    object_start: NDArray[np.int64],
    layout: _Layout,
    recalls: NDArray[np.float64],
    out: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Interpolated precision (thresholds x recalls x classes with objects) of each area range, into a row of `out`.

    Returns how many objects each area range has of each class, (a, k).
    """
    areas = len(out)
    classes = (len(object_start) - 1) // areas
    present = np.zeros(areas, np.int64)
    objects = np.zeros(areas * classes, np.int64)
    for b in range(areas * classes):
        for image in object_image[object_start[b] : object_start[b + 1]]:
            objects[b] += copies[image]
        present[b // classes] += objects[b] > 0
    counted, reached = np.zeros(len(layout.source) + 1, np.int32), np.empty(objects.sum() + 1, np.uint8)
    runs = len(layout.end)
    found, seen, precision = np.empty(runs, np.uint32), np.empty(runs, np.uint32), np.empty(runs)
    block = np.zeros((_THRESHOLDS, len(recalls), _BLOCK))
    for a in range(areas):
        column = 0
        for b in range(a * classes, (a + 1) * classes):
            if objects[b] == 0:
                continue
            running_counts(copies, layout.source[layout.start[b] : layout.start[b + 1]], counted)
            _reached(objects[b], recalls, reached)
            for t in range(_THRESHOLDS):
                part = slice(layout.run_start[b * _THRESHOLDS + t], layout.run_start[b * _THRESHOLDS + t + 1])
                first, hit, end = layout.first[part], layout.hit[part], layout.end[part]
                # Loops without branches, which random copies would make the processor guess wrong.
                tp, every = 0, 0
                for i in range(len(end)):
                    last = counted[end[i]]
                    tp += last - counted[hit[i]]
                    every += last - counted[first[i]]
                    found[i], seen[i] = tp, every
                for i in range(len(end)):
                    precision[i] = found[i] / (seen[i] + _SPACING)
                best, c = (
                    0.0,
                    column % _BLOCK,
                )  # `best` at a recall is the last one written: that of most runs
                for i in range(len(end) - 1, -1, -1):
                    best = max(best, precision[i])
                    block[t, reached[found[i]], c] = best
            column += 1
            # A class is a column of `out`: written one at a time, every value would touch its own cache line.
            if column % _BLOCK == 0 or column == present[a]:
                width = (column - 1) % _BLOCK + 1
                for t in range(_THRESHOLDS):
                    highest = np.zeros(_BLOCK)  # at a recall that no run reaches first, that of the next one
                    for r in range(len(recalls) - 1, -1, -1):
                        row = (t * len(recalls) + r) * present[a] + column - width
                        for c in range(_BLOCK):
                            highest[c] = max(highest[c], block[t, r, c])
                            block[t, r, c] = 0.0
                        for c in range(width):
                            out[a, row + c] = highest[c]
    return objects.reshape(areas, classes)


@compiled
def running_counts(
    copies: NDArray[np.int32] | NDArray[np.uint16], source: NDArray[np.uint32], out: NDArray[np.int32]
) -> None:
    """Add up `copies[source]`: the sum of the first i into `out[i]`; `out[0]` stays as it is."""
    total = 0
    for i in range(len(source)):
        total += copies[source[i]]
        out[i + 1] = total


@compiled
def _reached(objects: int, recalls: NDArray[np.float64], out: NDArray[np.uint8]) -> None:
    """The highest recall that each number of true positives reaches, in floats as pycocotools compares them."""
    for found in range(objects + 1):
        share = found / objects
        nearest = int(share * (len(recalls) - 1) + 0.5)
        out[found] = nearest - (share < recalls[nearest])
