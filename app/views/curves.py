"""Curves: scores against severity or PSNR by corruption, and the map of differences."""

import itertools
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from robustbench_sgdm import content, robustness
from robustbench_sgdm.types import CLEAN, METRICS

if TYPE_CHECKING:
    from app import charts, controls, stored
    from app.stored import Shown
else:
    controls = content.load_file(content.root() / "app" / "controls.py")
    stored = content.load_file(content.root() / "app" / "stored.py")
    charts = content.load_file(content.root() / "app" / "charts.py")
    Shown = stored.Shown

COLUMNS = 3
AXES = {"severity": "severity", "PSNR": "psnr"}
EVERY = "all"


def page(shown: Shown) -> None:
    """Curves of one run, then the differences between two of its models."""
    results = stored.results(shown)
    if results.empty:
        controls.nothing("No curve yet", "Curves appear as soon as the first cells are complete.")
        return
    corruptions = [c for c in dict.fromkeys(results["corruption"]) if c != CLEAN]
    if not corruptions:
        controls.nothing(
            "Only clean images", "This run has no corruption; run it again with `--noise gaussian`."
        )
        return
    chosen, metric = _controls(shown, corruptions)
    if results[metric].isna().all():
        controls.nothing(
            f"No {metric} here", "The images hold no such objects, so there is nothing to draw.", ""
        )
        return
    _curves(shown, chosen, metric)
    _differences(shown, metric)


def _controls(shown: Shown, corruptions: list[str]) -> tuple[list[str], str]:
    about = shown.run.plan["corruptions"]
    family = {c: str(about.get(c, {}).get("family") or "other") for c in corruptions}
    families = list(dict.fromkeys(family.values()))
    few = len(corruptions) <= 2 * COLUMNS
    with st.container(horizontal=True, gap="medium", vertical_alignment="top"):
        names = [EVERY, *families] if len(families) > 1 else [EVERY]
        which = controls.choose("Corruptions", names, "family", default=EVERY if few else families[0])
        metric = controls.pick(
            "Metric", list(METRICS), "metric", default=robustness.headline(shown.run), width=120
        )
    return [c for c in corruptions if which in (EVERY, family[c])], metric


@st.fragment  # the differences below need not be drawn anew
def _curves(shown: Shown, corruptions: list[str], metric: str) -> None:
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        axis = AXES[controls.choose("Against", list(AXES), "against")]
        bands = controls.switch(
            "95 % bands",
            "bands",
            value=True,
            disabled=metric not in robustness.METRICS or not stored.kept(shown),
            help="Bootstrap over images; the page Overview computes them once.",
        )
    models = controls.picks("Models", shown.models, "models", default=shown.models)
    if not models:
        controls.nothing("No model chosen", "Choose one above.", ":material/check_box:")
        return
    frame = _points(shown, metric, bands)
    if axis == "psnr" and frame["psnr"].isna().all():
        st.info(
            "This run did not measure what its corruptions do to its images, so there is no PSNR; "
            "a run made by this version does. Shown against severity.",
            icon=":material/info:",
        )
        axis = "severity"
    frame = frame[frame["model"].isin(models)]
    palette = controls.colors(shown.models)
    controls.legend(models)
    top = max(5.0, float(frame[["score", "high"]].max().max()) * 1.05)
    wide = min(COLUMNS, len(corruptions))
    rows = [
        st.columns(wide) for _ in range(0, len(corruptions), wide)
    ]  # a narrow window stacks them in order
    for corruption, column in zip(corruptions, itertools.chain(*rows), strict=False):
        part = frame[frame["corruption"].isin([corruption, *([CLEAN] if axis == "severity" else [])])]
        with column:
            st.markdown(f"**{controls.plain(controls.words(corruption))}**")
            chart = charts.severity(
                part.sort_values("severity"),
                {m: palette[m] for m in models},
                x=axis,
                metric=metric,
                top=top,
                bands=bands,
            )
            charts.draw(
                chart,
                key=f"curve-{corruption}",
                alt=f"{metric} against {axis} under {controls.words(corruption)}, a line for each of "
                f"{', '.join(models)}",
            )


def _points(shown: Shown, metric: str, bands: bool) -> pd.DataFrame:
    """model, corruption, severity, score, low, high, psnr."""
    results = stored.results(shown)
    keys = ["model", "corruption", "severity"]
    frame = results[[*keys, metric, "psnr"]].rename(columns={metric: "score"}).dropna(subset="score")
    table = stored.intervals(shown, metric) if bands else None
    if table is not None:
        own = table[(table["statistic"] == "score") & (table["baseline"] == "")]
        return frame.merge(own[[*keys, "low", "high"]], how="left", on=keys)
    return frame.assign(low=float("nan"), high=float("nan"))


def _differences(shown: Shown, metric: str) -> None:
    pairs = shown.run.pairs or [(a, b) for a, b in zip(shown.models, shown.models[1:], strict=False)]
    if not pairs:
        return
    st.subheader("Where the two differ", anchor=False)
    named = {f"{model} − {baseline}": (baseline, model) for baseline, model in pairs}
    pair = named[controls.pick("Difference", list(named), "pair", width=420)]
    frame = _changes(shown, metric, pair)
    if frame.empty:
        controls.nothing("Nothing to compare yet", "A cell needs both models.")
        return
    st.caption("Blue: the first is better. Bold: its 95 % interval leaves 0 out. A click opens the images.")
    chart = charts.differences(frame, metric, dark=st.context.theme.type == "dark")
    event = charts.draw(
        chart,
        on_select="rerun",
        selection_mode="cell",
        key="differences",
        width=min(720, 240 + 110 * frame["severity"].nunique()),
        alt=f"Heat map of {metric} of {pair[1]} minus {pair[0]}, by corruption and severity",
    )
    picked = event["selection"].get("cell") or []
    if picked:
        corruption, severity = str(picked[0]["corruption"]), f"{float(picked[0]['severity']):g}"
        under = {} if corruption == CLEAN else {"corruption": corruption}  # at 0 every one shows clean images
        controls.go(
            "images", run=shown.name, left=pair[0], right=pair[1], severity=severity, any="false", **under
        )
    with st.expander("The same as a table"):
        st.dataframe(frame.drop(columns="sure"), hide_index=True)


def _changes(shown: Shown, metric: str, pair: tuple[str, str]) -> pd.DataFrame:
    """corruption, severity, change (points), interval (in words), sure."""
    results = stored.results(shown)
    wide = results.pivot_table(index=["corruption", "severity"], columns="model", values=metric, sort=False)
    if not set(pair) <= set(wide):
        return pd.DataFrame()
    change = (wide[pair[1]] - wide[pair[0]]).dropna().rename("change").reset_index()
    table = stored.intervals(shown, metric, pair)
    if table is None:
        return change.assign(interval="not computed", sure=False)
    keys = ["corruption", "severity"]
    rows = table[(table["statistic"] == "score") & (table["baseline"] == pair[0])]
    change = change.merge(rows[[*keys, "low", "high"]], how="left", on=keys)
    spans = [controls.span(*ends, "+.2f") for ends in zip(change["low"], change["high"], strict=True)]
    sure = (change["low"] > 0) | (change["high"] < 0)
    return change.drop(columns=["low", "high"]).assign(interval=spans, sure=sure)
