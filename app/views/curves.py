"""Curves: scores against severity or PSNR for each corruption, and the map of differences."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from robustbench_sgdm import robustness
from robustbench_sgdm.core import escaping, glossary
from robustbench_sgdm.core.constants import CLEAN, METRICS
from robustbench_sgdm.dashboard import charts, differences, run_data, widgets
from robustbench_sgdm.dashboard.pages import page
from robustbench_sgdm.dashboard.run_data import RunView
from robustbench_sgdm.tables import format_number, humanize, identical_sentence, starred
from robustbench_sgdm.tables.table import STARRED

COLUMNS = 3
AXES = {"severity": "severity", "PSNR": "psnr"}
EVERY, OTHER = "all", "other"


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
    compared, family, metric = _controls(view, corruptions)
    if results[metric].isna().all():
        widgets.empty_state(f"No {metric} here", "The images have no objects of this size.", "")
        return
    _curves(view, family, metric)
    _differences(compared, metric)


def _families(view: RunView, corruptions: Sequence[str]) -> dict[str, list[str]]:
    """The corruptions of each family."""
    about, families = view.run.manifest.corruptions, dict[str, list[str]]()
    for name in corruptions:
        families.setdefault(about[name].family or OTHER, []).append(name)
    return families


def _controls(view: RunView, corruptions: list[str]) -> tuple[RunView, dict[str, list[str]], str]:
    """The run with the chosen baseline, the chosen families, and the metric."""
    families = _families(view, corruptions)
    with widgets.control_bar():
        compared = widgets.select_baseline(view)
        names = [EVERY, *families] if len(families) > 1 else [EVERY]
        which = widgets.segmented_control("Corruptions", names, "family")
        metric = widgets.selectbox(
            "Metric", list(METRICS), "metric", default=run_data.primary_metric(view), width=120
        )
    return compared, families if which == EVERY else {which: families[which]}, metric


@widgets.fragment()  # its widgets do not rerun the differences below
def _curves(view: RunView, families: dict[str, list[str]], metric: str) -> None:
    """The mean over all chosen corruptions, then over each family or of each corruption, on the same axes."""
    names, corruptions = list(view.run.groups), [c for members in families.values() for c in members]
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        models = widgets.multiselect("Models", names, "models", default=names, width=420)
        axis = AXES[widgets.segmented_control("Against", list(AXES), "against")]
        bands = widgets.toggle(
            "95 % bands",
            "bands",
            value=True,
            disabled=metric not in robustness.METRICS or not run_data.has_resamples(view),
            help=f"{glossary.define('interval')} The page Overview computes them once.",
        )
        is_single = len(families) == 1 or widgets.toggle(
            "Every corruption", "single", value=len(corruptions) <= 2 * COLUMNS
        )
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
    planned = dict.fromkeys((c.corruption, c.severity) for c in view.run.cells if c.corruption != CLEAN)
    means = {
        name: run_data.mean_curve(view, metric, tuple(cell for cell in planned if cell[0] in members), bands)
        for name, members in ({EVERY: corruptions} | families).items()
    }
    means = {name: (curve[curve["model"].isin(models)], scope) for name, (curve, scope) in means.items()}
    colors = widgets.model_colors(names)
    shown = frame[frame["corruption"].isin([*corruptions, CLEAN])]
    scale = charts.CurveScale(
        axis,
        max(5.0, float(shown[["score", "high"]].max().max()) * 1.05),
        None if axis == "severity" else (float(shown["psnr"].min()), float(shown["psnr"].max())),
        charts.greatest_severity(shown),
    )

    def draw(title: str, part: pd.DataFrame, key: str, height: int = charts.PLOT_HEIGHT) -> None:
        st.markdown(f"**{escaping.markdown(title)}**")
        chart = charts.severity_curves(
            part, {m: colors[m] for m in models}, scale=scale, metric=metric, bands=bands, height=height
        )
        whose = f"a line for each of {', '.join(models)}"
        charts.show(chart, key=f"curve-{key}", alt=f"{metric} against {axis}, {title}, {whose}")

    widgets.show_legend(models)
    if axis == "severity" and len(corruptions) > 1:
        curve, scope = means[EVERY]
        draw(f"Mean {scope}", curve, EVERY, charts.PLOT_HEIGHT + 70)
    if axis == "severity" and not is_single:
        for column, name in zip(_columns(len(families)), families, strict=False):
            with column:
                curve, scope = means[name]
                draw(f"{name}, mean {scope}", curve, name)
        return
    # Families of one corruption each need no headings.
    groups = families if len(corruptions) > len(families) else {"": corruptions}
    for name, members in groups.items():
        if len(groups) > 1:
            st.subheader(escaping.markdown(name), anchor=False)
        for column, corruption in zip(_columns(len(members)), members, strict=False):
            part = frame[frame["corruption"].isin([corruption, *([CLEAN] if axis == "severity" else [])])]
            with column:
                draw(humanize(corruption), part.sort_values("severity"), corruption)


def _columns(count: int) -> list[Any]:
    """A place for each of some panels, row by row; stacked in order on a narrow screen."""
    width = min(COLUMNS, count)
    return [column for _ in range(0, count, width) for column in st.columns(width)]


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
