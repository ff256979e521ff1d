"""Ranges of object sizes that scores are computed for: COCO's small, medium and large, or one's own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from robustbench_sgdm.core.errors import UsageError

_LARGEST = 1e5  # px; COCO's upper bound of large objects
_MAX_RANGES = 12


@dataclass(frozen=True)
class Sizes:
    """Ranges of sizes, which are square roots of areas.

    Attributes:
        edges: px, ascending; a range holds both of its ends, as in COCO.
        names: of the ranges, one fewer than edges.
    """

    edges: tuple[float, ...]
    names: tuple[str, ...]

    @classmethod
    def parse(cls, edges: str | Sequence[float]) -> "Sizes":
        """Ranges between edges, named after them.

        Args:
            edges: such as `0,16,32,96,inf`.

        Raises:
            UsageError: not at least two ascending numbers from 0 on, too large ones, or two ranges of one name.

        >>> Sizes.parse("0,16,inf").names
        ('0-16', '16-inf')
        """
        parts = edges.split(",") if isinstance(edges, str) else list(edges)
        try:
            numbers = [float(part) + 0.0 for part in parts]  # -0 is 0
        except ValueError:
            numbers = []
        ascending = all(a < b for a, b in pairwise(numbers))
        if not 2 <= len(numbers) <= _MAX_RANGES + 1 or not ascending or not numbers[0] >= 0:
            raise UsageError(
                f"sizes {edges!r} are not 2 to {_MAX_RANGES + 1} ascending numbers from 0 on, in pixels; write for "
                "example 0,16,32,96,inf"
            )
        if too_large := [edge for edge in numbers if _LARGEST <= edge < math.inf]:
            raise UsageError(
                f"sizes {edges!r} hold {too_large[0]:g}; the largest objects of COCO's scores have {_LARGEST:g} pixels: "
                "write inf for no bound"
            )
        names = [f"{a:g}-{b:g}" for a, b in pairwise(numbers)]
        if len({f"{edge:g}" for edge in numbers}) < len(numbers):
            raise UsageError(f"sizes {edges!r} have two edges that are equal to six digits; leave one out")
        return cls(tuple(numbers), tuple(names))

    @cached_property
    def areas(self) -> NDArray[np.float64]:
        """Least and largest area (px^2) of all objects and of each range, (1 + ranges, 2)."""
        ends = [_LARGEST if math.isinf(edge) else edge for edge in self.edges]
        ranges: NDArray[np.float64] = np.array([[0.0, _LARGEST], *pairwise(ends)]) ** 2
        return ranges

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of a resample: AP, AP50, AP75 and AP of each range."""
        return ("AP", "AP50", "AP75", *(f"AP_{name}" for name in self.names))

    def file_name(self, stem: str) -> str:
        """The name of a file of cached numbers for these sizes."""
        return f"{stem}.parquet" if self == COCO_SIZES else f"{stem}_{'_'.join(self.names)}.parquet"


COCO_SIZES = Sizes((0.0, 32.0, 96.0, math.inf), ("S", "M", "L"))
