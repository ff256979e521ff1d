"""The share of objects that a model still finds at each severity, of those that it finds on clean images."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.run_analysis import RunAnalysis
from robustbench_sgdm.figures.style import (
    describe_bands,
    make_panels,
    model_looks,
    name_lines,
    plot_style,
    with_bands,
)
from robustbench_sgdm.tables import format_interval, humanize


def draw_survival(survival: pd.DataFrame, columns: int = 0) -> Figure:
    """Draw the share still found against severity, a panel per corruption, a line per model with its interval.

    Args:
        survival: columns model, corruption, severity, share, low, high (percent).
        columns: panels in a row; 0: three, or four where there are more than nine.
    """
    corruptions = list(dict.fromkeys(survival["corruption"]))
    models = list(dict.fromkeys(survival["model"]))
    looks, handles = model_looks(models), {}
    with plot_style():
        figure, axes = make_panels(
            [humanize(c) for c in corruptions], "severity", "still found (%)", columns=columns
        )
        for axis, corruption in zip(axes, corruptions, strict=True):
            for model in models:
                own = survival[(survival["corruption"] == corruption) & (survival["model"] == model)]
                levels = [0.0, *own["severity"]]
                (handles[model],) = axis.plot(levels, [100.0, *own["share"]], **looks[model])
                if model in with_bands(models):
                    low, high = ([100.0, *own[end]] for end in ("low", "high"))
                    axis.fill_between(levels, low, high, color=looks[model]["color"], alpha=0.18, linewidth=0)
            axis.set_ylim(0, 102)
            axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        name_lines(figure, axes, handles)
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
    models = list(dict.fromkeys(survival["model"]))
    caption = (
        "Share of the objects found on clean images that have not been lost yet at any severity up to this one, at each "
        f"model's operating confidence. {describe_bands(models)}: 95 % intervals over {analysis.sampling_units}."
    )
    table = found.table
    means = table[(table["unit"] == "object") & (table["rule"] == "first") & (table["baseline"] == "")]
    means = means[means["corruption"] == ("" if (means["corruption"] == "").any() else means["corruption"])]
    alt = "Survival curves of objects by severity; mean severity endured: " + "; ".join(
        f"{row['model']} {format_interval(row['estimate'], row['low'], row['high'])}"
        for row in means.to_dict("records")
    )
    return FigureResult(draw_survival(survival), caption, alt + ".", survival)
