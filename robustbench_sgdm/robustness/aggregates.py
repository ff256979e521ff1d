"""P, mPC, rPC and mCE: what a detector keeps under a set of corruptions, from the scores of its cells.

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

_ROW = ("model", "corruption", "severity", "class", "metric", "over", "bin")  # what tells rows apart
_SAME = ("schema", "images", "seed", "cells")  # numbers that all trainings share
_VOC = {
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
}


@dataclass(frozen=True)
class Over:
    """A set of corrupted cells that a mean is taken over.

    Attributes:
        cells: (corruption, severity), severities above 0.
    """

    cells: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, corruptions: Sequence[str], severities: Sequence[float] = SEVERITIES) -> "Over":
        """Every one of some corruptions at every one of some severities."""
        return cls(tuple((c, float(s)) for c in corruptions for s in severities))

    @cached_property
    def corruptions(self) -> tuple[str, ...]:
        """Their names, each once."""
        return tuple(self._cells_of)

    @cached_property
    def name(self) -> str:
        """What tells it from other sets; empty for the 15 x 5 of the benchmark, the only bare mPC.

        >>> Over.of(["fog", "frost"]).name, Over.of(["fog"], [1, 3]).name, Over.of(BENCHMARK).name
        ('fog, frost', 'fog at 1, 3', '')
        """
        if set(self.cells) == set(_BENCHMARK.cells):
            return ""
        levels = self._levels
        if not self.at:
            return ", ".join(levels)
        if len(set(levels.values())) == 1:
            return f"{', '.join(levels)} at {_listed(next(iter(levels.values())))}"
        return ", ".join(f"{c} at {_listed(s)}" for c, s in levels.items())

    @cached_property
    def at(self) -> str:
        """Its severities in words; empty where they are the published five.

        >>> Over.of(["fog"], [1, 2.5, 5]).at, Over.of(["fog"], [3]).at, Over.of(["fog"]).at
        ('at severities 1, 2.5, 5', 'at severity 3', '')
        """
        own = {levels for c, levels in self._levels.items() if "[" not in c}
        if own <= {SEVERITIES}:
            return ""
        if len(own) > 1:
            return "at differing severities"
        (levels,) = own
        return f"at {'severity' if len(levels) == 1 else 'severities'} {_listed(levels)}"

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
        return np.mean([self._one(values, c) for c in self.corruptions], axis=0)

    def error(
        self, values: Mapping[tuple[str, float], Any], baseline: Mapping[tuple[str, float], Any]
    ) -> Any:
        """mCE in percent of scores in percent, against a baseline's."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.mean(
                [
                    100 * np.true_divide(100 - self._one(values, c), 100 - self._one(baseline, c))
                    for c in self.corruptions
                ],
                axis=0,
            )

    def _one(self, values: Mapping[tuple[str, float], Any], corruption: str) -> Any:
        return np.mean([values[cell] for cell in self._cells_of[corruption]], axis=0)


_BENCHMARK = Over.of(BENCHMARK)


def relative(mean: Any, clean: Any) -> Any:
    """rPC in percent; NaN where the clean score is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.equal(clean, 0), np.nan, 100 * np.true_divide(mean, clean))


def sets(*runs: Run) -> dict[Over, str]:
    """The sets that runs have planned, with the family that each is, if any.

    First the benchmark where all of it is planned, then everything, each family, each corruption.
    """
    planned: dict[str, set[float]] = {}
    for cell in (cell for run in runs for cell in run.cells):
        if cell.corruption != CLEAN:
            planned.setdefault(cell.corruption, set()).add(cell.severity)
    found: dict[Over, str] = {}
    if all(set(SEVERITIES) <= set(planned.get(c, ())) for c in BENCHMARK):
        found[_BENCHMARK] = ""
    described = {c: about for run in runs for c, about in run.plan["corruptions"].items()}
    family = {c: str(described.get(c, {}).get("family", "")) for c in planned}
    groups = [("", list(planned))]
    groups += [(f, [c for c in planned if family[c] == f]) for f in dict.fromkeys(family.values()) if f]
    groups += [("", [c]) for c in planned]
    seen = {frozenset(over.cells) for over in found}
    for name, members in groups:
        over = Over(tuple((c, s) for c in members for s in sorted(planned[c])))
        if members and frozenset(over.cells) not in seen:
            seen.add(frozenset(over.cells))
            found[over] = name
    return found


def headline(run: Run) -> str:
    """The metric that a data set is reported by: AP50 on Pascal VOC's twenty classes, else AP.

    AP too of an older run, which kept no ground truth.
    """
    try:
        names = run.truth().categories["name"]
    except errors.DataError:
        return "AP"
    return "AP50" if set(names) == _VOC else "AP"


def summary(
    run: Run,
    *,
    over: Sequence[Over] | None = None,
    baseline: str | None = None,
    metrics: Sequence[str] = METRICS,
    by_class: bool = False,
) -> pd.DataFrame:
    """P, mPC, rPC and mCE of every network of a run; see `summarize` for the columns.

    Those of a network trained from several seeds are the means over its trainings, and its mCE is that of its mean
    scores, as in `Intervals.table`.

    Args:
        over: the sets; by default `sets(run)`.
        baseline: whom mCE is relative to; by default as in `run.pairs`.
        metrics: of COCO's twelve.
        by_class: AP of each class instead, with a column `class`.
    """
    families = sets(run)
    chosen = families if over is None else {o: families.get(o, "") for o in over}
    groups = run.groups
    if baseline is not None and baseline not in groups:
        raise errors.unknown_name_error("baseline", baseline, groups)
    against = dict.fromkeys(groups, baseline) if baseline else {m: b for b, m in run.pairs}
    frame = run.results()
    if by_class:
        frame, metrics = classes(run), ["AP"]
    found = summarize(average_trainings(frame, groups), list(groups), chosen, metrics, against)
    if len(groups) < len(run.plan["models"]):  # a mean of shares is not the share of means
        each = summarize(frame, list(run.plan["models"]), chosen, metrics, {})
        found["rPC"] = average_trainings(each, groups)["rPC"]
    return found


def average_trainings(frame: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Rows of models as rows of networks: the mean over a network's trainings of every number.

    A row that one of the trainings lacks is left out. Where every network was trained once, the frame as it is.

    Args:
        frame: columns `model`, those of `_ROW` that it has, and numbers.
        groups: name -> models, as of `Run.groups`.
    """
    if frame.empty or all(members == [name] for name, members in groups.items()):
        return frame
    group_of = {m: name for name, members in groups.items() for m in members}
    named = frame.assign(model=frame["model"].map(group_of))
    keys = [c for c in _ROW if c in named]
    others = [c for c in named if c not in keys]
    numbers = [str(c) for c in others if pd.api.types.is_numeric_dtype(named[c]) and c not in _SAME]
    rows = named.groupby(keys, sort=False)
    every = rows[others].first()
    lacking = named[numbers].isna().groupby([named[key] for key in keys], sort=False).any()
    for number in numbers:  # no mean of some of them
        every[number] = rows[number].mean().mask(lacking[number])
    every = every.assign(_trainings=rows.size()).reset_index()
    whole = every["_trainings"] == every["model"].map({g: len(m) for g, m in groups.items()})
    return every.loc[whole, list(frame.columns)].reset_index(drop=True)


