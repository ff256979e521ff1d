"""Bars with intervals: means under corruption by family, and by the size of objects."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustbench_sgdm import robustness
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.figures import fonts
from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.run_analysis import RunAnalysis
from robustbench_sgdm.figures.style import COLUMN, PAGE, colors_of, legend_above, plot_style
from robustbench_sgdm.tables import format_interval, humanize

_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\")
SIZES = {"AP_S": "small", "AP_M": "medium", "AP_L": "large"}


def draw_mean_bars(intervals: pd.DataFrame, names: Mapping[str, str], metric: str = "AP") -> Figure:
    """Draw mPC and rPC: a group of bars for each set of corruptions, a bar for each model; absent values are left out.

    Args:
        intervals: rows as of `Intervals.table()`.
        names: the sets to show, `over` -> the label.
        metric: of those rows.
    """
    own = intervals[(intervals["baseline"] == "") & (intervals["metric"] == metric)]
    with plot_style():
        figure = Figure(figsize=(PAGE, 2.7), layout="constrained")
        shown = [s for s in ("mPC", "rPC") if own.loc[own["statistic"] == s, "estimate"].notna().any()]
        axes = figure.subplots(1, len(shown), squeeze=False)[0]
        clean = own[own["statistic"] == "P"].dropna(subset="estimate").assign(group="clean")
        for axis, statistic in zip(axes, shown, strict=True):
            rows = own[own["statistic"] == statistic].assign(group=lambda f: f["over"].map(names))
            groups = list(names.values())
            if statistic == "mPC" and len(clean):
                rows, groups = pd.concat([clean, rows]), ["clean", *groups]
            handles = _bars(axis, rows, groups)
            unit = f"{metric} (%)" if statistic == "mPC" else "share of the clean score (%)"
            axis.set(ylabel=f"{statistic}: {unit}")
        legend_above(figure, handles)
    return figure


def draw_size_bars(intervals: pd.DataFrame, over: str, title: str) -> Figure:
    """Draw AP of small, medium and large objects, clean and as the mean over a set of corruptions, where there is one.

    Args:
        intervals: rows as of `Intervals.table()`.
        over: the set, by its name there.
        title: of its panel.
    """
    own = intervals[(intervals["baseline"] == "") & intervals["metric"].isin(SIZES)]
    own = own.assign(group=own["metric"].map(SIZES))
    with plot_style():
        figure = Figure(figsize=(PAGE, 2.6), layout="constrained")
        means = own[(own["statistic"] == "mPC") & (own["over"] == over)]
        parts = {"clean": own[own["statistic"] == "P"], fonts.shorten(title, PAGE / 2 - 0.3, 8.5): means}
        parts = {name: rows for name, rows in parts.items() if rows["estimate"].notna().any()}
        axes = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
        for axis, (name, rows) in zip(axes, parts.items(), strict=True):
            handles = _bars(axis, rows, list(SIZES.values()))
            axis.set(title=name)
        axes[0].set(ylabel="AP (%)")
        legend_above(figure, handles)
    return figure


def _bars(axis: Axes, rows: pd.DataFrame, groups: Sequence[str]) -> dict[str, Any]:
    """Draw the bars; gives those of each model."""
    models = list(dict.fromkeys(rows["model"]))
    color, width, handles = colors_of(models), 0.8 / max(len(models), 1), {}
    for index, model in enumerate(models):
        part = rows[rows["model"] == model].drop_duplicates("group").set_index("group").reindex(groups)
        places = np.arange(len(groups)) + (index - (len(models) - 1) / 2) * width
        handles[model] = axis.bar(
            places,
            part["estimate"].to_numpy(float),
            width * 0.92,
            color=color[model],
            hatch=_HATCHES[index % len(_HATCHES)],
            edgecolor="white",
            linewidth=0,
        )
        low, high = part["low"].to_numpy(float), part["high"].to_numpy(float)
        # Drawn around its middle: with few images the whole interval may be above the estimate.
        axis.errorbar(
            places,
            (low + high) / 2,
            yerr=(high - low) / 2,
            fmt="none",
            elinewidth=0.9,
            capsize=2,
            ecolor="#1b1f24",
        )
    axis.set_xticks(range(len(groups)), [fonts.shorten(humanize(g), 2).replace(" ", "\n") for g in groups])
    if len(groups) > 7:
        axis.tick_params(axis="x", labelrotation=60)
    axis.grid(axis="x", visible=False)
    axis.set_ylim(bottom=0)
    return handles


def draw_class_drops(classes: pd.DataFrame, most: int = 24) -> Figure:
    """Draw each class's AP lost under corruption with its interval, a point for each model, the greatest loss on top.

    Classes with few objects stand apart, below the others, and are pale.

    Args:
        classes: columns model, class, objects, few, drop, low, high (points of AP, clean minus corrupted mean).
        most: classes to show.
    """
    models = list(dict.fromkeys(classes["model"]))
    about = classes.groupby("class", sort=False).agg(
        lost=("drop", "max"), few=("few", "first"), objects=("objects", "first")
    )
    about = about.sort_values(["few", "lost"], ascending=[True, False]).head(most)[::-1]
    color, handles = colors_of(models), {}
    few = int(about["few"].sum())
    places = pd.Series(np.arange(len(about), dtype=float), about.index)
    places += np.where(about["few"], 0.0, 0.6 if few else 0.0)
    with plot_style():
        high = 0.8 + 0.08 * (2 + max(len(models), 2)) * len(about)
        figure = Figure(figsize=(COLUMN * 1.4, min(high, 8.5)), layout="constrained")
        axis = figure.subplots()
        for index, (model, marker) in enumerate(zip(models, "osD^vP*X" * len(models), strict=False)):
            own = classes[classes["model"] == model].set_index("class").reindex(about.index)
            y = places + 0.7 * ((len(models) - 1) / 2 - index) / max(len(models), 2)
            shades = [(*color[model], 0.45 if pale else 1.0) for pale in about["few"]]
            axis.hlines(y, own["low"], own["high"], colors=shades, linewidth=1.2)
            (handles[model],) = axis.plot([], [], marker, color=color[model], markersize=4.5)
            axis.scatter(own["drop"], y, s=18, marker=marker, color=shades, zorder=3)
        names = fonts.fit_names(about.index, 2.0, 7.5)
        labels = [f"{names[str(name)]} ({count:,})" for name, count in about["objects"].items()]
        axis.set_yticks(places, labels)
        axis.set(xlabel="AP lost under corruption (points)", ylim=(-0.7, places.max() + 0.7))
        if few and few < len(about):
            axis.axhline(few - 0.2, color="#8c959f", linewidth=0.8, linestyle=":")
        if axis.get_xlim()[0] < 0:
            axis.axvline(0, color="#57606a", linewidth=0.8)
        legend_above(figure, handles)
    return figure


@figure("means", "mPC and rPC by family with intervals", section="results", place=3)
def means(analysis: RunAnalysis) -> FigureResult:
    """The means of a run."""
    metric, names = analysis.resampled_metric, analysis.set_names
    rows = analysis.intervals[
        (analysis.intervals["metric"] == metric) & analysis.intervals["statistic"].isin(["P", "mPC", "rPC"])
    ]
    rows = rows[(rows["baseline"] == "") & (rows["over"].isin(names) | (rows["statistic"] == "P"))]
    primary = rows[(rows["over"] == analysis.primary_set.name) & (rows["statistic"] == "mPC")].dropna(
        subset="estimate"
    )
    if primary.empty:
        raise DataError(f"{analysis.run.path} lacks cells that the means need; run the same command again")
    at = (
        f" ({analysis.primary_set.severity_text.removeprefix('at ')})"
        if analysis.primary_set.severity_text
        else ""
    )
    mean = f"mPC, the mean {metric} over corruptions and severities{at}"
    if rows.loc[rows["statistic"] == "rPC", "estimate"].notna().any():
        mean = f"Left: {mean}, beside the clean score; right: rPC, mPC as a share of the clean score"
    caption = f"Means under corruption by family{_with_intervals(primary, analysis.sampling_units)}. {mean}."
    alt = "Bar chart of means under corruption: " + "; ".join(
        f"{row['model']} {format_interval(row['estimate'], row['low'], row['high'])}"
        for row in primary.to_dict("records")
    )
    columns = ["model", "statistic", "over", "family", "metric", "estimate", "low", "high"]
    return FigureResult(draw_mean_bars(analysis.intervals, names, metric), caption, alt + ".", rows[columns])


@figure("sizes", "AP of small, medium and large objects, clean and corrupted", section="sizes")
def sizes(analysis: RunAnalysis) -> FigureResult:
    """AP by size in a run."""
    over = analysis.primary_set.name
    frame = analysis.intervals
    rows = frame[(frame["baseline"] == "") & frame["metric"].isin(SIZES)]
    rows = rows[(rows["statistic"] == "P") | ((rows["statistic"] == "mPC") & (rows["over"] == over))]
    rows = rows.dropna(subset="estimate")
    if rows.empty:
        raise DataError(f"{analysis.run.path} lacks cells that the means need; run the same command again")
    parts = {"P": "clean", "mPC": f"as the mean under {analysis.title}"}
    which = " and ".join(text for name, text in parts.items() if name in set(rows["statistic"]))
    caption = (
        "AP by the size of objects (small: under 32 x 32 px, medium: to 96 x 96, large: above), "
        f"{which}{_with_intervals(rows, analysis.sampling_units)}."
    )
    alt = "Bar chart of AP by size under corruption: " + "; ".join(
        f"{row.model} {SIZES[str(row.metric)]} {row.estimate:.1f}"
        for row in rows[rows["statistic"] == "mPC"].itertuples()
    )
    columns = ["model", "statistic", "over", "metric", "estimate", "low", "high"]
    return FigureResult(
        draw_size_bars(frame, over, f"mean under {analysis.title}"), caption, alt + ".", rows[columns]
    )


def _with_intervals(rows: pd.DataFrame, sampled: str) -> str:
    """For a caption; scores without detections have no intervals."""
    return f", with 95 % intervals over {sampled}" if rows["low"].notna().any() else ""


@figure("classes", "AP lost by class", section="classes")
def losses_by_class(analysis: RunAnalysis) -> FigureResult:
    """AP lost by class in a run."""
    frame, most = analysis.class_drops, 24
    count = frame["class"].nunique()
    which = f"the {most} of {count} classes that lose most" if count > most else f"all {count} classes"
    caption = (
        f"AP that each class loses, clean minus the mean under {analysis.title}: {which}"
        f"{_with_intervals(frame, analysis.sampling_units)}. In brackets: annotated objects. Pale, below the dotted "
        f"line: classes with fewer than {robustness.FEW_OBJECTS}."
    )
    top = frame.sort_values("drop", ascending=False).iloc[0]
    alt = f"Dot chart of AP lost by class; most by {top['class']} with {top['model']}, {top['drop']:.1f} points."
    return FigureResult(draw_class_drops(frame, most), caption, alt, frame)
