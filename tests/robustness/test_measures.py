"""Measures at a confidence against other computations: pycocotools on repeated images, scikit-learn, by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.robustness import (
    MEASURES,
    CorruptionSet,
    Intervals,
    bootstrap_intervals,
    operating_confidences,
)
from robustbench_sgdm.robustness.measures import MeasureSampler, best_confidence
from robustbench_sgdm.robustness.outcomes import sort_truth
from robustbench_sgdm.robustness.resample_cache import BootstrapSamples, bootstrap_weights
from robustbench_sgdm.store import GroundTruth
from robustbench_sgdm.tables import ScoreTables, measures_table

NAMES = list(MEASURES)
TOLERANCE = 1e-9  # of percentages: other orders of the same sums


def evaluate(truth: GroundTruth, found: pd.DataFrame, iou: float) -> tuple[Any, list[Any]]:
    """pycocotools' matches at one IoU, of all sizes: by class, of each image, its results."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    gt, dt = COCO(), COCO()
    shared = {
        "images": [{"id": i} for i in truth.images["image_id"].tolist()],
        "categories": [{"id": i} for i in truth.categories["category_id"].tolist()],
    }
    objects = truth.annotations.assign(
        bbox=pd.Series(
            truth.annotations[["x", "y", "w", "h"]].to_numpy().tolist(), index=truth.annotations.index
        )
    )
    corners = found[["x1", "y1", "x2", "y2"]].to_numpy(np.float64)
    sizes = corners[:, 2:] - corners[:, :2]
    boxes = found.assign(
        bbox=pd.Series(np.concatenate([corners[:, :2], sizes], axis=1).tolist(), index=found.index),
        area=sizes.prod(axis=1),
        iscrowd=0,
    )
    for one, rows in ((gt, objects), (dt, boxes)):
        numbered = rows.reset_index(drop=True).rename_axis("id").reset_index()
        one.dataset = {**shared, "annotations": numbered.assign(id=numbered["id"] + 1).to_dict("records")}
    gt.createIndex()
    dt.createIndex()
    evaluation = COCOeval(gt, dt, "bbox")
    evaluation.params.iouThrs = np.array([iou])
    evaluation.evaluate()
    images_of_class = len(truth.images)
    results = [
        evaluation.evalImgs[k * 4 * images_of_class : (k + 1) * 4 * images_of_class]
        for k in range(len(truth.categories))
    ]
    return evaluation, results


class Boxes:
    """Every box that counts, of the areas all, S, M, L, and the number of objects."""

    def __init__(self, truth: GroundTruth, found: pd.DataFrame, iou: float = 0.5) -> None:
        evaluation, results = evaluate(truth, found, iou)
        images = len(truth.images)
        rows = []
        self.objects = np.zeros((4, len(results)))
        for k, of_class in enumerate(results):
            for area in range(4):
                for one in of_class[area * images : (area + 1) * images]:
                    if one is None:
                        continue
                    self.objects[area, k] += np.sum(np.asarray(one["gtIgnore"]) == 0)
                    ious = evaluation.ious[one["image_id"], one["category_id"]]
                    order = list(one["gtIds"])
                    original = [a["id"] for a in evaluation._gts[one["image_id"], one["category_id"]]]
                    for d, score in enumerate(one["dtScores"]):
                        match = int(one["dtMatches"][0, d])
                        if one["dtIgnore"][0, d]:
                            continue
                        assert match == 0 or match in order
                        overlap = ious[d, original.index(match)] if match else 0.0
                        rows.append((area, k, score, match > 0, overlap))
        self.rows = pd.DataFrame(rows, columns=["area", "label", "score", "true", "iou"])

    def at(self, confidence: float, area: int = 0) -> pd.DataFrame:
        rows = self.rows[(self.rows["area"] == area) & (self.rows["score"] >= confidence)]
        return rows.sort_values("score", ascending=False, kind="stable")


