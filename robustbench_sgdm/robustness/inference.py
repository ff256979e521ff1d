"""Scores, means over cells and differences between models, with intervals, p-values and significance."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_sgdm.core import errors
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.robustness.aggregates import CorruptionSet, missing_cells, relative_score
from robustbench_sgdm.robustness.measures import has_relative, maximum
from robustbench_sgdm.robustness.resample_cache import BootstrapSamples, mean_samples
from robustbench_sgdm.robustness.resampling import METRICS
from robustbench_sgdm.robustness.significance import (
    ROUNDING,
    Variance,
    mark_significant,
    p_value,
    p_values,
    pool_variances,
    student_interval,
)
from robustbench_sgdm.store import Run, match_seeds

Cells = Mapping[tuple[str, float], BootstrapSamples]

ROW_KEYS = ["model", "baseline", "statistic", "over", "family", "corruption", "severity", "metric"]
"""Columns that say what a row of `Intervals.table` is about."""


class _Item(NamedTuple):
    """What a row is about; `statistic` is one of score, P, mPC, rPC, loss, mCE."""

    statistic: str
    over: str = ""
    family: str = ""
    corruption: str = ""
    severity: float = np.nan


@dataclass(frozen=True, eq=False)
class _TrainingSamples:
    """One statistic of a network.

    Attributes:
        samples: of each training, by model; empty where cells are missing.
        missing: those cells, in words.
    """

    samples: Mapping[str, BootstrapSamples]
    missing: str = ""

    @cached_property
    def mean(self) -> BootstrapSamples:
        """The mean over the trainings; once, since networks are compared in pairs."""
        return BootstrapSamples.map(mean_of, *self.samples.values())

    @cached_property
    def counts(self) -> tuple[int, int]:
        """Resamples and groups of the jackknife of a single training that lacks none; else (-1, -1)."""
        whole = [part for part in (self.mean.resamples, self.mean.jackknife) if np.isfinite(part).all()]
        return (len(whole[0]), len(whole[1])) if len(self.samples) == 1 and len(whole) == 2 else (-1, -1)


@dataclass(frozen=True, eq=False)
class Intervals:
    """The bootstrap of a run, or of runs that can be compared.

    Attributes:
        cells: for each model, the distributions of its complete cells, by (corruption, severity).
        sets: of corruptions that means are taken over, each with its family or "".
        pairs: (baseline, model), names of `groups`; the difference model - baseline is tested.
        groups: networks, each with its trainings, which are models; a network trained once is its own group.
        seeds: of trainings, if known: two groups are paired by the seeds that both have.
        level: of the intervals, such as 0.95.
        sources: of each model, its run and what it is called there.
        metrics: the columns of every cell's samples, of METRICS and MEASURES.
        undefined: why a metric has no value, by model and metric, where that is known.
    """

    cells: Mapping[str, Cells]
    sets: Mapping[CorruptionSet, str]
    pairs: Sequence[tuple[str, str]]
    groups: Mapping[str, Sequence[str]]
    seeds: Mapping[str, int] = field(default_factory=dict)
    level: float = 0.95
    sources: Mapping[str, tuple[Run, str]] = field(default_factory=dict)
    metrics: Sequence[str] = METRICS
    undefined: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def table(
        self,
        metrics: Sequence[str] = (),
        *,
        pairs: Sequence[tuple[str, str]] | None = None,
        sets: Sequence[CorruptionSet] | None = None,
        losses: bool = False,
    ) -> pd.DataFrame:
        """One row per statistic: first each network's own, then the differences.

        Args:
            metrics: of this object's; all by default.
            pairs: other pairs than the run's.
            sets: other sets than the run's.
            losses: also what each cell and each mean has lost of the clean value.

        Returns:
            Columns, in percent; absent values are NaN:
            model: or group of trainings;
            baseline: empty for the model's own value, else the value is model - baseline, or its mCE against it;
            statistic: score (of one cell), P, mPC, rPC, loss (P minus a score, or minus mPC), or of a pair mCE, 100 where
            the model errs as its baseline does;
            over, family: the set of a mean; both empty for the benchmark's mPC and rPC;
            corruption, severity: of a score;
            metric;
            estimate, low, high: with its interval; no interval where a single image decides the value. Measures of
            errors, and those without a largest value, have neither rPC nor mCE;
            p: of the hypothesis that a difference is 0, or mCE 100, constructed as the interval;
            se: standard error; se_images: from sampling images; se_seeds: from training, where there are several seeds;
            seeds: number of trainings, of a pair those compared; resamples: how many held such objects;
            missing: the cells to run before the value can be computed, or why there is none;
            p_holm, significant: p is corrected over the corrupted cells of one model, baseline and
            metric; likewise over the families, and over the single corruptions, of each kind of mean. The clean score
            and the means over the first set are one test each.

        Raises:
            UsageError: an unknown metric or model.
        """
        metrics = tuple(metrics) or tuple(self.metrics)
        for metric in metrics:
            if metric not in self.metrics:
                raise errors.unknown_name_error("metric", metric, self.metrics)
        chosen = dict(self.sets) if sets is None else {one: self.sets.get(one, "") for one in sets}
        wanted = list(self.pairs if pairs is None else pairs)
        for name in (name for pair in wanted for name in pair):
            if name not in self.groups:
                raise errors.unknown_name_error("model", name, self.groups)
        own = {group: self._items(group, chosen, losses) for group in self.groups}
        relative = [metric for metric in metrics if has_relative(metric)]
        rows = []
        for name, items in own.items():
            for item, trainings in items.items():
                shown = relative if item.statistic == "rPC" else metrics
                rows += self._rows((name, "", *item), trainings, shown)
        for baseline, name in wanted:
            for item, trainings in own[name].items():
                if item in own[baseline]:
                    shown = relative if item.statistic == "rPC" else metrics
                    rows += self._rows((name, baseline, *item), trainings, shown, own[baseline][item])
            for one, family in chosen.items():
                label = (name, baseline, *_Item("mCE", one.name, family))
                rows += self._error_rows(label, one, relative)
        frame = pd.DataFrame(rows, columns=[*ROW_KEYS, *Inference._fields, "missing"])
        first = next(iter(chosen), CorruptionSet(())).name
        families = [
            (*row[:4], _test_family(row, first)) for row in frame[_FAMILY_KEYS].itertuples(index=False)
        ]
        return mark_significant(frame, families, self.level)

    def seed_pairs(self, baseline: str, model: str) -> list[tuple[str, str]]:
        """The trainings (of baseline, of model) with the same seed; none where fewer than two seeds are shared."""
        same = match_seeds(self.groups[baseline], self.groups[model], self.seeds)
        return same if len(same) > 1 else []

    def trainings(self, baseline: str, model: str) -> list[tuple[str, str]]:
        """The trainings of the same seed, or else the first of each; as `Run.match_trainings`."""
        sides = self.groups[baseline], self.groups[model]
        return match_seeds(*sides, self.seeds) or [(sides[0][0], sides[1][0])]

    def _items(
        self, group: str, sets: Mapping[CorruptionSet, str], losses: bool
    ) -> dict[_Item, _TrainingSamples]:
        """Every statistic of a network."""
        models = {m: self.cells[m] for m in self.groups[group]}
        shared = [cell for cell in next(iter(models.values())) if all(cell in c for c in models.values())]
        items = {
            _Item("score", corruption=c, severity=s): _TrainingSamples(
                {m: own[c, s] for m, own in models.items()}
            )
            for c, s in shared
        }
        none = CorruptionSet(())
        items[_Item("P")] = _trainings(models, none, lambda cells: cells[CLEAN, 0.0])
        for one, family in sets.items():
            items[_Item("mPC", one.name, family)] = _trainings(
                models, one, partial(mean_samples, one), clean=False
            )
            items[_Item("rPC", one.name, family)] = _trainings(models, one, _relative(one))
        if losses:
            cells = {CorruptionSet((cell,)): cell for cell in shared if cell[0] != CLEAN}
            for one, family in sets.items():
                items[_Item("loss", one.name, family)] = _trainings(models, one, _loss(one))
            for one, (corruption, severity) in cells.items():
                item = _Item("loss", corruption=corruption, severity=severity)
                items[item] = _trainings(models, one, _loss(one))
        return items

    def _rows(
        self,
        label: tuple[Any, ...],
        own: _TrainingSamples,
        metrics: Sequence[str],
        baseline: _TrainingSamples | None = None,
    ) -> list[list[Any]]:
        """A row for each metric of a network's own value, or of its difference from its baseline."""
        both = [own] if baseline is None else [own, baseline]
        if gaps := "; ".join(dict.fromkeys(side.missing for side in both if side.missing)):
            return [[*label, m, *[np.nan] * len(Inference._fields), gaps] for m in metrics]
        samples, sides = self._sides((label[1], label[0]), *both)
        return self._number_rows(label, samples, metrics, None if baseline is None else 0.0, sides)

    def _sides(
        self, pair: tuple[str, str], own: _TrainingSamples, baseline: _TrainingSamples | None = None
    ) -> tuple[BootstrapSamples, list[list[BootstrapSamples]]]:
        """The samples of a network's own value, or of its difference from its baseline; and the sides of `infer`."""
        if baseline is None:
            return own.mean, [list(own.samples.values())]
        if same := self.seed_pairs(*pair):
            paired = [(own.samples[model], baseline.samples[other]) for other, model in same]
            differences = [BootstrapSamples.map(np.subtract, *one) for one in paired]
            return BootstrapSamples.map(mean_of, *differences), [differences]
        sides = [list(side.samples.values()) for side in (own, baseline)]
        return BootstrapSamples.map(np.subtract, own.mean, baseline.mean), sides

    def compare_all(self, metric: str, corruption_set: CorruptionSet | None) -> dict[tuple[str, str], float]:
        """p of the difference of a mean, for every two networks that have it, each pair once; as in `table`.

        Args:
            metric: of this object's.
            corruption_set: that mPC is over; None for the clean score.

        Returns:
            By (baseline, model), names of `groups`; p is not corrected.
        """
        chosen = corruption_set or CorruptionSet(())
        statistic = partial(mean_samples, chosen) if corruption_set else lambda cells: cells[CLEAN, 0.0]
        column = self.metrics.index(metric)
        means: dict[str, _TrainingSamples] = {}
        for name, members in self.groups.items():
            every = _trainings(
                {m: self.cells[m] for m in members}, chosen, statistic, clean=not corruption_set
            )
            if every.samples:
                own = {m: one.split([column, 1])[1] for m, one in every.samples.items()}
                means[name] = _TrainingSamples(own)
        compared: dict[tuple[str, str], float] = {}
        for place, (baseline, theirs) in enumerate(means.items()):
            others = dict(itertools.islice(means.items(), place + 1, None))
            quick = _p_of_many(theirs, others)  # a thousand networks have half a million pairs
            compared |= {(baseline, model): p for model, p in quick.items()}
            for model in others.keys() - quick.keys():
                samples, sides = self._sides((baseline, model), others[model], theirs)
                compared[baseline, model] = infer(samples, 0, 0.0, sides, self.level).p
        return compared

    def _error_rows(
        self, label: tuple[Any, ...], corruption_set: CorruptionSet, metrics: Sequence[str]
    ) -> list[list[Any]]:
        """mCE of a network relative to another, both as the mean over their trainings."""
        groups = [{m: self.cells[m] for m in self.groups[name]} for name in label[:2]]
        gaps = [
            missing_cells(m, cells, corruption_set, clean=False)
            for models in groups
            for m, cells in models.items()
        ]
        if text := "; ".join(dict.fromkeys(gap for gap in gaps if gap)):
            return [[*label, m, *[np.nan] * len(Inference._fields), text] for m in metrics]

        def error(*values: NDArray[np.float64]) -> Any:
            cells = corruption_set.cells
            mine, theirs = values[: len(cells)], values[len(cells) :]
            return corruption_set.error(*(dict(zip(cells, side, strict=True)) for side in (mine, theirs)))

        def between(*sides: Sequence[Cells]) -> BootstrapSamples:
            return BootstrapSamples.map(
                error,
                *(
                    BootstrapSamples.map(mean_of, *(c[at] for c in side))
                    for side in sides
                    for at in corruption_set.cells
                ),
            )

        mine, theirs = (list(models.values()) for models in groups)
        if same := self.seed_pairs(label[1], label[0]):
            sides = [[between([groups[0][model]], [groups[1][other]]) for other, model in same]]
        else:
            sides = [[between([one], theirs) for one in mine], [between(mine, [one]) for one in theirs]]
        return self._number_rows(label, between(mine, theirs), metrics, 100.0, sides)

    def _number_rows(
        self,
        label: tuple[Any, ...],
        samples: BootstrapSamples,
        metrics: Sequence[str],
        null: float | None,
        sides: Sequence[Sequence[Any]],
    ) -> list[list[Any]]:
        """Rows of `_KEYS`, the fields of `Inference`, and why there is no value.

        Args:
            label: the columns `_KEYS` but the metric.
            samples: of the value.
            metrics: a row each.
            null: the hypothesis that p is about; None where there is no p.
            sides: the samples of single trainings, of one network, of paired differences, or of two networks.
        """
        rows = []
        for metric in metrics:
            numbers = infer(samples, self.metrics.index(metric), null, sides, self.level)
            # No value is below 0, and no percentage but rPC above 100.
            if null is None and label[2] != "loss":
                largest = np.inf if label[2] == "rPC" else maximum(metric)
                numbers = numbers._replace(low=max(numbers.low, 0.0), high=min(numbers.high, largest))
            reason = self._why_undefined(label, metric) if np.isnan(numbers.estimate) else ""
            rows.append([*label, metric, *numbers, reason])
        return rows

    def _why_undefined(self, label: tuple[Any, ...], metric: str) -> str:
        """Which models have no value in which cells, and why, where a row of `_KEYS` has none."""
        model, baseline, statistic, over, _, corruption, severity = label
        members = dict.fromkeys(m for name in (model, baseline) if name for m in self.groups[name])
        reasons = (self._why_absent(m, metric, statistic, over, corruption, severity) for m in members)
        return "; ".join(f"{m}: {why}" for m, why in zip(members, reasons, strict=True) if why)

    def _why_absent(
        self, model: str, metric: str, statistic: str, over: str, corruption: str, severity: float
    ) -> str:
        values = {cell: s.estimate[self.metrics.index(metric)] for cell, s in self.cells[model].items()}
        if corruption:
            used = [(corruption, severity)]
        elif statistic == "P":
            used = []
        else:
            used = list(next((one.cells for one in self.sets if one.name == over), tuple(values)))
        if statistic in ("P", "rPC", "loss"):
            used.append((CLEAN, 0.0))
        absent = [cell for cell in used if np.isnan(values.get(cell, 0.0))]
        if not absent:
            no_ratio = statistic == "rPC" and values.get((CLEAN, 0.0)) == 0
            return f"{metric} on clean images is 0" if no_ratio else ""
        if not len(self.cells[model][absent[0]].resamples):
            why = "no detections"
        else:
            why = self.undefined.get(model, {}).get(metric, "no such object in the data")
        if all(map(np.isnan, values.values())):
            return why
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        return f"{why} ({absent[0][0]} {absent[0][1]:g}{more})"


