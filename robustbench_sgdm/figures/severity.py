"""AP against severity, a panel per corruption, a line per model with its interval as a band."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.run_analysis import RunAnalysis
from robustbench_sgdm.figures.style import (
    describe_bands,
    make_panels,
    model_looks,
    name_lines,
    plot_style,
    with_bands,
)
from robustbench_sgdm.tables import humanize


def draw_severity_curves(
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
    models = list(dict.fromkeys(results["model"]))
    label = "severity (0 = clean)" if (results["corruption"] == CLEAN).any() else "severity"
    with plot_style():
        figure, axes = make_panels(
            [humanize(c) for c in corruptions], label, f"{metric} (%)", columns=columns
        )
        for axis, corruption in zip(axes, corruptions, strict=True):
            lines = _panel(axis, results, corruption, metric, models, intervals)
        axes[0].set_ylim(bottom=0)
        name_lines(figure, axes, lines)
    return figure


def _panel(
    axis: Axes,
    results: pd.DataFrame,
    corruption: str,
    metric: str,
    models: Sequence[str],
    intervals: pd.DataFrame | None,
) -> dict[str, Any]:
    """Draw one panel; gives the line of each model."""
    looks, lines = model_looks(models), {}
    for model in models:
        rows = _rows(results, model, corruption)
        (lines[model],) = axis.plot(rows["severity"], rows[metric], **looks[model])
        if intervals is not None and model in with_bands(models):
            own = intervals[
                (intervals["statistic"] == "score")
                & (intervals["baseline"] == "")
                & (intervals["metric"] == metric)
            ]
            band = _rows(own, model, corruption)
            axis.fill_between(
                band["severity"],
                band["low"],
                band["high"],
                color=looks[model]["color"],
                alpha=0.15,
                linewidth=0,
            )
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    return lines


def _rows(frame: pd.DataFrame, model: str, corruption: str) -> pd.DataFrame:
    """The rows of a model for clean images and one corruption, by severity."""
    chosen = (frame["model"] == model) & frame["corruption"].isin([CLEAN, corruption])
    return frame[chosen].sort_values("severity")


@figure(
    "severity", "AP against severity with interval bands, a panel per corruption", section="results", place=1
)
def severity(analysis: RunAnalysis) -> FigureResult:
    """The curves of a run."""
    results, metric = analysis.results, analysis.metric_name
    intervals = _or_none(lambda: analysis.intervals)
    if intervals is not None and metric not in set(intervals["metric"]):
        intervals = None  # average recall is not resampled
    data, models = results[["model", "corruption", "severity", metric]], list(dict.fromkeys(results["model"]))
    band = ""
    if intervals is not None:
        rows = intervals[
            (intervals["statistic"] == "score")
            & (intervals["baseline"] == "")
            & (intervals["metric"] == metric)
        ]
        data = data.merge(rows[["model", "corruption", "severity", "low", "high"]], how="left")
        if rows["low"].notna().any():  # scores without detections have none
            band = (
                f" {describe_bands(models)}: 95 % intervals over {analysis.sampling_units}; models see the same images, "
                "so overlapping intervals may still differ significantly."
            )
    clean = bool((results["corruption"] == CLEAN).any())
    first = "on clean images" if clean else "at the lowest severity"
    mildest, worst = (results[results["severity"] == end(results["severity"])] for end in (min, max))
    alt = f"Line chart of {metric} against severity. " + "; ".join(
        f"{model}: {_mean(mildest[mildest['model'] == model], metric)} {first}, "
        f"{_mean(worst[worst['model'] == model], metric)} at the highest"
        for model in models
    )
    caption = f"{metric} against severity{', 0 being the clean images' if clean else ''}.{band}"
    return FigureResult(draw_severity_curves(results, metric, intervals), caption, alt + ".", data)


def _mean(rows: pd.DataFrame, metric: str) -> str:
    return f"{rows[metric].mean():.1f}" if rows[metric].notna().any() else "no score"


def _or_none(make: Callable[[], pd.DataFrame]) -> pd.DataFrame | None:
    try:
        return make()
    except DataError:
        return None
