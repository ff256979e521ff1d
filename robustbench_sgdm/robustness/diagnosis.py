"""What the noise breaks: what became of each cell's objects, its error types after TIDE, and its calibration.

Made once and kept. Types and calibration are hotcoco's. TIDE: Bolya et al. 2020, arXiv:2008.08115. Calibration:
expected and maximum calibration error, Naeini et al. 2015, over ten bins of confidence; a box is right where it
finds an object at an overlap of 0.5.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.untrusted_input import read_json
from robustbench_sgdm.robustness.matching import check_pairs, closest
from robustbench_sgdm.robustness.outcomes import coco, evaluation, outcomes
from robustbench_sgdm.store import Cell, GroundTruth, Run

ERRORS = {
    "classification": "Cls",
    "localisation": "Loc",
    "both": "Both",
    "duplicate": "Dupe",
    "background": "Bkg",
    "missed": "Miss",
}
"""TIDE's error types and hotcoco's names for them."""

OBJECTS = ("found", "badly_located", "wrong_class", "missed")
"""What becomes of an object, at the confidence from which boxes are shown; see `fates`."""

_MAX_BYTES = 2**20  # of what is kept of a cell
_VERSION = 2  # of what is kept; another one is computed again
_NEAR, _SAME = 0.1, 0.5  # overlaps from which a box is near an object, and on it: TIDE's
_LABEL = ["model", "corruption", "severity"]


def error_types(run: Run, progress: Callable[[int], None] = lambda _: None) -> pd.DataFrame:
    """What became of the objects, and what each type of error costs, in each complete cell.

    Args:
        run: whose detections are looked at.
        progress: called with the number of cells just done.

    Returns:
        Columns model, corruption, severity; for each of `OBJECTS` `<what>_percent` of the cell's objects, together
        100; false_per_image, boxes that found no object; for each of `ERRORS` the points of AP50 that mending it
        alone would gain; and for each `<type>_count`, how many boxes, or objects for `missed`.
    """
    rows = []
    for cell, found in _diagnoses(run, progress):
        objects = sum(found["objects"][name] for name in OBJECTS)
        shares = {
            f"{name}_percent": 100 * found["objects"][name] / objects if objects else np.nan
            for name in OBJECTS
        }
        gains = {name: 100 * found["delta_ap"][key] for name, key in ERRORS.items()}
        counts = {f"{name}_count": found["counts"][key] for name, key in ERRORS.items()}
        false = {"false_per_image": found["false"] / max(run.plan["data"]["images"], 1)}
        rows.append({**_label(cell), **shares, **false, **gains, **counts})
    shown = [*(f"{name}_percent" for name in OBJECTS), "false_per_image"]
    return pd.DataFrame(rows, columns=[*_LABEL, *shown, *ERRORS, *(f"{name}_count" for name in ERRORS)])


def calibration(run: Run, progress: Callable[[int], None] = lambda _: None) -> pd.DataFrame:
    """How far confidence is from precision in each complete cell.

    Returns:
        Columns model, corruption, severity, ece and mce (0 to 1), detections (how many).
    """
    rows = [
        {**_label(cell), "ece": found["ece"], "mce": found["mce"], "detections": found["detections"]}
        for cell, found in _diagnoses(run, progress)
    ]
    return pd.DataFrame(rows, columns=[*_LABEL, "ece", "mce", "detections"])


def calibration_bins(run: Run) -> pd.DataFrame:
    """The bins behind `calibration`: columns model, corruption, severity, low, high, confidence, precision, count."""
    rows = [
        {**_label(cell), **dict(zip(_BINS, row, strict=True))}
        for cell, found in _diagnoses(run, lambda _: None)
        for row in found["bins"]
    ]
    return pd.DataFrame(rows, columns=[*_LABEL, *_BINS])


_BINS = {
    "low": "bin_lower",
    "high": "bin_upper",
    "confidence": "avg_confidence",
    "precision": "avg_accuracy",
    "count": "count",
}


def _label(cell: Cell) -> dict[str, Any]:
    return {"model": cell.model, "corruption": cell.corruption, "severity": cell.severity}


def fates(truth: GroundTruth, detections: pd.DataFrame) -> tuple[dict[str, int], int]:
    """What became of each object that is no crowd, and how many boxes found none.

    Only boxes of at least `CONFIDENCE` count. An object is found where one matches it as COCO does. A box that
    matches none is held to the object that it overlaps most: an object without a match has the wrong class where
    such a box of another class overlaps it by half, else is badly located where one of its own class overlaps it
    by a tenth, else is missed.

    Args:
        truth: of all the images that the detections are of.
        detections: columns image_id, category_id, score, x1, y1, x2, y2 (px).

    Returns:
        How many objects, by `OBJECTS`; how many boxes.
    """
    made = outcomes(truth, detections)
    objects = made.objects.sort_values("image_id", kind="stable", ignore_index=True)
    false = made.detections[made.detections["outcome"] == "false"]
    images = objects["image_id"].to_numpy()
    corners = false[["x1", "y1", "x2", "y2"]].to_numpy(np.float64)
    place, overlap = closest(
        np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1),
        np.searchsorted(images, false["image_id"]),
        np.searchsorted(images, false["image_id"], "right"),
        objects[["x", "y", "w", "h"]].to_numpy(np.float64),
        objects["iscrowd"].to_numpy(bool),
    )
    labels = objects["category_id"].to_numpy()
    same = false["category_id"].to_numpy() == np.append(labels, -1)[place]
    fate = np.where(objects["outcome"] == "matched", 0, 3)
    for at, what in ((place[same & (overlap >= _NEAR)], 1), (place[~same & (overlap >= _SAME)], 2)):
        fate[at] = np.where(fate[at] == 0, 0, what)
    counts = np.bincount(fate[~objects["iscrowd"].to_numpy(bool)], minlength=len(OBJECTS))
    return dict(zip(OBJECTS, counts.tolist(), strict=True)), len(false)


def _diagnoses(run: Run, progress: Callable[[int], None]) -> list[tuple[Cell, Mapping[str, Any]]]:
    truth: GroundTruth | None = None
    known: Any = None
    found: list[tuple[Cell, Mapping[str, Any]]] = []
    for cell in (c for c in run.cells if run.store.complete(c) and run.store.has_detections(c)):
        file = run.statistics(cell) / "diagnosis.json"
        kept = _load(run, file, cell)
        if kept is None:
            if truth is None:
                truth = run.truth()
                known = coco(truth)
            detections = run.store.detections(cell)
            kept = diagnose(truth, known, detections)
            run.files.write_json(file, {"key": cell.key, "version": _VERSION, **kept})
        found.append((cell, kept))
        progress(1)
    return found


def diagnose(truth: GroundTruth, known: Any, detections: pd.DataFrame) -> dict[str, Any]:
    """What is kept of a cell.

    Args:
        truth: of its images.
        known: the same as `outcomes.coco` gives it, which takes a while.
        detections: of the cell.

    Raises:
        DataError: an image has so many boxes and objects that comparing them would take minutes.
    """
    check_pairs(detections["image_id"], truth.annotations["image_id"])
    objects, false = fates(truth, detections)
    return {"objects": objects, "false": false, **_diagnose(known, detections)}


def _diagnose(truth: Any, detections: pd.DataFrame) -> dict[str, Any]:
    made = evaluation(truth, detections)
    errors, calibrated = made.tide_errors(), made.calibration()
    return {
        "delta_ap": {key: errors["delta_ap"][key] for key in ERRORS.values()},
        "counts": {key: errors["counts"][key] for key in ERRORS.values()},
        "ece": calibrated["ece"],
        "mce": calibrated["mce"],
        "detections": calibrated["num_detections"],
        "bins": [[row[key] for key in _BINS.values()] for row in calibrated["bins"]],
    }


def _load(run: Run, file: Path, cell: Cell) -> dict[str, Any] | None:
    """What was kept, if it was made from this cell in this way."""
    try:
        kept: dict[str, Any] = read_json(file, _MAX_BYTES, run.files)
        numbers = [kept[part][key] for part in ("delta_ap", "counts") for key in ERRORS.values()]
        numbers += [kept[key] for key in ("ece", "mce", "detections", "false")]
        numbers += [kept["objects"][key] for key in OBJECTS]
        sound = all(isinstance(n, int | float) and abs(n) < 2**53 for n in numbers)
        sound = sound and {len(r) for r in kept["bins"]} <= {len(_BINS)}
    except (DataError, LookupError, TypeError, AttributeError):
        return None
    return kept if sound and (kept.get("key"), kept.get("version")) == (cell.key, _VERSION) else None
