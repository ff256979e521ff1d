"""What a detector is like in use: precision and recall at a confidence, calibration, and the LRP error.

Every measure is a function of sums over images, so a resample of the images only weights those sums.

D-ECE: Küppers et al. 2020, arXiv:2004.13546, of confidence alone. LaECE: Oksuz et al. 2023, arXiv:2307.00934, as LaECE_0
of Kuzucu et al. 2024, arXiv:2405.20459. LRP: Oksuz et al. 2018, arXiv:1807.01696, and 2022, arXiv:2011.10772. The
public implementations of the last two define the details; tests compute all of them in another way.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from robustbench_sgdm.core.numba_utils import compiled
from robustbench_sgdm.robustness.matching import (
    IOU_THRESHOLDS,
    Matches,
    SortedTruth,
    match_detections,
)
from robustbench_sgdm.robustness.resampling import running_counts
from robustbench_sgdm.robustness.sizes import COCO_SIZES, Sizes

_IOU = IOU_THRESHOLDS[:1]  # of a true positive, for every measure but LaECE
# LaECE_0's: at 0 itself a box could find what it does not touch.
_ANY_IOU = np.array([np.nextafter(0.0, 1.0)])
_ECE_BINS, _LAECE_BINS = 10, 25  # of confidence, of equal width, as in the papers
_CHUNK = 2**25  # bytes of weights, as floats, that are multiplied at once


@dataclass(frozen=True)
class Measure:
    """What is known of a measure.

    Attributes:
        description: in one sentence.
        lower_is_better: whether it measures errors.
        maximum: its largest value; infinite for a count.
        needs_confidence: whether only boxes of at least the operating confidence count.
        undefined: why it has no value where it has none.
    """

    description: str
    lower_is_better: bool = False
    maximum: float = 100.0
    needs_confidence: bool = True
    undefined: str = "no such object in the data"


_NO_BOX = "no box has that confidence"


def measures(sizes: Sizes = COCO_SIZES) -> dict[str, Measure]:
    """All measures by name; an object is found by a box of its class with an IoU of at least 0.5, matched as by COCO."""
    spans = pairwise(sizes.edges)
    by_size = {
        f"recall_{name}": Measure(f"Objects of {low:g}² to {high:g}² px that are found, percent.")
        for name, (low, high) in zip(sizes.names, spans, strict=True)
    }
    no_object = "no object is found"
    return {
        "recall": Measure("Objects that are found, percent."),
        **by_size,
        "precision": Measure("Boxes that find an object, percent.", undefined=_NO_BOX),
        "F1": Measure("Harmonic mean of precision and recall, percent."),
        "false_per_image": Measure("Boxes that find no object, per image.", True, np.inf),
        "D-ECE": Measure(
            "Mean difference between confidence and precision over ten bins, percent.",
            True,
            undefined=_NO_BOX,
        ),
        "LaECE": Measure(
            "Mean over classes of the difference between confidence and precision times IoU over 25 bins, percent.",
            True,
            undefined=_NO_BOX,
        ),
        "oLRP": Measure(
            "LRP error, the mean over classes at the confidence that is best for each, percent.",
            True,
            needs_confidence=False,
        ),
        "oLRP_Loc": Measure(
            "Part of oLRP: 1 - IoU of the boxes that find an object, percent.",
            True,
            needs_confidence=False,
            undefined=no_object,
        ),
        "oLRP_FP": Measure(
            "Part of oLRP: boxes that find no object, percent of the boxes.",
            True,
            needs_confidence=False,
            undefined=no_object,
        ),
        "oLRP_FN": Measure(
            "Part of oLRP: objects that are not found, percent.", True, needs_confidence=False
        ),
    }


MEASURES = measures()
"""The measures with COCO's sizes."""


def lower_is_better(metric: str) -> bool:
    """Whether a metric, of `METRICS` or `MEASURES`, measures errors."""
    return metric in MEASURES and MEASURES[metric].lower_is_better


def maximum(metric: str) -> float:
    """The largest value of a metric: 100, or infinite for a count."""
    return MEASURES[metric].maximum if metric in MEASURES else 100.0


def has_relative(metric: str) -> bool:
    """Whether the retained share of the clean value, rPC, and the relative error, mCE, make sense."""
    return not lower_is_better(metric)


