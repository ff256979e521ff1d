"""The list of runs: what it says of each, that it reads in the background and again when a run changes."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from robustbench_sgdm import robustness, tables
from robustbench_sgdm.dashboard import run_list
from robustbench_sgdm.dashboard.run_list import RunSummary
from robustbench_sgdm.store import Run
from tests.support import synthetic_runs


def read(*paths: Path) -> dict[str, RunSummary]:
    """What is known in the end, by the run's name."""
    rows = run_list.summaries(paths)
    while any(row.is_pending for row in rows):
        time.sleep(0.02)
        rows = run_list.summaries(paths)
    return {row.path.name: row for row in rows}


def test_the_list_says_what_the_runs_say(project: Path, comparisons: Path) -> None:
    paths = [*(project / name for name in ("complete", "unfinished", "old", "torn")), comparisons / "two"]
    first = run_list.summaries([*paths, project / "none"])
    assert [row.path for row in first] == [*paths, project / "none"]
    rows = read(*paths)
    assert (rows["complete"].state, rows["complete"].done) == ("complete", len(Run.open(paths[0]).cells))
    assert rows["complete"].verdict == "no intervals yet" and rows["complete"].models == ("base", "base-sgdm")
    assert rows["unfinished"].state == "partial" and rows["unfinished"].done == rows["unfinished"].cells - 3
    assert "schema 99" in rows["old"].verdict and rows["torn"].state == "cannot be read"
    run = Run.open(comparisons / "two")
    sets = list(robustness.corruption_sets(run))
    table = robustness.bootstrap_intervals(run).table(["AP"])
    (verdict,) = tables.verdicts(table, run.baseline_pairs, "AP", sets[0])
    assert rows["two"].verdict == verdict.headline
    assert run_list.summaries(paths[:1])[0] == rows["complete"]  # kept


def test_a_run_is_read_again_when_it_changes(tmp_path: Path) -> None:
    run = synthetic_runs.make_run(tmp_path, "r", ["base"], {"fog": [1]}, images=4, leave=1)
    assert read(run.path)["r"].state == "partial"
    run.path.joinpath("manifest.json").write_text("{}")
    assert read(run.path)["r"].state == "cannot be read"
    run.manifest.write("manifest.json", run.files)
    os.utime(run.path / "manifest.json", (1, 1))
    again = read(run.path)["r"]
    assert again.state == "partial" and again.modified == 1 and "no mean" in again.verdict


def test_search_and_a_run_that_cannot_be_read(view: Callable[..., AppTest], project: Path) -> None:
    read(*(project / name for name in ("complete", "unfinished", "old", "torn")))
    shown = view("runs", "--project", project)
    assert not shown.exception
    table = shown.dataframe[0].value
    assert table["run"].tolist() == ["complete", "unfinished", "old", "torn"]
    assert table["done"].tolist()[0] == 1 and table["date"].dt.year.nunique() >= 1
    for words, names in (("base-sgdm partial", ["unfinished"]), ("SCHEMA", ["old"])):
        shown = view("runs", "--project", project, find_run=words)
        assert shown.dataframe[0].value["run"].tolist() == names
    shown = view("runs", "--project", project, find_run="nobody")
    assert not shown.dataframe and any("No run has all" in m.value for m in shown.markdown)
    shown = next(b for b in shown.button if "Clear" in b.label).click().run()
    assert len(shown.dataframe[0].value) == 4 and not shown.text_input(key="find_run").value


def test_a_date_that_is_none_hides_no_run(
    view: Callable[..., AppTest], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some file systems keep it."""
    stamp = run_list._stamp
    monkeypatch.setattr(
        run_list, "_stamp", lambda path: (stamp(path)[0], 1e14 if path.name == "old" else stamp(path)[1])
    )
    shown = view("runs", "--project", project)
    assert not shown.exception and "complete" in shown.dataframe[0].value["run"].tolist()


def test_many_runs_are_bounded(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_list, "MOST_RUNS", 2)
    assert len(run_list.summaries([project / name for name in ("complete", "unfinished", "old")])) == 2
