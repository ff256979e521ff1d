"""Run: start a run from a form, watch it, stop it. It continues when the browser is closed."""

import os
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from robustbench_sgdm.config import LAYOUT_NAMES, NORMALIZE_NAMES
from robustbench_sgdm.core import escaping, glossary
from robustbench_sgdm.core.constants import BENCHMARK, HOLDOUT
from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.dashboard import jobs, run_data, session, sources, widgets
from robustbench_sgdm.dashboard.pages import page
from robustbench_sgdm.dashboard.run_form import RunForm
from robustbench_sgdm.store import list_runs

EMBEDDED = ["yolov8n-sgdm", "yolov8n"]
GROUPS = ("benchmark", "noise", "blur", "weather", "digital", "edge", "camera", "all")
BRANCHES: dict[str, dict[str, bool]] = {
    "as in Ultralytics' val": {},
    "one-to-one": {"end2end": True},
    "one-to-many": {"no_end2end": True},
}
REFRESH_SECONDS = 2.0
MOST_CARDS, MOST_HISTORY = 6, 200
"""Started runs that are shown whole, and that are listed."""


@page("Start", icon=":material/play_circle:", order=7)
def run() -> None:
    """The form, then the runs that were started here."""
    st.caption(
        "A run continues when you close this page. If it stops, resume it here or start it again in "
        "a terminal."
    )
    _show_form()
    st.subheader("Started here", anchor=False)
    _show_started()


@st.cache_data(ttl=30, show_spinner=False)
def _files(inputs: tuple[Path, ...], endings: tuple[str, ...]) -> list[str]:
    """The files that may be picked; `inputs` are the folders, by which the cache goes."""
    return sources.input_files(endings)


def _show_form() -> None:
    """The settings, checked at every change; the command that they are; what it costs; and a button that starts it."""
    inputs = sources.sources().inputs
    weights = _files(inputs, sources.WEIGHTS)
    with st.container(border=True):
        first, second = st.columns(2)
        with first:
            models = st.multiselect(
                "Models",
                [*EMBEDDED, *weights],
                default=EMBEDDED[:1],
                accept_new_options=True,
                help="Names from `robustbench list models`, or paths of files. A module variant adds its baseline.",
            )
            noise = st.multiselect(
                "Corruptions and groups",
                [*GROUPS, *BENCHMARK, *HOLDOUT],
                default=["gaussian_noise"],
                accept_new_options=True,
                help="Also combinations, such as `fog+gaussian_noise` or `fog@2+gaussian_noise@4`, and a strength in "
                "its own unit, such as `gaussian_noise[sigma=0.15]`.",
            )
            severities = st.text_input(
                "Severities", "0-5", help=f"{glossary.define('severity')} Ranges and numbers."
            )
            baseline = st.selectbox(
                "Baseline",
                ["", *models],
                format_func=lambda name: escape_control_chars(name) or "each variant's own, else the first",
                help=glossary.define("baseline"),
            )
        with second:
            data = st.selectbox(
                "Data",
                ["scenes", "coco", *_files(inputs, sources.DATA)],
                accept_new_options=True,
                format_func=escape_control_chars,
                help="`scenes` (rendered here), `coco`, a COCO json or an Ultralytics dataset YAML.",
            )
            given = st.multiselect(
                "Weights",
                weights,
                accept_new_options=True,
                placeholder="the models' own",
                help="A file for every model, one each in order, or NAME=FILE.",
            )
            fraction = st.slider("Share of the images", 0.02, 1.0, 0.25, 0.01)
            name = st.text_input(
                "Name of the run directory", "from-dashboard", help=glossary.define("run directory")
            )
        with st.expander("More settings"):
            more = _more_settings()
        form = RunForm(models, noise, severities, str(data), given, baseline, fraction=fraction, **more)
        try:
            words = form.to_arguments()
            jobs.check_name(name)
        except RobustBenchError as error:
            st.error(escaping.markdown(error), icon=":material/error:")
            words = []
        else:
            place = jobs.directory_options(sources.sources().project / name)
            st.code(
                escape_control_chars(shlex.join(["robustbench", "run", *words, *place])),
                language=None,
                wrap_lines=True,
            )
        if known := jobs.known_estimate(words):
            st.info(escaping.markdown(known), icon=":material/schedule:")
        with st.container(horizontal=True):
            label = "Estimate the cost again" if known else "Estimate the cost"
            is_estimate = st.button(label, icon=":material/schedule:", disabled=not words)
            is_start = st.button("Start", type="primary", icon=":material/play_arrow:", disabled=not words)
    try:
        if is_estimate:
            with st.spinner("Timing models and corruptions on one image"):
                jobs.estimate_cost(words)
            st.rerun()
        if is_start:
            _start(words, name)
    except RobustBenchError as error:
        st.error(escaping.markdown(error), icon=":material/error:")


