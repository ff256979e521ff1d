"""Fills the template and writes the report's files."""

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
from robustbench_sgdm.figures import Drawn, Material, fonts
from robustbench_sgdm.report import pdf
from robustbench_sgdm.report.sections import Section, sections
from robustbench_sgdm.store import Run, repeat_command

_LINES = "\n\t"  # in HTML like spaces
_POLICY = (  # of the page's content: no script, no address, no form; its one style by its digest
    "default-src 'none'; img-src data:; font-src data:; style-src {}; base-uri 'none'; form-action 'none'"
)


def write(material: Material) -> tuple[Path, Path]:
    """Write `report.html` and `report.pdf` into the run directory, and what they show into `figures/`.

    Returns:
        The two files.

    Raises:
        DataError: no cell of the run is complete.
    """
    run = material.run
    _ = material.results  # refuses an empty run before anything is drawn
    made = sections(material)
    sources = _keep(run, made)
    told, reason = _verdicts(material)
    template = _template()
    command, why_no_command = _command(run)
    facts: dict[str, Any] = {
        "run": run,
        "heading": _heading(run),
        "plan": run.plan,
        "material": material,
        "sections": made,
        "sources": sources,
        "verdicts": told,
        "reason": reason,
        "intervals": not reason and bool(material.intervals["low"].notna().any()),
        "trainings": "trainings" in material.sampled,
        "notes": _notes(run.plan),
        "missing": [str(c) for c in run.missing()],
        "command": command,
        "why_no_command": why_no_command,
        "times": tables.latency_lines(run.latency()),
        "severities": [f"{s:g}" for s in sorted({cell.severity for cell in run.cells})],
        "version": __version__,
        "policy": _POLICY.format("'none'"),
        "plain_font": "",
        "faces": [],
    }
    html, paper = run.path / "report.html", run.path / "report.pdf"
    try:
        facts["faces"] = fonts.faces(template.render(facts, pages=None))
        text = _sealed(escape_control_chars(template.render(facts, pages=None), _LINES))
    except (jinja2.UndefinedError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{run.path / 'plan.yaml'} is damaged: {error}; run again under another --name"
        ) from error
    run.files.write_text(html, text)
    facts["plain_font"] = fonts.DEJAVU.as_uri()  # for machines without any
    printed = pdf.document(
        lambda pages: fonts.legible(template.render(facts, pages=pages), _LINES), _outline(made)
    )
    run.files.write(paper, printed.write)
    return html, paper


def _sealed(text: str) -> str:
    """The page, which names its own style as the only one; a browser refuses whatever else got into it."""
    style = text[text.index("<style>") + len("<style>") : text.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    before, after = (str(escape(_POLICY.format(source))) for source in ("'none'", f"'sha256-{digest}'"))
    return text.replace(before, after, 1)


def _command(run: Run) -> tuple[str, str]:
    """The command that makes the run's cells, or why there is none."""
    try:
        return repeat_command(run), ""
    except DataError as error:
        return "", str(error)


def _heading(run: Run) -> str:
    """Who is compared with whom; the networks' names where nobody is."""
    against: dict[str, list[str]] = {}
    for baseline, model in run.pairs:
        against.setdefault(baseline, []).append(model)
    told = [f"{' and '.join(models)} against {baseline}" for baseline, models in against.items()]
    return "; ".join(told or run.groups)


def _notes(plan: Mapping[str, Any]) -> list[str]:
    """What was noted while data and predictions were read, each model's behind its name."""
    notes = [str(note) for note in plan["data"].get("notes", ())]
    return notes + [
        f"{name}: {note}" for name, about in plan["models"].items() for note in about.get("notes", ())
    ]


def breakable(text: str, most: int) -> Markup:
    """Text that a line may break within: a page is printed as small as its longest word in a table needs.

    >>> breakable("a<bcd fg", 3)
    Markup('a&lt;b<wbr>cd fg')
    """
    letters = r"[!-~\u00a1-\u02ff\u0370-\u0482\u048a-\u052f]"  # scripts whose letters stand apart
    parts = re.split(f"({letters}{{{most}}})(?={letters})", text)
    return Markup("").join(Markup("{}<wbr>" if i % 2 else "{}").format(p) for i, p in enumerate(parts))


def _verdicts(material: Material) -> tuple[list[tables.Verdict], str]:
    """The verdicts, or why there is none."""
    try:
        return material.verdicts, ""
    except DataError as error:
        return [], str(error)


def _keep(run: Run, made: Sequence[Section]) -> Mapping[str, str]:
    """Write each figure and its numbers into `figures/`; the address that holds each figure, by its id."""
    folder, sources = run.path / "figures", {}
    for picture in (p for section in made for p in section.pictures):
        text = escaping.csv(picture.drawn.data)
        run.files.write_bytes(folder / f"{picture.id}.csv", text.encode(), sync=False)
        image = _encoded(picture.drawn)
        ending, data = ("svg", image.encode()) if isinstance(image, str) else ("jpg", image)
        run.files.write_bytes(folder / f"{picture.id}.{ending}", data, sync=False)
        sources[picture.id] = figures.uri(image)
    return sources


def _encoded(drawn: Drawn) -> str | bytes:
    return figures.jpeg(drawn.figure) if drawn.photographs else figures.svg(drawn.figure)


def _outline(made: Sequence[Section]) -> list[pdf.Entry]:
    return [
        pdf.Entry(
            s.id,
            s.title,
            [
                pdf.Entry(f"figure-{p.number}", escape_control_chars(f"Figure {p.number}: {p.title}"))
                for p in s.pictures
            ],
        )
        for s in made
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
        "words": tables.words,
        "unbroken": lambda text: text.replace(" %", "\u00a0%"),
        "breakable": breakable,
    }
    template: jinja2.Template = environment.get_template("report.html.j2")
    return template
