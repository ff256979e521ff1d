"""HTML to PDF by plutoprint, with what it does not do itself: contents with page numbers, bookmarks, and full pages.

The PDF has a title and a language, and its links are tagged. plutoprint tags nothing else: headings, tables and the
alternative text of figures are in the HTML file alone.
"""

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jinja2

from robustbench_sgdm import figures
from robustbench_sgdm.core.errors import unknown_name_error
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.figures import fonts
from robustbench_sgdm.report.pages import Block, Placed, fill_pages
from robustbench_sgdm.report.sections import ReportFigure, Section
from robustbench_sgdm.report.table_width import split_to_page
from robustbench_sgdm.tables import Table

PAGE_SIZES = {"A4": (595.28, 841.89), "Letter": (612.0, 792.0)}
"""Width and height in points."""

_TIGHTEST = 3  # of the first page's styles
_MARGINS, _SIDE = (
    32 * 72 / 25.4,
    15 * 72 / 25.4,
)  # points above and below a page's content, and beside it; as in `report.css`
_SLACKS = (8.0, 32.0)  # points of a page that stay free; the second where the first was too little
_LONG_PAGE = 400_000  # points
_MAX_ENTRIES = 1100  # of a list: a run has a thousand models or corruptions
_LEAST = {False: 0.85, True: 0.7}  # scale of a figure: letters stay readable; photographs have few


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


@dataclass(frozen=True, eq=False)
class PaperBlock:
    """What a page is made of; see `pages.Block`.

    Attributes:
        id: in the document.
        kind: of the template's macro that draws it.
        section: that it belongs to; None for the contents.
        figure: of a figure.
        table: of a table.
    """

    id: str
    kind: Literal["contents", "text", "list", "figure", "table"]
    section: Section | None = None
    figure: ReportFigure | None = None
    table: Table | None = None


def make_document(
    template: jinja2.Template, context: Mapping[str, Any], sections: Sequence[Section], page_size: str
) -> Any:
    """Make a PDF, as a pypdf writer.

    Args:
        template: of the HTML.
        context: of the template; this adds what is different on paper.
        sections: the first one is the first page, whatever it takes.
        page_size: one of `PAGE_SIZES`.
    """
    import pypdf

    # Layout is settled with empty images, which take no time; their places have the sizes of the figures.
    drawn = [one for section in sections for one in section.figures]
    draft = {**context, "pages": {}, "sources": {one.id: _empty_image(one) for one in drawn}}
    more: dict[str, Any] = {"pages": {}, "tightness": _fit_first_page(template, draft, page_size)}
    if not context["summary_only"]:
        blocks = _blocks(sections[1:])
        measured = _measure(template, draft, blocks, page_size)
        more |= {"blocks_by_id": {one.id: one for one in blocks}}
    for slack in _SLACKS[: 1 if context["summary_only"] else None]:
        if not context["summary_only"]:
            layout = fill_pages(measured, PAGE_SIZES[page_size][1] - _MARGINS - slack)
            more |= {"layout": layout, "pages": _page_numbers(layout, blocks, sections[0])}
        document = render_pdf(_html(template, {**context, **more}), page_size)
        writer = pypdf.PdfWriter(clone_from=io.BytesIO(document))
        # A part of a table may be a line higher than measured; its page would overflow into one that no number counts.
        if len(writer.pages) <= 1 + len(more.get("layout", ())):
            break
    name, text = pypdf.generic.NameObject, pypdf.generic.TextStringObject
    writer.root_object[name("/Lang")] = text("en")
    shown = pypdf.generic.DictionaryObject({name("/DisplayDocTitle"): pypdf.generic.BooleanObject(True)})
    writer.root_object[name("/ViewerPreferences")] = (
        shown  # the window's title is the report's, not the file's
    )
    writer.add_metadata({"/Creator": "robustbench-sgdm"})
    _bookmark(writer, sections, more["pages"])
    return writer


def _empty_image(figure: ReportFigure) -> str:
    """An image of a figure's size."""
    wide, high = figure.result.figure.get_size_inches()
    return figures.data_uri(f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}in" height="{high}in"/>')


def _fit_first_page(template: jinja2.Template, draft: Mapping[str, Any], page_size: str) -> int:
    """How tight the first page must be set to be one page; the tightest if that is not enough."""
    for tightness in range(_TIGHTEST):
        html = _html(template, {**draft, "summary_only": True, "tightness": tightness})
        if len(_read(render_pdf(html, page_size)).pages) == 1:
            return tightness
    return _TIGHTEST


