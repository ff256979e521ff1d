"""HTML to PDF by plutoprint, with the contents' page numbers and bookmarks, which it does not make itself."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Bookmark:
    """A bookmark: the id that it leads to, its text, and those below it."""

    id: str
    title: str
    below: Sequence["Bookmark"] = field(default_factory=tuple)


def make_document(render: Callable[[Mapping[str, int]], str], outline: Sequence[Bookmark]) -> Any:
    """Make a PDF, as a pypdf writer.

    Args:
        render: gives the HTML from the page number of each id; called twice, first without page numbers.
        outline: the bookmarks.
    """
    import pypdf

    first = pypdf.PdfReader(io.BytesIO(render_pdf(render({}))))
    second = render_pdf(render(_pages(first)))
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(second))
    writer.root_object[pypdf.generic.NameObject("/Lang")] = pypdf.generic.TextStringObject("en")
    writer.add_metadata({"/Creator": "robustbench-sgdm"})
    _bookmark(writer, outline, _pages(writer), None)
    return writer


def render_pdf(html: str) -> bytes:
    """Render HTML as a PDF of A4 pages."""
    import plutoprint

    book = plutoprint.Book(plutoprint.PAGE_SIZE_A4, plutoprint.PAGE_MARGINS_NORMAL)
    book.load_html(html, base_url="file:///report.html")  # without it links within the document are dropped
    buffer = io.BytesIO()
    book.write_to_pdf_stream(buffer)
    return buffer.getvalue()


def _pages(document: Any) -> dict[str, int]:
    """The page, from 1, of each named destination."""
    pages = {}
    for name, place in document.named_destinations.items():
        number = document.get_destination_page_number(place)
        if number is not None and number >= 0:
            pages[str(name)] = number + 1
    return pages


def _bookmark(writer: Any, entries: Sequence[Bookmark], pages: Mapping[str, int], parent: Any) -> None:
    for entry in entries:
        if entry.id in pages:
            item = writer.add_outline_item(title=entry.title, page_number=pages[entry.id] - 1, parent=parent)
            _bookmark(writer, entry.below, pages, item)