def _more_settings() -> dict[str, Any]:
    """What most runs leave as it is."""
    default = RunForm([], [])
    columns = st.columns(3)
    with columns[0]:
        imgsz = st.number_input("Image size, px", 0, 4096, default.imgsz, 32, help="0: the training size.")
        split = st.selectbox("Split", ["val", "train", "test"])
        images = st.text_input(
            "Image folder", help="For a COCO json whose images are not in a usual place beside it."
        )
        seed = st.number_input("Seed", 0, 2**31 - 1, default.seed)
    with columns[1]:
        conf = st.number_input(
            "Confidence threshold",
            0.0,
            1.0,
            default.conf,
            0.001,
            format="%.3f",
            help=glossary.define("confidence threshold"),
        )
        iou = st.number_input(
            "IoU of NMS",
            0.0,
            1.0,
            default.iou,
            0.05,
            help=glossary.define("NMS"),
        )
        max_det = st.number_input("Maximum boxes per image", 1, 10_000, default.max_det)
        runtime = st.selectbox("Runtime of checkpoints", ["pytorch", "auto", "onnx", "openvino", "tensorrt"])
    with columns[2]:
        device = st.text_input("Device", placeholder="the first GPU, else the CPU", help="cpu, cuda, cuda:1")
        batch = st.number_input(
            "Batch", 0, 1024, 0, help="Images per forward pass; 0: 4 on the CPU, 32 on a GPU."
        )
        workers = st.number_input("Worker processes", 0, 256, 0, help="0: threads of one process.")
        no_baseline = st.checkbox("Run variants without their baselines")
        same = st.checkbox(
            "Allow models with identical detections",
            help="For example, an untrained module changes no detection. Without this option, such a run is rejected.",
        )
        half = st.checkbox("Half precision", help="On a GPU only.")
    return _rare_settings() | {
        "imgsz": imgsz,
        "split": split,
        "images": images,
        "seed": seed,
        "conf": conf,
        "iou": iou,
        "max_det": max_det,
        "runtime": runtime,
        "device": device.strip(),
        "batch": batch,
        "workers": workers,
        "no_baseline": no_baseline,
        "allow_identical": same,
        "half": half,
    }


def _rare_settings() -> dict[str, Any]:
    """Of exported files, heads with two branches, other data, and trainings instead of models."""
    left, right = st.columns(2)
    with left:
        classes = st.text_input(
            "Classes of exported files",
            help="Of files that do not name them: names between commas in label order, or a file of them.",
        )
        layout = st.selectbox("Layout of their outputs", ["", *LAYOUT_NAMES], format_func=_or_as_found)
        normalize = st.selectbox("Pixels as they take them", ["", *NORMALIZE_NAMES], format_func=_or_as_found)
    with right:
        branch = st.selectbox(
            "Head of YOLOv10 and YOLO26",
            list(BRANCHES),
            help="One-to-one needs no suppression of overlapping boxes.",
        )
        shift = st.multiselect(
            "Other data",
            [],
            accept_new_options=True,
            placeholder="NAME=DATA",
            help="The models run on these too, such as images at night; they are compared without pairs.",
        )
        from_train = st.text_input(
            "Folder of trainings",
            help="Of `robustbench train`, instead of models: leave Models and Weights empty. Seeds are averaged.",
        )
    return {
        "classes": classes,
        "layout": layout,
        "normalize": normalize,
        "shift": shift,
        "from_train": from_train,
        **BRANCHES[branch],
    }


def _or_as_found(name: str) -> str:
    return name or "as the file says"


def _start(arguments: list[str], name: str) -> None:
    path = jobs.start(arguments, sources.sources().project, name)
    sources.add_run(path)
    st.toast(f"Started {escaping.markdown(path.name)}", icon=":material/play_arrow:")


