"""Intervals of cells, means and differences: paired, kept, honest about what is missing."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.robustness import (
    METRICS,
    BootstrapSamples,
    CorruptionSet,
    Intervals,
    bootstrap_intervals,
    check_comparable,
    half_severities,
    summary,
)
from robustbench_sgdm.robustness.inference import infer
from robustbench_sgdm.robustness.resample_cache import bootstrap_weights, resample_cell
from robustbench_sgdm.store import GroundTruth, Run
from tests.support.synthetic_runs import rewrite

MODELS: dict[str, str | None] = {"base": None, "module": "base"}
NOISE = {"gaussian_noise": [1.0, 3.0], "fog": [1.0, 3.0]}


def rows(table: pd.DataFrame, **where: Any) -> pd.DataFrame:
    for column, value in where.items():
        table = table[table[column] == value]
    return table


def test_estimates_are_the_stored_scores_and_means_their_means(make_run: Any) -> None:
    run = make_run(MODELS, NOISE)
    table = bootstrap_intervals(run, resamples=50).table()
    results = run.results().set_index(["model", "corruption", "severity"])
    own = rows(table, statistic="score", baseline="").set_index(["model", "corruption", "severity", "metric"])
    for metric in METRICS:
        theirs = own.xs(metric, level="metric")["estimate"].reindex(results.index)
        assert theirs.tolist() == pytest.approx(results[metric].tolist(), abs=1e-9)
    found = {
        (r["model"], r["over"], r["metric"]): r for r in summary(run, metrics=METRICS).to_dict("records")
    }
    for statistic in ("P", "mPC", "rPC"):
        for row in rows(table, statistic=statistic, baseline="").itertuples():
            same = found[row.model, row.over or "gaussian_noise, fog at 1, 3", row.metric]
            assert row.estimate == pytest.approx(same[statistic])
    errors = rows(table, statistic="mCE")
    assert set(errors["model"]) == {"module"} and set(errors["baseline"]) == {"base"} and len(errors) == 3 * 6
    for error in errors.to_dict("records"):
        assert error["estimate"] == pytest.approx(found["module", error["over"], error["metric"]]["mCE"])
        assert error["low"] <= error["high"] and (error["p"] < 0.2 or error["low"] <= 100 <= error["high"])


def test_intervals_hold_what_they_are_made_of(make_run: Any) -> None:
    table = bootstrap_intervals(make_run(MODELS, NOISE), resamples=200).table()
    assert (table["missing"] == "").all() and table["estimate"].notna().all()
    assert (table["low"] <= table["estimate"]).all() and (table["estimate"] <= table["high"]).all()
    differences = table[(table["baseline"] != "") & (table["statistic"] != "mCE")]
    outside = (differences["low"] > 0) | (differences["high"] < 0)
    assert ((differences["p"] < 0.05) == outside).all()
    assert (differences["p_holm"] >= differences["p"]).all()
    assert (differences["significant"] == (differences["p_holm"] < 0.05)).all()
    assert not table.loc[table["baseline"] == "", "significant"].any()
    alone = differences[
        (differences["over"] == "gaussian_noise, fog at 1, 3") | (differences["statistic"] == "P")
    ]
    assert len(alone) and (alone["p_holm"] == alone["p"]).all()
    cells = rows(differences, statistic="score", metric="AP")
    smallest = cells[cells["corruption"] != "clean"].nsmallest(1, "p").iloc[0]
    assert smallest["p_holm"] == pytest.approx(min(1, 4 * smallest["p"]))  # four corrupted cells


def test_a_model_against_itself_differs_by_exactly_nothing(make_run: Any) -> None:
    found = bootstrap_intervals(make_run(MODELS, NOISE, worse=0), resamples=20)
    table = found.table(pairs=[("base", "base")])
    same = table[(table["baseline"] == "base") & (table["statistic"] != "mCE")]
    assert (rows(table, statistic="mCE", baseline="base")[["estimate", "low", "high"]] == 100).all(axis=None)
    assert len(same) and (same[["estimate", "low", "high", "se"]] == 0).all(axis=None)
    assert (same["p"] == 1).all()


def test_what_was_drawn_is_kept_and_only_what_changed_is_drawn_again(make_run: Any) -> None:
    run = make_run(MODELS, NOISE)
    first = bootstrap_intervals(run, resamples=30).table()
    files = sorted((run.path / "statistics").rglob("bootstrap.parquet"))
    assert len(files) == len(run.cells)
    before = {f: f.stat().st_mtime_ns for f in files}
    done: list[int] = []
    again = bootstrap_intervals(run, resamples=20, progress=done.append).table()
    assert {f: f.stat().st_mtime_ns for f in files} == before and sum(done) == len(files)
    pd.testing.assert_series_equal(again["estimate"], first["estimate"])
    files[0].write_bytes(b"damaged")
    pd.testing.assert_frame_equal(bootstrap_intervals(run, resamples=30).table(), first)
    assert bootstrap_intervals(run, resamples=30, seed=1).table()["low"].ne(first["low"]).any()


def test_more_resamples_begin_with_the_fewer() -> None:
    assert np.array_equal(bootstrap_weights(20, 5, 3), bootstrap_weights(20, 50, 3)[:5])


def test_a_missing_cell_makes_means_absent_and_is_named(make_run: Any) -> None:
    run = make_run(MODELS, NOISE, leave=(("module", "fog", 3.0),))
    table = bootstrap_intervals(run, resamples=20).table(["AP"])
    lacking = rows(table, statistic="mPC", model="module", over="gaussian_noise, fog at 1, 3")
    assert lacking["estimate"].isna().all() and (lacking["missing"] == "module: fog 3").all()
    whole = rows(table, statistic="mPC", model="module", over="gaussian_noise at 1, 3")
    assert whole["estimate"].notna().all() and (whole["missing"] == "").all()
    assert rows(table, statistic="score", corruption="fog", severity=3.0)["model"].tolist() == ["base"]


def test_runs_that_do_not_compare_are_refused(make_run: Any) -> None:
    one = make_run(MODELS, NOISE)
    check_comparable([one, make_run(MODELS, NOISE, name="same")])
    for what, other in {
        "data set": make_run(MODELS, NOISE, name="d", truth_seed=1),
        "seed": make_run(MODELS, NOISE, name="s", settings={"seed": 1}),
        "engine": make_run(MODELS, NOISE, name="e", settings={"engine": "imgaug"}),
    }.items():
        with pytest.raises(DataError, match=what):
            bootstrap_intervals([one, other], resamples=20)


def test_models_of_two_runs_are_told_apart(make_run: Any) -> None:
    runs = [make_run(MODELS, NOISE, name="r1"), make_run({"base": None, "other": "base"}, NOISE, name="r2")]
    table = bootstrap_intervals(runs, resamples=20).table(["AP"])
    pairs = set(table.loc[table["baseline"] != "", ["baseline", "model"]].itertuples(index=False, name=None))
    assert pairs == {("base@r1", "module"), ("base@r2", "other"), ("base@r1", "base@r2")}


def test_runs_of_one_name_in_two_folders_are_told_apart(make_run: Any, tmp_path: Path) -> None:
    first = make_run(MODELS, NOISE)
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(first.path, tmp_path / "elsewhere" / first.path.name)
    second = Run.open(tmp_path / "elsewhere" / first.path.name)
    found = bootstrap_intervals([first, second], resamples=5)
    assert set(found.groups) == {f"{m}@{run.path}" for m in MODELS for run in (first, second)}
    assert all(len(cells) == 5 for cells in found.cells.values())
    for model in MODELS:  # a run against its copy: nothing differs
        pair = [(f"{model}@{first.path}", f"{model}@{second.path}")]
        assert set(pair) <= set(found.pairs)
        (clean,) = rows(found.table(["AP"], pairs=pair), statistic="P", baseline=pair[0][0])["estimate"]
        assert clean == 0
    groups = {"a": [f"base@{run.path}" for run in (first, second)]}
    assert not any(
        set(pair) == {"a"} for pair in bootstrap_intervals([first, second], resamples=5, groups=groups).pairs
    )


def test_one_image_has_no_interval(make_run: Any) -> None:
    table = bootstrap_intervals(make_run(MODELS, NOISE, images=4), resamples=50).table(["AP"])
    assert table["low"].notna().any()
    single = bootstrap_intervals(make_run(MODELS, NOISE, name="one", images=1), resamples=50)
    table = single.table(["AP"])
    assert table["estimate"].notna().any()
    assert table[["low", "high", "p", "se"]].isna().all(axis=None)
    assert half_severities(single)[["low", "high"]].isna().all(axis=None)


def test_a_difference_that_one_image_decides_has_no_interval(made: Any) -> None:
    """Every resample that holds the object says the same: that is no proof."""
    cells = {}
    for model, value in (("base", 10.0), ("module", 20.0)):
        draws = np.full((50, len(METRICS)), value)
        draws[::3] = np.nan  # resamples without it
        jackknife = np.full((30, len(METRICS)), value)
        jackknife[0] = np.nan
        cells[model] = {("clean", 0.0): BootstrapSamples(np.full(len(METRICS), value), draws, jackknife)}
    found = Intervals(cells, {}, [("base", "module")], {m: [m] for m in cells})
    (row,) = rows(found.table(["AP"]), statistic="P", baseline="base").to_dict("records")
    assert row["estimate"] == 10 and np.isnan([row["low"], row["high"], row["p"]]).all()


def test_a_training_without_the_value_leaves_no_interval() -> None:
    """As mCE of a pair of trainings whose baseline makes no error."""
    draws = np.random.default_rng(0).normal(20, 1, (50, 1))
    known = BootstrapSamples(np.array([20.0]), draws, draws[:30])
    unknown = BootstrapSamples(np.array([np.nan]), draws * np.nan, draws[:30] * np.nan)
    found = infer(known, 0, 100.0, [[known, unknown]], 0.95)
    assert found.estimate == 20 and found.seeds == 2
    assert np.isnan([found.low, found.high, found.p]).all()


def test_rounding_is_no_variation(made: Any) -> None:
    """COCO's precision of one true positive is 1 / (1 + 2e-16), of the same box drawn twice 1: that proves nothing."""
    images, names = (
        pd.DataFrame({"image_id": range(1, 51)}),
        pd.DataFrame({"category_id": [1], "name": ["c"]}),
    )
    corners = {"x": 10.0, "y": 10.0, "w": 30.0, "h": 30.0}
    of = {"image_id": [3], "category_id": 1}
    truth = GroundTruth(images, pd.DataFrame({**of, **corners, "area": 900.0, "iscrowd": 0}), names)
    box = pd.DataFrame({**of, "score": 0.9, "x1": 10.0, "y1": 10.0, "x2": 40.0, "y2": 40.0})
    drawn = bootstrap_weights(50, 300, 0)
    cells = {
        model: {("clean", 0.0): resample_cell(made.resampler(truth, found), drawn)}
        for model, found in (("base", box), ("module", box[:0]))
    }
    assert np.ptp(cells["base"]["clean", 0.0].resamples[:, 0]) != 0  # what this is about
    found = Intervals(cells, {}, [("base", "module")], {m: [m] for m in cells}).table(["AP"])
    (row,) = rows(found, statistic="P", baseline="base").to_dict("records")
    assert row["estimate"] == pytest.approx(-100) and not row["significant"]
    assert np.isnan([row["low"], row["high"], row["p"]]).all()


