"""Matches the classes of detectors to those of data sets, by name and one to one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.core.untrusted_input import make_names_unique, short_list
from robustbench_sgdm.datasets import Dataset
from robustbench_sgdm.datasets.class_matching import match_classes
from robustbench_sgdm.detectors import Detector


@dataclass(frozen=True)
class ClassMatch:
    """Which classes of a detector are which of a data set.

    Attributes:
        ids: the data set's category id for each class of the detector, (n,); -1 for none.
        unmatched: classes of the detector that the data set lacks; their boxes are dropped.
        unfound: classes of the data set that the detector lacks; where they have boxes they count as AP 0.
        alike: pairs whose names differ in case or separators, the detector's first.
    """

    ids: NDArray[np.int64]
    unmatched: Sequence[str]
    unfound: Sequence[str]
    alike: Sequence[tuple[str, str]]

    def notes(self, models: str, data: str) -> list[str]:
        """What a user should know, a sentence each.

        Args:
            models: names of the detectors that match in this way.
            data: name of the data set.
        """
        notes = []
        if self.unmatched:
            notes.append(
                f"{data} lacks {_classes(self.unmatched)} of {models}, whose boxes are dropped: "
                f"{short_list(self.unmatched)}"
            )
        if self.unfound:
            notes.append(
                f"{models} cannot find {_classes(self.unfound)} of {data}, which count as AP 0 where they have objects: "
                f"{short_list(self.unfound)}"
            )
        return [*notes, *self._alike_notes(models)]

    def describe(self, model: str) -> dict[str, list[str]]:
        """For the manifest: plain types; empty where every class has its equal."""
        parts = {
            "unmatched": list(self.unmatched),
            "unfound": list(self.unfound),
            "notes": self._alike_notes(model),
        }
        return {name: values for name, values in parts.items() if values}

    def _alike_notes(self, model: str) -> list[str]:
        pairs = [f"{theirs} for {ours}" for theirs, ours in self.alike]
        return (
            [f"class names of {model} spelled differently from the data: {short_list(pairs, 100)}"]
            if pairs
            else []
        )


def match_detector(detector: Detector, dataset: Dataset) -> ClassMatch:
    """Match a detector's classes to those of a data set.

    Raises:
        UsageError: no class name is shared.
    """
    names = make_names_unique(detector.classes)  # as a dataset YAML's are, so that two of one name stay two
    indices = match_classes(names, dataset.classes)
    if all(index < 0 for index in indices):
        raise UsageError(
            f"{detector.name} and {dataset.name} share no class name: it detects {short_list(detector.classes, 4)}; "
            f"the data has {short_list(dataset.classes, 4)}. Pass weights trained on these classes with --weights"
        )
    ids = np.array([int(dataset.categories[i]["id"]) if i >= 0 else -1 for i in indices], np.int64)
    pairs = [(n, dataset.classes[i]) for n, i in zip(names, indices, strict=True) if i >= 0]
    return ClassMatch(
        ids,
        [name for name, index in zip(names, indices, strict=True) if index < 0],
        [name for index, name in enumerate(dataset.classes) if index not in indices],
        [(theirs, ours) for theirs, ours in pairs if theirs != ours],
    )


def map_classes(detector: Detector, dataset: Dataset) -> NDArray[np.int64]:
    """The data set's category id for each class of the detector; see `ClassMatch`."""
    return match_detector(detector, dataset).ids


def _classes(names: Sequence[str]) -> str:
    return "1 class" if len(names) == 1 else f"{len(names)} classes"
