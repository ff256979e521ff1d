"""Overview: the verdict, the leaderboard and downloads."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from robustbench_sgdm.core import escaping, glossary
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError, RobustBenchError
from robustbench_sgdm.dashboard import (
    charts,
    differences,
    gallery,
    image_viewer,
    run_data,
    run_images,
    session,
    sources,
    widgets,
)
from robustbench_sgdm.dashboard.pages import page
from robustbench_sgdm.dashboard.run_data import RunView
from robustbench_sgdm.robustness import CorruptionSet
from robustbench_sgdm.store import is_locked, resume_command
from robustbench_sgdm.tables import (
    Ranking,
    Verdict,
    describe_set,
    format_number,
    format_time_ratio,
    humanize,
    identical_sentence,
    judged_pairs,
    starred,
    verdicts,
)

EVERY = "all"
MOST_VERDICTS = 3
"""Comparisons that are told before the details."""
MOST_DOWNLOAD = 2**28
"""Bytes of a report that can be downloaded: the server holds them."""

_FLIP = "overview: opened flip"
SIZES = {"small": "AP_S", "medium": "AP_M", "large": "AP_L"}  # for all objects: the run's own metric
CONDITIONS = {  # on which scores depend beside the model
    "data": "Data",
    "images": "Images",
    "corruptions": "Corruptions",
    "severities": "Severities",
    "imgsz": "Image size",
}


@page("Overview", icon=":material/leaderboard:", order=1)
def overview(view: RunView) -> None:
    """A run's verdict and the leaderboard of its models, with those of other runs on demand."""
    results = run_data.results(view)
    _show_state(view)
    if results.empty:
        widgets.empty_state("No results yet", "Cells appear here as soon as they are complete.")
        return
    view, pair, family, size = _show_filters(view)
    metric = SIZES.get(size) or run_data.primary_metric(view)
    with st.container(key="verdict"):
        verdict = st.empty()
    story = st.empty()
    others = _select_other_runs(view)
    board = st.empty()
    over = _corruption_set(view, family)
    if not run_data.has_cached_intervals(view, metric):  # scores alone come at once
        _show_board(view, family, metric, others, board, None)
    table = run_data.intervals(view, metric)
    with verdict.container():
        _show_verdict(view, metric, over, table)
    if over is not None:
        with story.container(key="story"):
            _show_story(view, metric, pair, over)
    _show_board(view, family, metric, others, board, table)
    if not run_data.has_resamples(view):
        widgets.offer_report(view.run.path, "This run has no confidence intervals yet.")
    elif not view.run.files.is_file("report.pdf"):
        widgets.offer_report(view.run.path, "This run has no report yet.")
    _show_downloads(view, results)


def _show_state(view: RunView) -> None:
    missing = run_data.count_missing_cells(view)
    total = len(view.run.manifest.cells)
    if truth := view.run.manifest.data.ground_truth:
        st.caption(escaping.markdown(truth))
    if not missing:
        return
    done = f"{total - missing} of {total} cells are complete; this page shows those."
    if is_locked(view.run.path):
        st.info(f"{done} The run is in progress.", icon=":material/hourglass_top:")
        return
    try:
        command = resume_command(view.run)
    except DataError as error:
        st.info(
            f"{done} Its manifest does not say which command computes the rest: {escaping.markdown(error)}.",
            icon=":material/hourglass_top:",
        )
        return
    st.info(f"{done} This command computes the rest:", icon=":material/hourglass_top:")
    st.code(command, language="bash", wrap_lines=True)


def _show_filters(view: RunView) -> tuple[RunView, tuple[str, str] | None, str, str]:
    families = list(dict.fromkeys(f for f in run_data.corruption_sets(view).values() if f))
    with widgets.control_bar():
        compared = widgets.select_baseline(view)
        pair = _select_pair(compared)
        family = widgets.segmented_control("Corruptions", [EVERY, *families], "family") if families else EVERY
        size = widgets.segmented_control("Objects", [EVERY, *SIZES], "size")
    return compared, pair, family, size


