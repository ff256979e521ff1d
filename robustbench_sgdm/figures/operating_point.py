"""Detectors at a confidence: precision and recall, F1, and how far confidence is from precision, by severity."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robustbench_sgdm import robustness
from robustbench_sgdm.core import palette
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.run_analysis import RunAnalysis
from robustbench_sgdm.figures.style import (
    FEW,
    MARKERS,
    PAGE,
    balance,
    colors_of,
    legend_above,
    make_panels,
    model_looks,
    plot_style,
)

_MAX_PANELS = 4  # severities that are shown, evenly spread
_MAX_COLUMNS = 5  # models beside each other


def draw_precision_recall(curves: pd.DataFrame, confidences: dict[str, float]) -> Figure:
    """Draw precision against recall, and below F1 against confidence; a panel per severity, a line per training.

    Args:
        curves: as of `robustness.precision_recall`; with a column `training`, `model` is the network, which gives the
            colour.
        confidences: by training; a point on each curve. One without has none.
    """
    models, severities, curves = _models(curves), _severities(curves), _with_trainings(curves)
    color = colors_of(models)
    with plot_style():
        figure = Figure(figsize=(PAGE, 4.4), layout="constrained")
        axes = figure.subplots(2, len(severities), sharey="row", squeeze=False)
        for severity, above, below in zip(severities, *axes, strict=True):
            for index, model in enumerate(models):
                rows = curves[(curves["model"] == model) & (curves["severity"] == severity)]
                look = {"color": color[model], "marker": MARKERS[index % len(MARKERS)], "linestyle": ""}
                for training, own in rows.groupby("training", sort=False):
                    at = own[own["confidence"] >= confidences.get(str(training), 2.0)].tail(1)
                    for axis, x, y in ((above, "recall", "precision"), (below, "confidence", "f1")):
                        axis.plot(own[x], own[y], color=color[model], linewidth=1.2)
                        axis.plot(at[x], at[y], **look)
            above.set(title=_title(severity), xlabel="recall (%)", xlim=(0, 100), ylim=(0, 102))
            below.set(xlabel="confidence", xlim=(0, 1), ylim=(0, 102))
        axes[0, 0].set_ylabel("precision (%)")
        axes[1, 0].set_ylabel("F1 (%)")
        legend_above(figure, _keys(models))
    return figure


def draw_reliability(bins: pd.DataFrame) -> Figure:
    """Draw precision against confidence; a panel per severity, a line per training; points grow with their boxes.

    Many models have a panel each, with a colour per severity.

    Args:
        bins: as of `robustness.reliability`; with a column `training`, `model` is the network, which gives the colour.
    """
    models, severities, bins = _models(bins), _severities(bins), _with_trainings(bins)
    titles: dict[Any, str] = {severity: _title(severity) for severity in severities}
    facet, line, names = "severity", "model", dict(zip(models, models, strict=True))
    looks: dict[Any, dict[str, Any]] = dict(model_looks(models))
    if len(models) > FEW:
        facet, line, titles, names = line, facet, names, titles
        looks = {
            severity: {"color": shade, "marker": marker}
            for severity, shade, marker in zip(severities, _shades(len(severities)), MARKERS, strict=False)
        }
    with plot_style():
        figure, axes = make_panels(
            list(titles.values()),
            "confidence (%)",
            "precision (%)",
            columns=balance(len(titles), _MAX_COLUMNS)[1],
        )
        for value, axis in zip(titles, axes, strict=True):
            axis.plot([0, 100], [0, 100], color="#8c959f", linewidth=0.8, zorder=1)
            for each, look in looks.items():
                rows = bins[(bins[facet] == value) & (bins[line] == each)]
                for _, own in rows.groupby("training", sort=False):
                    axis.plot(own["confidence"], own["precision"], color=look["color"], linewidth=1)
                    share = own["boxes"] / max(own["boxes"].sum(), 1)
                    axis.scatter(own["confidence"], own["precision"], s=6 + 60 * share, zorder=2, **look)
            axis.set(xlim=(0, 100), ylim=(0, 102))
        legend_above(figure, {names[each]: Line2D([], [], **look) for each, look in looks.items()})
    return figure


def _shades(count: int) -> list[str]:
    """From blue, for the mildest, to orange: both can be seen on light and on dark ground."""
    ends = [palette.MODEL_COLORS[0], palette.MODEL_COLORS[3]]
    return [palette.interpolate_colors(ends, i / max(count - 1, 1)) for i in range(count)]


def _with_trainings(frame: pd.DataFrame) -> pd.DataFrame:
    return frame if "training" in frame else frame.assign(training=frame["model"])


def _models(frame: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(frame["model"]))


def _severities(frame: pd.DataFrame) -> list[float]:
    """At most `_MAX_PANELS` of the severities, the first and the last among them."""
    known = sorted(set(frame["severity"]))
    if len(known) <= _MAX_PANELS:
        return known
    return [known[round(i * (len(known) - 1) / (_MAX_PANELS - 1))] for i in range(_MAX_PANELS)]


def _title(severity: float) -> str:
    return f"severity {severity:g}" if severity else "clean"


def _keys(models: Sequence[str]) -> dict[str, Line2D]:
    color = colors_of(models)
    return {
        model: Line2D([], [], color=color[model], marker=MARKERS[i % len(MARKERS)])
        for i, model in enumerate(models)
    }


@figure("precision-recall", "precision, recall and F1 by severity", section="operating-point", place=1)
def precision_recall(analysis: RunAnalysis) -> FigureResult:
    """The curves of a run's models, pooled over its corruptions."""
    known = analysis.known_confidences
    curves = analysis.by_network(robustness.precision_recall(analysis.pooled_boxes, confidences=known))
    if curves.empty:
        raise DataError(f"{analysis.run.path} has no box in any complete cell")
    caption = (
        f"Precision against recall, and F1 against confidence, over all classes at an IoU of 0.5{_pooled(analysis)}"
        f"{_lines(curves)}. Points: each model's operating confidence, the one with the highest F1 on clean images."
    )
    best = curves[curves["severity"] == curves["severity"].max()].groupby("model", sort=False)["f1"].max()
    alt = "Line charts of precision, recall and F1; highest F1 at the strongest severity: " + "; ".join(
        f"{model} {value:.0f} %" for model, value in best.items()
    )
    return FigureResult(draw_precision_recall(curves, known), caption, alt + ".", curves)


