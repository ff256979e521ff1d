"""Error types: the AP50 that each costs, stacked, by severity."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from robustbench_sgdm.errors import DataError
from robustbench_sgdm.figures import fonts
from robustbench_sgdm.figures.drawn import Drawn
from robustbench_sgdm.figures.material import Material
from robustbench_sgdm.figures.style import PAGE, legend_above, styled

KINDS = ("missed", "background", "classification", "localisation", "both", "duplicate")
"""TIDE's six, in the order in which they are stacked."""

_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")


def error_bars(errors: pd.DataFrame) -> Figure:
    """Draw a panel per model; a bar for each severity, averaged over its corruptions.

    Args:
        errors: columns model, corruption, severity and the six kinds (points of AP50); clean at severity 0.
    """
    models = list(dict.fromkeys(errors["model"]))
    names = fonts.fit(models, max(PAGE / len(models) - 0.3, 0.9), 8.5)
    color = dict(zip(KINDS, sns.color_palette("colorblind", len(KINDS)), strict=True))
    with styled():
        figure = Figure(figsize=(PAGE, 2.9), layout="constrained")
        axes = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
        for axis, model in zip(axes, models, strict=True):
            table = errors[errors["model"] == model].groupby("severity")[list(KINDS)].mean()
            floor, places, handles = np.zeros(len(table)), np.arange(len(table)), {}
            for kind, hatch in zip(KINDS, _HATCHES, strict=True):
                height = table[kind].to_numpy(float)
                handles[kind] = axis.bar(
                    places,
                    height,
                    0.75,
                    bottom=floor,
                    color=color[kind],
                    hatch=hatch,
                    edgecolor="white",
                    linewidth=0,
                )
                floor = floor + np.nan_to_num(height)
            axis.set_xticks(places, ["clean" if s == 0 else f"{s:g}" for s in table.index])
            axis.set(title=names[model], xlabel="severity")
            axis.grid(axis="x", visible=False)
        axes[0].set_ylabel("AP50 lost to it (points)")
        legend_above(figure, handles)
    return figure


def errors_of(material: Material) -> Drawn:
    """A run's error types."""
    frame = material.errors
    if frame.empty:
        raise DataError(f"{material.run.path} has no complete cell; run again to finish it")
    caption = (
        "Error types after TIDE: the points of AP50 that mending each type alone would gain, averaged over corruptions "
        "at each severity. Types overlap, so a stack is not the whole loss."
    )
    kinds = [c for c in frame.columns if f"{c}_count" in frame]
    noisy = frame[frame["severity"] == frame["severity"].max()]
    alt = "Stacked bars of error types by severity. At the highest severity, " + "; ".join(
        f"{model} loses most to {rows[kinds].mean().idxmax()} ({rows[kinds].mean().max():.1f} points)"
        for model, rows in noisy.groupby("model", sort=False)
    )
    return Drawn(error_bars(frame), caption, alt + ".", frame)
