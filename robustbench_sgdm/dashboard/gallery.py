"""The gallery: a page of thumbnails, whose pictures the visitor's browser asks for when they come into view."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import streamlit as st

from robustbench_sgdm.core import palette
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.dashboard import components

PAGE = 30
"""Thumbnails of a page."""

THUMBNAIL_SIDE = 260  # px

_MAX_ASKED = 10  # thumbnails at a time: the first ones appear while the others are made
_COMPONENT = components.register("gallery")


class GalleryItem(NamedTuple):
    """An image of the gallery.

    `text` is a line about it, `boxes` are drawn over it: x, y, w, h (px of the image) and kind.
    """

    id: int
    name: str
    width: int
    height: int
    text: str
    boxes: Sequence[Mapping[str, Any]]


def show(
    items: Sequence[GalleryItem],
    position: tuple[int, int],
    thumbnail: Callable[[int], str] | None,
    *,
    key: str,
    on_open: Callable[[int], None],
    on_page: Callable[[int], None] = lambda _: None,
    columns: int | None = None,
) -> None:
    """Show one page of images.

    Args:
        items: of this page.
        position: number of the first image among all, from 0, and how many there are in all.
        thumbnail: makes an image's picture, as a data URL; None if no image may be read.
        key: of the widget.
        on_open: gets the id of the image that the visitor clicks.
        on_page: gets the number of the page that the visitor turns to, from 0.
        columns: on a wide screen; by default as many as fit.
    """
    known = {item.id for item in items}
    asked = [int(i) for i in st.session_state.get(key, {}).get("want") or [] if i in known][:_MAX_ASKED]
    data = {
        "items": [
            {**item._asdict(), "name": escape_control_chars(item.name), "boxes": list(item.boxes)}
            for item in items
        ],
        "first": position[0],
        "of": position[1],
        "size": PAGE,
        "thumbs": {str(i): thumbnail(i) for i in asked} if thumbnail else {},
        "columns": columns or 0,
        "lazy": thumbnail is not None,
        "colors": palette.OUTCOME_COLORS,
    }

    def called(name: str, act: Callable[[int], None]) -> None:
        value = st.session_state.get(key, {}).get(name)  # nothing if the visitor left the page meanwhile
        if value is not None:
            act(int(value))

    _COMPONENT(
        key=key,
        data=data,
        on_want_change=lambda: None,
        on_open_change=lambda: called("open", on_open),
        on_page_change=lambda: called("page", on_page),
    )
