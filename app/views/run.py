"""Run: start a sweep from a form, watch it, stop it; it goes on when the browser is closed."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from robustbench_sgdm import corruption
from robustbench_sgdm.cli import options
from robustbench_sgdm.core import resources
from robustbench_sgdm.core.constants import BENCHMARK, HOLDOUT
from robustbench_sgdm.core.errors import RobustBenchError, UsageError
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.store import list_runs

if TYPE_CHECKING:
    from app import controls, processes, stored
else:
    controls = resources.import_file(resources.root() / "app" / "controls.py")
    stored = resources.import_file(resources.root() / "app" / "stored.py")
    processes = resources.import_file(resources.root() / "app" / "processes.py")

EMBEDDED = ["yolov8n-sgdm", "yolov8n"]
GROUPS = ("benchmark", "noise", "blur", "weather", "digital", "edge", "all")
EVERY = 2.0  # s between looks at the store
_LONGEST = 10_000  # characters of the form


def page() -> None:
    """The form, then what runs or ran."""
    st.caption(
        "A run works in a process of its own: it goes on when this page is closed, and `robustbench run` in a "
        "terminal goes on where it stopped."
    )
    _form()
    st.subheader("Started here", anchor=False)
    _watch()


def _form() -> None:
    with st.form("sweep", border=True):
        first, second = st.columns(2)
        with first:
            models = st.multiselect(
                "Models",
                EMBEDDED,
                default=EMBEDDED[:1],
                accept_new_options=True,
                help="Names of `robustbench list models`, or paths of checkpoints; a module variant brings its baseline.",
            )
            noise = st.multiselect(
                "Corruptions and groups",
                [*GROUPS, *BENCHMARK, *HOLDOUT],
                default=["gaussian_noise"],
                accept_new_options=True,
            )
            severities = st.text_input("Severities", "0-5", help="0 is clean; ranges and real numbers to 5.")
        with second:
            data = st.text_input(
                "Data", "scenes", help="scenes (embedded), coco, a COCO json or an Ultralytics dataset YAML."
            )
            fraction = st.slider("Share of the images", 0.02, 1.0, 0.25, 0.01)
            name = st.text_input("Name of the run directory", "from-dashboard")
        same = st.checkbox(
            "Run also models that detect the same",
            help="A module that was never trained changes nothing; without this such a run is refused.",
        )
        with st.container(horizontal=True):
            cost = st.form_submit_button("What would it cost?", icon=":material/schedule:")
            go = st.form_submit_button("Start", type="primary", icon=":material/play_arrow:")
    if not (cost or go):
        return
    try:
        arguments = _arguments(models, noise, severities, data)
        arguments += ["--fraction", f"{fraction:g}", *["--yes"] * same]
        _cost(arguments) if cost else _start(arguments, name)
    except RobustBenchError as error:
        st.error(controls.plain(error), icon=":material/error:")


def _arguments(models: list[str], noise: list[str], severities: str, data: str) -> list[str]:
    """The command's, read as the command line reads them; files only of the folders that this page may use.

    Raises:
        UsageError: a name that is not known, a number out of bounds, a file elsewhere, a detector of the user's code.
    """
    given = [*models, *noise, severities, data]
    if "\0" in "".join(given):
        raise UsageError("what is given holds a null character, which no name and no number does")
    if sum(map(len, given)) > _LONGEST:
        raise UsageError(
            f"this page takes at most {_LONGEST:,} characters; start the run in a terminal, or by groups of corruptions"
        )
    named = [*options.split(models, options.find_file), data]
    if bad := [name for name in named if name.startswith("-")]:
        raise UsageError(f"{bad[0]!r} starts with a dash, which is no name")
    for name in named:
        stored.check_input(
            name
        )  # first: what else is said of a file elsewhere would tell whether it is there
    items, selected, levels = options.models(models), options.split(noise), options.severities([severities])
    if not items or not selected:
        raise UsageError("choose at least one model and one corruption")
    if code := [item for item in items if ":" in item and not options.find_file(item)]:
        raise UsageError(f"{code[0]} names code to run; a page runs none, so start it in a terminal")
    corruption.load_corruptions().select(selected)
    arguments = [word for item in items for word in ("--model", item)]
    arguments += [word for item in selected for word in ("--noise", item)]
    return [*arguments, "--severity", ",".join(f"{level:g}" for level in levels), "--data", data]


def _cost(arguments: list[str]) -> None:
    with st.spinner("Timing the models and corruptions on one image"):
        text = processes.estimate(arguments)
    st.info(controls.plain(text), icon=":material/schedule:")


def _start(arguments: list[str], name: str) -> None:
    path = processes.start(arguments, stored.sources().project, name)
    stored.remember(path)
    st.toast(f"Started {controls.plain(path.name)}", icon=":material/play_arrow:")


@controls.fragment(run_every=EVERY)
def _watch() -> None:
    project = stored.sources().project
    ordered = processes.started(project)[:6]
    if not ordered:
        controls.nothing(
            "Nothing started yet", "What is started above appears here.", ":material/play_circle:"
        )
    for path in ordered:
        with st.container(border=True, key=_key("started", path)):
            _one(path)


def _key(what: str, path: Path) -> str:
    """Of a run's own: two names that look alike when what cannot be seen is written out must not share one."""
    return f"{what}-{os.fsencode(path.name).hex()}"


def _one(path: Path) -> None:
    works, stops = processes.running(path), processes.stopping(path)
    try:
        at = processes.progress(stored.show(path.name, path).run)
    except (RobustBenchError, OSError, LookupError, TypeError, ValueError):
        at = None
    title, side = st.columns([4, 1], vertical_alignment="center")
    with title:
        st.markdown(
            f"**{controls.plain(path.name)}** · {':orange[stopping …]' if stops else _state(works, at)}"
        )
    with side:
        if works:
            st.button(
                "Stop",
                key=_key("stop", path),
                icon=":material/stop:",
                disabled=stops,
                on_click=processes.stop,
                args=(path,),
                width="stretch",
            )
        elif (
            at
            and at.complete
            and st.button("Open", key=_key("open", path), icon=":material/leaderboard:", width="stretch")
        ):
            _open(path)
    if at is not None:
        st.progress(at.share, _left(path, at) if works else f"{at.complete} of {at.cells} cells complete")
    with st.expander("Log"):
        st.code(escape_control_chars(processes.log(path), "\n") or "empty so far", language=None)


def _state(works: bool, at: "processes.Progress | None") -> str:
    if works:
        return ":blue[running]" if at is not None else ":blue[starting]"
    if at is None:
        return ":red[ended before it began; the log says why]"
    return ":green[complete]" if at.complete == at.cells else ":orange[stopped]; start it again to go on"


def _left(path: Path, at: "processes.Progress") -> str:
    """Cells, and the time left at the pace so far."""
    text = f"{at.complete} of {at.cells} cells complete"
    left = processes.seconds_left(path, at)
    if left is not None:
        text += f", about {left:.0f} s left" if left < 90 else f", about {left / 60:.0f} min left"
    return text


def _open(path: Path) -> None:
    listed = {p.resolve(): name for name, p in stored.listed().items()}
    if path.resolve() not in listed and path in list_runs(stored.sources().project):
        stored.remember(path)
        listed = {p.resolve(): name for name, p in stored.listed().items()}
    controls.go("overview", run=listed[path.resolve()])
