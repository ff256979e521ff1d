"""Curves: scores against severity or PSNR for each corruption, and the map of differences."""

import itertools

import pandas as pd
import streamlit as st

from robustbench_sgdm import robustness
from robustbench_sgdm.core import escaping
from robustbench_sgdm.core.constants import CLEAN, METRICS
from robustbench_sgdm.dashboard import charts, differences, run_data, widgets
from robustbench_sgdm.dashboard.pages import page
from robustbench_sgdm.dashboard.run_data import RunView
from robustbench_sgdm.tables import format_number, humanize, identical_sentence, starred
from robustbench_sgdm.tables.table import STARRED

COLUMNS = 3
AXES = {"severity": "severity", "PSNR": "psnr"}
EVERY = "all"


@page("Curves", icon=":material/show_chart:", order=2)
def curves(view: RunView) -> None:
    """Curves of one run, then the differences between two of its models."""
    results = run_data.pooled_results(view)
    if results.empty:
        widgets.empty_state("No curves yet", "Curves appear as soon as the first cells are complete.")
        return
    corruptions = [c for c in dict.fromkeys(results["corruption"]) if c != CLEAN]
    if not corruptions:
        widgets.empty_state(
            "Only clean images", "This run has no corruptions. Run it again with `--noise gaussian`."
        )
        return
    compared, chosen, metric = _controls(view, corruptions)
    if results[metric].isna().all():
        widgets.empty_state(f"No {metric} here", "The images have no objects of this size.", "")
        return
    _curves(view, chosen, metric)
    _differences(compared, metric)


def _controls(view: RunView, corruptions: list[str]) -> tuple[RunView, list[str], str]:
    about = view.run.manifest.corruptions
    family = {c: about[c].family or "other" for c in corruptions}
    families = list(dict.fromkeys(family.values()))
    few = len(corruptions) <= 2 * COLUMNS
    with st.container(horizontal=True, gap="medium", vertical_alignment="top"):
        names = [EVERY, *families] if len(families) > 1 else [EVERY]
        which = widgets.segmented_control(
            "Corruptions", names, "family", default=EVERY if few else families[0]
        )
        metric = widgets.selectbox(
            "Metric", list(METRICS), "metric", default=run_data.primary_metric(view), width=120
        )
        compared = widgets.select_baseline(view)
    return compared, [c for c in corruptions if which in (EVERY, family[c])], metric


@widgets.fragment()  # its widgets do not rerun the differences below
def _curves(view: RunView, corruptions: list[str], metric: str) -> None:
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        axis = AXES[widgets.segmented_control("Against", list(AXES), "against")]
        bands = widgets.toggle(
            "95 % bands",
            "bands",
            value=True,
            disabled=metric not in robustness.METRICS or not run_data.has_resamples(view),
            help="Bootstrap over images. The page Overview computes them once.",
        )
    names = list(view.run.groups)
    models = widgets.multiselect("Models", names, "models", default=names)
    if not models:
        widgets.empty_state("No model chosen", "Choose one above.", ":material/check_box:")
        return
    frame = _points(view, metric, bands)
    if axis == "psnr" and frame["psnr"].isna().all():
        st.info(
            "This run has no PSNR values, which `robustbench run` measures. Curves are shown against severity.",
            icon=":material/info:",
        )
        axis = "severity"
    frame = frame[frame["model"].isin(models)]
    colors = widgets.model_colors(names)
    widgets.show_legend(models)
    top = max(5.0, float(frame[["score", "high"]].max().max()) * 1.05)
    width = min(COLUMNS, len(corruptions))
    # Stacked in order on a narrow screen.
    rows = [st.columns(width) for _ in range(0, len(corruptions), width)]
    for corruption, column in zip(corruptions, itertools.chain(*rows), strict=False):
        part = frame[frame["corruption"].isin([corruption, *([CLEAN] if axis == "severity" else [])])]
        with column:
            st.markdown(f"**{escaping.markdown(humanize(corruption))}**")
            chart = charts.severity_curves(
                part.sort_values("severity"),
                {m: colors[m] for m in models},
                x=axis,
                metric=metric,
                top=top,
                bands=bands,
            )
            charts.show(
                chart,
                key=f"curve-{corruption}",
                alt=f"{metric} against {axis} under {humanize(corruption)}, a line for each of "
                f"{', '.join(models)}",
            )


def _points(view: RunView, metric: str, bands: bool) -> pd.DataFrame:
    """model, corruption, severity, score, low, high, psnr."""
    results = run_data.pooled_results(view)
    keys = ["model", "corruption", "severity"]
    frame = results[[*keys, metric, "psnr"]].rename(columns={metric: "score"}).dropna(subset="score")
    table = run_data.intervals(view, metric) if bands else None
    if table is not None:
        own = table[(table["statistic"] == "score") & (table["baseline"] == "")]
        return frame.merge(own[[*keys, "low", "high"]], how="left", on=keys)
    return frame.assign(low=float("nan"), high=float("nan"))


def _differences(view: RunView, metric: str) -> None:
    if not view.run.baseline_pairs:
        return
    st.subheader("Differences", anchor=False)
    named = {f"{model} − {baseline}": (baseline, model) for baseline, model in view.run.baseline_pairs}
    pair = named[widgets.selectbox("Difference", list(named), "pair", width=420)]
    if why := run_data.identical_pairs(view).get(pair):
        st.markdown(f"**{escaping.markdown(identical_sentence(*pair, why))}.**")
    frame = differences.cell_differences(view, metric, pair)
    if frame.empty:
        widgets.empty_state("Nothing to compare yet", "A cell needs both models.")
        return
    st.caption(
        f"Blue: {escaping.markdown(pair[1])} is better, orange: {escaping.markdown(pair[0])}. "
        f"{escaping.markdown(STARRED.format(alpha=0.05, what='the corrupted cells of the map'))} "
        "Click a cell to open its images."
    )
    chart = charts.difference_map(frame, metric, dark=st.context.theme.type == "dark")
    event = charts.show(
        chart,
        on_select="rerun",
        selection_mode="cell",
        key="differences",
        width=min(720, 240 + 110 * frame["severity"].nunique()),
        alt=f"Heat map of {metric} of {pair[1]} minus {pair[0]}, by corruption and severity",
    )
    picked = event["selection"].get("cell") or []
    if picked:
        cell = str(picked[0]["corruption"]), float(picked[0]["severity"])
        change = frame.set_index(["corruption", "severity"])["change"].to_dict()[cell]
        differences.open_images(view, pair, *cell, change)
    with st.expander("Show as a table"):
        _table(frame, metric)


def _table(frame: pd.DataFrame, metric: str) -> None:
    rows = frame.assign(
        corruption=frame["corruption"].map(humanize),
        change=[
            starred(format_number(change, signed=True), significant)
            for change, significant in zip(frame["change"], frame["significant"], strict=True)
        ],
    ).drop(columns="significant")
    names = {"change": f"difference in {metric}", "interval": "95 % interval", "p": "p (Holm)"}
    widgets.show_table(rows.rename(columns=names))
