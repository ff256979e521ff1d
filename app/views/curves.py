"""Curves: scores against severity or PSNR for each corruption, and the map of differences."""

from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from robustbench_sgdm import robustness
from robustbench_sgdm.core import escaping, glossary
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.dashboard import charts, differences, run_controls, run_data, widgets
from robustbench_sgdm.dashboard.pages import page
from robustbench_sgdm.dashboard.run_data import RunView
from robustbench_sgdm.tables import format_number, humanize, identical_sentence, starred
from robustbench_sgdm.tables.table import STARRED

COLUMNS = 3
AXES = {"severity": "severity", "PSNR": "psnr"}


class Chosen(NamedTuple):
    """What the visitor chose.

    Attributes:
        pair: whose difference is shown, the baseline first; None in a run of one model.
        models: whose curves are shown.
        metric: of COCO's twelve.
        families: the corruptions of each that is shown.
    """

    pair: tuple[str, str] | None
    models: list[str]
    metric: str
    families: dict[str, list[str]]

    @property
    def corruptions(self) -> list[str]:
        """Those of all families that are shown."""
        return [corruption for members in self.families.values() for corruption in members]


@page("Curves", icon=":material/show_chart:", order=2)
def curves(view: RunView) -> None:
    """Curves of one run, then the differences between two of its models."""
    results = run_data.pooled_results(view)
    if results.empty:
        widgets.empty_state("No curves yet", "Curves appear as soon as the first cells are complete.")
        return
    if not run_data.families(view):
        widgets.empty_state(
            "Only clean images", "This run has no corruptions. Run it again with `--noise gaussian`."
        )
        return
    compared, chosen = _select(view)
    if results[chosen.metric].isna().all():
        widgets.empty_state(f"No {chosen.metric} here", "The images have no objects of this size.", "")
        return
    _curves(view, chosen)
    _differences(compared, chosen)


def _select(view: RunView) -> tuple[RunView, Chosen]:
    """The run with the chosen baseline, and what else is chosen."""
    families = run_data.families(view)
    with run_controls.control_bar():
        compared = run_controls.select_baseline(view)
        pair = run_controls.select_pair(compared)
        models = run_controls.select_models(list(view.run.groups)) or list(view.run.groups)
        metric = run_controls.select_metric(run_data.primary_metric(view))
        family = run_controls.select_family(list(families) if len(families) > 1 else [])
    if family != run_controls.ALL:
        families = {family: families[family]}
    return compared, Chosen(pair, models, metric, families)


@widgets.fragment()  # its widgets do not rerun the differences below
def _curves(view: RunView, chosen: Chosen) -> None:
    """The mean over all chosen corruptions, then over each family or of each corruption, on the same axes."""
    _, models, metric, families = chosen
    corruptions = chosen.corruptions
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
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
        for name, members in ({run_controls.ALL: corruptions} | families).items()
    }
    means = {name: (curve[curve["model"].isin(models)], scope) for name, (curve, scope) in means.items()}
    every = widgets.model_colors(list(view.run.groups))  # so that a model keeps its color beside fewer
    colors = {model: every[model] for model in models}
    shown = frame[frame["corruption"].isin([*corruptions, CLEAN])]
    scale = charts.CurveScale(
        axis,
        max(5.0, float(shown[["score", "high"]].max().max()) * 1.05),
        None if axis == "severity" else (float(shown["psnr"].min()), float(shown["psnr"].max())),
        charts.greatest_severity(shown),
    )

    def draw(title: str, part: pd.DataFrame, key: str, height: int = charts.PLOT_HEIGHT) -> None:
        st.markdown(f"**{escaping.markdown(title)}**")
        chart = charts.severity_curves(part, colors, scale=scale, metric=metric, bands=bands, height=height)
        whose = f"a line for each of {', '.join(models)}"
        charts.show(chart, key=f"curve-{key}", alt=f"{metric} against {axis}, {title}, {whose}")

    widgets.show_legend(colors)
    if axis == "severity" and len(corruptions) > 1:
        curve, scope = means[run_controls.ALL]
        draw(f"Mean {scope}", curve, run_controls.ALL, charts.PLOT_HEIGHT + 70)
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


def _differences(view: RunView, chosen: Chosen) -> None:
    pair, metric = chosen.pair, chosen.metric
    if pair is None:
        return
    st.subheader(f"Differences, {escaping.markdown(f'{pair[1]} − {pair[0]}')}", anchor=False)
    if why := run_data.identical_pairs(view).get(pair):
        st.markdown(f"**{escaping.markdown(identical_sentence(*pair, why))}.**")
    frame = differences.cell_differences(view, metric, pair)
    frame = frame[frame["corruption"].isin([CLEAN, *chosen.corruptions])] if len(frame) else frame
    if frame.empty:
        widgets.empty_state("Nothing to compare yet", "A cell needs both models.")
        return
    st.caption(
        f"Blue: {escaping.markdown(pair[1])} is better, orange: {escaping.markdown(pair[0])}. "
        f"{escaping.markdown(STARRED.format(alpha=0.05, what='the corrupted cells of the run'))} "
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