class ClassCounts(NamedTuple):
    """Sums by class, (r, k) each: objects, true positives, false positives."""

    objects: NDArray[np.float64]
    true: NDArray[np.float64]
    false: NDArray[np.float64]


def best_confidence(matches: Matches, objects: int) -> float:
    """The confidence with the highest F1 over all boxes and objects; of equals the highest confidence.

    Args:
        matches: of clean images, at the first threshold.
        objects: how many there are, without crowds.

    Returns:
        NaN where no box finds an object.
    """
    scores, f1 = f1_curve(matches, objects)
    if not len(f1) or f1.max() <= 0:
        return np.nan
    return float(scores[np.argmax(f1)])


def f1_curve(matches: Matches, objects: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """F1 in [0, 1] at each confidence that a box has, highest first: confidences (c,), F1 (c,)."""
    scores, true, false = precision_recall_counts(matches)
    return scores, 2 * true / (true + false + objects)


def precision_recall_counts(
    matches: Matches,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """At each confidence that a box has, highest first: the confidence, and true and false positives of at least it."""
    true, false = ((mask[:, 0] & 1).astype(float) for mask in (matches.true, matches.false))
    order = np.argsort(-matches.score, kind="stable")
    scores = matches.score[order]
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else order
    return scores[last], np.cumsum(true[order])[last], np.cumsum(false[order])[last]


class MeasureSampler:
    """One cell, ready to be measured under any weights of its images."""

    def __init__(
        self, truth: SortedTruth, detections: pd.DataFrame, confidence: float, sizes: Sizes = COCO_SIZES
    ) -> None:
        """Match the detections.

        Args:
            truth: of all images.
            detections: of the cell, as of `match_detections`.
            confidence: the operating confidence; NaN where it is not known.
            sizes: of objects.
        """
        self._areas = len(sizes.areas)
        self.images, self.classes = len(truth.images), len(truth.categories)
        self.confidence = confidence = float(np.float32(confidence))  # as precise as stored scores
        self.matches = match_detections(truth, detections, _IOU, sizes.areas)
        kept = self.matches.score >= confidence
        above = detections[detections["score"] >= confidence]
        overlapping = match_detections(truth, above, _ANY_IOU, sizes.areas[:1])
        self._objects = [
            _count(image, label, (self.images, self.classes)) for image, label in _objects(truth, sizes)
        ]
        image, label = self.matches.image[kept], self.matches.label[kept]
        true = [(self.matches.true[kept, area] & 1).astype(float) for area in range(self._areas)]
        false = (self.matches.false[kept, 0] & 1).astype(float)
        counted = (true[0] + false) > 0
        bins = image.astype(np.int64), confidence_bin(self.matches.score[kept], _ECE_BINS)
        gaps = np.where(counted, true[0] - self.matches.score[kept], 0.0)
        # Columns: objects and true positives by area, false positives, precision minus confidence by bin.
        self._sums = np.stack(
            [
                *(np.asarray(counts.sum(axis=1)).ravel() for counts in self._objects),
                *(np.bincount(image, one, self.images) for one in (*true, false)),
                *np.bincount(bins[0] * _ECE_BINS + bins[1], gaps, self.images * _ECE_BINS)
                .reshape(self.images, _ECE_BINS)
                .T,
            ],
            axis=1,
        )
        self._true, self._false = (
            _count(image, label, (self.images, self.classes), values) for values in (true[0], false)
        )
        self._laece = _laece_sums(overlapping, self.images, self.classes)
        self._lrp = _lrp_boxes(self.matches, self.classes)

    def class_counts(self, weights: NDArray[np.uint16]) -> ClassCounts:
        """Sums by class under each of (r, n) weights."""
        copies = _columns(weights)
        return ClassCounts(*(_weighted(copies, m) for m in (self._objects[0], self._true, self._false)))

    def score(self, weights: NDArray[np.uint16]) -> NDArray[np.float64]:
        """The measures (r, m), in the order of `measures(sizes)`, under (r, n) copies of each image in order of id.

        Returns:
            In percent, `false_per_image` a count; NaN where a measure is undefined, or needs a confidence that is NaN.
        """
        rows = max(1, _CHUNK // (8 * max(self.images, 1)))
        parts = [self._score(weights[i : i + rows]) for i in range(0, len(weights), rows)]
        return np.concatenate(parts) if parts else np.empty((0, self._areas + 9))

    def _score(self, weights: NDArray[np.uint16]) -> NDArray[np.float64]:
        copies, columns = weights.astype(np.float64), _columns(weights)
        sums = copies @ self._sums
        areas = self._areas
        objects, true, false = sums[:, :areas], sums[:, areas : 2 * areas], sums[:, 2 * areas]
        gaps = sums[:, 2 * areas + 1 :]
        boxes = true[:, 0] + false
        with np.errstate(invalid="ignore", divide="ignore"):
            at_confidence = [
                *(100 * true / objects).T,
                100 * true[:, 0] / boxes,
                100 * 2 * true[:, 0] / (boxes + objects[:, 0]),
                false / copies.sum(axis=1),
                100 * np.abs(gaps).sum(axis=1) / boxes,
                self._score_laece(columns),
            ]
        if np.isnan(self.confidence):
            at_confidence = [np.full(len(weights), np.nan) for _ in at_confidence]
        by_class = _weighted(columns, self._objects[0])
        lrp = _optimal_lrp(np.ascontiguousarray(weights), by_class, self._lrp)
        return np.stack([*at_confidence, *lrp.T], axis=1)

    def _score_laece(self, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        gaps, counts = self._laece
        by_bin = np.abs(_weighted(columns, gaps)).reshape(-1, self.classes, _LAECE_BINS)
        objects, boxes = _weighted(columns, self._objects[0]), _weighted(columns, counts)
        errors = np.where((objects > 0) & (boxes > 0), 100 * by_bin.sum(axis=2) / boxes, np.nan)
        return _mean_present(errors)


def _objects(truth: SortedTruth, sizes: Sizes) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64]]]:
    """Image and class of each object that counts, for each area range."""
    image, start = truth.counted(sizes.areas)
    classes = len(truth.categories)
    for area in range(len(sizes.areas)):
        bounds = start[area * classes : (area + 1) * classes + 1]
        yield image[bounds[0] : bounds[-1]], np.repeat(np.arange(classes), np.diff(bounds))


def _count(
    rows: NDArray[np.int32],
    columns: NDArray[np.int64] | NDArray[np.int32],
    shape: tuple[int, int],
    values: NDArray[np.float64] | None = None,
) -> sparse.csr_array:
    """A matrix of the sums of values, or of ones, by row and column."""
    ones = np.ones(len(rows)) if values is None else values
    return sparse.coo_array((ones, (rows, columns)), shape).tocsr()


def _columns(weights: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Weights (r, n) as columns (n, r), in which order scipy multiplies: transposed once, not for each product."""
    return np.ascontiguousarray(weights.T, np.float64)


def _weighted(columns: NDArray[np.float64], counts: sparse.csr_array) -> NDArray[np.float64]:
    """columns (n, r) transposed @ counts (n, k)."""
    product: NDArray[np.float64] = (counts.T @ columns).T
    return product


def confidence_bin(scores: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """The bin of each confidence; bins are open below and closed above, but for the first, as in the papers."""
    edges = np.linspace(0, 1, bins + 1)
    index: NDArray[np.int64] = np.clip(np.searchsorted(edges, scores, "left") - 1, 0, bins - 1)
    return index


def _laece_sums(matches: Matches, images: int, classes: int) -> tuple[sparse.csr_array, sparse.csr_array]:
    """IoU minus confidence by image, class and bin (n, k b); boxes by image and class (n, k)."""
    true, false = (mask[:, 0] & 1 for mask in (matches.true, matches.false))
    counted = (true | false) > 0
    image, label, score = matches.image[counted], matches.label[counted], matches.score[counted]
    gaps = np.where(true[counted] > 0, matches.iou[counted], 0.0) - score
    bins = label.astype(np.int64) * _LAECE_BINS + confidence_bin(score, _LAECE_BINS)
    return (
        _count(image, bins, (images, classes * _LAECE_BINS), gaps),
        _count(image, label, (images, classes)),
    )


class _LrpBoxes(NamedTuple):
    """The boxes of a cell as LRP needs them, best first in each class.

    Attributes:
        image: (d,) of each box that counts.
        start: (k + 1,) first of each class.
        hit_image: (h,) of each box that finds an object.
        hit_gap: (h,) its 1 - IoU.
        hit_end: (h,) how many boxes of its class have at least its confidence.
        hit_last: (h,) whether it is the last with its confidence that finds one.
        hit_start: (k + 1,) first of each class.
    """

    image: NDArray[np.uint32]
    start: NDArray[np.int64]
    hit_image: NDArray[np.uint32]
    hit_gap: NDArray[np.float64]
    hit_end: NDArray[np.uint32]
    hit_last: NDArray[np.bool_]
    hit_start: NDArray[np.int64]


def _lrp_boxes(matches: Matches, classes: int) -> _LrpBoxes:
    true, false = (mask[:, 0] & 1 for mask in (matches.true, matches.false))
    counted = np.flatnonzero(true | false)
    label, score, image = matches.label[counted], matches.score[counted], matches.image[counted]
    last = np.ones(len(counted), bool)
    last[:-1] = (np.diff(label) != 0) | (np.diff(score) != 0)
    start = np.searchsorted(label, np.arange(classes + 1))
    hits = np.flatnonzero(true[counted])
    end = np.flatnonzero(last)[np.searchsorted(np.flatnonzero(last), hits)] + 1
    return _LrpBoxes(
        image.astype(np.uint32),
        start,
        image[hits].astype(np.uint32),
        1 - matches.iou[counted[hits]],
        (end - start[label[hits]]).astype(np.uint32),
        np.append(np.diff(end) != 0, True)[: len(hits)],
        np.searchsorted(label[hits], np.arange(classes + 1)),
    )


@compiled
def _optimal_lrp(
    weights: NDArray[np.uint16], objects: NDArray[np.float64], boxes: _LrpBoxes
) -> NDArray[np.float64]:
    """oLRP and its parts (r, 4), percent, the means over the classes with objects.

    The best confidence is that of a box that finds an object: other boxes only add to the error.

    Args:
        weights: (r, n).
        objects: (r, k) of each class.
        boxes: of the cell.
    """
    rows, classes = objects.shape
    out = np.full((rows, 4), np.nan)
    counted = np.zeros(len(boxes.image) + 1, np.int32)
    hits = len(boxes.hit_image)
    true, wrong, error, lrp = np.empty(hits), np.empty(hits), np.empty(hits), np.empty(hits)
    for r in range(rows):
        totals, present, located = np.zeros(4), 0, 0
        for k in range(classes):
            count = objects[r, k]
            if count == 0:
                continue
            part = slice(boxes.hit_start[k], boxes.hit_start[k + 1])
            image, gap = boxes.hit_image[part], boxes.hit_gap[part]
            end, last = boxes.hit_end[part], boxes.hit_last[part]
            length = end[-1] if len(end) else 0
            running_counts(weights[r], boxes.image[boxes.start[k] : boxes.start[k] + length], counted)
            tp, gaps, confidences = 0.0, 0.0, 0
            for h in range(len(image)):
                copies = weights[r, image[h]]
                tp += copies
                gaps += copies * gap[h]
                true[confidences], error[confidences] = tp, gaps
                wrong[confidences] = counted[end[h]] - tp
                confidences += last[h] & (tp > 0)
            for i in range(confidences):
                lrp[i] = (error[i] / 0.5 + wrong[i] + count - true[i]) / (count + wrong[i])
            present += 1
            if confidences:
                best = np.argmin(lrp[:confidences])  # of equals the highest confidence
                located += 1
                totals[0] += lrp[best]
                totals[1] += error[best] / true[best]
                totals[2] += wrong[best] / (true[best] + wrong[best])
                totals[3] += (count - true[best]) / count
            else:
                totals[0] += 1.0
                totals[3] += 1.0
        if present:
            out[r, 0], out[r, 3] = 100 * totals[0] / present, 100 * totals[3] / present
        if located:
            out[r, 1], out[r, 2] = 100 * totals[1] / located, 100 * totals[2] / located
    return out


def _mean_present(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each row over what is not NaN; NaN where all is."""
    present = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = np.where(present, values, 0).sum(axis=1) / present.sum(axis=1)
    return mean
