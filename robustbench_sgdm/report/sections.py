"""The sections of a report: what a run has data for, in order; what it has none for is left out."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from robustbench_sgdm import figures, tables
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.figures import Drawn, Material
from robustbench_sgdm.tables import Table

_LOG = logging.getLogger(__name__)

_ON_PAPER = 0.88  # of its own size: 8 pt become 7

_WIDEST = 12  # columns of a table that a page holds


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure in the report.

    Attributes:
        id: of its place in the document, and name of its files in `figures/`.
        drawn: the figure.
        title: in the contents.
        number: as in "Figure 1".
    """

    id: str
    drawn: Drawn
    title: str
    number: int = 0

    def shape(self, paper: bool) -> Markup:
        """Width and height in CSS pixels as attributes, so that a page does not jump while it loads.

        On paper drawings are a little smaller, so that more of them share a page.
        """
        scale = 96 * (_ON_PAPER if paper and not self.drawn.photographs else 1)
        wide, high = (round(scale * side) for side in self.drawn.figure.get_size_inches())
        return Markup(f' width="{wide}" height="{high}"')


@dataclass(frozen=True)
class Section:
    """A part of the report with a heading; prose that belongs to its id is in the template."""

    id: str
    title: str
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


def sections(material: Material) -> list[Section]:
    """All sections that the run has data for."""
    run, pairs = material.run, material.run.pairs
    results = _pictures(material, "results")
    sizes = _tables(lambda: [tables.sizes_table(material.intervals, material.whole.name, pairs)])
    classes = _tables(lambda: [tables.class_table(material.drops, pairs)])
    wrong = _tables(
        lambda: [
            tables.object_table(material.errors),
            tables.error_table(material.errors),
            tables.calibration_table(material.calibration),
        ]
    )
    sheet = _pictures(material, "corruptions") if run.plan["corruptions"] else []
    made = [
        Section("run", "What was run"),
        Section("results", "Results by corruption", results, _results(material)),
        Section("damage", "Scores against the damage to the images", _pictures(material, "damage")),
        Section("sizes", "Results by size of objects", _pictures(material, "sizes"), sizes),
        Section("classes", "Results by class", _pictures(material, "classes"), classes),
        Section(
            "errors", "What goes wrong: error types and confidence", _pictures(material, "errors"), wrong
        ),
        Section("detections", "Side by side", _side_by_side(material)),
        Section("training", "Training", _pictures(material, "training")),
        Section("corruptions", "The corruptions", sheet),
        Section("method", "Method"),
        Section("limits", "Limits"),
        Section("provenance", "How to repeat it"),
        Section("data", "Where the data lie"),
    ]
    always = {"run", "results", "method", "limits", "provenance", "data"}
    always |= {"corruptions"} if run.plan["corruptions"] else set()
    return _numbered([s for s in made if s.id in always or s.pictures or s.tables])


def _numbered(made: Sequence[Section]) -> list[Section]:
    count, found = 0, []
    for section in made:
        pictures = [replace(p, number=count + i) for i, p in enumerate(section.pictures, 1)]
        count += len(pictures)
        found.append(replace(section, pictures=pictures))
    return found


def _pictures(material: Material, section: str) -> list[Picture]:
    """The figures that are declared for a section."""
    found = []
    for name, about in figures.figures().items():
        try:
            if about.section == section:
                found.append(Picture(name, figures.draw(name, material), about.description))
        except DataError as error:
            _LOG.debug("no %s: %s", name, error)
    return found


def _side_by_side(material: Material) -> list[Picture]:
    """A figure for each pair and direction: never only in one's favour."""
    found: list[Picture] = []
    for each in material.by_pair:
        try:
            for keeper, shown in each.shown.items():
                drawn = figures.side(each, shown)
                title, what = "detections on the named images", ""
                if not material.images:
                    (other,) = (name for name in each.pair if name != keeper)
                    title = f"where {keeper} finds more than {other}"
                    what = f"Images where {keeper} finds most objects that {other} does not. "
                name = f"side-by-side-{len(found) + 1}"
                found.append(Picture(name, replace(drawn, caption=what + drawn.caption), title))
        except DataError as error:
            _LOG.debug("no side-by-side of %s: %s", each.pair, error)
    return found


def _results(material: Material) -> list[Table]:
    run = material.run
    first = material.score
    metrics = [first, *(m for m in tables.METRICS_SHOWN if m != first)]
    intervals = None
    try:
        intervals = material.intervals
    except DataError as error:
        _LOG.debug("no intervals: %s", error)
    made = []
    if intervals is not None and material.sets:
        means = tables.means_table(intervals, material.names, first, run.pairs, material.whole.at)
        made += [means] if means.rows else []
    if intervals is not None:
        made += _tables(lambda: [tables.half_life_table(found)] if len(found := material.half_lives) else [])
    for table in tables.corruption_tables(material.results, run.pairs, metrics, intervals):
        parts = [table]
        if len(table.columns) > _WIDEST:
            parts = [
                t
                for m in metrics
                for t in tables.corruption_tables(material.results, run.pairs, [m], intervals)
                if t.title == table.title
            ]
        made += parts
    return [part for table in made for part in tables.split(table, _WIDEST)]


def _tables(make: Callable[[], list[Table]]) -> list[Table]:
    try:
        return [part for table in make() if table.rows for part in tables.split(table, _WIDEST)]
    except DataError as error:
        _LOG.debug("no table: %s", error)
        return []
