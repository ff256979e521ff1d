"""What a run will do: its cells with their content addresses, and the units of work that make them."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustbench_sgdm import corruption as corrupting
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.core.untrusted_input import make_names_unique, short_list
from robustbench_sgdm.core.versions import inference_version, installed_versions
from robustbench_sgdm.corruption import Corruption
from robustbench_sgdm.datasets import Dataset, Image
from robustbench_sgdm.datasets import image_decoding as decoding
from robustbench_sgdm.datasets.class_matching import match_classes
from robustbench_sgdm.detectors import Detector, DetectorEntry
from robustbench_sgdm.store import Cell, CellStore, GroundTruth, cell_key, shard_size
from robustbench_sgdm.sweep.facts import corruption_facts, data_facts, ground_truth

_TRIED = 4  # images


@dataclass(frozen=True)
class Settings:
    """What decides a cell beside its model, data, corruption and severity.

    Attributes:
        device: `cpu`, `cuda`, `cuda:1`; only its kind enters the key.
        engine: `torch` or `imgaug`, what corrupts.
        seed: of every random draw.
        batch: images a forward pass; never changes a corrupted pixel, so not part of the key.
    """

    device: str
    engine: str
    seed: int
    batch: int


@dataclass(frozen=True)
class Plan:
    """Everything a run needs: models by name, corruptions by name, data, settings, cells in order."""

    models: Mapping[str, DetectorEntry]
    dataset: Dataset
    corruptions: Mapping[str, Corruption]
    severities: Sequence[float]
    settings: Settings
    cells: Sequence[Cell]
    command: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """`plan.yaml`'s content: plain types only."""
        return {
            "command": self.command,
            **({"config": dict(self.config)} if self.config else {}),
            "models": {name: self._model(name, entrant) for name, entrant in self.models.items()},
            "data": data_facts(self.dataset),
            "corruptions": {n: self._corruption(c) for n, c in self.corruptions.items()},
            "severities": list(self.severities),
            "settings": asdict(self.settings),
            "hardware": hardware(self.settings.device),
            "inference": inference_version(),
            "versions": installed_versions(),
            "cells": [asdict(c) for c in self.cells],
        }

    def truth(self) -> GroundTruth:
        """The ground truth, as the run directory keeps it."""
        return ground_truth(self.dataset)

    def _model(self, name: str, entrant: DetectorEntry) -> dict[str, Any]:
        return entrant.describe() | match_detector(entrant.detector, self.dataset).describe(name)

    def _corruption(self, corruption: Corruption) -> dict[str, Any]:
        at = corruption.effective_severities(self.severities)
        return corruption_facts(corruption, at, corruption.fingerprint(self.settings.engine))


def hardware(device: str) -> dict[str, Any]:
    """What the run's machine is, as far as the system says."""
    found: dict[str, Any] = {
        "system": platform.platform(terse=True),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }
    if device.startswith("cuda"):
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@dataclass(frozen=True)
class Unit:
    """A shard of images under one corruption: every severity and model that still lacks it."""

    shard: int
    images: Sequence[Image]
    corruption: Corruption | None
    cells: Sequence[Cell]

    @property
    def size(self) -> int:
        """Predictions it makes."""
        return len(self.images) * len(self.cells)


def make_plan(
    models: Mapping[str, DetectorEntry],
    dataset: Dataset,
    corruptions: Sequence[Corruption],
    severities: Sequence[float],
    settings: Settings,
    *,
    command: str = "",
    config: Mapping[str, Any] | None = None,
) -> Plan:
    """Lay out the cells: clean once per model, then every corruption and severity."""
    wanted = sorted(set(severities))
    shared = {
        "data": dataset.fingerprint,
        "device": settings.device.partition(":")[0],
        "inference": inference_version(),
    }
    cells = []
    for name, entrant in models.items():
        common = {"model": entrant.detector.fingerprint, **shared}
        if 0 in wanted:
            cells.append(Cell(name, CLEAN, 0.0, cell_key(**common)))
        cells += [
            Cell(
                name,
                corruption.name,
                severity,
                cell_key(
                    **common,
                    corruption=corruption.fingerprint(settings.engine),
                    severity=severity,
                    engine=settings.engine,
                    seed=settings.seed,
                ),
            )
            for corruption in corruptions
            for severity in corruption.effective_severities(wanted)
        ]
    return Plan(
        models, dataset, {c.name: c for c in corruptions}, wanted, settings, cells, command, config or {}
    )


def rehearse(
    corruptions: Sequence[Corruption],
    severities: Sequence[float],
    engine: str,
    device: str = "cpu",
    size: tuple[int, int] = (64, 64),
) -> None:
    """Run every corruption once on a grey picture: what cannot work should not fail hours later.

    Args:
        size: height and width of the picture, px; larger ones are cut to 64.

    Raises:
        UsageError: the engine cannot do what is asked.
        DataError: a corruption of the user's is broken.
    """
    grey = torch.full((1, 3, *(min(side, 64) for side in size)), 128, dtype=torch.uint8, device=device)
    for corruption in corruptions:
        for severity in corruption.effective_severities(severities):
            corrupting.apply_corruption(corruption, grey, severity, seed=0, image_ids=[0], engine=engine)


