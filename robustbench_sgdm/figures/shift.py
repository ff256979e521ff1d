"""AP on shifted against clean images, a panel per shift, with the line over the models."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.run_analysis import RunAnalysis
from robustbench_sgdm.figures.style import legend_above, make_panels, model_looks, plot_style
from robustbench_sgdm.tables import format_number


def draw_shift(points: pd.DataFrame) -> Figure:
    """Draw shifted against clean AP with both intervals; a line where there are three models or more.

    Args:
        points: columns shift, model, clean, clean_low, clean_high, shifted, shifted_low, shifted_high (percent).
    """
    shifts, models = (list(dict.fromkeys(points[column])) for column in ("shift", "model"))
    looks, handles = model_looks(models), {}
    with plot_style():
        figure, axes = make_panels(
            shifts,
            "AP on clean images (%)",
            "AP on shifted images (%)",
            columns=min(3, len(shifts)),
            shared=False,
        )
        for axis, shift in zip(axes, shifts, strict=True):
            own = points[points["shift"] == shift].dropna(subset=["clean", "shifted"])
            for row in own.to_dict("records"):
                look = looks[row["model"]]
                thin = {"color": look["color"], "linewidth": 1.0}
                axis.plot([row["clean_low"], row["clean_high"]], [row["shifted"]] * 2, **thin)
                axis.plot([row["clean"]] * 2, [row["shifted_low"], row["shifted_high"]], **thin)
                (handles[row["model"]],) = axis.plot([row["clean"]], [row["shifted"]], linestyle="", **look)
            if len(own) > 2 and own["clean"].nunique() > 1:
                slope, start = np.polyfit(own["clean"], own["shifted"], 1)
                ends = np.array([own["clean_low"].min(), own["clean_high"].max()])
                axis.plot(ends, slope * ends + start, color="#8c959f", linewidth=0.8, zorder=1)
        legend_above(figure, handles)
    return figure


@figure("shift", "AP on other data against clean images", section="shift")
def shift(analysis: RunAnalysis) -> FigureResult:
    """The natural shifts of a run."""
    frame = analysis.shifts
    own = frame[(frame["baseline"] == "") & frame["statistic"].isin(("clean", "shifted"))]
    wide = own.pivot(index=["shift", "model"], columns="statistic", values=["estimate", "low", "high"])
    points = pd.DataFrame(
        {
            f"{statistic}{suffix}": wide[(column, statistic)]
            for statistic in ("clean", "shifted")
            for suffix, column in (("", "estimate"), ("_low", "low"), ("_high", "high"))
        }
    ).reindex(pd.MultiIndex.from_frame(own[["shift", "model"]].drop_duplicates()))
    points = points.reset_index()
    caption = (
        "AP on other data against AP on clean images, over the classes that both have, with 95 % intervals. The images "
        "are different, so nothing here is paired."
        + " Grey: the line over all models. A model above it keeps more AP than its clean AP predicts."
        * (points["model"].nunique() > 2)
    )
    alt = "Scatter plots of shifted against clean AP: " + "; ".join(
        f"{row['model']} on {row['shift']} {format_number(row['shifted'])} from {format_number(row['clean'])}"
        for row in points.to_dict("records")
    )
    return FigureResult(draw_shift(points), caption, alt + ".", points)
