"""The dashboard: its pages, the run they show, and what a visitor sees when something is wrong.

Started by `robustbench dashboard`, which passes the run directories and folders that may be read, and which keeps
out who lacks the token (`robustbench_sgdm.cli.access`).
"""

import logging
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

from robustbench_sgdm.core import resources
from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.core.untrusted_input import escape_control_chars

APP = resources.root() / "app"

if TYPE_CHECKING:
    from app import controls, stored
else:
    controls = resources.import_file(APP / "controls.py")
    stored = resources.import_file(APP / "stored.py")

_LOG = logging.getLogger(__name__)
_DAMAGE = (OSError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError)

PAGES = (  # file, title, icon, whether it shows one run
    ("overview", "Overview", ":material/leaderboard:", True),
    ("curves", "Curves", ":material/show_chart:", True),
    ("images", "Images", ":material/compare:", True),
    ("live", "Live", ":material/photo_camera:", False),
    ("training", "Training", ":material/trending_down:", False),
    ("paper", "Paper", ":material/article:", False),
    ("run", "Run", ":material/play_circle:", False),
)


def main() -> None:
    """Lay out the pages and run the one that the address names."""
    st.set_page_config(page_title="RobustBench-SGDM", page_icon=APP / "icon.png", layout="wide")
    st.html(APP / "page.css")
    if st.context.theme.type == "dark":
        st.html(APP / "dark.css")
    pages = {name: _page(name, title, icon, of_run) for name, title, icon, of_run in PAGES}
    st.session_state["pages"] = pages
    page = st.navigation(list(pages.values()), position="top")
    with st.container(key="title"):  # where the menu is folded and does not say it
        st.subheader(page.title, anchor=False)
    controls.arrive(page.title)
    page.run()


def _page(name: str, title: str, icon: str, of_run: bool) -> "st.Page":
    def body() -> None:
        guarded(title, lambda: _of_run(name) if of_run else _view(name)(), of_run)

    return st.Page(body, title=title, icon=icon, url_path=name, default=name == PAGES[0][0])


def _view(name: str) -> Callable[..., None]:
    view: Callable[..., None] = resources.import_file(APP / "views" / f"{name}.py").page
    return view


def _of_run(name: str) -> None:
    """A page about one run, chosen at its top; without any run, how to make one."""
    listed = stored.listed()
    if not listed:
        controls.nothing(
            "No run here yet",
            "The page **Run** makes one, or a terminal does:\n\n"
            "`robustbench run --model yolov8n-sgdm --noise gaussian`\n\n"
            "measures the embedded detector and its baseline under Gaussian noise, in a few minutes.",
        )
        if st.button("Make it here", type="primary", icon=":material/play_circle:"):
            controls.go("run")
        return
    chosen = controls.pick_run(list(listed))
    _view(name)(stored.show(chosen, listed[chosen]))


def guarded(title: str, body: Callable[[], None], of_run: bool) -> None:
    """Show a page; what is wrong with its data becomes words, and the app stays up."""
    try:
        body()
    except RobustBenchError as error:
        _sorry("This cannot be shown", str(error))
    except _DAMAGE as error:
        told = escape_control_chars(traceback.format_exc(), "\n")  # names from files are in it
        _LOG.error("the page %s failed\n%s", title, told)
        what, rest = (
            ("This run cannot be read", "runs are not affected, and running the same command again mends it")
            if of_run
            else (f"The page {title} cannot be shown", "pages are not affected")
        )
        _sorry(
            what,
            f"{type(error).__name__}: {error}. A file is missing, half written or not what it should be; "
            f"the other {rest}.",
        )


def _sorry(title: str, text: str) -> None:
    with st.container(border=True, key="sorry"):
        st.markdown(f"### :material/error: {controls.plain(title)}")
        st.markdown(controls.plain(text))
        if st.button("Try again", icon=":material/refresh:"):
            st.rerun()


main()
