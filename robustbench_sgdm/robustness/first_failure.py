"""The severity at which a detector first loses what it finds on clean images, as a survival curve.

After the first failure of arXiv:2602.12902, for objects and for images, with intervals. An object fails where no box of
at least the operating confidence finds it; an image fails where one of its objects does. Only objects found on clean
images count, in a comparison those that both models find there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.robustness.found_objects import FoundObjects
from robustbench_sgdm.robustness.half_severity import crossings, percentile_interval
from robustbench_sgdm.robustness.inference import Intervals, infer, mean_of
from robustbench_sgdm.robustness.operating_point import operating_confidences
from robustbench_sgdm.robustness.outcomes import sort_truth
from robustbench_sgdm.robustness.resample_cache import BootstrapSamples, bootstrap_weights, sample_images
from robustbench_sgdm.robustness.significance import mark_significant

UNITS = ("object", "image")
RULES = ("first", "lasting")
"""`first`: the least severity at which it fails; `lasting`: the least from which on it fails at every one."""

_KEYS = ["model", "baseline", "unit", "rule", "corruption"]


@dataclass(frozen=True, eq=False)
class FirstFailures:
    """First failures of the models of runs.

    Attributes:
        table: a row per network, or difference of a pair, unit of `UNITS`, rule of `RULES` and corruption, an empty one
            for the mean over the corruptions: model, baseline (empty for a network's own), unit, rule, corruption,
            count (found on clean images), estimate, low, high, p, se, se_images, se_seeds, seeds, resamples: the mean
            severity endured, which is the area under the survival curve up to the highest severity, linear between
            severities; p_holm and significant over the corruptions; median, median_low, median_high: the severity at
            which half are lost, infinite where more than half endure `to`, the highest severity; used, lacking:
            severities; missing: why there is no value.
        survival: the curves: model, unit, rule, corruption, severity, share (percent still found), low, high.
    """

    table: pd.DataFrame
    survival: pd.DataFrame


def first_failures(
    intervals: Intervals,
    pairs: Sequence[tuple[str, str]] | None = None,
    *,
    confidence: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> FirstFailures:
    """First failures of networks, and paired differences.

    Args:
        intervals: of the same runs, with their networks, pairs and level.
        pairs: (baseline, model), by default the intervals' own.
        confidence: as of `operating_confidences`.
        resamples, seed: of the images.
    """
    pairs = intervals.pairs if pairs is None else pairs
    analysis = _Analysis(intervals, confidence, resamples, seed)
    rows, curves = [], []
    for unit in UNITS:
        for rule in RULES:
            for group, members in intervals.groups.items():
                own, points = analysis.own_rows(group, members, unit, rule)
                rows += own
                curves += points
            for baseline, model in pairs:
                rows += analysis.difference_rows(baseline, model, unit, rule)
    columns = [
        *_KEYS,
        "count",
        "estimate",
        "low",
        "high",
        "p",
        "se",
        "se_images",
        "se_seeds",
        "seeds",
        "resamples",
    ]
    columns += ["median", "median_low", "median_high", "to", "used", "lacking", "missing"]
    frame = pd.DataFrame(rows, columns=columns)
    families = [
        (*row[:4], "corruptions" if row.corruption else "mean")
        for row in frame[_KEYS].itertuples(index=False)
    ]
    survival = pd.DataFrame(
        curves, columns=["model", "unit", "rule", "corruption", "severity", "share", "low", "high"]
    )
    return FirstFailures(mark_significant(frame, families, intervals.level), survival)


class _Analysis:
    """What is computed once for all rows."""

    def __init__(self, intervals: Intervals, confidence: float | None, resamples: int, seed: int) -> None:
        self.intervals = intervals
        runs = {run.path: run for run, _ in intervals.sources.values()}
        self._confidences = {path: operating_confidences(run, confidence) for path, run in runs.items()}
        truth = next(iter(runs.values())).ground_truth()
        images = sort_truth(truth).images
        self._image = np.searchsorted(images, truth.annotations["image_id"].to_numpy())
        self._images = len(images)
        self._weights = bootstrap_weights(len(images), resamples, seed)
        self._cells = {
            (str(path), cell.model, cell.corruption, cell.severity): cell
            for path, run in runs.items()
            for cell in run.cells
            if run.store.is_complete(cell) and run.store.has_detections(cell)
        }
        self._finders: dict[tuple[str, float], FoundObjects] = {}
        planned = dict.fromkeys(cell for one in intervals.sets for cell in one.cells)
        models = [m for m in intervals.sources if self._has(m, CLEAN, 0.0)]
        self._planned = {c: sorted(s for one, s in planned if one == c) for c, _ in planned}
        self._used = {
            c: [s for s in levels if all(self._has(m, c, s) for m in models)]
            for c, levels in self._planned.items()
        }

    def own_rows(
        self, group: str, trainings: Sequence[str], unit: str, rule: str
    ) -> tuple[list[list[object]], list[list[object]]]:
        """Rows of the table and of the curves."""
        label = [group, "", unit, rule]
        reason = self._why_undefined(trainings)
        sides = {
            c: [] if reason else [self._endured((m,), unit, rule, c)[0] for m in trainings]
            for c in self._used
        }
        count = float(np.mean([self._count((m,), unit) for m in trainings])) if not reason else np.nan
        points = []
        for corruption, own in sides.items():
            if not own or not (levels := self._used[corruption]):
                continue
            survival = BootstrapSamples.map(mean_of, *own)
            for column, severity in enumerate(levels, 1):
                found = infer(survival, column, None, [own], self.intervals.level)
                bounds = max(found.low, 0.0), min(found.high, 100.0)
                points.append([group, unit, rule, corruption, severity, found.estimate, *bounds])
        return [self._row(label, c, sides, count, None, reason) for c in self._corruptions()], points

    def difference_rows(self, baseline: str, model: str, unit: str, rule: str) -> list[list[object]]:
        """Rows of the table, model - baseline."""
        trainings = self.intervals.trainings(baseline, model)
        reason = self._why_undefined([m for pair in trainings for m in pair])
        sides: dict[str, list[BootstrapSamples]] = {c: [] for c in self._used}
        for corruption, own in sides.items():
            for pair in trainings if not reason else []:
                theirs, ours = self._endured(pair, unit, rule, corruption)
                own.append(BootstrapSamples.map(np.subtract, ours, theirs))
        count = float(np.mean([self._count(pair, unit) for pair in trainings])) if not reason else np.nan
        return [
            self._row([model, baseline, unit, rule], c, sides, count, 0.0, reason)
            for c in self._corruptions()
        ]

    def _corruptions(self) -> list[str]:
        """Those of rows; "" is the mean over all."""
        return ["", *self._used] if len(self._used) > 1 else [*self._used]

    def _row(
        self,
        label: list[str],
        corruption: str,
        by_corruption: dict[str, list[BootstrapSamples]],
        count: float,
        null: float | None,
        reason: str,
    ) -> list[object]:
        names = [corruption] if corruption else list(by_corruption)
        used, planned = ({s for c in names for s in levels[c]} for levels in (self._used, self._planned))
        texts = [", ".join(f"{s:g}" for s in sorted(levels)) for levels in (used, planned - used)]
        if not reason and not all(self._used[c] for c in names):
            reason = f"no severity of {corruption or 'some corruption'} that every model has"
        numbers = [np.nan] * 9
        median = [np.nan] * 3
        if not reason:
            several = zip(*(by_corruption[c] for c in names), strict=True)
            side = [
                BootstrapSamples.map(lambda *v: mean_of(*(one[..., :1] for one in v)), *s) for s in several
            ]
            found = infer(BootstrapSamples.map(mean_of, *side), 0, null, [side], self.intervals.level)
            low = found.low if null is not None else max(found.low, 0.0)
            numbers = [*found._replace(low=low)]
            if corruption and null is None:
                median = self._median(corruption, by_corruption[corruption])
        return [*label, corruption, count, *numbers, *median, max(used, default=np.nan), *texts, reason]

    def _median(self, corruption: str, side: Sequence[BootstrapSamples]) -> list[float]:
        levels = np.array([0.0, *self._used[corruption]])

        def half(*trainings: NDArray[np.float64]) -> NDArray[np.float64]:
            shares = np.moveaxis(mean_of(*trainings)[..., 1:], -1, 0)
            return crossings(levels, np.concatenate([np.full_like(shares[:1], 100.0), shares]))

        samples = BootstrapSamples.map(half, *side)
        has_images = len(samples.jackknife) > 1
        interval = percentile_interval(samples.resamples if has_images else np.empty(0), self.intervals.level)
        return [float(samples.estimate), *interval]

    def _why_undefined(self, models: Sequence[str]) -> str:
        """Why there is no value for these trainings."""
        reasons = []
        for model in dict.fromkeys(models):
            if not self._has(model, CLEAN, 0.0):
                reasons.append(f"{model}: no clean detections")
            elif not self._found(model, CLEAN, 0.0).any():
                reasons.append(f"{model}: finds nothing on clean images")
        return "; ".join(reasons) or ("" if self._count(models, "object") else "no object is found by both")

    def _count(self, models: Sequence[str], unit: str) -> int:
        """Objects, or images with objects, that all these models find on clean images."""
        clean = self._found_clean(models)
        return int(clean.sum()) if unit == "object" else len(np.unique(self._image[clean]))

    def _found_clean(self, models: Sequence[str]) -> NDArray[np.bool_]:
        both: NDArray[np.bool_] = np.all([self._found(m, CLEAN, 0.0) for m in models], axis=0)
        return both

    def _endured(
        self, models: Sequence[str], unit: str, rule: str, corruption: str
    ) -> list[BootstrapSamples]:
        """Of each model the mean severity endured and the percentages still found at each severity, (1 + s,).

        Args:
            models: only objects that all of them find on clean images count.
        """
        clean = self._found_clean(models)
        levels = self._used[corruption]
        samples = []
        for model in models:
            found = np.array([self._found(model, corruption, s)[clean] for s in levels]).reshape(
                len(levels), -1
            )
            where = self._image[clean]
            if unit == "image":
                images = np.unique(where)
                lost = np.array([np.bincount(where, ~row, self._images) for row in found])
                found, where = lost.reshape(len(levels), -1)[:, images] == 0, images
            at = failure_index(found, rule)
            counts = np.bincount(
                where * (len(levels) + 1) + at, minlength=self._images * (len(levels) + 1)
            ).reshape(self._images, -1)
            samples.append(
                sample_images(
                    Survival(counts.astype(np.float64), np.array(levels)), self._images, self._weights
                )
            )
        return samples

    def _has(self, model: str, corruption: str, severity: float) -> bool:
        run, name = self.intervals.sources[model]
        return (str(run.path), name, corruption, severity) in self._cells

    def _found(self, model: str, corruption: str, severity: float) -> NDArray[np.bool_]:
        run, name = self.intervals.sources[model]
        key = str(run.path), self._confidences[run.path][name]
        finder = self._finders.get(key) or self._finders.setdefault(key, FoundObjects(run, key[1]))
        return finder(self._cells[key[0], name, corruption, severity])


@dataclass(frozen=True, eq=False)
class Survival:
    """From copies of images to the mean severity endured and the percentages still found.

    Attributes:
        counts: (n, s + 1) of each image, what fails at each severity; last what never does.
        levels: (s,) severities above 0.
    """

    counts: NDArray[np.float64]
    levels: NDArray[np.float64]

    def __call__(self, weights: NDArray[np.uint16]) -> NDArray[np.float64]:
        """The mean and the percentages (r, 1 + s) under weights (r, n)."""
        failed = weights.astype(np.float64) @ self.counts
        with np.errstate(invalid="ignore", divide="ignore"):
            lost = np.cumsum(failed[:, :-1], axis=1) / failed.sum(axis=1, keepdims=True)
        still = np.concatenate([np.ones((len(weights), 1)), 1 - lost], axis=1)
        endured = np.trapezoid(still, np.append(0.0, self.levels), axis=1)
        return np.concatenate([endured[:, None], 100 * still[:, 1:]], axis=1)


def failure_index(found: NDArray[np.bool_], rule: str) -> NDArray[np.int64]:
    """The index of the severity at which each column of (s, g) fails; s where it never does.

    Args:
        found: whether it is found at each severity, ascending.
        rule: of `RULES`.

    >>> failure_index(np.array([[True, True], [False, True], [True, False]]), "first").tolist()
    [1, 2]
    >>> failure_index(np.array([[True, True], [False, True], [True, False]]), "lasting").tolist()
    [3, 2]
    """
    if not len(found):
        return np.zeros(found.shape[1], np.int64)
    if rule == "lasting":  # after the last severity at which it is found
        return np.where(found.any(axis=0), len(found) - np.argmax(found[::-1], axis=0), 0)
    return np.where(found.all(axis=0), len(found), np.argmin(found, axis=0))