@figure("reliability", "confidence against precision by severity", section="operating-point", place=2)
def reliability(analysis: RunAnalysis) -> FigureResult:
    """Reliability diagrams of a run's models, pooled over its corruptions."""
    bins = analysis.by_network(robustness.reliability(analysis.pooled_boxes, analysis.known_confidences))
    if bins.empty:
        raise DataError(
            f"{analysis.run.path} has no operating confidence, without clean detections that find an object"
        )
    caption = (
        f"Precision against mean confidence in ten bins, of the boxes of at least the operating confidence"
        f"{_pooled(analysis)}{_lines(bins)}; larger points hold more boxes. Above the diagonal a model is "
        "underconfident, below it overconfident."
    )
    gaps = (bins["confidence"] - bins["precision"]).abs() * bins["boxes"]
    errors = gaps.groupby(bins["model"], sort=False).sum() / bins.groupby("model", sort=False)["boxes"].sum()
    alt = "Reliability diagrams; mean distance from the diagonal: " + "; ".join(
        f"{model} {value:.1f} points" for model, value in errors.items()
    )
    return FigureResult(draw_reliability(bins), caption, alt + ".", bins)


def _lines(frame: pd.DataFrame) -> str:
    return ", a line for each training" if frame["training"].nunique() > frame["model"].nunique() else ""


def _pooled(analysis: RunAnalysis) -> str:
    count = len({cell.corruption for cell in analysis.run.cells if cell.severity > 0})
    return f", the boxes of {count} corruptions together" if count > 1 else ""
