"""AP against severity, a panel per corruption, a line per model."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from robustbench_sgdm.figures.style import colors, styled
from robustbench_sgdm.types import CLEAN

_MARKERS = "osD^vP*X"


def severity_curves(results: pd.DataFrame, metric: str = "AP", columns: int = 3) -> Figure:
    """Draw `metric` (percent) against severity.

    Args:
        results: rows as in `results.csv`.
        metric: a column of `results`.
        columns: panels in a row.
    """
    corruptions = [c for c in dict.fromkeys(results["corruption"]) if c != CLEAN]
    across = min(columns, max(len(corruptions), 1))
    down = -(-max(len(corruptions), 1) // across)
    with styled():
        figure = Figure(
            figsize=(3.4 * across if across > 1 else 5.0, 2.7 * down if down > 1 else 3.2),
            layout="constrained",
        )
        axes = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
        for axis, corruption in zip(axes, corruptions or [CLEAN], strict=False):
            _panel(axis, results, corruption, metric)
        for axis in axes[max(len(corruptions), 1) :]:
            axis.set_axis_off()
        axes[0].legend()
    return figure


def _panel(axis: object, results: pd.DataFrame, corruption: str, metric: str) -> None:
    models: Sequence[str] = list(dict.fromkeys(results["model"]))
    color = colors(models)
    for index, model in enumerate(models):
        rows = results[(results["model"] == model) & results["corruption"].isin([CLEAN, corruption])]
        rows = rows.sort_values("severity")
        axis.plot(  # type: ignore[attr-defined]
            rows["severity"],
            rows[metric],
            marker=_MARKERS[index % len(_MARKERS)],
            color=color[model],
            label=model,
        )
    axis.set(title=corruption.replace("_", " "), xlabel="severity (0 = clean)", ylabel=f"{metric} (%)")  # type: ignore[attr-defined]
    axis.set_ylim(bottom=0)  # type: ignore[attr-defined]
