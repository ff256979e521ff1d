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
from robustbench_sgdm.figures.style import PAGE, balance, legend_above, plot_style
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
_MAX_COLUMNS, _ROOMY = 5, 3  # models beside each other, and up to which "clean" has room


def draw_error_types(errors: pd.DataFrame) -> Figure:
    """Draw two panels per model: shares of the objects, and below them the false detections.

    Args:
        errors: columns model, corruption, severity, those of `KINDS` (percent) and false_per_image; clean at
            severity 0. A bar for each severity is the mean over its corruptions.
    """
    models = list(dict.fromkeys(errors["model"]))
    down, across = balance(len(models), _MAX_COLUMNS)
    names = fonts.fit_names(models, PAGE / across - 0.3, 8.5)
    with plot_style():
        figure = Figure(figsize=(PAGE, 0.4 + 3.2 * down), layout="constrained")
        grid = figure.subplots(
            2 * down, across, sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1) * down
        )
        panels = [
            (grid[2 * (i // across), i % across], grid[2 * (i // across) + 1, i % across])
            for i in range(down * across)
        ]
        for unused in panels[len(models) :]:
            for axis in unused:
                axis.set_axis_off()
        for (above, below), model in zip(panels, models, strict=False):
            table = errors[errors["model"] == model].groupby("severity")[[*KINDS, _FALSE]].mean()
            places, floor, handles = np.arange(len(table)), np.zeros(len(table)), {}
            for column, (name, color, hatch) in KINDS.items():
                height = np.nan_to_num(table[column].to_numpy(float))
                handles[name] = _bars(above, places, height, color, hatch, bottom=floor)
                floor = floor + height
            handles["false detection"] = _bars(
                below, places, table[_FALSE].to_numpy(float), OUTCOME_COLORS["false"], ""
            )
            clean = "clean" if across <= _ROOMY else "0"
            below.set_xticks(places, [clean if s == 0 else f"{s:g}" for s in table.index])
            below.tick_params(labelbottom=True)
            above.set(title=names[model], ylim=(0, 100))
            below.set(xlabel="severity" if across <= _ROOMY else "severity (0 = clean)")
            for axis in (above, below):
                axis.grid(axis="x", visible=False)
        for above, below in panels[::across]:
            above.set_ylabel("objects (%)")
            below.set_ylabel("false\nper image")
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
        "corruptions at each severity. Found: a box of its class has IoU 0.5 or more. Wrong class: not "
        "found, and a false box of another class has IoU 0.5 or more. Badly located: not found, and a false box of its "
        "class has IoU 0.1 or more. Missed: neither. Below: boxes per image that find no object."
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
