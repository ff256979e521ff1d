"""Scores, means over cells and differences between models, with intervals, p-values and significance."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_sgdm.core import errors
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.robustness.aggregates import Over, missing, relative, sets
from robustbench_sgdm.robustness.bootstrap import Draws, distributions
from robustbench_sgdm.robustness.resampling import METRICS
from robustbench_sgdm.robustness.statistics import ROUNDING, Spread, decide, interval, p_value, pooled
from robustbench_sgdm.store import Run, same_seeds

Cells = Mapping[tuple[str, float], Draws]

_KEYS = ["model", "baseline", "statistic", "over", "family", "corruption", "severity", "metric"]
_NUMBERS = ["estimate", "low", "high", "p", "se", "se_images", "se_seeds", "seeds", "resamples"]


class _Item(NamedTuple):
    """What a row is about; `statistic` is score, P, mPC, rPC or mCE."""

    statistic: str
    over: str = ""
    family: str = ""
    corruption: str = ""
    severity: float = np.nan


@dataclass(frozen=True, eq=False)
class _Trainings:
    """One statistic of a network.

    Attributes:
        draws: of each training, by model; empty where cells are missing.
        missing: which.
    """

    draws: Mapping[str, Draws]
    missing: str = ""


@dataclass(frozen=True, eq=False)
class Intervals:
    """The bootstrap of a run, or of runs that compare.

    Attributes:
        cells: for each model, the distributions of its complete cells, by (corruption, severity).
        over: the sets that means are taken over, and the family that each is, or "".
        pairs: (baseline, model) whose difference model - baseline is tested; names of `groups`.
        groups: networks, each with its trainings, which are models; a network trained once is its own group.
        seeds: of trainings, where known: two groups are paired by the seeds that both have.
        level: of the intervals, such as 0.95.
        sources: of each model, its run and what it is called there.
    """

    cells: Mapping[str, Cells]
    over: Mapping[Over, str]
    pairs: Sequence[tuple[str, str]]
    groups: Mapping[str, Sequence[str]]
    seeds: Mapping[str, int] = field(default_factory=dict)
    level: float = 0.95
    sources: Mapping[str, tuple[Run, str]] = field(default_factory=dict)

    def table(
        self,
        metrics: Sequence[str] = METRICS,
        *,
        pairs: Sequence[tuple[str, str]] | None = None,
        over: Sequence[Over] | None = None,
    ) -> pd.DataFrame:
        """One row per statistic: first each network's own, then the differences.

        Args:
            metrics: of AP, AP50, AP75, AP_S, AP_M, AP_L.
            pairs: other pairs than the run's.
            over: other sets than the run's.

        Returns:
            Columns, in percent; what is absent is NaN:
            model: or group of trainings;
            baseline: empty for the model's own value, else the value is model - baseline, or its mCE against it;
            statistic: score (of one cell), P, mPC, rPC, or of a pair mCE, 100 where the model errs as its baseline does;
            over, family: the set of a mean; both empty for the benchmark's mPC and rPC;
            corruption, severity: of a score;
            metric;
            estimate, low, high: with its interval; none where one image decides everything, since it does not vary;
            p: that a difference is 0, or mCE 100, of the same construction as the interval;
            se: standard error; se_images: from sampling images; se_seeds: from training, where there are several seeds;
            seeds: trainings, of a pair those that are compared; resamples: those that held such objects;
            missing: the cells to run before the value can be said;
            p_holm, significant: the one rule. p is corrected over the corrupted cells of one model, baseline and
            metric; likewise over the families, and over the single corruptions, of each kind of mean. The clean score
            and the means over the first set stand alone.

        Raises:
            UsageError: an unknown metric or model.
        """
        for metric in metrics:
            if metric not in METRICS:
                raise errors.unknown_name_error("metric", metric, METRICS)
        chosen = dict(self.over) if over is None else {o: self.over.get(o, "") for o in over}
        wanted = list(self.pairs if pairs is None else pairs)
        for name in (name for pair in wanted for name in pair):
            if name not in self.groups:
                raise errors.unknown_name_error("model", name, self.groups)
        own = {group: self._items(group, chosen) for group in self.groups}
        rows = []
        for name, items in own.items():
            for item, trainings in items.items():
                rows += self._rows((name, "", *item), trainings, metrics)
        for baseline, name in wanted:
            for item, trainings in own[name].items():
                if item in own[baseline]:
                    rows += self._rows((name, baseline, *item), trainings, metrics, own[baseline][item])
            for which, family in chosen.items():
                label = (name, baseline, *_Item("mCE", which.name, family))
                rows += self._errors(label, which, metrics)
        frame = pd.DataFrame(rows, columns=[*_KEYS, *_NUMBERS, "missing"])
        first = next(iter(chosen), Over(())).name
        tested = [(*row[:4], _tested_with(row, first)) for row in frame[_TESTS].itertuples(index=False)]
        return decide(frame, tested, self.level)

    def compared(self, baseline: str, model: str) -> list[tuple[str, str]]:
        """The trainings (of baseline, of model) with the same seed; none where fewer than two seeds are shared."""
        same = same_seeds(self.groups[baseline], self.groups[model], self.seeds)
        return same if len(same) > 1 else []

    def trainings(self, baseline: str, model: str) -> list[tuple[str, str]]:
        """Those of the same seed, or else the first of each; as of `Run.trainings`."""
        sides = self.groups[baseline], self.groups[model]
        return same_seeds(*sides, self.seeds) or [(sides[0][0], sides[1][0])]

    def _items(self, group: str, over: Mapping[Over, str]) -> dict[_Item, _Trainings]:
        """Every statistic of a network."""
        models = {m: self.cells[m] for m in self.groups[group]}
        shared = [cell for cell in next(iter(models.values())) if all(cell in c for c in models.values())]
        items = {
            _Item("score", corruption=c, severity=s): _Trainings({m: own[c, s] for m, own in models.items()})
            for c, s in shared
        }
        none = Over(())
        items[_Item("P")] = _trainings(models, none, lambda cells: cells[CLEAN, 0.0])
        for which, family in over.items():
            items[_Item("mPC", which.name, family)] = _trainings(models, which, _mean(which), clean=False)
            items[_Item("rPC", which.name, family)] = _trainings(models, which, _relative(which))
        return items

    def _rows(
        self,
        label: tuple[Any, ...],
        own: _Trainings,
        metrics: Sequence[str],
        baseline: _Trainings | None = None,
    ) -> list[list[Any]]:
        """A row for each metric of a network's own value, or of its difference from its baseline."""
        both = [own] if baseline is None else [own, baseline]
        if lacking := "; ".join(dict.fromkeys(side.missing for side in both if side.missing)):
            return [[*label, m, *[np.nan] * len(_NUMBERS), lacking] for m in metrics]
        sides = [list(side.draws.values()) for side in both]
        if baseline is not None and (same := self.compared(label[1], label[0])):
            pairs = [(own.draws[model], baseline.draws[other]) for other, model in same]
            sides = [[Draws.map(np.subtract, *pair) for pair in pairs]]
        means = [Draws.map(average, *side) for side in sides]
        draws = means[0] if len(means) == 1 else Draws.map(np.subtract, *means)
        return self._numbers(label, draws, metrics, None if baseline is None else 0.0, sides)

    def _errors(self, label: tuple[Any, ...], over: Over, metrics: Sequence[str]) -> list[list[Any]]:
        """mCE of a network against another, of the mean over their trainings."""
        groups = [{m: self.cells[m] for m in self.groups[name]} for name in label[:2]]
        lacking = [missing(m, cells, over, clean=False) for models in groups for m, cells in models.items()]
        if text := "; ".join(dict.fromkeys(t for t in lacking if t)):
            return [[*label, m, *[np.nan] * len(_NUMBERS), text] for m in metrics]

        def error(*values: NDArray[np.float64]) -> Any:
            mine, theirs = values[: len(over.cells)], values[len(over.cells) :]
            return over.error(*(dict(zip(over.cells, side, strict=True)) for side in (mine, theirs)))

        def between(*sides: Sequence[Cells]) -> Draws:
            return Draws.map(
                error, *(Draws.map(average, *(c[at] for c in side)) for side in sides for at in over.cells)
            )

        mine, theirs = (list(models.values()) for models in groups)
        if same := self.compared(label[1], label[0]):
            sides = [[between([groups[0][model]], [groups[1][other]]) for other, model in same]]
        else:
            sides = [[between([one], theirs) for one in mine], [between(mine, [one]) for one in theirs]]
        return self._numbers(label, between(mine, theirs), metrics, 100.0, sides)

    def _numbers(
        self,
        label: tuple[Any, ...],
        draws: Draws,
        metrics: Sequence[str],
        null: float | None,
        sides: Sequence[Sequence[Any]],
    ) -> list[list[Any]]:
        """Rows of `_KEYS`, `_NUMBERS` and nothing missing.

        Args:
            draws: of the value.
            null: the value that p is about; None where there is no p.
            sides: the trainings' own draws, of one network, of paired differences, or of two networks.
        """
        seeds = min(map(len, sides))
        rows = []
        for metric in metrics:
            column = METRICS.index(metric)
            estimate = float(draws.estimate[column])
            jackknife = _present(draws.jackknife[:, column])
            resamples = _varied(_present(draws.resamples[:, column]), jackknife, null)
            images = _NONE
            if len(resamples) > 1:  # known no better than by as many images, and by as many resamples
                freedom = min(len(jackknife), len(resamples)) - 1
                images = Spread(float(np.var(resamples, ddof=1)), freedom)
            training = [_training(side, column) for side in sides] if seeds > 1 else []
            spread = pooled([images, *training]) if images is not _NONE else _NONE
            low, high = interval(estimate, spread, self.level)
            if null is None:  # no score is below 0, and none but rPC above 100
                low, high = max(low, 0.0), high if label[2] == "rPC" else min(high, 100.0)
            rows.append(
                [
                    *(*label, metric, estimate, low, high),
                    np.nan if null is None else p_value(estimate - null, spread),
                    *(np.sqrt(v) for v in (spread.variance, images.variance)),
                    np.sqrt(sum(part.variance for part in training)) if training else np.nan,
                    *(seeds, len(resamples), ""),
                ]
            )
        return rows


