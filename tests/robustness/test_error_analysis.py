"""Outcomes, flips, error types, calibration, half-lives: each against a slow count of its own."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.robustness import (
    ERROR_TYPES,
    OBJECT_OUTCOMES,
    bootstrap_intervals,
    calibration,
    calibration_bins,
    error_types,
    find_flips,
    half_severities,
    match_outcomes,
    matching,
    mcnemar_p_value,
)
from robustbench_sgdm.robustness.error_analysis import (
    _analyze_with_hotcoco,
    analyze_errors,
    count_object_outcomes,
)
from robustbench_sgdm.robustness.half_severity import crossings
from robustbench_sgdm.robustness.outcomes import to_hotcoco
from robustbench_sgdm.store import GroundTruth, Run
from robustbench_sgdm.tables import half_severity_table, object_table
from tests.support.synthetic_runs import changed

MODELS: dict[str, str | None] = {"base": None, "module": "base"}
NOISE = {"gaussian_noise": [1.0, 3.0], "fog": [2.0]}


def records(frame: pd.DataFrame) -> list[Any]:
    return [SimpleNamespace(**{str(k): v for k, v in row.items()}) for row in frame.to_dict("records")]


def _overlap(a: Any, d: Any) -> float:
    wide = min(a.x + a.w, d.x2) - max(a.x, d.x1)
    high = min(a.y + a.h, d.y2) - max(a.y, d.y1)
    if min(wide, high) <= 0:
        return 0.0
    own = (d.x2 - d.x1) * (d.y2 - d.y1)
    return float(wide * high / (own if a.iscrowd else own + a.w * a.h - wide * high))


def _literal(truth: GroundTruth, found: pd.DataFrame, confidence: float) -> dict[int, float]:
    """Annotation -> score of the box that finds it, by COCO's greedy rule written out."""
    taken: dict[int, float] = {}
    every = found[found["score"] >= confidence].sort_values("score", ascending=False, kind="stable")
    for d in records(every):
        best, chosen = 0.5, None
        for i, a in enumerate(records(truth.annotations)):
            if (a.image_id, a.category_id) != (d.image_id, d.category_id) or a.iscrowd or i in taken:
                continue
            if _overlap(a, d) >= best:
                best, chosen = _overlap(a, d), i
        if chosen is not None:
            taken[chosen] = float(d.score)
    return taken


@pytest.mark.parametrize("seed", range(4))
def test_outcomes_equal_a_literal_matching(made: Any, seed: int) -> None:
    truth = made.truth(seed)
    found = made.detections(truth, seed + 50, ties=False)
    got = match_outcomes(truth, found, 0.4)
    expected = _literal(truth, found, 0.4)
    at = np.flatnonzero(got.objects["outcome"] == "matched")
    assert {int(i): got.objects["score"].iloc[i] for i in at} == pytest.approx(expected)
    assert (got.objects["outcome"] == "ignored").eq(truth.annotations["iscrowd"] == 1).all()
    shown = found[found["score"] >= 0.4]
    assert len(got.detections) == len(shown)
    assert (got.detections["outcome"] == "matched").sum() == len(expected)
    wrong = got.detections[got.detections["outcome"] == "false"]
    assert set(wrong["score"]).isdisjoint(expected.values()) and len(wrong)


def test_a_box_on_a_crowd_is_neither_right_nor_wrong() -> None:
    boxes = pd.DataFrame(
        {"x": [0.0, 200.0], "y": 0.0, "w": 100.0, "h": 100.0, "area": 1e4, "iscrowd": [1, 0]}
    )
    pictures = pd.DataFrame({"image_id": [1], "file": "", "width": 640, "height": 480})
    names = pd.DataFrame({"category_id": [1], "name": ["a"]})
    truth = GroundTruth(pictures, boxes.assign(image_id=1, category_id=1), names)
    found = pd.DataFrame({"x1": [10.0, 50.0, 200.0, 400.0], "score": [0.9, 0.8, 0.7, 0.6]})
    found = found.assign(image_id=1, category_id=1, y1=0.0, x2=found["x1"] + 50, y2=100.0)
    found.loc[2, "x2"] = 300.0
    got = match_outcomes(truth, found)
    assert got.detections["outcome"].tolist() == ["ignored", "ignored", "matched", "false"]
    assert got.objects["outcome"].tolist() == ["ignored", "matched"] and np.isnan(got.objects["score"][0])


