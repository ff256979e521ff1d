"""Ranks of networks, each with its interval; networks that no difference tells apart share a place."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from robustbench_sgdm.robustness.aggregates import CorruptionSet
from robustbench_sgdm.robustness.inference import Intervals
from robustbench_sgdm.robustness.measures import lower_is_better
from robustbench_sgdm.robustness.significance import holm


def compare_leaders(
    intervals: Intervals, corruption_set: CorruptionSet | None, ranks: Mapping[str, pd.DataFrame]
) -> dict[str, pd.DataFrame]:
    """By metric the rows of `Intervals.table` about the first network of a ranking minus the second one.

    Args:
        intervals: of the networks.
        corruption_set: that mPC is over; None for the clean score.
        ranks: as of `rank_networks`, by metric; one of fewer than two networks is left out.
    """
    found = {}
    for metric, ranked in ranks.items():
        if len(ranked) > 1:
            first, second = ranked["model"].tolist()[:2]
            two = replace(intervals, groups={name: intervals.groups[name] for name in (first, second)})
            sets = [corruption_set] if corruption_set else []
            table = two.table([metric], pairs=[(second, first)], sets=sets)
            found[metric] = table[table["baseline"] != ""]
    return found


def rank_networks(intervals: Intervals, metric: str, corruption_set: CorruptionSet | None) -> pd.DataFrame:
    """Rank networks by a mean, the best first.

    Every two networks are compared, and p is corrected by Holm over all these pairs, so all intervals of ranks hold
    together at the intervals' level (Mogstad et al. 2024, Review of Economic Studies 91:476): a network is behind at
    least those that are significantly better, and before at least those that are significantly worse.

    Args:
        intervals: of the networks.
        metric: of `intervals.metrics`.
        corruption_set: that mPC is over; None for the clean score.

    Returns:
        Columns model; place, shared by networks between which no difference separates one part from the other; first and
        last, the interval of the rank; estimate. Networks without a value are not in it.
    """
    table = intervals.table([metric], pairs=[], sets=[corruption_set] if corruption_set else [])
    rows = table[table["statistic"] == ("mPC" if corruption_set else "P")].dropna(subset="estimate")
    ranked = rows.sort_values("estimate", ascending=lower_is_better(metric), kind="stable")
    names = ranked["model"].tolist()
    compared = intervals.compare_all(metric, corruption_set)
    p = dict(zip(compared, holm(np.array(list(compared.values()), float)), strict=True))
    position = {name: i for i, name in enumerate(names)}
    differs = np.zeros((len(names), len(names)), bool)  # [better, worse]
    for pair in compared:
        if position.keys() >= set(pair):
            better, worse = sorted(position[name] for name in pair)
            differs[better, worse] = p[pair] < round(1 - intervals.level, 12)
    starts = [i for i in range(len(names)) if differs[:i, i:].all()]
    places = [max(start for start in starts if start <= i) + 1 for i in range(len(names))]
    return pd.DataFrame(
        {
            "model": names,
            "place": places,
            "first": 1 + differs.sum(axis=0),
            "last": len(names) - differs.sum(axis=1),
            "estimate": ranked["estimate"].to_numpy(),
        }
    )
