"""Overview: the verdict, the leaderboard and downloads."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from robustbench_sgdm import robustness
from robustbench_sgdm.core import escaping, glossary
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.dashboard import run_controls, run_data, session, sources, widgets
from robustbench_sgdm.dashboard.pages import page
from robustbench_sgdm.dashboard.run_data import RunView
from robustbench_sgdm.dashboard.story import Chosen, show_story
from robustbench_sgdm.robustness import CorruptionSet
from robustbench_sgdm.store import is_locked, resume_command
from robustbench_sgdm.tables import (
    Verdict,
    describe_set,
    format_number,
    format_time_ratio,
    humanize,
    identical_sentence,
    judged_pairs,
    verdicts,
)

MOST_VERDICTS = 3
"""Comparisons that are told before the details."""
MOST_DOWNLOAD = 2**28
"""Bytes of a report that can be downloaded: the server holds them."""

MOST_ROWS = 20
"""Of the leaderboard, before it scrolls."""

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
    view, chosen = _select(view)
    with st.container(key="verdict"):
        verdict = st.empty()
    story = st.empty()
    others = _open_other_runs(view)
    board = st.empty()
    over = run_data.corruption_set(view, chosen.family)
    if not run_data.has_cached_intervals(view, chosen.metric):  # scores alone come at once
        _show_board(view, chosen, others, board, None)
    table = run_data.intervals(view, chosen.metric)
    with verdict.container():
        _show_verdict(view, chosen, over, table)
    if over is not None:
        with story.container(key="story"):
            show_story(view, chosen, over, others)
    _show_board(view, chosen, others, board, table)
    if not run_data.has_resamples(view):
        widgets.offer_report(view.run.path, "This run has no confidence intervals yet.")
    elif not view.run.files.is_file("report.pdf"):
        widgets.offer_report(view.run.path, "This run has no report yet.")
    elif view.run.is_outdated("report.pdf"):
        widgets.offer_report(view.run.path, "The report is older than the results.")
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


def _select(view: RunView) -> tuple[RunView, Chosen]:
    """The run with the chosen baseline, and what else is chosen."""
    families = list(dict.fromkeys(f for f in run_data.corruption_sets(view).values() if f))
    with run_controls.control_bar():
        compared = run_controls.select_baseline(view)
        pair = run_controls.select_pair(compared)
        models = run_controls.select_models(list(view.run.groups)) or list(view.run.groups)
        metric = run_controls.select_metric(run_data.primary_metric(view))
        family = run_controls.select_family(families)
    return compared, Chosen(pair, models, metric, family)


def _open_other_runs(view: RunView) -> list[RunView]:
    """The runs that the visitor compares with; a warning for each that cannot be read."""
    paths = sources.available_runs()
    names = [name for name in paths if name != view.name]
    if not names:
        return []
    chosen = widgets.multiselect(
        "Compare with runs", names, "beside", default=[], placeholder="none", width=420
    )
    views = []
    for name in chosen:
        with widgets.left_out(name):
            other = run_data.open_run(name, paths[name])
            run_data.results(other)
            views.append(other)
    return views


def _show_board(
    view: RunView, chosen: Chosen, others: Sequence[RunView], board: Any, table: pd.DataFrame | None
) -> None:
    metric, over = chosen.metric, run_data.corruption_set(view, chosen.family)
    own = _leaderboard(view, metric, over)
    frames = [_with_intervals(own[own["model"].isin(chosen.models)], table, over)]
    with board.container():
        for other in others:
            with widgets.left_out(other.name):
                theirs = run_data.corruption_set(other, chosen.family)
                rows = _leaderboard(other, metric, theirs)
                frames.append(_with_intervals(rows, run_data.intervals(other, metric), theirs))
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
        height=38 + 35 * min(len(frame), MOST_ROWS),
        placeholder="–",
        alt="Leaderboard: a row per model, the best under corruption first",
    )
    if frame["latency"].notna().any():
        st.caption(f"Time, ratio: {glossary.define('time ratio')}")


def _show_verdict(
    view: RunView, chosen: Chosen, over: CorruptionSet | None, table: pd.DataFrame | None
) -> None:
    """In words: which models may be first, whether the module helps under these corruptions, and how certain that is.

    Args:
        view: the run.
        chosen: on the page.
        over: the corruptions.
        table: of the intervals, if there are any.
    """
    same, metric = run_data.identical_pairs(view), chosen.metric
    if table is None:
        for pair, why in same.items():
            _show_headline(view, identical_sentence(*pair, why), pair)
        if len(same) < len(view.run.baseline_pairs):
            _explain_no_verdict(metric)
    else:
        pairs = [pair for pair in judged_pairs(view.run) if pair[1] in chosen.models]
        told = verdicts(table, pairs, metric, over, same)
        if len(view.run.groups) > 2:
            answer = run_data.ranking(view, metric, over.cells if over else ())
            _show_headline(view, answer, chosen.pair)
        for verdict in told[:MOST_VERDICTS]:
            _show_headline(view, verdict.headline, (verdict.baseline, verdict.model))
        if any(verdict.details for verdict in told) or len(told) > MOST_VERDICTS:
            more = len(told) - MOST_VERDICTS
            others = f", and {more} more comparison{'s' * (more != 1)}" if more > 0 else ""
            with st.expander(f"By family, relative to clean, on clean images{others}"):
                _show_details(told)
    if not view.run.baseline_pairs:
        _show_single_model(view, _leaderboard(view, metric, over).iloc[0], metric, over)


def _show_headline(view: RunView, sentence: str, pair: tuple[str, str] | None) -> None:
    """A sentence of the verdict, with a link to the cells that it is the mean of."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.markdown(f"### {escaping.markdown(sentence)}.", width="stretch")
        if st.button("See its cells", key=f"cells of {sentence}", icon=":material/grid_on:", type="tertiary"):
            session.open_page("curves", {"pair": f"{pair[1]} − {pair[0]}"} if pair else {}, run=view.name)


def _explain_no_verdict(metric: str) -> None:
    if metric in robustness.METRICS:
        st.markdown(
            "**No verdict yet:** confidence intervals are not computed yet. "
            "Use the button below to compute them."
        )
    else:
        names = ", ".join(robustness.METRICS)
        st.markdown(
            f"**No verdict:** {escaping.markdown(f'{metric} has no intervals; choose one of {names}')}."
        )


def _show_details(told: Sequence[Verdict]) -> None:
    for number, verdict in enumerate(told):
        if number >= MOST_VERDICTS:
            st.markdown(f"### {escaping.markdown(verdict.headline)}.")
        elif len(told) > 1:
            st.markdown(f"**{escaping.markdown(verdict.headline)}.**")
        if verdict.details:
            st.markdown("\n".join(f"* {escaping.markdown(detail)}." for detail in verdict.details))


def _show_single_model(view: RunView, row: Any, metric: str, over: CorruptionSet | None) -> None:
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
    mean = f"mean {metric} of {format_number(row['mPC'])} under {describe_set(over)}"
    _show_headline(view, f"{row['model']}: {mean}", None)
    if pd.notna(row["rPC"]):  # undefined for a clean score of 0
        st.markdown(f"It keeps {format_number(row['rPC'])} % of its clean {score}.")


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
                is_old = view.run.is_outdated(name) or run_data.count_missing_cells(view) > 0
                of = f" of {_format_time(about.st_mtime)}" if is_old else ""
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