class Inference(NamedTuple):
    """An estimate and what is inferred about it; see `Intervals.table` for the meaning of the fields."""

    estimate: float
    low: float
    high: float
    p: float
    se: float
    se_images: float
    se_seeds: float
    seeds: int
    resamples: int


def infer(
    samples: BootstrapSamples,
    column: int,
    null: float | None,
    sides: Sequence[Sequence[BootstrapSamples]],
    level: float,
) -> Inference:
    """The interval about an estimate, and p of a hypothesis about it.

    Args:
        samples: of the value.
        column: of the samples.
        null: the hypothesis that p is about; None where there is no p.
        sides: the samples of single trainings, of one network, of paired differences, or of two networks.
        level: of the interval.
    """
    seeds = min(map(len, sides))
    estimate = float(samples.estimate[column])
    jackknife = _finite(samples.jackknife[:, column])
    resamples = _if_varying(_finite(samples.resamples[:, column]), jackknife, null)
    image_variance = _UNKNOWN
    if len(resamples) > 1:  # no more degrees of freedom than there are images, or resamples
        freedom = min(len(jackknife), len(resamples)) - 1
        image_variance = Variance(float(np.var(resamples, ddof=1)), freedom)
    seed_variances = [_seed_variance(side, column) for side in sides] if seeds > 1 else []
    total = _UNKNOWN
    if image_variance is not _UNKNOWN:
        total = pool_variances([image_variance, *seed_variances])
    return Inference(
        estimate,
        *student_interval(estimate, total, level),
        np.nan if null is None else p_value(estimate - null, total),
        float(np.sqrt(total.value)),
        float(np.sqrt(image_variance.value)),
        float(np.sqrt(sum(one.value for one in seed_variances))) if seed_variances else np.nan,
        seeds,
        len(resamples),
    )


