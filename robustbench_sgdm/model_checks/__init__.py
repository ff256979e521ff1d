"""Why is this not the published AP? A few images, and what usually lowers AP, each with evidence and a remedy.

A fault is looked for by trying its opposite: boxes are read in other formats, labels with an offset, images with their
channels swapped. What raises AP by far was wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robustbench_sgdm.config import ChecksConfig
from robustbench_sgdm.core.progress import make_counter
from robustbench_sgdm.datasets import Dataset
from robustbench_sgdm.model_checks.findings import (
    Finding,
    common_findings,
    conclude,
    find_other_size,
    find_swapped_channels,
    find_unknown_classes,
    find_unusual_thresholds,
)
from robustbench_sgdm.model_checks.sample import Boxes, Sample, SampleRun, load_model, look_up
from robustbench_sgdm.scoring import Predictions

if TYPE_CHECKING:
    import pandas as pd

_STORED = 500  # images of stored predictions, which cost no time to make


@dataclass(frozen=True)
class ModelChecks:
    """What all checks saw. In a notebook it shows itself as a table.

    Attributes:
        model: name of the detector, or the file of predictions.
        data: name of the data set.
        images: how many were looked at.
        findings: one for each check, also where nothing is wrong.
    """

    model: str
    data: str
    images: int
    findings: Sequence[Finding]

    @property
    def problems(self) -> list[Finding]:
        """The findings that ask for a change."""
        return [one for one in self.findings if one.remedy]

    def frame(self) -> "pd.DataFrame":
        """A row for each check."""
        import pandas as pd

        return pd.DataFrame([vars(one) for one in self.findings], columns=["check", "evidence", "remedy"])

    def _repr_html_(self) -> str:
        return str(self.frame().to_html(index=False))


def check_model(config: ChecksConfig, dataset: Dataset) -> ModelChecks:
    """Run a detector on a few images, or read stored predictions, and look for what lowers AP.

    Raises:
        UsageError: unknown names.
        DataError: damaged files, or a data set without objects.
        RobustBenchError: the detector failed.
    """
    if config.predictions is not None:
        return _check_predictions(config.predictions, dataset, config)
    detector = load_model(config.model, config)
    sample = Sample.of(dataset, config.limit)
    update = make_counter(config.progress, "running the model", 2 * len(sample.images))
    run = SampleRun.of(detector, sample, dataset, update)
    findings = [find_unknown_classes(detector, dataset), *common_findings(run)]
    findings += [
        find_swapped_channels(detector, run, update),
        *find_other_size(detector, run, config),
        *find_unusual_thresholds(detector),
    ]
    return ModelChecks(detector.name, dataset.name, len(sample.images), conclude(run, findings))


def _check_predictions(path: Path, dataset: Dataset, config: ChecksConfig) -> ModelChecks:
    """As `check_model`, of a COCO results json; nothing is run."""
    predictions = Predictions([path], dataset)
    frame = predictions.read(path)
    sample = Sample.of(dataset, max(config.limit, _STORED))
    places = {c["id"]: place for place, c in enumerate(dataset.categories)}
    groups = {int(str(image)): rows for image, rows in frame.groupby("image_id")}
    empty = frame.iloc[:0]
    boxes = []
    for image in sample.images:
        rows = groups.get(image.id, empty)
        classes = rows["category_id"].map(places).to_numpy(np.int64)
        boxes.append(
            Boxes(
                rows[["x1", "y1", "x2", "y2"]].to_numpy(float, copy=True),
                rows["score"].to_numpy(float, copy=True),
                classes,
            )
        )
    labels = [one.classes for one in boxes]
    ids = np.arange(len(dataset.categories))
    run = SampleRun(sample, boxes, labels, lambda values: look_up(ids, values), len(ids))
    notes = [
        Finding("reading the file", note, "See `robustbench score --help`.") for note in predictions.notes
    ]
    if not notes:
        notes = [Finding("reading the file", f"{len(frame):,} predictions, ids and boxes as the data's")]
    findings = conclude(run, [*notes, *common_findings(run)])
    return ModelChecks(path.name, dataset.name, len(sample.images), findings)
