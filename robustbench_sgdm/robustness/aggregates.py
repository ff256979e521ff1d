"""P, mPC, rPC and mCE of a detector under a set of corruptions, from the scores of its cells.

P is the clean score. mPC is the mean over corruptions of the mean over severities, and rPC = 100 mPC / P
(Michaelis et al. 2019, arXiv:1907.07484, equations 1 and 2). mCE is the mean over corruptions of
100 sum_s (100 - score) / sum_s (100 - baseline's score), after Hendrycks & Dietterich 2019
(arXiv:1903.12261). The clean score is never part of a mean. All of it holds for any of COCO's statistics:
rPC of AP_S is mPC of AP_S over P of AP_S.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from robustbench_sgdm.core import errors
from robustbench_sgdm.core.constants import BENCHMARK, CLEAN, METRICS
from robustbench_sgdm.store import Run

SEVERITIES = (1.0, 2.0, 3.0, 4.0, 5.0)
"""The five published severities."""

_ROW_KEYS = ("model", "corruption", "severity", "class", "metric", "over", "bin")  # identify a row
_SHARED = ("schema", "images", "seed", "cells")  # numbers that all trainings share
_VOC = {
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
}


@dataclass(frozen=True)
class CorruptionSet:
    """A set of corrupted cells that a mean is taken over.

    Attributes:
        cells: (corruption, severity), severities above 0.
    """

    cells: tuple[tuple[str, float], ...]

    @classmethod
    def from_product(
        cls, corruptions: Sequence[str], severities: Sequence[float] = SEVERITIES
    ) -> "CorruptionSet":
        """Every one of some corruptions at every one of some severities."""
        return cls(tuple((c, float(s)) for c in corruptions for s in severities))

    @cached_property
    def corruptions(self) -> tuple[str, ...]:
        """Their names, each once."""
        return tuple(self._cells_of)

    @cached_property
    def name(self) -> str:
        """Its name; empty for the 15 x 5 of the benchmark, whose mean is called mPC without a suffix.

        >>> sets = ((["fog", "frost"],), (["fog"], [1, 3]), (BENCHMARK,))
        >>> [CorruptionSet.from_product(*one).name for one in sets]
        ['fog, frost', 'fog at 1, 3', '']
        """
        if set(self.cells) == set(_BENCHMARK.cells):
            return ""
        levels = self._levels
        if not self.severity_text:
            return ", ".join(levels)
        if len(set(levels.values())) == 1:
            return f"{', '.join(levels)} at {_list(next(iter(levels.values())))}"
        return ", ".join(f"{c} at {_list(s)}" for c, s in levels.items())

    @cached_property
    def severity_text(self) -> str:
        """Its severities in words; empty where they are the published five.

        >>> [CorruptionSet.from_product(["fog"], s).severity_text for s in ([1, 2.5, 5], [3], SEVERITIES)]
        ['at severities 1, 2.5, 5', 'at severity 3', '']
        """
        own = {levels for c, levels in self._levels.items() if "[" not in c}
        if own <= {SEVERITIES}:
            return ""
        if len(own) > 1:
            return "at differing severities"
        (levels,) = own
        return f"at {'severity' if len(levels) == 1 else 'severities'} {_list(levels)}"

    @cached_property
    def _cells_of(self) -> dict[str, list[tuple[str, float]]]:
        cells: dict[str, list[tuple[str, float]]] = {}
        for cell in self.cells:
            cells.setdefault(cell[0], []).append(cell)
        return cells

    @cached_property
    def _levels(self) -> dict[str, tuple[float, ...]]:
        return {c: tuple(sorted(s for _, s in cells)) for c, cells in self._cells_of.items()}

    def title(self, statistic: str) -> str:
        """`mPC`, or `mPC over fog`."""
        return f"{statistic} over {self.name}" if self.name else statistic

    def mean(self, values: Mapping[tuple[str, float], Any]) -> Any:
        """Mean over corruptions of the mean over severities; of numbers or of arrays of one shape."""
        return np.mean([self._severity_mean(values, c) for c in self.corruptions], axis=0)

    def error(
        self, values: Mapping[tuple[str, float], Any], baseline: Mapping[tuple[str, float], Any]
    ) -> Any:
        """mCE in percent, from scores in percent, relative to a baseline."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.mean(
                [
                    100
                    * np.true_divide(
                        100 - self._severity_mean(values, c), 100 - self._severity_mean(baseline, c)
                    )
                    for c in self.corruptions
                ],
                axis=0,
            )

    def _severity_mean(self, values: Mapping[tuple[str, float], Any], corruption: str) -> Any:
        return np.mean([values[cell] for cell in self._cells_of[corruption]], axis=0)


_BENCHMARK = CorruptionSet.from_product(BENCHMARK)