def test_trainings_of_one_seed_are_paired(make_run: Any) -> None:
    """Differences by seed alike: the spread between seeds cancels, as in the trainings' own table."""
    models: dict[str, str | None] = {
        "a-seed0": None,
        "a-seed1": None,
        "b-seed0": "a-seed0",
        "b-seed1": "a-seed1",
    }
    run = make_run(models, NOISE, worse=0.5)
    groups = {"a": ["a-seed0", "a-seed1"], "b": ["b-seed1", "b-seed0"]}
    found = bootstrap_intervals(run, resamples=300, groups=groups)
    assert found.pairs == [("a", "b")]
    assert found.seed_pairs("a", "b") == [("a-seed1", "b-seed1"), ("a-seed0", "b-seed0")]
    (row,) = rows(found.table(["AP"]), statistic="P", baseline="a").to_dict("records")
    clean = {m: cells["clean", 0.0].estimate[0] for m, cells in found.cells.items()}
    by_seed = [clean[f"b-seed{k}"] - clean[f"a-seed{k}"] for k in (0, 1)]
    assert row["estimate"] == pytest.approx(np.mean(by_seed)) and row["seeds"] == 2
    assert row["se_seeds"] == pytest.approx(np.std(by_seed, ddof=1) / 2**0.5)
    assert row["se"] ** 2 == pytest.approx(row["se_images"] ** 2 + row["se_seeds"] ** 2)


