"""Where the labels of boxes go, so that no two collide."""

import numpy as np
from numpy.typing import NDArray

Place = tuple[float, float]

_INSIDE = 0.3  # cost of a place inside the label's own box, of 1 for covering an important one wholly
_LATER = 0.01  # cost of each place after the first, so that the earlier of equal places is taken


def place_labels(
    boxes: NDArray[np.float64], sizes: NDArray[np.float64], frame: NDArray[np.float64], important: int = 0
) -> list[Place | None]:
    """The lower left corner of each label: at a corner of its box, within the frame, on no other label.

    Labels are placed in order, each where it hides least of the important boxes; None where all places are taken.

    Args:
        boxes: (n, 4) x1, y1, x2, y2, y upwards.
        sizes: (n, 2) width and height of the labels.
        frame: x1, y1, x2, y2.
        important: the first so many boxes should not be hidden.

    >>> place_labels(np.array([[0.0, 0, 4, 4], [0, 0, 4, 4]]), np.array([[3.0, 1], [3, 1]]), np.array([0.0, 0, 9, 9]))
    [(0.0, 4.0), (4.0, 3.0)]
    """
    placed: list[NDArray[np.float64]] = []
    places: list[Place | None] = []
    for number, (box, size) in enumerate(zip(boxes, sizes, strict=True)):
        corners = _candidates(box, size, frame)
        labels = np.concatenate([corners, corners + size], axis=1)
        fits = ((labels >= frame[[0, 1, 0, 1]] - 1e-6) & (labels <= frame[[2, 3, 2, 3]] + 1e-6)).all(axis=1)
        fits &= ~(_overlaps(labels, np.reshape(placed, (-1, 4))) > 0).any(axis=1)
        if not fits.any():
            places.append(None)
            continue
        others = np.delete(boxes[:important], number, axis=0) if number < important else boxes[:important]
        hidden = _overlaps(labels, others).sum(axis=1) / size.prod()
        own = _overlaps(labels, box[None])[:, 0] / size.prod()
        cost = hidden + _INSIDE * own + _LATER * np.arange(len(labels))
        best = int(np.where(fits, cost, np.inf).argmin())
        placed.append(labels[best])
        places.append((float(corners[best, 0]), float(corners[best, 1])))
    return places


def _candidates(
    box: NDArray[np.float64], size: NDArray[np.float64], frame: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Lower left corners (k, 2): above and below the box, beside it, then inside it."""
    (x1, y1, x2, y2), (w, h) = box, size
    left, right = (min(max(x, frame[0]), frame[2] - w) for x in (x1, x2 - w))
    return np.array(
        [
            *((left, y2), (right, y2), (left, y1 - h), (right, y1 - h)),
            *((x2, y2 - h), (x1 - w, y2 - h), (x2, y1), (x1 - w, y1)),
            *((left, y2 - h), (right, y2 - h), (left, y1), (right, y1)),
        ]
    )


def _overlaps(some: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas that (n, 4) boxes share with (m, 4) boxes, as (n, m)."""
    low, high = np.maximum(some[:, None, :2], others[:, :2]), np.minimum(some[:, None, 2:], others[:, 2:])
    area: NDArray[np.float64] = np.clip(high - low, 0, None).prod(axis=2)
    return np.where(area > 1e-6 * np.maximum(1.0, area.max(initial=0.0)), area, 0.0)
