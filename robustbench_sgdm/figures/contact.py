"""A contact sheet: one image in many versions, a row per corruption and a column per severity."""

from collections.abc import Mapping

import cv2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.figures import fonts
from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.run_analysis import RunAnalysis
from robustbench_sgdm.figures.style import PAGE, plot_style
from robustbench_sgdm.store import read_image
from robustbench_sgdm.tables import humanize

_DETECTOR_SIDE = 640  # px of an image's longer side as a detector sees it
# Px of its middle, high and wide: a whole image would have to be scaled down, and noise with it.
_CROP = (192, 256)
_GAP, _DPI = 4, 100
_PAGE_DPI = 200  # where a sheet must fit a page
_HEAD, _LABELS = 0.35, 1.8  # inches of column heads and row labels
_PAGE = PAGE, 7.8  # inches

Pictures = Mapping[str, Mapping[float, NDArray[np.uint8]]]


def draw_contact_sheet(rows: Pictures, *, fit: bool = False) -> Figure:
    """Draw the middle of each image, pixel by pixel at 100 dots per inch.

    Args:
        rows: title -> severity -> (H, W, 3) RGB image, all of one size.
        fit: scale them down to fit a page.
    """
    columns = sorted({severity for pictures in rows.values() for severity in pictures})
    parts = {title: {s: _crop_middle(p) for s, p in pictures.items()} for title, pictures in rows.items()}
    dpi = _PAGE_DPI if fit else _DPI
    names = list(fonts.fit_names(rows, _LABELS, 7.5).values())
    beside = 0.25 + max(map(fonts.width, names)) if fit else _LABELS
    if fit:
        width = _fit_width(parts, len(columns), beside)
        parts = {t: {s: _scale_down(p, width) for s, p in pictures.items()} for t, pictures in parts.items()}
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
        axis.set_yticks([(high + _GAP) * (i + 0.5) for i in range(len(rows))], names)
        titles = [(f"{s:g}" if fit else f"severity {s:g}") if s else "clean" for s in columns]
        axis.set_xticks([(wide + _GAP) * (i + 0.5) for i in range(len(columns))], titles)
        axis.xaxis.tick_top()
        axis.tick_params(length=0)
        axis.grid(False)
        axis.spines[:].set_visible(False)
    return figure


def _crop_middle(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    scale = min(1, _DETECTOR_SIDE / max(height, width))
    if scale < 1:
        picture = _scale_down(picture, max(1, round(width * scale)))
    top, left = (max(0, side - most) // 2 for side, most in zip(picture.shape, _CROP, strict=False))
    return picture[top : top + _CROP[0], left : left + _CROP[1]]


def _fit_width(rows: Pictures, columns: int, beside: float) -> int:
    """The width in pixels at which everything fits a page."""
    high, wide = next(iter(next(iter(rows.values())).values())).shape[:2]
    across = (_PAGE[0] - beside) * _PAGE_DPI / columns - _GAP
    down = ((_PAGE[1] - _HEAD) * _PAGE_DPI / len(rows) - _GAP) * wide / high
    return max(16, int(min(across, down)))


def _scale_down(picture: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    size = (width, max(1, round(picture.shape[0] * width / picture.shape[1])))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


@figure(
    "contact-sheet", "one image under every corruption and severity", section="corruptions", compares=False
)
def sheet_of(analysis: RunAnalysis) -> FigureResult:
    """One image under every corruption of a run."""
    sheet = analysis.contact_sheet
    pictures = {(c, s): read_image(analysis.run, c, s, i) for c, s, i in sheet}
    severities = sorted({s for _, s in pictures if s > 0})
    if not severities:
        raise DataError(f"{analysis.run.path} has clean cells only: no corruption to show")
    names = [c for c in dict.fromkeys(c for c, _ in pictures) if c != CLEAN]
    rows = {
        humanize(name): {s: picture for (c, s), picture in pictures.items() if c in (CLEAN, name)}
        for name in names
    }
    caption = (
        f"The middle of image {sheet[0][2]} under every corruption of the run; a column for each severity."
    )
    levels = ", ".join(f"{s:g}" for s in severities)
    alt = f"Contact sheet of one image under {len(names)} corruptions at severities {levels}."
    data = pd.DataFrame(sheet, columns=["corruption", "severity", "image_id"])
    return FigureResult(draw_contact_sheet(rows, fit=True), caption, alt, data, photographs=True)
