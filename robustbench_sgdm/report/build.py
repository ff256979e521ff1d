"""Fills the report's template and writes its files."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from robustbench_sgdm import __version__, figures, tables
from robustbench_sgdm.core import escaping, resources
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.untrusted_input import escape_control_chars
from robustbench_sgdm.figures import FigureResult, RunAnalysis, fonts
from robustbench_sgdm.report import pdf
from robustbench_sgdm.report.sections import Section, make_sections
from robustbench_sgdm.store import Run, resume_command

_WHITESPACE = "\n\t"  # as good as a space in HTML
_POLICY = (  # the page's content security policy: no script, no address, no form; its one style by its digest
    "default-src 'none'; img-src data:; font-src data:; style-src {}; base-uri 'none'; form-action 'none'"
)


def write_report(analysis: RunAnalysis) -> tuple[Path, Path]:
    """Write `report.html` and `report.pdf` into the run directory, and their figures and data into `figures/`.

    Returns:
        The two files.

    Raises:
        DataError: no cell of the run is complete.
    """
    run = analysis.run
    _ = analysis.results  # rejects an empty run before anything is drawn
    sections = make_sections(analysis)
    sources = _write_figures(run, sections)
    verdicts, reason = _verdicts(analysis)
    template = _template()
    command, why_no_command = _command(run)
    context: dict[str, Any] = {
        "run": run,
        "heading": _heading(run),
        "manifest": run.manifest.content(),
        "analysis": analysis,
        "sections": sections,
        "sources": sources,
        "verdicts": verdicts,
        "reason": reason,
        "intervals": not reason and bool(analysis.intervals["low"].notna().any()),
        "trainings": "trainings" in analysis.sampling_units,
        "notes": _notes(run),
        "missing": [str(c) for c in run.missing_cells()],
        "command": command,
        "why_no_command": why_no_command,
        "latencies": tables.latency_summary(run.read_latency()),
        "severities": [f"{s:g}" for s in sorted({cell.severity for cell in run.cells})],
        "version": __version__,
        "policy": _POLICY.format("'none'"),
        "fallback_font": "",
        "faces": [],
    }
    html, pdf_path = run.path / "report.html", run.path / "report.pdf"
    try:
        context["faces"] = fonts.faces(template.render(context, pages=None))
        text = _add_style_digest(escape_control_chars(template.render(context, pages=None), _WHITESPACE))
    except (jinja2.UndefinedError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{run.path / 'manifest.json'} cannot be shown: {error}; run again under another --name"
        ) from error
    run.files.write_text(html, text)
    context["fallback_font"] = fonts.DEJAVU.as_uri()  # for machines without fonts
    document = pdf.make_document(
        lambda pages: fonts.make_legible(template.render(context, pages=pages), _WHITESPACE),
        _outline(sections),
    )
    run.files.write(pdf_path, document.write)
    return html, pdf_path


def _add_style_digest(text: str) -> str:
    """Allow the page its own style only, by its digest; a browser ignores any other."""
    style = text[text.index("<style>") + len("<style>") : text.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    before, after = (str(escape(_POLICY.format(source))) for source in ("'none'", f"'sha256-{digest}'"))
    return text.replace(before, after, 1)


def _command(run: Run) -> tuple[str, str]:
    """The command that computes the run's cells, or why there is none."""
    try:
        return resume_command(run), ""
    except DataError as error:
        return "", str(error)


def _heading(run: Run) -> str:
    """Which models are compared; the networks' names if none is."""
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
    """Text with places for line breaks: the longest word in a table decides how small a page is printed.

    >>> breakable("a<bcd fg", 3)
    Markup('a&lt;b<wbr>cd fg')
    """
    letters = r"[!-~\u00a1-\u02ff\u0370-\u0482\u048a-\u052f]"  # scripts whose letters are not joined
    parts = re.split(f"({letters}{{{most}}})(?={letters})", text)
    return Markup("").join(Markup("{}<wbr>" if i % 2 else "{}").format(p) for i, p in enumerate(parts))


def _verdicts(analysis: RunAnalysis) -> tuple[list[tables.Verdict], str]:
    """The verdicts, or why there are none."""
    try:
        return analysis.verdicts, ""
    except DataError as error:
        return [], str(error)


def _write_figures(run: Run, sections: Sequence[Section]) -> Mapping[str, str]:
    """Write each figure and its data into `figures/`; gives the data URI of each figure by its id."""
    folder, sources = run.path / "figures", {}
    for figure in (one for section in sections for one in section.figures):
        text = escaping.csv(figure.result.data)
        run.files.write_bytes(folder / f"{figure.id}.csv", text.encode(), sync=False)
        image = _encode(figure.result)
        ending, data = ("svg", image.encode()) if isinstance(image, str) else ("jpg", image)
        run.files.write_bytes(folder / f"{figure.id}.{ending}", data, sync=False)
        sources[figure.id] = figures.data_uri(image)
    return sources


def _encode(result: FigureResult) -> str | bytes:
    return figures.encode_jpeg(result.figure) if result.photographs else figures.encode_svg(result.figure)


def _outline(sections: Sequence[Section]) -> list[pdf.Bookmark]:
    return [
        pdf.Bookmark(
            s.id,
            s.title,
            [
                pdf.Bookmark(f"figure-{p.number}", escape_control_chars(f"Figure {p.number}: {p.title}"))
                for p in s.figures
            ],
        )
        for s in sections
    ]


def _template() -> jinja2.Template:
    environment: Any = jinja2.Environment(
        loader=jinja2.FileSystemLoader(resources.root() / "reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "humanize": tables.humanize,
        "unbroken": lambda text: text.replace(" %", "\u00a0%"),
        "breakable": breakable,
    }
    template: jinja2.Template = environment.get_template("report.html.j2")
    return template
