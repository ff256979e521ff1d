"""What the pages read of a run: frames from a cache that all visitors share.

Every function takes a `RunView`, and the cache goes by what changes its answer: the run's files alone (`BY_FILES`),
or those and the baseline that models are compared with (`BY_BASELINE`).
"""

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from robustbench_sgdm import robustness, tables
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.store import MANIFEST, Cell, GroundTruth, Run

OTHER_FAMILY = "other"


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
BY_BASELINE: Any = {RunView: lambda view: (view.stamp, view.run.baseline)}


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
    """A run, and the files whose times say whether it changed: manifest, PSNR, and each cell's scores, written last."""
    run = Run.open(path)
    scores = [run.store.folder(cell) / "scores.json" for cell in run.cells]
    return run, [str(file.absolute()) for file in (path / MANIFEST, path / "image_quality.csv", *scores)]


def _hash_times(files: Sequence[str]) -> str:
    digest = hashlib.sha256(files[0].encode())
    for file in files:
        try:
            digest.update(str(os.lstat(file).st_mtime_ns).encode())
        except OSError:
            digest.update(b"-")
    return digest.hexdigest()


@st.cache_resource(max_entries=16, show_spinner="Reading scores", hash_funcs=BY_FILES)
def results(view: RunView) -> pd.DataFrame:
    """A row per complete cell, as in `results.csv`. Read-only: the cache makes no copy."""
    return view.run.results()


@st.cache_resource(max_entries=16, show_spinner=False, hash_funcs=BY_FILES)
def pooled_results(view: RunView) -> pd.DataFrame:
    """`results` with one row per cell of a seed group: the mean over its trainings, if all of them have the cell.

    Read-only: the cache makes no copy.
    """
    return robustness.average_trainings(results(view), view.run.groups)


def count_missing_cells(view: RunView) -> int:
    """How many of the planned cells are not complete."""
    return len(view.run.manifest.cells) - len(results(view))


@st.cache_resource(max_entries=32, show_spinner=False, hash_funcs=BY_FILES)
def corruption_sets(view: RunView) -> "dict[robustness.CorruptionSet, str]":
    """The sets that means are taken over, widest first, and the family that each is, or ""."""
    return robustness.corruption_sets(view.run)


def corruption_set(view: RunView, family: str) -> "robustness.CorruptionSet | None":
    """The set that means are taken over: that of a family, else the widest."""
    sets = corruption_sets(view)
    return next(iter([*(over for over, f in sets.items() if f == family), *sets]), None)


def families(view: RunView) -> dict[str, list[str]]:
    """The corruptions of each family of which a cell is complete; those without one are `OTHER_FAMILY`."""
    named: dict[str, list[str]] = {}
    for name in dict.fromkeys(results(view)["corruption"]):
        if name != CLEAN:
            named.setdefault(view.run.manifest.corruptions[name].family or OTHER_FAMILY, []).append(str(name))
    return named


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs=BY_FILES)
def primary_metric(view: RunView) -> str:
    """The metric that the run's data are reported by: AP50 on Pascal VOC, else AP."""
    return robustness.primary_metric(view.run)


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=BY_BASELINE)
def summary(view: RunView, metric: str) -> pd.DataFrame:
    """P, mPC, rPC and mCE of every model and set of corruptions, percent."""
    return robustness.summary(view.run, metrics=[metric])


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs=BY_BASELINE)
def identical_pairs(view: RunView) -> dict[tuple[str, str], str]:
    """The pairs with equal outputs, and why."""
    return robustness.find_identical_pairs(view.run)


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs=BY_BASELINE)
def story(view: RunView, metric: str, has_intervals: bool) -> "tables.Summary":
    """The run in short, as in the report, but for its flips; with intervals if they are stored and asked for."""
    return tables.summarize(
        view.run,
        results(view),
        metric,
        (lambda: _bootstrap(view)) if has_intervals and has_resamples(view) else None,
        lambda *_, **__: robustness.Flips.from_cells([], pd.Series(dtype=str)),
    )


