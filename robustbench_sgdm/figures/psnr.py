"""AP against the PSNR and SSIM of the corrupted images, so that all corruptions share one axis."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robustbench_sgdm.figures import fonts
from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.run_analysis import RunAnalysis
from robustbench_sgdm.figures.style import (
    FEW,
    MARKERS,
    PAGE,
    colors_of,
    legend_above,
    make_panels,
    model_looks,
    plot_style,
)
from robustbench_sgdm.tables import humanize

_MAX_MARKERS = 8  # corruptions that one pair of panels can distinguish
_DIRECTION = "stronger corruption →"
_FEW_LINES = 4  # corruptions up to which every severity is written
_LEGEND = 2.0  # inches of the corruptions' names
_ROW, _MAX_HEIGHT = 1.7, 7.8  # inches of a family's panels, and of a page


def draw_quality_curves(points: pd.DataFrame, metric: str = "AP") -> Figure:
    """Draw `metric` against PSNR and SSIM; a line per model and corruption, through its severities.

    Severities stand at the points. Many corruptions get a pair of panels per family, with the lines of all others in
    grey behind; many models a panel per corruption, against PSNR alone.

    Args:
        points: columns model, corruption, family, severity, psnr (dB), ssim and the metric (percent).
        metric: a column of `points`.
    """
    models = list(dict.fromkeys(points["model"]))
    if len(models) > FEW:
        return _draw_by_corruption(points, models, metric)
    few = points["corruption"].nunique() <= _MAX_MARKERS
    groups = {"": points} if few else dict(iter(points.groupby("family", sort=False)))
    high = 3.2 if few else min(0.6 + _ROW * len(groups), _MAX_HEIGHT)
    with plot_style():
        figure = Figure(figsize=(PAGE, high), layout="constrained")
        axes = figure.subplots(len(groups), 2, sharex="col", sharey=True, squeeze=False)
        for row, (family, own) in zip(axes, groups.items(), strict=True):
            marker = dict(zip(dict.fromkeys(own["corruption"]), itertools.cycle(MARKERS), strict=False))
            for axis, measure in zip(row, ("psnr", "ssim"), strict=True):
                for _, line in points.drop(own.index).groupby(["model", "corruption"], sort=False):
                    _line(axis, line, measure, metric, color="#d0d7de", linewidth=0.7, zorder=1)
                for (model, name), line in own.groupby(["model", "corruption"], sort=False):
                    look = _looks(models)[str(model)] | {"marker": marker[str(name)], "linewidth": 1}
                    _line(axis, line, measure, metric, alpha=0.85, **look)
                for _, line in own.groupby("corruption", sort=False):
                    _write_severities(axis, line, measure, metric, ends=len(marker) > _FEW_LINES)
            row[0].set_ylabel(f"{metric} (%)")
            named = [Line2D([], [], color="#57606a", marker=m, linestyle="") for m in marker.values()]
            row[1].legend(
                named,
                list(fonts.fit_names(map(humanize, marker), _LEGEND).values()),
                title=fonts.shorten(str(family), _LEGEND),
                alignment="left",
                loc="center left",
                bbox_to_anchor=(1.02, 0.5),
            )
        for axis, label in zip(axes[-1], ("PSNR (dB)", "SSIM"), strict=True):
            axis.invert_xaxis()
            axis.set(xlabel=f"{label}, {_DIRECTION}")
        axes[0, 0].set_ylim(bottom=0)
        legend_above(figure, {model: Line2D([], [], **look) for model, look in _looks(models).items()})
    return figure


def _draw_by_corruption(points: pd.DataFrame, models: Sequence[str], metric: str) -> Figure:
    corruptions = list(dict.fromkeys(points["corruption"]))
    looks, lines = model_looks(models), {}
    with plot_style():
        figure, axes = make_panels(
            [humanize(c) for c in corruptions], f"PSNR (dB), {_DIRECTION}", f"{metric} (%)"
        )
        for axis, corruption in zip(axes, corruptions, strict=True):
            own = points[points["corruption"] == corruption]
            for model in models:
                lines[model] = _line(axis, own[own["model"] == model], "psnr", metric, **looks[model])
            _write_severities(axis, own, "psnr", metric)
        axes[0].invert_xaxis()
        axes[0].set_ylim(bottom=0)
        legend_above(figure, lines)
    return figure


def _write_severities(
    axis: Axes, rows: pd.DataFrame, measure: str, metric: str, *, ends: bool = False
) -> None:
    """Above the highest point of each severity, or of the first and the last.

    All models saw the same images, of one quality.
    """
    top = rows[np.isfinite(rows[measure])].groupby("severity").agg({measure: "first", metric: "max"}).dropna()
    for severity, x, y in (top.iloc[[0, -1]] if ends and len(top) > 1 else top).itertuples():
        axis.annotate(
            f"{severity:g}", (x, y), (0, 3), textcoords="offset points", ha="center", va="bottom", fontsize=7,
            color="#57606a",
        )  # fmt: skip


def _looks(models: Sequence[str]) -> dict[str, dict[str, Any]]:
    color = colors_of(models)
    return {m: {"color": color[m], "linestyle": "--" if i else "-"} for i, m in enumerate(models)}


def _line(axis: Axes, rows: pd.DataFrame, measure: str, metric: str, **look: Any) -> Line2D:
    there = rows[np.isfinite(rows[measure])].sort_values("severity")
    (line,) = axis.plot(there[measure], there[metric], **look)
    return line


@figure("psnr", "AP against the measured PSNR and SSIM of the corrupted images", section="image-quality")
def psnr(analysis: RunAnalysis) -> FigureResult:
    """AP against image quality in a run."""
    metric, frame = analysis.metric_name, analysis.image_quality
    count, few = frame["corruption"].nunique(), frame["model"].nunique() <= FEW
    measures = "PSNR and SSIM" if few else "PSNR"
    caption = (
        f"{metric} against {measures} of the corrupted images, relative to the clean ones, measured on this "
        "run's images; a line connects the severities of one corruption, which stand at its points"
        + (", in grey if it belongs to another family" if count > _MAX_MARKERS and few else "")
        + ". At equal PSNR, corruptions cost a detector more or less."
    )
    alt = f"Line charts of {metric} against {measures}, a line per model and corruption, over {count} corruptions."
    columns = ["model", "corruption", "family", "severity", "psnr", "ssim", metric]
    return FigureResult(draw_quality_curves(frame, metric), caption, alt, frame[columns])
