"""The outcomes of the objects by severity, found or how missed; and the boxes that found none."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.palette import MODEL_COLORS, OUTCOME_COLORS
from robustbench_sgdm.figures import fonts
from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.run_analysis import RunAnalysis
from robustbench_sgdm.figures.style import PAGE, legend_above, plot_style
from robustbench_sgdm.robustness import CONFIDENCE

KINDS = {
    "found_percent": ("found", OUTCOME_COLORS["matched"], ""),
    "badly_located_percent": ("badly located", MODEL_COLORS[2], "////"),
    "wrong_class_percent": ("wrong class", MODEL_COLORS[3], "...."),
    "missed_percent": ("missed", OUTCOME_COLORS["missed"], "\\\\\\\\"),
}
"""Columns in the order in which they are stacked: label, colour and hatch."""

Values = NDArray[np.float64] | NDArray[np.int64]
_FALSE = "false_per_image"


def draw_error_types(errors: pd.DataFrame) -> Figure:
    """Draw two panels per model: shares of the objects, and below them the false detections.

    Args:
        errors: columns model, corruption, severity, those of `KINDS` (percent) and false_per_image; clean at
            severity 0. A bar for each severity is the mean over its corruptions.
    """
    models = list(dict.fromkeys(errors["model"]))
    names = fonts.fit_names(models, max(PAGE / len(models) - 0.3, 0.9), 8.5)
    with plot_style():
        figure = Figure(figsize=(PAGE, 3.6), layout="constrained")
        panels = figure.subplots(
            2, len(models), sharex="col", sharey="row", squeeze=False, height_ratios=(3, 1)
        )
        for (above, below), model in zip(panels.T, models, strict=True):
            table = errors[errors["model"] == model].groupby("severity")[[*KINDS, _FALSE]].mean()
            places, floor, handles = np.arange(len(table)), np.zeros(len(table)), {}
            for column, (name, color, hatch) in KINDS.items():
                height = np.nan_to_num(table[column].to_numpy(float))
                handles[name] = _bars(above, places, height, color, hatch, bottom=floor)
                floor = floor + height
            handles["false detection"] = _bars(
                below, places, table[_FALSE].to_numpy(float), OUTCOME_COLORS["false"], ""
            )
            below.set_xticks(places, ["clean" if s == 0 else f"{s:g}" for s in table.index])
            above.set(title=names[model], ylim=(0, 100))
            below.set(xlabel="severity")
            for axis in (above, below):
                axis.grid(axis="x", visible=False)
        panels[0, 0].set_ylabel("objects (%)")
        panels[1, 0].set_ylabel("false\nper image")
        legend_above(figure, handles)
    return figure


def _bars(
    axis: Axes, places: Values, height: Values, color: str, hatch: str, bottom: Values | float = 0.0
) -> Any:
    look: dict[str, Any] = {"color": color, "hatch": hatch, "edgecolor": "white", "linewidth": 0}
    return axis.bar(places, height, 0.75, bottom=bottom, **look)


@figure("errors", "error types by severity as stacked bars", section="errors")
def errors_of(analysis: RunAnalysis) -> FigureResult:
    """The outcomes of a run's objects."""
    frame = analysis.error_types
    if frame.empty:
        raise DataError(f"{analysis.run.path} has no complete cell; run the same command again")
    caption = (
        f"Outcomes of the objects in percent, from boxes of at least {CONFIDENCE:g} confidence, averaged over the "
        "corruptions at each severity. Found: a box of its class overlaps it by half (IoU 0.5). Wrong class: not "
        "found, and a false box of another class overlaps it by half. Badly located: not found, and a false box of its "
        "class overlaps it by a tenth. Missed: neither. Below: boxes per image that found no object."
    )
    noisy = frame[frame["severity"] == frame["severity"].max()]
    alt = "Stacked bars of the outcomes of the objects by severity. At the highest severity, " + "; ".join(
        f"{model} finds {_mean(rows, 'found_percent')} % and misses {_mean(rows, 'missed_percent')} %, with "
        f"{_mean(rows, _FALSE)} false detections an image"
        for model, rows in noisy.groupby("model", sort=False)
    )
    return FigureResult(draw_error_types(frame), caption, alt + ".", frame)


def _mean(rows: pd.DataFrame, column: str) -> str:
    return f"{rows[column].mean():.1f}"
