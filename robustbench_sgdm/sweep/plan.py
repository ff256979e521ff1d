"""The plan of a run: its cells with their content addresses, and the units of work that compute them."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.versions import inference_version, installed_versions
from robustbench_sgdm.corruption import Corruption
from robustbench_sgdm.datasets import Dataset, Image
from robustbench_sgdm.detectors import DetectorEntry
from robustbench_sgdm.store import (
    Cell,
    CellStore,
    CorruptionInfo,
    GroundTruth,
    Manifest,
    Settings,
    cell_key,
    shard_size,
)
from robustbench_sgdm.sweep.class_matching import match_detector
from robustbench_sgdm.sweep.metadata import corruption_info, dataset_info, ground_truth


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

    def to_manifest(self) -> Manifest:
        """What the run directory keeps of it.

        Raises:
            DataError: a name that no folder can have, or a detector that describes itself otherwise than it should.
        """
        fields = {
            "command": self.command,
            "config": dict(self.config),
            "models": {name: self._model(name, entry) for name, entry in self.models.items()},
            "data": dataset_info(self.dataset),
            "corruptions": {name: self._corruption(one) for name, one in self.corruptions.items()},
            "severities": list(self.severities),
            "settings": self.settings,
            "hardware": hardware(self.settings.device),
            "inference": inference_version(),
            "versions": installed_versions(),
            "cells": list(self.cells),
        }
        return Manifest.make(fields, "what this run would record")

    def ground_truth(self) -> GroundTruth:
        """The ground truth, as the run directory keeps it."""
        return ground_truth(self.dataset)

    def _model(self, name: str, entry: DetectorEntry) -> dict[str, Any]:
        return entry.describe() | match_detector(entry.detector, self.dataset).describe(name)

    def _corruption(self, corruption: Corruption) -> CorruptionInfo:
        at = corruption.effective_severities(self.severities)
        return corruption_info(corruption, at, corruption.fingerprint(self.settings.engine))


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


@dataclass(frozen=True)
class ScoringTask:
    """A cell that has all its shards, to be merged and scored by a worker."""

    cell: Cell


Task = WorkUnit | ScoringTask
"""What a worker process is asked to do."""


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
    for name, entry in models.items():
        common = {"model": entry.detector.fingerprint, **shared}
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
    stored = {c: store.verified_shards(c) for c in plan.cells if not store.verify(c)}
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
