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
from robustbench_sgdm.figures.style import MARKERS, PAGE, colors_of, legend_above, plot_style
from robustbench_sgdm.tables import humanize

_MAX_MARKERS = len(MARKERS)  # corruptions that one pair of panels can distinguish
_LEGEND = 2.0  # inches of the corruptions' names
_ROW, _MAX_HEIGHT = 1.7, 7.8  # inches of a family's panels, and of a page


def draw_quality_curves(points: pd.DataFrame, metric: str = "AP") -> Figure:
    """Draw `metric` against PSNR and SSIM; a line per model and corruption, through its severities.

    Many corruptions get a pair of panels per family, with the lines of all others in grey behind.

    Args:
        points: columns model, corruption, family, severity, psnr (dB), ssim and the metric (percent).
        metric: a column of `points`.
    """
    models = list(dict.fromkeys(points["model"]))
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
            axis.set(xlabel=f"{label}; worse to the right")
        axes[0, 0].set_ylim(bottom=0)
        legend_above(figure, {model: Line2D([], [], **look) for model, look in _looks(models).items()})
    return figure


def _looks(models: Sequence[str]) -> dict[str, dict[str, Any]]:
    color = colors_of(models)
    return {m: {"color": color[m], "linestyle": "--" if i else "-"} for i, m in enumerate(models)}


def _line(axis: Axes, rows: pd.DataFrame, measure: str, metric: str, **look: Any) -> None:
    there = rows[np.isfinite(rows[measure])].sort_values("severity")
    axis.plot(there[measure], there[metric], **look)


@figure("psnr", "AP against the measured PSNR and SSIM of the corrupted images", section="image-quality")
def psnr(analysis: RunAnalysis) -> FigureResult:
    """AP against image quality in a run."""
    metric, frame = analysis.metric_name, analysis.image_quality
    count = frame["corruption"].nunique()
    caption = (
        f"{metric} against PSNR and SSIM of the corrupted images, relative to the clean ones, measured on this "
        "run's images; a line connects the severities of one corruption"
        + (", in grey where it belongs to another family" if count > _MAX_MARKERS else "")
        + ". Equal PSNR is not equal harm to a detector: the lines differ."
    )
    alt = f"Line charts of {metric} against PSNR and SSIM, a line per model and corruption, over {count} corruptions."
    columns = ["model", "corruption", "family", "severity", "psnr", "ssim", metric]
    return FigureResult(draw_quality_curves(frame, metric), caption, alt, frame[columns])