@st.cache_data(max_entries=32, show_spinner="Finding flips", hash_funcs=BY_FILES)
def flipped_images(
    view: RunView, metric: str, pair: tuple[str, str], cells: tuple[tuple[str, float], ...]
) -> "list[tables.FlippedImage]":
    """The images where two trainings differ in a set's cells, as in the report; raises as `robustness.find_flips`."""
    find = partial(robustness.find_flips, view.run)
    return tables.flipped_images(find, results(view), metric, pair, robustness.CorruptionSet(cells))


@st.cache_resource(max_entries=4, show_spinner="Reading intervals", hash_funcs=BY_FILES)
def _bootstrap(view: RunView) -> "robustness.Intervals":
    return robustness.bootstrap_intervals(view.run)


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs=BY_FILES)
def ranking(view: RunView, metric: str, cells: tuple[tuple[str, float], ...]) -> str:
    """Which of the models may be first over a set's cells, or on clean images, in words; the intervals are stored."""
    over = robustness.CorruptionSet(cells) if cells else None
    return tables.ranking_verdict(robustness.rank_networks(_bootstrap(view), metric, over), metric, over)


@st.cache_resource(max_entries=32, show_spinner=False, hash_funcs=BY_FILES)
def _interval_table(view: RunView, metric: str, pairs: tuple[tuple[str, str], ...]) -> pd.DataFrame:
    return _bootstrap(view).table([metric], pairs=pairs)


