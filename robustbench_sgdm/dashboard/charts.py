"""Interactive charts: functions from frames to Vega-Lite specifications, by Altair."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal, ParamSpec

import altair as alt
import pandas as pd
import streamlit as st
from altair.utils import schemapi

from robustbench_sgdm.core import escaping, palette
from robustbench_sgdm.tables import format_number, humanize, starred

PLOT_HEIGHT = 230

Parameters = ParamSpec("Parameters")
Chart = alt.LayerChart | alt.FacetChart
Spec = dict[str, Any]
"""Of a chart, in Vega-Lite's JSON."""

_MODEL_TOOLTIP = [alt.Tooltip("model:N", title="model")]
"""For lines and bands: each is one mark, whose tooltip would show the values of its first point everywhere."""

alt.data_transformers.disable_max_rows()
schemapi.DEBUG_MODE = False  # validating a chart takes longer than drawing it; a test does that


def _specified(draw: Callable[Parameters, Chart]) -> Callable[Parameters, Spec]:
    """Give a function's charts as specifications, and keep them: Altair needs some 20 ms for each."""

    @st.cache_data(max_entries=64, show_spinner=False)
    @wraps(draw)
    def specify(*values: Parameters.args, **options: Parameters.kwargs) -> Spec:
        spec: Spec = escaping.chart_spec(draw(*values, **options).to_dict(validate=False))
        return spec

    return specify


def show(spec: Spec, **options: Any) -> Any:
    """Show a chart; `options` are those of `st.vega_lite_chart`. Names in it are never read as Vega expressions."""
    return st.vega_lite_chart(spec, **escaping.chart_spec(options))


@dataclass(frozen=True)
class CurveScale:
    """The axes of curves, the same for all panels of a page, so that they compare.

    Attributes:
        x: `severity` or `psnr`.
        top: of the scores.
        psnr: least and greatest, dB; None for 0 to 50.
        severity: the greatest.
    """

    x: str
    top: float
    psnr: tuple[float, float] | None = None
    severity: float = 5.0


def greatest_severity(frame: pd.DataFrame) -> float:
    """Where the axis of a frame's severities ends; 1 if all of them are those of clean images."""
    return float(frame["severity"].max()) or 1.0


@_specified
def severity_curves(
    frame: pd.DataFrame,
    colors: Mapping[str, str],
    *,
    scale: CurveScale,
    metric: str,
    bands: bool,
    height: int = PLOT_HEIGHT,
) -> Chart:
    """Score against severity or PSNR, a line per model, and its interval as a band.

    Args:
        frame: of one corruption, or of a mean: model, severity, psnr, score, low and high (NaN for no interval).
        colors: of each model.
        scale: of both axes.
        metric: what the score is, percent.
        bands: whether the intervals are drawn.
        height: px.
    """
    axis = (
        alt.X(
            "severity:Q",
            title="severity",
            scale=alt.Scale(domain=[0, scale.severity]),
            axis=alt.Axis(tickMinStep=0.5 if scale.severity < 2 else 1, tickCount=6, format="~g"),
        )
        if scale.x == "severity"
        else alt.X(
            "psnr:Q",
            title="PSNR, dB",
            scale=alt.Scale(domain=list(scale.psnr or (0, 50)), reverse=True, nice=True),
        )
    )
    title = f"{metric}, %"
    base = alt.Chart(frame).encode(
        x=axis,
        color=alt.Color("model:N", title="model", scale=_color_scale(colors), legend=None),
        tooltip=_MODEL_TOOLTIP,
    )
    value = alt.Y("score:Q", title=title, scale=alt.Scale(domain=[0, scale.top]))
    at_point = [
        alt.Tooltip("model:N", title="model"),
        alt.Tooltip("severity:Q", format="~g", title="severity"),
        alt.Tooltip("psnr:Q", format=".1f", title="PSNR, dB"),
        alt.Tooltip("score:Q", format=".2f", title=title),
        alt.Tooltip("low:Q", format=".2f", title="95 % interval from"),
        alt.Tooltip("high:Q", format=".2f", title="to"),
    ]
    at_point = [t for t in at_point if frame[str(t.shorthand).partition(":")[0]].notna().any()]
    line = base.mark_line(strokeWidth=2).encode(y=value, strokeDash=_dash_patterns(colors))
    points = base.mark_point(filled=True, size=48, opacity=1).encode(y=value, tooltip=at_point)
    band = base.mark_area(opacity=0.16).encode(y=alt.Y("low:Q", title=title), y2="high:Q")
    layers = [band, line, points] if bands and frame["low"].notna().any() else [line, points]
    return alt.layer(*layers).properties(height=height)


