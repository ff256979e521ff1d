"""A contact sheet: one picture in many versions, a row per kind and a column per degree."""

from collections.abc import Mapping

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from robustbench_sgdm.figures.style import styled

_LONGEST = 640  # px of a picture's longer side as a detector sees it
_SHOWN = 192, 256  # px of its middle, high and wide: whole, it would have to be reduced, and noise with it
_GAP = 4
_LABELS = 1.8, 0.4  # inches beside and above


def contact_sheet(rows: Mapping[str, Mapping[float, NDArray[np.uint8]]]) -> Figure:
    """Draw the middle of each picture, pixel by pixel at 100 dots per inch.

    Args:
        rows: title -> severity -> (H, W, 3) RGB picture, all of one size.
    """
    columns = sorted({severity for pictures in rows.values() for severity in pictures})
    parts = {title: {s: _middle(p) for s, p in pictures.items()} for title, pictures in rows.items()}
    high, wide = next(iter(next(iter(parts.values())).values())).shape[:2]
    cells = np.full((len(rows), high + _GAP, len(columns), wide + _GAP, 3), 255, np.uint8)
    for row, pictures in enumerate(parts.values()):
        for severity, picture in pictures.items():
            cells[row, :high, columns.index(severity), :wide] = picture
    sheet = cells.reshape(len(rows) * (high + _GAP), -1, 3)
    tall, broad = (side / 100 for side in sheet.shape[:2])
    with styled():
        figure = Figure(figsize=(broad + _LABELS[0], tall + _LABELS[1]))
        across, down = figure.get_size_inches()
        axis = figure.add_axes((_LABELS[0] / across, 0, broad / across, tall / down))
        axis.imshow(sheet, interpolation="none")
        axis.set_yticks([(high + _GAP) * (i + 0.5) for i in range(len(rows))], list(rows))
        titles = [f"severity {s:g}" if s else "clean" for s in columns]
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
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    top, left = (max(0, side - most) // 2 for side, most in zip(picture.shape, _SHOWN, strict=False))
    return picture[top : top + _SHOWN[0], left : left + _SHOWN[1]]
