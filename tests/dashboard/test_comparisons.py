"""What the dashboard tells of two or more models is what the run's intervals and verdicts tell."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from streamlit.dataframe_util import convert_arrow_bytes_to_pandas_df
from streamlit.testing.v1 import AppTest

from robustbench_sgdm import robustness
from robustbench_sgdm.core import escaping
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.dashboard import run_controls, widgets
from robustbench_sgdm.store import Run
from robustbench_sgdm.tables import (
    format_number,
    format_p_value,
    judged_pairs,
    ranking_verdict,
    starred,
    verdicts,
)
from tests.support import synthetic_runs
from tests.support.synthetic_runs import rewrite

RUNS = ("variants", "seeds", *(pytest.param(name, marks=pytest.mark.slow) for name in ("two", "three")))


@pytest.fixture
def view_of(view: Callable[..., AppTest], comparisons: Path) -> Callable[..., AppTest]:
    """Opens one page of one run with an address."""

    def open_view(name: str, run: str, **address: str) -> AppTest:
        test = view(name, "--", comparisons / run, **address)
        assert not test.exception
        return test

    return open_view


def headings(test: AppTest) -> list[str]:
    return [m.value for m in test.markdown]


def map_of(test: AppTest) -> pd.DataFrame:
    """The rows of the map of differences, or of classes."""
    chart = next(c for c in test.get("vega_lite_chart") if "gradientLength" in c.proto.spec)
    (part,) = chart.proto.datasets
    return convert_arrow_bytes_to_pandas_df(part.data.data)


@pytest.mark.parametrize("name", RUNS)
def test_classes_of_every_kind_of_run(view_of: Callable[..., AppTest], comparisons: Path, name: str) -> None:
    """The page offers every network and pair, and its map says what the intervals of classes say."""
    run = Run.open(comparisons / name)
    table = robustness.class_intervals(robustness.bootstrap_intervals(run))
    shown = view_of("classes", name)
    pairs = [f"{model} − {baseline}" for baseline, model in run.baseline_pairs]
    assert shown.selectbox(key="pair").options == [*run.groups, *pairs]
    baseline, model = run.baseline_pairs[-1]
    cells = map_of(view_of("classes", name, pair=pairs[-1], severity="3")).set_index(["class", "corruption"])
    rows = table[
        (table["baseline"] == baseline) & (table["model"] == model) & (table["statistic"] == "score")
    ]
    rows = rows[(rows["severity"] == 3) | (rows["corruption"] == CLEAN)].set_index(["class", "corruption"])
    texts = [
        starred(format_number(row["estimate"], signed=True), row["significant"]) for _, row in rows.iterrows()
    ]
    assert cells["text"].to_dict() == dict(zip(rows.index, texts, strict=True)) and len(texts) > 8
    assert cells["p"].to_dict() == {key: format_p_value(p) for key, p in rows["p_holm"].items()}


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("two", "a and b"),
        ("three", "a and b"),
        ("variants", "n and n-sgdm"),
        ("seeds", "n and m"),
    ],
)
def test_live_begins_with_the_first_pair_of_every_kind_of_run(
    view: Callable[..., AppTest], comparisons: Path, tmp_path: Path, name: str, first: str
) -> None:
    run = Run.open(shutil.copytree(comparisons / name, tmp_path / name))
    (tmp_path / "weights.pt").write_bytes(b"never read without a click")
    weights = {"weights": str(tmp_path / "weights.pt")}
    rewrite(run, models=dict.fromkeys(run.manifest.models, weights))
    shown = view("live", "--", run.path)
    assert not shown.exception and not shown.error
    models = shown.multiselect(key="models")
    assert models.value == [] and models.placeholder == first
    assert {*run.groups} <= {*models.options} <= {*run.groups, *run.manifest.models}


def told(run: Run, metric: str = "AP") -> Any:
    """The verdicts that report and terminal print."""
    table = robustness.bootstrap_intervals(run).table([metric], pairs=run.baseline_pairs)
    over = next(iter(robustness.corruption_sets(run)))
    return verdicts(table, judged_pairs(run), metric, over, robustness.find_identical_pairs(run))


@pytest.mark.parametrize("name", RUNS)
def test_the_verdicts_are_the_reports(view_of: Callable[..., AppTest], comparisons: Path, name: str) -> None:
    run = Run.open(comparisons / name)
    expected, shown = told(run), headings(view_of("overview", name))
    assert bool(expected) == (name != "three")
    for verdict in expected:
        assert f"### {escaping.markdown(verdict.headline)}." in shown
    baseline = list(run.groups)[-1]
    for verdict in told(run.against(baseline)):
        other = view_of("overview", name, baseline=baseline)
        assert f"### {escaping.markdown(verdict.headline)}." in headings(other) and not other.warning


def test_no_pair_is_judged_until_a_baseline_is_chosen(
    view_of: Callable[..., AppTest], comparisons: Path
) -> None:
    """Three models without a named baseline have their ranking alone, over one family too, as in the report."""
    run = Run.open(comparisons / "three")
    bootstrap = robustness.bootstrap_intervals(run)
    whole, family = robustness.corruption_sets(run), "blur"
    chosen = next(over for over, name in whole.items() if name == family)
    for over, address in ((next(iter(whole)), {}), (chosen, {"family": family})):
        answer = ranking_verdict(robustness.rank_networks(bootstrap, "AP", over), "AP", over)
        shown = [text for text in headings(view_of("overview", "three", **address)) if text.startswith("###")]
        assert shown == [f"### {escaping.markdown(answer)}."]


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("two", "AP"),
        ("two", "AP_S"),
        ("seeds", "AP"),
        pytest.param("three", "AP", marks=pytest.mark.slow),
        pytest.param("variants", "AP", marks=pytest.mark.slow),
    ],
)
def test_bold_cells_are_the_significant_ones(
    view_of: Callable[..., AppTest], comparisons: Path, name: str, metric: str
) -> None:
    run = Run.open(comparisons / name)
    outcomes = set()
    for baseline in (None, list(run.groups)[-1]):
        compared = run.against(baseline) if baseline else run
        table = robustness.bootstrap_intervals(compared).table([metric], pairs=compared.baseline_pairs)
        table = table[table["statistic"] == "score"]
        for first, second in compared.baseline_pairs:
            address = {"metric": metric, "pair": f"{second} − {first}"}
            address |= {"baseline": baseline} if baseline else {}
            cells = map_of(view_of("curves", name, **address)).set_index(["corruption", "severity"])
            rows = table[(table["baseline"] == first) & (table["model"] == second)]
            rows = rows.set_index(["corruption", "severity"])
            assert cells["significant"].to_dict() == rows["significant"].to_dict()
            assert cells["p"].to_dict() == {k: format_p_value(v) for k, v in rows["p_holm"].items()}
            marked = zip(rows["estimate"], rows["significant"], strict=True)
            texts = dict(
                zip(rows.index, [starred(format_number(v, signed=True), s) for v, s in marked], strict=True)
            )
            assert cells["text"].to_dict() == texts
            outcomes |= set(cells["significant"])
    assert outcomes == {True, False}


def test_the_map_has_the_corruptions_that_are_chosen(view_of: Callable[..., AppTest]) -> None:
    shown = view_of("curves", "two", family="blur")
    assert set(map_of(shown)["corruption"]) == {"motion_blur", "clean"}
    shown = shown.selectbox(key="family").select("all").run()
    assert set(map_of(shown)["corruption"]) == {"gaussian_noise", "motion_blur", "fog", "clean"}


def test_only_the_models_that_are_chosen_are_shown(view_of: Callable[..., AppTest]) -> None:
    shown = view_of("overview", "variants", models="s-sgdm")
    assert shown.dataframe[0].value["model"].tolist() == ["s-sgdm"] and legend(shown) == {"s-sgdm"}
    shown = shown.multiselect(key="models").set_value(["s", "s-sgdm"]).run()
    titles = [text for text in headings(shown) if text.startswith("### ")]
    assert (
        len(titles) == 2
        and "s-sgdm" in titles[1]
        and set(shown.dataframe[0].value["model"]) == {"s", "s-sgdm"}
    )
    assert legend(view_of("curves", "variants", models="n")) == {"n"}


def legend(test: AppTest) -> set[str]:
    """The models of the legend."""
    return set(re.findall(r"</span>([\w-]+)</span>", "".join(h.proto.body for h in test.get("html"))))


def test_the_metric_of_objects_of_a_size(view_of: Callable[..., AppTest]) -> None:
    """Beside each other in the bar; an address may say both at once, as COCO does."""
    for name in ("overview", "curves"):
        for address, metric in (
            ({"metric": "AP_S"}, "AP_S"),
            ({"metric": "AP", "size": "small"}, "AP_S"),
            ({"metric": "AR_M"}, "AR_M"),
            ({"metric": "AP50"}, "AP50"),
            ({"metric": "AP75", "size": "large"}, "AP_L"),
        ):
            shown = view_of(name, "two", **address)
            assert not shown.warning
            charts = [chart.proto.spec for chart in shown.get("vega_lite_chart")]
            assert any(f'"{metric}, %"' in spec for spec in charts), (name, address)
    assert "AR10 has no intervals" in "".join(headings(view_of("overview", "two", metric="AR10")))


def test_a_variant_keeps_its_own_baseline_until_another_is_chosen(
    view_of: Callable[..., AppTest],
) -> None:
    shown = view_of("curves", "variants")
    assert shown.selectbox(key="baseline").value == run_controls.OWN_BASELINES
    assert shown.selectbox(key="pair").options == ["n-sgdm − n", "s-sgdm − s"]
    shown = shown.selectbox(key="baseline").select("s").run()
    assert shown.selectbox(key="pair").options == ["n − s", "n-sgdm − s", "s-sgdm − s"]
    assert view_of("overview", "two").selectbox(key="baseline").options == ["a", "b"]


@pytest.mark.parametrize("page", ["overview", "curves", "images"])
def test_a_baseline_that_is_not_there_is_told(view_of: Callable[..., AppTest], page: str) -> None:
    shown = view_of(page, "two", baseline="../../etc")
    assert sum("which is not available" in w.value for w in shown.warning) == 1
    assert shown.selectbox(key="baseline").value == "a"


def test_networks_of_several_seeds_are_shown_by_their_mean(
    view_of: Callable[..., AppTest], comparisons: Path
) -> None:
    run = Run.open(comparisons / "seeds")
    board = view_of("overview", "seeds").dataframe[0]
    assert "seeds" in board.proto.column_order
    rows = board.value.set_index("model")
    assert set(rows.index) == {"n", "m"} and set(rows["seeds"]) == {2}
    results = run.results()
    own = results[(results["corruption"] == "clean") & results["model"].str.startswith("n-")]
    assert rows["clean"]["n"] == pytest.approx(own["AP"].mean())
    table = robustness.bootstrap_intervals(run).table(["AP"])
    ends = table[(table["model"] == "n") & (table["statistic"] == "P")].iloc[0]
    assert rows["clean 95 %"]["n"] == widgets.format_interval(ends["low"], ends["high"])
    assert view_of("curves", "seeds").multiselect(key="models").options == ["n", "m"]


def test_images_are_of_single_trainings(view_of: Callable[..., AppTest]) -> None:
    shown = view_of("images", "seeds")
    assert shown.selectbox(key="baseline").value == "n" and shown.multiselect(key="models").value == []
    assert shown.selectbox(key="left").options == ["n-seed0", "n-seed1"]
    assert shown.selectbox(key="right_training").value == "m-seed0"
    shown = shown.multiselect(key="models").set_value(["n"]).run()
    assert [shown.selectbox(key=k).value for k in ("left", "right_training")] == ["n-seed0", "n-seed1"]


def panes(shown: AppTest) -> list[str]:
    """The models that the viewer shows."""
    (viewer,) = shown.get("bidi_component")
    return [pane["title"] for pane in json.loads(viewer.proto.json)["panes"]]


def test_images_begin_with_the_pair_of_the_address(view_of: Callable[..., AppTest]) -> None:
    shown = view_of("images", "three", baseline="b")
    assert shown.selectbox(key="baseline").value == "b" and panes(shown) == ["b", "a"]
    assert panes(view_of("images", "three", right="c")) == ["a", "c"]  # as older addresses have it
    shown = view_of("images", "variants")
    assert panes(shown.selectbox(key="baseline").select("s").run()) == ["s", "s-sgdm"]


def test_up_to_six_models_beside_each_other(view_of: Callable[..., AppTest]) -> None:
    """The baseline first; of a network with several trainings the one with the baseline's seed."""
    shown = view_of("images", "variants")
    assert panes(shown) == ["n", "n-sgdm"]
    shown = shown.multiselect(key="models").set_value(["s-sgdm", "n-sgdm", "s", "n"]).run()
    assert panes(shown) == ["n", "s-sgdm", "n-sgdm", "s"] and not shown.exception
    assert panes(shown.multiselect(key="models").set_value([]).run()) == ["n", "n-sgdm"]
    shown = view_of("images", "seeds", right_training="m-seed1")
    assert panes(shown.multiselect(key="models").set_value(["n", "m"]).run()) == ["n-seed0", "m-seed1"]