@_specified
def difference_map(frame: pd.DataFrame, metric: str, *, dark: bool, compact: bool = False) -> Chart:
    """A cell per corruption and severity, coloured by model - baseline; a click selects the cell as `cell`.

    Args:
        frame: corruption, severity, change (points), interval and p (in words), significant (bold with a star).
        metric: what changes.
        dark: whether the page is dark.
        compact: whether it is as low as a screen needs it, without its legend.
    """
    limit = max(float(frame["change"].abs().max() or 1), 0.1)
    shown = frame.assign(
        name=frame["corruption"].map(humanize),
        value=frame["change"],
        strong=frame["significant"],
        text=[
            starred(format_number(change, signed=True), significant)
            for change, significant in zip(frame["change"], frame["significant"], strict=True)
        ],
    )
    chart = _heat_map(
        shown,
        x=alt.X("severity:O", title="severity", axis=alt.Axis(labelAngle=0, format="~g", orient="top")),
        y=alt.Y(
            "name:N",
            title=None,
            sort=list(dict.fromkeys(shown["name"])),
            axis=_row_axis(140),
        ),
        bounds=(-limit, limit),
        colors=palette.difference_colors(dark=dark),
        title=f"difference in {metric}, points",
        tooltip=[
            alt.Tooltip("name:N", title="corruption"),
            alt.Tooltip("severity:O", title="severity", format="~g"),
            alt.Tooltip("text:N", title=f"difference in {metric}, points"),
            alt.Tooltip("interval:N", title="95 % interval"),
            alt.Tooltip("p:N", title="p (Holm)"),
        ],
        fields=["corruption", "severity"],
        dark=dark,
        has_legend=not compact,
    )
    rows = shown["name"].nunique()
    return chart.properties(height=max(14 * rows, min(28 * rows, 210)) + 64 if compact else 34 * rows + 165)


