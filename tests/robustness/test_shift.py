"""Shifted against clean images: independent draws, classes that both have, and the line over the models."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.evaluation import expand_shifts
from robustbench_sgdm.figures import RunAnalysis, draw
from robustbench_sgdm.robustness import bootstrap_intervals, class_intervals, shift_table
from robustbench_sgdm.robustness.shift import residuals
from robustbench_sgdm.store import Run
from robustbench_sgdm.tables import shift_tables
from tests.support.synthetic_runs import rewrite

MODELS: dict[str, str | None] = {"base": None, "module": "base", "other": None}
FOG = {"fog": [1.0]}


def pick(table: pd.DataFrame, **where: Any) -> pd.Series:
    chosen = table[np.all([table[k] == v for k, v in where.items()], axis=0)]
    assert len(chosen) == 1
    return chosen.iloc[0]


@pytest.fixture
def runs(make_run: Any) -> tuple[Run, Run]:
    return make_run(MODELS, FOG), make_run(MODELS, FOG, name="night", truth_seed=5, images=20, worse=2)


def test_values_are_means_over_the_shared_classes_and_variances_add(runs: tuple[Run, Run]) -> None:
    run, night = runs
    table = shift_table(run, {"night": night}, resamples=200)
    assert set(table["statistic"]) == {"clean", "shifted", "change", "retained", "effective"}
    for model in MODELS:
        values = {
            row["statistic"]: row
            for row in table[(table["model"] == model) & (table["baseline"] == "")].to_dict("records")
        }
        for statistic, of_run in (("clean", run), ("shifted", night)):
            cell = next(c for c in of_run.cells if c.model == model and c.corruption == "clean")
            stored = of_run.store.read_scores(cell).per_class
            expected = np.mean([stored["c1"], stored["c5"]])
            assert values[statistic]["estimate"] == pytest.approx(expected, abs=1e-9)
            assert values[statistic]["low"] < expected < values[statistic]["high"]
        change = values["change"]
        assert change["estimate"] == values["shifted"]["estimate"] - values["clean"]["estimate"]
        assert change["se"] ** 2 == pytest.approx(values["clean"]["se"] ** 2 + values["shifted"]["se"] ** 2)
        assert not change["paired"] and change["images"] == 20 and change["classes"] == 2
        share = values["retained"]
        ratio = values["shifted"]["estimate"] / values["clean"]["estimate"]
        relative = np.hypot(*(values[s]["se"] / values[s]["estimate"] for s in ("clean", "shifted")))
        assert share["estimate"] == pytest.approx(100 * ratio)
        assert share["se"] == pytest.approx(100 * ratio * relative) and np.isnan(share["p"])


def test_models_on_the_same_shifted_images_are_paired(runs: tuple[Run, Run]) -> None:
    run, night = runs
    table = shift_table(run, {"night": night}, resamples=200)
    paired = pick(table, model="module", baseline="base", statistic="shifted")
    own = [pick(table, model=m, baseline="", statistic="shifted") for m in ("module", "base")]
    assert paired["paired"] and paired["estimate"] == pytest.approx(own[0]["estimate"] - own[1]["estimate"])
    assert paired["se"] < np.hypot(own[0]["se"], own[1]["se"])  # the images are shared
    # As the classes' own comparison of that run has it, whose resamples are others.
    theirs = class_intervals(bootstrap_intervals(night, resamples=200), resamples=200)
    theirs = theirs[
        (theirs["baseline"] == "base") & (theirs["model"] == "module") & (theirs["statistic"] == "P")
    ]
    assert paired["estimate"] == pytest.approx(theirs["estimate"].mean())
    change = pick(table, model="module", baseline="base", statistic="change")
    changes = [pick(table, model=m, baseline="", statistic="change")["estimate"] for m in ("module", "base")]
    assert change["estimate"] == pytest.approx(changes[0] - changes[1]) and not change["paired"]


def test_effective_robustness_is_the_distance_from_the_line(runs: tuple[Run, Run]) -> None:
    run, night = runs
    table = shift_table(run, {"night": night}, resamples=100)
    own = table[table["baseline"] == ""]
    values = {s: own[own["statistic"] == s].set_index("model") for s in ("clean", "shifted", "effective")}
    slope, start = np.polyfit(values["clean"]["estimate"], values["shifted"]["estimate"], 1)
    for model in MODELS:
        line = slope * values["clean"].loc[model, "estimate"] + start
        found = values["effective"].loc[model]
        assert found["estimate"] == pytest.approx(values["shifted"].loc[model, "estimate"] - line, abs=1e-6)
        assert found["low"] <= found["estimate"] <= found["high"]
    assert np.isnan(residuals(np.array([1.0, 1.0, 1.0]), np.array([0.0, 1.0, 2.0]))).all()


def test_two_models_have_no_line_and_other_classes_no_number(make_run: Any) -> None:
    two: dict[str, str | None] = {"base": None, "module": "base"}
    run, night = make_run(two, FOG), make_run(two, FOG, name="night", truth_seed=5)
    table = shift_table(run, {"night": night}, resamples=20)
    effective = table[table["statistic"] == "effective"]
    assert (
        effective["estimate"].isna().all()
        and (effective["missing"] == "effective robustness needs 3 networks or more").all()
    )
    table = shift_table(run, {"night": rename_classes(night, ["x", "y", "z"])}, resamples=20)
    assert table["estimate"].isna().all() and (table["classes"] == 0).all()
    assert table["missing"].str.contains("no class has objects in both data sets").all()
    lacking = make_run(two, FOG, name="lacking", truth_seed=5, leave=(("module", "clean", 0.0),))
    table = shift_table(run, {"night": lacking}, resamples=20)
    assert pick(table, model="module", baseline="", statistic="clean")["missing"] == "module: no shifted cell"
    assert pick(table, model="base", baseline="", statistic="change")["estimate"] < 100


def rename_classes(run: Run, names: list[str]) -> Run:
    truth = run.ground_truth()
    truth.categories["name"] = names
    shutil.rmtree(run.path / "ground_truth")
    truth.write(run.path / "ground_truth", run.manifest.data.fingerprint, run.files)
    return Run.open(run.path)


def test_classes_match_as_those_of_detectors_do(runs: tuple[Run, Run]) -> None:
    run, night = runs
    whole = shift_table(run, {"night": night}, resamples=20)
    run = rename_classes(run, ["traffic light", "Car", "z"])
    loose = shift_table(run, {"night": rename_classes(night, ["Traffic_Light", "car", "z"])}, resamples=20)
    pd.testing.assert_frame_equal(loose, whole)
    run = rename_classes(run, ["car", "bus", "z"])
    twice = shift_table(run, {"night": rename_classes(night, ["car", "car", "z"])}, resamples=20)
    assert (twice["classes"] == 0).all()  # which of the two is meant is unknown


def test_seeds_of_a_network_are_averaged(make_run: Any) -> None:
    seeded: dict[str, str | None] = {"a0": None, "a1": None}
    one, two = make_run(seeded, FOG), make_run(seeded, FOG, name="night", truth_seed=5)
    made = []
    for run in (one, two):
        models = {m: {"group": "a", "seed": i} for i, m in enumerate(seeded)}
        made.append(rewrite(run, models=models))
    table = shift_table(made[0], {"night": made[1]}, resamples=50)
    row = pick(table, model="a", statistic="change")
    single = shift_table(one, {"night": two}, resamples=50)
    apart = [pick(single, model=m, baseline="", statistic="change")["estimate"] for m in seeded]
    assert row["estimate"] == pytest.approx(np.mean(apart)) and row["seeds"] == 2
    assert row["se_seeds"] == pytest.approx(np.std(apart, ddof=1) / np.sqrt(2))
    assert row["se"] ** 2 == pytest.approx(row["se_seeds"] ** 2 + row["se_images"] ** 2)


def test_nothing_is_retained_of_nothing(make_run: Any) -> None:
    night = make_run({"base": None}, FOG, name="night")
    nothing = make_run({"base": None}, FOG, name="nothing", hopeless=True)
    table = shift_table(nothing, {"night": night}, resamples=20)
    row = pick(table, statistic="retained")
    assert np.isnan(row["estimate"]) and row["missing"] == "base: AP on clean images is 0"
    assert pick(table, statistic="change")["estimate"] == pick(table, statistic="shifted")["estimate"] > 0
    lost = pick(shift_table(night, {"night": nothing}, resamples=20), statistic="retained")
    assert lost["estimate"] == 0 and lost["low"] == 0


def test_shifted_runs_are_beside_the_run_wherever_it_is_named_from(
    make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, night = make_run({"base": None}, FOG), make_run({"base": None}, FOG, name="night")
    run.with_shifts({"dark": night.path.name, "gone": "nowhere"})
    monkeypatch.chdir(run.path)
    analysis = RunAnalysis(Run.open(Path()), resamples=20)
    gone = pick(analysis.shifts, shift="gone")
    assert np.isnan(gone["estimate"]) and "nowhere" in gone["missing"]
    assert pick(analysis.shifts, shift="dark", statistic="shifted")["estimate"] > 0
    table = shift_tables(analysis.shifts, 0.95)[1]
    assert table.rows == [["base", "–"]] and "nowhere" in table.notes[-1] and " 0 " not in table.title
    assert draw("shift", analysis).data["shift"].tolist() == ["dark", "gone"]


def test_two_shifts_of_one_name_are_rejected(tmp_path: Path) -> None:
    annotations = tmp_path / "ood" / "sketch" / "annotations"
    annotations.mkdir(parents=True)
    (annotations / "val.json").touch()
    assert list(expand_shifts({"x": tmp_path / "ood"})) == ["x-sketch"]
    twice = {"x": tmp_path / "ood", "x-sketch": tmp_path / "b.json"}
    for shifts in (twice, dict(reversed(twice.items()))):
        with pytest.raises(UsageError, match="two shifts are called x-sketch"):
            expand_shifts(shifts)
