"""Bars with intervals: means under corruption by family, and by the size of objects."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from robustbench_sgdm import robustness
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.figures import fonts
from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.run_analysis import RunAnalysis
from robustbench_sgdm.figures.style import (
    COLUMN,
    FEW,
    PAGE,
    balance,
    colors_of,
    legend_above,
    model_looks,
    plot_style,
)
from robustbench_sgdm.tables import format_interval, humanize

_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\")
_LEAST_GROUPS = 3  # of bars that a panel has room for: a single bar is no wall
_NAMES = 1.4  # inches of names beside panels
_PANELS, _MAX_COLUMNS = 5, 6  # of classes and of means beside each other
_MAX_HEIGHT = 9.0  # inches of a page
SIZES = {"AP_S": "small", "AP_M": "medium", "AP_L": "large"}


def draw_mean_bars(
    intervals: pd.DataFrame,
    names: Mapping[str, str],
    metric: str = "AP",
    ranks: Mapping[str, str] | None = None,
) -> Figure:
    """Draw mPC and rPC: a group of bars for each set of corruptions, a bar for each model; absent values are left out.

    Many models are points below each other instead, the best mean on top.

    Args:
        intervals: rows as of `Intervals.table()`.
        names: the sets to show, `over` -> the label.
        metric: of those rows.
        ranks: what is written beside each of many models.
    """
    own = intervals[(intervals["baseline"] == "") & (intervals["metric"] == metric)]
    shown = [s for s in ("mPC", "rPC") if own.loc[own["statistic"] == s, "estimate"].notna().any()]
    if own["model"].nunique() > FEW:
        return _draw_mean_points(own, names, shown, metric, ranks or {})
    with plot_style():
        figure = Figure(figsize=(PAGE, 2.7), layout="constrained")
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


def _draw_mean_points(
    own: pd.DataFrame, names: Mapping[str, str], shown: Sequence[str], metric: str, ranks: Mapping[str, str]
) -> Figure:
    rows: dict[str, dict[str, pd.DataFrame]] = {}
    for statistic in shown:
        of = own[own["statistic"] == statistic]
        panels = {text: of[of["over"] == over] for over, text in list(names.items())[:_MAX_COLUMNS]}
        clean = {"clean": own[own["statistic"] == "P"].dropna(subset="estimate")}
        label = f"mPC: {metric} (%)" if statistic == "mPC" else "rPC: share of the clean score (%)"
        rows[label] = {**panels, **clean} if statistic == "mPC" and len(clean["clean"]) else panels
    first = own[(own["statistic"] == shown[0]) & (own["over"] == next(iter(names)))]
    first = first.sort_values("estimate", ascending=False, kind="stable")
    return draw_points(rows, list(dict.fromkeys(own["model"])), list(first["model"]), ranks)


def draw_points(
    rows: Mapping[str, Mapping[str, pd.DataFrame]],
    models: Sequence[str],
    order: Sequence[str] | None = None,
    notes: Mapping[str, str] | None = None,
) -> Figure:
    """Draw estimates with intervals: a row of panels for each label of the horizontal axis, a line for each model.

    Args:
        rows: label -> title -> columns model, estimate, low, high.
        models: all of them, which decides their colours.
        order: of these from top to bottom; as given if None.
        notes: what is written behind the names.
    """
    titles = list(dict.fromkeys(title for panels in rows.values() for title in panels))
    looks, models = model_looks(models), order or models
    short = fonts.fit_names(models, _NAMES, 7.5)
    names = [f"{short[model]} {(notes or {}).get(model, '')}".rstrip() for model in models]
    room = (PAGE - max(fonts.width(name, 7.5) for name in names) - 0.3) / len(titles) - 0.1
    with plot_style():
        size = PAGE, 0.3 + (0.6 + 0.19 * len(models)) * len(rows)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(len(rows), len(titles), squeeze=False, sharey=True)
        for line, (label, panels) in zip(axes, rows.items(), strict=True):
            for axis, title in zip(line, titles, strict=True):
                if title not in panels:
                    axis.set_axis_off()
                    continue
                for place, model in enumerate(models):
                    own = panels[title][panels[title]["model"] == model]
                    axis.hlines([place] * len(own), own["low"], own["high"], color=looks[model]["color"])
                    axis.plot(own["estimate"], [place] * len(own), linestyle="", **looks[model])
                text = re.sub(r"^(\d+) corruptions$", r"all \1", title)
                axis.set_title(
                    "\n".join(fonts.shorten(word, room, 8) for word in text.split(" ")), fontsize=8
                )
                axis.xaxis.set_major_locator(MaxNLocator(nbins=3))
                axis.tick_params(axis="y", length=0)
            line[0].set_yticks(range(len(models)), names)
            line[(len(panels) - 1) // 2].set_xlabel(label)
        axes[0, 0].set_ylim(len(models) - 0.5, -0.5)
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
    means = own[(own["statistic"] == "mPC") & (own["over"] == over)]
    models = list(dict.fromkeys(own["model"]))
    room = PAGE * (2 / 3 if len(models) > FEW else 1 / 2) - 0.3
    parts = {"clean": own[own["statistic"] == "P"], fonts.shorten(title, room, 8.5): means}
    parts = {name: rows for name, rows in parts.items() if rows["estimate"].notna().any()}
    if len(models) > FEW:
        by_size = {
            f"{name}: AP (%)": {size: rows[rows["group"] == size] for size in SIZES.values()}
            for name, rows in parts.items()
        }
        return draw_points(by_size, models)
    with plot_style():
        figure = Figure(figsize=(PAGE, 2.6), layout="constrained")
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
            ecolor="#24292f",
        )
    axis.set_xticks(range(len(groups)), [fonts.shorten(humanize(g), 2).replace(" ", "\n") for g in groups])
    if len(groups) > 7:
        axis.tick_params(axis="x", labelrotation=60)
    if (spare := (_LEAST_GROUPS - len(groups)) / 2) > 0:
        axis.set_xlim(-0.5 - spare, len(groups) - 0.5 + spare)
    axis.grid(axis="x", visible=False)
    axis.set_ylim(bottom=0)
    return handles


def draw_class_drops(classes: pd.DataFrame, most: int = 24) -> Figure:
    """Draw each class's AP lost under corruption with its interval, a point for each model, the greatest loss on top.

    Classes with few objects stand apart, below the others, and are pale. Many models have a panel each, where a grey
    tick is the mean over the models.

    Args:
        classes: columns model, class, objects, few, drop, low, high (points of AP, clean minus corrupted mean).
        most: classes to show.
    """
    models = list(dict.fromkeys(classes["model"]))
    about = classes.groupby("class", sort=False).agg(
        lost=("drop", "max"), mean=("drop", "mean"), few=("few", "first"), objects=("objects", "first")
    )
    about = about.sort_values(["few", "lost"], ascending=[True, False]).head(most)[::-1]
    few, looks = int(about["few"].sum()), model_looks(models)
    places = pd.Series(np.arange(len(about), dtype=float), about.index)
    places += np.where(about["few"], 0.0, 0.6 if few else 0.0)
    apart = len(models) > FEW
    each = [(model,) for model in models] if apart else [models]
    down, across = balance(len(each), _PANELS)
    names = fonts.fit_names(about.index, _NAMES if apart else 2.0, 7.5)
    labels = [f"{names[str(name)]} ({count:,})" for name, count in about["objects"].items()]
    high = 0.8 + (0.17 if apart else 0.08 * (2 + max(len(models), 2))) * len(about)
    titles = fonts.fit_names(models, (PAGE - _NAMES) / across - 0.15, 8)
    with plot_style():
        size = (PAGE, min(0.3 + high * down, _MAX_HEIGHT)) if apart else (COLUMN * 1.4, min(high, 8.5))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
        for index, (axis, few_models) in enumerate(zip(axes, each, strict=False)):
            if apart:
                axis.set_title(titles[few_models[0]], fontsize=8)
                axis.plot(about["mean"], places, "|", color="#8c959f", markersize=6)
            handles = _class_points(axis, classes, about, places, few_models, looks)
            axis.tick_params(labelbottom=index + across >= len(each), axis="x")
            if few and few < len(about):
                axis.axhline(few - 0.2, color="#8c959f", linewidth=0.8, linestyle=":")
        for axis in axes[len(each) :]:
            axis.set_axis_off()
        axes[0].set_yticks(places, labels)
        axes[0].set_ylim(-0.7, places.max() + 0.7)
        if axes[0].get_xlim()[0] < 0:
            for axis in axes[: len(each)]:
                axis.axvline(0, color="#57606a", linewidth=0.8)
        axes[across * (down - 1) + (len(each) - across * (down - 1)) // 2].set_xlabel(
            "AP lost under corruption (points)"
        )
        if not apart:
            legend_above(figure, handles)
    return figure


def _class_points(
    axis: Axes,
    classes: pd.DataFrame,
    about: pd.DataFrame,
    places: pd.Series,
    models: Sequence[str],
    looks: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Draw the points of some models beside each other; gives a key of each."""
    handles = {}
    for index, model in enumerate(models):
        own = classes[classes["model"] == model].set_index("class").reindex(about.index)
        y = places + 0.7 * ((len(models) - 1) / 2 - index) / max(len(models), 2)
        color, marker = looks[model]["color"], looks[model]["marker"]
        shades = [(*color, 0.45 if pale else 1.0) for pale in about["few"]]
        axis.hlines(y, own["low"], own["high"], colors=shades, linewidth=1.2)
        (handles[model],) = axis.plot([], [], marker, color=color, markersize=4.5)
        axis.scatter(own["drop"], y, s=18, marker=marker, color=shades, zorder=3)
    return handles


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
        left, right = ("Left", "right") if rows["model"].nunique() <= FEW else ("Above", "below")
        mean = f"{left}: {mean}, beside the clean score; {right}: rPC, mPC as a share of the clean score"
    caption = f"Means under corruption by family{_with_intervals(primary, analysis.sampling_units)}. {mean}."
    ranks = _ranks(analysis) if rows["model"].nunique() > FEW else {}
    if ranks:
        caption += (
            " In brackets: the model's possible ranks by mPC, corrected by Holm over all pairs of models."
        )
    alt = "Bar chart of means under corruption: " + "; ".join(
        f"{row['model']} {format_interval(row['estimate'], row['low'], row['high'])}"
        for row in primary.to_dict("records")
    )
    columns = ["model", "statistic", "over", "family", "metric", "estimate", "low", "high"]
    return FigureResult(
        draw_mean_bars(analysis.intervals, names, metric, ranks), caption, alt + ".", rows[columns]
    )


def _ranks(analysis: RunAnalysis) -> dict[str, str]:
    """The interval of each model's rank, in words; none without intervals."""
    try:
        ranks = robustness.rank_networks(analysis.bootstrap, analysis.resampled_metric, analysis.primary_set)
    except DataError:
        return {}
    ends = zip(ranks["model"], ranks["first"], ranks["last"], strict=True)
    return {model: f"({first})" if first == last else f"({first}–{last})" for model, first, last in ends}


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
