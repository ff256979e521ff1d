"""Scores by class: equal to the stored ones, to counts, and to a run of that class alone."""

import shutil
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustbench_sgdm.cli.console import fits_terminal
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.robustness import (
    METRICS,
    bootstrap_intervals,
    class_intervals,
    match_outcomes,
    operating_confidences,
)
from robustbench_sgdm.robustness.by_class import has_class_intervals
from robustbench_sgdm.robustness.matching import match_detections
from robustbench_sgdm.robustness.outcomes import sort_truth
from robustbench_sgdm.robustness.resample_cache import bootstrap_weights
from robustbench_sgdm.robustness.resampling import Resampler
from robustbench_sgdm.robustness.sizes import COCO_SIZES
from robustbench_sgdm.store import GroundTruth, Run
from robustbench_sgdm.tables import class_interval_table

MODELS: dict[str, str | None] = {"base": None, "module": "base"}
NOISE = {"gaussian_noise": [1.0, 3.0], "fog": [1.0, 3.0]}


def test_ap_under_weights_is_that_of_the_class_alone(made: Any) -> None:
    truth = made.truth(0)
    found = made.detections(truth, 1)
    every = sort_truth(truth)
    resampler = Resampler(
        every, match_detections(every, found, areas=COCO_SIZES.areas[:1]), COCO_SIZES.areas[:1]
    )
    for weights in (np.ones(30, np.uint16), *bootstrap_weights(30, 5, 0), np.eye(30, dtype=np.uint16)[-1]):
        scores = resampler.score_classes(weights)
        for index, category in enumerate(every.categories.tolist()):
            alone = GroundTruth(
                truth.images,
                truth.annotations[truth.annotations["category_id"] == category],
                truth.categories[truth.categories["category_id"] == category],
            )
            only = sort_truth(alone)
            theirs = Resampler(only, match_detections(only, found[found["category_id"] == category]))
            expected = theirs.score(weights)[METRICS.index("AP")]
            assert scores[index] == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_every_cell_has_its_stored_score_and_the_mean_of_the_classes_is_ap(make_run: Any) -> None:
    run = make_run(MODELS, NOISE)
    intervals = bootstrap_intervals(run, resamples=40)
    frame = class_intervals(intervals, resamples=40)
    assert set(frame["class"]) == {"c1", "c5"} and set(frame["statistic"]) == {"score", "P", "mPC", "loss"}
    own = frame[(frame["baseline"] == "") & (frame["statistic"] == "score")]
    for cell in run.cells:
        of_cell = own[
            (own[["model", "corruption", "severity"]] == [cell.model, cell.corruption, cell.severity]).all(
                axis=1
            )
        ].set_index("class")
        stored = run.store.read_scores(cell)
        for name in ("c1", "c5"):
            assert of_cell.loc[name, "estimate"] == pytest.approx(stored.per_class[name], abs=1e-9)
        assert of_cell["estimate"].mean() == pytest.approx(stored.metrics["AP"], abs=1e-9)
        assert (of_cell["low"] < of_cell["estimate"]).all() and (of_cell["estimate"] < of_cell["high"]).all()
    whole = frame[(frame["baseline"] == "") & (frame["corruption"] == "") & (frame["model"] == "base")]
    first = whole.loc[whole["statistic"] == "mPC", "over"].iloc[0]
    values = whole[whole["over"].isin(("", first))].set_index(["class", "statistic"])["estimate"]
    for name in ("c1", "c5"):
        assert values[name, "loss"] == pytest.approx(values[name, "P"] - values[name, "mPC"])
    ranked = whole[(whole["statistic"] == "loss") & (whole["over"] == first)]["estimate"].tolist()
    assert ranked == sorted(ranked, reverse=True)
    objects = run.ground_truth().annotations.query("iscrowd == 0").groupby("category_id").size()
    assert dict(zip(frame["class"], frame["objects"], strict=True)) == {"c1": objects[1], "c5": objects[5]}