def _select_other_runs(view: RunView) -> list[str]:
    other_runs = [n for n in sources.available_runs() if n != view.name]
    if not other_runs:
        return []
    return widgets.multiselect(
        "Compare with runs", other_runs, "beside", default=[], placeholder="none", width=420
    )


def _select_pair(view: RunView) -> tuple[str, str] | None:
    """The two models whose difference is shown; None if the run has one model."""
    named = {f"{model} − {baseline}": (baseline, model) for baseline, model in view.run.baseline_pairs}
    if len(named) < 2:
        return next(iter(named.values()), None)
    return named[widgets.selectbox("Difference", list(named), "pair", width=210)]


def _show_board(
    view: RunView, family: str, metric: str, others: list[str], board: Any, table: pd.DataFrame | None
) -> None:
    over = _corruption_set(view, family)
    frames = [_with_intervals(_leaderboard(view, metric, over), table, over)]
    with board.container():
        frames += [other for name in others if (other := _other_run(name, family, metric)) is not None]
        frame = pd.concat(frames).sort_values("mPC", ascending=False, ignore_index=True, kind="stable")
        differ = [name for name in CONDITIONS if frame[name].nunique() > 1]
        if differ:
            names = ", ".join(CONDITIONS[name].lower() for name in differ)
            st.warning(
                f"The rows differ in more than the model: {names}. Their scores are not comparable.",
                icon=":material/compare_arrows:",
            )
        seeds = ["seeds"] if (frame["seeds"] > 1).any() else []
        _show_leaderboard(frame, metric, [*seeds, *(["run"] if len(frames) > 1 else []), *differ])


def _corruption_set(view: RunView, family: str) -> CorruptionSet | None:
    """The set that means are taken over: one family, else the widest."""
    sets = run_data.corruption_sets(view)
    return next(iter([*(over for over, f in sets.items() if f == family), *sets]), None)


def _leaderboard(view: RunView, metric: str, over: CorruptionSet | None) -> pd.DataFrame:
    """A row per model: clean score, mPC, rPC, AP_S, seeds, latency and its ratio, parameters, `CONDITIONS`."""
    frame = run_data.summary(view, metric)
    scores = run_data.pooled_results(view)
    clean = scores[scores["corruption"] == CLEAN].set_index("model")
    rows = frame[frame["over"] == (over.name if over else None)].set_index("model")
    latency = view.run.read_latency().set_index("model")
    manifest = view.run.manifest
    conditions = {
        "data": manifest.data.name,
        "images": manifest.data.images,
        "corruptions": ", ".join(map(humanize, sorted(manifest.corruptions))),
        "severities": ", ".join(f"{s:g}" for s in sorted({cell.severity for cell in view.run.cells})),
    }
    board = []
    for name, trainings in view.run.groups.items():
        info = manifest.models[trainings[0]]
        timed = next((m for m in trainings if m in latency.index), None)
        board.append(
            {
                "run": view.name,
                "model": name,
                "clean": clean[metric].get(name),
                "mPC": rows["mPC"].get(name),
                "rPC": rows["rPC"].get(name),
                "AP_S": clean["AP_S"].get(name),
                "seeds": len(trainings),
                "latency": latency["milliseconds"].get(timed),
                "ratio": _ratio(latency.loc[timed]) if timed else None,
                "parameters": info.parameters / 1e6 if info.parameters is not None else float("nan"),
                **conditions,
                "imgsz": info.imgsz,
            }
        )
    return pd.DataFrame(board).sort_values("mPC", ascending=False, ignore_index=True, kind="stable")


def _ratio(row: Any) -> str:
    if row["low"] == row["high"] == 1:
        return "1"  # the others are timed against this model
    return format_time_ratio(row["ratio"], row["low"], row["high"])


