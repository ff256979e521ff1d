"""Detectors at the confidence at which they are used: chosen on clean images, kept under corruption."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.core.untrusted_input import make_names_unique
from robustbench_sgdm.robustness.matching import IOU_THRESHOLDS, SortedTruth, match_detections
from robustbench_sgdm.robustness.measures import (
    MeasureSampler,
    best_confidence,
    confidence_bin,
    measures,
)
from robustbench_sgdm.robustness.outcomes import evaluate_with_hotcoco, sort_truth, to_hotcoco
from robustbench_sgdm.robustness.resample_cache import (
    BootstrapSamples,
    Statistic,
    sample_images,
)
from robustbench_sgdm.robustness.sizes import COCO_SIZES, Sizes
from robustbench_sgdm.store import Cell, Run

_VERSION = 1  # of the measures; raise it when one changes, so that cached ones are computed again


def operating_confidences(run: Run, confidence: float | None = None) -> dict[str, float]:
    """The confidence from which each model's boxes count.

    Args:
        run: of the models.
        confidence: the same for all; None for that with the highest F1 on clean images, over all boxes and objects,
            which each model keeps under corruption, as a detector in use does.

    Returns:
        By model; NaN where the clean cell, or its detections, are missing, or no box of it finds an object.

    Raises:
        UsageError: a confidence outside [0, 1].
        DataError: no ground truth.
    """
    if confidence is not None:
        check_confidence(confidence)
        return dict.fromkeys(run.manifest.models, confidence)
    clean = {
        cell.model: cell
        for cell in run.cells
        if cell.corruption == CLEAN and run.store.is_complete(cell) and run.store.has_detections(cell)
    }
    truth = sort_truth(run.ground_truth())
    objects = int((~truth.crowd).sum())
    found = dict.fromkeys(run.manifest.models, np.nan)
    for model, cell in clean.items():
        matches = match_detections(truth, run.store.read_detections(cell), IOU_THRESHOLDS[:1])
        found[model] = best_confidence(matches, objects)
    return found


def check_confidence(confidence: float) -> None:
    """Refuse a confidence that no box can have.

    Raises:
        UsageError: it is outside [0, 1].
    """
    if not 0 <= confidence <= 1:
        raise UsageError(f"confidence {confidence:g} is outside [0, 1]; 0.25 is usual")


def why_undefined(confidences: Mapping[str, float], sizes: Sizes = COCO_SIZES) -> dict[str, dict[str, str]]:
    """By model and measure, why there is no value where there is none."""
    no_confidence = "no operating confidence, without clean detections that find an object; give one"
    return {
        model: {
            name: no_confidence if np.isnan(confidence) and one.needs_confidence else one.undefined
            for name, one in measures(sizes).items()
        }
        for model, confidence in confidences.items()
    }


def operating_point(confidences: Mapping[str, float], sizes: Sizes = COCO_SIZES) -> Statistic:
    """The measures of a run's cells, of these sizes, with each model's confidence."""
    names = tuple(measures(sizes))

    def compute(run: Run, cell: Cell, truth: SortedTruth, weights: NDArray[np.uint16]) -> BootstrapSamples:
        sampler = MeasureSampler(truth, run.store.read_detections(cell), confidences[cell.model], sizes)
        return sample_images(sampler.score, sampler.images, weights)

    return Statistic(
        names,
        sizes.file_name("measures"),
        compute,
        lambda _run, _cell: np.full(len(names), np.nan),
        lambda cell: [_VERSION, repr(confidences[cell.model])],
    )


@dataclass(frozen=True, eq=False)
class PooledBoxes:
    """The boxes of a run, pooled over its corruptions; those that find a crowd are left out.

    Attributes:
        confidences: by (model, severity), of each box, the highest first.
        true: likewise, whether it finds an object at an IoU of 0.5.
        objects: how many objects they could find, by (model, severity).
    """

    confidences: Mapping[tuple[str, float], NDArray[np.float64]]
    true: Mapping[tuple[str, float], NDArray[np.bool_]]
    objects: Mapping[tuple[str, float], int]


def pool_boxes(
    run: Run,
    progress: Callable[[int], None] = lambda _: None,
    *,
    cells: Sequence[Cell] | None = None,
    category: int | None = None,
) -> PooledBoxes:
    """Match the boxes of cells with detections.

    Args:
        run: to read.
        progress: called with the number of cells just done, from any thread.
        cells: of the run; all if None.
        category: id of the only class that counts; all if None.
    """
    whole = run.ground_truth()
    truth = sort_truth(whole if category is None else whole.of_category(category))
    groups: dict[tuple[str, float], list[Cell]] = {}
    for cell in run.cells if cells is None else cells:
        if run.store.is_complete(cell) and run.store.has_detections(cell):
            groups.setdefault((cell.model, cell.severity), []).append(cell)

    def match(cell: Cell) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        detections = run.store.read_detections(cell)
        if category is not None:
            detections = detections[detections["category_id"] == category]
        matches = match_detections(truth, detections, IOU_THRESHOLDS[:1])
        true, false = ((mask[:, 0] & 1).astype(bool) for mask in (matches.true, matches.false))
        progress(1)
        return matches.score[true | false], true[true | false]

    def pool(some: list[Cell]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        scores, true = map(np.concatenate, zip(*map(match, some), strict=True))
        order = np.argsort(-scores)
        return scores[order], true[order]

    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:  # matching and sorting release Python's lock
        pooled = dict(zip(groups, threads.map(pool, groups.values()), strict=True))
    number = int((~truth.crowd).sum())
    return PooledBoxes(
        {group: scores for group, (scores, _) in pooled.items()},
        {group: true for group, (_, true) in pooled.items()},
        {group: number * len(some) for group, some in groups.items()},
    )


def precision_recall(
    pooled: PooledBoxes, points: int = 200, *, confidences: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """Precision, recall and F1 at falling confidence, by model and severity.

    Args:
        pooled: the boxes.
        points: most of a curve, beside that of `confidences`; between them curves are straight.
        confidences: by model; its curve has the point of all boxes of at least this.

    Returns:
        Columns model, severity, confidence (0 to 1), recall, precision, f1 (percent).
    """
    columns = ["model", "severity", "confidence", "recall", "precision", "f1"]
    parts = [pd.DataFrame(columns=columns)]
    for (model, severity), confidence in pooled.confidences.items():
        if not len(confidence):
            continue
        objects = pooled.objects[model, severity]
        last = np.flatnonzero(np.append(confidence[1:] != confidence[:-1], True))
        hits = np.cumsum(pooled.true[model, severity], dtype=float)[last]
        # Points evenly apart in recall and in confidence, so that neither curve is cut short.
        steps = np.linspace(0, 1, points // 2)
        chosen = np.union1d(
            np.searchsorted(hits, steps * hits[-1]).clip(max=len(last) - 1),
            np.searchsorted(-confidence[last], -steps).clip(max=len(last) - 1),
        )
        counted = int((confidence[last] >= (confidences or {}).get(model, np.inf)).sum())
        chosen = np.union1d(chosen, np.arange(len(last))[counted - 1 : counted])
        true, boxes = hits[chosen], last[chosen] + 1
        own_curve = {
            "confidence": confidence[last][chosen],
            "recall": 100 * true / objects if objects else np.full(len(true), np.nan),
            "precision": 100 * true / boxes,
            "f1": 200 * true / (boxes + objects),
        }
        parts.append(pd.DataFrame(own_curve).assign(model=model, severity=severity)[columns])
    return pd.concat(parts[1:] or parts, ignore_index=True)


def reliability(pooled: PooledBoxes, confidences: Mapping[str, float], bins: int = 10) -> pd.DataFrame:
    """Precision against mean confidence in bins of confidence, by model and severity.

    Args:
        pooled: the boxes.
        confidences: by model; only boxes of at least that count, as in D-ECE.
        bins: of equal width.

    Returns:
        Columns model, severity, low, high (of a bin, 0 to 1), confidence, precision (percent), boxes; empty bins are left
        out.
    """
    columns = ["model", "severity", "low", "high", "confidence", "precision", "boxes"]
    parts = [pd.DataFrame(columns=columns)]
    for (model, severity), confidence in pooled.confidences.items():
        if model not in confidences:
            continue
        kept = confidence[confidence >= np.float32(confidences[model])]
        true = pooled.true[model, severity][: len(kept)]  # the highest are first
        bin_of = confidence_bin(kept, bins)
        boxes = np.bincount(bin_of, minlength=bins)
        (full,) = boxes.nonzero()
        own = {
            "low": full / bins,
            "high": (full + 1) / bins,
            "confidence": 100 * np.bincount(bin_of, kept, bins)[full] / boxes[full],
            "precision": 100 * np.bincount(bin_of, true, bins)[full] / boxes[full],
            "boxes": boxes[full],
        }
        if len(full):
            parts.append(pd.DataFrame(own).assign(model=model, severity=severity)[columns])
    frame = pd.concat(parts[1:] or parts, ignore_index=True)
    return frame.sort_values("low", kind="stable", ignore_index=True)


def confusion_matrix(run: Run, cells: Sequence[Cell], confidence: float) -> pd.DataFrame:
    """What each object is taken for at a confidence and an IoU of 0.5, by hotcoco, whatever the class of the box.

    Args:
        run: of the cells.
        cells: complete, with detections; at least one. Their counts are added.
        confidence: least of a box that counts.

    Returns:
        Counts: a row per class of objects, a column per class of boxes, and `background`, with a number where a class
        is called that, last in both: objects that no box finds, and boxes that find no object.
    """
    truth, least = to_hotcoco(run.ground_truth()), float(np.float32(confidence))

    def count(cell: Cell) -> Any:
        detections = run.store.read_detections(cell)
        evaluation = evaluate_with_hotcoco(truth, detections[detections["score"] >= least])
        return evaluation.confusion_matrix(iou_thr=0.5, min_score=least)

    counted = [count(cell) for cell in cells]
    names = list(make_names_unique([*counted[0]["cat_names"], "background"]))
    return pd.DataFrame(sum(one["matrix"].astype(np.int64) for one in counted), index=names, columns=names)
