"""The sections of a report, in order; those that a run has no data for are left out."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from robustbench_sgdm import figures, robustness, tables
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.figures import FigureResult, RunAnalysis
from robustbench_sgdm.report.table_width import split_to_page
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


def make_sections(analysis: RunAnalysis) -> list[Section]:
    """All sections that the run has data for."""
    run, pairs = analysis.run, analysis.run.baseline_pairs
    results = _figures(analysis, "results")
    sizes = _tables(lambda: [tables.sizes_table(analysis.intervals, analysis.primary_set.name, pairs)])
    classes = _tables(lambda: [tables.class_interval_table(analysis.class_intervals, 0.95)])
    failures = _tables(lambda: tables.first_failure_tables(analysis.first_failures.table, 0.95))
    shifts = _tables(lambda: tables.shift_tables(analysis.shifts, 0.95)) if run.manifest.shifts else []
    measures = _tables(
        lambda: [
            tables.measures_table(analysis.measures.table(), analysis.primary_set.name, pairs),
            tables.confidence_table(robustness.operating_confidences(run)),
        ]
    )
    errors = _tables(
        lambda: [
            tables.object_table(analysis.error_types),
            tables.error_table(analysis.error_types),
            tables.calibration_table(analysis.calibration),
        ]
    )
    sheet = _figures(analysis, "corruptions") if run.manifest.corruptions else []
    all_sections = [
        _summary(analysis),
        Section("run", "What was run"),
        Section("results", "Results by corruption", results, _results(analysis)),
        Section("image-quality", "Scores against image quality", _figures(analysis, "image-quality")),
        Section("sizes", "Results by size of objects", _figures(analysis, "sizes"), sizes),
        Section("classes", "Results by class", _figures(analysis, "classes"), classes),
        Section("first-failure", "When objects are lost", _figures(analysis, "first-failure"), failures),
        Section(
            "operating-point", "At an operating confidence", _figures(analysis, "operating-point"), measures
        ),
        Section("errors", "Error types and calibration", _figures(analysis, "errors"), errors),
        Section("detections", "Side by side", _side_by_side(analysis)),
        Section("shift", "Other data", _figures(analysis, "shift"), shifts),
        Section("cost", "What it costs", _figures(analysis, "cost")),
        Section("training", "Training", _figures(analysis, "training")),
        Section("corruptions", "The corruptions", sheet),
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


def _results(analysis: RunAnalysis) -> list[Table]:
    run = analysis.run
    first = analysis.metric_name
    metrics = [first, *(m for m in tables.METRICS_SHOWN if m != first)]
    intervals = None
    try:
        intervals = analysis.intervals
    except DataError as error:
        _LOG.debug("no intervals: %s", error)
    result_tables: list[Table] = []
    if intervals is not None and analysis.corruption_sets:
        means = tables.means_table(
            intervals, analysis.set_names, first, run.baseline_pairs, analysis.primary_set.severity_text
        )
        result_tables += [means] if means.rows else []
    if intervals is not None:
        result_tables += _tables(
            lambda: (
                [tables.half_severity_table(analysis.half_severities)]
                if len(analysis.half_severities)
                else []
            )
        )
    cells = tables.corruption_tables(analysis.results, run.baseline_pairs, metrics, intervals)
    if len(run.baseline_pairs) <= 1:
        result_tables.append(_join(cells, metrics))
    else:
        result_tables += [
            _join(tables.corruption_tables(analysis.results, run.baseline_pairs, [m], intervals), [m])
            for m in metrics
        ]
    result_tables = tables.notes_once(result_tables)
    return [part for table in result_tables for part in split_to_page(table)]


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


def _tables(make: Callable[[], list[Table]]) -> list[Table]:
    try:
        return [part for table in make() if table.rows for part in split_to_page(table)]
    except DataError as error:
        _LOG.debug("no table: %s", error)
        return []