def relative_score(mean: Any, clean: Any) -> Any:
    """rPC in percent; NaN where the clean score is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.equal(clean, 0), np.nan, 100 * np.true_divide(mean, clean))


def corruption_sets(*runs: Run) -> dict[CorruptionSet, str]:
    """The sets of corruptions in the plans of runs, each with its family if it is one, else "".

    First the benchmark if all of it is planned, then everything, each family, each corruption.
    """
    planned: dict[str, set[float]] = {}
    for cell in (cell for run in runs for cell in run.cells):
        if cell.corruption != CLEAN:
            planned.setdefault(cell.corruption, set()).add(cell.severity)
    sets: dict[CorruptionSet, str] = {}
    if all(set(SEVERITIES) <= set(planned.get(c, ())) for c in BENCHMARK):
        sets[_BENCHMARK] = ""
    described = {name: one for run in runs for name, one in run.manifest.corruptions.items()}
    family = {c: described[c].family for c in planned}
    groups = [("", list(planned))]
    groups += [(f, [c for c in planned if family[c] == f]) for f in dict.fromkeys(family.values()) if f]
    groups += [("", [c]) for c in planned]
    seen = {frozenset(one.cells) for one in sets}
    for name, members in groups:
        one = CorruptionSet(tuple((c, s) for c in members for s in sorted(planned[c])))
        if members and frozenset(one.cells) not in seen:
            seen.add(frozenset(one.cells))
            sets[one] = name
    return sets


def primary_metric(run: Run) -> str:
    """The metric that a data set is reported by: AP50 for Pascal VOC's twenty classes, else AP.

    AP for a run without ground truth.
    """
    try:
        names = run.ground_truth().categories["name"]
    except errors.DataError:
        return "AP"
    return "AP50" if set(names) == _VOC else "AP"


def summary(
    run: Run,
    *,
    sets: Sequence[CorruptionSet] | None = None,
    baseline: str | None = None,
    metrics: Sequence[str] = METRICS,
    by_class: bool = False,
) -> pd.DataFrame:
    """P, mPC, rPC and mCE of every network of a run; see `summarize` for the columns.

    A network trained from several seeds has the means over its trainings; its mCE is that of its mean scores, as in
    `Intervals.table`.

    Args:
        sets: by default `corruption_sets(run)`.
        baseline: that mCE is relative to; by default as in `run.baseline_pairs`.
        metrics: of COCO's twelve.
        by_class: AP of each class instead, with a column `class`.

    Raises:
        UsageError: an unknown baseline or metric.
    """
    for metric in metrics:
        if metric not in METRICS:
            raise errors.unknown_name_error("metric", metric, METRICS)
    families = corruption_sets(run)
    chosen = families if sets is None else {one: families.get(one, "") for one in sets}
    groups = run.groups
    if baseline is not None and baseline not in groups:
        raise errors.unknown_name_error("baseline", baseline, groups)
    baselines = dict.fromkeys(groups, baseline) if baseline else {m: b for b, m in run.baseline_pairs}
    frame = run.results()
    if by_class:
        frame, metrics = class_scores(run), ["AP"]
    table = summarize(average_trainings(frame, groups), list(groups), chosen, metrics, baselines)
    if len(groups) < len(run.manifest.models):  # the mean of the trainings' rPC, not the rPC of their means
        by_training = summarize(frame, list(run.manifest.models), chosen, metrics, {})
        table["rPC"] = average_trainings(by_training, groups)["rPC"]
    return table


def average_trainings(frame: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Turn rows of models into rows of networks, with the mean over its trainings of every number.

    A row that one of the trainings lacks is dropped. If every network was trained once, the frame is returned as it is.

    Args:
        frame: columns `model`, those of `_ROW_KEYS` that it has, and numbers.
        groups: name -> models, as of `Run.groups`.
    """
    if frame.empty or all(members == [name] for name, members in groups.items()):
        return frame
    group_of = {m: name for name, members in groups.items() for m in members}
    named = frame.assign(model=frame["model"].map(group_of))
    keys = [c for c in _ROW_KEYS if c in named]
    others = [c for c in named if c not in keys]
    numbers = [str(c) for c in others if pd.api.types.is_numeric_dtype(named[c]) and c not in _SHARED]
    rows = named.groupby(keys, sort=False)
    means = rows[others].first()
    has_gap = named[numbers].isna().groupby([named[key] for key in keys], sort=False).any()
    for number in numbers:  # never the mean of some of them
        means[number] = rows[number].mean().mask(has_gap[number])
    means = means.assign(_trainings=rows.size()).reset_index()
    is_complete = means["_trainings"] == means["model"].map({g: len(m) for g, m in groups.items()})
    return means.loc[is_complete, list(frame.columns)].reset_index(drop=True)


