"""Heat map of the differences between a model and its baseline, corruption by severity."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from robustbench_sgdm.core import palette
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.figures import fonts
from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.run_analysis import RunAnalysis
from robustbench_sgdm.figures.style import PAGE, balance, plot_style
from robustbench_sgdm.tables import format_number, humanize, starred

_MAX_HEIGHT = 8.0  # inches of a page
_MIN_ROWS = 4  # from which a colour bar beside them has room for its numbers; else it goes below
_BAR_HEIGHT = 0.5  # inches of a colour bar below
_BAR = 0.8  # inches of one beside
_CELL = 0.4  # inches that a number needs
_SCALE = LinearSegmentedColormap.from_list("differences", palette.difference_colors())


def draw_difference_map(
    intervals: pd.DataFrame, metric: str = "AP", same: Mapping[tuple[str, str], str] | None = None
) -> Figure:
    """Draw model - baseline in points; bold with a star where the difference is significant.

    Args:
        intervals: rows as of `Intervals.table()`.
        metric: of those rows.
        same: the pairs with the same outputs, and why; their panels say so.
    """
    rows = differences(intervals, metric)
    pairs = list(dict.fromkeys(zip(rows["baseline"], rows["model"], strict=True)))
    corruptions = list(dict.fromkeys(rows["corruption"]))
    severities = sorted(rows["severity"].unique())
    layout = _layout(len(pairs), len(severities), len(corruptions))
    titles = fonts.fit_names(map(humanize, corruptions), COLUMN_OF_NAMES, 7.5).values()
    names = fonts.fit_names(dict.fromkeys(rows["model"]) | dict.fromkeys(rows["baseline"]), layout.title, 8.5)
    limit = float(np.nanmax(np.abs(rows["estimate"]))) or 1.0
    baselines = list(dict.fromkeys(baseline for baseline, _ in pairs))
    label = f"Δ {metric} (points)"
    if not layout.numbers and len(baselines) == 1:
        label += f", minus {names[baselines[0]]}"
    with plot_style():
        figure = Figure(figsize=layout.size, layout="constrained")
        axes = figure.subplots(layout.down, layout.across, squeeze=False, sharey=True, sharex=True).ravel()
        for axis, (baseline, model) in zip(axes, pairs, strict=False):
            part = rows[(rows["baseline"] == baseline) & (rows["model"] == model)]
            values, sure = (
                part.pivot(index="corruption", columns="severity", values=column)
                .reindex(index=corruptions, columns=severities)
                .to_numpy(float)
                for column in ("estimate", "significant")
            )
            image = _heat(axis, values, sure == 1, limit, layout.numbers)
            axis.set_xticks(range(len(severities)), [f"{s:g}" for s in severities])
            axis.set_yticks(range(len(corruptions)), list(titles))
            title = f"{names[model]}\nminus {names[baseline]}" if layout.numbers else names[model]
            if not layout.numbers and len(baselines) > 1:
                title += f" − {names[baseline]}"
            if why := (same or {}).get((baseline, model)):
                title += f"\nidentical: {why}"
            axis.set(xlabel="severity")
            axis.tick_params(labelbottom=True)
            turned: dict[str, Any] = (
                {} if layout.numbers else {"rotation": 60, "ha": "left", "rotation_mode": "anchor", "x": 0.3}
            )
            axis.set_title(title, **turned)
        for axis in axes[len(pairs) :]:
            axis.set_axis_off()
        shape = {"shrink": 0.9} if layout.beside else {"location": "bottom", "aspect": 40}
        figure.colorbar(image, ax=list(axes), label=label, pad=0.02, **shape)
    return figure


class _Layout(NamedTuple):
    """Inches of the figure and of a title; panels in a row, and rows; the colour bar's place; whether numbers fit."""

    size: tuple[float, float]
    title: float
    across: int
    down: int
    beside: bool
    numbers: bool


def _layout(pairs: int, severities: int, corruptions: int) -> _Layout:
    """Panels in as many rows as a page holds; if that is too few for numbers, one row of small cells without them."""
    down, across = balance(pairs, max(1, int((PAGE - COLUMN_OF_NAMES - _BAR) / (_CELL * severities))))
    beside = down * corruptions >= _MIN_ROWS
    high = (0.75 + 0.27 * corruptions) * down + 0.25 + (0 if beside else _BAR_HEIGHT)
    if down > 1 and high > _MAX_HEIGHT + 0.5:
        high = min(1.6 + 0.2 * corruptions, _MAX_HEIGHT)
        return _Layout((PAGE, high), 1.3, pairs, 1, True, False)
    wide = min(max(COLUMN_OF_NAMES + 0.62 * severities * across, 3.4), PAGE)
    return _Layout(
        (wide, min(high, _MAX_HEIGHT + 0.5)),
        max((wide - COLUMN_OF_NAMES) / across, 1.2),
        across,
        down,
        beside,
        True,
    )


COLUMN_OF_NAMES = 2.4


def differences(intervals: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of `intervals` that compare corrupted cells of two models."""
    return intervals[
        (intervals["statistic"] == "score")
        & (intervals["baseline"] != "")
        & (intervals["metric"] == metric)
        & (intervals["corruption"] != CLEAN)
    ]


def _heat(
    axis: Axes, values: NDArray[np.float64], sure: NDArray[np.bool_], limit: float, numbers: bool
) -> AxesImage:
    image = axis.imshow(values, cmap=_SCALE, vmin=-limit, vmax=limit, aspect="auto")
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        bold = bool(sure[row, column])
        axis.text(
            column,
            row,
            starred(format_number(value, signed=True) if numbers else "", bold),
            ha="center",
            va="center",
            fontsize=7,
            fontweight="bold" if bold else "normal",
            color=palette.readable_text_color(to_hex(image.to_rgba(np.array([value]))[0])),
        )
    return image


@figure(
    "differences",
    "differences by corruption and severity as a heat map, significance marked",
    section="results",
    place=2,
)
def differences_of(analysis: RunAnalysis) -> FigureResult:
    """The differences of a run."""
    metric = analysis.resampled_metric
    rows = differences(analysis.intervals, metric).dropna(subset="estimate")
    if rows.empty:
        raise DataError(f"{analysis.run.path} has no corrupted cells of both a model and its baseline")
    up, down = (int((rows["significant"] & (sign * rows["estimate"] > 0)).sum()) for sign in (1, -1))
    caption = (
        f"Difference in {metric}, model minus baseline, in points, on the same corrupted pixels: "
        "blue where the model is better, orange where the baseline is. Bold with a star: "
        "significant, p below 0.05 after Holm's correction over the cells of a panel; plain: not significant. "
        "If there is no room for numbers, only the star is shown."
    )
    alt = (
        f"Heat map of differences in {metric} by corruption and severity: of {len(rows)} cells, the model is "
        f"significantly higher in {up} and lower in {down}."
    )
    columns = [
        "model",
        "baseline",
        "corruption",
        "severity",
        "estimate",
        "low",
        "high",
        "p",
        "p_holm",
        "significant",
    ]
    return FigureResult(
        draw_difference_map(analysis.intervals, metric, analysis.identical), caption, alt, rows[columns]
    )
