"""Charts: pure functions of frames."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import altair as alt
import pandas as pd
import streamlit as st
from altair.utils import schemapi

PLOT_HEIGHT = 230

Chart = alt.LayerChart | alt.FacetChart

alt.data_transformers.disable_max_rows()
schemapi.DEBUG_MODE = (
    False  # checking a chart against its schema takes longer than drawing it; a test does that
)


def draw(chart: Chart, **how: Any) -> Any:
    """Show a chart; `how` is `st.vega_lite_chart`'s."""
    return st.vega_lite_chart(chart.to_dict(validate=False), **how)


def severity(
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
    color = alt.Color("model:N", scale=_scale(colors), legend=None)
    base = alt.Chart(frame).encode(x=axis, color=color)
    value = alt.Y("score:Q", title=f"{metric}, %", scale=alt.Scale(domain=[0, top]))
    told = [
        alt.Tooltip("model:N"),
        alt.Tooltip("severity:Q", format="~g"),
        alt.Tooltip("psnr:Q", format=".1f", title="PSNR, dB"),
        alt.Tooltip("score:Q", format=".2f", title=metric),
        alt.Tooltip("low:Q", format=".2f", title="95 % from"),
        alt.Tooltip("high:Q", format=".2f", title="to"),
    ]
    told = [t for t in told if frame[str(t.shorthand).partition(":")[0]].notna().any()]
    line = base.mark_line(strokeWidth=2).encode(y=value, strokeDash=_dashes(colors))
    points = base.mark_point(filled=True, size=48, opacity=1).encode(y=value, tooltip=told)
    band = base.mark_area(opacity=0.16).encode(y=alt.Y("low:Q", title=f"{metric}, %"), y2="high:Q")
    layers = [band, line, points] if bands and frame["low"].notna().any() else [line, points]
    return alt.layer(*layers).properties(height=PLOT_HEIGHT)


def differences(frame: pd.DataFrame, metric: str, *, dark: bool) -> Chart:
    """A cell per corruption and severity, coloured by model - baseline; a click selects it as `cell`.

    Args:
        frame: corruption, severity, change (points) and sure (whether the interval leaves 0 out).
    """
    limit = max(float(frame["change"].abs().max() or 1), 0.1)
    middle = "#232a3a" if dark else "#f4f5f7"
    shades = ["#d9733a", "#8a4f30", middle, "#2f6a86", "#4fb3d9"] if dark else None
    light = ["#b2500f", "#f0b48a", middle, "#8cc4de", "#14618c"]
    scale = alt.Scale(
        domain=[-limit, -limit / 2, 0, limit / 2, limit], range=shades or light, interpolate="rgb"
    )
    cell = alt.selection_point(name="cell", fields=["corruption", "severity"])
    order = list(dict.fromkeys(frame["corruption"]))
    text = frame["change"].map("{:+.1f}".format).replace(["+0.0", "-0.0"], "0.0")
    bold = frame["sure"].astype(bool) & (text != "0.0")
    legend = alt.Legend(orient="bottom", gradientLength=220)
    base = alt.Chart(frame.assign(text=text, bold=bold)).encode(
        x=alt.X("severity:O", title="severity", axis=alt.Axis(labelAngle=0, format="~g", orient="top")),
        y=alt.Y(
            "corruption:N",
            title=None,
            sort=order,
            axis=alt.Axis(labelLimit=140, labelExpr="replace(datum.label, /_/g, ' ')"),
        ),
    )
    rectangles = (
        base.mark_rect(
            cornerRadius=4, cursor="pointer", stroke="#0f131c" if dark else "#ffffff", strokeWidth=2
        )
        .encode(
            color=alt.Color("change:Q", scale=scale, legend=legend, title=f"{metric}, points"),
            tooltip=["corruption", "severity", alt.Tooltip("change:Q", format="+.2f"), "interval"],
        )
        .add_params(cell)
    )
    ink = "#f2f4fa" if dark else "#10151f"
    color = alt.condition(f"abs(datum.change) > {limit * 0.72}", alt.value("#ffffff"), alt.value(ink))
    weights: tuple[tuple[Literal[400, 800], str], ...] = ((800, "datum.bold"), (400, "!datum.bold"))
    texts = [
        base.mark_text(fontSize=12, fontWeight=weight)
        .encode(text="text:N", color=color)
        .transform_filter(which)
        for weight, which in weights
    ]
    return alt.layer(rectangles, *texts).properties(height=34 * len(order) + 165)


def losses(frame: pd.DataFrame, colors: Mapping[str, str], epochs: tuple[int, int]) -> Chart:
    """One loss against the epoch: the smoothed mean of a model's seeds, the raw mean behind it, their range.

    Args:
        frame: model, epoch, mean, smooth, low, high.
        epochs: first and last shown; the wheel and dragging zoom further.
    """
    shown = frame[frame["epoch"].between(*epochs)]
    domain = list(epochs) if epochs[0] < epochs[1] else [epochs[0] - 1, epochs[1] + 1]
    zoom = alt.selection_interval(bind="scales", encodings=["x"])
    base = alt.Chart(shown).encode(
        x=alt.X("epoch:Q", scale=alt.Scale(domain=domain), axis=alt.Axis(tickMinStep=1, format="d")),
        color=alt.Color("model:N", scale=_scale(colors), legend=None),
    )
    scale = alt.Scale(zero=False)
    band = base.mark_area(opacity=0.15, clip=True).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q")
    raw = base.mark_line(opacity=0.35, strokeWidth=1, clip=True).encode(y=alt.Y("mean:Q", scale=scale))
    told = ["model", "epoch", alt.Tooltip("smooth:Q", format=".4f"), alt.Tooltip("mean:Q", format=".4f")]
    line = base.mark_line(strokeWidth=2, clip=True).encode(
        y=alt.Y("smooth:Q", title=None, scale=scale), strokeDash=_dashes(colors), tooltip=told
    )
    return alt.layer(band, raw, line.add_params(zoom)).properties(height=PLOT_HEIGHT + 40)


def _scale(colors: Mapping[str, str]) -> alt.Scale:
    return alt.Scale(domain=list(colors), range=list(colors.values()))


def _dashes(colors: Sequence[str] | Mapping[str, str]) -> alt.StrokeDash:
    """Lines differ without their colour too."""
    dashes = [[1, 0], [7, 3], [2, 2], [8, 3, 2, 3]]
    chosen = [dashes[i % len(dashes)] for i, _ in enumerate(colors)]
    return alt.StrokeDash("model:N", scale=alt.Scale(domain=list(colors), range=chosen), legend=None)