def test_nothing_shown_and_nothing_there(made: Any) -> None:
    truth = made.truth(0)
    none = match_outcomes(truth, made.detections(truth, 1), 1.1)
    assert not len(none.detections) and set(none.objects["outcome"]) == {"missed", "ignored"}
    empty = GroundTruth(truth.images, truth.annotations.iloc[:0], truth.categories)
    assert set(match_outcomes(empty, made.detections(truth, 1)).detections["outcome"]) == {"false"}


def test_full_images_are_refused_before_boxes_are_held_to_objects(
    make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(MODELS, NOISE)
    monkeypatch.setattr(matching, "_MAX_PAIRS", 10)
    with pytest.raises(DataError, match="pairs within images; the limit is 10"):
        analyze_errors(run.ground_truth(), None, run.store.read_detections(run.cells[0]))


def test_flips_are_what_one_keeps_of_what_both_had(make_run: Any) -> None:
    run = make_run(MODELS, NOISE, worse=3.0)
    got = find_flips(run, "base", "module")
    truth = run.ground_truth()
    found = {
        (c.model, c.corruption, c.severity): set(_literal(truth, run.store.read_detections(c), 0.25))
        for c in run.cells
    }
    both = found["base", "clean", 0.0] & found["module", "clean", 0.0]
    for row in records(got.counts):
        base, module = (found[m, row.corruption, row.severity] & both for m in ("base", "module"))
        assert (row.both, row.kept, row.lost) == (len(both), len(module - base), len(base - module))
        assert row.p == mcnemar_p_value(row.kept, row.lost) and row.p_holm >= row.p
        part = got.objects[
            (got.objects["corruption"] == row.corruption) & (got.objects["severity"] == row.severity)
        ]
        assert set(part["annotation"]) == base ^ module
    assert got.counts[["kept", "lost"]].sum().sum() == len(got.objects) > 0
    assert got.images["net"].is_monotonic_decreasing
    assert got.images[["kept", "lost"]].sum().tolist() == got.counts[["kept", "lost"]].sum().tolist()
    assert (got.images["file"] == "x.png").all()
    for corruption, severity in zip(got.counts["corruption"], got.counts["severity"], strict=True):
        one = find_flips(run, "base", "module", only=[(corruption, severity)]).images
        every = got.images[(got.images["corruption"] == corruption) & (got.images["severity"] == severity)]
        pd.testing.assert_frame_equal(one, every.reset_index(drop=True))
    mirrored = find_flips(run, "module", "base").counts
    assert mirrored["kept"].tolist() == got.counts["lost"].tolist()
    assert list((run.path / "statistics").rglob("found-0.25.parquet"))
    with pytest.raises(UsageError, match="did you mean module"):
        find_flips(run, "base", "modul")
    with pytest.raises(UsageError, match="with itself"):
        find_flips(run, "base", "base")


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test(kept: int, lost: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(kept, kept + lost).pvalue if kept + lost else 1.0
    assert mcnemar_p_value(kept, lost) == pytest.approx(expected)


def test_error_types_and_calibration_are_kept(make_run: Any) -> None:
    run = make_run(MODELS, NOISE)
    done: list[int] = []
    errors = error_types(run, done.append)
    assert len(errors) == len(run.cells) == sum(done)
    assert (errors[list(ERROR_TYPES)] >= 0).all(axis=None)
    files = list((run.path / "statistics").rglob("error_analysis.json"))
    assert len(files) == len(run.cells)
    changed = json.loads(files[0].read_text()) | {"ece": 0.125}
    files[0].write_text(json.dumps(changed))
    assert 0.125 in calibration(run)["ece"].tolist()
    files[0].write_text("{")
    assert 0.125 not in calibration(run)["ece"].tolist()
    bins = calibration_bins(run)
    for cell, part in bins.groupby(["model", "corruption", "severity"]):
        found: Any = calibration(run).set_index(["model", "corruption", "severity"])
        row = found.loc[cell]
        gap = (part["confidence"] - part["precision"]).abs()
        assert (gap * part["count"]).sum() / part["count"].sum() == pytest.approx(row["ece"])
        assert part["count"].sum() == row["detections"]


def _literal_fates(truth: GroundTruth, found: pd.DataFrame) -> list[int]:
    """Objects by `OBJECTS`, and boxes that found none, object by object and box by box."""
    made = match_outcomes(truth, found)
    objects, false = records(made.objects), [d for d in records(made.detections) if d.outcome == "false"]
    held: dict[int, list[tuple[float, bool]]] = {}
    for d in false:
        here = [i for i, a in enumerate(objects) if a.image_id == d.image_id and not a.iscrowd]
        if here:
            i = max(here, key=lambda i: _overlap(objects[i], d))
            held.setdefault(i, []).append((_overlap(objects[i], d), objects[i].category_id == d.category_id))
    counts = dict.fromkeys(OBJECT_OUTCOMES, 0)
    for i, a in enumerate(objects):
        if a.iscrowd:
            continue
        if a.outcome == "matched":
            counts["found"] += 1
        elif any(overlap >= 0.5 and not same for overlap, same in held.get(i, [])):
            counts["wrong_class"] += 1
        elif any(overlap >= 0.1 and same for overlap, same in held.get(i, [])):
            counts["badly_located"] += 1
        else:
            counts["missed"] += 1
    return [*counts.values(), len(false)]


@pytest.mark.parametrize("seed", range(4))
def test_what_became_of_objects_equals_a_literal_count(made: Any, seed: int) -> None:
    truth = made.truth(seed)
    found = made.detections(truth, seed + 50, ties=False, shift=12.0)
    rng = np.random.default_rng(seed)
    found["category_id"] = np.where(rng.random(len(found)) < 0.3, 5, found["category_id"])
    counts, false = count_object_outcomes(truth, found)
    assert [*counts.values(), false] == _literal_fates(truth, found)
    assert (
        min(*counts.values(), false) > 0 and sum(counts.values()) == (truth.annotations["iscrowd"] == 0).sum()
    )


def test_each_fate_of_an_object() -> None:
    """Found; with a box of another class on it; with one of its own near it; with both; missed; missed beside a hit."""
    x = np.arange(6) * 200.0
    boxes = pd.DataFrame({"x": x, "y": 0.0, "w": 100.0, "h": 100.0, "area": 1e4, "iscrowd": 0})
    truth = GroundTruth(
        pd.DataFrame({"image_id": [1, 2], "file": "", "width": 2000, "height": 480}),
        boxes.assign(image_id=1, category_id=1),
        pd.DataFrame({"category_id": [1, 5], "name": ["a", "b"]}),
    )
    wrong = [(0, 1, 0.9), (200, 5, 0.9), (450, 1, 0.9), (600, 5, 0.9), (660, 1, 0.9), (1000, 1, 0.1)]
    found = pd.DataFrame(wrong, columns=["x1", "category_id", "score"])
    found = found.assign(image_id=1, y1=0.0, x2=found["x1"] + 100, y2=100.0)
    other = found.iloc[[0]].assign(image_id=2)  # on nothing
    expected = {"found": 1, "badly_located": 1, "wrong_class": 2, "missed": 2}
    assert count_object_outcomes(truth, pd.concat([found, other])) == (expected, 5)
    assert count_object_outcomes(truth, found.iloc[:0]) == (
        {**dict.fromkeys(OBJECT_OUTCOMES, 0), "missed": 6},
        0,
    )
    empty = GroundTruth(truth.images, truth.annotations.iloc[:0], truth.categories)
    assert count_object_outcomes(empty, found) == (dict.fromkeys(OBJECT_OUTCOMES, 0), 5)


def test_shares_of_objects_add_up(make_run: Any) -> None:
    """And do not shrink with AP, as the points of AP50 that each error type costs do."""
    frame = error_types(make_run(MODELS, NOISE))
    np.testing.assert_allclose(frame[[f"{what}_percent" for what in OBJECT_OUTCOMES]].sum(axis=1), 100)
    table = object_table(frame)
    assert table.columns[1:] == ["found", "badly located", "wrong class", "missed", "false boxes per image"]
    assert len(table.rows) == len(frame.drop_duplicates(["model", "severity"]))


def test_missed_objects_are_counted_as_missed(make_run: Any) -> None:
    """Boxes removed from a perfect answer: TIDE must call every one missed and nothing else an error."""
    truth = make_run(MODELS, {}).ground_truth()
    seen = truth.annotations[truth.annotations["iscrowd"] == 0]
    perfect = seen.assign(
        x1=seen["x"], y1=seen["y"], x2=seen["x"] + seen["w"], y2=seen["y"] + seen["h"], score=0.9
    )
    found = _analyze_with_hotcoco(to_hotcoco(truth), perfect.iloc[::2])
    assert found["counts"] == dict.fromkeys(ERROR_TYPES.values(), 0) | {
        "Miss": len(seen) - len(perfect.iloc[::2])
    }


def test_each_type_of_error_is_told_from_the_others() -> None:
    """Three objects found exactly, and one box for each way of being wrong."""
    boxes = pd.DataFrame({"x": [50, 250, 450], "y": [50] * 3, "w": [100] * 3, "h": [100] * 3})
    annotations = boxes.assign(image_id=1, category_id=1, area=1e4, iscrowd=0)
    pictures = pd.DataFrame({"image_id": [1], "file": "", "width": 640, "height": 480})
    truth = GroundTruth(pictures, annotations, pd.DataFrame({"category_id": [1, 5], "name": ["a", "b"]}))
    wrong = {
        "Dupe": (50, 50, 1),
        "Bkg": (300, 350, 1),
        "Cls": (250, 50, 5),
        "Loc": (510, 50, 1),
        "Both": (110, 50, 5),
    }
    rows = [(x, 50, 1, 0.9) for x in boxes["x"]] + [(x, y, c, 0.5) for x, y, c in wrong.values()]
    found = pd.DataFrame(rows, columns=["x1", "y1", "category_id", "score"]).assign(image_id=1)
    made = _analyze_with_hotcoco(to_hotcoco(truth), found.assign(x2=found["x1"] + 100, y2=found["y1"] + 100))
    assert made["counts"] == dict.fromkeys(wrong, 1) | {"Miss": 0}


@pytest.mark.parametrize("seed", range(3))
def test_calibration_is_the_gap_between_confidence_and_precision(made: Any, seed: int) -> None:
    plain = made.truth(seed)
    truth = GroundTruth(plain.images, plain.annotations.assign(iscrowd=0), plain.categories)
    found = made.detections(truth, seed + 7, ties=False)
    right = found["score"].astype(float).isin(list(_literal(truth, found, 0).values()))
    parts = found.assign(right=right).groupby((found["score"] * 10).astype(int).clip(0, 9))
    gaps = (parts["score"].mean() - parts["right"].mean()).abs()
    got = _analyze_with_hotcoco(to_hotcoco(truth), found)
    assert got["ece"] == pytest.approx((gaps * parts.size()).sum() / len(found))
    assert got["max_calibration_error"] == pytest.approx(gaps.max())


def test_half_life_lies_where_half_is_left(make_run: Any) -> None:
    run = make_run(MODELS, {"gaussian_noise": [1.0, 3.0, 5.0]})
    table = half_severities(bootstrap_intervals(run, resamples=100))
    results = run.results().set_index(["model", "corruption", "severity"])["AP"]
    for row in records(table):
        half = results[row.model, "clean", 0.0] / 2
        if np.isfinite(row.severity):
            levels = [0.0, 1.0, 3.0, 5.0]
            scores = [results[row.model, "gaussian_noise" if s else "clean", s] for s in levels]
            assert np.interp(row.severity, levels, scores) == pytest.approx(half)
        assert row.low <= row.severity <= row.high


def test_half_lives_of_models_use_the_severities_that_all_have(make_run: Any) -> None:
    """A model scored at fewer severities, or with a damaged cell, is not told apart by that."""
    twins = {"base": None, "same": None}
    run = make_run(twins, {"fog": [1.0, 2.0, 3.0]}, worse=0.0, leave=(("same", "fog", 2.0),))
    found = bootstrap_intervals(run, resamples=50)
    fewer = {cell: draws for cell, draws in found.cells["base"].items() if cell != ("fog", 2.0)}
    found = replace(found, cells={**found.cells, "same": fewer})
    base, same = records(half_severities(found))
    assert base.used == "1, 3" and base.lacking == "2" and np.isfinite(base.severity)
    assert vars(base) | {"model": "same"} == vars(same)
    assert half_severity_table(half_severities(found)).rows[0][0] == "fog at 1, 3"
    assert half_severity_table(half_severities(found)).notes[1:] == [
        "fog: from severities 0, 1, 3, which all models have; some models lack 2."
    ]
    (alone,) = records(half_severities(found, models=["base"]))
    assert alone.used == "1, 2, 3" and alone.lacking == ""


def test_half_life_of_an_arm_is_that_of_its_mean_curve(make_run: Any) -> None:
    run = make_run({"s0": None, "s1": None}, {"fog": [1.0, 5.0]})
    (row,) = records(half_severities(bootstrap_intervals(run, resamples=50, groups={"a": ["s0", "s1"]})))
    mean = run.results().groupby("severity")["AP"].mean()
    assert row.model == "a" and np.isfinite(row.severity)
    assert np.interp(row.severity, mean.index, mean) == pytest.approx(mean[0.0] / 2)


def test_half_lives_in_words() -> None:
    inf, nan = float("inf"), float("nan")
    rows = [
        ("m", "fog", 3.1, 2.9, inf),
        ("m", "snow", inf, nan, nan),
        ("n", "fog", nan, nan, nan),
        ("n", "snow", 2, nan, nan),
    ]
    frame = pd.DataFrame(rows, columns=["model", "corruption", "severity", "low", "high"]).assign(
        metric="AP", to=5.0, used="1, 5", lacking=""
    )
    table = half_severity_table(frame)
    assert table.columns == ["corruption", "m", "n"]
    assert table.rows == [["fog", "3.10 [2.90, > 5]", "–"], ["snow", "> 5", "2.00"]]


def test_crossings_by_hand() -> None:
    severities = np.array([0.0, 1.0, 2.0])
    scores = np.array([[40.0, 40.0, 0.0, np.nan], [40.0, 20.0, 0.0, 1.0], [30.0, 30.0, 0.0, 1.0]])
    np.testing.assert_array_equal(crossings(severities, scores), [np.inf, 1.0, np.nan, np.nan])


def test_without_clean_images_every_object_is_asked_about(make_run: Any) -> None:
    run = make_run({"a": None, "b": None}, {"fog": [3.0]})
    whole = find_flips(run, "a", "b").counts.iloc[0]
    noisy = Run(run.path, changed(run.manifest, cells=[c for c in run.cells if c.corruption != "clean"]))
    counts = find_flips(noisy, "a", "b").counts.iloc[0]
    objects = run.ground_truth().annotations
    assert counts["both"] == (objects["iscrowd"] == 0).sum() > whole["both"]
    assert counts["kept"] >= whole["kept"] and counts["lost"] >= whole["lost"]
    assert bool(whole["clean"]) and not counts["clean"]
    lacking = make_run({"a": None, "b": None}, {"fog": [3.0]}, name="lacking", leave=(("b", "clean", 0.0),))
    assert find_flips(lacking, "a", "b").counts.empty  # planned, but not run yet
