"""The page of classes: its numbers are those of `class_intervals`, with and without stored resamples."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from robustbench_sgdm import robustness
from robustbench_sgdm.dashboard import run_data
from robustbench_sgdm.store import Run
from robustbench_sgdm.tables import format_number
from tests.support import synthetic_runs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two models under two corruptions, with the intervals of classes."""
    folder = tmp_path_factory.mktemp("classes")
    made = synthetic_runs.make_run(folder, "r", ["base", "base-sgdm"], {"fog": [1, 3], "snow": [3]}, images=8)
    robustness.class_intervals(robustness.bootstrap_intervals(made))
    return made


def test_scores_are_those_of_class_intervals(run: Run) -> None:
    view = run_data.open_run("r", run.path)
    table = robustness.class_intervals(robustness.bootstrap_intervals(run))
    for model, baseline in (("base", ""), ("base-sgdm", ""), ("base-sgdm", "base")):
        own = table[(table["model"] == model) & (table["baseline"] == baseline)].set_index("class")
        scores = run_data.class_scores(view, model, baseline)
        cells = scores.dropna(subset="severity").set_index(["class", "corruption", "severity"])
        means = scores[scores["severity"].isna()].set_index(["class", "corruption"])
        assert len(means) == 2 * scores["class"].nunique()
        for name in scores["class"].unique():
            rows = own.loc[name]
            fog = rows[(rows["statistic"] == "score") & (rows["corruption"] == "fog")].set_index("severity")
            assert cells.loc[(name, "fog", 3.0), "estimate"] == pytest.approx(
                fog["estimate"][3.0], nan_ok=True
            )
            assert cells.loc[(name, "fog", 3.0), "low"] == pytest.approx(fog["low"][3.0], nan_ok=True)
            mean = fog["estimate"].mean()
            assert means.loc[(name, "fog"), "estimate"] == pytest.approx(mean, nan_ok=True)


def test_scores_alone_are_the_same_numbers(run: Run, tmp_path: Path) -> None:
    bare = shutil.copytree(run.path, tmp_path / "bare", ignore=shutil.ignore_patterns("statistics"))
    views = [run_data.open_run(path.name, path) for path in (run.path, bare)]
    assert [run_data.has_class_intervals(view) for view in views] == [True, False]
    keys = ["class", "corruption", "severity"]
    for model, baseline in (("base", ""), ("base-sgdm", "base")):
        with_intervals, alone = (run_data.class_scores(view, model, baseline) for view in views)
        both = with_intervals.merge(alone, on=keys, suffixes=("", "_alone")).dropna(subset="estimate")
        assert len(both) == len(alone) and alone["low"].isna().all()
        assert both["estimate_alone"].tolist() == pytest.approx(both["estimate"].tolist())
        assert both["objects_alone"].tolist() == both["objects"].tolist()


def test_the_page_marks_few_objects_and_finds_a_class(view: Callable[..., AppTest], run: Run) -> None:
    shown = view("classes", "--", run.path)
    assert not shown.exception
    told = " ".join(c.value for c in shown.caption)
    counts = run.ground_truth().annotations["category_id"].value_counts()
    assert ("Fewer than 10 objects" in told) == bool((counts < 10).any())
    shown = view("classes", "--", run.path, find="CAT")
    assert not shown.exception and any("cat" in s.value for s in shown.subheader)
    shown = view("classes", "--", run.path, find="zebra")
    assert any("No class has this" in m.value for m in shown.markdown)
    shown = next(b for b in shown.button if "Clear" in b.label).click().run()
    assert not shown.exception and shown.text_input(key="find").value == "" and shown.subheader


@pytest.mark.parametrize("address", [{}, {"severity": "3"}, {"at": "3"}])
def test_a_cell_keeps_its_number(view: Callable[..., AppTest], run: Run, address: dict[str, str]) -> None:
    """That of the map: the mean over severities by default, and the text says so."""
    shown = view("classes", "--", run.path, **{"class": "cat", "in": "fog", "pair": "base-sgdm"}, **address)
    scores = run_data.class_scores(run_data.open_run("r", run.path), "base-sgdm")
    rows = scores[(scores["class"] == "cat") & (scores["corruption"] == "fog")]
    (row,) = rows[rows["severity"] == 3 if address else rows["severity"].isna()].itertuples()
    (title,) = (s.value for s in shown.subheader if s.value.startswith("cat"))
    assert title == f"cat under fog{' at severity 3' if address else ', mean over severities 1, 3'}"
    assert any(f"**AP {format_number(float(str(row.estimate)))}**" in m.value for m in shown.markdown)
    assert not shown.exception and not shown.warning
    opens = [b.label for b in shown.button if b.label.startswith("Open its images")]
    assert opens == ["Open its images" if address else "Open its images at severity 3"]


@pytest.mark.parametrize("value", ["nobody", "../../etc", "<b>"])
def test_an_address_with_an_unknown_class_or_corruption(
    view: Callable[..., AppTest], run: Run, value: str
) -> None:
    shown = view("classes", "--", run.path, **{"class": value, "in": value, "severity": value})
    assert not shown.exception and sum("is not available" in w.value for w in shown.warning) == 3
