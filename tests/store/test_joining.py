"""Runs of the same images become one run directory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import robustbench_sgdm as rb
from robustbench_sgdm import robustness
from robustbench_sgdm.store import Run
from tests.support.synthetic_runs import make_run, rewrite

LEVELS = {"fog": [1, 3]}


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two runs with one model in common, of equal cells, and one where it differs."""
    for name, models in {"one": ["a", "b"], "two": ["a", "c"], "three": ["a"]}.items():
        make_run(tmp_path, name, models, LEVELS, images=6, resamples=True)
    third = Run.open(tmp_path / "three")
    keys = [
        {"model": c.model, "corruption": c.corruption, "severity": c.severity, "key": "x" * 64}
        for c in third.cells
    ]
    kept = {cell: third.store.read_scores(cell) for cell in third.cells}
    changed = rewrite(third, cells=keys)
    for cell, scores in zip(changed.cells, kept.values(), strict=True):
        scores.model_copy(update={"key": cell.key}).write(
            changed.store.folder(cell) / "scores.json", changed.files
        )
    return [tmp_path / name for name in ("one", "two", "three")]


def test_cells_scores_and_statistics_are_those_of_the_runs(runs: list[Path], tmp_path: Path) -> None:
    joined = rb.join_runs(runs[:2], tmp_path / "both", command="robustbench report")
    assert list(joined.directory.manifest.models) == ["a", "b", "c"] and not joined.directory.missing_cells()
    assert joined.directory.baseline_pairs == [("a", "b"), ("a", "c")]
    own = pd.concat([Run.open(path).results() for path in runs[:2]]).drop_duplicates(
        ["model", "corruption", "severity"]
    )
    columns = ["model", "corruption", "severity", "AP", "AP_S", "key"]
    found = joined.results()[columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, own[columns].reset_index(drop=True))
    assert (pd.read_csv(joined.path / "results.csv")["AP"] == joined.results()["AP"]).all()
    together = robustness.bootstrap_intervals([Run.open(path) for path in runs[:2]]).cells
    for model, name in (("b", "b"), ("a", "a@one")):
        for cell, samples in robustness.bootstrap_intervals(joined.directory).cells[model].items():
            assert np.array_equal(samples.resamples, together[name][cell].resamples)
    again = rb.join_runs(runs[:2], tmp_path / "both")
    assert again.path == joined.path and again.directory.cells == joined.directory.cells


def test_what_is_left_out_is_noted(runs: list[Path], tmp_path: Path) -> None:
    assert not rb.join_runs(runs[:2], tmp_path / "plain").directory.manifest.data.notes
    latency = {"model": ["a"], "milliseconds": 1.0, "ratio": 1.0, "low": 1.0, "high": 1.0, "device": "cpu"}
    Run.open(runs[0]).write_latency(pd.DataFrame(latency))
    Run.open(runs[1]).with_shifts({"night": "two-night"})
    notes = rb.join_runs(runs[:2], tmp_path / "both").directory.manifest.data.notes
    assert ["without their latencies" in note for note in notes] == [True, False]
    assert "without their results on other data (--shift)" in notes[1]


def test_a_model_that_differs_is_compared_with_the_first_runs(runs: list[Path], tmp_path: Path) -> None:
    joined = rb.join_runs([runs[0], runs[2]], tmp_path / "both").directory
    assert list(joined.manifest.models) == ["a@one", "b", "a@three"]
    assert joined.baseline_pairs == [("a@one", "b"), ("a@one", "a@three")] and not joined.missing_cells()


def test_trainings_that_runs_share_keep_the_name_of_their_network(tmp_path: Path) -> None:
    for name, other in (("one", "x"), ("two", "y")):
        models = [f"{group}-seed{seed}" for group in ("base", other) for seed in (0, 1)]
        run = make_run(tmp_path, name, models, LEVELS, images=6)
        rewrite(run, models={m: {"group": m.split("-")[0], "seed": int(m[-1])} for m in models})
    joined = rb.join_runs([tmp_path / "one", tmp_path / "two"], tmp_path / "both").directory
    assert {name: len(members) for name, members in joined.groups.items()} == {"base": 2, "x": 2, "y": 2}
    assert joined.baseline_pairs == [("base", "x"), ("base", "y")]


def test_what_cannot_be_joined(runs: list[Path], tmp_path: Path, command: Callable[..., str]) -> None:
    rewrite(Run.open(runs[1]), settings={"seed": 5})
    assert "the seed of the corruptions is 0 in one and 5" in command(
        "report", *map(str, runs[:2]), "--out", "x", code=1
    )
    assert "several runs need --out DIR" in command("report", *map(str, runs[:2]), code=2)
    assert "is one of the runs" in command(
        "report", str(runs[0]), str(runs[2]), "--out", str(runs[0]), code=2
    )
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/mine.txt").write_text("mine")
    assert "holds something else" in command("report", str(runs[0]), str(runs[2]), "--out", "taken", code=2)
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["mine.txt"]
