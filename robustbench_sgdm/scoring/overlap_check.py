"""Whether predictions lie where the objects are and say what they are: ids that exist can still mean something else."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.datasets import Dataset
from robustbench_sgdm.scoring.references import Reference

AlternativeReadings = Callable[[], Sequence[tuple[str, Mapping[Reference, int]]]]
"""Other meanings of `category_id`: what to do for each, and the category of each reference."""

_MOST = 1000  # predictions of a file that are looked at, the most confident ones
_FEWEST = 20  # predictions from which shares say something
_OVERLAP = 0.5  # IoU
_SCATTERED = 0.1  # share on objects below which boxes or images are in doubt
_CONTRARY = 0.2  # share of the right class below which ids are in doubt
_PLAIN = 0.6  # share of the right class from which another reading of the ids is meant


class OverlapCheck:
    """Counts of predictions on objects, over files.

    Args:
        dataset: the ground truth.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        objects: dict[int, list[tuple[list[float], int]]] = defaultdict(list)
        for one in dataset.annotations:
            if not one["iscrowd"]:
                objects[one["image_id"]].append((one["bbox"], one["category_id"]))
        self._count = sum(map(len, objects.values()))
        self._objects = {
            image: (np.array([box for box, _ in each], np.float64), [category for _, category in each])
            for image, each in objects.items()
        }
        self._best = (0.0, 0, 0)  # share on objects, predictions on objects, predictions: of the best file
        self._pairs: Counter[tuple[Reference, int]] = Counter()  # what predictions say, and what they lie on

    def add(
        self,
        boxes: NDArray[np.float64],
        scores: NDArray[np.float64],
        images: NDArray[np.int64],
        categories: NDArray[np.int32],
        references: Sequence[Reference],
    ) -> None:
        """Look at one file's most confident predictions, no more than there are objects.

        Args:
            boxes: (n, 4) [x, y, w, h] px.
            scores: (n,).
            images: (n,) ids.
            categories: (n,) places in `references`.
            references: the file's distinct ids and names of categories.
        """
        first = np.argsort(-scores, kind="stable")[: min(_MOST, self._count)]
        on_objects = 0
        for n in first.tolist():
            if (there := self._objects.get(int(images[n]))) is None:
                continue
            overlaps = _overlaps(boxes[n], there[0])
            if overlaps[place := int(overlaps.argmax())] >= _OVERLAP:
                on_objects += 1
                self._pairs[references[categories[n]], there[1][place]] += 1
        if len(first) >= _FEWEST:
            self._best = max(self._best, (on_objects / len(first), on_objects, len(first)))

    def notes(self, categories: Mapping[Reference, int], readings: AlternativeReadings) -> list[str]:
        """What is in doubt, one sentence each.

        Args:
            categories: what each reference is taken to mean.
            readings: what it could mean instead, where that may be held against it.

        Raises:
            DataError: hardly a prediction has the class of the object that it lies on, and in another reading most have.
        """
        share, on_objects, total = self._best
        if total and share < _SCATTERED:
            return [
                f"of the {total:,} most confident predictions, {on_objects:,} overlap an object of {self._dataset.name} "
                f"(IoU {_OVERLAP:g} or more), of whatever class: are they of these images, in pixels of the original "
                "image?"
            ]
        located = self._pairs.total()
        right = self._right(categories)
        if located < _FEWEST or right >= _CONTRARY * located:
            return []
        names = {int(c["id"]): str(c["name"]) for c in self._dataset.categories}
        (reference, other), count = max(
            ((pair, n) for pair, n in self._pairs.items() if categories[pair[0]] != pair[1]),
            key=lambda pair: pair[1],
        )
        said = names.get(categories[reference], "a class that the data does not have")
        what = (
            f"of the {located:,} most confident predictions that overlap an object of {self._dataset.name}, {right:,} "
            f"have its class ({count:,} that count as {said} lie on {names[other]})"
        )
        for remedy, meant in readings():
            if (fitting := self._right(meant)) >= _PLAIN * located:
                raise DataError(
                    f"{what}, and {fitting:,} have it if category_id is read in another way: {remedy}. If --category-ids "
                    "is set, it is used without this check"
                )
        return [f"{what}: does category_id mean these classes?"]

    def _right(self, meant: Mapping[Reference, int]) -> int:
        return sum(
            count for (reference, truth), count in self._pairs.items() if meant.get(reference) == truth
        )


def _overlaps(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of one [x, y, w, h] with each of (n, 4)."""
    upper = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:])
    sides = np.clip(upper - np.maximum(box[:2], others[:, :2]), 0, None)
    shared = sides.prod(1)
    union = box[2:].prod() + others[:, 2:].prod(1) - shared
    overlaps: NDArray[np.float64] = shared / np.maximum(union, 1e-12)
    return overlaps
