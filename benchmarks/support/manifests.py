"""Manifests of made-up runs: benchmarks and tests say what matters to them, the rest is filled in here."""

from collections.abc import Iterable, Mapping
from typing import Any

from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.store import MANIFEST, Cell, Manifest, Run

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "models": {"weights": "none"},
    "data": {"name": "d", "images": 2, "fingerprint": "f"},
    "corruptions": {"family": "noise", "fingerprint": "f"},
    "settings": {"engine": "torch", "seed": 0, "device": "cpu"},
}


def make_manifest(cells: Iterable[Cell] = (), **parts: Any) -> Manifest:
    """A manifest of these cells.

    Args:
        cells: of models and corruptions that need no description.
        parts: of the manifest, by name; an entry that lacks a field gets one.
    """
    cells = tuple(cells)
    models: dict[str, Any] = {cell.model: {} for cell in cells}
    models |= parts.pop("models", {})
    corruptions: dict[str, Any] = {cell.corruption: {} for cell in cells if cell.corruption != CLEAN}
    corruptions |= parts.pop("corruptions", {})
    fields = {
        "models": {name: {**_DEFAULTS["models"], **about} for name, about in models.items()},
        "data": {**_DEFAULTS["data"], **parts.pop("data", {})},
        "corruptions": {name: {**_DEFAULTS["corruptions"], **about} for name, about in corruptions.items()},
        "settings": {**_DEFAULTS["settings"], **parts.pop("settings", {})},
        "cells": cells,
        **parts,
    }
    return Manifest.make(fields, "a made-up manifest")


def changed(manifest: Manifest, **parts: Any) -> Manifest:
    """The manifest with other parts; of a mapping, the entries that are given, at any depth."""
    fields = {name: value for name, value in manifest.content().items() if name != "schema"}
    return Manifest.make(_merged(fields, parts), "a made-up manifest")


def rewrite(run: Run, **parts: Any) -> Run:
    """The run with a `changed` manifest in its directory."""
    changed(run.manifest, **parts).write(MANIFEST, run.files)
    return Run.open(run.path)


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return old | {name: _merged(old.get(name), value) for name, value in new.items()}
