"""One rule of significance: terminal, json, report, figure, gate and dashboard mark the same differences."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import html5lib
import numpy as np
import pandas as pd
import pytest
from streamlit.dataframe_util import convert_arrow_bytes_to_pandas_df
from streamlit.testing.v1 import AppTest

from robustbench_sgdm import gate, report, robustness, tables
from robustbench_sgdm.dashboard import widgets
from robustbench_sgdm.figures import RunAnalysis
from robustbench_sgdm.leaderboard import write_leaderboard
from robustbench_sgdm.store import Run
from tests.support import synthetic_runs
from tests.support.synthetic_runs import rewrite

LEVELS = {"gaussian_noise": [1, 3], "motion_blur": [1, 3], "fog": [1, 3], "snow": [3]}
KINDS: dict[str, dict[str, dict[str, Any]]] = {
    "two": {"a": {}, "b": {}},
    "three": {"a": {}, "b": {}, "c": {}},
    "variants": {"n": {}, "n-sgdm": {"baseline": "n"}, "s": {}, "s-sgdm": {"baseline": "s"}},
    "seeds": {f"{m}-seed{s}": {"group": m, "seed": s} for m in ("n", "m") for s in (0, 1, 2)},
}

Marked = set[tuple[str, str, str, float]]
"""Corrupted cells that are marked: baseline, model, corruption in words, severity."""


MORE = ["three", "seeds", "two-again", "seeds-again"]  # the last two are drawn otherwise


@pytest.fixture(
    scope="module", params=["two", "variants", *(pytest.param(k, marks=pytest.mark.slow) for k in MORE)]
)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A stored run whose differences are drawn at random: clear, doubtful and none, either way."""
    kind = request.param.removesuffix("-again")
    models = KINDS[kind]
    folder = tmp_path_factory.mktemp(request.param)
    made = synthetic_runs.make_run(folder, kind, list(models), LEVELS, images=6, resamples=True)
    made = rewrite(made, models={m: {"baseline": None} | models[m] for m in models})
    rng = np.random.default_rng([len(request.param), len(models)])
    change = {cell: rng.choice([0.0, 2.5, 4.0]) * rng.choice([-1, 1]) for cell in _kinds_of_cells(made)}
    for cell in made.cells:
        place = list(models).index(cell.model) if kind != "seeds" else cell.model.startswith("m")
        seed = 0.3 * models[cell.model].get("seed", 0)
        shift = place * change[cell.corruption, cell.severity] + seed + rng.normal(0, 0.2) * (kind == "seeds")
        synthetic_runs.write_samples(made, cell, 40 - 6 * cell.severity + shift)
    return Run.open(made.path)


def _kinds_of_cells(run: Run) -> dict[tuple[str, float], None]:
    return dict.fromkeys((cell.corruption, cell.severity) for cell in run.cells)


def expected(run: Run, metric: str) -> Marked:
    frame = robustness.bootstrap_intervals(run).table([metric])
    cells = frame[
        (frame["statistic"] == "score") & (frame["baseline"] != "") & (frame["corruption"] != "clean")
    ]
    return _of(cells[cells["significant"]])


def _of(frame: pd.DataFrame) -> Marked:
    names = frame["corruption"].map(tables.humanize)
    return set(zip(frame["baseline"], frame["model"], names, frame["severity"].astype(float), strict=True))


@pytest.mark.parametrize(
    ("metric", "size"), [pytest.param("AP50", "", marks=pytest.mark.slow), ("AP_S", "small")]
)
def test_other_metrics_mark_the_same_cells(
    run: Run, command: Callable[..., str], view: Callable[..., AppTest], metric: str, size: str
) -> None:
    wanted = expected(run, metric)
    assert len(wanted) > 0
    path = str(run.path)
    assert in_terminal(command("compare", path, "--metric", metric, "--all"), run, metric) == wanted
    assert in_json(command("compare", path, "--metric", metric, "--format", "json")) == wanted
    assert in_gate(command, path, metric) == {w for w in wanted if drops(run, metric, w)}
    assert in_dashboard(run, metric, view) == wanted
    if size:  # Overview has the data set's own metric and those of sizes
        assert in_overview(run, view, size=size) == wanted


