"""HTML to PDF by plutoprint, with what it does not do itself: contents with page numbers, bookmarks, and full pages."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import jinja2

from robustbench_sgdm import figures
from robustbench_sgdm.figures import fonts

PageSize = Literal["A4", "Letter"]

_EMPTY_IMAGE = figures.data_uri('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
_TIGHTEST = 3  # of the first page's styles


class Font(NamedTuple):
    """A font file of the page."""

    family: str
    weight: int
    uri: str


FONTS = (
    Font("Report", 400, (fonts.FOLDER / "text" / "NotoSans-Regular.ttf").as_uri()),
    Font("Report", 700, (fonts.FOLDER / "text" / "NotoSans-Bold.ttf").as_uri()),
    Font("Report Mono", 400, fonts.DEJAVU.with_name("DejaVuSansMono.ttf").as_uri()),
    Font("Fallback", 400, fonts.DEJAVU.as_uri()),
)
"""They come with the package and with matplotlib, so that a PDF looks the same on every machine."""


@dataclass(frozen=True)
class Bookmark:
    """A bookmark: the id that it leads to, its text, and those below it."""

    id: str
    title: str
    below: Sequence["Bookmark"] = field(default_factory=tuple)


def make_document(template: jinja2.Template, context: Mapping[str, Any], outline: Sequence[Bookmark]) -> Any:
    """Make a PDF, as a pypdf writer.

    Args:
        template: of the HTML.
        context: of the template; this adds `pages`, the page of each id, and how tight the first page is.
        outline: the bookmarks.
    """
    import pypdf

    # Layout is settled with empty images, which take no time; their places have the sizes of the figures.
    draft = {**context, "sources": dict.fromkeys(context["sources"], _EMPTY_IMAGE)}

    def pages_of(**more: Any) -> dict[str, int]:
        return _pages(
            pypdf.PdfReader(io.BytesIO(render_pdf(_html(template, {**draft, **more}), context["page_size"])))
        )

    tightness = 0
    pages = pages_of(pages={})
    while pages.get("end-of-summary", 1) > 1 and tightness < _TIGHTEST:
        tightness += 1
        pages = pages_of(pages={}, tightness=tightness)
    html = _html(template, {**context, "pages": pages, "tightness": tightness})
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(render_pdf(html, context["page_size"])))
    writer.root_object[pypdf.generic.NameObject("/Lang")] = pypdf.generic.TextStringObject("en")
    writer.add_metadata({"/Creator": "robustbench-sgdm"})
    _bookmark(writer, outline, _pages(writer), None)
    return writer


def _html(template: jinja2.Template, context: Mapping[str, Any]) -> str:
    return fonts.make_legible(template.render(context), "\n\t")


def render_pdf(html: str, page_size: PageSize = "A4") -> bytes:
    """Render HTML as a PDF."""
    import plutoprint

    size = {"A4": plutoprint.PAGE_SIZE_A4, "Letter": plutoprint.PAGE_SIZE_LETTER}[page_size]
    book = plutoprint.Book(size, plutoprint.PAGE_MARGINS_NORMAL)
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