def test_the_curves_of_compared_runs_are_theirs(view: Callable[..., AppTest], comparisons: Path) -> None:
    """Beside a run's own, one line for each model of the other: the mean at severities that all corruptions have."""
    test = view("overview", "--project", comparisons, beside="variants")
    assert not test.exception
    frames = [
        convert_arrow_bytes_to_pandas_df(part.data.data)
        for chart in test.get("vega_lite_chart")
        for part in chart.proto.datasets
    ]
    drawn = next(f for f in frames if {"model", "severity", "score"} <= set(f.columns))
    table = robustness.bootstrap_intervals(Run.open(comparisons / "variants")).table(["AP"], pairs=[])
    cells = table[(table["statistic"] == "score") & table["severity"].isin([1, 3])]
    means = cells.groupby(["model", "severity"])["estimate"].mean()
    for model in cells["model"].unique():
        line = drawn[drawn["model"] == f"{model} @ variants"].set_index("severity")["score"]
        assert line[line.index > 0].to_dict() == pytest.approx(means[model].to_dict())


def test_a_leaderboard_of_many_models_is_whole_and_scrolls(
    view: Callable[..., AppTest], tmp_path: Path
) -> None:
    models = [f"model-{number}" for number in range(24)]
    synthetic_runs.make_run(tmp_path, "many", models, {"fog": [1]}, images=3)
    test = view("overview", "--project", tmp_path)
    assert not test.exception
    board = next(f.value for f in test.dataframe if "mPC" in f.value)
    assert sorted(board["model"]) == sorted(models)
    assert board["mPC"].is_monotonic_decreasing