def same_outputs(plan: Plan, baseline: str, model: str) -> bool:
    """Whether two detectors find the same in the first image that either finds anything in, of a few.

    Rounding aside: a hundredth of a pixel, and of a percent of confidence.
    """
    for image in plan.dataset.images[:_TRIED]:
        pixels = torch.from_numpy(decoding.read_image(image).transpose(2, 0, 1).copy()).to(
            plan.settings.device
        )
        one, two = (plan.models[name].detector.predict([pixels])[0] for name in (baseline, model))
        if len(one.scores) or len(two.scores):
            return len(one.scores) == len(two.scores) and all(
                np.allclose(getattr(one, part), getattr(two, part), rtol=0, atol=most)
                for part, most in (("xyxy", 1e-2), ("scores", 1e-4), ("labels", 0))
            )
    return False


def needed_units(plan: Plan, store: CellStore) -> list[Unit]:
    """The units that make what is not stored yet; each computes only the shards that are missing.

    What is stored is read and checked: damaged files count as missing.
    """
    have = {c: store.sound_shards(c) for c in plan.cells if not store.sound(c)}
    size = shard_size(len(plan.dataset))
    shards = [plan.dataset.images[start : start + size] for start in range(0, len(plan.dataset), size)]
    units = []
    for name in dict.fromkeys(c.corruption for c in have):
        cells = [c for c in have if c.corruption == name]
        for shard, images in enumerate(shards):
            lacking = [c for c in cells if shard not in have[c]]
            if lacking:
                units.append(Unit(shard, images, plan.corruptions.get(name), lacking))
    return units


@dataclass(frozen=True)
class ClassMatch:
    """How a detector's classes and a data set's go together, by name and one to one.

    Attributes:
        ids: the data set's category id for each class of the detector, (n,); -1 for none.
        unmatched: classes of the detector that the data set lacks; their boxes are left out.
        unfound: classes of the data set that the detector lacks; where they have boxes they count as AP 0.
        alike: pairs that differ in case or separators only, the detector's name first.
    """

    ids: NDArray[np.int64]
    unmatched: Sequence[str]
    unfound: Sequence[str]
    alike: Sequence[tuple[str, str]]

    def notes(self, model: str, data: str) -> list[str]:
        """What a user should know, one sentence each."""
        notes = []
        if self.unmatched:
            notes.append(
                f"{model} knows {_classes(self.unmatched)} that {data} does not; their boxes are left out: "
                f"{short_list(self.unmatched, 100)}"
            )
        if self.unfound:
            notes.append(
                f"{data} has {_classes(self.unfound)} that {model} cannot find; where they have boxes they count as "
                f"AP 0: {short_list(self.unfound, 100)}"
            )
        return [*notes, *self._told_alike(model)]

    def describe(self, model: str) -> dict[str, list[str]]:
        """What the plan keeps: plain types, and nothing where all classes have their equals."""
        parts = {
            "unmatched": list(self.unmatched),
            "unfound": list(self.unfound),
            "notes": self._told_alike(model),
        }
        return {name: values for name, values in parts.items() if values}

    def _told_alike(self, model: str) -> list[str]:
        pairs = [f"{theirs} for {ours}" for theirs, ours in self.alike]
        return [f"{model} spells classes otherwise than the data: {short_list(pairs, 100)}"] if pairs else []


def match_detector(detector: Detector, dataset: Dataset) -> ClassMatch:
    """Match a detector's classes to those of a data set.

    Raises:
        UsageError: no class name is shared.
    """
    names = make_names_unique(detector.classes)  # as a dataset YAML's are, so that two of one name stay two
    places = match_classes(names, dataset.classes)
    if all(place < 0 for place in places):
        raise UsageError(
            f"{detector.name} and {dataset.name} share no class name: it finds {short_list(detector.classes, 4)}; "
            f"the data has {short_list(dataset.classes, 4)}. Give weights trained on these classes with --weights"
        )
    ids = np.array([int(dataset.categories[place]["id"]) if place >= 0 else -1 for place in places], np.int64)
    pairs = [(n, dataset.classes[p]) for n, p in zip(names, places, strict=True) if p >= 0]
    return ClassMatch(
        ids,
        [name for name, place in zip(names, places, strict=True) if place < 0],
        [name for place, name in enumerate(dataset.classes) if place not in places],
        [(theirs, ours) for theirs, ours in pairs if theirs != ours],
    )


def category_ids(detector: Detector, dataset: Dataset) -> NDArray[np.int64]:
    """The data set's category id for each class of the detector; see `ClassMatch`."""
    return match_detector(detector, dataset).ids


def _classes(names: Sequence[str]) -> str:
    return "1 class" if len(names) == 1 else f"{len(names)} classes"
