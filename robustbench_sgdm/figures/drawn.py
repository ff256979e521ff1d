"""A figure with what goes with it."""

from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure


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
