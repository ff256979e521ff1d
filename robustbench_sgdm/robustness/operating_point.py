"""Detectors at the confidence at which they are used: chosen on clean images, kept under corruption."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.robustness.matching import IOU_THRESHOLDS, SortedTruth, match_detections
from robustbench_sgdm.robustness.measures import (
    MeasureSampler,
    best_confidence,
    measures,
)
from robustbench_sgdm.robustness.outcomes import sort_truth
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
        if not 0 <= confidence <= 1:
            raise UsageError(f"confidence {confidence} is outside [0, 1]; 0.25 is usual")
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


def why_undefined(confidences: Mapping[str, float], sizes: Sizes = COCO_SIZES) -> dict[str, dict[str, str]]:
    """By model and measure, why there is no value where there is none."""
    no_confidence = "no clean detections to choose a confidence on; give one"
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
