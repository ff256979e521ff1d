"""The rendered data set: determinism, valid annotations, photographic statistics and safe files."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO

from robustbench_sgdm.datasets.scenes import CLASSES, Scene, render_scene, write_split
from robustbench_sgdm.datasets.scenes.background import render_background


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [render_scene(index) for index in range(24)]


def same(first: Scene, second: Scene) -> bool:
    return (
        np.array_equal(first.image, second.image)
        and np.array_equal(first.boxes, second.boxes)
        and np.array_equal(first.labels, second.labels)
        and np.array_equal(first.areas, second.areas)
    )


def test_a_scene_depends_on_its_index_only(scenes: list[Scene]) -> None:
    assert all(same(render_scene(index), scenes[index]) for index in (5, 0, 3))


def test_splits_seeds_and_indices_differ(scenes: list[Scene]) -> None:
    others = (render_scene(0, split="train"), render_scene(0, seed=1), scenes[1])
    assert not any(same(scenes[0], other) for other in others)


def test_annotations_are_valid(scenes: list[Scene]) -> None:
    for scene in scenes:
        height, width = scene.image.shape[:2]
        x1, y1, x2, y2 = scene.boxes.T
        assert 2 <= len(scene.labels) <= 12
        assert (x1 >= 0).all() and (y1 >= 0).all() and (x2 <= width).all() and (y2 <= height).all()
        assert (np.maximum(x2 - x1, y2 - y1) >= 6).all()
        assert (scene.areas > 0).all() and (scene.areas <= (x2 - x1) * (y2 - y1)).all()
        assert (scene.labels >= 0).all() and (scene.labels < len(CLASSES)).all()


def test_all_classes_and_sizes_occur(scenes: list[Scene]) -> None:
    areas = np.concatenate([scene.areas for scene in scenes])
    labels = np.concatenate([scene.labels for scene in scenes])
    assert set(labels) == set(range(len(CLASSES)))
    shares = np.histogram(areas, [0, 32**2, 96**2, np.inf])[0] / len(areas)
    assert (shares > (0.2, 0.2, 0.04)).all()


def spectral_slope(picture: NDArray[np.float32]) -> float:
    """Slope of log power against log frequency, between 4 and 80 cycles per picture (n, n)."""
    n = picture.shape[0]
    window = np.outer(np.hanning(n), np.hanning(n))
    power = np.abs(np.fft.fft2((picture - picture.mean()) * window)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n))) * n
    edges = np.geomspace(4, 80, 12)
    bins = [power[(frequency >= low) & (frequency < high)].mean() for low, high in pairwise(edges)]
    return float(np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(bins), 1)[0])


def test_backgrounds_have_the_spectrum_of_photographs() -> None:
    slopes = [
        spectral_slope(np.sqrt(render_background(np.random.default_rng(seed), 320, 320)).mean(-1))
        for seed in range(16)
    ]
    assert -3 < np.median(slopes) < -1.5


def test_scenes_have_the_spectrum_of_photographs(scenes: list[Scene]) -> None:
    squares = [s.image.mean(-1) for s in scenes if s.image.shape[:2] == (320, 320)]
    assert -3 < np.median([spectral_slope(picture.astype(np.float32)) for picture in squares]) < -1.5


def test_make_writes_coco_once(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    path = write_split(tmp_path, "val", 3, progress=lambda done, count: calls.append((done, count)))
    coco = COCO(str(path))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert len(coco.getImgIds()) == 3 and len(coco.getCatIds()) == len(CLASSES)
    assert all((tmp_path / "images" / "val" / entry["file_name"]).exists() for entry in coco.imgs.values())
    assert len(coco.anns) == sum(len(render_scene(index).labels) for index in range(3))
    before = path.stat().st_mtime_ns
    assert write_split(tmp_path, "val", 3, progress=lambda *_: pytest.fail("rendered again")) == path
    assert path.stat().st_mtime_ns == before


def test_make_renders_again_when_asked_for_something_else(tmp_path: Path) -> None:
    write_split(tmp_path, "val", 1)
    assert len(json.loads(write_split(tmp_path, "val", 2).read_text())["images"]) == 2
    assert json.loads(write_split(tmp_path, "val", 2, seed=3).read_text())["info"]["seed"] == 3


def test_an_interrupted_make_leaves_no_annotations(tmp_path: Path) -> None:
    write_split(tmp_path, "val", 1)

    def interrupt(done: int, count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_split(tmp_path, "val", 2, progress=interrupt)
    assert not list((tmp_path / "annotations").iterdir())
    assert write_split(tmp_path, "val", 2).exists()
