"""Curves: scores against severity or PSNR by corruption, and the map of differences."""

import itertools
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from robustbench_sgdm import robustness
from robustbench_sgdm.core import resources
from robustbench_sgdm.core.constants import CLEAN, METRICS
from robustbench_sgdm.tables import format_number, format_p_value, humanize, identical_sentence, starred
from robustbench_sgdm.tables.table import STARRED

if TYPE_CHECKING:
    from app import charts, controls, stored
    from app.stored import Shown
else:
    controls = resources.import_file(resources.root() / "app" / "controls.py")
    stored = resources.import_file(resources.root() / "app" / "stored.py")
    charts = resources.import_file(resources.root() / "app" / "charts.py")
    Shown = stored.Shown

COLUMNS = 3
AXES = {"severity": "severity", "PSNR": "psnr"}
EVERY = "all"
ABOUT_NOTHING = 0.05  # points; of a smaller difference neither model is the better one


def page(shown: Shown) -> None:
    """Curves of one run, then the differences between two of its models."""
    results = stored.scores(shown)
    if results.empty:
        controls.nothing("No curve yet", "Curves appear as soon as the first cells are complete.")
        return
    corruptions = [c for c in dict.fromkeys(results["corruption"]) if c != CLEAN]
    if not corruptions:
        controls.nothing(
            "Only clean images", "This run has no corruption; run it again with `--noise gaussian`."
        )
        return
    compared, chosen, metric = _controls(shown, corruptions)
    if results[metric].isna().all():
        controls.nothing(
            f"No {metric} here", "The images hold no such objects, so there is nothing to draw.", ""
        )
        return
    _curves(shown, chosen, metric)
    _differences(compared, metric)


def _controls(shown: Shown, corruptions: list[str]) -> tuple[Shown, list[str], str]:
    about = shown.run.plan["corruptions"]
    family = {c: str(about.get(c, {}).get("family") or "other") for c in corruptions}
    families = list(dict.fromkeys(family.values()))
    few = len(corruptions) <= 2 * COLUMNS
    with st.container(horizontal=True, gap="medium", vertical_alignment="top"):
        names = [EVERY, *families] if len(families) > 1 else [EVERY]
        which = controls.choose("Corruptions", names, "family", default=EVERY if few else families[0])
        metric = controls.pick("Metric", list(METRICS), "metric", default=stored.headline(shown), width=120)
        compared = controls.against(shown)
    return compared, [c for c in corruptions if which in (EVERY, family[c])], metric


@controls.fragment()  # the differences below need not be drawn anew
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
    names = list(shown.networks)
    models = controls.picks("Models", names, "models", default=names)
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
    palette = controls.colors(names)
    controls.legend(models)
    top = max(5.0, float(frame[["score", "high"]].max().max()) * 1.05)
    wide = min(COLUMNS, len(corruptions))
    rows = [
        st.columns(wide) for _ in range(0, len(corruptions), wide)
    ]  # a narrow window stacks them in order
    for corruption, column in zip(corruptions, itertools.chain(*rows), strict=False):
        part = frame[frame["corruption"].isin([corruption, *([CLEAN] if axis == "severity" else [])])]
        with column:
            st.markdown(f"**{controls.plain(humanize(corruption))}**")
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
                alt=f"{metric} against {axis} under {humanize(corruption)}, a line for each of "
                f"{', '.join(models)}",
            )


def _points(shown: Shown, metric: str, bands: bool) -> pd.DataFrame:
    """model, corruption, severity, score, low, high, psnr."""
    results = stored.scores(shown)
    keys = ["model", "corruption", "severity"]
    frame = results[[*keys, metric, "psnr"]].rename(columns={metric: "score"}).dropna(subset="score")
    table = stored.intervals(shown, metric) if bands else None
    if table is not None:
        own = table[(table["statistic"] == "score") & (table["baseline"] == "")]
        return frame.merge(own[[*keys, "low", "high"]], how="left", on=keys)
    return frame.assign(low=float("nan"), high=float("nan"))


def _differences(shown: Shown, metric: str) -> None:
    if not shown.run.pairs:
        return
    st.subheader("Where the two differ", anchor=False)
    named = {f"{model} − {baseline}": (baseline, model) for baseline, model in shown.run.pairs}
    pair = named[controls.pick("Difference", list(named), "pair", width=420)]
    if why := stored.identical(shown).get(pair):
        st.markdown(f"**{controls.plain(identical_sentence(*pair, why))}.**")
    frame = _changes(shown, metric, pair)
    if frame.empty:
        controls.nothing("Nothing to compare yet", "A cell needs both models.")
        return
    st.caption(
        f"Blue: {controls.plain(pair[1])} is better, orange: {controls.plain(pair[0])}. "
        f"{controls.plain(STARRED.format(alpha=0.05, what='the corrupted cells of the map'))} "
        "A click opens the images."
    )
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
        _open_images(shown, pair, frame, str(picked[0]["corruption"]), float(picked[0]["severity"]))
    with st.expander("The same as a table"):
        _table(frame, metric)


def _open_images(
    shown: Shown, pair: tuple[str, str], frame: pd.DataFrame, corruption: str, severity: float
) -> None:
    """The images of a cell, those first where the model that scores higher finds more."""
    cell = frame[(frame["corruption"] == corruption) & (frame["severity"] == severity)]
    change = float(cell["change"].iloc[0])
    order = "most different" if abs(change) < ABOUT_NOTHING else "right finds more"
    if change <= -ABOUT_NOTHING:
        order = "left finds more"
    under = (
        {} if corruption == CLEAN else {"corruption": humanize(corruption)}
    )  # at 0 every one shows clean images
    chosen = {"right": pair[1], "severity": f"{severity:g}", "order": order, **under}
    controls.go("images", baseline=pair[0], run=shown.name, any="false", **chosen)


def _table(frame: pd.DataFrame, metric: str) -> None:
    rows = frame.assign(
        corruption=frame["corruption"].map(humanize),
        change=[
            starred(format_number(change, signed=True), significant)
            for change, significant in zip(frame["change"], frame["significant"], strict=True)
        ],
    ).drop(columns="significant")
    names = {"change": f"difference in {metric}", "interval": "95 % interval", "p": "p (Holm)"}
    controls.table(rows.rename(columns=names))


def _changes(shown: Shown, metric: str, pair: tuple[str, str]) -> pd.DataFrame:
    """corruption, severity, change (points), interval and p (in words), significant."""
    keys = ["corruption", "severity"]
    wide = stored.scores(shown).pivot_table(index=keys, columns="model", values=metric, sort=False)
    if not set(pair) <= set(wide):
        return pd.DataFrame()
    scores = (wide[pair[1]] - wide[pair[0]]).dropna().rename("change").reset_index()
    table = stored.intervals(shown, metric)
    if table is None:
        return scores.assign(interval="not computed", p="–", significant=False)
    rows = table[
        (table["statistic"] == "score") & (table["baseline"] == pair[0]) & (table["model"] == pair[1])
    ]
    frame = scores[keys].merge(rows, on=keys).dropna(subset="estimate")
    return frame[keys].assign(
        change=frame["estimate"],  # of the trainings that are compared, which may not be all
        interval=[
            controls.span(*ends, signed=True) for ends in zip(frame["low"], frame["high"], strict=True)
        ],
        p=frame["p_holm"].map(format_p_value),
        significant=frame["significant"],
    )
