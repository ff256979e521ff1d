"""The sections of a report, in order; those that a run has no data for are left out."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from robustbench_sgdm import figures, robustness, tables
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.figures import FigureResult, RunAnalysis
from robustbench_sgdm.tables import Table

_LOG = logging.getLogger(__name__)

_WIDE = 4.6  # inches


@dataclass(frozen=True, eq=False)
class ReportFigure:
    """A figure in the report.

    Attributes:
        id: in the document, and the name of its files in `figures/`.
        result: the figure.
        title: in the contents.
        number: as in "Figure 1".
    """

    id: str
    result: FigureResult
    title: str
    number: int = 0

    def size_attributes(self, scale: float = 1.0) -> Markup:
        """Width and height in CSS pixels as HTML attributes, so that a page does not jump while it loads."""
        wide, high = (round(96 * scale * side) for side in self.result.figure.get_size_inches())
        return Markup(f' width="{wide}" height="{high}"')

    @property
    def width_class(self) -> str:
        """`wide` for a drawing as wide as the page, else `narrow`: its text stays as large as that of the others."""
        return "wide" if self.result.figure.get_size_inches()[0] > _WIDE else "narrow"


@dataclass(frozen=True)
class Section:
    """A section of the report; its prose is in the template, by its id."""

    id: str
    title: str
    figures: Sequence[ReportFigure] = ()
    tables: Sequence[Table] = ()

    @property
    def has_list(self) -> bool:
        """Whether the template has a list of terms for it."""
        return self.id in ("run", "corruptions", "glossary", "provenance", "data")


def make_summary(analysis: RunAnalysis) -> list[Section]:
    """The first section alone: what stands on the first page."""
    return _number_figures([_summary(analysis)])


def _summary(analysis: RunAnalysis) -> Section:
    return Section(
        "summary",
        "Summary",
        _figures(analysis, "summary"),
        tables.summary_tables(analysis.summary),
    )


def section_tables(analysis: RunAnalysis) -> dict[str, list[Table]]:
    """The tables of each section by its id, whole, but for those of cells; none where the run has no data for them."""
    run, pairs = analysis.run, analysis.run.baseline_pairs
    makers: dict[str, Callable[[], list[Table]]] = {
        "results": lambda: _means(analysis),
        "sizes": lambda: [tables.sizes_table(analysis.intervals, analysis.primary_set.name, pairs)],
        "classes": lambda: [tables.class_interval_table(analysis.class_intervals, 0.95)],
        "first-failure": lambda: tables.first_failure_tables(analysis.first_failures.table, 0.95),
        "operating-point": lambda: [
            tables.measures_table(analysis.measures.table(), analysis.primary_set.name, pairs),
            tables.confidence_table(robustness.operating_confidences(run)),
        ],
        "errors": lambda: [
            tables.object_table(analysis.error_types),
            tables.error_table(analysis.error_types),
            tables.calibration_table(analysis.calibration),
        ],
        "shift": lambda: tables.shift_tables(analysis.shifts, 0.95) if run.manifest.shifts else [],
    }
    made = {}
    for section, make in makers.items():
        try:
            made[section] = [table for table in make() if table.rows]
        except DataError as error:
            _LOG.debug("no table of %s: %s", section, error)
            made[section] = []
    return made


def make_sections(analysis: RunAnalysis) -> list[Section]:
    """All sections that the run has data for."""
    run = analysis.run
    by_section = section_tables(analysis)
    by_section["results"] = tables.notes_once([*by_section["results"], *_cells(analysis)])

    def section(name: str, title: str) -> Section:
        return Section(name, title, _figures(analysis, name), by_section.get(name, []))

    corruptions = "corruptions", "The corruptions"
    all_sections = [
        _summary(analysis),
        Section("run", "What was run"),
        section("results", "Results by corruption"),
        section("image-quality", "Scores against image quality"),
        section("sizes", "Results by size of objects"),
        section("classes", "Results by class"),
        section("first-failure", "When objects are lost"),
        section("operating-point", "At an operating confidence"),
        section("errors", "Error types and calibration"),
        Section("detections", "Side by side", _side_by_side(analysis)),
        section("shift", "Other data"),
        section("cost", "What it costs"),
        section("training", "Training"),
        section(*corruptions) if run.manifest.corruptions else Section(*corruptions),
        Section("method", "Method"),
        Section("glossary", "Terms"),
        Section("limits", "Limits"),
        Section("provenance", "How to reproduce it"),
        Section("data", "Files"),
    ]
    always = {"summary", "run", "results", "method", "glossary", "limits", "provenance", "data"}
    always |= {"corruptions"} if run.manifest.corruptions else set()
    return _number_figures([s for s in all_sections if s.id in always or s.figures or s.tables])


def _number_figures(sections: Sequence[Section]) -> list[Section]:
    count, numbered = 0, []
    for section in sections:
        figures = [replace(one, number=count + i) for i, one in enumerate(section.figures, 1)]
        count += len(figures)
        numbered.append(replace(section, figures=figures))
    return numbered


def _figures(analysis: RunAnalysis, section: str) -> list[ReportFigure]:
    """The figures that are registered for a section."""
    drawn = []
    for name, entry in figures.all_figures().items():
        try:
            if entry.section == section:
                drawn.append(ReportFigure(name, figures.draw(name, analysis), entry.description))
        except DataError as error:
            _LOG.debug("no %s: %s", name, error)
    return drawn


def _side_by_side(analysis: RunAnalysis) -> list[ReportFigure]:
    """A figure for each pair and each direction, never in favour of one model only."""
    drawn: list[ReportFigure] = []
    for each in analysis.by_pair:
        try:
            for keeper, refs in each.selected_images.items():
                result = figures.draw_side_by_side(each, refs)
                title, intro = "detections on the chosen images", ""
                if not analysis.images:
                    (other,) = (name for name in each.pair if name != keeper)
                    title = f"where {keeper} finds more than {other}"
                    intro = f"Images where {keeper} finds most objects that {other} does not. "
                name = f"side-by-side-{len(drawn) + 1}"
                drawn.append(ReportFigure(name, replace(result, caption=intro + result.caption), title))
        except DataError as error:
            _LOG.debug("no side-by-side of %s: %s", each.pair, error)
    return drawn


def _means(analysis: RunAnalysis) -> list[Table]:
    """The means and half-severities, as far as the run has intervals and corruptions."""
    made: list[Table] = []
    if analysis.corruption_sets:
        at, names = analysis.primary_set.severity_text, analysis.set_names
        pairs = analysis.run.baseline_pairs
        made.append(tables.means_table(analysis.intervals, names, analysis.metric_name, pairs, at))
    try:
        halves = analysis.half_severities
        made += [tables.half_severity_table(halves)] if len(halves) else []
    except DataError as error:  # of a metric that is not resampled
        _LOG.debug("no half-severities: %s", error)
    return made


def _cells(analysis: RunAnalysis) -> list[Table]:
    """The scores of every cell, in a table for each metric where there are several differences."""
    pairs, first = analysis.run.baseline_pairs, analysis.metric_name
    metrics = [first, *(m for m in tables.METRICS_SHOWN if m != first)]
    intervals = None
    try:
        intervals = analysis.intervals
    except DataError as error:
        _LOG.debug("no intervals: %s", error)
    together = [metrics] if len(pairs) <= 1 else [[metric] for metric in metrics]
    return [
        _join(tables.corruption_tables(analysis.results, pairs, some, intervals), some) for some in together
    ]


def _join(by_corruption: Sequence[Table], metrics: Sequence[str]) -> Table:
    """The tables of all corruptions as one: the clean images once, then a row for each corruption and severity."""
    first, rows = by_corruption[0], list[Sequence[str]]()
    for table in by_corruption:
        clean = [["clean", *row[1:]] for row in table.rows if row[0] == _CLEAN]
        rows += [row for row in clean if row not in rows]
    for table in by_corruption:
        rows += [[f"{table.title} {row[0]}", *row[1:]] for row in table.rows if row[0] != _CLEAN]
    notes = dict.fromkeys(note for table in by_corruption for note in table.notes)
    *others, last = metrics
    what = f"{', '.join(others)} and {last}" if others else last
    return Table(f"{what} of every cell", ["cell", *first.columns[1:]], rows, list(notes))


_CLEAN = "0 (clean)"