_UNKNOWN = Variance(np.nan, 0)
_FAMILY_KEYS = ["model", "baseline", "metric", "statistic", "over", "family", "corruption"]


def _test_family(row: Any, first: str) -> str:
    """The family of tests that a row of `_FAMILY_KEYS` is corrected over; the clean score is a family of its own."""
    if row.corruption:
        return "clean" if row.corruption == CLEAN else "cells"
    if row.over == first:
        return "first"
    return "families" if row.family else "corruptions"


def _trainings(
    models: Mapping[str, Cells],
    corruption_set: CorruptionSet,
    statistic: Callable[[Cells], BootstrapSamples],
    *,
    clean: bool = True,
) -> _TrainingSamples:
    gaps = [missing_cells(model, cells, corruption_set, clean=clean) for model, cells in models.items()]
    text = "; ".join(gap for gap in gaps if gap)
    return _TrainingSamples({} if text else {m: statistic(cells) for m, cells in models.items()}, text)


def _relative(corruption_set: CorruptionSet) -> Callable[[Cells], BootstrapSamples]:
    return lambda cells: BootstrapSamples.map(
        relative_score, mean_samples(corruption_set, cells), cells[CLEAN, 0.0]
    )


def _loss(corruption_set: CorruptionSet) -> Callable[[Cells], BootstrapSamples]:
    return lambda cells: BootstrapSamples.map(
        np.subtract, cells[CLEAN, 0.0], mean_samples(corruption_set, cells)
    )


