"""What a visitor did in this session: opened an address, clicked, confirmed what an address alone may not start."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import streamlit as st

_OPENED_AT = "opened at"
_CONFIRMED = "confirmed: {}"
WANTED = "{}: wanted"
"""Session key for the value that a widget of the next page gets."""


def record_visit(page: str) -> None:
    """Record that the visitor is on a page; if the address opened another one, a click led here."""
    if st.session_state.setdefault(_OPENED_AT, page) != page:
        record_interaction()


def record_interaction() -> None:
    """Record that the visitor clicked."""
    st.session_state[_OPENED_AT] = None


def has_interacted() -> bool:
    """Whether the visitor clicked, so that what is shown does not come from the opened address alone."""
    return st.session_state.get(_OPENED_AT) is None


def confirm(*what: str) -> None:
    """Record that the visitor asked for things that cost time or trust."""
    for one in what:
        st.session_state[_CONFIRMED.format(one)] = True


def weights_of(run: Path) -> str:
    """What is confirmed before weights that a run names are loaded."""
    return f"weights of {run}"


def is_confirmed(what: Collection[str], text: str, label: str) -> bool:
    """Whether the visitor asked for what an address alone may not start; else show a button that does.

    Args:
        what: each identifies a thing in this session.
        text: what would happen, in Markdown.
        label: of the button.
    """
    if all(_CONFIRMED.format(one) in st.session_state for one in what):
        return True
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(text, width="stretch")
        st.button(label, on_click=confirm, args=tuple(what), type="primary")
    return False


def forward(name: str) -> None:
    """Switch to another page because the address means that one; the visitor has clicked nothing."""
    st.session_state.pop(_OPENED_AT, None)
    _switch(name, {key: st.query_params.get_all(key) for key in st.query_params})


def _switch(name: str, query: Mapping[str, str | list[str]]) -> None:
    if pages := st.session_state.get("pages"):  # nothing if the visitor left during the run
        st.switch_page(pages[name], query_params=query)


def may_read_images(run: Path) -> bool:
    """Whether files of images that a run names may be read; the opened address alone does not read any.

    Shows a button that allows it if they may not.
    """
    return has_interacted() or is_confirmed(
        [f"images of {run}"],
        "Images are not shown yet, because they are read from the files that this run names.",
        "Show the images",
    )


def open_page(name: str, choices: Mapping[str, Any] | None = None, **query: str) -> None:
    """Switch to another page.

    Args:
        name: of the page's file.
        choices: of that page's widgets, by their keys. Not through the address: Streamlit lets only this page's widgets
            write what they have in it.
        query: of the address, what no widget of this page has.
    """
    for key in query:  # Streamlit prefers what the session holds to an address that says the default
        st.session_state.pop(key, None)
    for key, choice in (choices or {}).items():
        st.session_state[WANTED.format(key)] = choice
    _switch(name, query)
