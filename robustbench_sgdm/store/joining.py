"""Joins runs of the same images, seed and engine into one run directory, cells and statistics copied."""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.store.runs import Run
from robustbench_sgdm.store.schema import Cell, CorruptionInfo, Manifest, ModelInfo


def join_runs(runs: Sequence[Run], names: Sequence[Mapping[str, str]], out: Path, command: str = "") -> Run:
    """Write a run directory that holds the models of several.

    The first run gives what is not of models or corruptions: data, settings, hardware. A model that several runs have
    is one model if its cells are the same, and else is compared with the first run's. Latencies are left out: each is
    relative to the first model of its own run. So are shifts; notes say it. Images under corruption can be made again.

    Args:
        runs: that can be compared, see `robustness.check_comparable`.
        names: for each run, what its models and groups are called there, all different.
        out: the directory; new, empty, or that of the same join, whose files are written again.
        command: that is recorded.

    Raises:
        UsageError: `out` holds something else, or is one of the runs.
        DataError: a run is damaged.
    """
    names = _merge_equal(runs, names)
    manifest = _join_manifests(runs, names, out.name, command)
    if out.resolve() in {run.path.resolve() for run in runs}:
        raise UsageError(f"--out {out} is one of the runs; name another folder")
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not _holds(out, manifest):
        raise UsageError(f"--out {out} exists and holds something else; name a new folder")
    joined = Run.create_or_resume(out.parent, out.name, manifest, ground_truth=runs[0].ground_truth())
    with joined.lock():
        for run, by_name in zip(runs, names, strict=True):
            for cell in run.cells:
                if run.store.is_complete(cell):
                    _copy_cell(run, cell, joined, _renamed(cell, by_name))
        quality = pd.concat([run.read_image_quality() for run in runs], ignore_index=True)
        joined.write_image_quality(quality.drop_duplicates(["corruption", "severity"]))
        joined.write_results()
    return joined


def _merge_equal(runs: Sequence[Run], names: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """One name for models, and groups, of the same name and the same cells; a plain one where a name has no others."""
    keys = [
        {
            name: frozenset(cell.key for cell in run.cells if cell.model in members)
            for name, members in ({model: [model] for model in run.manifest.models} | run.groups).items()
        }
        for run in runs
    ]
    first: dict[str, dict[frozenset[str], str]] = {}
    for of_run, by_name in zip(keys, names, strict=True):
        for name, own in of_run.items():
            first.setdefault(name, {}).setdefault(own, by_name[name])
    return [
        {name: name if len(first[name]) == 1 else first[name][own] for name, own in of_run.items()}
        for of_run in keys
    ]


def _renamed(cell: Cell, names: Mapping[str, str]) -> Cell:
    return Cell(names[cell.model], cell.corruption, cell.severity, cell.key)


def _holds(out: Path, manifest: Manifest) -> bool:
    try:
        return Run.open(out).cells == manifest.cells
    except DataError:
        return False


def _join_manifests(
    runs: Sequence[Run], names: Sequence[Mapping[str, str]], name: str, command: str
) -> Manifest:
    first = runs[0].manifest
    models: dict[str, ModelInfo] = {}
    corruptions: dict[str, CorruptionInfo] = {}
    earlier: dict[str, str] = {}
    for run, by_name in zip(runs, names, strict=True):
        for model, info in run.manifest.models.items():
            name_here, group = by_name[model], by_name.get(info.group or "")
            baseline = by_name.get(info.baseline or "") or earlier.get(model)
            models.setdefault(
                name_here,
                info.model_copy(
                    update={"baseline": None if baseline == name_here else baseline, "group": group}
                ),
            )
        earlier = dict(by_name) | earlier
        corruptions = dict(run.manifest.corruptions) | corruptions
    notes = dict.fromkeys(note for run in runs for note in run.manifest.data.notes) | dict.fromkeys(
        _notes_on_omissions(runs)
    )
    fields = first.content() | {
        "name": name,
        "command": command,
        "models": {model: info.content() for model, info in models.items()},
        "data": first.data.content() | {"notes": list(notes)},
        "corruptions": {corruption: info.content() for corruption, info in corruptions.items()},
        "severities": sorted({severity for run in runs for severity in run.manifest.severities}),
        "inference": first.inference if len({run.manifest.inference for run in runs}) == 1 else "",
        "cells": list(
            dict.fromkeys(
                _renamed(cell, by_name)
                for run, by_name in zip(runs, names, strict=True)
                for cell in run.cells
            )
        ),
        "shifts": {},
    }
    fields.pop("schema", None)
    return Manifest.make(fields, f"{name}, joined of {', '.join(str(run.path) for run in runs)}")


def _notes_on_omissions(runs: Sequence[Run]) -> list[str]:
    """What the runs have and their join has not."""
    notes = []
    if any(len(run.read_latency()) for run in runs):
        notes.append(
            "joined of runs without their latencies, each of which is relative to a model of its own run"
        )
    if any(run.manifest.shifts for run in runs):
        notes.append(
            "joined of runs without their results on other data (--shift), which the runs' own reports show"
        )
    return notes


def _copy_cell(run: Run, cell: Cell, joined: Run, renamed: Cell) -> None:
    """Copy a cell and what was computed from it; the scores last, which make it complete."""
    source, target = run.store.folder(cell), joined.store.folder(renamed)
    cached, copied = run.statistics_folder(cell), joined.statistics_folder(renamed)
    files = [
        *((cached / name, copied / name) for name in run.files.names(cached) if name.endswith(".parquet")),
        *((source / name, target / name) for name in ("detections.parquet", "scores.json")),
    ]
    for old, new in files:
        if not run.files.is_file(old):  # scores from elsewhere have no detections
            continue
        with run.files.open(old) as content:
            joined.files.write(new, partial(shutil.copyfileobj, content), sync=False)
