"""What the noise breaks: each cell's error types after TIDE and its calibration, by hotcoco, made once and kept.

TIDE: Bolya et al. 2020, arXiv:2008.08115. Calibration: expected and maximum calibration error, Naeini et al.
2015, over ten bins of confidence; a box is right where it finds an object at an overlap of 0.5.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from robustbench_sgdm import atomic
from robustbench_sgdm.errors import DataError
from robustbench_sgdm.foreign import read_json
from robustbench_sgdm.robustness.outcomes import coco, evaluation
from robustbench_sgdm.store import Cell, Run

ERRORS = {
    "classification": "Cls",
    "localisation": "Loc",
    "both": "Both",
    "duplicate": "Dupe",
    "background": "Bkg",
    "missed": "Miss",
}
"""TIDE's error types and hotcoco's names for them."""

_VERSION = 1  # of what is kept; another one is computed again
_LABEL = ["model", "corruption", "severity"]


def error_types(run: Run, progress: Callable[[int], None] = lambda _: None) -> pd.DataFrame:
    """What each type of error costs in each complete cell.

    Args:
        run: whose detections are looked at.
        progress: called with the number of cells just done.

    Returns:
        Columns model, corruption, severity; for each of `ERRORS` the points of AP50 that mending it alone
        would gain; and for each `<type>_count`, how many boxes, or objects for `missed`.
    """
    rows = []
    for cell, found in _diagnoses(run, progress):
        gains = {name: 100 * found["delta_ap"][key] for name, key in ERRORS.items()}
        counts = {f"{name}_count": found["counts"][key] for name, key in ERRORS.items()}
        rows.append({**_label(cell), **gains, **counts})
    return pd.DataFrame(rows, columns=[*_LABEL, *ERRORS, *(f"{name}_count" for name in ERRORS)])


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


def _diagnoses(run: Run, progress: Callable[[int], None]) -> list[tuple[Cell, Mapping[str, Any]]]:
    truth = None
    found: list[tuple[Cell, Mapping[str, Any]]] = []
    for cell in (c for c in run.cells if run.store.complete(c) and run.store.has_detections(c)):
        file = run.statistics(cell) / "diagnosis.json"
        kept = _load(file, cell)
        if kept is None:
            truth = truth or coco(run.truth())
            kept = _diagnose(truth, run.store.detections(cell))
            atomic.write_json(file, {"key": cell.key, "version": _VERSION, **kept})
        found.append((cell, kept))
        progress(1)
    return found


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


def _load(file: Path, cell: Cell) -> dict[str, Any] | None:
    """What was kept, if it was made from this cell in this way."""
    try:
        kept: dict[str, Any] = read_json(file)
        numbers = [kept[part][key] for part in ("delta_ap", "counts") for key in ERRORS.values()]
        numbers += [kept[key] for key in ("ece", "mce", "detections")]
        sound = all(isinstance(n, int | float) for n in numbers) and {len(r) for r in kept["bins"]} <= {
            len(_BINS)
        }
    except (DataError, LookupError, TypeError, AttributeError):
        return None
    return kept if sound and (kept.get("key"), kept.get("version")) == (cell.key, _VERSION) else None
