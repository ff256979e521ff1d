"""The mean over corruptions against severity, a line per model with its interval as a band."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.run_analysis import RunAnalysis
from robustbench_sgdm.figures.style import (
    COLUMN,
    MARKERS,
    colors_of,
    describe_bands,
    legend_above,
    plot_style,
    with_bands,
)

_HEIGHT = 2.3  # inches without the legend
_LEGEND_LINE = 0.17  # inches


def draw_mean_curve(curve: pd.DataFrame, metric: str = "AP") -> Figure:
    """Draw the mean of `metric` (percent) against severity.

    Args:
        curve: as of `Summary.curve`.
        metric: of the numbers.
    """
    models = list(dict.fromkeys(curve["model"]))
    color = colors_of(models)
    with plot_style():
        figure = Figure(figsize=(COLUMN, _HEIGHT), layout="constrained")
        axis = figure.subplots()
        handles = {}
        for index, model in enumerate(models):
            rows = curve[curve["model"] == model]
            (handles[model],) = axis.plot(
                rows["severity"], rows["estimate"], marker=MARKERS[index % len(MARKERS)], color=color[model]
            )
            band = rows.dropna(subset=["low", "high"]) if model in with_bands(models) else rows[:0]
            axis.fill_between(
                band["severity"], band["low"], band["high"], color=color[model], alpha=0.15, linewidth=0
            )
        clean = bool((curve["severity"] == 0).any())
        axis.set(xlabel="severity (0 = clean)" if clean else "severity", ylabel=f"mean {metric} (%)")
        axis.set_ylim(bottom=0)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        lines = legend_above(figure, handles)
        figure.set_size_inches(COLUMN, _HEIGHT + _LEGEND_LINE * (lines - 1))
    return figure


@figure("mean-curve", "the mean over corruptions against severity", section="summary", place=1)
def mean_curve(analysis: RunAnalysis) -> FigureResult:
    """The mean curve of a run."""
    summary = analysis.summary
    curve, metric = summary.curve, summary.metric
    over = summary.curve_scope
    bands = ""
    if curve["low"].notna().any():
        which = describe_bands(list(dict.fromkeys(curve["model"])))
        bands = f" {which}: 95 % intervals over {analysis.sampling_units}."
    ends = (
        f"{model} from {rows['estimate'].iloc[0]:.1f} to {rows['estimate'].iloc[-1]:.1f}"
        for model, rows in curve.groupby("model", sort=False)
    )
    alt = f"Line chart of the mean {metric} against severity, {over}: {'; '.join(ends)}."
    return FigureResult(draw_mean_curve(curve, metric), f"Mean {metric} {over}.{bands}", alt, curve)