def test_the_bootstrap_of_ap_caches_ap_by_class_equal_to_the_bit(make_run: Any) -> None:
    run = make_run(MODELS, {"fog": [1.0]})
    assert not has_class_intervals(run)
    intervals = bootstrap_intervals(run, resamples=20)
    assert has_class_intervals(run)
    on_the_way = class_intervals(intervals, resamples=20)
    for file in run.path.glob("statistics/**/class_AP.parquet"):
        file.unlink()
    assert not has_class_intervals(run)
    pd.testing.assert_frame_equal(on_the_way, class_intervals(intervals, resamples=20), check_exact=True)
    assert has_class_intervals(run)


def test_recall_precision_and_f1_are_counts(make_run: Any) -> None:
    run = make_run(MODELS, {"fog": [1.0]})
    intervals = bootstrap_intervals(run, resamples=20)
    confidences = operating_confidences(run)
    truth = run.ground_truth()
    for metric in ("recall", "precision", "F1"):
        frame = class_intervals(intervals, metric, resamples=20)
        own = frame[(frame["baseline"] == "") & (frame["statistic"] == "score")]
        for cell in run.cells:
            outcomes = match_outcomes(truth, run.store.read_detections(cell), confidences[cell.model])
            for category, name in ((1, "c1"), (5, "c5")):
                objects, boxes = (
                    part[part["category_id"] == category]["outcome"].value_counts()
                    for part in (outcomes.objects, outcomes.detections)
                )
                hits, wrong = boxes.get("matched", 0), boxes.get("false", 0)
                total = objects.get("matched", 0) + objects.get("missed", 0)
                expected = {
                    "recall": hits / total,
                    "precision": hits / (hits + wrong),
                    "F1": 2 * hits / (hits + wrong + total),
                }[metric]
                row = own[
                    (own[["model", "corruption", "class"]] == [cell.model, cell.corruption, name]).all(axis=1)
                ]
                assert row["estimate"].item() == pytest.approx(100 * expected, abs=1e-9)


def test_few_objects_are_marked_and_differences_corrected_over_the_classes(make_run: Any) -> None:
    run = make_run(MODELS, {"fog": [1.0]}, images=4)
    frame = class_intervals(bootstrap_intervals(run, resamples=20), resamples=20)
    assert (frame["few"] == (frame["objects"] < 10)).all() and frame["few"].any()
    paired = frame[(frame["baseline"] != "") & (frame["statistic"] == "mPC")]
    for _, rows in paired.groupby("over"):
        smallest = rows["p"].min()
        assert rows["p_holm"].min() == pytest.approx(min(1.0, smallest * rows["p"].notna().sum()))
    with pytest.raises(UsageError, match="metric of a class"):
        class_intervals(bootstrap_intervals(run, resamples=5), "AP50")


def test_numbers_are_cached(make_run: Any) -> None:
    run = make_run(MODELS, {"fog": [1.0]})
    intervals = bootstrap_intervals(run, resamples=20)
    first = class_intervals(intervals, resamples=20)
    done: list[int] = []
    again = class_intervals(intervals, resamples=20, progress=done.append)
    assert done == [len(run.cells)]
    pd.testing.assert_frame_equal(first, again)


def test_crowds_alone_are_no_objects_of_a_class_and_choose_no_confidence(make_run: Any) -> None:
    run = make_run({"base": None}, {"fog": [1.0]}, images=5)
    truth = run.ground_truth()
    truth.annotations["iscrowd"] = 1
    shutil.rmtree(run.path / "ground_truth")
    truth.write(run.path / "ground_truth", run.manifest.data.fingerprint, run.files)
    run = Run.open(run.path)
    assert np.isnan(operating_confidences(run)["base"])
    frame = class_intervals(bootstrap_intervals(run, resamples=5, metrics=["recall"]), "F1", resamples=5)
    assert frame.empty
    table = class_interval_table(frame, 0.95)
    assert table.notes[-1] == "Missing: no class has an object." and fits_terminal(table)
