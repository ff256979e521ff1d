"""The summary of a run: what the report's first page and the dashboard's overview share."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import robustbench_sgdm as rb
from robustbench_sgdm import robustness, tables
from robustbench_sgdm.core.constants import BENCHMARK
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.figures import RunAnalysis
from robustbench_sgdm.robustness import CorruptionSet, Intervals
from robustbench_sgdm.store import Run
from tests.support.synthetic_runs import changed, make_run, rewrite


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> RunAnalysis:
    """Three models under seven corruptions at two severities, with made-up samples."""
    severities = dict.fromkeys(BENCHMARK[:7], (1.0, 3.0))
    models = ["base", "base-sgdm", "base-cbam"]
    folder = tmp_path_factory.mktemp("summary")
    run = make_run(folder, "three", models, severities, images=12, resamples=True)
    return RunAnalysis(run)


def test_its_numbers_are_those_of_the_comparison(analysis: RunAnalysis) -> None:
    summary, rows = analysis.summary, analysis.intervals
    assert summary.verdicts == analysis.verdicts and summary.reason == ""
    rows = rows[rows["metric"] == summary.metric]
    over = analysis.primary_set.name
    for row in summary.means.to_dict("records"):
        chosen = rows[(rows["model"] == row["model"]) & (rows["statistic"] == row["statistic"])]
        chosen = chosen[(chosen["baseline"] == "") & chosen["over"].isin(["", over])]
        assert chosen.iloc[0][["estimate", "low", "high"]].tolist() == [
            row[k] for k in ("estimate", "low", "high")
        ]
    assert len(summary.means) == 9
    for ranking in summary.rankings:
        assert ranking.by == "difference" and len(ranking.values) == 7
        for one in ranking.values:
            name = CorruptionSet.from_product([one.corruption], [1, 3]).name
            chosen = rows[
                (rows["over"] == name) & (rows["statistic"] == "mPC") & (rows["model"] == ranking.model)
            ]
            (row,) = chosen[chosen["baseline"] == ranking.baseline].to_dict("records")
            assert (one.value, one.low, one.high) == (row["estimate"], row["low"], row["high"])
            assert one.significant == row["significant"]


def test_the_curve_is_the_mean_over_corruptions(analysis: RunAnalysis) -> None:
    curve, results = analysis.summary.curve, analysis.results
    assert curve["severity"].tolist() == [0.0, 1.0, 3.0] * 3
    for row in curve.to_dict("records"):
        cells = results[(results["model"] == row["model"]) & (results["severity"] == row["severity"])]
        assert row["estimate"] == pytest.approx(cells["AP"].mean())
        assert row["low"] < row["estimate"] < row["high"]
    assert curve["corruptions"].tolist() == [0, 7, 7] * 3


def test_the_curve_is_over_the_same_corruptions_at_each_severity(tmp_path: Path) -> None:
    """What was run at other severities is left out, and said."""
    levels = dict.fromkeys(BENCHMARK[:3], (1, 3, 5)) | {BENCHMARK[3]: (3,)}
    analysis = RunAnalysis(make_run(tmp_path, "odd", ["base", "other"], levels, images=4, resamples=True))
    summary, results = analysis.summary, analysis.results
    assert summary.curve["corruptions"].tolist() == [0, 3, 3, 3] * 2
    name = tables.humanize(BENCHMARK[3])
    assert (
        summary.curve_scope == f"over 3 corruptions at severities 1, 3, 5; not counted: {name} (lacks 1, 5)"
    )
    at = (results["model"] == "other") & (results["severity"] == 3) & (results["corruption"] != BENCHMARK[3])
    curve = summary.curve.set_index(["model", "severity"])["estimate"]
    assert curve["other", 3.0] == pytest.approx(results.loc[at, "AP"].mean())


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        ({"fog": (1, 3), "snow": (1, 3)}, "over 2 corruptions"),
        (
            {"fog": (1, 2, 3), "snow": (1,), "rain": (1,)},
            "over 3 corruptions at severity 1; not counted: fog at 2, 3",
        ),
        (
            {"fog": (1, 3), "snow": (1, 3), "stripes": (3,)},
            "over 2 corruptions at severities 1, 3; not counted: stripes (lacks 1)",
        ),
        (
            dict.fromkeys("abcdef", (1, 2, 3)) | dict.fromkeys("uvwxyz", (3, 4)),
            "over 6 corruptions at severities 1, 2, 3; not counted: "
            "u (lacks 1, 2), v (lacks 1, 2), w (lacks 1, 2), x (lacks 1, 2), 2 more",
        ),
    ],
)
def test_the_curve_names_what_it_does_not_count(levels: dict[str, tuple[int, ...]], words: str) -> None:
    over = CorruptionSet(tuple((name, float(level)) for name in levels for level in levels[name]))
    cells = [("m", "x", *cell) for cell in over.cells]
    results = pd.DataFrame(cells, columns=["model", "key", "corruption", "severity"]).assign(AP=1.0)
    curve = robustness.mean_curve(results, {"m": ["m"]}, "AP", over)
    assert tables.curve_scope(curve, over) == words


def test_a_ranking_names_each_corruption_once(analysis: RunAnalysis) -> None:
    ranking = analysis.summary.rankings[0]
    values = [one.value for one in ranking.values]
    assert values == sorted(values, reverse=True)
    assert [one.value for one in ranking.best] == values[:3]
    assert [one.value for one in ranking.worst] == values[:-4:-1]
    for count, best, worst in ((1, 1, 0), (2, 1, 1), (5, 3, 2), (6, 3, 3)):
        short = tables.Ranking("m", "b", "difference", ranking.values[:count])
        assert (len(short.best), len(short.worst)) == (best, worst)


def test_without_intervals_the_numbers_are_the_same(analysis: RunAnalysis) -> None:
    def missing() -> Intervals:
        raise DataError("no ground truth")

    run, results = analysis.run, analysis.results
    short, whole = tables.summarize(run, results, "AP", missing), analysis.summary
    assert short.verdicts == [] and short.reason == "no ground truth"
    assert short.limit.startswith(tables.WITHOUT_INTERVALS) and whole.limit.startswith("Intervals cover")
    for name in ("means", "curve"):
        ours, theirs = getattr(short, name), getattr(whole, name)
        keys = ["model", "statistic"] if name == "means" else ["model", "severity"]
        merged = ours.merge(theirs, on=keys, suffixes=("", "_whole"), validate="1:1")
        assert len(merged) == len(ours) == len(theirs)
        assert np.allclose(merged["estimate"], merged["estimate_whole"]) and ours["low"].isna().all()
    for ours, theirs in zip(short.rankings, whole.rankings, strict=True):
        assert ours.by == theirs.by == "difference"
        values = [{one.corruption: one.value for one in side.values} for side in (ours, theirs)]
        assert values[0] == pytest.approx(values[1])


def test_a_single_model_is_ranked_by_what_it_loses(analysis: RunAnalysis) -> None:
    run = analysis.run
    cells = tuple(cell for cell in run.cells if cell.model == "base")
    manifest = changed(run.manifest, cells=cells)
    alone = Run(run.path, manifest.model_copy(update={"models": {"base": manifest.models["base"]}}))
    summary = RunAnalysis(alone).summary
    (ranking,) = summary.rankings
    assert (ranking.model, ranking.baseline, ranking.by) == ("base", "", "loss")
    results = analysis.results[analysis.results["model"] == "base"]
    clean = results.loc[results["severity"] == 0, "AP"].item()
    for one in ranking.values:
        mean = results.loc[results["corruption"] == one.corruption, "AP"].mean()
        assert one.value == pytest.approx(clean - mean) and one.low < one.value < one.high
    assert [one.value for one in ranking.values] == sorted(one.value for one in ranking.values)
    assert not summary.verdicts and not summary.reason and not summary.flips
    (mean,) = summary.means.loc[summary.means["statistic"] == "mPC", "estimate"]
    assert summary.answer.startswith(f"base has a mean AP of {mean:.2f} [")


def test_three_models_without_a_named_baseline_have_one_answer(tmp_path: Path) -> None:
    """Their ranking: in the summary, in the run's verdicts and in the terminal's lines; no pair has a verdict."""
    run = make_run(tmp_path, "open", ["a", "b", "c"], {"fog": (1, 3)}, images=6, resamples=True)
    run = rewrite(run, models={name: {"baseline": None} for name in ("a", "b", "c")})
    analysis = RunAnalysis(run)
    assert run.has_default_baseline and analysis.summary.verdicts == analysis.verdicts == []
    assert rb.Run(run).verdicts() == [analysis.summary.answer]
    assert [v.model for v in RunAnalysis(run.against("a")).summary.verdicts] == ["b", "c"]


def test_flips_are_named_in_both_directions(analysis: RunAnalysis) -> None:
    flips = analysis.summary.flips
    assert [one.keeper for one in flips] == ["base-sgdm", "base-sgdm", "base", "base"]
    assert len({one.image_id for one in flips}) == 4
    counts = robustness.find_flips(analysis.run, "base", "base-sgdm").images
    for one in flips:
        at = (counts["corruption"] == one.corruption) & (counts["severity"] == one.severity)
        (row,) = counts[at & (counts["image_id"] == one.image_id)].to_dict("records")
        counts_here = (row["kept"], row["lost"])[:: 1 if one.keeper == "base-sgdm" else -1]
        assert (len(one.kept), len(one.lost)) == counts_here and len(one.kept) > len(one.lost)
        annotations = analysis.run.ground_truth().annotations.iloc[[*one.kept, *one.lost]]
        assert set(annotations["image_id"]) == {one.image_id}


def test_flips_of_a_large_run_are_of_the_cells_that_differ_most(analysis: RunAnalysis) -> None:
    """One in either direction: the boxes of no other cell are matched."""
    pair, matched = ("base", "base-sgdm"), list[object]()

    def find_flips(*pair: str, only: Collection[tuple[str, float]]) -> robustness.Flips:
        matched.extend(only)
        return robustness.find_flips(analysis.run, *pair, only=only)

    results = analysis.training_results.assign(images=5000)
    cells = {(BENCHMARK[2], 3.0): 60.0, (BENCHMARK[4], 3.0): -60.0}
    keys = zip(results["corruption"], results["severity"], strict=True)
    results["AP"] += [cells.get(key, 0.0) for key in keys] * (results["model"] == "base-sgdm")
    images = tables.flipped_images(find_flips, results, "AP", pair, analysis.primary_set)
    assert set(matched) == set(cells) and len(matched) == 2
    assert images and {(one.corruption, one.severity) for one in images} <= set(cells)


def test_costs_and_facts(analysis: RunAnalysis, small_run: Run) -> None:
    latency = [("base", 10.0, 1.0, 1.0, 1.0, "cpu"), ("base-module", 13.0, 1.3, 1.25, 1.4, "cpu")]
    columns = ["model", "milliseconds", "ratio", "low", "high", "device"]
    small_run.write_latency(pd.DataFrame(latency, columns=columns))
    first, second = tables.model_costs(small_run)
    assert first == ("base", 10.0, "", 1e-6, None, None)
    assert second[1:4] == (13.0, "1.30 [1.25, 1.40] of base's time", 2e-6)
    facts = dict(analysis.summary.facts)
    assert (
        facts["Data"].startswith("made: 12 images, ")
        and facts["Corruptions"] == "7 corruptions at severities 1, 3"
    )
    assert "The data are 12 images of made, enough only for large differences" in analysis.summary.limit


def test_clean_images_only(small_run: Run) -> None:
    cells = tuple(cell for cell in small_run.cells if cell.corruption == "clean")
    run = Run(small_run.path, changed(small_run.manifest, cells=cells))
    summary = RunAnalysis(run).summary
    assert not summary.rankings and summary.curve["severity"].tolist() == [0.0, 0.0]
    assert dict(summary.facts)["Corruptions"] == "none: clean images only"


def test_point_estimates_are_those_of_the_table_with_intervals(tmp_path: Path) -> None:
    """Of networks with two trainings too, whose rPC is the mean of the trainings'."""
    models = [f"{name}-seed{seed}" for name in ("base", "sgdm") for seed in (0, 1)]
    run = make_run(tmp_path, "seeds", models, {"fog": [1, 3], "snow": [3]}, images=6, resamples=True)
    about = {model: {"group": model[:4], "seed": int(model[-1])} for model in models}
    run = rewrite(run, models={**about, models[2]: {**about[models[2]], "baseline": models[0]}})
    analysis = RunAnalysis(run)
    rows = robustness.point_estimates(
        run.results(), run.groups, ["AP", "AP_S"], run.baseline_pairs, analysis.corruption_sets, losses=True
    )
    table = analysis.bootstrap.table(["AP", "AP_S"], losses=True)
    assert set(rows) == set(table) and set(rows["baseline"]) == {"", "base"}
    keys = ["model", "baseline", "statistic", "over", "family", "corruption", "severity", "metric"]
    merged = rows.merge(table, on=keys, suffixes=("", "_table"), validate="1:1")
    assert len(merged) == len(rows) and set(rows["statistic"]) == {"score", "P", "mPC", "rPC", "loss"}
    assert np.allclose(merged["estimate"], merged["estimate_table"], rtol=0, atol=1e-9)
    assert rows["low"].isna().all() and not rows["significant"].any()
