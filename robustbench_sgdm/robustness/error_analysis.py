"""Error analysis of each cell: the outcomes of its objects, its error types after TIDE, and its calibration.

Computed once and cached; error types and calibration by hotcoco. TIDE: Bolya et al. 2020, arXiv:2008.08115.
Calibration: expected and maximum calibration error, Naeini et al. 2015, over ten bins of confidence; a box is right
if it finds an object at an overlap of 0.5.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.robustness.matching import check_pair_count, closest_objects
from robustbench_sgdm.robustness.outcomes import evaluate_with_hotcoco, match_outcomes, to_hotcoco
from robustbench_sgdm.store import Cell, GroundTruth, Run
from robustbench_sgdm.store.schema import ErrorAnalysis

ERROR_TYPES = {
    "classification": "Cls",
    "localisation": "Loc",
    "both": "Both",
    "duplicate": "Dupe",
    "background": "Bkg",
    "missed": "Miss",
}
"""TIDE's error types and hotcoco's names for them."""

OBJECT_OUTCOMES = ("found", "badly_located", "wrong_class", "missed")
"""The outcomes of an object, at the confidence from which boxes are shown; see `count_object_outcomes`."""

_VERSION = 3  # of the cached files; those of another version are computed again
_NEAR_IOU, _MATCH_IOU = 0.1, 0.5  # from which a box is near an object, and on it: TIDE's
_CELL = ["model", "corruption", "severity"]


def error_types(run: Run, progress: Callable[[int], None] = lambda _: None) -> pd.DataFrame:
    """The outcomes of the objects, and what each type of error costs, in each complete cell.

    Args:
        run: to analyse.
        progress: called with the number of cells just done.

    Returns:
        Columns model, corruption, severity; `<outcome>_percent` of the cell's objects for each of `OBJECT_OUTCOMES`,
        together 100; false_per_image, boxes that found no object; for each of `ERROR_TYPES` the points of AP50 gained
        by fixing that type alone; and `<type>_count`, the number of boxes, or of objects for `missed`.
    """
    rows = []
    for cell, analysis in _analyses(run, progress):
        objects = sum(analysis.objects[name] for name in OBJECT_OUTCOMES)
        shares = {
            f"{name}_percent": 100 * analysis.objects[name] / objects if objects else np.nan
            for name in OBJECT_OUTCOMES
        }
        gains = {name: 100 * analysis.delta_ap[key] for name, key in ERROR_TYPES.items()}
        counts = {f"{name}_count": analysis.counts[key] for name, key in ERROR_TYPES.items()}
        false = {"false_per_image": analysis.false / max(run.manifest.data.images, 1)}
        rows.append({**_label(cell), **shares, **false, **gains, **counts})
    shown = [*(f"{name}_percent" for name in OBJECT_OUTCOMES), "false_per_image"]
    return pd.DataFrame(
        rows, columns=[*_CELL, *shown, *ERROR_TYPES, *(f"{name}_count" for name in ERROR_TYPES)]
    )


def calibration(run: Run, progress: Callable[[int], None] = lambda _: None) -> pd.DataFrame:
    """How far confidence is from precision in each complete cell.

    Returns:
        Columns model, corruption, severity, ece and max_calibration_error (0 to 1; not the mCE of corruptions),
        detections (how many).
    """
    rows = [
        {
            **_label(cell),
            "ece": analysis.ece,
            "max_calibration_error": analysis.max_calibration_error,
            "detections": analysis.detections,
        }
        for cell, analysis in _analyses(run, progress)
    ]
    return pd.DataFrame(rows, columns=[*_CELL, "ece", "max_calibration_error", "detections"])


def calibration_bins(run: Run) -> pd.DataFrame:
    """The bins behind `calibration`: columns model, corruption, severity, low, high, confidence, precision, count."""
    rows = [
        {**_label(cell), **dict(zip(_BINS, row, strict=True))}
        for cell, analysis in _analyses(run, lambda _: None)
        for row in analysis.bins
    ]
    return pd.DataFrame(rows, columns=[*_CELL, *_BINS])


_BINS = {
    "low": "bin_lower",
    "high": "bin_upper",
    "confidence": "avg_confidence",
    "precision": "avg_accuracy",
    "count": "count",
}


def _label(cell: Cell) -> dict[str, Any]:
    return {"model": cell.model, "corruption": cell.corruption, "severity": cell.severity}


def count_object_outcomes(truth: GroundTruth, detections: pd.DataFrame) -> tuple[dict[str, int], int]:
    """Count the outcomes of the objects that are no crowds, and the boxes that found none.

    Only boxes of at least `CONFIDENCE` count. An object is found if one matches it as COCO does. A box without a match
    is assigned to the object that it overlaps most: an object without a match has the wrong class if such a box of
    another class overlaps it by half, else is badly located if one of its own class overlaps it by a tenth, else is
    missed.

    Args:
        truth: of all the images that the detections are of.
        detections: columns image_id, category_id, score, x1, y1, x2, y2 (px).

    Returns:
        How many objects, by `OBJECT_OUTCOMES`; how many boxes.
    """
    outcomes = match_outcomes(truth, detections)
    objects = outcomes.objects.sort_values("image_id", kind="stable", ignore_index=True)
    false = outcomes.detections[outcomes.detections["outcome"] == "false"]
    images = objects["image_id"].to_numpy()
    corners = false[["x1", "y1", "x2", "y2"]].to_numpy(np.float64)
    nearest, iou = closest_objects(
        np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1),
        np.searchsorted(images, false["image_id"]),
        np.searchsorted(images, false["image_id"], "right"),
        objects[["x", "y", "w", "h"]].to_numpy(np.float64),
        objects["iscrowd"].to_numpy(bool),
    )
    labels = objects["category_id"].to_numpy()
    same_class = false["category_id"].to_numpy() == np.append(labels, -1)[nearest]
    # Indices into OBJECT_OUTCOMES. Found objects stay found; a wrong class, assigned last, overrides a bad location.
    outcome = np.where(objects["outcome"] == "matched", 0, 3)
    for rows, index in (
        (nearest[same_class & (iou >= _NEAR_IOU)], 1),
        (nearest[~same_class & (iou >= _MATCH_IOU)], 2),
    ):
        outcome[rows] = np.where(outcome[rows] == 0, 0, index)
    counts = np.bincount(outcome[~objects["iscrowd"].to_numpy(bool)], minlength=len(OBJECT_OUTCOMES))
    return dict(zip(OBJECT_OUTCOMES, counts.tolist(), strict=True)), len(false)


def _analyses(run: Run, progress: Callable[[int], None]) -> list[tuple[Cell, ErrorAnalysis]]:
    truth: GroundTruth | None = None
    hotcoco_truth: Any = None
    analyses: list[tuple[Cell, ErrorAnalysis]] = []
    for cell in (c for c in run.cells if run.store.is_complete(c) and run.store.has_detections(c)):
        file = run.statistics_folder(cell) / "error_analysis.json"
        analysis = _load(run, file, cell)
        if analysis is None:
            if truth is None:
                truth = run.ground_truth()
                hotcoco_truth = to_hotcoco(truth)
            detections = run.store.read_detections(cell)
            results = analyze_errors(truth, hotcoco_truth, detections)
            analysis = ErrorAnalysis(key=cell.key, version=_VERSION, **results)
            analysis.write(file, run.files)
        analyses.append((cell, analysis))
        progress(1)
    return analyses


def analyze_errors(truth: GroundTruth, hotcoco_truth: Any, detections: pd.DataFrame) -> dict[str, Any]:
    """The analysis of a cell, as it is cached.

    Args:
        truth: of its images.
        hotcoco_truth: the same from `to_hotcoco`, which takes a while.
        detections: of the cell.

    Raises:
        DataError: an image has so many boxes and objects that comparing them would take minutes.
    """
    check_pair_count(detections["image_id"], truth.annotations["image_id"])
    objects, false = count_object_outcomes(truth, detections)
    return {"objects": objects, "false": false, **_analyze_with_hotcoco(hotcoco_truth, detections)}


def _analyze_with_hotcoco(truth: Any, detections: pd.DataFrame) -> dict[str, Any]:
    evaluation = evaluate_with_hotcoco(truth, detections)
    errors, calibrated = evaluation.tide_errors(), evaluation.calibration()
    return {
        "delta_ap": {key: errors["delta_ap"][key] for key in ERROR_TYPES.values()},
        "counts": {key: errors["counts"][key] for key in ERROR_TYPES.values()},
        "ece": calibrated["ece"],
        "max_calibration_error": calibrated["mce"],
        "detections": calibrated["num_detections"],
        "bins": [[row[key] for key in _BINS.values()] for row in calibrated["bins"]],
    }


def _load(run: Run, file: Path, cell: Cell) -> ErrorAnalysis | None:
    """The cached analysis, if it is of this cell and version."""
    try:
        analysis = ErrorAnalysis.read(file, run.files)
    except DataError:
        return None
    types = {*analysis.counts} & {*analysis.delta_ap}
    is_whole = {*OBJECT_OUTCOMES} <= {*analysis.objects} and {*ERROR_TYPES.values()} <= types
    return analysis if is_whole and (analysis.key, analysis.version) == (cell.key, _VERSION) else None
