"""Run: start a run from a form, watch it, stop it. It continues when the browser is closed."""

import os
from pathlib import Path

import streamlit as st

from robustbench_sgdm import corruption
from robustbench_sgdm.config import check_severities
from robustbench_sgdm.core import escaping, parsing
from robustbench_sgdm.core.constants import BENCHMARK, HOLDOUT
from robustbench_sgdm.core.errors import RobustBenchError, UsageError
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.dashboard import jobs, run_data, session, sources, widgets
from robustbench_sgdm.dashboard.pages import page
from robustbench_sgdm.store import list_runs

EMBEDDED = ["yolov8n-sgdm", "yolov8n"]
GROUPS = ("benchmark", "noise", "blur", "weather", "digital", "edge", "camera", "all")
REFRESH_SECONDS = 2.0
MAX_FORM = 10_000
"""Characters that the form takes."""


@page("Run", icon=":material/play_circle:", order=7)
def run() -> None:
    """The form, then the runs that were started here."""
    st.caption(
        "A run continues in its own process when you close this page. If it stops, start it again here or in a "
        "terminal to resume it."
    )
    _show_form()
    st.subheader("Started here", anchor=False)
    _show_started()


def _show_form() -> None:
    with st.form("sweep", border=True):
        first, second = st.columns(2)
        with first:
            models = st.multiselect(
                "Models",
                EMBEDDED,
                default=EMBEDDED[:1],
                accept_new_options=True,
                help="Names from `robustbench list models`, or paths of checkpoints. A module variant adds its baseline.",
            )
            noise = st.multiselect(
                "Corruptions and groups",
                [*GROUPS, *BENCHMARK, *HOLDOUT],
                default=["gaussian_noise"],
                accept_new_options=True,
            )
            severities = st.text_input("Severities", "0-5", help="Ranges and numbers from 0 (clean) to 5.")
        with second:
            data = st.text_input(
                "Data",
                "scenes",
                help="`scenes` (embedded), `coco`, a COCO json or an Ultralytics dataset YAML.",
            )
            fraction = st.slider("Share of the images", 0.02, 1.0, 0.25, 0.01)
            name = st.text_input("Name of the run directory", "from-dashboard")
        same = st.checkbox(
            "Allow models with identical detections",
            help="An untrained module changes nothing. Without this option, such a run is rejected.",
        )
        with st.container(horizontal=True):
            is_estimate = st.form_submit_button("Estimate the cost", icon=":material/schedule:")
            is_start = st.form_submit_button("Start", type="primary", icon=":material/play_arrow:")
    if not (is_estimate or is_start):
        return
    try:
        arguments = _arguments(models, noise, severities, data)
        arguments += ["--fraction", f"{fraction:g}", *["--yes"] * same]
        _estimate(arguments) if is_estimate else _start(arguments, name)
    except RobustBenchError as error:
        st.error(escaping.markdown(error), icon=":material/error:")


def _arguments(models: list[str], noise: list[str], severities: str, data: str) -> list[str]:
    """Arguments of `robustbench run`, parsed as the command line does.

    Raises:
        UsageError: an unknown name, a number out of bounds, a file outside the allowed folders, or code to run.
    """
    texts = [*models, *noise, severities, data]
    if "\0" in "".join(texts):
        raise UsageError("the form contains a null character; remove it")
    if sum(map(len, texts)) > MAX_FORM:
        raise UsageError(
            f"this page takes at most {MAX_FORM:,} characters; name groups of corruptions, or start the run in a terminal"
        )
    named = [*parsing.split_list(models, parsing.find_file), data]
    if bad := [name for name in named if name.startswith("-")]:
        raise UsageError(f"{bad[0]!r} starts with a dash; names do not")
    for name in named:
        folder = name.removeprefix("hf:")
        # Before any check whose message would tell whether such a file exists.
        sources.check_input_path(folder)
    items, selected = parsing.parse_models(models), parsing.split_list(noise)
    levels = check_severities(parsing.parse_severities([severities]))
    if not items or not selected:
        raise UsageError("choose at least one model and one corruption")
    code = [item for item in items if ":" in item and not parsing.find_file(item)]
    if code := [item for item in code if not parsing.is_library_model(item)]:
        raise UsageError(
            f"{code[0]} names code to run, which this page does not allow; start the run in a terminal"
        )
    corruption.load_corruptions().select(selected)
    arguments = [word for item in items for word in ("--model", item)]
    arguments += [word for item in selected for word in ("--noise", item)]
    return [*arguments, "--severity", ",".join(f"{level:g}" for level in levels), "--data", data]


