"""A figure with its caption, its alternative text and its data."""

import io
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from robustbench_sgdm.core.arguments import check_arguments
from robustbench_sgdm.figures import fonts
from robustbench_sgdm.figures.style import check_suffix, save_figure


@dataclass(frozen=True, eq=False)
class FigureResult:
    """A figure with its caption, its alternative text and its data.

    Attributes:
        figure: matplotlib's.
        caption: what it shows and how to read it, as plain text.
        alt: what it says, for those who cannot see it.
        data: its numbers.
        photographs: whether it shows images, which are stored as JPEG within the SVG file.
    """

    figure: Figure
    caption: str
    alt: str = field(repr=False)
    data: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    photographs: bool = False

    @check_arguments
    def save(self, path: str | Path) -> Path:
        """Write the figure; the ending decides: .svg, .png or .pdf.

        Raises:
            UsageError: another ending.
        """
        check_suffix(Path(path))
        save_figure(self.figure, Path(path))
        return Path(path)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        fonts.keep_needed_families(self.figure)
        self.figure.savefig(buffer, format="png")
        return buffer.getvalue()
