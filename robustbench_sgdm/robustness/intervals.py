"""Scores, means over cells and differences between models, with intervals and p-values."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_sgdm import errors
from robustbench_sgdm.robustness.aggregates import Over, missing, relative, sets
from robustbench_sgdm.robustness.bootstrap import Draws, distributions
from robustbench_sgdm.robustness.resampling import METRICS
from robustbench_sgdm.robustness.statistics import bca, holm, p_value, percentile
from robustbench_sgdm.store import Run
from robustbench_sgdm.types import CLEAN

Cells = Mapping[tuple[str, float], Draws]

_KEYS = ["model", "baseline", "statistic", "over", "family", "corruption", "severity", "metric"]
_NUMBERS = [
    *("estimate", "low", "high", "low_bca", "high_bca", "p", "p_holm", "se", "resamples"),
    *("seeds", "se_seeds", "low_total", "high_total"),
]


class _Item(NamedTuple):
    """What a row is about; `statistic` is score, P, mPC, rPC or mCE."""

    statistic: str
    over: str = ""
    family: str = ""
    corruption: str = ""
    severity: float = np.nan


@dataclass(frozen=True, eq=False)
class _Arm:
    """One network, trained once or from several seeds, and one statistic of it.

    Attributes:
        draws: of each training; empty where cells are missing.
        missing: which.
    """

    draws: Sequence[Draws]
    missing: str


@dataclass(frozen=True, eq=False)
class Intervals:
    """The bootstrap of a run, or of runs that compare.

    Attributes:
        cells: for each model, the distributions of its complete cells, by (corruption, severity).
        over: the sets that means are taken over, and the family that each is, or "".
        pairs: (baseline, model) whose difference model - baseline is tested; names of arms.
        arms: the models that are one network trained from several seeds; one that is in no arm is its own.
        level: of the intervals, such as 0.95.
        seed: of the resampled images and trainings.
    """

    cells: Mapping[str, Cells]
    over: Mapping[Over, str]
    pairs: Sequence[tuple[str, str]]
    arms: Mapping[str, Sequence[str]]
    level: float = 0.95
    seed: int = 0

    def table(
        self,
        metrics: Sequence[str] = METRICS,
        *,
        pairs: Sequence[tuple[str, str]] | None = None,
        over: Sequence[Over] | None = None,
    ) -> pd.DataFrame:
        """One row per statistic: first each model's own, then the differences.

        Args:
            metrics: of AP, AP50, AP75, AP_S, AP_M, AP_L.
            pairs: other pairs than the run's.
            over: other sets than the run's.

        Returns:
            Columns, in percent; what is absent is NaN:
            model: or arm;
            baseline: empty for the model's own value, else the value is model - baseline, or its mCE against it;
            statistic: score (of one cell), P, mPC, rPC, or of a pair mCE, 100 where the model errs as its baseline does;
            over, family: the set of a mean; both empty for the benchmark's mPC and rPC;
            corruption, severity: of a score;
            metric;
            estimate, low, high: with the percentile interval; low_bca, high_bca: the BCa interval; none where
            one image decides everything, since it does not vary;
            p: that a difference is 0, or mCE 100; p_holm: corrected over the scores of one model, baseline and metric;
            se: standard error from sampling images; resamples: those that held such objects;
            seeds: trainings (the fewer of a pair); se_seeds: standard error from training; low_total,
            high_total: the interval with both, trainings being resampled too;
            missing: the cells to run before the value can be said.

        Raises:
            UsageError: an unknown metric or model.
        """
        for metric in metrics:
            if metric not in METRICS:
                raise errors.unknown("metric", metric, METRICS)
        chosen = dict(self.over) if over is None else {o: self.over.get(o, "") for o in over}
        wanted = list(self.pairs if pairs is None else pairs)
        for name in (name for pair in wanted for name in pair):
            if name not in self.arms:
                raise errors.unknown("model", name, self.arms)
        arms = {arm: self._items(arm, chosen) for arm in self.arms}
        rows = []
        for name, items in arms.items():
            for item, arm in items.items():
                rows += self._rows((name, "", *item), [(name, 1.0, arm)], metrics)
        for baseline, name in wanted:
            for item, arm in arms[name].items():
                if item in arms[baseline]:
                    terms = [(name, 1.0, arm), (baseline, -1.0, arms[baseline][item])]
                    rows += self._rows((name, baseline, *item), terms, metrics)
            for which, family in chosen.items():
                label = (name, baseline, *_Item("mCE", which.name, family))
                rows += self._errors(label, which, metrics)
        frame = pd.DataFrame(rows, columns=[*_KEYS, *_NUMBERS, "missing"])
        scores = frame[(frame["statistic"] == "score") & (frame["baseline"] != "")]
        for _, part in scores.groupby(["model", "baseline", "metric"], sort=False):
            frame.loc[part.index, "p_holm"] = holm(part["p"].to_numpy())
        return frame

    def _items(self, arm: str, over: Mapping[Over, str]) -> dict[_Item, _Arm]:
        """Every statistic of an arm."""
        models = {m: self.cells[m] for m in self.arms[arm]}
        shared = [cell for cell in next(iter(models.values())) if all(cell in c for c in models.values())]
        items = {
            _Item("score", corruption=c, severity=s): _Arm([cells[c, s] for cells in models.values()], "")
            for c, s in shared
        }
        none = Over(())
        items[_Item("P")] = _arm(models, none, lambda cells: cells[CLEAN, 0.0])
        for which, family in over.items():
            items[_Item("mPC", which.name, family)] = _arm(models, which, _mean(which), clean=False)
            items[_Item("rPC", which.name, family)] = _arm(models, which, _relative(which))
        return items

    def _rows(
        self, label: tuple[Any, ...], terms: Sequence[tuple[str, float, _Arm]], metrics: Sequence[str]
    ) -> list[list[Any]]:
        """A row for each metric of a sum of arms with signs."""
        lacking = "; ".join(dict.fromkeys(arm.missing for *_, arm in terms if arm.missing))
        if lacking:
            return [[*label, m, *[np.nan] * len(_NUMBERS), lacking] for m in metrics]
        draws = Draws.map(
            lambda *means: sum(sign * mean for (_, sign, _), mean in zip(terms, means, strict=True)),
            *(Draws.map(average, *arm.draws) for *_, arm in terms),
        )
        seeds = min(len(arm.draws) for *_, arm in terms)
        spread = np.full(len(METRICS), np.nan)
        total = np.empty((0, len(METRICS)))
        if seeds > 1:
            spread = np.sqrt(np.sum([_training_variance(arm.draws) for *_, arm in terms], axis=0))
            levels = [sign * self._two_levels(name, arm.draws) for name, sign, arm in terms]
            total = np.sum([level[: min(map(len, levels))] for level in levels], axis=0)
        null = 0.0 if len(terms) > 1 else None
        return [
            [*label, metric, *self._numbers(draws, metric, null, (seeds, spread, total)), ""]
            for metric in metrics
        ]

    def _errors(self, label: tuple[Any, ...], over: Over, metrics: Sequence[str]) -> list[list[Any]]:
        """mCE of an arm against another, of the means over their trainings."""
        arms = [{m: self.cells[m] for m in self.arms[name]} for name in label[:2]]
        lacking = [missing(m, cells, over, clean=False) for models in arms for m, cells in models.items()]
        if text := "; ".join(dict.fromkeys(t for t in lacking if t)):
            return [[*label, m, *[np.nan] * len(_NUMBERS), text] for m in metrics]
        scores = [Draws.map(average, *(c[at] for c in arm.values())) for arm in arms for at in over.cells]

        def error(*values: NDArray[np.float64]) -> Any:
            mine, theirs = values[: len(over.cells)], values[len(over.cells) :]
            return over.error(*(dict(zip(over.cells, side, strict=True)) for side in (mine, theirs)))

        draws, none = Draws.map(error, *scores), np.full((0, len(METRICS)), np.nan)
        seeds = min(map(len, arms)), np.full(len(METRICS), np.nan), none
        return [[*label, metric, *self._numbers(draws, metric, 100.0, seeds), ""] for metric in metrics]

    def _numbers(
        self,
        draws: Draws,
        metric: str,
        null: float | None,
        trainings: tuple[int, NDArray[np.float64], NDArray[np.float64]],
    ) -> list[Any]:
        """The columns of `_NUMBERS`.

        Args:
            null: the value that p is about; None where there is no p.
            trainings: how many, the standard error from them (m,), and draws with them resampled (r, m).
        """
        column = METRICS.index(metric)
        estimate, jackknife = float(draws.estimate[column]), _present(draws.jackknife[:, column])
        resamples = _varied(_present(draws.resamples[:, column]), jackknife, null)
        seeds, spread, total = trainings
        return [
            estimate,
            *percentile(resamples, self.level),
            *bca(estimate, resamples, jackknife, self.level),
            np.nan if null is None else p_value(resamples - null, len(jackknife)),
            np.nan,
            float(np.std(resamples, ddof=1)) if len(resamples) > 1 else np.nan,
            len(resamples),
            seeds,
            spread[column],
            *percentile(_present(total[:, column]), self.level),
        ]

    def _two_levels(self, arm: str, draws: Sequence[Draws]) -> NDArray[np.float64]:
        """An arm's mean with its trainings resampled too, (r, m).

        Resampling k trainings understates their variance by (k - 1) / k; deviations are stretched to make
        up for it (Rao & Wu 1988, Journal of the American Statistical Association 83:231).
        """
        least = min(len(d.resamples) for d in draws)
        every = np.stack([d.resamples[:least] for d in draws])
        count, resamples = every.shape[:2]
        rng = np.random.default_rng([self.seed, *arm.encode()])
        drawn = rng.integers(count, size=(count, resamples))
        mean = every.mean(axis=0)
        picked = every[drawn, np.arange(resamples)].mean(axis=0)
        stretched: NDArray[np.float64] = mean + np.sqrt(count / (count - 1)) * (picked - mean)
        return stretched


def bootstrap(
    runs: Run | Sequence[Run],
    *,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    arms: Mapping[str, Sequence[str]] | None = None,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Intervals:
    """Resample the images of a run, the same ones for every cell and model; kept, so a second call is instant.

    Args:
        runs: one, or several over the same images, seed and engine; a model that is in several is then called
            `name@run`, by the directory's name or, where two have one, its path, and the first run's is a baseline of
            the others'.
        resamples: how many.
        seed: of the resampled images.
        level: of the intervals, in (0, 1).
        arms: networks trained from several seeds: name -> models.
        workers: threads; the cores where None.
        progress: called with the number of cells just done, from any thread.

    Raises:
        UsageError: too few resamples, an impossible level, a model that is not there, in two arms, or in one with
            its baseline.
        DataError: runs that do not compare, no ground truth in the run, or damaged cells.
    """
    if not 0 < level < 1:
        raise errors.UsageError(f"level {level} is outside (0, 1); 0.95 is usual")
    several = [runs] if isinstance(runs, Run) else list(runs)
    found = distributions(several, resamples=resamples, seed=seed, workers=workers, progress=progress)
    count = Counter(model for run in several for model in run.plan["models"])
    alike = Counter(run.path.name for run in several)
    cells: dict[str, dict[tuple[str, float], Draws]] = {}
    pairs, again = [], []
    first: dict[str, str] = {}
    for run, draws in zip(several, found, strict=True):
        where = run.path.name if alike[run.path.name] == 1 else run.path
        names = {m: m if count[m] == 1 else f"{m}@{where}" for m in run.plan["models"]}
        cells |= {name: {} for name in names.values()}
        pairs += [(names[b], names[m]) for b, m in run.pairs]
        again += [(first[m], name) for m, name in names.items() if m in first]
        first = names | first
        for cell, drawn in draws.items():
            cells[names[cell.model]][cell.corruption, cell.severity] = drawn
    groups = _groups(cells, arms or {})
    arm_of = {m: arm for arm, members in groups.items() for m in members}
    for baseline, model in pairs:
        if arm_of[baseline] == arm_of[model]:
            raise errors.UsageError(
                f"arm {arm_of[model]!r} joins {model} with its baseline {baseline}; an arm is one network trained "
                "several times: give each its own"
            )
    tested = dict.fromkeys((arm_of[b], arm_of[m]) for b, m in [*pairs, *again] if arm_of[b] != arm_of[m])
    return Intervals(cells, sets(*several), list(tested), groups, level, seed)


def _groups(cells: Mapping[str, Any], arms: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Every arm's models; a model in none is its own."""
    members = [m for arm in arms.values() for m in arm]
    for model, times in Counter(members).items():
        if model not in cells:
            raise errors.unknown("model", model, cells)
        if times > 1:
            raise errors.UsageError(f"{model} is in two arms, or twice in one; a training counts once")
    for arm in arms:
        if arm in cells and arm not in members:
            raise errors.UsageError(f"arm {arm!r} is called as a model that is not in it; give another name")
    empty = [arm for arm, models in arms.items() if not models]
    if empty:
        raise errors.UsageError(f"arm {empty[0]!r} has no model; name its trainings")
    return {
        **{arm: list(models) for arm, models in arms.items()},
        **{m: [m] for m in cells if m not in members},
    }