def test_means_and_ranks_are_the_same_everywhere(
    run: Run, command: Callable[..., str], view: Callable[..., AppTest], tmp_path: Path
) -> None:
    path, over = str(run.path), next(iter(robustness.corruption_sets(run)))
    said = command("compare", path, "--metric", "AP", "--format", "json")
    rows = pd.DataFrame(json.loads(said[said.index("[") : said.rindex("]") + 1]))
    rows = rows[(rows["statistic"] == "mPC") & (rows["over"] == over.name)].set_index(["baseline", "model"])
    said = command("results", path, "--format", "json")
    record = json.loads(said[said.index("{") : said.rindex("}") + 1])["metrics"][0]
    assert record["metric"] == "AP" and [tuple(cell) for cell in record["over"]] == list(over.cells)
    for one in record["differences"]:
        for key, value in one["mPC"].items():
            assert rows.loc[one["baseline"], one["model"]][key] == pytest.approx(value, abs=1e-9), key
    write_leaderboard([run.path], tmp_path / "site")
    board = pd.read_csv(tmp_path / "site/leaderboard.csv").set_index("model")
    overview = view("overview", "--", run.path).dataframe[0].value.set_index("model")
    assert (
        set(board.index)
        == set(overview.index)
        == {one["model"] for one in record["models"]}
        == set(run.groups)
    )
    for one in record["models"]:
        row, own, mean = rows.loc["", one["model"]], board.loc[one["model"]], one["mPC"]
        for key, column in (("estimate", "mPC"), ("low", "mPC_low"), ("high", "mPC_high")):
            assert row[key] == pytest.approx(mean[key], abs=1e-9) == pytest.approx(own[column], abs=1e-9)
        # Not the mean itself, which the page takes from the cells' scores: here they are not those of the samples.
        assert overview["mPC 95 %"][one["model"]] == widgets.format_interval(mean["low"], mean["high"])
        if "place" in one:
            assert [one[key] for key in ("place", "first", "last")] == own[
                ["place", "first", "last"]
            ].tolist()


def test_all_mark_the_same_cells(run: Run, command: Callable[..., str], view: Callable[..., AppTest]) -> None:
    metric = "AP"
    wanted = expected(run, metric)
    cells = sum(c.corruption != "clean" for c in run.cells)
    assert 0 < len(wanted) < cells
    path = str(run.path)
    printed = command("compare", path, "--metric", metric, "--all")
    assert in_terminal(printed, run, metric) == wanted
    assert in_json(command("compare", path, "--metric", metric, "--format", "json")) == wanted
    assert in_gate(command, path, metric) == {w for w in wanted if drops(run, metric, w)}
    analysis = RunAnalysis(run)
    report.write_report(analysis)
    assert in_report((run.path / "report.html").read_text(), run, metric) == wanted
    drawn = pd.read_csv(run.path / "figures" / "differences.csv")
    assert _of(drawn[drawn["significant"]]) == wanted
    assert in_dashboard(run, metric, view) == wanted
    assert in_overview(run, view) == wanted
    if len(run.baseline_pairs) == 1:  # of several pairs it has the means of corruptions
        small = pd.read_csv(run.path / "figures" / "compact-map.csv").rename(columns={"column": "severity"})
        (baseline, model) = run.baseline_pairs[0]
        assert _of(small[small["significant"]].assign(baseline=baseline, model=model)) == wanted
    for verdict in analysis.verdicts:
        assert verdict.headline in printed and verdict.headline in plain(
            (run.path / "report.html").read_text()
        )
    answer = analysis.summary.answer
    assert bool(answer) == (len(run.groups) > 2)
    if answer:
        assert answer in printed and answer in plain((run.path / "report.html").read_text())
        assert f"### {answer}." in [m.value for m in view("overview", "--", run.path).markdown]


