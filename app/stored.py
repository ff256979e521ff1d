"""What the pages read: which runs they may show, and their frames from cache."""

import argparse
import hashlib
import itertools
import os
import sys
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import streamlit as st

from robustbench_sgdm import robustness
from robustbench_sgdm.cli.parsing import find_path
from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.store import Cell, GroundTruth, Run, list_runs


@dataclass(frozen=True)
class Sources:
    """The folders that pages read; of what lies outside, only the images and weights that runs name, after a click.

    Attributes:
        runs: run directories that were named; where there are none, those of `project` are shown.
        project: folder of run directories, where the Run page makes new ones.
        training: folders of training runs.
        inputs: folders of weights and data sets that the Run page may use.
    """

    runs: tuple[Path, ...]
    project: Path
    training: tuple[Path, ...]
    inputs: tuple[Path, ...]


def sources() -> Sources:
    """What `robustbench dashboard` passed on."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--project", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--training", type=Path, action="append", default=[])
    parser.add_argument("--inputs", type=Path, action="append", default=[])
    given = parser.parse_args(sys.argv[1:])
    return Sources(tuple(given.runs), given.project, tuple(given.training), tuple(given.inputs) or (Path(),))


def check_input(name: str) -> None:
    """Refuse a file of elsewhere than the folders that the Run page may use; a name that is no file passes.

    Raises:
        UsageError: it lies outside, or its place leads there.
    """
    path, folders = find_path(name), sources().inputs
    if path is None and not {"/", "\\"} & set(name):
        return
    try:
        real = (path or Path(name)).resolve()
    except (OSError, ValueError):  # nothing can be called so
        real = None
    if real is None or not any(real.is_relative_to(folder.resolve()) for folder in folders):
        raise UsageError(
            f"{name} lies outside the folders whose files this page may use ({', '.join(map(str, folders))}); "
            "start the dashboard with --inputs FOLDER, or the run in a terminal"
        )


def listed() -> dict[str, Path]:
    """The runs that may be shown, the newest first, by a name that is theirs alone."""
    given = sources()
    paths = list(dict.fromkeys([*given.runs, *started()])) or list_runs(given.project)[::-1]
    names: dict[str, Path] = {}
    for path in paths:
        names[unique(escape_control_chars(path.name or str(path)), names)] = path
    return names


def unique(name: str, taken: Container[str]) -> str:
    """A name that is not taken.

    >>> unique("a", []), unique("a", ["a", "a (2)"])
    ('a', 'a (3)')
    """
    numbered = (f"{name} ({number})" for number in itertools.count(2))
    return next(free for free in itertools.chain([name], numbered) if free not in taken)


@st.cache_resource
def _started() -> list[Path]:
    return []


def started() -> list[Path]:
    """Run directories that this server made; they are shown beside the ones that were named."""
    return list(_started()) if sources().runs else []


def remember(path: Path) -> None:
    """Show a run directory that the Run page has made."""
    if path not in _started():
        _started().insert(0, path)


@dataclass(frozen=True)
class Shown:
    """A run on a page.

    Attributes:
        name: among `listed()`.
        run: opened.
        stamp: changes with the run's plan and whenever one of its cells does.
    """

    name: str
    run: Run
    stamp: str

    @property
    def networks(self) -> dict[str, list[str]]:
        """What scores are shown of: models by themselves, or networks with the models trained from several seeds."""
        return self.run.groups

    def against(self, baseline: str) -> "Shown":
        """The same run, with all others compared with this network.

        Raises:
            UsageError: the run has no such network, or no other.
        """
        return replace(self, run=self.run.against(baseline))


def show(name: str, path: Path) -> Shown:
    """Open a run, from cache where nothing of it changed.

    Raises:
        DataError: no run directory, damaged, or of another version.
    """
    try:
        about = (path / "plan.yaml").lstat()
        run, files = _open(path, (about.st_mtime_ns, about.st_ino))
    except OSError:
        raise DataError(f"{path} is not a run directory (any more): it has no plan.yaml") from None
    return Shown(name, run, _stamp(files))


@st.cache_resource(max_entries=32, show_spinner="Opening the run")
def _open(path: Path, changed: tuple[int, int]) -> tuple[Run, list[str]]:
    """A run, and the files whose changes are its own: the plan, and of every cell the scores, written last."""
    run = Run.open(path)
    scores = [run.store.folder(cell) / "scores.json" for cell in run.cells]
    return run, [str(file.absolute()) for file in (path / "plan.yaml", *scores)]


def _stamp(files: Sequence[str]) -> str:
    digest = hashlib.sha256(files[0].encode())
    for file in files:
        try:
            digest.update(str(os.lstat(file).st_mtime_ns).encode())
        except OSError:
            digest.update(b"-")
    return digest.hexdigest()


@st.cache_data(max_entries=16, show_spinner="Reading scores")
def _results(_run: Run, stamp: str) -> pd.DataFrame:
    return _run.results()


def results(shown: Shown) -> pd.DataFrame:
    """A row per complete cell, as in `results.csv`."""
    return _results(shown.run, shown.stamp)


@st.cache_data(max_entries=16, show_spinner=False)
def _scores(_run: Run, stamp: str) -> pd.DataFrame:
    return robustness.average_trainings(_results(_run, stamp), _run.groups)


def scores(shown: Shown) -> pd.DataFrame:
    """A row per cell of a network: `results`, or its mean over the network's trainings where all have the cell."""
    return _scores(shown.run, shown.stamp)