def test_trainings_whose_seeds_nobody_knows_are_two_samples(make_run: Any) -> None:
    models: dict[str, str | None] = {"a0": None, "a1": None, "b0": "a0", "b1": "a1"}
    run = make_run(models, NOISE, worse=0.5)
    found = bootstrap_intervals(run, resamples=300, groups={"a": ["a0", "a1"], "b": ["b0", "b1"]})
    table = found.table(["AP"])
    (row,) = rows(table, statistic="P", baseline="a").to_dict("records")
    assert row["model"] == "b" and row["seeds"] == 2
    clean = {m: cells["clean", 0.0].estimate[0] for m, cells in found.cells.items()}
    assert row["estimate"] == pytest.approx((clean["b0"] + clean["b1"] - clean["a0"] - clean["a1"]) / 2)
    spread = ((clean["a0"] - clean["a1"]) ** 2 + (clean["b0"] - clean["b1"]) ** 2) / 4
    assert row["se_seeds"] == pytest.approx(spread**0.5)
    assert row["high"] - row["low"] > 2 * 1.96 * row["se"]  # few trainings: Student's, not the normal's
    (error,) = rows(table, statistic="mCE", over="gaussian_noise, fog at 1, 3").to_dict("records")
    assert error["se_seeds"] > 0 and error["seeds"] == 2


