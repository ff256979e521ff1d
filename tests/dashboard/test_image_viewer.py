"""What the viewer shows: each run its own pixels, little of them kept, of uploads nothing."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow
from streamlit.runtime.caching import get_data_cache_stats_provider
from streamlit.testing.v1 import AppTest

from robustbench_sgdm import corruption
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.dashboard import image_viewer, run_images
from robustbench_sgdm.store import GroundTruth, Run


@pytest.fixture
def picture(complete: Run) -> Any:
    (row,) = image_viewer.rows(complete.ground_truth().images[:1])
    return run_images.RunImage.from_manifest(complete.manifest, row, "gaussian_noise", 3)


def kept() -> int:
    """Bytes in Streamlit's caches of data, which all visits share."""
    return sum(
        int(getattr(s, "byte_length", 0))
        for stats in get_data_cache_stats_provider().get_stats().values()
        for s in stats
    )


def test_a_run_never_shows_the_pixels_of_another(picture: Any) -> None:
    imgaug = corruption.load_corruptions().get("gaussian_noise").fingerprint("imgaug")
    others = (
        {"engine": "imgaug", "fingerprint": imgaug},
        {"image_id": 2},
        {"seed": 1},
        {"severity": 2},
        {"corruption": "clean"},
    )
    seen = [run_images.image_url(replace(picture, **other)) for other in ({}, *others)]
    assert len(set(seen)) == len(seen)
    for lost in ({"fingerprint": "other"}, {"engine": "elsewhere"}, {"data": "other", "file": "gone.png"}):
        with pytest.raises(DataError):
            run_images.image_url(replace(picture, **lost))
    assert seen[0] == image_viewer.data_url(picture.pixels)


def test_what_cannot_be_made_again_says_why(picture: Any) -> None:
    for change, why in (
        ({"engine": "elsewhere", "fingerprint": "elsewhere"}, "corrupted outside this package"),
        ({"fingerprint": "other"}, "changed since the run"),
        ({"corruption": "mine"}, "not among this version's"),
    ):
        with pytest.raises(DataError, match=why):
            _ = replace(picture, **change).pixels


def test_large_pictures_do_not_fill_the_memory(picture: Any, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (2000, 2000, 3), np.uint8)
    Pillow.fromarray(noise).save(tmp_path / "large.bmp")
    large = replace(
        picture, file=str(tmp_path / "large.bmp"), width=2000, height=2000, corruption="clean", severity=0
    )
    before = kept()
    for image_id in range(20):
        run_images.image_url(replace(large, image_id=image_id))
    assert 50e6 < kept() - before < 200e6


def test_a_run_that_claims_a_huge_image_costs_nothing(picture: Any) -> None:
    """The grey one in the place of an image that is gone is as long as any."""
    assert len(image_viewer.placeholder_url(10**9, 10**9)) < 400


def test_equal_boxes_are_linked_each_to_its_own_object() -> None:
    """Two equal objects and two equal boxes of equal scores; the same box with another class; a missed equal object."""
    objects = [(1, 10.0), (1, 10.0), (2, 10.0), (1, 10.0), (1, 90.0)]
    truth = GroundTruth(
        pd.DataFrame({"image_id": [1], "file": ["a.png"], "width": [200], "height": [100]}),
        pd.DataFrame(objects, columns=["category_id", "x"]).assign(
            image_id=1, y=10.0, w=20.0, h=20.0, area=400.0, iscrowd=0
        ),
        pd.DataFrame({"category_id": [1, 2], "name": ["cat", "dog"]}),
    )
    found = pd.DataFrame([(1, 10.0), (1, 10.0), (2, 10.0), (1, 90.0)], columns=["category_id", "x1"])
    found = found.assign(image_id=1, score=0.5, y1=10.0, x2=found["x1"] + 20, y2=30.0)
    boxes = image_viewer.viewer_boxes(truth, found)
    matched = [(b["object"], b["label"], b["x"]) for b in boxes if b["kind"] == "matched"]
    missed = {b["object"]: b["score"] for b in boxes if b["kind"] == "missed"}
    assert len({number for number, *_ in matched}) == 4
    for number, label, x in matched:
        category, place = objects[number]
        assert (label, x) == ({1: "cat", 2: "dog"}[category], place) and missed[number] == 0.5
    (lost,) = [number for number, score in missed.items() if score is None]
    assert objects[lost] == (1, 10.0)


def test_nothing_of_an_upload_is_kept(view: Callable[..., AppTest], project: Path) -> None:
    shown = view("live", "--project", project / "none", source="an upload")
    before = kept()
    photograph = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 255, (300, 400, 3), np.uint8)
    Pillow.fromarray(noise).save(photograph, "PNG")
    shown.file_uploader[0].set_value(("mine.png", photograph.getvalue(), "image/png"))
    shown = shown.run()
    assert not shown.exception and "mine.png" in str(list(shown.session_state["seen"]))
    assert kept() == before
