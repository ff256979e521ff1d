"""What files of predictions refer to: images and categories, by ids and by names."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from robustbench_sgdm.datasets import Dataset

Reference = tuple[int | str | None, str | None]
"""An id and a name, of an image or of a category; one of them may be missing."""

Uses = Mapping[Reference, tuple[int, int]]
"""For each reference of a file the number of the first prediction with it, from 1, and how many have it."""


@dataclass(frozen=True)
class FileReferences:
    """The references of one file, in the order of the file."""

    path: Path
    images: Uses
    categories: Uses


class ReferenceCounts:
    """References over several files.

    Attributes:
        counts: predictions with each, in order.
        total: predictions.
    """

    def __init__(self, uses: Iterable[tuple[Path, Uses]]) -> None:
        self.counts: Counter[Reference] = Counter()
        self._places: dict[Reference, str] = {}
        for path, each in uses:
            for reference, (first, count) in each.items():
                self.counts[reference] += count
                self._places.setdefault(reference, f"{path}: prediction {first}")
        self.total = self.counts.total()

    def first_use(self, reference: Reference) -> str:
        """The first prediction with a reference, as messages name it."""
        return self._places[reference]

    def count(self, references: Iterable[Reference]) -> int:
        """How many predictions have one of them."""
        return sum(self.counts[r] for r in references)


def has_generated_ids(dataset: Dataset) -> bool:
    """Whether the ids of images and categories are ours: a dataset YAML has none."""
    return Path(dataset.source).suffix.lower() in {".yaml", ".yml"}


def parse_whole_number(text: str) -> int | None:
    """The whole number that a text is, also as tables write it: leading zeros, spaces around it and `.0` aside.

    >>> [parse_whole_number(text) for text in ("000139", " 139.0", "frame_1", "")]
    [139, 139, None, None]
    """
    whole, _, rest = text.strip().partition(".")
    if len(text) >= 256 or not whole.isdecimal() or rest.strip("0"):  # a file's name has no more characters
        return None
    return int(whole)
