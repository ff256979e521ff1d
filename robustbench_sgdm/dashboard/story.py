"""A run told on one screen: the mean curve, the map of differences, its extremes, and images where two models differ.

Each part leads to what it comes from.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import pandas as pd
import streamlit as st

from robustbench_sgdm.core import escaping
from robustbench_sgdm.core.errors import DataError, RobustBenchError
from robustbench_sgdm.dashboard import (
    charts,
    differences,
    gallery,
    image_viewer,
    run_data,
    run_images,
    session,
    widgets,
)
from robustbench_sgdm.dashboard.run_data import RunView
from robustbench_sgdm.robustness import CorruptionSet
from robustbench_sgdm.tables import Ranking, format_number, humanize, starred

_FLIP = "overview: opened flip"


class Chosen(NamedTuple):
    """What the visitor chose.

    Attributes:
        pair: whose difference is shown, the baseline first; None in a run of one model.
        models: that are shown.
        metric: of COCO's twelve.
        family: of corruptions.
    """

    pair: tuple[str, str] | None
    models: list[str]
    metric: str
    family: str


def show_story(view: RunView, chosen: Chosen, over: CorruptionSet, others: Sequence[RunView]) -> None:
    """The mean curve, the map of differences, the best and worst corruptions, and images where the models differ."""
    metric, pair = chosen.metric, chosen.pair
    story = run_data.story(view, metric, run_data.has_resamples(view))
    rankings = [r for r in story.rankings if pair is None or (r.baseline, r.model) == pair]
    left, middle, right = st.columns([1.15, 1.15, 0.9], gap="medium")
    with left:
        _show_curve(view, chosen, over, others)
    with middle:
        if pair is not None:
            _show_map(view, metric, pair, over)
    with right if pair is not None else middle:
        for ranking in rankings[:1] if pair is not None else rankings[:2]:
            _show_extremes(view, ranking, metric, over)
    if pair is not None:
        _show_flips(view, metric, pair, over)


def _show_curve(view: RunView, chosen: Chosen, over: CorruptionSet, others: Sequence[RunView]) -> None:
    """The mean curve of each model, and those of the runs that are compared with, over their own corruptions."""
    metric = chosen.metric
    frame, scope = run_data.mean_curve(view, metric, over.cells, bands=True)
    frames = [frame[frame["model"].isin(chosen.models)]]
    for other in others:
        with widgets.left_out(other.name):
            if (theirs := run_data.corruption_set(other, chosen.family)) is not None:
                curve, _ = run_data.mean_curve(other, metric, theirs.cells, bands=True)
                frames.append(curve.assign(model=[f"{model} @ {other.name}" for model in curve["model"]]))
    frames = [one for one in frames if len(one)]
    if not frames:
        return
    frame = pd.concat(frames, ignore_index=True)
    names = list(dict.fromkeys([*view.run.groups, *frame["model"]]))
    colors = {
        name: color for name, color in widgets.model_colors(names).items() if name in set(frame["model"])
    }
    top = max(5.0, float(frame[["score", "high"]].max().max()) * 1.05)
    st.markdown(f"**Mean {escaping.markdown(metric)}** {escaping.markdown(scope)}")
    chart = charts.severity_curves(
        frame,
        colors,
        scale=charts.CurveScale("severity", top, severity=charts.greatest_severity(frame)),
        metric=metric,
        bands=True,
    )
    charts.show(
        chart, key="mean-curve", alt=f"Mean {metric} against severity, a line for each of {', '.join(colors)}"
    )
    widgets.show_legend(colors)
    if st.button("All curves", key="to_curves", icon=":material/show_chart:", type="tertiary"):
        session.open_page("curves", run=view.name)


def _show_map(view: RunView, metric: str, pair: tuple[str, str], over: CorruptionSet) -> None:
    frame = differences.cell_differences(view, metric, pair)
    frame = frame[frame["corruption"].isin(over.corruptions)] if len(frame) else frame
    if frame.empty:
        st.caption("No cell of both models is complete yet.")
        return
    title = f"{escaping.markdown(pair[1])} − {escaping.markdown(pair[0])}"
    st.markdown(f"**{title}**, points of {escaping.markdown(metric)}")
    chart = charts.difference_map(frame, metric, dark=st.context.theme.type == "dark", compact=True)
    event = charts.show(
        chart,
        on_select="rerun",
        selection_mode="cell",
        key="overview-map",
        alt=f"Heat map of {metric} of {pair[1]} minus {pair[0]}, by corruption and severity",
    )
    significant = " \\* significant." if frame["significant"].any() else ""
    st.caption(f"Blue: better, orange: worse.{significant} Click a cell to see its images.")
    if picked := event["selection"].get("cell"):
        cell = str(picked[0]["corruption"]), float(picked[0]["severity"])
        change = frame.set_index(["corruption", "severity"])["change"].to_dict()[cell]
        differences.open_images(view, pair, *cell, change)


def _show_extremes(view: RunView, ranking: Ranking, metric: str, over: CorruptionSet) -> None:
    """The corruptions under which a model does best and worst; each leads to its images."""
    values = [one for one in ranking.values if one.corruption in over.corruptions]
    if not values:
        return
    own = replace(ranking, values=values)
    what = {"difference": f"difference in {metric}", "loss": f"{metric} lost", "score": metric}[ranking.by]
    pair = (ranking.baseline or ranking.model, ranking.model)
    for title, ones in (("Best", own.best), ("Worst", own.worst)):
        if not ones:
            continue
        st.markdown(f"**{title}** for {escaping.markdown(ranking.model)}, {escaping.markdown(what)}")
        for one in ones:
            signed = ranking.by == "difference"
            value = starred(format_number(one.value, signed=signed), one.significant)
            ends = widgets.format_interval(one.low, one.high, signed=signed)
            interval = f" [{ends}]" if ends != "–" else ""
            if st.button(
                escaping.markdown(f"{humanize(one.corruption)}: {value}{interval}"),
                key=f"extreme {ranking.model} {one.corruption}",
                type="tertiary",
            ):
                sign = one.value if ranking.by == "difference" else 0.0
                differences.open_images(
                    view, pair, one.corruption, _middle_severity(over, one.corruption), sign
                )


def _middle_severity(over: CorruptionSet, corruption: str) -> float:
    levels = sorted(severity for name, severity in over.cells if name == corruption)
    return levels[len(levels) // 2]


@widgets.fragment()
def _show_flips(view: RunView, metric: str, pair: tuple[str, str], over: CorruptionSet) -> None:
    """The report's four images in which only one of the models still finds objects."""
    left, right = view.run.match_trainings(*pair)[0]
    try:
        shown = run_data.flipped_images(view, metric, (left, right), over.cells)
        truth = run_data.ground_truth(view)
    except DataError:  # no ground truth, or scores without detections
        return
    if not shown:
        return
    st.markdown("**Where they differ**")
    items, found = [], {}
    for one in shown:
        boxes = [
            {side: float(getattr(place, side)) for side in ("x", "y", "w", "h")}
            | {"kind": "matched" if finder == right else "missed"}
            for finder, objects in ((one.keeper, one.kept), (one.other, one.lost))
            for place in image_viewer.rows(truth.annotations.iloc[list(objects)])
        ]
        (about,) = image_viewer.rows(truth.images[truth.images["image_id"] == one.image_id])
        number = len(one.kept)
        items.append(
            gallery.GalleryItem(
                one.image_id,
                f"{humanize(one.corruption)}, severity {one.severity:g}",
                int(about.width),
                int(about.height),
                f"only {one.keeper} finds {number} object{'s' * (number != 1)}",
                boxes,
            )
        )
        found[one.image_id] = (one, about, 1.0 if one.keeper == right else -1.0)

    def thumbnail(image_id: int) -> str:
        row, about, _ = found[image_id]
        image = run_images.RunImage.from_manifest(
            view.run.manifest, about, row.corruption, float(row.severity)
        )
        try:
            return run_images.preview_url(image, image_viewer.PREVIEW_SIDE)
        except RobustBenchError:
            return image_viewer.placeholder_url(image.width, image.height)

    may_read = session.may_read_images(view.run.path)
    gallery.show(
        items,
        (0, len(items)),
        thumbnail if may_read else None,
        key="flips",
        on_open=partial(st.session_state.__setitem__, _FLIP),
        columns=len(items),
    )
    if (opened := st.session_state.pop(_FLIP, None)) in found:
        row, _, sign = found[opened]
        differences.open_images(view, pair, row.corruption, float(row.severity), sign, image=opened)
