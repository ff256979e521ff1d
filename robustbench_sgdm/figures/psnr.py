"""AP against what a corruption does to the images, so that all corruptions share one axis."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robustbench_sgdm.figures.drawn import Drawn
from robustbench_sgdm.figures.material import Material
from robustbench_sgdm.figures.style import MARKERS, PAGE, colors, styled, words


def damage_curves(points: pd.DataFrame, metric: str = "AP") -> Figure:
    """Draw `metric` against PSNR and SSIM; a line per model and corruption, through its severities.

    Args:
        points: columns model, corruption, family, severity, psnr (dB), ssim and the metric (percent).
        metric: a column of `points`.
    """
    models = list(dict.fromkeys(points["model"]))
    corruptions, families = (list(dict.fromkeys(points[c])) for c in ("corruption", "family"))
    few = len(corruptions) <= len(MARKERS)
    kinds, column = (corruptions, "corruption") if few else (families, "family")
    color, marker = colors(models), {k: MARKERS[i % len(MARKERS)] for i, k in enumerate(kinds)}
    with styled():
        figure = Figure(figsize=(PAGE, 3.2), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for (model, _), rows in points.groupby(["model", "corruption"], sort=False):
            rows = rows.sort_values("severity")
            dash = "-" if models.index(str(model)) == 0 else "--"
            for axis, measure in zip(axes, ("psnr", "ssim"), strict=True):
                there = rows[np.isfinite(rows[measure])]
                axis.plot(
                    there[measure],
                    there[metric],
                    dash,
                    color=color[str(model)],
                    marker=marker[rows[column].iloc[0]],
                    linewidth=1,
                    alpha=0.85,
                )
        for axis, label in zip(axes, ("PSNR (dB)", "SSIM"), strict=True):
            axis.invert_xaxis()
            axis.set(xlabel=f"{label}; worse to the right")
        axes[0].set_ylabel(f"{metric} (%)")
        axes[0].set_ylim(bottom=0)
        shown = [
            Line2D([], [], color=color[m], linestyle="-" if i == 0 else "--") for i, m in enumerate(models)
        ]
        shown += [Line2D([], [], color="#57606a", marker=marker[k], linestyle="") for k in kinds]
        figure.legend(shown, [*models, *map(words, kinds)], loc="outside right upper")
    return figure


def psnr(material: Material) -> Drawn:
    """A run's damage."""
    metric, frame = material.score, material.damage
    caption = (
        f"{metric} against the damage to the images, as PSNR and as SSIM against the clean ones, measured on this "
        "run's images; a line runs through the severities of one corruption. Equal PSNR is not equal harm: the spread "
        "is the point."
    )
    count = frame["corruption"].nunique()
    alt = f"Line charts of {metric} against PSNR and SSIM, a line per model and corruption, over {count} corruptions."
    columns = ["model", "corruption", "family", "severity", "psnr", "ssim", metric]
    return Drawn(damage_curves(frame, metric), caption, alt, frame[columns])
