"""Intervals of cells, means and differences: paired, kept, honest about what is missing."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustbench_sgdm.errors import DataError, UsageError
from robustbench_sgdm.robustness import METRICS, Over, bootstrap, comparable, summary
from robustbench_sgdm.robustness.bootstrap import weights

MODELS: dict[str, str | None] = {"base": None, "module": "base"}
NOISE = {"gaussian_noise": [1.0, 3.0], "fog": [1.0, 3.0]}


def rows(table: pd.DataFrame, **where: Any) -> pd.DataFrame:
    for column, value in where.items():
        table = table[table[column] == value]
    return table


def test_estimates_are_the_stored_scores_and_means_their_means(make_run: Any) -> None:
    run = make_run(MODELS, NOISE)
    table = bootstrap(run, resamples=50).table()
    results = run.results().set_index(["model", "corruption", "severity"])
    own = rows(table, statistic="score", baseline="").set_index(["model", "corruption", "severity", "metric"])
    for metric in METRICS:
        theirs = own.xs(metric, level="metric")["estimate"].reindex(results.index)
        assert theirs.tolist() == pytest.approx(results[metric].tolist(), abs=1e-9)
    found = {(r.model, r.over, r.metric): r._asdict() for r in summary(run, metrics=METRICS).itertuples()}
    for statistic in ("P", "mPC", "rPC"):
        for row in rows(table, statistic=statistic, baseline="").itertuples():
            same = found[row.model, row.over or "gaussian_noise, fog at 1, 3", row.metric]
            assert row.estimate == pytest.approx(same[statistic])


def test_intervals_hold_what_they_are_made_of(make_run: Any) -> None:
    table = bootstrap(make_run(MODELS, NOISE), resamples=200).table()
    assert (table["missing"] == "").all() and table["estimate"].notna().all()
    for low, high in (("low", "high"), ("low_bca", "high_bca")):
        assert (table[low] <= table[high]).all()
    differences = table[table["baseline"] != ""]
    outside = (differences["low"] > 0) | (differences["high"] < 0)
    assert ((differences["p"] <= 0.05) == outside)[(differences["p"] - 0.05).abs() > 0.02].all()
    scores = rows(differences, statistic="score")
    assert (scores["p_holm"] >= scores["p"]).all() and differences["p_holm"].notna().sum() == len(scores)


def test_a_model_against_itself_differs_by_exactly_nothing(make_run: Any) -> None:
    found = bootstrap(make_run(MODELS, NOISE, worse=0), resamples=20)
    table = found.table(pairs=[("base", "base")])
    same = table[table["baseline"] == "base"]
    assert len(same) and (same[["estimate", "low", "high", "low_bca", "high_bca", "se"]] == 0).all(axis=None)
    assert (same["p"] == 1).all()
