"""A weighted score equals pycocotools on a data set in which images really are repeated, bit for bit."""

import contextlib
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.robustness.matching import best_first, match_detections
from robustbench_sgdm.robustness.outcomes import sort_truth
from robustbench_sgdm.robustness.resample_cache import bootstrap_weights
from robustbench_sgdm.robustness.resampling import METRICS, Resampler
from robustbench_sgdm.robustness.sizes import Sizes
from robustbench_sgdm.store import GroundTruth


def repeated(
    truth: GroundTruth, found: pd.DataFrame, copies: NDArray[np.uint16], areas: Any = None
) -> NDArray[np.float64]:
    """pycocotools' statistics where image number i, in order of id, is there copies[i] times, one by another.

    With areas, a list of [least, largest] (px^2), AP of each.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for place, image in enumerate(sorted(truth.images["image_id"])):
        for _ in range(copies[place]):
            new = len(images) + 1
            images.append({"id": new, "width": 640, "height": 480, "file_name": ""})
            for a in truth.annotations[truth.annotations["image_id"] == image].itertuples():
                box = [a.x, a.y, a.w, a.h]
                row = {
                    "category_id": int(a.category_id),
                    "bbox": box,
                    "area": a.area,
                    "iscrowd": int(a.iscrowd),
                }
                annotations.append({"id": len(annotations) + 1, "image_id": new, **row})
            for d in found[found["image_id"] == image].itertuples():
                x, y, right, bottom = (float(v) for v in (d.x1, d.y1, d.x2, d.y2))
                row = {"category_id": int(d.category_id), "bbox": [x, y, right - x, bottom - y]}
                results.append({"image_id": new, "score": float(d.score), **row})
    index = COCO()
    index.dataset = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": str(i)} for i in sorted(set(truth.categories["category_id"]))],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        index.createIndex()
        evaluation = COCOeval(index, index.loadRes(results), "bbox")
        if areas is not None:
            evaluation.params.areaRng = areas
            evaluation.params.areaRngLbl = [str(area) for area in areas]
        evaluation.evaluate()
        evaluation.accumulate()
        if areas is not None:
            of_areas = [evaluation.eval["precision"][..., a, -1] for a in range(len(areas))]
            present = [part[part > -1] for part in of_areas]
            return np.array([100 * np.mean(part) if part.size else np.nan for part in present])
        evaluation.summarize()
    stats = evaluation.stats[: len(METRICS)]
    return np.where(stats == -1, np.nan, 100 * stats)


@pytest.mark.parametrize("ties", [True, False], ids=["ties", "distinct"])
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_pycocotools_on_repeated_images(made: Any, seed: int, ties: bool) -> None:
    truth = made.truth(seed)
    found = made.detections(truth, seed + 100, ties=ties)
    ours = made.resampler(truth, found)
    for copies in (np.ones(30, np.uint16), *bootstrap_weights(30, 12, seed)):
        np.testing.assert_array_equal(ours.score(copies), repeated(truth, found, copies))


def test_sizes_of_ones_own_are_pycocotools_areas(made: Any) -> None:
    sizes = Sizes.parse("0,16,32,64,96,inf")
    truth = made.truth(1)
    found = made.detections(truth, 2)
    ordered = sort_truth(truth)
    ours = Resampler(ordered, match_detections(ordered, found, areas=sizes.areas), sizes.areas)
    assert sizes.metrics[3:] == ("AP_0-16", "AP_16-32", "AP_32-64", "AP_64-96", "AP_96-inf")
    for copies in (np.ones(30, np.uint16), *bootstrap_weights(30, 4, 0)):
        scores = dict(zip(sizes.metrics, ours.score(copies).tolist(), strict=True))
        theirs = repeated(truth, found, copies, sizes.areas.tolist()).tolist()
        named = dict(zip(("AP", *sizes.metrics[3:]), theirs, strict=True))
        assert {name: scores[name] for name in named} == pytest.approx(named, abs=1e-9, nan_ok=True)
        assert scores["AP50"] == made.resampler(truth, found).score(copies)[1]


@pytest.mark.parametrize("edges", ["", "32", "32,16", "a,b", "-1,5", "0,0,5", "nan,5", "1," * 20 + "1"])
def test_impossible_sizes(edges: str) -> None:
    with pytest.raises(UsageError, match="ascending numbers"):
        Sizes.parse(edges)


def test_sizes_that_coco_or_their_names_cannot_hold() -> None:
    with pytest.raises(UsageError, match=r"hold 200000; .* write inf"):
        Sizes.parse("0,200000,inf")
    with pytest.raises(UsageError, match="equal to six digits"):
        Sizes.parse("0,16.0000001,16.0000002,inf")
    assert Sizes.parse("-0,16").names == ("0-16",)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.data())
def test_equal_for_any_number_of_copies(made: Any, seed: int, images: int, data: st.DataObject) -> None:
    truth = made.truth(seed, images)
    found = made.detections(truth, seed + 1)
    found["score"] = found["score"].round(0)  # nearly everything ties, within images and between them
    copies = np.array(data.draw(st.lists(st.integers(0, 5), min_size=images, max_size=images)), np.uint16)
    if copies.sum() and found["image_id"].isin(truth.images["image_id"][copies > 0]).any():
        np.testing.assert_array_equal(
            made.resampler(truth, found).score(copies), repeated(truth, found, copies)
        )


def test_more_than_a_hundred_detections_of_a_class_in_an_image(made: Any) -> None:
    truth = made.truth(4, images=3)
    found = pd.concat([made.detections(truth, s) for s in range(30)], ignore_index=True)
    assert found.groupby(["image_id", "category_id"]).size().max() > 200
    for copies in (np.ones(3, np.uint16), np.array([2, 0, 3], np.uint16)):
        np.testing.assert_array_equal(
            made.resampler(truth, found).score(copies), repeated(truth, found, copies)
        )


def test_nothing_found_is_zero_and_nothing_there_is_absent(made: Any) -> None:
    truth = made.truth(0)
    none = made.detections(truth, 0).iloc[:0]
    assert made.resampler(truth, none).score(np.ones(30, np.uint16)).tolist() == [0.0] * len(METRICS)
    last_alone = np.zeros(30, np.uint16)
    last_alone[-1] = 3  # the image without a box
    assert np.isnan(made.resampler(truth, made.detections(truth, 0)).score(last_alone)).all()


def test_order_and_names_of_images_play_no_part(made: Any) -> None:
    """The file's order never; names none either where copies go with their image and no scores tie."""
    truth = made.truth(1)
    found = made.detections(truth, 2, ties=False)
    copies = bootstrap_weights(30, 1, 0)[0]
    reference = made.resampler(truth, found).score(copies)
    shuffled = GroundTruth(
        truth.images.sample(frac=1, random_state=0),
        truth.annotations.sample(frac=1, random_state=1),
        truth.categories.iloc[::-1],
    )
    by_image = found.sample(frac=1, random_state=2)
    np.testing.assert_array_equal(made.resampler(shuffled, by_image).score(copies), reference)
    ids = np.array(sorted(truth.images["image_id"]))
    fresh = dict(
        zip(ids.tolist(), np.random.default_rng(3).permutation(1000)[: len(ids)].tolist(), strict=True)
    )
    renamed = GroundTruth(
        truth.images.assign(image_id=truth.images["image_id"].map(fresh)),
        truth.annotations.assign(image_id=truth.annotations["image_id"].map(fresh)),
        truth.categories,
    )
    moved = copies[np.argsort([fresh[i] for i in ids.tolist()])]
    again = made.resampler(renamed, found.assign(image_id=found["image_id"].map(fresh))).score(moved)
    np.testing.assert_array_equal(again, reference)


