"""Curves and matrices of a run: equal to scikit-learn's curve, to D-ECE, and to counting boxes one by one."""

import shutil
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import precision_recall_curve

from robustbench_sgdm.figures.confusion import draw_confusion, most_confused
from robustbench_sgdm.robustness import (
    bootstrap_intervals,
    confusion_matrix,
    match_outcomes,
    operating_confidences,
    pool_boxes,
    precision_recall,
    reliability,
)
from robustbench_sgdm.store import Run

MODELS: dict[str, str | None] = {"base": None, "module": "base"}
NOISE = {"gaussian_noise": [1.0, 3.0], "fog": [3.0]}


def test_curves_are_points_of_scikit_learns(make_run: Any) -> None:
    run = make_run(MODELS, NOISE)
    pooled = pool_boxes(run)
    curves = precision_recall(pooled)
    assert set(curves["severity"]) == {0.0, 1.0, 3.0} and len(curves) < 200 * 6
    objects = int((run.ground_truth().annotations["iscrowd"] == 0).sum())
    assert pooled.objects["base", 0.0] == objects and pooled.objects["base", 3.0] == 2 * objects
    for (model, severity), own in curves.groupby(["model", "severity"]):
        group = str(model), float(str(severity))
        true, total = pooled.true[group], pooled.objects[group]
        precision, recall, thresholds = precision_recall_curve(true, pooled.confidences[group])
        hits = int(true.sum())
        theirs = {
            t: (100 * p, 100 * r * hits / total)
            for p, r, t in zip(precision, recall, thresholds, strict=False)
        }
        for point in own.to_dict("records"):
            expected = theirs[point["confidence"]]
            assert (point["precision"], point["recall"]) == pytest.approx(expected, abs=1e-9)
            f1 = 2 * expected[0] * expected[1] / (expected[0] + expected[1]) if expected[1] else 0
            assert point["f1"] == pytest.approx(f1, abs=1e-9)


def test_a_curve_has_the_point_of_the_operating_confidence(make_run: Any) -> None:
    """However few points are drawn, and between any two scores."""
    pooled = pool_boxes(make_run(MODELS, NOISE))
    for least in (0.0, 0.137, 0.5, 0.9):
        curves = precision_recall(pooled, points=4, confidences=dict.fromkeys(MODELS, least))
        for (model, severity), own in curves.groupby(["model", "severity"]):
            group = str(model), float(str(severity))
            kept = pooled.true[group][pooled.confidences[group] >= least]
            point = own[own["confidence"] >= least].iloc[-1]
            assert point["precision"] == pytest.approx(100 * kept.mean(), abs=1e-9)
            recall = 100 * kept.sum() / pooled.objects[group]
            assert point["recall"] == pytest.approx(recall, abs=1e-9)


def test_boxes_of_one_class_are_those_of_all_that_have_it(make_run: Any) -> None:
    run = make_run(MODELS, NOISE)
    cells = [cell for cell in run.cells if cell.severity == 3 and cell.model == "base"]
    whole = pool_boxes(run, cells=cells)
    parts = [pool_boxes(run, cells=cells, category=i) for i in run.ground_truth().categories["category_id"]]
    assert set(whole.objects) == {("base", 3.0)} and len(parts) > 1
    assert sum(part.objects["base", 3.0] for part in parts) == whole.objects["base", 3.0]
    one = zip(whole.confidences["base", 3.0], whole.true["base", 3.0], strict=True)
    other = [
        box
        for part in parts
        for box in zip(part.confidences["base", 3.0], part.true["base", 3.0], strict=True)
    ]
    assert sorted(one) == sorted(other)


def test_reliability_sums_to_d_ece(make_run: Any) -> None:
    run = make_run(MODELS, {"fog": [1.0, 3.0]})
    confidences = operating_confidences(run)
    bins = reliability(pool_boxes(run), confidences)
    table = bootstrap_intervals(run, resamples=5, metrics=["D-ECE"]).table(["D-ECE"])
    scores = table[(table["statistic"] == "score") & (table["baseline"] == "")]
    for row in scores.to_dict("records"):
        own = bins[(bins["model"] == row["model"]) & (bins["severity"] == row["severity"])]
        gaps = (own["precision"] - own["confidence"]).abs()
        assert (gaps * own["boxes"]).sum() / own["boxes"].sum() == pytest.approx(row["estimate"], abs=1e-9)
        assert (own["confidence"] > 100 * own["low"]).all() and (own["confidence"] <= 100 * own["high"]).all()


def test_the_confusion_matrix_counts_every_object_and_box(make_run: Any) -> None:
    run = make_run(MODELS, NOISE)
    confidence = operating_confidences(run)["base"]
    truth = run.ground_truth()
    objects = truth.annotations[truth.annotations["iscrowd"] == 0]
    for cell in (c for c in run.cells if c.model == "base"):
        matrix = confusion_matrix(run, [cell], confidence)
        assert list(matrix.index) == ["c1", "c5", "c90", "background"] == list(matrix.columns)
        counts = objects["category_id"].value_counts()
        assert matrix.loc["c1"].sum() == counts[1] and matrix.loc["c5"].sum() == counts[5]
        assert matrix.loc["c90"].sum() == 0 and matrix.loc["background", "background"] == 0
        # What a box of the right class finds cannot be more than what boxes find within their class.
        outcomes = match_outcomes(truth, run.store.read_detections(cell), confidence)
        matched = outcomes.detections[outcomes.detections["outcome"] == "matched"][
            "category_id"
        ].value_counts()
        scores = run.store.read_detections(cell)["score"]
        shown = int((scores >= float(np.float32(confidence))).sum())
        assert matrix.iloc[:, :-1].to_numpy().sum() == shown > 0
        right = np.diag(matrix.to_numpy())
        assert right[0] <= matched[1] and right[1] <= matched[5] and right[2:].tolist() == [0, 0]
        assert right.sum() > 0


def test_percentages_of_shown_classes_are_of_all_and_a_class_may_be_called_background(make_run: Any) -> None:
    names = [*(f"c{i}" for i in range(30)), "background"]
    counts = np.zeros((31, 31), int)
    counts[0, 1], counts[0, 29], counts[0, 30] = 1, 2, 1
    figure = draw_confusion({("m", "clean"): pd.DataFrame(counts, names, names)}, names[:2])
    (image,) = figure.axes[0].images
    assert np.asarray(image.get_array()).tolist() == [[0, 25, 25], [0, 0, 0], [0, 0, 0]]

    run = make_run(MODELS, NOISE)
    truth = run.ground_truth()
    truth.categories["name"] = ["background", "x", "y"]
    shutil.rmtree(run.path / "ground_truth")
    truth.write(run.path / "ground_truth", run.manifest.data.fingerprint, run.files)
    matrix = confusion_matrix(Run.open(run.path), run.cells[:1], 0.3)
    assert list(matrix.columns) == ["background", "x", "y", "background (3)"]
    assert most_confused({("m", "clean"): matrix}) == ["background", "x", "y"]


def test_confusions_of_several_cells_are_added(make_run: Any) -> None:
    run = make_run(MODELS, NOISE)
    first, second, *_ = (cell for cell in run.cells if cell.model == "base" and cell.severity)
    both = confusion_matrix(run, [first, second], 0.3)
    alone = [confusion_matrix(run, [cell], 0.3) for cell in (first, second)]
    pd.testing.assert_frame_equal(both, alone[0] + alone[1])
