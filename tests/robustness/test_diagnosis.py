"""Outcomes, flips, error types, calibration, half-lives: each against a slow count of its own."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_sgdm.errors import UsageError
from robustbench_sgdm.robustness import (
    ERRORS,
    bootstrap,
    calibration,
    calibration_bins,
    error_types,
    flips,
    half_lives,
    mcnemar,
    outcomes,
)
from robustbench_sgdm.robustness.halflife import crossings
from robustbench_sgdm.store import GroundTruth

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
    got = outcomes(truth, found, 0.4)
    expected = _literal(truth, found, 0.4)
    at = np.flatnonzero(got.objects["outcome"] == "matched")
    assert {int(i): got.objects["score"].iloc[i] for i in at} == pytest.approx(expected)
    assert (got.objects["outcome"] == "ignored").eq(truth.annotations["iscrowd"] == 1).all()
    shown = found[found["score"] >= 0.4]
    assert len(got.detections) == len(shown)
    assert (got.detections["outcome"] == "matched").sum() == len(expected)
    wrong = got.detections[got.detections["outcome"] == "false"]
    assert set(wrong["score"]).isdisjoint(expected.values()) and len(wrong)


def test_nothing_shown_and_nothing_there(made: Any) -> None:
    truth = made.truth(0)
    none = outcomes(truth, made.detections(truth, 1), 1.1)
    assert not len(none.detections) and set(none.objects["outcome"]) == {"missed", "ignored"}
    empty = GroundTruth(truth.images, truth.annotations.iloc[:0], truth.categories)
    assert set(outcomes(empty, made.detections(truth, 1)).detections["outcome"]) == {"false"}


def test_flips_are_what_one_keeps_of_what_both_had(make_run: Any) -> None:
    run = make_run(MODELS, NOISE, worse=3.0)
    got = flips(run, "base", "module")
    truth = run.truth()
    found = {
        (c.model, c.corruption, c.severity): set(_literal(truth, run.store.detections(c), 0.25))
        for c in run.cells
    }
    both = found["base", "clean", 0.0] & found["module", "clean", 0.0]
    for row in records(got.counts):
        base, module = (found[m, row.corruption, row.severity] & both for m in ("base", "module"))
        assert (row.both, row.kept, row.lost) == (len(both), len(module - base), len(base - module))
        assert row.p == mcnemar(row.kept, row.lost) and row.p_holm >= row.p
        part = got.objects[
            (got.objects["corruption"] == row.corruption) & (got.objects["severity"] == row.severity)
        ]
        assert set(part["annotation"]) == base ^ module
    assert got.counts[["kept", "lost"]].sum().sum() == len(got.objects) > 0
    assert got.images["net"].is_monotonic_decreasing
    assert got.images[["kept", "lost"]].sum().tolist() == got.counts[["kept", "lost"]].sum().tolist()
    assert (got.images["file"] == "x.png").all()
    for corruption, severity in zip(got.counts["corruption"], got.counts["severity"], strict=True):
        one = flips(run, "base", "module", only=(corruption, severity)).images
        every = got.images[(got.images["corruption"] == corruption) & (got.images["severity"] == severity)]
        pd.testing.assert_frame_equal(one, every.reset_index(drop=True))
    mirrored = flips(run, "module", "base").counts
    assert mirrored["kept"].tolist() == got.counts["lost"].tolist()
    assert list((run.path / "statistics").rglob("found-0.25.parquet"))
    with pytest.raises(UsageError, match="did you mean module"):
        flips(run, "base", "modul")
    with pytest.raises(UsageError, match="with itself"):
        flips(run, "base", "base")


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test(kept: int, lost: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(kept, kept + lost).pvalue if kept + lost else 1.0
    assert mcnemar(kept, lost) == pytest.approx(expected)


def test_error_types_and_calibration_are_kept(make_run: Any) -> None:
    run = make_run(MODELS, NOISE)
    done: list[int] = []
    errors = error_types(run, done.append)
    assert len(errors) == len(run.cells) == sum(done)
    assert (errors[list(ERRORS)] >= 0).all(axis=None)
    files = list((run.path / "statistics").rglob("diagnosis.json"))
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


def test_missed_objects_are_counted_as_missed(make_run: Any) -> None:
    """Boxes removed from a perfect answer: TIDE must call every one missed and nothing else an error."""
    from robustbench_sgdm.robustness.diagnosis import _diagnose
    from robustbench_sgdm.robustness.outcomes import coco

    truth = make_run(MODELS, {}).truth()
    seen = truth.annotations[truth.annotations["iscrowd"] == 0]
    perfect = seen.assign(
        x1=seen["x"], y1=seen["y"], x2=seen["x"] + seen["w"], y2=seen["y"] + seen["h"], score=0.9
    )
    found = _diagnose(coco(truth), perfect.iloc[::2])
    assert found["counts"] == dict.fromkeys(ERRORS.values(), 0) | {"Miss": len(seen) - len(perfect.iloc[::2])}


def test_half_life_lies_where_half_is_left(make_run: Any) -> None:
    run = make_run(MODELS, {"gaussian_noise": [1.0, 3.0, 5.0]})
    table = half_lives(bootstrap(run, resamples=100))
    results = run.results().set_index(["model", "corruption", "severity"])["AP"]
    for row in records(table):
        half = results[row.model, "clean", 0.0] / 2
        if np.isfinite(row.severity):
            levels = [0.0, 1.0, 3.0, 5.0]
            scores = [results[row.model, "gaussian_noise" if s else "clean", s] for s in levels]
            assert np.interp(row.severity, levels, scores) == pytest.approx(half)
        assert row.low <= row.severity <= row.high


def test_crossings_by_hand() -> None:
    severities = np.array([0.0, 1.0, 2.0])
    scores = np.array([[40.0, 40.0, 0.0, np.nan], [40.0, 20.0, 0.0, 1.0], [30.0, 30.0, 0.0, 1.0]])
    np.testing.assert_array_equal(crossings(severities, scores), [np.inf, 1.0, np.nan, np.nan])