def intervals(view: RunView, metric: str) -> pd.DataFrame | None:
    """The bootstrap's table of one metric, with the differences of the run's pairs.

    None if the run has no resamples yet, or the metric has none. Read-only: the cache makes no copy.
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


def has_class_intervals(view: RunView) -> bool:
    """Whether the intervals of single classes are stored."""
    if view.stamp not in _WITH_CLASS_SAMPLES and has_resamples(view):
        _WITH_CLASS_SAMPLES.update([view.stamp] if robustness.has_class_intervals(view.run) else [])
    return view.stamp in _WITH_CLASS_SAMPLES


def class_scores(view: RunView, model: str, baseline: str = "") -> pd.DataFrame:
    """AP of each class of a model, or its difference from a baseline, in each cell and as the mean over severities.

    Returns:
        A row per class with objects, corruption and severity (NaN for the mean): class, objects, few, corruption,
        severity, estimate, low, high, p_holm, significant. Without stored intervals, low, high and p_holm are NaN.
    """
    if has_class_intervals(view):
        return _class_intervals(view, model, baseline)
    return _bare_class_scores(view, model, baseline)


_CLASS_COLUMNS = [
    *("class", "objects", "few", "corruption", "severity"),
    *("estimate", "low", "high", "p_holm", "significant"),
]


@st.cache_resource(max_entries=12, show_spinner="Reading the intervals of classes", hash_funcs=BY_FILES)
def _class_intervals(view: RunView, model: str, baseline: str) -> pd.DataFrame:
    whole, names = _bootstrap(view), [model, *filter(None, [baseline])]
    groups = {name: whole.groups[name] for name in names}
    members = [member for trainings in groups.values() for member in trainings]
    single = {one: family for one, family in whole.sets.items() if len(one.corruptions) == 1}
    own = replace(
        whole,  # these models alone: the samples of all classes and cells would not fit in memory
        groups=groups,
        sources={member: whole.sources[member] for member in members},
        pairs=[(baseline, model)] if baseline else [],
        sets=single,
    )
    table = robustness.class_intervals(own)
    corruption_of = {one.name: one.corruptions[0] for one in single}
    rows = table[(table["model"] == model) & (table["baseline"] == baseline)]
    scores, means = (rows[rows["statistic"] == statistic] for statistic in ("score", "mPC"))
    means = means.assign(corruption=means["over"].map(corruption_of))
    return pd.concat([scores, means], ignore_index=True)[_CLASS_COLUMNS]


@st.cache_resource(max_entries=12, show_spinner="Reading the scores of classes", hash_funcs=BY_FILES)
def _bare_class_scores(view: RunView, model: str, baseline: str) -> pd.DataFrame:
    scores, keys = robustness.class_scores(view.run), ["class", "corruption", "severity"]
    sides = []
    for name in filter(None, [model, baseline]):
        members = view.run.groups[name]
        grouped = scores[scores["model"].isin(members)].groupby(keys, sort=False)["AP"]
        sides.append(grouped.mean()[grouped.count() == len(members)])
    single = (sides[0] - sides[1] if baseline else sides[0]).rename("estimate").dropna().reset_index()
    planned = {
        one.corruptions[0]: len(one.cells) for one in corruption_sets(view) if len(one.corruptions) == 1
    }
    noisy = single[single["severity"] > 0]
    counts = noisy.groupby(["class", "corruption"])["severity"].transform("count")
    whole = noisy[counts == noisy["corruption"].map(planned)]
    means = whole.groupby(["class", "corruption"], sort=False, as_index=False)["estimate"].mean()
    means = means.assign(severity=float("nan"))
    truth = ground_truth(view)
    objects = truth.annotations.loc[truth.annotations["iscrowd"] == 0, "category_id"].value_counts()
    by_name = {
        str(row.name_): int(objects.get(row.category_id, 0))
        for row in truth.categories.rename(columns={"name": "name_"}).itertuples()
    }
    frame = pd.concat([single, means], ignore_index=True)
    frame["objects"] = frame["class"].map(by_name).fillna(0).astype(int)
    frame = frame[frame["objects"] > 0]
    nothing = {"low": float("nan"), "high": float("nan"), "p_holm": float("nan"), "significant": False}
    whole_frame: pd.DataFrame = frame.assign(few=frame["objects"] < robustness.FEW_OBJECTS, **nothing)
    return whole_frame[_CLASS_COLUMNS]


@st.cache_data(max_entries=64, show_spinner="Matching the boxes of the class", hash_funcs=BY_FILES)
def class_curves(
    view: RunView, models: tuple[str, ...], corruption: str, severity: float, name: str
) -> pd.DataFrame:
    """Precision and recall of one class: as `robustness.precision_recall`, clean and at one severity, by training."""
    categories = ground_truth(view).categories
    category = int(categories.loc[categories["name"] == name, "category_id"].iloc[0])
    cells = complete_cells(view)
    wanted = [(m, c, s) for m in models for c, s in dict.fromkeys([(CLEAN, 0.0), (corruption, severity)])]
    pooled = robustness.pool_boxes(
        view.run, cells=[cells[key] for key in wanted if key in cells], category=category
    )
    return robustness.precision_recall(pooled)


@st.cache_data(max_entries=8, show_spinner="Finding operating confidences", hash_funcs=BY_FILES)
def operating_confidences(view: RunView) -> dict[str, float]:
    """The operating confidence of each model that has one."""
    found = robustness.operating_confidences(view.run)
    return {model: value for model, value in found.items() if not math.isnan(value)}


@st.cache_data(max_entries=32, show_spinner="Counting what objects are taken for", hash_funcs=BY_FILES)
def confusion(view: RunView, cell: Cell) -> pd.DataFrame:
    """A complete cell's confusion matrix at its model's operating confidence; see `robustness.confusion_matrix`."""
    return robustness.confusion_matrix(view.run, [cell], operating_confidences(view)[cell.model])


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs=BY_FILES)
def mean_curve(
    view: RunView, metric: str, cells: tuple[tuple[str, float], ...], bands: bool
) -> tuple[pd.DataFrame, str]:
    """The mean over corruptions against severity, of a set's cells as in the report, and what it is over, in words.

    Returns:
        As of `robustness.mean_curve`, with the estimate as `score` and a column psnr of NaN for
        `charts.severity_curves`; low and high are NaN without `bands` or stored resamples. And as of
        `tables.curve_scope`.
    """
    over = robustness.CorruptionSet(cells)
    has_bands = bands and metric in robustness.METRICS and has_resamples(view)
    curve = robustness.mean_curve(
        results(view), view.run.groups, metric, over, _bootstrap(view) if has_bands else None
    )
    frame = curve.rename(columns={"estimate": "score"}).assign(psnr=float("nan"))
    return frame, tables.curve_scope(curve, over)


# Stamps of what was computed in this process, for all visitors.
_WITH_INTERVALS: set[tuple[str, str]] = set()
_WITH_RESAMPLES: set[str] = set()
_WITH_CLASS_SAMPLES: set[str] = set()


def has_cached_intervals(view: RunView, metric: str) -> bool:
    """Whether `intervals` answers at once, from cache."""
    return (view.stamp, metric) in _WITH_INTERVALS


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
