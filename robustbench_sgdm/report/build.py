"""Fills the report's template and writes its files."""

import base64
import hashlib
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from robustbench_sgdm import __version__, figures, tables
from robustbench_sgdm.core import escaping, glossary
from robustbench_sgdm.core.constants import REPORT_POLICY
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.figures import RunAnalysis, fonts
from robustbench_sgdm.report import paper, screen, table_width
from robustbench_sgdm.report.sections import Section, make_sections, make_summary
from robustbench_sgdm.report.templates import load_template
from robustbench_sgdm.store import Run, resume_command

_MAX_NAMED = 2  # models of a heading
_MAX_VERDICTS = 6  # on the first page
_MAX_ROWS = 40  # of a table that is open at first
_GLOSSARY = (  # terms that every report explains
    *("AP", "AP50", "AP_S", "baseline", "cell", "clean", "first failure", "flip", "half-severity"),
    *("Holm's correction", "interval", "mCE", "mPC", "operating confidence", "P", "resample", "rPC"),
    *("seed group", "severity", "significant", "time ratio"),
)
_WHITESPACE = "\n\t"  # as good as a space in HTML


def write_report(
    analysis: RunAnalysis, *, summary_only: bool = False, page_size: str = "A4"
) -> tuple[Path, Path]:
    """Write `report.html` and `report.pdf` into the run directory, and their figures and data into `figures/`.

    Args:
        analysis: of the run.
        summary_only: write the first page alone, as `summary.html` and `summary.pdf`.
        page_size: of the PDF, one of `paper.PAGE_SIZES`.

    Returns:
        The two files.

    Raises:
        DataError: no cell of the run is complete.
        UsageError: another page size.
    """
    page_size = paper.find_page_size(page_size)
    run = analysis.run
    _ = analysis.results  # rejects an empty run before anything is drawn
    sections = make_summary(analysis) if summary_only else make_sections(analysis)
    images = _write_figures(run, sections)
    command, why_no_command = _command(run)
    summary = analysis.summary
    context: dict[str, Any] = {
        "run": run,
        "heading": _heading(run),
        "manifest": run.manifest.content(),
        "analysis": analysis,
        "sections": sections,
        "summary": summary,
        "summary_only": summary_only,
        "terms": _terms(analysis),
        "size_terms": glossary.explain(["AP_S"] * bool(analysis.results["AP_S"].notna().any())),
        "glossary": {name: glossary.define(name) for name in _GLOSSARY},
        "contents_entries": _contents(sections),
        "most_verdicts": _MAX_VERDICTS,
        "most_rows": _MAX_ROWS,
        "without_intervals": tables.WITHOUT_INTERVALS,
        "intervals": summary.has_intervals,
        "trainings": "trainings" in analysis.sampling_units,
        "notes": _notes(run),
        "missing": [str(c) for c in run.missing_cells()],
        "command": command,
        "why_no_command": why_no_command,
        "latencies": tables.latency_summary(run.read_latency()),
        "severities": [f"{s:g}" for s in sorted({cell.severity for cell in run.cells})],
        "version": __version__,
        "policy": REPORT_POLICY.format("'none'"),
        "page_size": page_size,
        "paper_fonts": [],
        "faces": [],
        "draft": False,
        "tightness": 0,
        "pages": None,
        "sources": {name: screen.data_uri(image) for name, image in images.items()},
    }
    template = _template()
    name = "summary" if summary_only else "report"
    html, pdf_path = run.path / f"{name}.html", run.path / f"{name}.pdf"
    try:
        without_images = {**context, "sources": dict.fromkeys(images, "")}
        context["faces"] = fonts.faces(template.render(without_images))
        text = _add_style_digest(escape_control_chars(template.render(context), _WHITESPACE))
    except (jinja2.UndefinedError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{run.path / 'manifest.json'} cannot be shown: {error}; run again under another --name"
        ) from error
    run.files.write_text(html, text)
    context |= {
        "pages": {},
        "paper_fonts": paper.FONTS,
        "sources": {
            one.id: figures.data_uri(
                figures.encode_jpeg(one.result.figure) if one.result.photographs else images[one.id]
            )
            for section in sections
            for one in section.figures
        },
    }
    document = paper.make_document(template, context, sections, page_size)
    run.files.write(pdf_path, document.write)
    return html, pdf_path


def _contents(sections: Sequence[Section]) -> list[tuple[str, str, bool]]:
    """Id and text of each entry, and whether it is a figure."""
    entries = []
    for section in sections:
        entries.append((section.id, section.title, False))
        if section.id != "summary":
            entries += [
                (f"figure-{one.number}", f"Figure {one.number}: {one.title}", True) for one in section.figures
            ]
    return entries