def _p_of_many(baseline: _TrainingSamples, others: Mapping[str, _TrainingSamples]) -> dict[str, float]:
    """`infer`'s p of the differences of one statistic, of those networks that need no case of their own."""
    theirs = baseline.mean
    plain = {name: one.mean for name, one in others.items() if one.counts == baseline.counts != (-1, -1)}
    if not plain:
        return {}
    estimates = np.array([one.estimate[0] for one in plain.values()]) - theirs.estimate[0]
    resamples = np.array([one.resamples[:, 0] for one in plain.values()]) - theirs.resamples[:, 0]
    freedom = min(len(theirs.jackknife), resamples.shape[1]) - 1
    return dict(zip(plain, p_values(estimates, resamples, freedom).tolist(), strict=True))


def mean_of(*values: NDArray[np.float64]) -> Any:
    """The mean of arrays of one shape."""
    return values[0] if len(values) == 1 else np.mean(values, axis=0)  # one training each, in most runs


def _seed_variance(samples: Sequence[BootstrapSamples], column: int) -> Variance:
    """Of the mean of several trainings."""
    estimates = [one.estimate[column] for one in samples]
    if not np.isfinite(estimates).all():  # mCE against a baseline without an error
        return Variance(np.nan, 0)
    return Variance(float(np.var(estimates, ddof=1)) / len(samples), len(samples) - 1)


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    finite: NDArray[np.float64] = values[np.isfinite(values)]
    return finite


def _if_varying(
    resamples: NDArray[np.float64], jackknife: NDArray[np.float64], null: float | None
) -> NDArray[np.float64]:
    """The resamples; none if they carry no information: a single image, or a difference that never varies.

    A difference that never varies comes from the only image with such objects, unless it equals the hypothesis.
    """
    if len(jackknife) < 2:
        return resamples[:0]
    constant = null is not None and len(resamples) > 0 and np.ptp(resamples) <= ROUNDING
    return resamples[:0] if constant and abs(resamples[0] - null) > ROUNDING else resamples