def classes(run: Run) -> pd.DataFrame:
    """AP of each class in each complete cell: columns model, corruption, severity, class, AP (percent)."""
    rows = [
        (cell.model, cell.corruption, cell.severity, name, ap)
        for cell in run.cells
        if run.store.complete(cell)
        for name, ap in run.store.scores(cell)["per_class"].items()
    ]
    return pd.DataFrame(rows, columns=["model", "corruption", "severity", "class", "AP"]).astype(
        {"AP": float}
    )


def summarize(
    results: pd.DataFrame,
    models: Sequence[str],
    over: Mapping[Over, str],
    metrics: Sequence[str],
    baselines: Mapping[str, str],
) -> pd.DataFrame:
    """P, mPC, rPC and mCE from rows of cells.

    Args:
        results: columns model, corruption, severity and the metrics, percent, NaN for what is absent; a column
            `class` makes a row for each class.
        over: the sets, and the family that each is, or "".
        baselines: whom a model's mCE is relative to.

    Returns:
        One row per model, class, metric and set: model, class, metric, over (the set's name; empty for the
        benchmark), family, cells (how many), P, mPC, rPC, baseline, mCE in percent, and `missing`: the cells
        to run before what is absent can be said, empty where nothing is missing. A metric whose objects the
        data do not hold is NaN too.
    """
    keys = ["class"] if "class" in results else []
    parts: list[tuple[Any, pd.DataFrame]] = (
        list(results.groupby(keys, sort=False)) if keys else [((), results)]
    )
    rows: list[list[Any]] = []
    for part, frame in parts:
        cells = {m: _cells(frame, m, metrics) for m in dict.fromkeys([*models, *baselines.values()])}
        for model in models:
            for which, family in over.items():
                found = _rows(cells, model, which, metrics, baselines.get(model, ""))
                rows += [[model, *part, r[0], which.name, family, len(which.cells), *r[1:]] for r in found]
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
    over: Over,
    metrics: Sequence[str],
    baseline: str,
) -> list[tuple[Any, ...]]:
    """metric, P, mPC, rPC, baseline, mCE, missing."""
    absent = np.full(len(metrics), np.nan)
    own = cells[model]
    clean = own.get((CLEAN, 0.0), absent)
    whole = all(c in own for c in over.cells)
    mean = over.mean(own) if whole else absent
    against = cells[baseline] if baseline else {}
    error = (
        over.error(own, against) if whole and baseline and all(c in against for c in over.cells) else absent
    )
    lacking = [missing(model, own, over)] + (
        [missing(baseline, against, over, clean=False)] if baseline else []
    )
    text = "; ".join(dict.fromkeys(t for t in lacking if t))
    columns = (metrics, clean, mean, relative(mean, clean), error)
    return [(m, p, c, r, baseline, e, text) for m, p, c, r, e in zip(*columns, strict=True)]


def missing(model: str, have: Mapping[tuple[str, float], Any], over: Over, *, clean: bool = True) -> str:
    """The cells of a set, and the clean one, that are not there; empty if all are.

    >>> missing("m", {("fog", 1.0): 0}, Over.of(["fog"], [1, 2, 3]))
    'm: clean, fog 2 3'
    """
    names = [CLEAN] if clean and (CLEAN, 0.0) not in have else []
    lacking: dict[str, list[str]] = {}
    for cell in over.cells:
        if cell not in have:
            lacking.setdefault(cell[0], []).append(f"{cell[1]:g}")
    names += [" ".join([name, *levels]) for name, levels in lacking.items()]
    return f"{model}: {', '.join(names)}" if names else ""


def _listed(severities: Sequence[float]) -> str:
    return ", ".join(f"{s:g}" for s in sorted(severities))
