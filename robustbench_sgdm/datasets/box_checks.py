"""Boxes held against their images: what no picture can hold is counted, said, and refused where it is the rule."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robustbench_sgdm.core.errors import DataError

Form = Literal["xywh", "xyxy", "cxcywh"]
"""How four numbers are a box: corner and size, two corners, or centre and size."""

_FORM_NAMES: dict[Form, str] = {
    "xywh": "[x, y, width, height]",
    "xyxy": "corners [x1, y1, x2, y2]",
    "cxcywh": "centre and size [cx, cy, width, height]",
}
_SLACK = 1.0  # px by which a box may stick out: annotators round
_ROUNDING = 1e-3  # px below zero that a difference of two corners may leave
_SLACK_PREDICTED = 0.05  # of a side: many detectors do not clip
_FAR_OUTSIDE = 0.1  # of a side: further out than a sloppy hand draws
_FITTING_SHARE = 0.98  # of all boxes that another reading must fit before it is said to be the one
_SHARE = 1.5  # the largest value of a box in shares of its image, drawn a little past the edge
_MIN_BOXES = 5  # boxes below which only what is far outside shows anything
_CONSPICUOUS = 0.2  # of the boxes, outside, where another reading fits all
_MIN_BOXES_FOR_REACH = 20  # boxes of which some should reach the lower or the right part of their image


def check_boxes(
    values: NDArray[np.float64],
    widths: NDArray[np.float64],
    heights: NDArray[np.float64],
    source: str,
    name: Callable[[int], str],
    *,
    form: Form = "xywh",
    predicted: bool = False,
    from_shares: bool = False,
) -> list[str]:
    """Hold boxes against the images that they are of.

    A few boxes past the edge, under a pixel or inverted are what annotators and detectors make: they are counted. A
    convention misread (corners for sizes, shares for pixels, a picture turned) moves most boxes, and fits in another
    reading: that is refused.

    Args:
        values: (n, 4) px, finite, read in `form`.
        widths: (n,) px of the image of each box, as it is decoded.
        heights: the same.
        source: the file, which messages begin with.
        name: what a message calls the box of an index, such as `annotation 7, of a.jpg`.
        form: how `values` are meant.
        predicted: by a detector, which may leave an image by 5 % of its side, or collapse to points, without a word.
        from_shares: the file holds shares of the image, as YOLO label files do. Ultralytics takes them wherever they
            lie, so they are refused only where another reading fits.

    Returns:
        One sentence for each kind of oddness, with its count, an example, and its likely cause.

    Raises:
        DataError: most boxes cannot be meant so.
    """
    if not len(values):
        return []
    total, sides = len(values), np.stack([widths, heights], axis=1)
    corner, extent = _corner_and_extent(values, form)

    def of_all(odd: NDArray[np.bool_], what: str) -> str:
        first = int(np.flatnonzero(odd)[0])
        box = ", ".join(f"{v:.6g}" for v in values[first])
        return (
            f"{source}: {int(odd.sum()):,} of {total:,} boxes {what} (first: {name(first)}, [{box}] in an image of "
            f"{widths[first]:g} x {heights[first]:g} px)"
        )

    inverted = np.any(extent < -_ROUNDING, axis=1)
    twice = bool((extent + corner > 0)[inverted].all()) and form == "xywh"
    if inverted.mean() >= (_CONSPICUOUS if twice and total >= _MIN_BOXES else 0.5):
        cause = "they look like sizes from which x and y were subtracted once too often; " * twice
        raise DataError(
            f"{of_all(inverted, 'have a negative width or height')}; {cause}write {_FORM_NAMES[form]} in pixels"
        )

    few = predicted and total < _MIN_BOXES  # one odd detection shows nothing of a file
    shares = np.all(
        (np.abs(values) <= _SHARE) & (np.tile(extent, 2) > 0) & (np.tile(sides, 2) > 8 * _SHARE), axis=1
    )
    if shares.mean() > 0.5 and not few:
        cause = "look like shares of the image (0 to 1), not pixels"
        remedy = (
            "multiply x and width by the image's width, y and height by its height"
            if form != "cxcywh"
            else "they were divided by the image's size twice"
        )
        raise DataError(f"{of_all(shares, cause)}; {remedy}")

    points = np.all(extent < 1, axis=1)
    if points.mean() > 0.5 and not predicted and not from_shares:
        raise DataError(
            f"{of_all(points, 'are smaller than a pixel')}; write {_FORM_NAMES[form]} in pixels of the image"
        )

    slack = np.maximum(_SLACK, _SLACK_PREDICTED * sides) if predicted else np.full_like(sides, _SLACK)
    beyond = np.maximum(-corner, corner + extent - sides)
    outside = np.any(beyond > slack, axis=1)
    notes: list[str] = []
    if inverted.any():
        notes.append(
            f"{of_all(inverted, 'have a negative width or height')}; they overlap nothing: correct or remove them"
        )
    if outside.mean() > (0.05 if predicted else 0.0):
        cause = _other_reading(values, sides, slack, form)
        what = f"leave their image by more than {'5 % of its side' if predicted else '1 px'}"
        if (
            (cause or not from_shares)
            and not few
            and _is_the_rule(corner, extent, sides, outside, bool(cause), predicted)
        ):
            raise DataError(f"{of_all(outside, what)}; {cause or _reach(corner + extent, sides)}")
        if (
            not cause
            and form == "xywh"
            and _fits(*_corner_and_extent(values, "xyxy"), sides, slack)[outside].mean() > 0.9
        ):
            cause = f"these fit as {_FORM_NAMES['xyxy']}: is the file made of two?"
        square = np.repeat(sides.max(1, keepdims=True), 2, axis=1)
        if (
            not cause
            and outside.mean() >= _CONSPICUOUS
            and _fits(corner, extent, square, slack).mean() >= _FITTING_SHARE
        ):
            cause = "they fit a square around the image: are they coordinates in a padded (letterboxed) one?"
        notes.append(f"{of_all(outside, what)}; {cause or 'correct or clip them if that is not meant'}")
    thin = np.any(extent < 1, axis=1) & ~inverted
    if thin.mean() > (0.5 if predicted else 0.0):
        notes.append(
            f"{of_all(thin, 'are less than a pixel wide or high')}; hardly a detection can match them"
        )
    reach = ((corner + extent) / sides).max(0)
    near = (corner / sides).min(0)
    # In a smaller square that pads the shorter side, boxes begin and end a little further on.
    if total >= _MIN_BOXES_FOR_REACH and reach.max() <= (0.7 if near.max() <= 0.15 else 0.6):
        notes.append(
            f"{source}: all {total:,} boxes lie in the upper left of their images, within {100 * reach[0]:.0f} % of the "
            f"width and {100 * reach[1]:.0f} % of the height; were they drawn on smaller images, or are they percentages?"
        )
    return notes


def boxes_fit(
    values: NDArray[np.float64], widths: NDArray[np.float64], heights: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which boxes [x, y, w, h] lie in images of these sizes, rounding aside: (n,)."""
    sides = np.stack([widths, heights], axis=1)
    return _fits(values[:, :2], values[:, 2:], sides, np.full_like(sides, _SLACK))


