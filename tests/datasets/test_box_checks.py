"""Boxes against their images: conventions misread are refused, what hands and detectors make is counted."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.datasets.box_checks import Form, boxes_fit, check_boxes

Array = NDArray[np.float64]


def honest(count: int = 200, seed: int = 0) -> tuple[Array, Array]:
    """Boxes [x, y, w, h] inside images of three shapes, and (n, 2) sides."""
    rng = np.random.default_rng(seed)
    sides = np.array([(640.0, 480.0), (427.0, 640.0), (500.0, 375.0)])[np.arange(count) % 3]
    extent = np.maximum(3, sides * rng.uniform(0.02, 1, (count, 2)) ** 3)
    return np.concatenate([rng.uniform(0, 1, (count, 2)) * (sides - extent), extent], 1), sides


def check(boxes: Array, sides: Array, form: Form = "xywh", predicted: bool = False) -> list[str]:
    return check_boxes(
        boxes, sides[:, 0], sides[:, 1], "a.json", lambda n: f"box {n}", form=form, predicted=predicted
    )


def corners(boxes: Array) -> Array:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def centred(boxes: Array) -> Array:
    return np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]], 1)


@pytest.mark.parametrize("predicted", [False, True])
@pytest.mark.parametrize("count", [0, 1, 3, 200])
def test_boxes_inside_need_no_word(count: int, predicted: bool) -> None:
    boxes, sides = honest(count)
    assert check(boxes, sides, predicted=predicted) == []
    assert check(corners(boxes), sides, "xyxy", predicted) == []
    assert check(centred(boxes), sides, "cxcywh", predicted) == []


MISREAD: dict[str, tuple[Callable[[Array, Array], Array], str]] = {
    "corners": (lambda b, s: corners(b), r"they fit as corners \[x1, y1, x2, y2\]"),
    "centre": (lambda b, s: centred(b), r"they fit as centre and size"),
    "shares": (lambda b, s: b / np.tile(s, 2), "200 of 200 boxes look like shares"),
    "turned": (lambda b, s: b[:, [1, 0, 3, 2]], "width and height are swapped"),
    "rows first": (lambda b, s: corners(b)[:, [1, 0, 3, 2]], r"corners \[y1, x1, y2, x2\]"),
    "larger images": (lambda b, s: b * 2, "another size"),
    "subtracted twice": (lambda b, s: b - np.pad(b[:, :2], ((0, 0), (2, 0))), "once too often"),
}


@pytest.mark.parametrize("predicted", [False, True])
@pytest.mark.parametrize("name", MISREAD)
def test_another_convention_is_refused_and_named(name: str, predicted: bool) -> None:
    change, cause = MISREAD[name]
    boxes, sides = honest()
    with pytest.raises(DataError, match=cause) as caught:
        check(change(boxes, sides), sides, predicted=predicted)
    assert " of 200 boxes" in str(caught.value) and "(first: box " in str(caught.value)


def test_centres_read_from_label_files_are_held_too() -> None:
    boxes, sides = honest()
    with pytest.raises(DataError, match="they fit as corners"):
        check(corners(boxes), sides, "cxcywh")
    with pytest.raises(DataError, match=r"they fit as \[x, y, width, height\]"):
        check(boxes, sides, "cxcywh")
    with pytest.raises(DataError, match="divided by the image's size twice"):
        check(centred(boxes) / np.tile(sides, 2), sides, "cxcywh")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_boxes_are_judged_by_what_is_plain(count: int) -> None:
    sides = np.tile([640.0, 480.0], (count, 1))
    boxes = np.tile([300.0, 200.0, 200.0, 200.0], (count, 1))
    with pytest.raises(DataError, match=f"{count} of {count} boxes leave .* as corners"):
        check(corners(boxes), sides)
    with pytest.raises(DataError, match="shares"):
        check(boxes / np.tile(sides, 2), sides)
    (note,) = check(boxes + np.array([0, 0, 150, 0]), sides)  # ten pixels past the edge: drawn so
    assert f"{count} of {count} boxes leave" in note


def test_sloppy_hands_are_counted() -> None:
    boxes, sides = honest()
    boxes[7] += [0, 0, 700, 0]
    boxes[11] -= [400, 0, 0, 0]
    (note,) = check(boxes, sides)
    assert note.startswith("a.json: 2 of 200 boxes leave their image by more than 1 px (first: box 7, [")
    boxes[:90, 2:] = sides[:90] - boxes[:90, :2] + 8
    assert "leave their image" in check(boxes, sides)[0]


def test_objects_cut_off_by_the_edge_may_be_drawn_whole() -> None:
    boxes, sides = honest()
    boxes[:90, 2] = 2 * (sides[:90, 0] - boxes[:90, 0]) - 1  # centre still inside
    assert len(check(boxes, sides)) == 1


def test_rounding_is_no_fault() -> None:
    boxes, sides = honest()
    boxes[:, :2], boxes[:, 2:] = -1, sides + 2
    assert check(boxes, sides) == []


def test_boxes_without_extent_are_counted() -> None:
    boxes, sides = honest()
    boxes[3, 2] = 0
    boxes[5, 3] = 0.5
    (note,) = check(boxes, sides)
    assert "2 of 200 boxes are less than a pixel" in note and "first: box 3" in note
    boxes[:150, 2:] = 0.5
    with pytest.raises(DataError, match="150 of 200 boxes are smaller than a pixel"):
        check(boxes, sides)


def test_some_of_another_convention_is_said() -> None:
    boxes, sides = honest()
    boxes[::4] = corners(boxes)[::4]
    assert "these fit as corners" in check(boxes, sides)[0]
    boxes, sides = honest()
    boxes[::4] = (boxes / np.tile(sides, 2))[::4]
    assert "50 of 200 boxes are less than a pixel" in check(boxes, sides)[0]


@pytest.mark.parametrize("what", ["unclipped", "collapsed", "all zero", "one stray"])
def test_detections_of_honest_detectors_pass(what: str) -> None:
    boxes, sides = honest()
    if what == "unclipped":  # by up to 4 % of the image, most of them
        boxes = np.concatenate([boxes[:, :2] - 0.04 * sides, boxes[:, 2:] + 0.08 * sides], 1)
    elif what == "collapsed":
        boxes[:120, 2:] = 0
    elif what == "all zero":
        boxes[:] = 0
    else:
        boxes, sides = np.array([[600.0, 10, 300, 50]]), sides[:1]
    assert all("a.json" in note for note in check(boxes, sides, predicted=True))  # said at most
    if what == "unclipped":
        assert check(boxes, sides, predicted=True) == []


def test_boxes_of_smaller_images_are_noticed() -> None:
    boxes, sides = honest()
    for factor in (100 / np.tile(sides, 2), 0.5):
        assert "upper left of their images" in check(boxes * factor, sides)[-1]


@pytest.mark.parametrize("predicted", [False, True])
def test_a_few_inverted_boxes_are_counted(predicted: bool) -> None:
    boxes, sides = honest()
    boxes[:, 2] = np.maximum(boxes[:, 2], 3)
    boxes[3, 2] *= -1
    boxes[4, 2] = -1e-9 if predicted else boxes[4, 2]  # what a difference of equal corners leaves
    (note,) = check(boxes, sides, predicted=predicted)
    assert "1 of 200 boxes have a negative width or height (first: box 3" in note
    boxes[:150, 3] *= -1
    with pytest.raises(DataError, match="150 of 200 boxes have a negative"):
        check(boxes, sides, predicted=predicted)


def letterboxed(boxes: Array, sides: Array, size: float) -> Array:
    """As a network sees them, in a padded square."""
    ratio = size / sides.max(1, keepdims=True)
    pad = (size - sides * ratio) / 2
    return np.concatenate([boxes[:, :2] * ratio + pad, boxes[:, 2:] * ratio], 1)


def test_boxes_of_a_padded_square_are_noticed() -> None:
    boxes, sides = honest()
    (note,) = check(letterboxed(boxes, sides, 256), sides, predicted=True)
    assert "drawn on smaller images" in note
    (note,) = check(letterboxed(boxes, sides, 640)[1::3], sides[1::3], predicted=True)
    assert "padded (letterboxed)" in note


def test_what_fits() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 5, 6.5, 5], [-1, 0, 1, 1]])
    assert boxes_fit(boxes, np.full(3, 10.0), np.full(3, 10.0)).tolist() == [True, False, True]


def test_a_million_and_a_half_are_quick() -> None:
    import time

    boxes, sides = (np.tile(part, (7500, 1)) for part in honest())
    begin = time.process_time()
    assert check(boxes, sides, predicted=True) == []
    assert time.process_time() - begin < 10