_NONE = Spread(np.nan, 0)
_TESTS = ["model", "baseline", "metric", "statistic", "over", "family", "corruption"]


def _tested_with(row: Any, first: str) -> str:
    """The family of tests that a row of `_TESTS` is corrected with; one of its own where it stands alone."""
    if row.statistic == "score":
        return "clean" if row.corruption == CLEAN else "cells"
    if row.over == first:
        return "first"
    return "families" if row.family else "corruptions"


def bootstrap(
    runs: Run | Sequence[Run],
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    groups: Mapping[str, Sequence[str]] | None = None,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Intervals:
    """Resample the images of a run, the same ones for every cell and model; kept, so a second call is instant.

    Args:
        runs: one, or several over the same images, seed and engine; a model that is in several is then called
            `name@run`, by the directory's name or, where two have one, its path, and the first run's is a baseline of
            the others'. Where no run knows a pair, the first model of all is the baseline of the others.
        resamples: how many.
        seed: of the resampled images.
        level: of the intervals, in (0, 1).
        groups: networks trained from several seeds, name -> models, beside those that the runs tell.
        workers: threads; the cores where None.
        progress: called with the number of cells just done, from any thread.

    Raises:
        UsageError: too few resamples, an impossible level, a model that is not there, in two groups, or in one with
            its baseline.
        DataError: runs that do not compare, no ground truth in the run, or damaged cells.
    """
    if not 0 < level < 1:
        raise errors.UsageError(f"level {level} is outside (0, 1); 0.95 is usual")
    several = [runs] if isinstance(runs, Run) else list(runs)
    found = distributions(several, resamples=resamples, seed=seed, workers=workers, progress=progress)
    called = model_names(several)
    sources = {
        names[m]: (run, m) for run, names in zip(several, called, strict=True) for m in run.plan["models"]
    }
    cells: dict[str, dict[tuple[str, float], Draws]] = {}
    told: dict[str, list[str]] = {}
    seeds: dict[str, int] = {}
    pairs, again, apart = [], [], []
    first: dict[str, str] = {}
    for run, draws, names in zip(several, found, called, strict=True):
        cells |= {names[m]: {} for m in run.plan["models"]}
        told |= {names[g]: [names[m] for m in members] for g, members in run.groups.items()}
        seeds |= {names[m]: s for m, s in run.seeds.items()}
        pairs += [(names[b], names[m]) for b, m in run.trained_pairs]
        apart += [] if run.first_is_baseline else [(names[b], names[m]) for b, m in run.pairs]
        again += [(first[m], name) for m, name in names.items() if m in first and m in run.plan["models"]]
        first = names | first
        for cell, drawn in draws.items():
            cells[names[cell.model]][cell.corruption, cell.severity] = drawn
    joined = _groups(cells, groups or {}, told)
    group_of = {m: group for group, members in joined.items() for m in members}
    plans = {name: run.plan["models"][m] for name, (run, m) in sources.items()}
    for baseline, model in apart:
        theirs, own = ({group_of[m]: m for m in told[network]} for network in (baseline, model))
        mixed = [g for g in own if g in theirs and not _same_network(plans[own[g]], plans[theirs[g]])]
        if mixed:
            raise errors.UsageError(
                f"group {mixed[0]!r} joins {own[mixed[0]]} with its baseline {theirs[mixed[0]]}; a group is one network "
                "trained several times: give each its own"
            )
    tested = [(group_of[b], group_of[m]) for b, m in [*pairs, *again]]
    tested = list(dict.fromkeys(pair for pair in tested if pair[0] != pair[1]))
    if all(run.first_is_baseline for run in several):
        first_of_all, *others = joined
        alone = set(others) - {name for pair in tested for name in pair}
        tested += [(first_of_all, group) for group in others if group in alone]
    return Intervals(cells, sets(*several), tested, joined, seeds, level, sources)


def model_names(runs: Sequence[Run]) -> list[dict[str, str]]:
    """For each run, what its models and groups are called beside those of the others; see `bootstrap`."""
    count = Counter(name for run in runs for name in {*run.plan["models"], *run.groups})
    alike = Counter(run.path.name for run in runs)
    named = []
    for run in runs:
        where = run.path.name if alike[run.path.name] == 1 else run.path
        names = dict.fromkeys([*run.plan["models"], *run.groups])
        named.append({m: m if count[m] == 1 else f"{m}@{where}" for m in names})
    return named


def _same_network(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    """Whether two models of plans are known to be one network, of which each may be a training."""
    return "parameters" in one and all(one.get(key) == two.get(key) for key in ("parameters", "module"))


def _groups(
    models: Mapping[str, Any], asked: Mapping[str, Sequence[str]], told: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """Every network's trainings, in the models' order: those asked for, the runs' own, and models by themselves."""
    members = [m for group in asked.values() for m in group]
    for model, times in Counter(members).items():
        if model not in models:
            raise errors.unknown_name_error("model", model, models)
        if times > 1:
            raise errors.UsageError(f"{model} is in two groups, or twice in one; a training counts once")
    for group in asked:
        if group in models and group not in members:
            raise errors.UsageError(
                f"group {group!r} is called as a model that is not in it; give another name"
            )
        if not asked[group]:
            raise errors.UsageError(f"group {group!r} has no model; name its trainings")
    own = {group: list(trained) for group, trained in told.items() if not set(trained) & set(members)}
    if taken := [group for group in asked if group in own]:
        raise errors.UsageError(
            f"group {taken[0]!r} is called as one of the run with other trainings; give another name"
        )
    left = {m: [m] for m in models if m not in members and not any(m in trained for trained in own.values())}
    every = {group: list(trained) for group, trained in asked.items()} | own | left
    place = {m: i for i, m in enumerate(models)}
    return dict(sorted(every.items(), key=lambda item: min(place[m] for m in item[1])))


def _trainings(
    models: Mapping[str, Cells], over: Over, statistic: Callable[[Cells], Draws], *, clean: bool = True
) -> _Trainings:
    lacking = [missing(model, cells, over, clean=clean) for model, cells in models.items()]
    text = "; ".join(t for t in lacking if t)
    return _Trainings({} if text else {m: statistic(cells) for m, cells in models.items()}, text)


def _mean(over: Over) -> Callable[[Cells], Draws]:
    return lambda cells: Draws.map(
        lambda *values: over.mean(dict(zip(over.cells, values, strict=True))), *(cells[c] for c in over.cells)
    )


def _relative(over: Over) -> Callable[[Cells], Draws]:
    return lambda cells: Draws.map(relative, _mean(over)(cells), cells[CLEAN, 0.0])


def average(*values: NDArray[np.float64]) -> Any:
    """Of arrays of one shape."""
    return np.mean(values, axis=0)


def _training(draws: Sequence[Draws], column: int) -> Spread:
    """Of the mean of several trainings."""
    estimates = [d.estimate[column] for d in draws]
    return Spread(float(np.var(estimates, ddof=1)) / len(draws), len(draws) - 1)


def _present(values: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = values[np.isfinite(values)]
    return found


def _varied(
    draws: NDArray[np.float64], jackknife: NDArray[np.float64], null: float | None
) -> NDArray[np.float64]:
    """The draws, or none where they tell nothing: of a single image, or a difference that never varies.

    The latter is that of the only image with such objects, unless it is exactly what the hypothesis says.
    """
    if len(jackknife) < 2:
        return draws[:0]
    constant = null is not None and len(draws) > 0 and np.ptp(draws) <= ROUNDING
    return draws[:0] if constant and abs(draws[0] - null) > ROUNDING else draws
