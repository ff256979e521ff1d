"""A figure with what goes with it."""

import io
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from robustbench_sgdm.figures.style import check_ending, save


@dataclass(frozen=True, eq=False)
class Drawn:
    """A figure and what goes with it.

    Attributes:
        figure: to be saved.
        caption: what it shows and how to read it, plain text.
        alt: what it says, for those who do not see it.
        data: the numbers in it.
        photographs: it holds pictures, so that JPEG suits it better than SVG.
    """

    figure: Figure
    caption: str
    alt: str
    data: pd.DataFrame = field(default_factory=pd.DataFrame)
    photographs: bool = False

    def save(self, path: str | Path) -> Path:
        """Write the figure; the ending decides: .svg, .png or .pdf.

        Raises:
            UsageError: another ending.
        """
        check_ending(Path(path))
        save(self.figure, Path(path))
        return Path(path)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png")
        return buffer.getvalue()