def _corner_and_extent(
    values: NDArray[np.float64], form: Form
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Upper left corner and size, (n, 2) each."""
    first, second = values[:, :2], values[:, 2:]
    if form == "xyxy":
        return first, second - first
    return (first, second) if form == "xywh" else (first - second / 2, second)


def _fits(
    corner: NDArray[np.float64],
    extent: NDArray[np.float64],
    sides: NDArray[np.float64],
    slack: NDArray[np.float64],
) -> NDArray[np.bool_]:
    within: NDArray[np.bool_] = (extent >= 0) & (corner >= -slack) & (corner + extent <= sides + slack)
    return within[:, 0] & within[:, 1]


def _is_the_rule(
    corner: NDArray[np.float64],
    extent: NDArray[np.float64],
    sides: NDArray[np.float64],
    outside: NDArray[np.bool_],
    explained: bool,
    predicted: bool,
) -> bool:
    """Whether so much lies outside that the boxes cannot be meant so; less of it will do if another reading fits all.

    Boxes of objects that an image cuts off, drawn whole, are legitimate: they have their centre inside.
    """
    total = len(outside)
    far = float((np.maximum(-corner, corner + extent - sides) > _FAR_OUTSIDE * sides).any(1).mean())
    centre = corner + extent / 2
    if float(((centre < 0) | (centre > sides)).any(1).mean()) > 0.5:
        return True
    if explained:
        share = float(outside.mean()) if total >= _MIN_BOXES_FOR_REACH else far
        return far > 0.5 or (total >= _MIN_BOXES and share >= _CONSPICUOUS)
    return far > 0.5 and total >= _MIN_BOXES and not predicted


def _other_reading(
    values: NDArray[np.float64], sides: NDArray[np.float64], slack: NDArray[np.float64], form: Form
) -> str:
    """In what other reading (almost) every box fits its image, as the end of a sentence; empty if in none."""
    forms: tuple[Form, ...] = ("xyxy", "xywh", "cxcywh")
    for other in forms:
        if other != form and _fits(*_corner_and_extent(values, other), sides, slack).mean() >= _FITTING_SHARE:
            return f"they fit as {_FORM_NAMES[other]}: convert them to {_FORM_NAMES[form]}"
    corner, extent = _corner_and_extent(values, form)
    if _fits(corner, extent, sides[:, ::-1], slack[:, ::-1]).mean() >= _FITTING_SHARE:
        return (
            "they fit where width and height are swapped: x and y are exchanged, or the images were turned after "
            "they were annotated"
        )
    turned = values[:, [1, 0, 3, 2]]
    if _fits(*_corner_and_extent(turned, "xyxy"), sides, slack).mean() >= _FITTING_SHARE:
        return f"they fit as corners [y1, x1, y2, x2]: convert them to {_FORM_NAMES[form]}"
    return ""


def _reach(ends: NDArray[np.float64], sides: NDArray[np.float64]) -> str:
    across, down = np.quantile(ends / sides, 0.99, axis=0)
    return (
        f"they reach {across:.2g} times the width and {down:.2g} times the height: were they drawn on images of "
        "another size?"
    )
