"""A contact sheet: one picture in many versions, a row per kind and a column per severity."""

from collections.abc import Mapping

import cv2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.figures import fonts
from robustbench_sgdm.figures.drawn import Drawn
from robustbench_sgdm.figures.material import Material
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.style import PAGE, styled
from robustbench_sgdm.store import read_picture
from robustbench_sgdm.tables import words

_LONGEST = 640  # px of a picture's longer side as a detector sees it
_SHOWN = 192, 256  # px of its middle, high and wide: whole, it would have to be reduced, and noise with it
_GAP, _DPI = 4, 100
_FINE = 200  # dots per inch where a sheet must fit a page
_ABOVE, _BESIDE = 0.35, 1.8  # inches of heads and titles
_PAGE = PAGE, 7.8  # inches

Pictures = Mapping[str, Mapping[float, NDArray[np.uint8]]]


def contact_sheet(rows: Pictures, *, fit: bool = False) -> Figure:
    """Draw the middle of each picture, pixel by pixel at 100 dots per inch.

    Args:
        rows: title -> severity -> (H, W, 3) RGB picture, all of one size.
        fit: reduce them to what a page has room for.
    """
    columns = sorted({severity for pictures in rows.values() for severity in pictures})
    parts = {title: {s: _middle(p) for s, p in pictures.items()} for title, pictures in rows.items()}
    dpi = _FINE if fit else _DPI
    names = list(fonts.fit(rows, _BESIDE, 7.5).values())
    beside = 0.25 + max(map(fonts.width, names)) if fit else _BESIDE
    if fit:
        width = _fitting(parts, len(columns), beside)
        parts = {t: {s: _reduced(p, width) for s, p in pictures.items()} for t, pictures in parts.items()}
    high, wide = next(iter(next(iter(parts.values())).values())).shape[:2]
    cells = np.full((len(rows), high + _GAP, len(columns), wide + _GAP, 3), 255, np.uint8)
    for row, pictures in enumerate(parts.values()):
        for severity, picture in pictures.items():
            cells[row, :high, columns.index(severity), :wide] = picture
    sheet = cells.reshape(len(rows) * (high + _GAP), -1, 3)
    tall, broad = (side / dpi for side in sheet.shape[:2])
    with styled():
        figure = Figure(figsize=(broad + beside, tall + _ABOVE), dpi=dpi)
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


def _middle(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    scale = min(1, _LONGEST / max(height, width))
    if scale < 1:
        picture = _reduced(picture, max(1, round(width * scale)))
    top, left = (max(0, side - most) // 2 for side, most in zip(picture.shape, _SHOWN, strict=False))
    return picture[top : top + _SHOWN[0], left : left + _SHOWN[1]]


def _fitting(rows: Pictures, columns: int, beside: float) -> int:
    """The width in pixels at which everything fits a page."""
    high, wide = next(iter(next(iter(rows.values())).values())).shape[:2]
    across = (_PAGE[0] - beside) * _FINE / columns - _GAP
    down = ((_PAGE[1] - _ABOVE) * _FINE / len(rows) - _GAP) * wide / high
    return max(16, int(min(across, down)))


def _reduced(picture: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    size = (width, max(1, round(picture.shape[0] * width / picture.shape[1])))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


@figure(
    "contact-sheet", "one image under every corruption and severity", section="corruptions", compares=False
)
def sheet_of(material: Material) -> Drawn:
    """One image under every corruption of a run."""
    sheet = material.sheet
    pictures = {(c, s): read_picture(material.run, c, s, i) for c, s, i in sheet}
    severities = sorted({s for _, s in pictures if s > 0})
    if not severities:
        raise DataError(f"{material.run.path} has clean cells only: there is no corruption to show")
    names = [c for c in dict.fromkeys(c for c, _ in pictures) if c != CLEAN]
    rows = {
        words(name): {s: picture for (c, s), picture in pictures.items() if c in (CLEAN, name)}
        for name in names
    }
    caption = (
        f"The middle of image {sheet[0][2]} under every corruption of the run; a column for each severity."
    )
    levels = ", ".join(f"{s:g}" for s in severities)
    alt = f"Contact sheet of one image under {len(names)} corruptions at severities {levels}."
    data = pd.DataFrame(sheet, columns=["corruption", "severity", "image_id"])
    return Drawn(contact_sheet(rows, fit=True), caption, alt, data, photographs=True)