@widgets.fragment(run_every=REFRESH_SECONDS)
def _show_started() -> None:
    paths = jobs.started_runs(sources.sources().project)
    if not paths:
        widgets.empty_state(
            "No runs started yet", "Runs that you start appear here.", ":material/play_circle:"
        )
    for path in paths[:MOST_CARDS]:
        with st.container(border=True, key=_key("started", path)):
            _show_job(path)
    if older := paths[MOST_CARDS:MOST_HISTORY]:
        with st.expander(f"{len(older):d} older"):
            rows = [{"run": p.name, "started": widgets.local_time(jobs.started_at(p))} for p in older]
            st.caption("Click one to see its state and its log, and to resume it.")
            event = widgets.show_table(
                pd.DataFrame(rows),
                key=f"{_key('older than', paths[0])}-{len(paths):d}",  # with another list nothing is chosen
                on_select="rerun",
                selection_mode="single-cell",
                column_config={
                    "run": st.column_config.TextColumn("Run"),
                    "started": st.column_config.DatetimeColumn("Started", format="D MMM YYYY, HH:mm"),
                },
                alt="Runs that were started here before",
            )
        if picked := event["selection"]["cells"]:
            with st.container(border=True):
                _show_job(older[picked[0][0]])


def _key(what: str, path: Path) -> str:
    """A widget's key for a run. Names that look alike once invisible characters are escaped get different keys."""
    return f"{what}-{os.fsencode(path.name).hex()}"


def _show_job(path: Path) -> None:
    is_running, is_stopping = jobs.is_running(path), jobs.is_stopping(path)
    progress, stages = None, {}
    try:
        opened = run_data.open_run(path.name, path).run
        progress = jobs.job_progress(opened)
        stages = jobs.stages(path, opened, progress)
    except (RobustBenchError, OSError, LookupError, TypeError, ValueError):
        pass
    is_complete = progress is not None and progress.complete == progress.cells
    title, side = st.columns([4, 1], vertical_alignment="center")
    with title:
        state = ":orange[stopping …]" if is_stopping else _state(is_running, progress)
        started = f"{widgets.local_time(jobs.started_at(path)):%d %B, %H:%M}"
        st.markdown(f"**{escaping.markdown(path.name)}** · {state} · started {escaping.markdown(started)}")
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
        elif not is_complete and st.button(
            "Resume", key=_key("resume", path), icon=":material/resume:", width="stretch"
        ):
            _resume(path)
        if (
            not is_running
            and progress
            and progress.complete
            and st.button("Open", key=_key("open", path), icon=":material/leaderboard:", width="stretch")
        ):
            _open(path)
    if progress is not None:
        cells = f"{progress.complete} of {progress.cells} cells complete"
        st.progress(progress.share, f"{cells}{_time_left(path, progress)}" if is_running else cells)
        st.caption(_stages(stages))
    why = "" if is_running or is_complete else jobs.failure_reason(path)
    if why and not why.startswith("stopped;"):  # which the state says already
        st.error(escaping.markdown(why), icon=":material/error:")
    with st.expander("Log"):
        st.code(escape_control_chars(jobs.read_log(path), "\n") or "empty", language=None)


def _stages(stages: dict[str, float]) -> str:
    """Each stage with whether it is done, begun or to come."""
    marks = {
        name: "✓" if share >= 1 else "○" if share == 0 else f"{100 * share:.0f} %"
        for name, share in stages.items()
    }
    return " · ".join(f"{mark} {name}" for name, mark in marks.items())


def _resume(path: Path) -> None:
    """Start a run again as it was started. What its directory says of that is checked like what a visitor types."""
    try:
        words = RunForm.from_arguments(jobs.arguments(path)).to_arguments()
        _start(words, path.name)
    except RobustBenchError as error:
        st.error(escaping.markdown(error), icon=":material/error:")


def _state(is_running: bool, progress: jobs.JobProgress | None) -> str:
    if is_running:
        return ":blue[running]" if progress is not None else ":blue[starting]"
    if progress is None:
        return ":red[failed to start]; see the log"
    if progress.complete == progress.cells:
        return ":green[complete]"
    return ":orange[stopped]"


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