def _blocks(sections: Sequence[Section]) -> list[PaperBlock]:
    parts: list[PaperBlock] = [PaperBlock("", "contents")]
    for section in sections:
        entries = [PaperBlock("", "list", section)] if section.has_list else []
        parts.append(PaperBlock("", "text", section))
        parts += entries if section.id != "corruptions" else []
        parts += [PaperBlock("", "figure", section, figure=one) for one in section.figures]
        parts += [
            PaperBlock("", "table", section, table=one)
            for whole in section.tables
            for one in split_to_page(whole)
        ]
        parts += entries if section.id == "corruptions" else []
    return [replace(one, id=f"block-{index}") for index, one in enumerate(parts)]


def _measure(
    template: jinja2.Template, draft: Mapping[str, Any], blocks: Sequence[PaperBlock], page_size: str
) -> list[Block]:
    """The blocks' heights, from one page that is long enough for all of them."""
    rows = {one.id: len(one.table.rows) if one.table is not None else _MAX_ENTRIES for one in blocks}
    ids = [one.id for one in blocks] + ["end"]
    for one in blocks:
        if one.kind in ("table", "list"):
            ids += [f"{one.id}-r{index}" for index in range(rows[one.id])] + [f"{one.id}-notes"]
    width = PAGE_SIZES[page_size][0]
    html = _html(
        template,
        {**draft, "draft": True, "blocks": blocks, "ids": ids, "page_size": f"{width}pt {_LONG_PAGE}pt"},
    )
    places = _read(render_pdf(html, page_size)).named_destinations
    top = {str(name): float(place["/Top"]) for name, place in places.items()}
    heights = []
    for block, after in zip(blocks, ids[1 : len(blocks) + 1], strict=True):
        height = top[block.id] - top[after]
        edges = [top[name] for index in range(rows[block.id]) if (name := f"{block.id}-r{index}") in top]
        if block.figure is not None:
            heights.append(_measured_figure(block.figure, block.id, height, width))
        elif edges:
            bottom = top.get(f"{block.id}-notes", top[after])
            heights.append(
                Block(block.id, "rows", height, top[block.id] - edges[0], _steps([*edges, bottom]))
            )
        else:
            heights.append(Block(block.id, "text", height))
    return heights


def _steps(edges: Sequence[float]) -> list[float]:
    return [above - below for above, below in itertools.pairwise(edges)]


def _measured_figure(figure: ReportFigure, id: str, height: float, width: float) -> Block:
    wide, high = (72 * side for side in figure.result.figure.get_size_inches())
    image = float(high * min(1.0, (width - 2 * _SIDE) / wide))
    return Block(id, "figure", height, image=image, least=_LEAST[figure.result.photographs])


def _page_numbers(
    layout: Sequence[Sequence[Placed]], blocks: Sequence[PaperBlock], summary: Section
) -> dict[str, int]:
    """The page of each section and figure by its id; the contents follow the first page."""
    pages = {summary.id: 1, **{f"figure-{one.number}": 1 for one in summary.figures}}
    by_id = {one.id: one for one in blocks}
    for number, page in enumerate(layout, 2):
        for placed in page:
            block = by_id[placed.id]
            if block.kind == "text" and block.section is not None:
                pages[block.section.id] = number
            elif block.figure is not None:
                pages[f"figure-{block.figure.number}"] = number
    return pages


def _html(template: jinja2.Template, context: Mapping[str, Any]) -> str:
    return fonts.make_legible(template.render(context), "\n\t")


def find_page_size(name: str) -> str:
    """The name of a page size, in any case.

    Raises:
        UsageError: it is unknown.
    """
    for known in PAGE_SIZES:
        if known.lower() == name.lower():
            return known
    raise unknown_name_error("page size", name, PAGE_SIZES)


def render_pdf(html: str, page_size: str = "A4") -> bytes:
    """Render HTML as a PDF."""
    import plutoprint

    book = plutoprint.Book(plutoprint.PageSize(*PAGE_SIZES[page_size]), plutoprint.PAGE_MARGINS_NORMAL)
    book.load_html(html, base_url="file:///report.html")  # without it links within the document are dropped
    buffer = io.BytesIO()
    book.write_to_pdf_stream(buffer)
    return buffer.getvalue()


def _read(document: bytes) -> Any:
    import pypdf

    return pypdf.PdfReader(io.BytesIO(document))


def _bookmark(writer: Any, sections: Sequence[Section], pages: Mapping[str, int]) -> None:
    for section in sections:
        if section.id in pages:
            item = writer.add_outline_item(title=section.title, page_number=pages[section.id] - 1)
            for one in section.figures:
                title = escape_control_chars(f"Figure {one.number}: {one.title}")
                page_number = pages[f"figure-{one.number}"] - 1
                writer.add_outline_item(title=title, page_number=page_number, parent=item)
