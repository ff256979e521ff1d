"""The rows of `Intervals.table` from scores alone, where nothing can be resampled."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.robustness.aggregates import CorruptionSet, relative_score
from robustbench_sgdm.robustness.inference import ROW_KEYS, Inference

_Values = dict[tuple[str, str, str, str, float], float]
"""statistic, over, family, corruption and severity -> percent."""


def point_estimates(
    results: pd.DataFrame,
    groups: Mapping[str, Sequence[str]],
    metrics: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    sets: Mapping[CorruptionSet, str],
    *,
    losses: bool = False,
) -> pd.DataFrame:
    """Scores, P, mPC, rPC and their differences, without intervals and tests; of several trainings the means.

    Args:
        results: as of `Run.results`, a row for each cell of each training.
        groups: name of a network -> its trainings, as of `Run.groups`.
        metrics: columns of `results`.
        pairs: (baseline, model), names of `groups`.
        sets: of corruptions, each with its family or "".
        losses: also P minus mPC.

    Returns:
        Columns as of `Intervals.table`; NaN for what is absent.
    """
    by_model = {str(model): rows for model, rows in results.groupby("model", sort=False)}
    rows = []
    for metric in metrics:
        own = {
            name: _mean([_values(by_model.get(m, results[:0]), metric, sets, losses) for m in members])
            for name, members in groups.items()
        }
        sides = [(name, "", values) for name, values in own.items()]
        for baseline, model in pairs:
            both = own[model].keys() & own[baseline].keys()
            change = {key: own[model][key] - own[baseline][key] for key in own[model] if key in both}
            sides.append((model, baseline, change))
        rows += [
            [model, baseline, *key, metric, value]
            for model, baseline, all_ in sides
            for key, value in all_.items()
        ]
    frame = pd.DataFrame(rows, columns=[*ROW_KEYS, "estimate"])
    absent = dict.fromkeys((*(f for f in Inference._fields if f != "estimate"), "p_holm"), np.nan)
    return frame.assign(**absent, missing="", significant=False)


def _values(rows: pd.DataFrame, metric: str, sets: Mapping[CorruptionSet, str], losses: bool) -> _Values:
    """Every statistic of one training."""
    cells = zip(rows["corruption"], rows["severity"], strict=True)
    scores = dict(zip(cells, rows[metric].astype(float), strict=True))
    clean = scores.get((CLEAN, 0.0), np.nan)
    values: _Values = {("score", "", "", *cell): score for cell, score in scores.items()}
    values["P", "", "", "", np.nan] = clean
    for one, family in sets.items():
        mean = float(one.mean(scores)) if scores.keys() >= set(one.cells) else np.nan
        values["mPC", one.name, family, "", np.nan] = mean
        values["rPC", one.name, family, "", np.nan] = float(relative_score(mean, clean))
        if losses:
            values["loss", one.name, family, "", np.nan] = clean - mean
    return values


def _mean(trainings: Sequence[_Values]) -> _Values:
    """Of what all trainings have."""
    return {
        key: float(np.mean([one[key] for one in trainings]))
        for key in trainings[0]
        if all(key in one for one in trainings)
    }
