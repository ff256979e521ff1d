"""Detectors at the confidence at which they are used: chosen on clean images, kept under corruption."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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
    """The boxes of a run, pooled over its corruptions.

    Attributes:
        boxes: columns model, severity, confidence, true (whether it finds an object at an IoU of 0.5); boxes that find a
            crowd are left out.
        objects: how many objects they could find, by (model, severity).
    """

    boxes: pd.DataFrame
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
        progress: called with the number of cells just done.
        cells: of the run; all if None.
        category: id of the only class that counts; all if None.
    """
    whole = run.ground_truth()
    truth = sort_truth(whole if category is None else whole.of_category(category))
    number = int((~truth.crowd).sum())
    parts = [pd.DataFrame({"model": [], "severity": [], "confidence": [], "true": []})]
    objects: dict[tuple[str, float], int] = {}
    for cell in run.cells if cells is None else cells:
        if not (run.store.is_complete(cell) and run.store.has_detections(cell)):
            continue
        detections = run.store.read_detections(cell)
        if category is not None:
            detections = detections[detections["category_id"] == category]
        matches = match_detections(truth, detections, IOU_THRESHOLDS[:1])
        true, false = (mask[:, 0] & 1 for mask in (matches.true, matches.false))
        counted = (true | false) > 0
        own = {"confidence": matches.score[counted], "true": true[counted] > 0}
        parts.append(pd.DataFrame(own).assign(model=cell.model, severity=cell.severity))
        objects[cell.model, cell.severity] = objects.get((cell.model, cell.severity), 0) + number
        progress(1)
    boxes = pd.concat(parts[1:] or parts, ignore_index=True)
    return PooledBoxes(boxes[["model", "severity", "confidence", "true"]], objects)


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
    for (model, severity), objects in pooled.objects.items():
        own = pooled.boxes[(pooled.boxes["model"] == model) & (pooled.boxes["severity"] == severity)]
        if own.empty:
            continue
        ordered = own.sort_values("confidence", ascending=False, kind="stable")
        confidence = ordered["confidence"].to_numpy()
        last = np.flatnonzero(np.append(confidence[1:] != confidence[:-1], True))
        hits = np.cumsum(ordered["true"].to_numpy(float))[last]
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
    boxes = pooled.boxes
    least = boxes["model"].map(confidences).to_numpy(np.float32)
    kept = boxes[boxes["confidence"].to_numpy(float) >= least]
    number = confidence_bin(kept["confidence"].to_numpy(float), bins)
    grouped = kept.assign(bin=number).groupby(["model", "severity", "bin"], sort=False)
    frame = grouped.agg(
        confidence=("confidence", "mean"), precision=("true", "mean"), boxes=("true", "size")
    ).reset_index()
    frame = frame.sort_values("bin", kind="stable", ignore_index=True).assign(
        low=lambda f: f["bin"] / bins,
        high=lambda f: (f["bin"] + 1) / bins,
        confidence=lambda f: 100 * f["confidence"],
        precision=lambda f: 100 * f["precision"].astype(float),
    )
    return frame[["model", "severity", "low", "high", "confidence", "precision", "boxes"]]


def confusion_matrix(run: Run, cell: Cell, confidence: float) -> pd.DataFrame:
    """What each object is taken for at a confidence and an IoU of 0.5, by hotcoco, whatever the class of the box.

    Args:
        run: of the cell.
        cell: complete, with detections.
        confidence: least of a box that counts.

    Returns:
        Counts: a row per class of objects, a column per class of boxes, and `background`, with a number where a class
        is called that, last in both: objects that no box finds, and boxes that find no object.
    """
    truth = run.ground_truth()
    evaluation = evaluate_with_hotcoco(to_hotcoco(truth), run.store.read_detections(cell))
    found = evaluation.confusion_matrix(iou_thr=0.5, min_score=float(np.float32(confidence)))
    names = list(make_names_unique([*found["cat_names"], "background"]))
    return pd.DataFrame(found["matrix"].astype(np.int64), index=names, columns=names)