def missing(shown: Shown) -> int:
    """How many of the planned cells are not complete."""
    return len(shown.run.plan["cells"]) - len(results(shown))


@st.cache_resource(max_entries=32, show_spinner=False)
def _sets(_run: Run, stamp: str) -> "dict[robustness.CorruptionSet, str]":
    return robustness.corruption_sets(_run)


def sets(shown: Shown) -> "dict[robustness.CorruptionSet, str]":
    """The sets that means are taken over, and the family that each is, or ""; the widest first."""
    return _sets(shown.run, shown.stamp)


@st.cache_data(max_entries=32, show_spinner=False)
def _headline(_run: Run, stamp: str) -> str:
    return robustness.primary_metric(_run)


def headline(shown: Shown) -> str:
    """The metric that the run's data are reported by: AP50 on Pascal VOC, else AP."""
    return _headline(shown.run, shown.stamp)


@st.cache_data(max_entries=64, show_spinner=False)
def _summary(_run: Run, stamp: str, baseline: str | None, metric: str) -> pd.DataFrame:
    return robustness.summary(_run, metrics=[metric])


def summary(shown: Shown, metric: str) -> pd.DataFrame:
    """P, mPC, rPC and mCE of every network and set of corruptions, percent."""
    return _summary(shown.run, shown.stamp, shown.run.baseline, metric)


@st.cache_data(max_entries=32, show_spinner=False)
def _identical(_run: Run, stamp: str, baseline: str | None) -> dict[tuple[str, str], str]:
    return robustness.find_identical_pairs(_run)


def identical(shown: Shown) -> dict[tuple[str, str], str]:
    """The pairs that put out the same, and why."""
    return _identical(shown.run, shown.stamp, shown.run.baseline)


@st.cache_resource(max_entries=4, show_spinner="Reading intervals")
def _bootstrap(_run: Run, stamp: str) -> "robustness.Intervals | None":
    return (
        robustness.bootstrap_intervals(_run)
        if robustness.has_cached_samples(_run) and _run.store.root.is_dir()
        else None
    )


@st.cache_data(max_entries=32, show_spinner=False)
def _intervals(_run: Run, stamp: str, metric: str, pairs: tuple[tuple[str, str], ...]) -> pd.DataFrame | None:
    found = _bootstrap(_run, stamp)
    if found is None or metric not in robustness.METRICS:
        return None
    return found.table([metric], pairs=pairs)


def intervals(shown: Shown, metric: str) -> pd.DataFrame | None:
    """The bootstrap's table of one metric, with the differences of the run's pairs.

    None where the run keeps no resamples yet, or the metric has none.
    """
    if results(shown).empty or not kept(shown):
        return None
    found = _intervals(shown.run, f"{shown.stamp} kept", metric, tuple(shown.run.pairs))
    _warm().add((shown.stamp, metric))
    return found


def warm(shown: Shown, metric: str) -> bool:
    """Whether intervals come at once: from cache, or because there are none."""
    return (shown.stamp, metric) in _warm() or not kept(shown)


@st.cache_resource
def _warm() -> set[tuple[str, str]]:
    return set()


def kept(shown: Shown) -> bool:
    """Whether the run's resamples are stored; asked anew each time, since another process may make them."""
    known = _known()
    if shown.stamp not in known and robustness.has_cached_samples(shown.run):
        known.add(shown.stamp)
    return shown.stamp in known


@st.cache_resource
def _known() -> set[str]:
    return set()


@st.cache_resource(max_entries=8, show_spinner=False)
def _truth(_run: Run, stamp: str) -> GroundTruth:
    return _run.truth()


def truth(shown: Shown) -> GroundTruth:
    """The run's ground truth."""
    return _truth(shown.run, shown.stamp)


@st.cache_resource(max_entries=8, show_spinner=False)
def _detections(_run: Run, stamp: str, cell: Cell) -> pd.DataFrame:
    return _run.store.detections(cell)


def detections(shown: Shown, cell: Cell) -> pd.DataFrame:
    """A complete cell's detections; not to be changed, the cache has no copy."""
    return _detections(shown.run, shown.stamp, cell)


Cells = dict[tuple[str, str, float], Cell]


@st.cache_resource(max_entries=16, show_spinner=False)
def _cells(_run: Run, stamp: str) -> Cells:
    done = _results(_run, stamp)
    complete = set(done["key"]) if len(done) else set()
    return {(c.model, c.corruption, c.severity): c for c in _run.cells if c.key in complete}


def cells(shown: Shown) -> Cells:
    """The complete cells by (model, corruption, severity)."""
    return _cells(shown.run, shown.stamp)
