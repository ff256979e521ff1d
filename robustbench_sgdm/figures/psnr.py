"""AP against what a corruption does to the images, so that all corruptions share one axis."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robustbench_sgdm.figures import fonts
from robustbench_sgdm.figures.drawn import Drawn
from robustbench_sgdm.figures.material import Material
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.style import MARKERS, PAGE, colors, legend_above, styled
from robustbench_sgdm.tables import words

_FEW = len(MARKERS)  # corruptions that one pair of panels tells apart
_BESIDE = 2.0  # inches of the corruptions' names
_ROW, _MOST = 1.7, 7.8  # inches of a family's panels, and of a page


def damage_curves(points: pd.DataFrame, metric: str = "AP") -> Figure:
    """Draw `metric` against PSNR and SSIM; a line per model and corruption, through its severities.

    Many corruptions have a pair of panels for each family, with the lines of all others in grey behind.

    Args:
        points: columns model, corruption, family, severity, psnr (dB), ssim and the metric (percent).
        metric: a column of `points`.
    """
    models = list(dict.fromkeys(points["model"]))
    few = points["corruption"].nunique() <= _FEW
    groups = {"": points} if few else dict(iter(points.groupby("family", sort=False)))
    high = 3.2 if few else min(0.6 + _ROW * len(groups), _MOST)
    with styled():
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
                list(fonts.fit(map(words, marker), _BESIDE).values()),
                title=fonts.short(str(family), _BESIDE),
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
    color = colors(models)
    return {m: {"color": color[m], "linestyle": "--" if i else "-"} for i, m in enumerate(models)}


def _line(axis: Axes, rows: pd.DataFrame, measure: str, metric: str, **look: Any) -> None:
    there = rows[np.isfinite(rows[measure])].sort_values("severity")
    axis.plot(there[measure], there[metric], **look)


@figure("psnr", "AP against the measured PSNR and SSIM of the corrupted images", section="damage")
def psnr(material: Material) -> Drawn:
    """A run's damage."""
    metric, frame = material.score, material.image_quality
    count = frame["corruption"].nunique()
    caption = (
        f"{metric} against the damage to the images, as PSNR and as SSIM against the clean ones, measured on this "
        "run's images; a line runs through the severities of one corruption"
        + (", in grey where it belongs to another family" if count > _FEW else "")
        + ". Equal PSNR is not equal harm: the spread is the point."
    )
    alt = f"Line charts of {metric} against PSNR and SSIM, a line per model and corruption, over {count} corruptions."
    columns = ["model", "corruption", "family", "severity", "psnr", "ssim", metric]
    return Drawn(damage_curves(frame, metric), caption, alt, frame[columns])
