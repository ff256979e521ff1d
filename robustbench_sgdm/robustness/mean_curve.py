"""The mean over corruptions against severity, over the same corruptions at every severity."""

from collections.abc import Mapping, Sequence

import pandas as pd

from robustbench_sgdm.robustness.aggregates import CorruptionSet
from robustbench_sgdm.robustness.inference import Intervals
from robustbench_sgdm.robustness.point_estimates import point_estimates


def curve_set(over: CorruptionSet) -> CorruptionSet:
    """The cells of a set that a mean curve is of: every one of some corruptions at every one of some severities.

    A mean over more corruptions at one severity than at another would bend the curve though no model does. Of the
    choices that take the severities of one corruption, or those that all have, the one with the most cells.

    >>> rare = [("fog", 1.0), ("fog", 3.0), ("snow", 1.0), ("snow", 3.0), ("stripes", 3.0)]
    >>> curve_set(CorruptionSet(tuple(rare))).name, curve_set(CorruptionSet((("fog", 3.0), ("snow", 5.0)))).name
    ('fog, snow at 1, 3', 'fog at 3')
    """
    levels: dict[str, set[float]] = {}
    for corruption, severity in over.cells:
        levels.setdefault(corruption, set()).add(severity)
    shared = set.intersection(*levels.values()) if levels else set()
    choices: list[list[tuple[str, float]]] = [
        [(c, s) for c in levels if levels[c] >= chosen for s in sorted(chosen)]
        for chosen in (shared, *levels.values())
    ]
    most = max(choices, key=len)
    return CorruptionSet(tuple(most))


def mean_curve(
    results: pd.DataFrame,
    groups: Mapping[str, Sequence[str]],
    metric: str,
    over: CorruptionSet | None,
    bootstrap: Intervals | None = None,
) -> pd.DataFrame:
    """The mean of a metric at each severity of `curve_set`, and the clean score at severity 0.

    Args:
        results: as of `Run.results`, a row for each cell of each training.
        groups: name of a network -> its trainings, as of `Run.groups`.
        metric: of COCO's twelve.
        over: the corruptions; None for the clean scores alone.
        bootstrap: of the same run, for intervals; it holds the metric.

    Returns:
        A row for each network and severity that it has all cells of: model, severity, corruptions (how many; 0 for
        clean), estimate, low, high, in percent; low and high are NaN without `bootstrap`.
    """
    cells: dict[float, list[tuple[str, float]]] = {}
    for cell in () if over is None else curve_set(over).cells:
        cells.setdefault(cell[1], []).append(cell)
    sets = {CorruptionSet(tuple(cells[severity])): severity for severity in sorted(cells)}
    if bootstrap is None:
        table = point_estimates(results, groups, [metric], [], dict.fromkeys(sets, ""))
    else:
        table = bootstrap.table([metric], pairs=[], sets=list(sets))
    parts = [table[table["statistic"] == "P"].assign(severity=0.0, corruptions=0)]
    for one, severity in sets.items():
        means = table[(table["statistic"] == "mPC") & (table["over"] == one.name)]
        parts.append(means.assign(severity=severity, corruptions=len(one.corruptions)))
    curve = pd.concat(parts).dropna(subset="estimate")
    places = {name: place for place, name in enumerate(groups)}
    curve = curve.sort_values("model", key=lambda names: names.map(places), kind="stable")
    return curve[["model", "severity", "corruptions", "estimate", "low", "high"]].reset_index(drop=True)
