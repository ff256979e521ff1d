"""HTML to PDF by plutoprint, with the contents' page numbers and bookmarks, which it does not make itself."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A bookmark: the id it leads to, its text, those below it."""

    id: str
    title: str
    below: Sequence["Entry"] = field(default_factory=tuple)


def document(render: Callable[[Mapping[str, int]], str], outline: Sequence[Entry]) -> Any:
    """A PDF, as pypdf's writer of it.

    Args:
        render: the HTML, given the page of each id that a link leads to; called twice, first without any.
        outline: the bookmarks.
    """
    import pypdf

    first = pypdf.PdfReader(io.BytesIO(printed(render({}))))
    second = printed(render(_pages(first)))
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(second))
    writer.root_object[pypdf.generic.NameObject("/Lang")] = pypdf.generic.TextStringObject("en")
    writer.add_metadata({"/Creator": "robustbench-sgdm"})
    _bookmark(writer, outline, _pages(writer), None)
    return writer


def printed(html: str) -> bytes:
    """A4 pages as the print style says."""
    import plutoprint

    book = plutoprint.Book(plutoprint.PAGE_SIZE_A4, plutoprint.PAGE_MARGINS_NORMAL)
    book.load_html(html, base_url="file:///report.html")  # without it links within the document are dropped
    buffer = io.BytesIO()
    book.write_to_pdf_stream(buffer)
    return buffer.getvalue()


def _pages(document: Any) -> dict[str, int]:
    """The page, from 1, of each named place."""
    found = {}
    for name, place in document.named_destinations.items():
        number = document.get_destination_page_number(place)
        if number is not None and number >= 0:
            found[str(name)] = number + 1
    return found


def _bookmark(writer: Any, entries: Sequence[Entry], pages: Mapping[str, int], parent: Any) -> None:
    for entry in entries:
        if entry.id in pages:
            made = writer.add_outline_item(title=entry.title, page_number=pages[entry.id] - 1, parent=parent)
            _bookmark(writer, entry.below, pages, made)
