"""The data set and the corruptions as the run directory describes them, in its manifest and in tables."""

from collections.abc import Sequence

import pandas as pd

from robustbench_sgdm.corruption import Corruption
from robustbench_sgdm.datasets import Dataset
from robustbench_sgdm.store import CorruptionInfo, DatasetInfo, GroundTruth


def dataset_info(dataset: Dataset) -> DatasetInfo:
    """Name, source, counts, fingerprint, and what was noted while reading."""
    return DatasetInfo(
        name=dataset.name,
        source=dataset.source,
        images=len(dataset),
        boxes=len(dataset.annotations),
        ground_truth=dataset.ground_truth_summary,
        fingerprint=dataset.fingerprint,
        notes=tuple(dataset.notes),
    )


def corruption_info(corruption: Corruption, severities: Sequence[float], fingerprint: str) -> CorruptionInfo:
    """Family, summary, source, the strengths at the severities above 0, and what decides the pixels."""
    return CorruptionInfo(
        family=corruption.family,
        summary=corruption.summary,
        source=corruption.source,
        strengths={
            f"{s:g}": ", ".join(f"{k}={v:.6g}" for k, v in corruption.strength(s).items()) for s in severities
        },
        units=corruption.units,
        fingerprint=fingerprint,
    )


def ground_truth(dataset: Dataset) -> GroundTruth:
    """The ground truth, as the run directory keeps it."""
    images = pd.DataFrame(
        [(i.id, str(i.path), i.width, i.height) for i in dataset.images],
        columns=["image_id", "file", "width", "height"],
    )
    upright = [i.upright for i in dataset.images]
    return GroundTruth(
        images if all(upright) else images.assign(upright=upright),
        pd.DataFrame(
            [
                (a["image_id"], a["category_id"], *a["bbox"], a["area"], a["iscrowd"])
                for a in dataset.annotations
            ],
            columns=["image_id", "category_id", "x", "y", "w", "h", "area", "iscrowd"],
        ),
        pd.DataFrame([(c["id"], c["name"]) for c in dataset.categories], columns=["category_id", "name"]),
    )