def expected(truth: GroundTruth, found: pd.DataFrame, confidence: float) -> dict[str, float]:
    """Every measure, from pycocotools' matches and the papers' definitions."""
    confidence = float(np.float32(confidence))
    boxes = Boxes(truth, found)
    kept = boxes.at(confidence)
    tp, fp, objects = kept["true"].sum(), (~kept["true"]).sum(), boxes.objects[0].sum()
    values = {
        "precision": 100 * tp / (tp + fp) if tp + fp else np.nan,
        "F1": 200 * tp / (tp + fp + objects) if tp + fp + objects else np.nan,
        "false_per_image": fp / len(truth.images),
    }
    for area, suffix in enumerate(("", "_S", "_M", "_L")):
        total = boxes.objects[area].sum()
        hits = boxes.at(confidence, area)["true"].sum()
        values[f"recall{suffix}"] = 100 * hits / total if total else np.nan
    values["D-ECE"] = (
        100
        * sum(
            abs(part["true"].mean() - part["score"].mean()) * len(part) / len(kept)
            for _, part in kept.groupby(np.ceil(kept["score"] * 10 - 1e-12).clip(1, 10))
        )
        if len(kept)
        else np.nan
    )
    loose = Boxes(truth, found[found["score"] >= np.float32(confidence)], np.nextafter(0.0, 1.0))
    by_class = []
    for k in range(boxes.objects.shape[1]):
        own = loose.at(confidence)
        own = own[own["label"] == k]
        if not len(own) or not boxes.objects[0, k]:
            continue
        targets = own["iou"] * own["true"]
        bins = np.ceil(own["score"] * 25 - 1e-12).clip(1, 25)
        by_class.append(
            100
            * sum(
                abs(targets[bins == b].mean() - own["score"][bins == b].mean()) * (bins == b).mean()
                for b in set(bins)
            )
        )
    values["LaECE"] = float(np.mean(by_class)) if by_class else np.nan
    parts = []
    for k in range(boxes.objects.shape[1]):
        total = boxes.objects[0, k]
        if not total:
            continue
        own = boxes.at(0.0)
        own = own[own["label"] == k]
        best = (1.0, np.nan, np.nan, 1.0)
        for score in sorted(set(own["score"]), reverse=True):
            above = own[own["score"] >= score]
            hits, wrong = int(above["true"].sum()), int((~above["true"]).sum())
            if not hits:
                continue
            gap = float((1 - above["iou"][above["true"]]).sum())
            error = (gap / 0.5 + wrong + total - hits) / (hits + wrong + total - hits)
            if error < best[0] or np.isnan(best[1]):
                best = (error, gap / hits, wrong / (hits + wrong), (total - hits) / total)
        parts.append(best)
    names = ("oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN")
    for name, column in zip(names, np.array(parts).reshape(-1, 4).T, strict=True):
        present = column[~np.isnan(column)]
        values[name] = 100 * present.mean() if len(present) else np.nan
    return values


def repeat(truth: GroundTruth, found: pd.DataFrame, copies: NDArray[np.uint16]) -> tuple[GroundTruth, Any]:
    """The data set with images really repeated."""
    ids = np.sort(truth.images["image_id"])
    parts: list[tuple[Any, Any, Any]] = []
    for image, number in zip(ids.tolist(), copies.tolist(), strict=True):
        for copy in range(number):
            fresh = 1000 * image + copy
            parts.append(
                tuple(
                    rows[rows["image_id"] == image].assign(image_id=fresh)
                    for rows in (truth.images, truth.annotations, found)
                )
            )
    images, annotations, boxes = (pd.concat(column, ignore_index=True) for column in zip(*parts, strict=True))
    return GroundTruth(images, annotations, truth.categories), boxes


def score(truth: GroundTruth, found: pd.DataFrame, confidence: float, copies: Any = None) -> dict[str, float]:
    sampler = MeasureSampler(sort_truth(truth), found, confidence)
    weights = np.ones(sampler.images, np.uint16) if copies is None else copies
    return dict(zip(NAMES, sampler.score(weights[None])[0].tolist(), strict=True))


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize(("seed", "confidence"), [(0, 0.0), (1, 0.35), (2, 0.6)])
def test_equal_to_another_computation_on_repeated_images(
    made: Any, seed: int, confidence: float, ties: bool
) -> None:
    truth = made.truth(seed, images=12)
    found = made.detections(truth, seed + 50, ties=ties)
    for copies in (np.ones(12, np.uint16), *bootstrap_weights(12, 3, seed)):
        ours = score(truth, found, confidence, copies)
        theirs = expected(*repeat(truth, found, copies), confidence)
        assert ours == pytest.approx({name: theirs[name] for name in NAMES}, abs=TOLERANCE, nan_ok=True)


def test_nothing_kept_and_nothing_there(made: Any) -> None:
    truth = made.truth(0)
    found = made.detections(truth, 1)
    found["score"] *= 0.5
    none = score(truth, found, 0.75)
    assert none["recall"] == 0 and none["F1"] == 0 and none["false_per_image"] == 0
    assert np.isnan([none[name] for name in ("precision", "D-ECE", "LaECE")]).all() and none["oLRP"] < 100
    empty = np.zeros(30, np.uint16)
    empty[-1] = 2  # copies of the image without an object
    alone = score(truth, found, 0.3, empty)
    assert np.isnan([alone[name] for name in ("recall", "recall_S", "oLRP", "oLRP_FN")]).all()
    unknown = score(truth, found, np.nan)
    at_confidence = [name for name, one in MEASURES.items() if one.needs_confidence]
    assert np.isnan([unknown[name] for name in at_confidence]).all() and unknown["oLRP"] == none["oLRP"]