@_specified
def class_map(frame: pd.DataFrame, metric: str, *, signed: bool, dark: bool) -> Chart:
    """A cell per class and corruption, coloured by its score or difference; a click selects the cell as `cell`.

    Args:
        frame: class, corruption, label (of the row), value (percent or points), text, interval, p and objects (in words),
            strong (bold); rows in their order.
        metric: what the value is.
        signed: whether it is a difference.
        dark: whether the page is dark.
    """
    colors = palette.difference_colors(dark=dark)
    limit = max(float(frame["value"].abs().max() or 1), 0.1)
    shown = frame.assign(name=frame["corruption"].map(humanize))
    title = f"difference in {metric}, points" if signed else f"{metric}, %"
    tooltip = [
        alt.Tooltip("class:N", title="class"),
        alt.Tooltip("objects:N", title="objects"),
        alt.Tooltip("name:N", title="corruption"),
        alt.Tooltip("text:N", title=title),
        alt.Tooltip("interval:N", title="95 % interval"),
    ]
    chart = _heat_map(
        shown,
        x=alt.X(
            "name:N",
            title=None,
            sort=list(dict.fromkeys(shown["name"])),
            axis=_column_axis(shown["name"].nunique()),
        ),
        y=alt.Y(
            "label:N",
            title=None,
            sort=list(dict.fromkeys(shown["label"])),
            axis=_row_axis(170),
        ),
        bounds=(-limit, limit) if signed else (0, limit),
        colors=colors if signed else colors[len(colors) // 2 :],
        title=title,
        tooltip=[*tooltip, *([alt.Tooltip("p:N", title="p (Holm)")] if signed else [])],
        fields=["class", "corruption"],
        dark=dark,
    )
    return chart.properties(height=26 * shown["label"].nunique() + 190)


@_specified
def confusion_map(frame: pd.DataFrame, *, dark: bool) -> Chart:
    """What objects are taken for: a row per class of objects, a column per class of boxes, in percent of the row.

    Args:
        frame: object, box, count, value (percent of the row); rows in their order.
        dark: whether the page is dark.
    """
    order = list(dict.fromkeys(frame["object"]))
    shown = frame.assign(strong=False, text=[f"{v:.0f}" if v >= 0.5 else "" for v in frame["value"]])
    chart = _heat_map(
        shown,
        x=alt.X(
            "box:N",
            title="box",
            sort=order,
            axis=_column_axis(len(order)),
        ),
        y=alt.Y("object:N", title="object", sort=order, axis=_row_axis(110)),
        bounds=(0, 100),
        colors=palette.difference_colors(dark=dark)[2:],
        title="% of the row",
        tooltip=[
            alt.Tooltip("object:N", title="object"),
            alt.Tooltip("box:N", title="taken for"),
            alt.Tooltip("count:Q", title="how many", format=","),
            alt.Tooltip("value:Q", title="% of the row", format=".1f"),
        ],
        dark=dark,
    )
    return chart.properties(height=28 * len(order) + 230)


@_specified
def precision_recall_curves(
    frame: pd.DataFrame, colors: Mapping[str, str], conditions: Sequence[str]
) -> Chart:
    """Precision against recall, a line per model; what is corrupted is solid, the clean curve faint.

    Args:
        frame: model, condition (of `conditions`), confidence, recall, precision (percent).
        colors: of each model.
        conditions: the clean one first.
    """
    base = alt.Chart(frame).encode(
        x=alt.X("recall:Q", title="recall, %", scale=alt.Scale(domain=[0, 100])),
        y=alt.Y("precision:Q", title="precision, %", scale=alt.Scale(domain=[0, 100])),
        color=alt.Color("model:N", title="model", scale=_color_scale(colors), legend=None),
        opacity=alt.Opacity(
            "condition:N",
            title="condition",
            scale=alt.Scale(domain=list(conditions), range=[1.0] if len(conditions) == 1 else [0.4, 1.0]),
            legend=None,
        ),
        detail="condition:N",
        order=alt.Order("confidence:Q", sort="descending"),
    )
    whose = [*_MODEL_TOOLTIP, alt.Tooltip("condition:N", title="images")]
    at_point = [
        *whose,
        alt.Tooltip("confidence:Q", title="confidence from", format=".2f"),
        alt.Tooltip("recall:Q", title="recall, %", format=".1f"),
        alt.Tooltip("precision:Q", title="precision, %", format=".1f"),
    ]
    line = base.mark_line(strokeWidth=2, interpolate="linear").encode(
        strokeDash=_dash_patterns(colors), tooltip=whose
    )
    points = base.mark_point(filled=True, size=60).encode(opacity=alt.value(0), tooltip=at_point)
    return alt.layer(line, points).properties(height=PLOT_HEIGHT + 60)


def _heat_map(
    frame: pd.DataFrame,
    *,
    x: alt.X,
    y: alt.Y,
    bounds: tuple[float, float],
    colors: Sequence[str],
    title: str,
    tooltip: Sequence[alt.Tooltip],
    dark: bool,
    fields: Sequence[str] = (),
    has_legend: bool = True,
) -> Chart:
    """A coloured cell with its text for each row of a frame.

    Args:
        frame: what `x`, `y` and the tooltip name; value (coloured), text, strong (bold).
        x, y: columns and rows.
        bounds: values of the first and the last colour.
        colors: evenly spaced.
        title: of the colours.
        tooltip: of a cell.
        dark: whether the page is dark.
        fields: that a click selects, as `cell`.
        has_legend: whether the colours are explained below.
    """
    low, high = bounds
    place = ((frame["value"] - low) / (high - low)).fillna(0).clip(0, 1)
    shown = frame.assign(
        light=[
            palette.readable_text_color(palette.interpolate_colors(colors, p)) != palette.INK for p in place
        ]
    )
    domain = [low + (high - low) * i / (len(colors) - 1) for i in range(len(colors))]
    base = alt.Chart(shown).encode(x=x, y=y, tooltip=list(tooltip))
    hand: dict[str, Any] = {"cursor": "pointer"} if fields else {}
    rectangles = base.mark_rect(
        cornerRadius=4, stroke="#0f131c" if dark else "#ffffff", strokeWidth=2, **hand
    ).encode(
        color=alt.Color(
            "value:Q",
            scale=alt.Scale(domain=domain, range=list(colors), interpolate="rgb"),
            legend=alt.Legend(orient="bottom", gradientLength=220) if has_legend else None,
            title=title,
        )
    )
    if fields:
        rectangles = rectangles.add_params(alt.selection_point(name="cell", fields=list(fields)))
    ink = alt.condition("datum.light", alt.value("#ffffff"), alt.value(palette.INK))
    weights: tuple[tuple[Literal[400, 800], str], ...] = ((800, "datum.strong"), (400, "!datum.strong"))
    columns = frame[str(x.shorthand).partition(":")[0]].nunique()
    # Numbers that would run into each other, on a narrow screen, are left to the tooltip.
    fits = alt.ExprRef(f"width / {columns} < 30 ? 0 : 1")
    texts = [
        base.mark_text(fontSize=12, fontWeight=weight, opacity=fits, **hand)
        .encode(text="text:N", color=ink)
        .transform_filter(which)
        for weight, which in weights
    ]
    return alt.layer(rectangles, *texts)


@_specified
def loss_curves(frame: pd.DataFrame, colors: Mapping[str, str], epochs: tuple[int, int]) -> Chart:
    """One loss against the epoch: the smoothed mean of a model's seeds, the raw mean behind it, their range.

    Args:
        frame: model, epoch, mean, smooth, low, high.
        epochs: first and last shown; the wheel and dragging zoom further.
    """
    shown = frame[frame["epoch"].between(*epochs)]
    domain = list(epochs) if epochs[0] < epochs[1] else [epochs[0] - 1, epochs[1] + 1]
    zoom = alt.selection_interval(bind="scales", encodings=["x"])
    base = alt.Chart(shown).encode(
        x=alt.X(
            "epoch:Q",
            title="epoch",
            scale=alt.Scale(domain=domain),
            axis=alt.Axis(tickMinStep=1, format="d"),
        ),
        color=alt.Color("model:N", title="model", scale=_color_scale(colors), legend=None),
        tooltip=_MODEL_TOOLTIP,
    )

    def of(column: str) -> alt.Y:
        return alt.Y(f"{column}:Q", title=None, scale=alt.Scale(zero=False))

    band = base.mark_area(opacity=0.15, clip=True).encode(y=of("low"), y2="high:Q")
    raw = base.mark_line(opacity=0.35, strokeWidth=1, clip=True).encode(y=of("mean"))
    line = base.mark_line(strokeWidth=2, clip=True).encode(y=of("smooth"), strokeDash=_dash_patterns(colors))
    at_epoch = [
        alt.Tooltip("model:N", title="model"),
        alt.Tooltip("epoch:Q", title="epoch", format="d"),
        alt.Tooltip("smooth:Q", title="smoothed mean", format=".4f"),
        alt.Tooltip("mean:Q", title="mean", format=".4f"),
        alt.Tooltip("low:Q", title="lowest", format=".4f"),
        alt.Tooltip("high:Q", title="highest", format=".4f"),
    ]
    is_line = shown["epoch"].nunique() > 1
    points = base.mark_point(filled=True, opacity=0 if is_line else 1, size=60, clip=True).encode(
        y=of("smooth"), tooltip=at_epoch
    )
    return alt.layer(band, raw, line.add_params(zoom), points).properties(height=PLOT_HEIGHT + 40)


def _column_axis(columns: int) -> alt.Axis:
    """The names of columns above a map; upright where they would run into each other on a narrow screen."""
    angle = -45 if columns <= 6 else -90
    return alt.Axis(orient="top", labelAngle=angle, labelLimit=110, labelOverlap=False)


def _row_axis(limit: int) -> alt.Axis:
    """The names of rows beside a map, each level with its row: Streamlit would move the first one down."""
    return alt.Axis(labelLimit=limit, labelOverlap=False, labelFlush=False)


def _color_scale(colors: Mapping[str, str]) -> alt.Scale:
    return alt.Scale(domain=list(colors), range=list(colors.values()))


def _dash_patterns(colors: Sequence[str] | Mapping[str, str]) -> alt.StrokeDash:
    """A dash pattern for each model, so that lines differ without colour too."""
    dashes = [[1, 0], [7, 3], [2, 2], [8, 3, 2, 3]]
    chosen = [dashes[i % len(dashes)] for i, _ in enumerate(colors)]
    return alt.StrokeDash("model:N", scale=alt.Scale(domain=list(colors), range=chosen), legend=None)
