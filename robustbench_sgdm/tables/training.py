"""Table of a comparison of trainings."""

from collections.abc import Sequence

import pandas as pd

from robustbench_sgdm.tables.results import METRICS_SHOWN
from robustbench_sgdm.tables.table import Table, format_number


def training_table(
    summary: pd.DataFrame, runs: pd.DataFrame, metrics: Sequence[str] = METRICS_SHOWN, truth: str = ""
) -> Table:
    """A row for each trained model: mean and standard deviation over seeds, and the difference to its baseline.

    Args:
        summary: as in a comparison's `summary.csv`, metrics in percent.
        runs: as in its `runs.csv`.
        metrics: to show.
        truth: of the validation images, as in `Dataset.ground_truth_summary`.
    """
    rows = []
    for model in dict.fromkeys(summary["model"]):
        of_model = summary[summary["model"] == model].set_index("metric")
        row = [model, str(int((runs["model"] == model).sum()))]
        for metric in metrics:
            of = of_model.loc[metric]
            row += [
                _spread(of["mean"], of["sd"]),
                _spread(of["difference"], of["difference_sd"], signed=True),
            ]
        rows.append(row)
    columns = ["model", "seeds", *(column for metric in metrics for column in (metric, f"{metric} Δ"))]
    unhealthy = runs[runs["health"] != "ok"]
    notes = [f"{r.model} seed {r.seed}: {r.health}" for r in unhealthy.itertuples()]
    return Table(
        "Trained",
        columns,
        rows,
        [
            "Mean ± standard deviation over seeds; Δ: paired, to the baseline.",
            *([f"{truth}."] * bool(truth)),
            *notes,
        ],
    )


def _spread(mean: float, sd: float, *, signed: bool = False) -> str:
    """A mean and its standard deviation, if known.

    >>> _spread(41.234, 0.5), _spread(1.0, float("nan"), signed=True), _spread(float("nan"), 0.1)
    ('41.23 ± 0.50', '+1.00', '–')
    """
    shown = format_number(mean, signed=signed)
    return shown if pd.isna(mean) or pd.isna(sd) else f"{shown} ± {format_number(sd)}"