def in_terminal(printed: str, run: Run, metric: str) -> Marked:
    marked: Marked = set()
    for baseline, model in run.baseline_pairs:
        table = printed.partition(f"{metric} of {model} minus {baseline}")[2].partition("*: significant")[0]
        for name in dict.fromkeys(c.corruption for c in run.cells if c.corruption != "clean"):
            for line in re.findall(rf"^ +{tables.humanize(name)} (\d) .*\]\*", table, re.M):
                marked.add((baseline, model, tables.humanize(name), float(line)))
    return marked


def in_json(text: str) -> Marked:
    rows = json.loads(text[text.index("[") : text.rindex("]") + 1])
    frame = pd.DataFrame(r for r in rows if r["statistic"] == "score" and r["baseline"] and r["significant"])
    return _of(frame[frame["corruption"] != "clean"])


def in_gate(command: Callable[..., str], path: str, metric: str) -> Marked:
    broken = command("compare", path, "--max-drop", f"{metric}=0", code=gate.EXIT_CODE)
    form = rf"failed: (\S+) against (\S+), {metric} under (.+) at (\S+):"
    return {(b, m, name, float(s)) for m, b, name, s in re.findall(form, broken) if name != "clean"}


def drops(run: Run, metric: str, cell: tuple[str, str, str, float]) -> bool:
    frame = (
        robustness.bootstrap_intervals(run)
        .table([metric])
        .assign(name=lambda f: f["corruption"].map(tables.humanize))
    )
    row = frame[
        (frame["statistic"] == "score")
        & (frame[["baseline", "model", "name", "severity"]] == list(cell)).all(axis=1)
    ]
    return bool(row["estimate"].item() < 0)


def in_report(text: str, run: Run, metric: str) -> Marked:
    marked: Marked = set()
    for table in html5lib.parse(text, namespaceHTMLElements=False).iter("table"):
        heads = ["".join(head.itertext()) for head in table.findall("thead/tr/th")]
        if heads[0] != "cell":
            continue
        for row in table.findall("tbody/tr"):
            cell, *values = ["".join(cell.itertext()) for cell in row]
            for head, value in zip(heads[1:], values, strict=True):
                found = re.fullmatch(rf"{metric} ?Δ ?(.*)", head)
                if found and value.endswith("*") and cell != "clean":
                    pair = next(p for p in run.baseline_pairs if found[1] in ("", p[1]))
                    name, _, severity = cell.rpartition(" ")
                    marked.add((*pair, name, float(severity)))
    return marked


def plain(text: str) -> str:
    words = "".join(html5lib.parse(text, namespaceHTMLElements=False).itertext())
    return re.sub(r"\s+", " ", words.replace("\u00a0", " "))


def in_dashboard(run: Run, metric: str, view: Callable[..., AppTest]) -> Marked:
    return _in_maps(run, lambda pair: view("curves", "--", run.path, metric=metric, pair=pair))


def in_overview(run: Run, view: Callable[..., AppTest], **address: str) -> Marked:
    return _in_maps(run, lambda pair: view("overview", "--", run.path, pair=pair, **address))


def _in_maps(run: Run, open_page: Callable[[str], AppTest]) -> Marked:
    """What the maps of differences star, a page for each pair."""
    marked: Marked = set()
    for baseline, model in run.baseline_pairs:
        test = open_page(f"{model} − {baseline}")
        assert not test.exception
        frames = [
            convert_arrow_bytes_to_pandas_df(part.data.data)
            for chart in test.get("vega_lite_chart")
            for part in chart.proto.datasets
        ]
        (frame,) = [one for one in frames if {"corruption", "severity", "text", "strong"} <= set(one)]
        stars = frame[frame["text"].str.endswith("*") & (frame["corruption"] != "clean")]
        marked |= _of(stars.assign(baseline=baseline, model=model))
    return marked