def test_worked_by_hand() -> None:
    """Two objects and three boxes: one exact, one of IoU 0.6, one wrong."""
    truth = GroundTruth(
        pd.DataFrame({"image_id": [1], "file": ["x"], "width": [640], "height": [480]}),
        pd.DataFrame(
            {
                "image_id": [1, 1],
                "category_id": [1, 1],
                "x": [0.0, 200.0],
                "y": [0.0, 0.0],
                "w": [100.0, 100.0],
                "h": [100.0, 100.0],
                "area": [1e4, 1e4],
                "iscrowd": [0, 0],
            }
        ),
        pd.DataFrame({"category_id": [1], "name": ["a"]}),
    )
    boxes = [(0.75, 0, 100), (0.5, 200, 260), (0.25, 400, 500)]
    found = pd.DataFrame(
        [(1, 1, s, left, 0.0, right, 100.0) for s, left, right in boxes],
        columns=["image_id", "category_id", "score", "x1", "y1", "x2", "y2"],
    )
    ours = score(truth, found, 0.25)
    assert ours == pytest.approx(
        {
            **dict.fromkeys(("recall", "recall_L"), 100.0),
            **dict.fromkeys(("recall_S", "recall_M"), np.nan),
            "precision": 200 / 3,
            "F1": 80.0,
            "false_per_image": 1.0,
            "D-ECE": 100 * (0.25 + 0.5 + 0.25) / 3,
            "LaECE": 100 * (0.25 + 0.1 + 0.25) / 3,
            # Without the wrong box: (0.4 / 0.5 + 0 + 0) / 2.
            "oLRP": 40.0,
            "oLRP_Loc": 20.0,
            "oLRP_FP": 0.0,
            "oLRP_FN": 0.0,
        },
        nan_ok=True,
    )


def test_the_confidence_has_the_highest_f1_of_scikit_learns_curve(made: Any) -> None:
    truth = made.truth(3)
    for ties in (False, True):
        found = made.detections(truth, 4, ties=ties)
        sampler = MeasureSampler(sort_truth(truth), found, np.nan)
        boxes = Boxes(truth, found).at(0.0)
        objects = int(Boxes(truth, found).objects[0].sum())
        precision, _, thresholds = precision_recall_curve(boxes["true"], boxes["score"])
        hits = np.array([boxes["true"][boxes["score"] >= t].sum() for t in thresholds])
        recall = hits / objects
        with np.errstate(invalid="ignore", divide="ignore"):
            f1 = 2 * precision[:-1] * recall / (precision[:-1] + recall)
        best = best_confidence(sampler.matches, objects)
        assert best == thresholds[np.flatnonzero(f1 >= np.nanmax(f1) - 1e-12)[-1]]


def test_order_and_names_of_images_play_no_part(made: Any) -> None:
    truth = made.truth(1)
    found = made.detections(truth, 2, ties=False)
    reference = score(truth, found, 0.4)
    fresh = dict(
        zip(
            truth.images["image_id"],
            np.random.default_rng(0).permutation(1000)[: len(truth.images)],
            strict=True,
        )
    )
    renamed = GroundTruth(
        truth.images.assign(image_id=truth.images["image_id"].map(fresh)).sample(frac=1, random_state=0),
        truth.annotations.assign(image_id=truth.annotations["image_id"].map(fresh)).sample(
            frac=1, random_state=1
        ),
        truth.categories.iloc[::-1],
    )
    again = found.assign(image_id=found["image_id"].map(fresh)).sample(frac=1, random_state=2)
    assert score(renamed, again, 0.4) == pytest.approx(reference, abs=TOLERANCE, nan_ok=True)


MODELS: dict[str, str | None] = {"base": None, "module": "base"}
NOISE = {"gaussian_noise": [1.0, 3.0], "fog": [1.0, 3.0]}


