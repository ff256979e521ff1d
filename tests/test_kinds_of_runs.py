"""What is said of runs of every kind: an untrained module, no clean images, several seeds; on narrow terminals."""

import html
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from streamlit.testing.v1 import AppTest

from robustbench_sgdm import api, cli, corruption, figures, report, robustness
from robustbench_sgdm.api import trained_pair
from robustbench_sgdm.cli import console
from robustbench_sgdm.cli.results import print_results
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.figures import RunAnalysis, style
from robustbench_sgdm.store import Run
from robustbench_sgdm.tables import Table, humanize
from tests.support import synthetic_runs
from tests.support.synthetic_runs import changed, rewrite

LEVELS = {"gaussian_noise": [1, 3], "fog": [1, 3]}
SEEDS = {f"net{m}-seed{s}": {"group": f"net{m}", "seed": s} for m in ("", "-sgdm") for s in (0, 1)}


def make(
    folder: Path, models: Mapping[str, Mapping[str, Any]], *, clean: bool = True, same: bool = False
) -> Run:
    """A stored run of these models; with `same` all put out what the first does."""
    run = synthetic_runs.make_run(folder, "run", list(models), LEVELS, images=6, resamples=True)
    baselines = {m: {"baseline": None} | dict(models[m]) for m in models}
    run = rewrite(run, models=baselines, cells=[c for c in run.cells if clean or c.corruption != CLEAN])
    first = next(iter(models))
    for cell in run.cells:
        if same and cell.model != first:
            twin = next(c for c in run.cells if c == replace(cell, model=first, key=c.key))
            found = run.store.read_detections(twin)
            run.store.write_shard(cell, 0, {str(c): found[c].to_numpy() for c in found})
            run.store.merge_shards(cell, 1)
            run.store.commit(cell, run.store.read_scores(twin).metrics, detections=len(found))
        place = 0 if same else list(models).index(cell.model)
        synthetic_runs.write_samples(run, cell, 45 - 6 * cell.severity + place)
    return run


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["robustbench", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        shown = capsys.readouterr()
        return int(stop.value.code or 0), shown.out + shown.err

    return call


def plain(path: Path) -> str:
    text = re.sub(r"<style.*?</style>|<[^>]+>", "", path.read_text("utf-8"), flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(text).replace("\u00a0", " "))


def test_an_untrained_module_is_called_so_by_every_result(
    tmp_path: Path, command: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make(tmp_path, {"n": {}, "n-sgdm": {"baseline": "n", "module": "sgdm"}}, same=True)
    said = "n-sgdm and n are identical: module untrained"
    assert robustness.find_identical_pairs(run) == {("n", "n-sgdm"): "module untrained"}
    print_results(api.Run(run))
    assert said in capsys.readouterr().out
    for form in ("table", "csv", "json", "markdown"):
        code, printed = command("compare", str(run.path), "--format", form)
        assert code == 0 and said in printed and "could be shown" not in printed
    analysis = RunAnalysis(run)
    for name in ("severity", "differences", "means", "sizes", "errors"):
        assert said in figures.draw(name, analysis).caption
    code, printed = command("figure", "means", str(run.path), "--out", str(tmp_path / "means.svg"))
    assert code == 0 and said in printed
    page, _ = report.write_report(analysis, summary_only=True)
    assert said in plain(page) and "could be shown" not in plain(page)


def page(name: str) -> None:
    from robustbench_sgdm.core import resources
    from robustbench_sgdm.dashboard import pages, run_data, sources

    ((run, path),) = sources.available_runs().items()
    pages.load_page(resources.root() / "app/views" / f"{name}.py").function(run_data.open_run(run, path))


@pytest.mark.parametrize("name", ["overview", "curves"])
def test_the_dashboard_calls_it_so_too(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, {"n": {}, "n-sgdm": {"baseline": "n", "module": "sgdm"}}, same=True)
    monkeypatch.setattr(sys, "argv", ["main.py", "--", str(run.path)])
    before = sys.modules["__main__"]
    try:
        test = AppTest.from_function(page, args=(name,), default_timeout=200).run()
    finally:
        sys.modules["__main__"] = before
    assert not test.exception
    said = " ".join(m.value for m in test.markdown).replace("\\", "")
    assert "identical: module untrained" in said and "could be shown" not in said


def test_one_output_that_differs_is_not_identical(tmp_path: Path) -> None:
    assert not robustness.find_identical_pairs(
        make(tmp_path, {"n": {}, "n-sgdm": {"baseline": "n", "module": "sgdm"}})
    )


@pytest.mark.parametrize("clean", [True, False])
def test_the_map_of_one_model_says_what_dark_is(tmp_path: Path, clean: bool) -> None:
    """Losses are orange; scores, where no clean image says what is lost, are blue, the higher the darker."""
    drawn = figures.draw("compact-map", RunAnalysis(make(tmp_path, {"a": {}}, clean=clean)))
    said = "the darker, the more is lost" if clean else "the darker, the higher the score"
    assert (
        drawn.caption.startswith("AP in percent" if not clean else "Points of AP") and said in drawn.caption
    )
    (mesh,) = drawn.figure.axes[0].collections
    values = np.asarray(mesh.get_array()).ravel()
    colors = mesh.to_rgba(values)
    extreme = colors[int(np.abs(values).argmax())]
    assert (extreme[2] > extreme[0]) == (not clean) and extreme.sum() == colors.sum(axis=1).min()


def test_trainings_of_a_network_share_its_name_and_colour(tmp_path: Path) -> None:
    run = make(tmp_path, SEEDS)
    analysis = RunAnalysis(run, resamples=20)
    for name, panels in (("precision-recall", 6), ("reliability", 3)):
        drawn = figures.draw(name, analysis)
        assert {*drawn.data["model"]} == {"net", "net-sgdm"} and {*drawn.data["training"]} == {*SEEDS}
        assert [text.get_text() for text in drawn.figure.legends[0].get_texts()] == ["net", "net-sgdm"]
        assert len(drawn.figure.axes) == panels and ", a line for each training" in drawn.caption
        colors = {to_hex(line.get_color()) for axis in drawn.figure.axes for line in axis.lines} - {"#8c959f"}
        assert colors == {to_hex(c) for c in style.colors_of(["net", "net-sgdm"]).values()}
    confused = figures.draw("confusion", analysis)
    assert {*confused.data["model"]} == {"net", "net-sgdm"} and "All trainings" in confused.caption
    known = analysis.known_confidences
    own = [c for c in run.cells if c.model in ("net-seed0", "net-seed1") and c.corruption == CLEAN]
    total = sum(int(robustness.confusion_matrix(run, [c], known[c.model]).to_numpy().sum()) for c in own)
    counted = confused.data[(confused.data["model"] == "net") & (confused.data["condition"] == CLEAN)]
    assert counted["count"].sum() == total


def test_combinations_and_fixed_strengths_are_shown_like_any_corruption(
    tmp_path: Path, command: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the report with all its figures, in tables, and as a choice of the dashboard."""
    levels = {"fog@2+gaussian_noise": [1, 3], "gaussian_noise[sigma=0.15]": [1], "snow": [1, 3]}
    registry = corruption.load_corruptions()
    prints = {name: registry.get(name).fingerprint("torch") for name in levels}
    run = synthetic_runs.make_run(
        tmp_path, "run", ["a", "b"], levels, images=6, resamples=True, fingerprints=prints
    )
    analysis = RunAnalysis(run, resamples=20)
    html_file, _ = report.write_report(analysis)
    code, table = command("compare", str(run.path), "--format", "csv", "--all")
    assert code == 0
    for name in levels:
        assert humanize(name) in plain(html_file) and name in table
    for figure in ("severity", "differences", "compact-map", "first-failure"):
        assert set(levels) <= set(figures.draw(figure, analysis).data["corruption"]), figure
    monkeypatch.setattr(sys, "argv", ["main.py", "--", str(run.path)])
    before = sys.modules["__main__"]
    try:
        for name in levels:
            test = AppTest.from_function(page, args=("images",), default_timeout=200)
            test.query_params["corruption"] = name
            test.run()
            assert not test.exception and not test.warning
            assert test.selectbox(key="corruption").value == humanize(name)
    finally:
        sys.modules["__main__"] = before


def test_without_clean_images_nothing_is_drawn_or_said_of_them(tmp_path: Path) -> None:
    analysis = RunAnalysis(make(tmp_path, {"a": {}, "b": {}}, clean=False))
    (axis,) = figures.draw("means", analysis).figure.axes
    assert "clean" not in [label.get_text() for label in axis.get_xticklabels()]
    assert len(figures.draw("sizes", analysis).figure.axes) == 1
    for name in ("severity", "means", "sizes"):
        drawn = figures.draw(name, analysis)
        assert "clean" not in drawn.caption + drawn.alt and "nothing" not in drawn.alt
    with pytest.raises(DataError, match="add 0 to --severity"):
        figures.draw("classes", analysis)


@pytest.mark.slow
def test_intervals_over_trainings_are_said_to_be(tmp_path: Path) -> None:
    pair = {"net-sgdm-seed0": {"baseline": "net-seed0"}, "net-sgdm-seed1": {"baseline": "net-seed1"}}
    run = make(tmp_path, {m: {**about, **pair.get(m, {})} for m, about in SEEDS.items()})
    analysis = RunAnalysis(run)
    report.write_report(analysis)
    text = plain(run.path / "report.html")
    assert not re.search(r"intervals over images(?! and trainings)", text)
    assert "net-sgdm against net on made" in text
    for name in ("severity", "means", "sizes"):
        assert "intervals over images and trainings" in figures.draw(name, analysis).caption


def test_every_model_is_in_the_heading_and_the_baseline_is_said(
    tmp_path: Path, command: Callable[..., tuple[int, str]]
) -> None:
    run = make(tmp_path, {"a": {}, "b": {}, "c": {}})
    page, _ = report.write_report(RunAnalysis(run), summary_only=True)
    assert "b and c against a on made" in plain(page)
    assert "a is the baseline because it is the first model" in command("compare", str(run.path))[1]
    assert "because it is the first model" not in command("compare", str(run.path), "--baseline", "b")[1]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(
    "models", [["a", "b"], ["yolov8n", "a-rather-long-name", "another-one"]], ids=["two", "three"]
)
def test_numbers_are_whole_on_narrow_terminals(
    tmp_path: Path,
    models: Sequence[str],
    width: int,
    command: Callable[..., tuple[int, str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = make(tmp_path, {m: {} for m in models})
    monkeypatch.setattr(console.out, "_width", 400)
    number = r"[+-]?\d+\.\d+\*?|< 0\.001"
    short, full = [], []
    for columns in (400, width):
        monkeypatch.setattr(console.out, "_width", columns)
        print_results(api.Run(run))
        short.append(capsys.readouterr().out + command("compare", str(run.path))[1])
        full.append(command("compare", str(run.path), "--all")[1])
    assert set(re.findall(number, short[1])) <= set(re.findall(number, short[0]))  # some columns are left out
    assert set(re.findall(number, full[0])) <= set(re.findall(number, full[1]))  # by metric there are more
    assert "…" not in short[1] + full[1]
    tables = short[1].partition("\nP  ")[0].splitlines() if len(models) == 2 else []
    notes = ("Differences are of", "AP_S: ")  # folded on a terminal alone
    assert all(len(line) <= width for line in tables if not line.startswith(notes))


def test_a_table_without_room_is_shown_in_parts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.out, "_width", 40)
    console.print_numbers(Table("t", ["row", *(f"column{i}" for i in range(6))], [["r", *["12.34"] * 6]]))
    printed = capsys.readouterr().out
    assert printed.count("12.34") == 6 and printed.count("t (continued)") == 1


def test_side_by_side_takes_networks_of_several_seeds(tmp_path: Path) -> None:
    run = make(tmp_path, SEEDS)
    assert trained_pair(run, ("net", "net-sgdm")) == ("net-seed0", "net-sgdm-seed0")
    assert trained_pair(run, "net-sgdm") == ("net-seed0", "net-sgdm-seed0")
    assert trained_pair(run, ("net", "net-sgdm-seed1")) == ("net-seed1", "net-sgdm-seed1")
    assert trained_pair(run, ("net-sgdm-seed1", "net-seed0")) == ("net-sgdm-seed1", "net-seed0")


def test_a_baseline_may_be_changed_under_the_same_name(tmp_path: Path) -> None:
    run = make(tmp_path, {"a": {}, "b": {}})
    kept = {path: path.stat().st_mtime_ns for path in run.path.rglob("scores.json")}
    manifest = changed(run.manifest, models={"a": {"baseline": "b"}})
    again = Run.create_or_resume(tmp_path, "run", manifest)
    assert again.path == run.path and again.baseline_pairs == [("b", "a")] and not again.missing_cells()
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("scores.json")} == kept
