"""Runs: every stored run with its date, data, models, state and verdict; a click opens it."""

import pandas as pd
import streamlit as st

from robustbench_sgdm.dashboard import run_list, session, sources, widgets
from robustbench_sgdm.dashboard.pages import page
from robustbench_sgdm.dashboard.run_list import RunSummary

REFRESH_SECONDS = 1.0


@page("Runs", icon=":material/list_alt:", order=0)
def runs() -> None:
    """The list; an address that names a run, or of a single run, leads to that run at once."""
    paths = sources.available_runs()
    if not session.has_interacted() and (len(paths) < 2 or "run" in st.query_params):
        session.forward("overview")
    if not paths:
        widgets.empty_state("No runs yet", "Start one on the page **Start**.", ":material/play_circle:")
        return
    rows = run_list.summaries(paths.values())
    is_pending = any(row.is_pending for row in rows)
    widgets.fragment(REFRESH_SECONDS if is_pending else None)(_show_list)(is_pending)


def _show_list(was_pending: bool) -> None:
    text = st.text_input(
        "Search",
        key="find_run",
        bind=widgets.QUERY,
        width=420,
        max_chars=200,
        placeholder="name, data, model, state or verdict",
    )
    paths = sources.available_runs()
    rows = run_list.summaries(paths.values())
    if was_pending and not any(row.is_pending for row in rows):
        st.rerun()  # as a page that refreshes no more
    names = {path: name for name, path in paths.items()}
    words = str(text or "").lower().split()
    found = [row for row in rows if all(word in _text(names[row.path], row) for word in words)]
    count = f"{len(rows)} runs" if len(found) == len(rows) else f"{len(found)} of {len(rows)} runs"
    left_out = f"; the newest {run_list.MOST_RUNS:,} of {len(paths):,}" if len(paths) > len(rows) else ""
    st.caption(f"{count}{left_out}, newest first. Click one to open it.")
    if not found:
        widgets.offer_to_clear("**No run has all of these words.**", "find_run")
        return
    column = st.column_config
    event = widgets.show_table(
        pd.DataFrame([_cells(names[row.path], row) for row in found]),
        key="runs",
        on_select="rerun",
        selection_mode="single-cell",
        height=min(38 + 35 * len(found), 720),
        column_config={
            "run": column.TextColumn("Run", pinned=True),
            "date": column.DatetimeColumn("Date", format="D MMM YYYY, HH:mm"),
            "verdict": column.TextColumn("Verdict", width=420),
            "state": column.TextColumn("State"),
            "done": column.ProgressColumn("Cells", format="percent", min_value=0.0, max_value=1.0),
            "data": column.TextColumn("Data"),
            "images": column.NumberColumn("Images", format="localized"),
            "models": column.TextColumn("Models"),
            "corruptions": column.NumberColumn("Corruptions"),
        },
        placeholder="–",
        alt="Stored runs, newest first, with date, data, models, state and verdict",
    )
    if picked := event["selection"]["cells"]:
        session.record_interaction()
        session.open_page("overview", run=names[found[picked[0][0]].path])


def _text(name: str, row: RunSummary) -> str:
    return " ".join((name, row.data, *row.models, row.state, row.verdict)).lower()


def _cells(name: str, row: RunSummary) -> dict[str, object]:
    return {
        "run": name,
        "date": widgets.local_time(row.modified),
        "verdict": row.verdict or ("…" if row.is_pending else None),
        "state": row.state or ("…" if row.is_pending else None),
        "done": row.done / row.cells if row.cells else None,
        "data": row.data or None,
        "images": row.images if row.cells else None,
        "models": ", ".join(row.models) or None,
        "corruptions": row.corruptions if row.cells else None,
    }
