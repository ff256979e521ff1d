"""Interactive charts: functions from frames to Altair charts."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import altair as alt
import pandas as pd
import streamlit as st
from altair.utils import schemapi

from robustbench_sgdm.core import escaping, palette
from robustbench_sgdm.tables import format_number, humanize, starred

PLOT_HEIGHT = 230

Chart = alt.LayerChart | alt.FacetChart

_MODEL_TOOLTIP = [alt.Tooltip("model:N", title="model")]
"""For lines and bands: each is one mark, whose tooltip would show the values of its first point everywhere."""

alt.data_transformers.disable_max_rows()
schemapi.DEBUG_MODE = False  # validating a chart takes longer than drawing it; a test does that


def show(chart: Chart, **options: Any) -> Any:
    """Show a chart; `options` are those of `st.vega_lite_chart`. Names in it are never read as Vega expressions."""
    spec = escaping.chart_spec(chart.to_dict(validate=False))
    return st.vega_lite_chart(spec, **escaping.chart_spec(options))


def severity_curves(
    frame: pd.DataFrame,
    colors: Mapping[str, str],
    *,
    x: str,
    metric: str,
    top: float,
    bands: bool,
) -> Chart:
    """Score against severity or PSNR, a line per model, and its interval as a band.

    Args:
        frame: of one corruption: model, severity or psnr, score, low and high (NaN for no interval).
        colors: of each model.
        x: `severity` or `psnr`.
        metric: what the score is, percent.
        top: of the axis, so that panels compare.
    """
    axis = (
        alt.X("severity:Q", title="severity", axis=alt.Axis(values=[0, 1, 2, 3, 4, 5], format="~g"))
        if x == "severity"
        else alt.X("psnr:Q", title="PSNR, dB", scale=alt.Scale(zero=False, reverse=True))
    )
    title = f"{metric}, %"
    base = alt.Chart(frame).encode(
        x=axis,
        color=alt.Color("model:N", title="model", scale=_color_scale(colors), legend=None),
        tooltip=_MODEL_TOOLTIP,
    )
    value = alt.Y("score:Q", title=title, scale=alt.Scale(domain=[0, top]))
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
    return alt.layer(*layers).properties(height=PLOT_HEIGHT)


def difference_map(frame: pd.DataFrame, metric: str, *, dark: bool) -> Chart:
    """A cell per corruption and severity, coloured by model - baseline; a click selects the cell as `cell`.

    Args:
        frame: corruption, severity, change (points), interval and p (in words), significant (bold with a star).
        metric: what changes.
        dark: whether the page is dark.
    """
    limit = max(float(frame["change"].abs().max() or 1), 0.1)
    shades = palette.difference_colors(dark=dark)
    scale = alt.Scale(domain=[-limit, -limit / 2, 0, limit / 2, limit], range=shades, interpolate="rgb")
    cell = alt.selection_point(name="cell", fields=["corruption", "severity"])
    shown = frame.assign(
        name=frame["corruption"].map(humanize),
        text=[
            starred(format_number(change, signed=True), significant)
            for change, significant in zip(frame["change"], frame["significant"], strict=True)
        ],
        light=[
            palette.readable_text_color(palette.interpolate_colors(shades, 0.5 + change / (2 * limit)))
            != palette.INK
            for change in frame["change"]
        ],
    )
    order = list(dict.fromkeys(shown["name"]))
    base = alt.Chart(shown).encode(
        x=alt.X("severity:O", title="severity", axis=alt.Axis(labelAngle=0, format="~g", orient="top")),
        y=alt.Y("name:N", title=None, sort=order, axis=alt.Axis(labelLimit=140)),
        tooltip=[
            alt.Tooltip("name:N", title="corruption"),
            alt.Tooltip("severity:O", title="severity", format="~g"),
            alt.Tooltip("text:N", title=f"difference in {metric}, points"),
            alt.Tooltip("interval:N", title="95 % interval"),
            alt.Tooltip("p:N", title="p (Holm)"),
        ],
    )
    rectangles = (
        base.mark_rect(
            cornerRadius=4, cursor="pointer", stroke="#0f131c" if dark else "#ffffff", strokeWidth=2
        )
        .encode(
            color=alt.Color(
                "change:Q",
                scale=scale,
                legend=alt.Legend(orient="bottom", gradientLength=220),
                title=f"difference in {metric}, points",
            )
        )
        .add_params(cell)
    )
    ink = alt.condition("datum.light", alt.value("#ffffff"), alt.value(palette.INK))
    weights: tuple[tuple[Literal[400, 800], str], ...] = (
        (800, "datum.significant"),
        (400, "!datum.significant"),
    )
    texts = [
        base.mark_text(fontSize=12, fontWeight=weight, cursor="pointer")
        .encode(text="text:N", color=ink)
        .transform_filter(which)
        for weight, which in weights
    ]
    return alt.layer(rectangles, *texts).properties(height=34 * len(order) + 165)


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
    points = base.mark_point(filled=True, opacity=0, size=60, clip=True).encode(
        y=of("smooth"), tooltip=at_epoch
    )
    return alt.layer(band, raw, line.add_params(zoom), points).properties(height=PLOT_HEIGHT + 40)


def _color_scale(colors: Mapping[str, str]) -> alt.Scale:
    return alt.Scale(domain=list(colors), range=list(colors.values()))


def _dash_patterns(colors: Sequence[str] | Mapping[str, str]) -> alt.StrokeDash:
    """A dash pattern for each model, so that lines differ without colour too."""
    dashes = [[1, 0], [7, 3], [2, 2], [8, 3, 2, 3]]
    chosen = [dashes[i % len(dashes)] for i, _ in enumerate(colors)]
    return alt.StrokeDash("model:N", scale=alt.Scale(domain=list(colors), range=chosen), legend=None)