def test_a_manifest_tells_its_groups_and_seeds(make_run: Any) -> None:
    run = make_run({"p": None, "q": None, "r": "p", "s": "q"}, {"fog": [3.0]})
    trainings = (("p", "base", 4), ("q", "base", 7), ("r", "new", 7), ("s", "new", 4))
    run = rewrite(run, models={name: {"group": group, "seed": seed} for name, group, seed in trainings})
    assert run.baseline_pairs == [("base", "new")] and run.training_pairs == [("q", "r"), ("p", "s")]
    found = bootstrap_intervals(run, resamples=20)
    assert found.groups == {"base": ["p", "q"], "new": ["r", "s"]} and found.pairs == [("base", "new")]
    (row,) = rows(found.table(["AP"]), statistic="rPC", baseline="new", model="base").to_dict("records") or [
        {}
    ]
    assert not row
    means = summary(run, metrics=["AP"]).set_index("model")
    own = rows(found.table(["AP"]), statistic="rPC", baseline="").set_index("model")
    assert means["rPC"].to_dict() == pytest.approx(own["estimate"].to_dict())
    error = rows(found.table(["AP"]), statistic="mCE")["estimate"].item()
    assert means["mCE"]["new"] == pytest.approx(error)


def test_run_and_intervals_pair_the_same_trainings(make_run: Any) -> None:
    """One seed in common, all, none, and a seed that a group has twice, which pairs nothing."""
    run = make_run(dict.fromkeys("pqrs"), {"fog": [3.0]})
    for seeds, pairs in (
        ((4, 7, 7, 5), [("q", "r")]),
        ((4, 7, 7, 4), [("q", "r"), ("p", "s")]),
        ((4, 7, 5, 6), [("p", "r")]),
        ((4, 4, 4, 5), [("p", "r")]),
        ((4, 7, 7, 7), [("p", "r")]),
    ):
        groups = zip("pqrs", ("base", "base", "new", "new"), seeds, strict=True)
        run = rewrite(run, models={name: {"group": group, "seed": seed} for name, group, seed in groups})
        found = bootstrap_intervals(run, resamples=5)
        assert run.match_trainings("base", "new") == found.trainings("base", "new") == pairs
        assert found.seed_pairs("base", "new") == (pairs if len(pairs) > 1 else [])
        (row,) = rows(found.table(["AP"]), statistic="P", baseline="base").to_dict("records")
        clean = run.results().set_index(["model", "corruption"])["AP"].xs("clean", level=1)
        assert row["seeds"] == 2 and row["estimate"] == pytest.approx(
            clean[["r", "s"]].mean() - clean[["p", "q"]].mean()
        )


def test_a_manifest_that_compares_a_model_with_itself_says_nothing(make_run: Any) -> None:
    run = make_run({"one": "one", "two": None}, {"fog": [3.0]})
    assert run.baseline_pairs == [("one", "two")] and run.has_default_baseline
    assert bootstrap_intervals(run, resamples=5).pairs == run.baseline_pairs