def test_measures_of_a_run_have_means_differences_and_a_cache(make_run: Any) -> None:
    run = make_run(MODELS, NOISE)
    confidences = operating_confidences(run)
    table = bootstrap_intervals(run, resamples=40, metrics=["AP", "recall", "D-ECE"]).table(
        ["AP", "recall", "D-ECE"]
    )
    truth = run.ground_truth()
    for cell in run.cells:
        theirs = expected(truth, run.store.read_detections(cell), confidences[cell.model])
        for metric in ("recall", "D-ECE"):
            own = table[
                (
                    table[["model", "baseline", "corruption", "severity", "metric"]]
                    == [cell.model, "", cell.corruption, cell.severity, metric]
                ).all(axis=1)
            ]
            assert own["estimate"].item() == pytest.approx(theirs[metric], abs=TOLERANCE)
            assert own["low"].item() <= own["estimate"].item() <= own["high"].item()
    assert set(table.loc[table["metric"] == "D-ECE", "statistic"]) == {"score", "P", "mPC"}
    assert set(table.loc[table["metric"] == "recall", "statistic"]) == {"score", "P", "mPC", "rPC", "mCE"}
    files = sorted((run.path / "statistics").rglob("measures.parquet"))
    stamps = [file.stat().st_mtime_ns for file in files]
    again = bootstrap_intervals(run, resamples=40, metrics=["recall"])
    pd.testing.assert_frame_equal(
        again.table(["recall"]), table[table["metric"] == "recall"].reset_index(drop=True)
    )
    assert [file.stat().st_mtime_ns for file in files] == stamps and len(files) == len(run.cells)
    bootstrap_intervals(run, resamples=40, metrics=["recall"], confidence=0.9)
    assert [file.stat().st_mtime_ns for file in files] != stamps


def test_without_clean_images_a_confidence_must_be_given(make_run: Any) -> None:
    run = make_run(MODELS, NOISE, leave=(("module", "clean", 0.0),))
    table = bootstrap_intervals(run, resamples=5, metrics=["recall", "oLRP"]).table(["recall", "oLRP"])
    own = table[(table["model"] == "module") & (table["statistic"] == "score")]
    recall, lrp = (own[own["metric"] == metric] for metric in ("recall", "oLRP"))
    assert recall["estimate"].isna().all() and lrp["estimate"].notna().all()
    assert recall["missing"].str.contains("module: no operating confidence, without clean detections").all()
    given = bootstrap_intervals(run, resamples=5, metrics=["recall"], confidence=0.3).table(["recall"])
    assert given.loc[given["statistic"] == "score", "estimate"].notna().all()
    with pytest.raises(UsageError, match=r"confidence 1.5 is outside \[0, 1\]"):
        operating_confidences(run, 1.5)


def test_the_reason_names_the_model_and_the_cells_without_a_value() -> None:
    def samples(*values: float) -> BootstrapSamples:
        estimate = np.array(values)
        return BootstrapSamples(estimate, np.tile(estimate, (3, 1)), np.tile(estimate, (2, 1)))

    clean, fog = ("clean", 0.0), [("fog", 1.0), ("fog", 2.0), ("fog", 3.0)]
    cells = {
        "a": {clean: samples(50, 50), **{c: samples(20, 20) for c in fog}},
        "b": {
            clean: samples(0, 40),
            fog[0]: samples(0, 10),
            **{c: samples(np.nan, np.nan) for c in fog[1:]},
        },
    }
    over = CorruptionSet(tuple(fog))
    why = {"b": {"precision": "no box has that confidence"}}
    groups = {name: [name] for name in cells}
    names = ["recall", "precision"]
    intervals = Intervals(cells, {over: ""}, [("a", "b")], groups, metrics=names, undefined=why)
    table = intervals.table()
    absent = table[table["estimate"].isna() & (table["metric"] == "precision")]
    of_cell = absent[(absent["corruption"] == "fog") & (absent["severity"] == 2)]
    assert (
        of_cell["missing"].tolist() == ["b: no box has that confidence (fog 2)"] * 2
    )  # its own, and the pair's
    means = absent[absent["statistic"] == "mPC"]
    assert means["missing"].tolist() == ["b: no box has that confidence (fog 2 and 1 more)"] * 2
    short = Intervals(
        {name: {clean: own[clean], fog[0]: own[fog[0]]} for name, own in cells.items()},
        {CorruptionSet((fog[0],)): ""},
        [],
        groups,
        metrics=names,
    )
    frame = short.table()
    assert frame.loc[frame["estimate"].isna(), "missing"].tolist() == ["b: recall on clean images is 0"]


@pytest.mark.parametrize("value", [1.2, 2.5])
def test_a_small_d_ece_has_a_note_on_its_interval(value: float) -> None:
    row = {"metric": "D-ECE", "model": "a", "baseline": "", "statistic": "P", "over": "", "estimate": value}
    frame = pd.DataFrame([row | {"low": value / 2, "high": 2 * value, "missing": "", "significant": False}])
    short = ScoreTables(frame, ["a"], [], [], {}, []).means("D-ECE", {})
    for table in (short, measures_table(frame, "", [])):
        assert any("need not cover" in note for note in table.notes) == (value < 2), table.title
