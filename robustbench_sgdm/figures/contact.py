"""A contact sheet: one picture in many versions, a row per kind and a column per degree."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from robustbench_sgdm.errors import DataError
from robustbench_sgdm.figures.drawn import Drawn
from robustbench_sgdm.figures.material import Material
from robustbench_sgdm.figures.style import PAGE, styled, words
from robustbench_sgdm.store import read_picture
from robustbench_sgdm.types import CLEAN

_WIDTH, _DPI = 200, 100  # px of a thumbnail, and how dense
_FINE = 200  # dots per inch where a sheet must fit a page
_GAP = 4
_ABOVE = 0.35  # inches of heads
_PAGE = PAGE, 7.8  # inches


def contact_sheet(
    rows: Mapping[str, Sequence[NDArray[np.uint8]]], columns: Sequence[str], *, fit: bool = False
) -> Figure:
    """Draw thumbnails, 200 pixels wide at 100 dots per inch.

    Args:
        rows: title -> one (H, W, 3) RGB picture per column, all of one size.
        columns: titles.
        fit: make them as large as a page lets them be instead.
    """
    width, dpi = (_fitting(rows, len(columns)), _FINE) if fit else (_WIDTH, _DPI)
    beside = _beside(rows)
    thumbnails = [[_thumbnail(picture, width) for picture in pictures] for pictures in rows.values()]
    high, wide = thumbnails[0][0].shape[:2]
    cells = np.full((len(rows), high + _GAP, len(columns), wide + _GAP, 3), 255, np.uint8)
    for row, pictures in enumerate(thumbnails):
        for column, picture in enumerate(pictures):
            cells[row, :high, column, :wide] = picture
    sheet = cells.reshape(len(rows) * (high + _GAP), -1, 3)
    tall, broad = (side / dpi for side in sheet.shape[:2])
    with styled():
        figure = Figure(figsize=(broad + beside, tall + _ABOVE))
        across, down = figure.get_size_inches()
        axis = figure.add_axes((beside / across, 0, broad / across, tall / down))
        axis.imshow(sheet, interpolation="none")
        axis.set_yticks([(high + _GAP) * (i + 0.5) for i in range(len(rows))], list(rows))
        axis.set_xticks([(wide + _GAP) * (i + 0.5) for i in range(len(columns))], columns)
        axis.xaxis.tick_top()
        axis.tick_params(length=0)
        axis.grid(False)
        axis.spines[:].set_visible(False)
    return figure


def _beside(rows: Mapping[str, object]) -> float:
    """Inches that the rows' titles take."""
    return 0.25 + 0.07 * max(map(len, rows))


def _fitting(rows: Mapping[str, Sequence[NDArray[np.uint8]]], columns: int) -> int:
    """The width in pixels at which everything fits a page."""
    high, wide = next(iter(rows.values()))[0].shape[:2]
    across = (_PAGE[0] - _beside(rows)) * _FINE / columns - _GAP
    down = ((_PAGE[1] - _ABOVE) * _FINE / len(rows) - _GAP) * wide / high
    return max(16, int(min(across, down)))


def _thumbnail(picture: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    size = (width, max(1, round(picture.shape[0] * width / picture.shape[1])))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def sheet_of(material: Material) -> Drawn:
    """One image under every corruption of a run."""
    sheet = material.sheet
    pictures = {(c, s): read_picture(material.run, c, s, i) for c, s, i in sheet}
    severities = sorted({s for _, s in pictures if s > 0})
    if not severities:
        raise DataError(f"{material.run.path} has clean cells only: there is no corruption to show")
    blank = np.full_like(pictures[CLEAN, 0.0], 255)
    names = [c for c in dict.fromkeys(c for c, _ in pictures) if c != CLEAN]

    def row(name: str) -> list[NDArray[np.uint8]]:
        return [pictures[CLEAN, 0.0], *(pictures.get((name, s), blank) for s in severities)]

    caption = f"Image {sheet[0][2]} under every corruption of the run, as detectors saw it; a column for each severity."
    levels = ", ".join(f"{s:g}" for s in severities)
    alt = f"Contact sheet of one image under {len(names)} corruptions at severities {levels}."
    heads = ["clean", *(f"{s:g}" for s in severities)]
    figure = contact_sheet({words(n): row(n) for n in names}, heads, fit=True)
    data = pd.DataFrame(sheet, columns=["corruption", "severity", "image_id"])
    return Drawn(figure, caption, alt, data, photographs=True)