def class_scores(run: Run) -> pd.DataFrame:
    """AP of each class in each complete cell: columns model, corruption, severity, class, AP (percent)."""
    rows = [
        (cell.model, cell.corruption, cell.severity, name, ap)
        for cell in run.cells
        if run.store.is_complete(cell)
        for name, ap in run.store.read_scores(cell).per_class.items()
    ]
    return pd.DataFrame(rows, columns=["model", "corruption", "severity", "class", "AP"]).astype(
        {"AP": float}
    )


def summarize(
    results: pd.DataFrame,
    models: Sequence[str],
    sets: Mapping[CorruptionSet, str],
    metrics: Sequence[str],
    baselines: Mapping[str, str],
) -> pd.DataFrame:
    """P, mPC, rPC and mCE from rows of cells.

    Args:
        results: columns model, corruption, severity and the metrics, percent, NaN for what is absent; a column
            `class` makes a row for each class.
        models: to summarize.
        sets: of corruptions, each with its family or "".
        metrics: columns of `results`.
        baselines: that a model's mCE is relative to.

    Returns:
        One row per model, class, metric and set: model, class, metric, over (the set's name; empty for the
        benchmark), family, cells (how many), P, mPC, rPC, baseline, mCE in percent, and `missing`: the cells
        to run before absent values can be computed, empty where none is missing. A metric without objects in the data
        is NaN too.
    """
    keys = ["class"] if "class" in results else []
    parts: list[tuple[Any, pd.DataFrame]] = (
        list(results.groupby(keys, sort=False)) if keys else [((), results)]
    )
    rows: list[list[Any]] = []
    for part, frame in parts:
        cells = {m: _cells(frame, m, metrics) for m in dict.fromkeys([*models, *baselines.values()])}
        for model in models:
            for one, family in sets.items():
                found = _rows(cells, model, one, metrics, baselines.get(model, ""))
                rows += [[model, *part, r[0], one.name, family, len(one.cells), *r[1:]] for r in found]
    label = ["model", *keys, "metric", "over", "family", "cells"]
    return pd.DataFrame(rows, columns=[*label, "P", "mPC", "rPC", "baseline", "mCE", "missing"])


def _cells(results: pd.DataFrame, model: str, metrics: Sequence[str]) -> dict[tuple[str, float], Any]:
    if results.empty:
        return {}
    found = results[results["model"] == model]
    keys = zip(found["corruption"].astype(str), found["severity"].astype(float), strict=True)
    return dict(zip(keys, found[list(metrics)].to_numpy(float), strict=True))


def _rows(
    cells: Mapping[str, Mapping[tuple[str, float], Any]],
    model: str,
    corruption_set: CorruptionSet,
    metrics: Sequence[str],
    baseline: str,
) -> list[tuple[Any, ...]]:
    """metric, P, mPC, rPC, baseline, mCE, missing."""
    absent = np.full(len(metrics), np.nan)
    own = cells[model]
    clean = own.get((CLEAN, 0.0), absent)
    is_complete = all(c in own for c in corruption_set.cells)
    mean = corruption_set.mean(own) if is_complete else absent
    theirs = cells[baseline] if baseline else {}
    has_error = is_complete and baseline and all(c in theirs for c in corruption_set.cells)
    error = corruption_set.error(own, theirs) if has_error else absent
    gaps = [missing_cells(model, own, corruption_set)]
    gaps += [missing_cells(baseline, theirs, corruption_set, clean=False)] if baseline else []
    text = "; ".join(dict.fromkeys(gap for gap in gaps if gap))
    columns = (metrics, clean, mean, relative_score(mean, clean), error)
    return [(m, p, c, r, baseline, e, text) for m, p, c, r, e in zip(*columns, strict=True)]


def missing_cells(
    model: str, stored: Mapping[tuple[str, float], Any], corruption_set: CorruptionSet, *, clean: bool = True
) -> str:
    """The cells of a set, and the clean one, that are missing, in words; empty if none is.

    >>> missing_cells("m", {("fog", 1.0): 0}, CorruptionSet.from_product(["fog"], [1, 2, 3]))
    'm: clean, fog 2 3'
    """
    names = [CLEAN] if clean and (CLEAN, 0.0) not in stored else []
    severities: dict[str, list[str]] = {}
    for cell in corruption_set.cells:
        if cell not in stored:
            severities.setdefault(cell[0], []).append(f"{cell[1]:g}")
    names += [" ".join([name, *levels]) for name, levels in severities.items()]
    return f"{model}: {', '.join(names)}" if names else ""


def _list(severities: Sequence[float]) -> str:
    return ", ".join(f"{s:g}" for s in sorted(severities))