def _terms(analysis: RunAnalysis) -> str:
    """What the abbreviations of the first page mean, half a line each."""
    summary = analysis.summary
    names = [analysis.metric_name]
    if summary.rankings:
        names += ["P", "mPC", "rPC"]
    if summary.has_intervals and summary.rankings and analysis.run.baseline_pairs:
        names.append("Holm's correction")
    return glossary.explain(names)


def _add_style_digest(text: str) -> str:
    """Allow the page its own style only, by its digest; a browser ignores any other."""
    style = text[text.index("<style>") + len("<style>") : text.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    before, after = (str(escape(REPORT_POLICY.format(source))) for source in ("'none'", f"'sha256-{digest}'"))
    return text.replace(before, after, 1)


def _command(run: Run) -> tuple[str, str]:
    """The command that computes the run's cells, or why there is none."""
    try:
        return resume_command(run), ""
    except DataError as error:
        return "", str(error)


def _heading(run: Run) -> str:
    """Which models are compared; the networks' names if none is."""
    if len(run.baseline_pairs) > _MAX_NAMED:
        baselines = dict.fromkeys(baseline for baseline, _ in run.baseline_pairs)
        against = f" against {next(iter(baselines))}" if len(baselines) == 1 else ""
        return f"{len(run.groups) - len(against and baselines)} models{against}"
    by_baseline: dict[str, list[str]] = {}
    for baseline, model in run.baseline_pairs:
        by_baseline.setdefault(baseline, []).append(model)
    pairs = [f"{' and '.join(models)} against {baseline}" for baseline, models in by_baseline.items()]
    return "; ".join(pairs or run.groups)


def _notes(run: Run) -> list[str]:
    """Notes from reading data and predictions, those of a model after its name."""
    models = run.manifest.models.items()
    return [*run.manifest.data.notes, *(f"{name}: {note}" for name, model in models for note in model.notes)]


def breakable(text: str, most: int) -> Markup:
    """Text with places for line breaks in words of more than `most` letters: after a mark, else where the line must end.

    >>> breakable("a<bcd fg", 3)
    Markup('a&lt;b<wbr>cd fg')
    >>> breakable("night-shift on", 6)
    Markup('night-<wbr>shift on')
    """
    # Scripts whose letters are not joined.
    letters = r"[!-~\u00a1-\u02ff\u0370-\u0482\u048a-\u052f]"
    words = re.split(f"({letters}{{{most + 1},}})", text)
    return Markup("").join(_break_word(word, most) if i % 2 else escape(word) for i, word in enumerate(words))


def ends_apart(cell: str) -> Markup:
    """A number and its interval, which the style may put below it.

    >>> ends_apart("+2.10 [+0.90, +3.30]*"), ends_apart("a<b")
    (Markup('+2.10 <span class="ends">[+0.90, +3.30]*</span>'), Markup('a&lt;b'))
    """
    number, space, ends = cell.partition(" ")
    if not re.fullmatch(r"\[[^\[\]]+\]\*?", ends):
        return escape(cell)
    return Markup('{}{}<span class="ends">{}</span>').format(number, space, ends)


def _break_word(word: str, most: int) -> Markup:
    pieces = [
        piece for part in re.split(r"(?<=[-_./,])", word) for piece in textwrap.wrap(part, most) if piece
    ]
    return Markup("<wbr>").join(pieces)


def _write_figures(run: Run, sections: Sequence[Section]) -> Mapping[str, str]:
    """Write each figure and its data into `figures/`; gives SVG text by the figure's id."""
    folder, images = run.path / "figures", {}
    for figure in (one for section in sections for one in section.figures):
        text = escaping.csv(figure.result.data)
        run.files.write_bytes(folder / f"{figure.id}.csv", text.encode(), sync=False)
        image = figures.encode_svg(figure.result.figure, photographs=figure.result.photographs)
        run.files.write_bytes(folder / f"{figure.id}.svg", image.encode(), sync=False)
        images[figure.id] = image
    return images


def _template() -> jinja2.Template:
    filters: dict[str, Callable[..., Any]] = {
        "humanize": tables.humanize,
        "unbroken": lambda text: text.replace(" %", "\u00a0%"),
        "breakable": breakable,
        "short": lambda text, most: text if len(text) <= most else f"{text[: most - 1]}…",
        "is_dense": table_width.is_dense,
        "ends_apart": ends_apart,
        "csv_uri": screen.csv_uri,
        "file_name": screen.file_name,
    }
    return load_template("report.html.j2", filters)
