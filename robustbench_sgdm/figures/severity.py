"""AP against severity, a panel per corruption, a line per model with its interval as a band."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from robustbench_sgdm.figures.style import COLUMN, MARKERS, PAGE, colors, legend_above, styled, words
from robustbench_sgdm.types import CLEAN


def severity_curves(
    results: pd.DataFrame, metric: str = "AP", intervals: pd.DataFrame | None = None, columns: int = 0
) -> Figure:
    """Draw `metric` (percent) against severity.

    Args:
        results: rows as in `results.csv`.
        metric: a column of `results`.
        intervals: rows as of `Intervals.table()`, whose `low` and `high` become bands.
        columns: panels in a row; 0: three, or four where there are more than nine.
    """
    corruptions = [c for c in dict.fromkeys(results["corruption"]) if c != CLEAN] or [CLEAN]
    across = min(columns or (4 if len(corruptions) > 9 else 3), len(corruptions))
    down = -(-len(corruptions) // across)
    models = list(dict.fromkeys(results["model"]))
    with styled():
        size = (COLUMN * 1.25, 2.9) if across == 1 else (PAGE, 0.4 + (7.2 / across) * down * 0.9)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(down, across, squeeze=False, sharey=True, sharex=True).ravel()
        for axis, corruption in zip(axes, corruptions, strict=False):
            _panel(axis, results, corruption, metric, models, intervals)
        for axis in axes[len(corruptions) :]:
            axis.set_axis_off()
        for index, axis in enumerate(axes[: len(corruptions)]):
            below = index + across >= len(corruptions)
            axis.tick_params(labelbottom=below)
            axis.set(xlabel="severity (0 = clean)" if below else "", ylabel="")
            if index % across == 0:
                axis.set_ylabel(f"{metric} (%)")
        axes[0].set_ylim(bottom=0)
        legend_above(figure, axes[0])
    return figure


def _panel(
    axis: Axes,
    results: pd.DataFrame,
    corruption: str,
    metric: str,
    models: Sequence[str],
    intervals: pd.DataFrame | None,
) -> None:
    color = colors(models)
    for index, model in enumerate(models):
        rows = _rows(results, model, corruption)
        axis.plot(
            rows["severity"],
            rows[metric],
            marker=MARKERS[index % len(MARKERS)],
            color=color[model],
            label=model,
        )
        if intervals is not None:
            own = intervals[
                (intervals["statistic"] == "score")
                & (intervals["baseline"] == "")
                & (intervals["metric"] == metric)
            ]
            band = _rows(own, model, corruption)
            axis.fill_between(
                band["severity"], band["low"], band["high"], color=color[model], alpha=0.15, linewidth=0
            )
    axis.set_title(words(corruption))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def _rows(frame: pd.DataFrame, model: str, corruption: str) -> pd.DataFrame:
    """A model's rows of clean and one corruption, by severity."""
    chosen = (frame["model"] == model) & frame["corruption"].isin([CLEAN, corruption])
    return frame[chosen].sort_values("severity")