def _estimate(arguments: list[str]) -> None:
    with st.spinner("Timing models and corruptions on one image"):
        text = jobs.estimate_cost(arguments)
    st.info(escaping.markdown(text), icon=":material/schedule:")


def _start(arguments: list[str], name: str) -> None:
    path = jobs.start(arguments, sources.sources().project, name)
    sources.add_run(path)
    st.toast(f"Started {escaping.markdown(path.name)}", icon=":material/play_arrow:")


@widgets.fragment(run_every=REFRESH_SECONDS)
def _show_started() -> None:
    project = sources.sources().project
    paths = jobs.started_runs(project)[:6]
    if not paths:
        widgets.empty_state(
            "No runs started yet", "Runs that you start appear here.", ":material/play_circle:"
        )
    for path in paths:
        with st.container(border=True, key=_key("started", path)):
            _show_job(path)


def _key(what: str, path: Path) -> str:
    """A widget's key for a run. Names that look alike once invisible characters are escaped get different keys."""
    return f"{what}-{os.fsencode(path.name).hex()}"


def _show_job(path: Path) -> None:
    is_running, is_stopping = jobs.is_running(path), jobs.is_stopping(path)
    try:
        progress = jobs.job_progress(run_data.open_run(path.name, path).run)
    except (RobustBenchError, OSError, LookupError, TypeError, ValueError):
        progress = None
    title, side = st.columns([4, 1], vertical_alignment="center")
    with title:
        state = ":orange[stopping …]" if is_stopping else _state(is_running, progress)
        st.markdown(f"**{escaping.markdown(path.name)}** · {state}")
    with side:
        if is_running:
            st.button(
                "Stop",
                key=_key("stop", path),
                icon=":material/stop:",
                disabled=is_stopping,
                on_click=jobs.stop,
                args=(path,),
                width="stretch",
            )
        elif (
            progress
            and progress.complete
            and st.button("Open", key=_key("open", path), icon=":material/leaderboard:", width="stretch")
        ):
            _open(path)
    if progress is not None:
        cells = f"{progress.complete} of {progress.cells} cells complete"
        st.progress(progress.share, f"{cells}{_time_left(path, progress)}" if is_running else cells)
    with st.expander("Log"):
        st.code(escape_control_chars(jobs.read_log(path), "\n") or "empty", language=None)


def _state(is_running: bool, progress: jobs.JobProgress | None) -> str:
    if is_running:
        return ":blue[running]" if progress is not None else ":blue[starting]"
    if progress is None:
        return ":red[failed to start]; see the log"
    if progress.complete == progress.cells:
        return ":green[complete]"
    return ":orange[stopped]; start it again to resume"


def _time_left(path: Path, progress: jobs.JobProgress) -> str:
    """The time left in words, if it is known."""
    seconds = jobs.seconds_left(path, progress)
    if seconds is None:
        return ""
    return f", about {seconds:.0f} s left" if seconds < 90 else f", about {seconds / 60:.0f} min left"


def _open(path: Path) -> None:
    names = {p.resolve(): name for name, p in sources.available_runs().items()}
    if path.resolve() not in names and path in list_runs(sources.sources().project):
        sources.add_run(path)
        names = {p.resolve(): name for name, p in sources.available_runs().items()}
    session.open_page("overview", run=names[path.resolve()])