def _arm(
    models: Mapping[str, Cells], over: Over, statistic: Callable[[Cells], Draws], *, clean: bool = True
) -> _Arm:
    lacking = [missing(model, cells, over, clean=clean) for model, cells in models.items()]
    text = "; ".join(t for t in lacking if t)
    return _Arm([] if text else [statistic(cells) for cells in models.values()], text)


def _mean(over: Over) -> Callable[[Cells], Draws]:
    return lambda cells: Draws.map(
        lambda *values: over.mean(dict(zip(over.cells, values, strict=True))), *(cells[c] for c in over.cells)
    )


def _relative(over: Over) -> Callable[[Cells], Draws]:
    return lambda cells: Draws.map(relative, _mean(over)(cells), cells[CLEAN, 0.0])


def average(*values: NDArray[np.float64]) -> Any:
    """Of arrays of one shape."""
    return np.mean(values, axis=0)


def _training_variance(draws: Sequence[Draws]) -> Any:
    """Variance of the mean of several trainings, (m,)."""
    return np.var([d.estimate for d in draws], axis=0, ddof=1) / len(draws)


def _present(values: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = values[np.isfinite(values)]
    return found


def _varied(
    draws: NDArray[np.float64], jackknife: NDArray[np.float64], null: float | None
) -> NDArray[np.float64]:
    """The draws, or none where they tell nothing: of a single image, or a difference that never varies.

    The latter is that of the only image with such objects, unless it is exactly what the hypothesis says.
    """
    constant = null is not None and len(draws) > 0 and np.ptp(draws) == 0 and draws[0] != null
    return draws[:0] if len(jackknife) < 2 or constant else draws
