"""The share of objects that a model still finds at each severity, of those that it finds on clean images."""

import pandas as pd
from matplotlib.figure import Figure

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.figures import fonts
from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.run_analysis import RunAnalysis
from robustbench_sgdm.figures.style import COLUMN, MARKERS, PAGE, colors_of, legend_above, plot_style
from robustbench_sgdm.tables import format_interval, humanize


def draw_survival(survival: pd.DataFrame, columns: int = 0) -> Figure:
    """Draw the share still found against severity, a panel per corruption, a line per model with its interval.

    Args:
        survival: columns model, corruption, severity, share, low, high (percent).
        columns: panels in a row; 0: three, or four where there are more than nine.
    """
    corruptions = list(dict.fromkeys(survival["corruption"]))
    models = list(dict.fromkeys(survival["model"]))
    across = min(columns or (4 if len(corruptions) > 9 else 3), len(corruptions))
    down = -(-len(corruptions) // across)
    color, handles = colors_of(models), {}
    with plot_style():
        size = (COLUMN * 1.25, 2.9) if across == 1 else (PAGE, 0.4 + (7.2 / across) * down * 0.9)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(down, across, squeeze=False, sharey=True, sharex=True).ravel()
        for index, (axis, corruption) in enumerate(zip(axes, corruptions, strict=False)):
            for number, model in enumerate(models):
                own = survival[(survival["corruption"] == corruption) & (survival["model"] == model)]
                levels = [0.0, *own["severity"]]
                (handles[model],) = axis.plot(
                    levels,
                    [100.0, *own["share"]],
                    color=color[model],
                    marker=MARKERS[number % len(MARKERS)],
                )
                low, high = ([100.0, *own[end]] for end in ("low", "high"))
                axis.fill_between(levels, low, high, color=color[model], alpha=0.18, linewidth=0)
            axis.set_title(fonts.shorten(humanize(corruption), size[0] / across - 0.3, 8.5))
            below = index + across >= len(corruptions)
            axis.tick_params(labelbottom=below)
            axis.set(xlabel="severity" if below else "", ylim=(0, 102))
            if index % across == 0:
                axis.set_ylabel("still found (%)")
        for axis in axes[len(corruptions) :]:
            axis.set_axis_off()
        legend_above(figure, handles)
    return figure


@figure("first-failure", "objects that are still found, by severity", section="first-failure")
def first_failure(analysis: RunAnalysis) -> FigureResult:
    """The survival of the objects of a run's models."""
    found = analysis.first_failures
    chosen = (found.survival["unit"] == "object") & (found.survival["rule"] == "first")
    survival = found.survival[chosen].drop(columns=["unit", "rule"])
    if survival.empty:
        own = found.table.loc[found.table["baseline"] == "", "missing"]
        reasons = dict.fromkeys(text for text in own if text)
        why = "; ".join(reasons) or "it has no corrupted cell"
        raise DataError(f"{analysis.run.path} has no object to follow through severities: {why}")
    caption = (
        "Share of the objects found on clean images that have not been lost yet at any severity up to this one, at each "
        f"model's operating confidence, with 95 % intervals over {analysis.sampling_units}."
    )
    table = found.table
    means = table[(table["unit"] == "object") & (table["rule"] == "first") & (table["baseline"] == "")]
    means = means[means["corruption"] == ("" if (means["corruption"] == "").any() else means["corruption"])]
    alt = "Survival curves of objects by severity; mean severity endured: " + "; ".join(
        f"{row['model']} {format_interval(row['estimate'], row['low'], row['high'])}"
        for row in means.to_dict("records")
    )
    return FigureResult(draw_survival(survival), caption, alt + ".", survival)
