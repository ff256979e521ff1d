"""Checks of boxes against their images: a few odd boxes are counted; a convention that was misread is an error."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
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
    boxes = _Boxes(values, np.stack([widths, heights], axis=1), source, name, form, predicted, from_shares)
    notes = [boxes.check_signs()]
    boxes.check_units()
    return [note for note in (*notes, boxes.check_edges(), boxes.check_size(), boxes.check_reach()) if note]


@dataclass(frozen=True)
class _Boxes:
    """Boxes and their images; each check returns a note, empty where nothing is odd, or raises a `DataError`."""

    values: NDArray[np.float64]
    sides: NDArray[np.float64]
    source: str
    name: Callable[[int], str]
    form: Form
    predicted: bool
    from_shares: bool

    @cached_property
    def corner(self) -> NDArray[np.float64]:
        return _corner_and_extent(self.values, self.form)[0]

    @cached_property
    def extent(self) -> NDArray[np.float64]:
        return _corner_and_extent(self.values, self.form)[1]

    @cached_property
    def inverted(self) -> NDArray[np.bool_]:
        return np.asarray(np.any(self.extent < -_ROUNDING, axis=1))

    @property
    def is_too_few(self) -> bool:
        """One odd detection shows nothing of a file."""
        return self.predicted and len(self.values) < _MIN_BOXES

    def describe(self, odd: NDArray[np.bool_], what: str) -> str:
        """How many of all boxes are odd, and the first of them."""
        first = int(np.flatnonzero(odd)[0])
        box = ", ".join(f"{v:.6g}" for v in self.values[first])
        width, height = self.sides[first]
        return (
            f"{self.source}: {int(odd.sum()):,} of {len(odd):,} boxes {what} (first: {self.name(first)}, [{box}] in an "
            f"image of {width:g} x {height:g} px)"
        )

    def check_signs(self) -> str:
        """Negative widths and heights: corners read as sizes, or sizes from which the corner was subtracted twice."""
        inverted, what = self.inverted, "have a negative width or height"
        twice = bool((self.extent + self.corner > 0)[inverted].all()) and self.form == "xywh"
        if inverted.mean() >= (_CONSPICUOUS if twice and len(inverted) >= _MIN_BOXES else 0.5):
            cause = "they look like sizes from which x and y were subtracted once too often; " * twice
            raise DataError(
                f"{self.describe(inverted, what)}; {cause}write {_FORM_NAMES[self.form]} in pixels"
            )
        if not inverted.any():
            return ""
        return f"{self.describe(inverted, what)}; they overlap nothing: correct or remove them"

    def check_units(self) -> None:
        """Shares of the image where pixels are meant, or pixels of nothing."""
        is_share = (np.abs(self.values) <= _SHARE) & (np.tile(self.extent, 2) > 0)
        shares = np.all(is_share & (np.tile(self.sides, 2) > 8 * _SHARE), axis=1)
        if shares.mean() > 0.5 and not self.is_too_few:
            remedy = (
                "multiply x and width by the image's width, y and height by its height"
                if self.form != "cxcywh"
                else "they were divided by the image's size twice"
            )
            what = "look like shares of the image (0 to 1), not pixels"
            raise DataError(f"{self.describe(shares, what)}; {remedy}")
        points = np.all(self.extent < 1, axis=1)
        if points.mean() > 0.5 and not self.predicted and not self.from_shares:
            raise DataError(
                f"{self.describe(points, 'are smaller than a pixel')}; write {_FORM_NAMES[self.form]} in pixels of the "
                "image"
            )

    def check_edges(self) -> str:
        """Boxes that leave their image: what annotators draw, or another convention for all of them."""
        sides, corner, extent = self.sides, self.corner, self.extent
        slack = np.full_like(sides, _SLACK)
        if self.predicted:
            slack = np.maximum(_SLACK, _SLACK_PREDICTED * sides)
        outside = np.any(np.maximum(-corner, corner + extent - sides) > slack, axis=1)
        if outside.mean() <= (0.05 if self.predicted else 0.0):
            return ""
        cause = _other_reading(self.values, sides, slack, self.form)
        what = f"leave their image by more than {'5 % of its side' if self.predicted else '1 px'}"
        is_meant = not cause and self.from_shares
        if (
            not is_meant
            and not self.is_too_few
            and _is_the_rule(corner, extent, sides, outside, bool(cause), self.predicted)
        ):
            raise DataError(f"{self.describe(outside, what)}; {cause or _reach(corner + extent, sides)}")
        cause = cause or self._likely_cause(outside, slack)
        return f"{self.describe(outside, what)}; {cause or 'correct or clip them if this is a mistake'}"

    def _likely_cause(self, outside: NDArray[np.bool_], slack: NDArray[np.float64]) -> str:
        """Why some boxes lie outside, where no other reading fits all; empty where nothing tells."""
        as_corners = _corner_and_extent(self.values, "xyxy")
        if self.form == "xywh" and _fits(*as_corners, self.sides, slack)[outside].mean() > 0.9:
            return f"these fit as {_FORM_NAMES['xyxy']}: is the file made of two?"
        square = np.repeat(self.sides.max(1, keepdims=True), 2, axis=1)
        fitting = _fits(self.corner, self.extent, square, slack).mean()
        if outside.mean() >= _CONSPICUOUS and fitting >= _FITTING_SHARE:
            return "they fit a square around the image: are they coordinates in a padded (letterboxed) one?"
        return ""

    def check_size(self) -> str:
        """Boxes thinner than a pixel."""
        thin = np.any(self.extent < 1, axis=1) & ~self.inverted
        if thin.mean() <= (0.5 if self.predicted else 0.0):
            return ""
        what = "are less than a pixel wide or high"
        return f"{self.describe(thin, what)}; hardly any detection can match them"

    def check_reach(self) -> str:
        """Boxes that all lie in the upper left part of their images, as those drawn on smaller ones do."""
        reach = ((self.corner + self.extent) / self.sides).max(0)
        near = (self.corner / self.sides).min(0)
        # In a smaller square that pads the shorter side, boxes begin and end a little further on.
        limit = 0.7 if near.max() <= 0.15 else 0.6
        if len(self.values) < _MIN_BOXES_FOR_REACH or reach.max() > limit:
            return ""
        return (
            f"{self.source}: all {len(self.values):,} boxes lie in the upper left of their images, within "
            f"{100 * reach[0]:.0f} % of the width and {100 * reach[1]:.0f} % of the height; were they drawn on smaller "
            "images, or are they percentages?"
        )


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
