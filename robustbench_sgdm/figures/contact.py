"""A contact sheet: one image in many versions, a row per corruption and a column per severity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.palette import INK
from robustbench_sgdm.figures import fonts
from robustbench_sgdm.figures.crops import crop_middle, scale_down
from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.run_analysis import RunAnalysis
from robustbench_sgdm.figures.style import PAGE, plot_style
from robustbench_sgdm.store import CorruptionInfo, read_image
from robustbench_sgdm.tables import humanize

_GAP, _DPI = 4, 100
_PAGE_DPI = 200  # where a sheet must fit a page
_HEAD, _LABELS = 0.35, 1.8  # inches of column heads and row labels
_PAGE = PAGE, 7.8  # inches
_MANY = 15  # rows above which a row has no room for two parameters

Pictures = Mapping[str, Mapping[float, NDArray[np.uint8]]]


@dataclass(frozen=True)
class Strengths:
    """How strong a corruption is.

    Attributes:
        parameters: names and units, a line for each.
        values: of these parameters, by severity.
    """

    parameters: Sequence[str] = ()
    values: Mapping[float, str] = field(default_factory=dict)


def draw_contact_sheet(
    rows: Pictures, *, fit: bool = False, strengths: Mapping[str, Strengths] | None = None
) -> Figure:
    """Draw the middle of each image, pixel by pixel at 100 dots per inch.

    Args:
        rows: title -> severity -> (H, W, 3) RGB image, all of one size.
        fit: scale them down to fit a page.
        strengths: title -> what is written on its images.
    """
    columns = sorted({severity for pictures in rows.values() for severity in pictures})
    parts = {title: {s: crop_middle(p) for s, p in pictures.items()} for title, pictures in rows.items()}
    dpi = _PAGE_DPI if fit else _DPI
    known = strengths or {}
    names = list(fonts.fit_names(rows, _LABELS, 7.5).values())
    units = [
        [fonts.shorten(p, _LABELS, 7) for p in known.get(title, Strengths()).parameters] for title in rows
    ]
    widths = [*map(fonts.width, names), *(fonts.width(text, 7) for lines in units for text in lines)]
    beside = min(0.25 + max(widths), _LABELS + 0.25) if fit else _LABELS
    labels = ["\n".join([name, *lines]) for name, lines in zip(names, units, strict=True)]
    if fit:
        width = _fit_width(parts, len(columns), beside)
        parts = {t: {s: scale_down(p, width) for s, p in pictures.items()} for t, pictures in parts.items()}
    high, wide = next(iter(next(iter(parts.values())).values())).shape[:2]
    cells = np.full((len(rows), high + _GAP, len(columns), wide + _GAP, 3), 255, np.uint8)
    for row, pictures in enumerate(parts.values()):
        for severity, picture in pictures.items():
            cells[row, :high, columns.index(severity), :wide] = picture
    sheet = cells.reshape(len(rows) * (high + _GAP), -1, 3)
    tall, broad = (side / dpi for side in sheet.shape[:2])
    with plot_style():
        figure = Figure(figsize=(broad + beside, tall + _HEAD), dpi=dpi)
        across, down = figure.get_size_inches()
        axis = figure.add_axes((beside / across, 0, broad / across, tall / down))
        axis.imshow(sheet, interpolation="none")
        axis.set_yticks([(high + _GAP) * (i + 0.5) for i in range(len(rows))], labels)
        titles = [(f"{s:g}" if fit else f"severity {s:g}") if s else "clean" for s in columns]
        axis.set_xticks([(wide + _GAP) * (i + 0.5) for i in range(len(columns))], titles)
        axis.xaxis.tick_top()
        axis.tick_params(length=0)
        axis.grid(False)
        axis.spines[:].set_visible(False)
        for row, title in enumerate(rows):
            for severity, value in known.get(title, Strengths()).values.items():
                if severity in columns:
                    place = columns.index(severity) * (wide + _GAP) + 0.04 * dpi, row * (high + _GAP) + high
                    text = fonts.shorten(value, wide / dpi - 0.1, 7)
                    axis.text(
                        place[0], place[1] - 0.04 * dpi, text, fontsize=7, color="#ffffff", va="bottom",
                        bbox={"facecolor": INK, "alpha": 0.75, "linewidth": 0, "pad": 1.2},
                    )  # fmt: skip
    return figure


def describe_strengths(info: CorruptionInfo, severities: Sequence[float], most: int = 2) -> Strengths:
    """The first parameters that differ between severities, or the first one, with their units.

    >>> info = CorruptionInfo(
    ...     family="blur", fingerprint="", strengths={"1": "radius=10, sigma=3", "3": "radius=10, sigma=8"},
    ...     units={"radius": "px", "sigma": "px"})
    >>> describe_strengths(info, [1, 3])
    Strengths(parameters=['sigma, px'], values={1: '3', 3: '8'})
    """
    parts = {s: info.strengths.get(f"{s:g}", "").split(", ") for s in severities}
    values = {s: dict(pair.split("=", 1) for pair in each if "=" in pair) for s, each in parts.items()}
    names = list(dict.fromkeys(name for each in values.values() for name in each))
    varying = [n for n in names if len({each.get(n) for each in values.values()}) > 1] or names
    few = varying[:most]
    words = [", ".join(filter(None, (humanize(name), info.units.get(name, "")))) for name in few]
    texts = {s: "; ".join(each[n] for n in few if n in each) for s, each in values.items()}
    return Strengths(words, {s: text for s, text in texts.items() if text})


def _fit_width(rows: Pictures, columns: int, beside: float) -> int:
    """The width in pixels at which everything fits a page."""
    high, wide = next(iter(next(iter(rows.values())).values())).shape[:2]
    across = (_PAGE[0] - beside) * _PAGE_DPI / columns - _GAP
    down = ((_PAGE[1] - _HEAD) * _PAGE_DPI / len(rows) - _GAP) * wide / high
    return max(16, int(min(across, down)))


@figure(
    "contact-sheet", "one image under every corruption and severity", section="corruptions", compares=False
)
def sheet_of(analysis: RunAnalysis) -> FigureResult:
    """One image under every corruption of a run."""
    sheet = analysis.contact_sheet
    pictures = {(c, s): read_image(analysis.run, c, s, i) for c, s, i in sheet}
    severities = sorted({s for _, s in pictures if s > 0})
    if not severities:
        raise DataError(f"{analysis.run.path} has only clean cells: there is no corruption to show")
    names = [c for c in dict.fromkeys(c for c, _ in pictures) if c != CLEAN]
    rows = {
        humanize(name): {s: picture for (c, s), picture in pictures.items() if c in (CLEAN, name)}
        for name in names
    }
    known = analysis.run.manifest.corruptions
    strengths = {
        humanize(name): describe_strengths(known[name], severities, 1 if len(names) > _MANY else 2)
        for name in names
        if name in known
    }
    written = any(one.values for one in strengths.values())
    caption = (
        f"The middle of image {sheet[0][2]} under every corruption of the run; a column for each severity"
        + (", with the strength of the corruption's first parameters and its unit." if written else ".")
    )
    levels = ", ".join(f"{s:g}" for s in severities)
    alt = f"Contact sheet of one image under {len(names)} corruptions at severities {levels}."
    data = pd.DataFrame(sheet, columns=["corruption", "severity", "image_id"])
    return FigureResult(
        draw_contact_sheet(rows, fit=True, strengths=strengths), caption, alt, data, photographs=True
    )