@pytest.mark.parametrize("group", ["two", "g" * 600])
def test_a_group_is_called_as_no_other_model(make_run: Any, group: str) -> None:
    run = make_run({"one": None, "two": None}, {"fog": [3.0]})
    with pytest.raises(DataError, match="group"):
        rewrite(run, models={"one": {"group": group}})
    both = {"one": {"group": group}, "two": {"group": group}}
    if group == "two":
        assert rewrite(run, models=both).groups == {"two": ["one", "two"]}
    else:
        with pytest.raises(DataError, match="group"):
            rewrite(run, models=both)


def test_a_manifest_that_describes_a_model_without_cells_is_found_again(make_run: Any) -> None:
    run = make_run({"one": None}, {"fog": [3.0]})
    rewrite(run, models={"two": {"weights": "none"}})
    again = Run.create_or_resume(run.path.parent, run.path.name, run.manifest)
    assert list(again.manifest.models) == ["one", "two"]


def test_the_first_model_is_the_baseline_where_none_is_known(make_run: Any) -> None:
    run = make_run({"one": None, "two": None, "three": None}, {"fog": [3.0]})
    assert run.has_default_baseline and run.baseline_pairs == [("one", "two"), ("one", "three")]
    other = run.against("two")
    assert other.baseline_pairs == [("two", "one"), ("two", "three")] and not other.has_default_baseline
    assert bootstrap_intervals(other, resamples=5).pairs == other.baseline_pairs
    runs = [make_run({name: None}, {"fog": [3.0]}, name=f"run-{name}") for name in ("x", "y", "z")]
    assert bootstrap_intervals(runs, resamples=5).pairs == [("x", "y"), ("x", "z")]
    with pytest.raises(UsageError, match="did you mean two"):
        run.against("tow")
    with pytest.raises(UsageError, match="nothing to compare"):
        runs[0].against("x")


def test_impossible_requests(make_run: Any) -> None:
    run = make_run({**MODELS, "t0": None, "t1": None}, NOISE)
    run = rewrite(run, models={name: {"group": "told"} for name in ("t0", "t1")})
    for arguments, words in (
        ({"resamples": 1}, "too few"),
        ({"level": 1.0}, "outside"),
        ({"groups": {"a": ["bas"]}}, "did you mean base"),
        ({"groups": {"a": ["base"], "b": ["base"]}}, "two groups"),
        ({"groups": {"a": []}}, "has no model"),
        ({"groups": {"base": ["module"]}}, "use another name"),
        ({"groups": {"told": ["module"]}}, "has the name of a group of the run"),
        ({"groups": {"a": ["base", "module"]}}, "joins module with its baseline base"),
    ):
        with pytest.raises(UsageError, match=words):
            bootstrap_intervals(run, **arguments)
    with pytest.raises(UsageError, match="unknown metric"):
        bootstrap_intervals(run, resamples=5).table(["AR1"])
    with pytest.raises(UsageError, match="unknown model"):
        bootstrap_intervals(run, resamples=5).table(
            pairs=[("base", "x")], sets=[CorruptionSet.from_product(["fog"], [1, 3])]
        )


def test_damaged_detections_are_found(make_run: Any, tmp_path: Path) -> None:
    run = make_run(MODELS, NOISE)
    one, two = run.cells[0], run.cells[-1]
    (run.store.folder(one) / "detections.parquet").write_bytes(
        (run.store.folder(two) / "detections.parquet").read_bytes()
    )
    with pytest.raises(DataError, match="its stored score is"):
        bootstrap_intervals(run, resamples=5)


def test_few_resamples_prove_little(make_run: Any) -> None:
    table = bootstrap_intervals(make_run(MODELS, NOISE), resamples=2).table(["AP"])
    tested = table[table["se"] > 0]
    ratio = (tested["high"] - tested["estimate"]) / tested["se"]
    free = ratio[tested["baseline"] != ""]  # scores end at 0 and 100
    np.testing.assert_allclose(free, 12.7062, rtol=1e-5)  # Student's with one degree of freedom


def test_a_baseline_may_be_a_training_of_the_same_network(make_run: Any) -> None:
    run = make_run({"one": None, "two": "one", "three": "one"}, {"fog": [3.0]})
    same = rewrite(run, models={name: {"parameters": 10} for name in run.manifest.models})
    assert bootstrap_intervals(same, resamples=5, groups={"g": ["one", "two"]}).pairs == [("g", "three")]
    same = rewrite(same, models={"two": {"module": "sgdm"}})
    with pytest.raises(UsageError, match="joins two with its baseline one"):
        bootstrap_intervals(same, resamples=5, groups={"g": ["one", "two"]})
