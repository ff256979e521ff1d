"""Scores under corruption against what a model costs: latency, parameters, operations, file size."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.run_analysis import RunAnalysis
from robustbench_sgdm.figures.style import MARKERS, PAGE, colors_of, legend_above, plot_style

COSTS = {
    "latency_ms": "latency (ms an image)",
    "parameters_m": "parameters (millions)",
    "gflops": "operations (GFLOPs)",
    "file_mb": "weights' file (MB)",
}
"""Columns of costs, and the labels of their axes."""


def dominated(cost: NDArray[np.float64], score: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which models another one beats: it costs no more, scores no less, and is better in one of the two.

    Args:
        cost, score: (n,); a model that lacks one is not compared.

    >>> dominated(np.array([1.0, 2.0, 3.0]), np.array([10.0, 12.0, 11.0])).tolist()
    [False, False, True]
    """
    cheaper = cost[:, None] >= cost
    better = score[:, None] <= score
    strictly = (cost[:, None] > cost) | (score[:, None] < score)
    return np.asarray((cheaper & better & strictly).any(axis=1))


def draw_pareto(points: pd.DataFrame, metric: str = "AP") -> Figure:
    """Draw mPC and rPC against each cost, with intervals; dominated models are hollow, the others joined.

    Args:
        points: columns model, statistic (mPC or rPC), estimate, low, high (percent), cost (of `COSTS`), value and
            dominated.
        metric: of those rows.
    """
    models = list(dict.fromkeys(points["model"]))
    rows = [s for s in ("mPC", "rPC") if (points["statistic"] == s).any()]
    columns = [c for c in COSTS if (points["cost"] == c).any()]
    with plot_style():
        figure = Figure(figsize=(PAGE, 0.5 + 2.1 * len(rows)), layout="constrained")
        axes = figure.subplots(len(rows), len(columns), sharex="col", sharey="row", squeeze=False)
        for row, statistic in zip(axes, rows, strict=True):
            for axis, cost in zip(row, columns, strict=True):
                panel = points[(points["statistic"] == statistic) & (points["cost"] == cost)]
                _panel(axis, panel, models)
            row[0].set_ylabel(f"mPC: {metric} (%)" if statistic == "mPC" else "rPC (%)")
        for axis, cost in zip(axes[-1], columns, strict=True):
            axis.set(xlabel=COSTS[cost])
            axis.set_xlim(0, 1.12 * points.loc[points["cost"] == cost, "value"].max())
        color = colors_of(models)
        keys = {
            model: Line2D([], [], color=color[model], marker=MARKERS[i % len(MARKERS)], linestyle="")
            for i, model in enumerate(models)
        }
        legend_above(figure, keys)
    return figure


def _panel(axis: Axes, panel: pd.DataFrame, models: Sequence[str]) -> None:
    front = panel[~panel["dominated"]].sort_values("value")
    axis.plot(front["value"], front["estimate"], color="#8c959f", linewidth=0.8, zorder=1)
    color = colors_of(models)
    for row in panel.to_dict("records"):
        index = models.index(row["model"])
        own = color[row["model"]]
        if not np.isnan(row["low"]):
            axis.plot([row["value"]] * 2, [row["low"], row["high"]], color=own, linewidth=1, zorder=2)
        axis.plot(
            [row["value"]],
            [row["estimate"]],
            marker=MARKERS[index % len(MARKERS)],
            color=own,
            markerfacecolor="white" if row["dominated"] else own,
            linestyle="",
            zorder=3,
        )


@figure(
    "pareto", "scores under corruption against latency, parameters, operations and file size", section="cost"
)
def pareto(analysis: RunAnalysis) -> FigureResult:
    """The models of a run and what they cost."""
    metric = analysis.resampled_metric
    over = analysis.primary_set.name
    frame = analysis.intervals
    own = frame[(frame["baseline"] == "") & (frame["metric"] == metric) & (frame["over"] == over)]
    own = own[own["statistic"].isin(("mPC", "rPC"))].dropna(subset="estimate")
    if own["model"].nunique() < 2:
        raise DataError(
            f"{analysis.run.path} has fewer than two models with all their cells: there is nothing to compare"
        )
    parts = []
    for cost, values in analysis.costs.items():
        for _, rows in own.groupby("statistic", sort=False):
            rows = rows.assign(cost=cost, value=rows["model"].map(values)).dropna(subset="value")
            marks = dominated(rows["value"].to_numpy(float), rows["estimate"].to_numpy(float))
            parts.append(rows.assign(dominated=marks))
    points = pd.concat(parts, ignore_index=True) if parts else own.assign(cost="", value=np.nan)
    if points["value"].notna().sum() == 0:
        raise DataError(
            f"{analysis.run.path} has no latency, size or operations of its models; `robustbench run` measures latency, "
            "which scored and joined runs lack"
        )
    absent = [label for cost, label in COSTS.items() if cost not in set(points["cost"])]
    caption = (
        f"mPC and rPC of {metric} under {analysis.title} against the cost of a model. Lines through points: 95 % "
        f"intervals over {analysis.sampling_units}. Hollow: another model costs no more and scores no less, by the "
        "estimates alone; the grey line joins the others."
        + (f" Not known for this run: {', '.join(absent)}." if absent else "")
    )
    best = [
        f"{COSTS[str(cost)]}: {', '.join(rows.loc[~rows['dominated'], 'model'])}"
        for cost, rows in points[points["statistic"] == "mPC"].groupby("cost", sort=False)
    ]
    alt = f"Scatter plots of mPC and rPC against costs; not dominated by {'; by '.join(best)}."
    columns = [
        "model",
        "statistic",
        "over",
        "metric",
        "estimate",
        "low",
        "high",
        "cost",
        "value",
        "dominated",
    ]
    return FigureResult(draw_pareto(points, metric), caption, alt, points[columns])
