"""Crops hold what flips; labels collide with no other; who finds what the other loses is said as it is counted."""

import numpy as np
import pandas as pd
import pytest

from robustbench_sgdm import corruption, figures
from robustbench_sgdm.figures import Panel, RunAnalysis
from robustbench_sgdm.figures.label_placement import place_labels
from robustbench_sgdm.figures.side_by_side import crop_view
from robustbench_sgdm.store import Run
from robustbench_sgdm.sweep import make_corrupted_images

FRAME = np.array([0.0, 0.0, 400.0, 300.0])


def panel(boxes: list[tuple[float, float, float, float]], flip: list[bool], size: tuple[int, int]) -> Panel:
    objects = pd.DataFrame(boxes, columns=list("xywh")).assign(outcome="matched", flip=flip, label="a")
    return Panel(np.zeros((4, 4, 3), np.uint8), size, objects, pd.DataFrame())


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (2000, 100), (30, 30)])
@pytest.mark.parametrize("aspect", [0.5, 1.3, 3.0])
def test_a_crop_holds_what_flips_and_stays_in_the_image(size: tuple[int, int], aspect: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        first, last = np.sort(rng.uniform(0, 1, (2, 2, 2)), axis=0) * size
        boxes = [(*a, *(b - a)) for a, b in zip(first, last, strict=True)]
        x1, y1, x2, y2 = crop_view(panel(boxes, [True, False], size), aspect)
        assert 0 <= x1 <= first[0, 0] and last[0, 0] <= x2 + 1e-9 and x2 <= size[0] + 1e-9
        assert 0 <= y1 <= first[0, 1] and last[0, 1] <= y2 + 1e-9 and y2 <= size[1] + 1e-9
        wide, high = x2 - x1, y2 - y1
        if wide < size[0] - 1e-6 and high < size[1] - 1e-6:
            assert wide / high == pytest.approx(aspect)
    assert crop_view(panel(boxes, [False, False], size), aspect) == (0, 0, *size)


def test_no_label_lies_on_another_or_outside() -> None:
    rng = np.random.default_rng(0)
    for number in (1, 5, 40):
        corners = np.sort(rng.uniform(0, 1, (2, number, 2)), axis=0) * (400, 300)
        boxes, sizes = np.concatenate(corners, axis=1), rng.uniform((20, 8), (90, 12), (number, 2))
        places = place_labels(boxes, sizes, FRAME, number // 2)
        shown = [np.array([*p, *(p + s)]) for p, s in zip(places, sizes, strict=True) if p is not None]
        for i, one in enumerate(shown):
            assert (one[:2] >= -1e-6).all() and (one[2:] <= FRAME[2:] + 1e-6).all()
            for other in shown[:i]:
                apart = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
                assert apart.min() <= 1e-6
        assert number > 5 or len(shown) == number


def test_a_label_avoids_an_important_box() -> None:
    boxes = np.array([[100.0, 150, 200, 250], [100, 250, 200, 290]])  # the second one stands on the first
    places = place_labels(boxes, np.array([[50.0, 10.0]] * 2), FRAME, 2)
    assert places == [(100, 140), (100, 290)]  # the first below its box, since above it is the other one


def test_no_room_is_no_label() -> None:
    assert place_labels(np.array([[0.0, 0, 400, 300]]), np.array([[500.0, 10]]), FRAME) == [None]
    assert place_labels(np.empty((0, 4)), np.empty((0, 2)), FRAME) == []


def test_who_finds_what_the_other_loses(complete_run: Run) -> None:
    analysis = RunAnalysis(complete_run, max_images=2)
    make_corrupted_images(
        complete_run, analysis.image_refs, {c.name: c for c in corruption.load_corruptions()}
    )
    drawn = figures.draw("side-by-side", analysis)
    flips = analysis.flips.set_index(["corruption", "severity", "image_id"])
    baseline, model = analysis.pair
    for finder, refs in analysis.selected_images.items():
        loser, column = (baseline, "kept") if finder == model else (model, "lost")
        for name, severity, image in refs:
            count = int(flips[column][name, severity, image])
            said = (
                f"severity {severity:g}: {finder} finds {count} object{'s' * (count > 1)} that {loser} loses"
            )
            assert f"image {image}, {name}, {said}" in drawn.alt.replace("gaussian noise", "gaussian_noise")
    assert "noisy" not in drawn.alt + drawn.caption and set(drawn.data["shown"]) == {"clean", "corrupted"}


def test_an_image_where_nothing_is_found_is_drawn_whole(complete_run: Run) -> None:
    nothing = RunAnalysis(complete_run, images=[3], noise=("fog", 3.0), confidence=1.0)
    make_corrupted_images(
        complete_run, nothing.image_refs, {c.name: c for c in corruption.load_corruptions()}
    )
    drawn = figures.draw("side-by-side", nothing)
    assert not drawn.data["found"].any() and "fog, severity 3: both find the same objects" in drawn.alt
    assert [axis.get_xlim() for axis in drawn.figure.axes] == [(0, 160)] * 4
