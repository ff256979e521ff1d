"""The plan of a run: its cells with their content addresses, and the units of work that compute them."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.versions import inference_version, installed_versions
from robustbench_sgdm.corruption import Corruption
from robustbench_sgdm.datasets import Dataset, Image
from robustbench_sgdm.detectors import DetectorEntry
from robustbench_sgdm.store import Cell, CellStore, GroundTruth, cell_key, shard_size
from robustbench_sgdm.sweep.class_matching import match_detector
from robustbench_sgdm.sweep.metadata import corruption_metadata, data_metadata, ground_truth


@dataclass(frozen=True)
class Settings:
    """What determines a cell besides its model, data, corruption and severity.

    Attributes:
        device: `cpu`, `cuda`, `cuda:1`; only its kind enters the key.
        engine: `torch` or `imgaug`; it corrupts the images.
        seed: of every random draw.
        batch: images in a forward pass; it never changes a corrupted pixel, so it is not part of the key.
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
            "data": data_metadata(self.dataset),
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
        return corruption_metadata(corruption, at, corruption.fingerprint(self.settings.engine))


def hardware(device: str) -> dict[str, Any]:
    """The machine, as far as the system says."""
    facts: dict[str, Any] = {
        "system": platform.platform(terse=True),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }
    if device.startswith("cuda"):
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@dataclass(frozen=True)
class WorkUnit:
    """A shard of images under one corruption: every severity and model that still lacks it."""

    shard: int
    images: Sequence[Image]
    corruption: Corruption | None
    cells: Sequence[Cell]

    @property
    def size(self) -> int:
        """Predictions that it makes."""
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
    """Plan the cells: clean once per model, then every corruption and severity.

    Args:
        models: by name.
        dataset: to run them on.
        corruptions: to apply.
        severities: 0 for clean.
        settings: of the run.
        command: that started it, for the manifest.
        config: the configuration, for the manifest.
    """
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


def pending_units(plan: Plan, store: CellStore) -> list[WorkUnit]:
    """The units that compute what is not stored yet; each has only the cells that lack its shard.

    Stored files are read and checked: damaged ones count as missing.
    """
    stored = {c: store.sound_shards(c) for c in plan.cells if not store.sound(c)}
    size = shard_size(len(plan.dataset))
    shards = [plan.dataset.images[start : start + size] for start in range(0, len(plan.dataset), size)]
    units = []
    for name in dict.fromkeys(c.corruption for c in stored):
        cells = [c for c in stored if c.corruption == name]
        for shard, images in enumerate(shards):
            lacking = [c for c in cells if shard not in stored[c]]
            if lacking:
                units.append(WorkUnit(shard, images, plan.corruptions.get(name), lacking))
    return units
