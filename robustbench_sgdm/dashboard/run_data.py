"""What the pages read of a run: frames from a cache that all visitors share.

Every function takes a `RunView`, and the cache goes by what changes its answer: the run's files alone (`BY_FILES`),
or those and the baseline that models are compared with (`_BY_BASELINE`).
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from robustbench_sgdm import robustness
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.store import MANIFEST, Cell, GroundTruth, Run


@dataclass(frozen=True)
class RunView:
    """A run on a page.

    Attributes:
        name: among `sources.available_runs()`.
        run: opened.
        stamp: hash that changes with the run's manifest and with any of its cells.
    """

    name: str
    run: Run
    stamp: str

    def against(self, baseline: str) -> "RunView":
        """The same run, with all other models compared with this one.

        Raises:
            UsageError: the run has no such model, or no other.
        """
        return replace(self, run=self.run.against(baseline))


BY_FILES: Any = {RunView: lambda view: view.stamp}
_BY_BASELINE: Any = {RunView: lambda view: (view.stamp, view.run.baseline)}


def open_run(name: str, path: Path) -> RunView:
    """Open a run, from cache if nothing of it changed.

    Raises:
        DataError: not a run directory, damaged, or of another version.
    """
    try:
        about = (path / MANIFEST).lstat()
        run, files = _open_cached(path, (about.st_mtime_ns, about.st_ino))
    except OSError:
        Run.open(path)  # says so of a run of an earlier version
        raise DataError(f"{path} is not a run directory (any more): it has no {MANIFEST}") from None
    return RunView(name, run, _hash_times(files))


@st.cache_resource(max_entries=32, show_spinner="Opening the run")
def _open_cached(path: Path, changed: tuple[int, int]) -> tuple[Run, list[str]]:
    """A run, and the files whose times say whether it changed: the manifest, and each cell's scores, written last."""
    run = Run.open(path)
    scores = [run.store.folder(cell) / "scores.json" for cell in run.cells]
    return run, [str(file.absolute()) for file in (path / MANIFEST, *scores)]


def _hash_times(files: Sequence[str]) -> str:
    digest = hashlib.sha256(files[0].encode())
    for file in files:
        try:
            digest.update(str(os.lstat(file).st_mtime_ns).encode())
        except OSError:
            digest.update(b"-")
    return digest.hexdigest()


@st.cache_data(max_entries=16, show_spinner="Reading scores", hash_funcs=BY_FILES)
def results(view: RunView) -> pd.DataFrame:
    """A row per complete cell, as in `results.csv`."""
    return view.run.results()


@st.cache_data(max_entries=16, show_spinner=False, hash_funcs=BY_FILES)
def pooled_results(view: RunView) -> pd.DataFrame:
    """`results` with one row per cell of a seed group: the mean over its trainings, if all of them have the cell."""
    return robustness.average_trainings(results(view), view.run.groups)


def count_missing_cells(view: RunView) -> int:
    """How many of the planned cells are not complete."""
    return len(view.run.manifest.cells) - len(results(view))


@st.cache_resource(max_entries=32, show_spinner=False, hash_funcs=BY_FILES)
def corruption_sets(view: RunView) -> "dict[robustness.CorruptionSet, str]":
    """The sets that means are taken over, widest first, and the family that each is, or ""."""
    return robustness.corruption_sets(view.run)


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs=BY_FILES)
def primary_metric(view: RunView) -> str:
    """The metric that the run's data are reported by: AP50 on Pascal VOC, else AP."""
    return robustness.primary_metric(view.run)


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=_BY_BASELINE)
def summary(view: RunView, metric: str) -> pd.DataFrame:
    """P, mPC, rPC and mCE of every model and set of corruptions, percent."""
    return robustness.summary(view.run, metrics=[metric])


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs=_BY_BASELINE)
def identical_pairs(view: RunView) -> dict[tuple[str, str], str]:
    """The pairs with equal outputs, and why."""
    return robustness.find_identical_pairs(view.run)


@st.cache_resource(max_entries=4, show_spinner="Reading intervals", hash_funcs=BY_FILES)
def _bootstrap(view: RunView) -> "robustness.Intervals":
    return robustness.bootstrap_intervals(view.run)


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs=BY_FILES)
def _interval_table(view: RunView, metric: str, pairs: tuple[tuple[str, str], ...]) -> pd.DataFrame:
    return _bootstrap(view).table([metric], pairs=pairs)


def intervals(view: RunView, metric: str) -> pd.DataFrame | None:
    """The bootstrap's table of one metric, with the differences of the run's pairs.

    None if the run has no resamples yet, or the metric has none.
    """
    if results(view).empty or not has_resamples(view) or not view.run.store.root.is_dir():
        return None
    table = (
        _interval_table(view, metric, tuple(view.run.baseline_pairs))
        if metric in robustness.METRICS
        else None
    )
    _WITH_INTERVALS.add((view.stamp, metric))
    return table


# Stamps of what was computed in this process, for all visitors.
_WITH_INTERVALS: set[tuple[str, str]] = set()
_WITH_RESAMPLES: set[str] = set()


def has_cached_intervals(view: RunView, metric: str) -> bool:
    """Whether `intervals` answers at once: from cache, or because there are none."""
    return (view.stamp, metric) in _WITH_INTERVALS or not has_resamples(view)


def has_resamples(view: RunView) -> bool:
    """Whether the run's resamples are stored; looked up until they are, since another process may make them."""
    if view.stamp not in _WITH_RESAMPLES and robustness.has_cached_samples(view.run):
        _WITH_RESAMPLES.add(view.stamp)
    return view.stamp in _WITH_RESAMPLES


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs=BY_FILES)
def ground_truth(view: RunView) -> GroundTruth:
    """The run's ground truth."""
    return view.run.ground_truth()


@st.cache_resource(max_entries=48, show_spinner=False, hash_funcs=BY_FILES)
def detections(view: RunView, cell: Cell, confidence: float) -> pd.DataFrame:
    """A complete cell's detections of at least a confidence, by image. Read-only: the cache makes no copy.

    Those of lower confidence are most of a cell, and no page shows them.
    """
    frame = view.run.store.read_detections(cell)
    shown = frame[frame["score"] >= confidence]
    return shown.sort_values("image_id", kind="stable", ignore_index=True)


def image_detections(view: RunView, cell: Cell, confidence: float, image_id: int) -> pd.DataFrame:
    """Those of `detections` in one image."""
    frame = detections(view, cell, confidence)
    first, last = frame["image_id"].searchsorted([image_id, image_id + 1])
    return frame.iloc[first:last]


@st.cache_resource(max_entries=16, show_spinner=False, hash_funcs=BY_FILES)
def complete_cells(view: RunView) -> dict[tuple[str, str, float], Cell]:
    """The complete cells by (model, corruption, severity)."""
    done = results(view)
    complete = set(done["key"]) if len(done) else set()
    return {(c.model, c.corruption, c.severity): c for c in view.run.cells if c.key in complete}