def test_detections_are_sorted_as_by_lexsort() -> None:
    rng = np.random.default_rng(0)
    scores = np.array(
        [0.0, -0.0, 1.0, -1.0, 5e-324, np.inf, -np.inf, *rng.random(50), *rng.random(50).round(1)]
    )
    score = rng.choice(scores, 3000)
    for keys in (1, 40, 2**40):
        key = rng.integers(keys, size=3000)
        np.testing.assert_array_equal(best_first(key, score), np.lexsort((-score, key)))
    assert best_first(key[:0], score[:0]).tolist() == []


@pytest.mark.parametrize("column", ["image_id", "category_id"])
def test_detections_of_unknown_images_and_classes_are_refused(made: Any, column: str) -> None:
    truth = made.truth(0)
    found = made.detections(truth, 1)
    found.loc[5, column] = 12345
    with pytest.raises(DataError, match=f"{column} 12345 is not among"):
        made.resampler(truth, found)


def test_counts_beyond_any_that_are_drawn(made: Any) -> None:
    truth = made.truth(2, images=2)
    found = made.detections(truth, 3)
    ours = made.resampler(truth, found)
    np.testing.assert_array_equal(
        ours.score(np.array([300, 0], np.uint16)), repeated(truth, found, np.array([300, 0]))
    )