def _with_intervals(
    frame: pd.DataFrame, table: pd.DataFrame | None, over: CorruptionSet | None
) -> pd.DataFrame:
    frame = frame.copy()
    if table is None:
        return frame
    own = table[table["baseline"] == ""]
    mean = over.name if over else ""
    for column, statistic, name in (("clean", "P", ""), ("mPC", "mPC", mean), ("rPC", "rPC", mean)):
        rows = own[(own["statistic"] == statistic) & (own["over"] == name)].set_index("model")
        frame[f"{column} 95 %"] = [
            widgets.format_interval(rows["low"][m], rows["high"][m]) if m in rows.index else "–"
            for m in frame["model"]
        ]
    return frame


def _other_run(name: str, family: str, metric: str) -> pd.DataFrame | None:
    """The leaderboard of another run; None after a warning if it cannot be read."""
    try:
        other = run_data.open_run(name, sources.available_runs()[name])
        over = _corruption_set(other, family)
        return _with_intervals(_leaderboard(other, metric, over), run_data.intervals(other, metric), over)
    except (RobustBenchError, OSError, LookupError, TypeError, ValueError) as error:
        st.warning(
            f"{escaping.markdown(name)} is left out: {escaping.markdown(error)}", icon=":material/error:"
        )
        return None


def _show_leaderboard(frame: pd.DataFrame, metric: str, more: list[str]) -> None:
    column = st.column_config.NumberColumn
    order = ["model", *(c for base in ("clean", "mPC", "rPC") for c in (base, f"{base} 95 %") if c in frame)]
    widgets.show_table(
        frame,
        column_order=[
            *order,
            *(["AP_S"] if metric != "AP_S" else []),
            *(c for c in ("ratio", "latency", "parameters") if frame[c].notna().any()),
            *more,
        ],
        column_config={
            "model": st.column_config.TextColumn("Model", pinned=True),
            "clean": column(f"{metric}, clean", format="%.2f", help=glossary.define("P")),
            "mPC": column(format="%.2f", help=glossary.define("mPC")),
            "rPC": column("rPC, %", format="%.2f", help=glossary.define("rPC")),
            "AP_S": column("AP_S, clean", format="%.2f", help=glossary.define("AP_S")),
            "ratio": st.column_config.TextColumn("Time, ratio", help=glossary.define("time ratio")),
            "latency": column("ms / image", format="%.1f", help=glossary.define("latency")),
            "parameters": column("Parameters, M", format="%.2f", help=glossary.define("parameters")),
            "seeds": column("Seeds", help=glossary.define("seed group")),
            "run": st.column_config.TextColumn("Run"),
            **CONDITIONS,
            **{
                f"{c} 95 %": st.column_config.TextColumn("95 %", help=glossary.define("interval"))
                for c in ("clean", "mPC", "rPC")
            },
        },
        placeholder="–",
        alt="Leaderboard: a row per model, the best under corruption first",
    )
    if frame["latency"].notna().any():
        st.caption(f"Time, ratio: {glossary.define('time ratio')}")


def _show_verdict(view: RunView, metric: str, over: CorruptionSet | None, table: pd.DataFrame | None) -> None:
    """In words: which models may be first, whether the module helps under these corruptions, and how certain that is.

    Args:
        view: the run.
        metric: of the page.
        over: the corruptions.
        table: of the intervals, if there are any.
    """
    same = run_data.identical_pairs(view)
    if table is None:
        for pair, why in same.items():
            st.markdown(f"### {escaping.markdown(identical_sentence(*pair, why))}.")
        if len(same) < len(view.run.baseline_pairs):
            st.markdown(
                "**No verdict yet:** confidence intervals are not computed yet. "
                "Use the button below to compute them."
            )
    else:
        told = verdicts(table, judged_pairs(view.run), metric, over, same)
        if len(view.run.groups) > 2:
            answer = run_data.ranking(view, metric, over.cells if over else ())
            st.markdown(f"### {escaping.markdown(answer)}.")
        for verdict in told[:MOST_VERDICTS]:
            st.markdown(f"### {escaping.markdown(verdict.headline)}.")
        if any(verdict.details for verdict in told) or len(told) > MOST_VERDICTS:
            more = len(told) - MOST_VERDICTS
            others = f", and {more} more comparison{'s' * (more != 1)}" if more > 0 else ""
            with st.expander(f"By family, relative to clean, on clean images{others}"):
                _show_details(told)
    if not view.run.baseline_pairs:
        _show_single_model(_leaderboard(view, metric, over).iloc[0], metric, over)


