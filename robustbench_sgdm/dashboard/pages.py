"""The dashboard's pages: a function in a file of `app/views/` that `@page(...)` declares. A new file adds one."""

import inspect
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import streamlit as st

from robustbench_sgdm.core import escaping, resources
from robustbench_sgdm.core.errors import DataError, RobustBenchError
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.dashboard import run_controls, run_data, session, sources, widgets

Function = TypeVar("Function", bound=Callable[..., None])

_LOG = logging.getLogger(__name__)
_TAG = "__page__"
_DAMAGE = (OSError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError)


@dataclass(frozen=True)
class Page:
    """A declared page.

    Attributes:
        name: of its file, and in the address.
        title: in the menu.
        icon: as Streamlit names it.
        order: in the menu; the first page opens first.
        function: draws it. If it takes an argument, this is the `RunView` of the run that the visitor selects at the top.
    """

    name: str
    title: str
    icon: str
    order: int
    function: Callable[..., None]

    @property
    def needs_run(self) -> bool:
        """Whether the page is about one run."""
        return bool(inspect.signature(self.function).parameters)


def page(title: str, *, icon: str, order: int = 99) -> Callable[[Function], Function]:
    """Declare a function as the page of its file; arguments as `Page`'s."""

    def declare(function: Function) -> Function:
        name = Path(function.__code__.co_filename).stem
        setattr(function, _TAG, Page(name, title, icon, order, function))
        return function

    return declare


def load_pages(folder: Path) -> tuple[list[Page], list[str]]:
    """The pages of a folder in their order, and what is wrong with files that declare none.

    A file whose name starts with `_` is skipped.
    """
    pages, problems = [], []
    for file in sorted(folder.glob("[!_]*.py")):
        try:
            pages.append(load_page(file))
        except DataError as error:
            problems.append(str(error))
    return sorted(pages, key=lambda one: (one.order, one.name)), problems


def load_page(file: Path) -> Page:
    """The page that a file declares.

    Raises:
        DataError: the file cannot be imported, or declares no page or several.
    """
    tags = [getattr(thing, _TAG, None) for thing in vars(resources.import_file(file)).values()]
    declared = [tag for tag in tags if isinstance(tag, Page) and tag.name == file.stem]
    if len(declared) != 1:
        raise DataError(f"{file} declares {len(declared)} pages with @page(...); declare one in each file")
    return declared[0]


def show_page(page: Page) -> None:
    """Draw a page. Errors become messages, and the app keeps running."""
    with errors_shown(page):
        if page.needs_run:
            _show_run_page(page)
        else:
            page.function()


def _show_run_page(page: Page) -> None:
    """A page about one run, selected at its top; without any run, how to make one."""
    runs = sources.available_runs()
    if not runs:
        widgets.empty_state(
            "No runs yet",
            "Start one on the page **Start**, or in a terminal:\n\n"
            "`robustbench run --model yolov8n-sgdm --noise gaussian`\n\n"
            "This measures the bundled detector and its baseline under Gaussian noise, in a few minutes.",
        )
        if st.button("Start a run", type="primary", icon=":material/play_circle:"):
            session.open_page("run")
        return
    with st.container(key="facts", horizontal=True, vertical_alignment="center"):
        facts = st.container(width="stretch")
        run_controls.copy_link()
    with run_controls.frame() as bar:
        with bar:
            name = run_controls.select_run(list(runs))
        view = run_data.open_run(name, runs[name])
        facts.caption(escaping.markdown(_facts(view)))
        page.function(view)


def _facts(view: run_data.RunView) -> str:
    """What the run is of, in a line."""
    manifest = view.run.manifest
    data, corruptions = manifest.data, len(manifest.corruptions)
    models = len(view.run.groups)
    return (
        f"{data.name} · {data.images:,} images · {data.boxes:,} objects · "
        f"{models} model{'s' * (models != 1)} · {corruptions} corruption{'s' * (corruptions != 1)} · "
        f"seed {manifest.settings.seed:d}"
    )


@contextmanager
def errors_shown(page: Page) -> Iterator[None]:
    """Show errors of a page's data as messages; a traceback goes to the log."""
    try:
        yield
    except RobustBenchError as error:
        _show_error("This cannot be shown", str(error))
    except _DAMAGE as error:
        text = escape_control_chars(traceback.format_exc(), "\n")  # it holds names from files
        _LOG.error("the page %s failed\n%s", page.title, text)
        title, others = (
            (
                "This run cannot be read",
                "Other runs are not affected. Run the same command again to repair it.",
            )
            if page.needs_run
            else (f"The page {page.title} cannot be shown", "Other pages are not affected.")
        )
        _show_error(
            title, f"{type(error).__name__}: {error}. A file is missing, incomplete or damaged. {others}"
        )


def _show_error(title: str, text: str) -> None:
    with st.container(border=True, key="error"):
        st.markdown(f"### :material/error: {escaping.markdown(title)}")
        st.markdown(escaping.markdown(text))
        if st.button("Try again", icon=":material/refresh:"):
            st.rerun()
