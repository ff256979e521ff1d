"""Natural shift beside synthetic corruption: the same detectors on other images, compared without pairs.

Images of another data set are no copies of the first one's, so what is said of clean against shifted images rests on two
independent bootstraps, whose variances add. Models on the same shifted images are paired. AP is over the classes that
both data sets have objects of, whose names match as those of detectors do. Effective robustness: how far a model's AP
on shifted images is above the least-squares line of it against AP on clean images, over all networks (Taori et al. 2020,
arXiv:2007.00644, there of accuracy).
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.datasets.class_matching import match_classes
from robustbench_sgdm.robustness.by_class import class_statistic
from robustbench_sgdm.robustness.inference import Inference, infer, mean_of
from robustbench_sgdm.robustness.resample_cache import DEFAULT_RESAMPLES, BootstrapSamples, load_samples
from robustbench_sgdm.robustness.significance import (
    Variance,
    mark_significant,
    p_value,
    pool_variances,
    student_interval,
)
from robustbench_sgdm.store import Run

_KEYS = ["model", "baseline", "shift", "statistic"]
_LEAST = 3  # networks that a line can say something about


def shift_table(
    run: Run,
    shifts: Mapping[str, Run],
    unreadable: Mapping[str, str] | None = None,
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
    progress: Callable[[int], None] = lambda _: None,
) -> pd.DataFrame:
    """AP on clean and on shifted images, and what is between them.

    Args:
        run: with clean cells.
        shifts: by name, runs of the same models on other images.
        unreadable: by name, why other shifts cannot be read; each network has a row without a value for each.
        resamples: of each data set's images.
        seed: of the resamples; each data set's are drawn independently.
        level: of the intervals.
        progress: called with the number of cells just done, from any thread.

    Returns:
        A row per network, or pair, shift and statistic: model, baseline (empty for a network's own value), shift,
        statistic, estimate, low, high, p, se, se_images, se_seeds, seeds, resamples, p_holm and significant (over the
        shifts), paired (whether p compares the same images), classes (that are shared), images (of the shift), missing
        (why there is no value). Statistics: `clean` and `shifted`, AP over the shared classes in percent; `change`,
        shifted minus clean, unpaired, or of a pair the difference of the changes; `retained`, shifted as a percentage of
        clean, without p; of a pair `shifted`, the paired difference; `effective`, points above the line, without p, whose
        interval is over images alone, also where a network has several trainings.
    """
    rows: list[list[object]] = []
    for name, shifted in shifts.items():
        rows += _Shift(run, name, shifted, level).rows(resamples, seed, progress)
    for name, reason in (unreadable or {}).items():
        rows += [[group, "", name, "shifted", *_ABSENT, False, 0, 0, reason] for group in run.groups]
    columns = [*_KEYS, *Inference._fields, "paired", "classes", "images", "missing"]
    frame = pd.DataFrame(rows, columns=columns)
    families = [(row.model, row.baseline, row.statistic) for row in frame[_KEYS].itertuples(index=False)]
    return mark_significant(frame, families, level)


_ABSENT = Inference(np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, 0, 0)


@dataclass(frozen=True, eq=False)
class _Shift:
    run: Run
    name: str
    shifted: Run
    level: float

    def rows(self, resamples: int, seed: int, progress: Callable[[int], None]) -> list[list[object]]:
        shared = self._shared_classes()
        other_seed = (
            seed + 1 + zlib.crc32(self.name.encode())
        )  # other draws, also where both have as many images
        sides = [
            _clean_samples(run, classes, resamples, own_seed, progress)
            for run, classes, own_seed in (
                (self.run, [own for own, _ in shared], seed),
                (self.shifted, [other for _, other in shared], other_seed),
            )
        ]
        groups = self.run.groups
        reasons = {group: self._why_missing(members, len(shared), sides) for group, members in groups.items()}
        known = [group for group in groups if not reasons[group]]
        rows: list[list[object]] = []
        for group, members in groups.items():
            own = [[side[m] for m in members if m in side] for side in sides]
            values = self._own(own) if not reasons[group] else {}
            for statistic in ("clean", "shifted", "change", "retained"):
                why = reasons[group] or ("" if statistic in values else f"{group}: AP on clean images is 0")
                rows.append(self._row(group, "", statistic, values.get(statistic), len(shared), why))
        few = f"effective robustness needs {_LEAST} networks or more" if len(known) < _LEAST else ""
        lines = (
            self._effective({g: [[side[m] for m in groups[g]] for side in sides] for g in known})
            if not few
            else {}
        )
        for group in groups:
            why = reasons[group] or few
            rows.append(self._row(group, "", "effective", lines.get(group), len(shared), why))
        for baseline, model in self.run.baseline_pairs:
            reason = "; ".join(filter(None, (reasons[baseline], reasons[model])))
            pairs = self.run.match_trainings(baseline, model)
            found = self._pair(pairs, sides) if not reason else dict.fromkeys(("shifted", "change"))
            for statistic, value in found.items():
                rows.append(self._row(model, baseline, statistic, value, len(shared), reason))
        return rows

    def _row(
        self, model: str, baseline: str, statistic: str, value: Inference | None, classes: int, reason: str
    ) -> list[object]:
        numbers = value or _ABSENT
        paired = bool(baseline) and statistic == "shifted"
        images = self.shifted.manifest.data.images
        return [model, baseline, self.name, statistic, *numbers, paired, classes, images, reason]

    def _shared_classes(self) -> list[tuple[int, int]]:
        """The classes that both have objects of: category_id in the run's data, and in the shifted data."""
        (ids, names, present), (other_ids, other_names, other_present) = (
            _classes(run) for run in (self.run, self.shifted)
        )
        places = match_classes(names, other_names)
        return [
            (own, other_ids[place])
            for own, place in zip(ids, places, strict=True)
            if place >= 0 and own in present and other_ids[place] in other_present
        ]

    def _why_missing(
        self, members: Sequence[str], classes: int, sides: Sequence[Mapping[str, BootstrapSamples]]
    ) -> str:
        if not classes:
            return "no class has objects in both data sets"
        reasons = [
            f"{m}: no {what} cell"
            for m in members
            for what, side in zip(("clean", "shifted"), sides, strict=True)
            if m not in side
        ]
        return "; ".join(reasons)

    def _own(self, sides: Sequence[Sequence[BootstrapSamples]]) -> dict[str, Inference]:
        clean, shifted = sides
        found = {
            name: _bounded(infer(BootstrapSamples.map(mean_of, *side), 0, None, [side], self.level))
            for name, side in (("clean", clean), ("shifted", shifted))
        }
        changes = [float(s.estimate[0] - c.estimate[0]) for c, s in zip(clean, shifted, strict=True)]
        found["change"] = self._unpaired(changes, (found["clean"], found["shifted"]), sides, 0.0)
        base, value = found["clean"].estimate, found["shifted"].estimate
        if all(one.estimate[0] > 0 for one in clean):
            # Delta method: relative variances of independent numerator and denominator add.
            share = 100 * value / base
            relative = [
                Inference(*one)._replace(se_images=scale * one.se_images)
                for one, scale in ((found["clean"], share / base), (found["shifted"], 100 / base))
            ]
            shares = [
                100 * float(s.estimate[0]) / float(c.estimate[0]) for c, s in zip(clean, shifted, strict=True)
            ]
            retained = self._unpaired(shares, relative, sides, None)
            found["retained"] = retained._replace(low=max(retained.low, 0.0))
        return found

    def _unpaired(
        self,
        values: Sequence[float],
        parts: Sequence[Inference],
        sides: Sequence[Sequence[BootstrapSamples]],
        null: float | None,
    ) -> Inference:
        """The mean of the trainings' values, whose variance over images is the sum of two independent ones."""
        variances = [
            Variance(part.se_images**2, min(len(side[0].jackknife), part.resamples) - 1)
            for part, side in zip(parts, sides, strict=True)
        ]
        seeds = (
            Variance(float(np.var(values, ddof=1)) / len(values), len(values) - 1)
            if len(values) > 1
            else None
        )
        known = not any(np.isnan(one.value) for one in variances)
        total = pool_variances([*variances, *([seeds] if seeds else [])]) if known else Variance(np.nan, 0)
        images = pool_variances(variances) if known else total
        estimate = float(np.mean(values))
        return Inference(
            estimate,
            *student_interval(estimate, total, self.level),
            np.nan if null is None else p_value(estimate - null, total),
            float(np.sqrt(total.value)),
            float(np.sqrt(images.value)),
            float(np.sqrt(seeds.value)) if seeds else np.nan,
            len(values),
            min(part.resamples for part in parts),
        )

    def _pair(
        self, pairs: Sequence[tuple[str, str]], sides: Sequence[Mapping[str, BootstrapSamples]]
    ) -> dict[str, Inference]:
        differences = [
            [BootstrapSamples.map(np.subtract, side[model], side[baseline]) for baseline, model in pairs]
            for side in sides
        ]
        parts = [infer(BootstrapSamples.map(mean_of, *d), 0, 0.0, [d], self.level) for d in differences]
        changes = [float(s.estimate[0] - c.estimate[0]) for c, s in zip(*differences, strict=True)]
        return {"shifted": parts[1], "change": self._unpaired(changes, parts, differences, 0.0)}

    def _effective(self, sides: Mapping[str, Sequence[Sequence[BootstrapSamples]]]) -> dict[str, Inference]:
        """Points above the line; each draw of both data sets has its own line."""
        clean, shifted = ([BootstrapSamples.map(mean_of, *two[i]) for two in sides.values()] for i in (0, 1))
        estimate = residuals(*(np.array([one.estimate[0] for one in side]) for side in (clean, shifted)))
        count = min(len(one.resamples) for one in (*clean, *shifted))
        draws = residuals(
            *(np.stack([one.resamples[:count, 0] for one in side]) for side in (clean, shifted))
        )
        freedom = min(len(one.jackknife) for one in (*clean, *shifted)) - 1
        found = {}
        for index, group in enumerate(sides):
            finite = draws[index][np.isfinite(draws[index])]
            known = len(finite) > 1 and freedom > 0
            total = Variance(float(np.var(finite, ddof=1)), freedom) if known else Variance(np.nan, 0)
            interval = student_interval(float(estimate[index]), total, self.level)
            error = float(np.sqrt(total.value))
            found[group] = Inference(
                float(estimate[index]), *interval, np.nan, error, error, np.nan, 1, len(finite)
            )
        return found


def residuals(clean: NDArray[np.float64], shifted: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each shifted value is above the least-squares line against the clean one.

    Args:
        clean, shifted: (n, ...), of n networks.

    Returns:
        (n, ...); NaN where all clean values are equal.

    >>> residuals(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 6.0])).round(3).tolist()
    [0.5, -1.0, 0.5]
    """
    x, y = clean - clean.mean(axis=0), shifted - shifted.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = (x * y).sum(axis=0) / (x * x).sum(axis=0)
    found: NDArray[np.float64] = y - slope * x
    return found


def _classes(run: Run) -> tuple[list[int], list[str], set[int]]:
    """Ids and names of a run's classes, and the ids of those with objects."""
    truth = run.ground_truth()
    counted = truth.annotations.loc[truth.annotations["iscrowd"] == 0, "category_id"]
    return truth.categories["category_id"].tolist(), truth.categories["name"].tolist(), {*counted.tolist()}


def _clean_samples(
    run: Run, classes: Sequence[int], resamples: int, seed: int, progress: Callable[[int], None]
) -> dict[str, BootstrapSamples]:
    """The mean AP of some classes on clean images, (1,), by model."""
    statistic = class_statistic(run, {})
    columns = [statistic.columns.index(str(i)) for i in classes]
    (samples,) = load_samples(
        [run],
        [statistic],
        resamples=resamples,
        seed=seed,
        progress=progress,
        only=lambda c: c.corruption == CLEAN,
    )

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Over the classes that a resample has objects of, as COCO does."""
        own = values[..., columns]
        present = ~np.isnan(own)
        with np.errstate(invalid="ignore"):
            return np.asarray(
                np.where(present, own, 0).sum(axis=-1, keepdims=True) / present.sum(axis=-1, keepdims=True)
            )

    return {cell.model: BootstrapSamples.map(mean, one) for cell, one in samples.items()} if columns else {}


def _bounded(value: Inference) -> Inference:
    return value._replace(low=max(value.low, 0.0), high=min(value.high, 100.0))