def _show_details(told: Sequence[Verdict]) -> None:
    for number, verdict in enumerate(told):
        if number >= MOST_VERDICTS:
            st.markdown(f"### {escaping.markdown(verdict.headline)}.")
        elif len(told) > 1:
            st.markdown(f"**{escaping.markdown(verdict.headline)}.**")
        if verdict.details:
            st.markdown("\n".join(f"* {escaping.markdown(detail)}." for detail in verdict.details))


def _show_single_model(row: Any, metric: str, over: CorruptionSet | None) -> None:
    """The scores of a run's only model in words."""
    name, score = escaping.markdown(row["model"]), escaping.markdown(metric)
    if over is None or pd.isna(row["mPC"]):
        reason = (
            "only clean images were run"
            if over is None
            else "cells are missing, or no image has such objects"
        )
        st.markdown(f"**{name}:** no mean under corruption: {reason}.")
        return
    st.markdown(
        f"### {name}: mean {score} of {format_number(row['mPC'])} under {escaping.markdown(describe_set(over))}"
    )
    if pd.notna(row["rPC"]):  # undefined for a clean score of 0
        st.markdown(f"It keeps {format_number(row['rPC'])} % of its clean {score}.")


def _show_story(view: RunView, metric: str, pair: tuple[str, str] | None, over: CorruptionSet) -> None:
    """The mean curve, the map of differences, the best and worst corruptions, and images where the models differ."""
    story = run_data.story(view, metric, run_data.has_resamples(view))
    rankings = [r for r in story.rankings if pair is None or (r.baseline, r.model) == pair]
    left, middle, right = st.columns([1.15, 1.15, 0.9], gap="medium")
    with left:
        _show_curve(view, metric, over)
    with middle:
        if pair is not None:
            _show_map(view, metric, pair, over)
    with right if pair is not None else middle:
        for ranking in rankings[:1] if pair is not None else rankings[:2]:
            _show_extremes(view, ranking, metric, over)
    if pair is not None:
        _show_flips(view, metric, pair, over)


def _show_curve(view: RunView, metric: str, over: CorruptionSet) -> None:
    names = list(view.run.groups)
    frame, scope = run_data.mean_curve(view, metric, over.cells, bands=True)
    if frame.empty:
        return
    top = max(5.0, float(frame[["score", "high"]].max().max()) * 1.05)
    st.markdown(f"**Mean {escaping.markdown(metric)}** {escaping.markdown(scope)}")
    chart = charts.severity_curves(
        frame,
        widgets.model_colors(names),
        scale=charts.CurveScale("severity", top, severity=charts.greatest_severity(frame)),
        metric=metric,
        bands=True,
    )
    charts.show(
        chart, key="mean-curve", alt=f"Mean {metric} against severity, a line for each of {', '.join(names)}"
    )
    widgets.show_legend(names)
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


def _show_downloads(view: RunView, results: pd.DataFrame) -> None:
    with st.container(horizontal=True):
        st.download_button(
            "Results, CSV",
            escaping.csv(results),
            "results.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
        for name, mime, kind in (
            ("report.pdf", "application/pdf", "PDF"),
            ("report.html", "text/html", "HTML"),
        ):
            if (about := view.run.files.stat(name)) and about.st_size <= MOST_DOWNLOAD:
                # Of a run that is not complete, cells may have been added since.
                of = f" of {_format_time(about.st_mtime)}" if run_data.count_missing_cells(view) else ""
                st.download_button(
                    f"Report{of}, {kind}",
                    partial(view.run.files.read_bytes, name, MOST_DOWNLOAD),
                    name,
                    mime,
                    icon=":material/description:",
                    on_click="ignore",
                )


def _format_time(time: float) -> str:
    return f"{widgets.local_time(time):%d %B %Y, %H:%M}"
