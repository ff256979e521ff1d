"""Tables of a comparison: means, differences, half-lives, flips."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from robustbench_sgdm.tables.table import Table, interval, p_text


def comparison_tables(intervals: pd.DataFrame, level: float) -> list[Table]:
    """For each metric the models' means, and for each pair the differences, with intervals and p-values.

    Args:
        intervals: as of `robustness.Intervals.table`.
        level: of the intervals.
    """
    own = intervals[intervals["baseline"] == ""]
    drawn = [_means_table(own[own["metric"] == m], m, level) for m in dict.fromkeys(intervals["metric"])]
    paired = intervals[intervals["baseline"] != ""]
    keys = dict.fromkeys(paired[["baseline", "model", "metric"]].itertuples(index=False, name=None))
    for baseline, model, metric in keys:
        chosen = (paired[["baseline", "model", "metric"]] == [baseline, model, metric]).all(axis=1)
        drawn.append(_difference_table(paired[chosen], f"{metric} of {model} minus {baseline}", level))
    return drawn


def _means_table(rows: pd.DataFrame, metric: str, level: float) -> Table:
    means = rows[rows["statistic"] != "score"]
    labels = [_mean_name(row) for row in means.to_dict("records")]
    columns = list(dict.fromkeys(labels))
    cells: dict[str, dict[str, str]] = {}
    for label, row in zip(labels, means.to_dict("records"), strict=True):
        cells.setdefault(str(row["model"]), {})[label] = interval(row["estimate"], row["low"], row["high"])
    lacking = dict.fromkeys(str(m) for m in means["missing"] if m)
    return Table(
        f"{metric} (%), {100 * level:g} % intervals",
        ["model", *columns],
        [[model, *(found.get(c, "–") for c in columns)] for model, found in cells.items()],
        [f"Missing: {text}." for text in lacking],
    )


def _difference_table(rows: pd.DataFrame, title: str, level: float) -> Table:
    cells = []
    for row in rows.to_dict("records"):
        score = row["statistic"] == "score"
        what = f"{row['corruption']} {row['severity']:g}" if score else _mean_name(row)
        span = interval(row["estimate"], row["low"], row["high"], signed=True)
        seeds = interval(row["estimate"], row["low_total"], row["high_total"], signed=True)
        cells.append(
            [what, span, p_text(row["p"]), p_text(row["p_holm"]), seeds if row["seeds"] > 1 else "–"]
        )
    columns = ["what", f"difference {100 * level:g} %", "p", "p Holm", "with seeds"]
    if all(row[-1] == "–" for row in cells):
        columns, cells = columns[:-1], [row[:-1] for row in cells]
    return Table(title, columns, cells, ["Holm's correction is over the cells of this table."])


def _mean_name(row: Mapping[Any, Any]) -> str:
    over = str(row["family"] or row["over"])
    return f"{row['statistic']} {over}" if over else str(row["statistic"])


def half_life_table(frame: pd.DataFrame) -> Table:
    """Where each model has lost half of its clean score; see `robustness.half_lives`."""
    rows = []
    for row in frame.to_dict("records"):
        beyond = f"> {row['to']:g}"
        ends = [
            f"{v:.2f}" if v < float("inf") else beyond for v in (row["severity"], row["low"], row["high"])
        ]
        absent = pd.isna(row["severity"])
        rows.append(
            [f"{row['model']}, {row['corruption']}", "–" if absent else f"{ends[0]} [{ends[1]}, {ends[2]}]"]
        )
    metric = frame["metric"].iloc[0]
    return Table(f"severity at which half of the clean {metric} is lost", ["model", "severity"], rows)


def flip_table(counts: pd.DataFrame, baseline: str, model: str) -> Table:
    """Objects that noise takes from one model only; see `robustness.Flips.counts`."""
    rows = [
        [
            f"{row['corruption']} {row['severity']:g}",
            *(str(row[k]) for k in ("both", "kept", "lost")),
            p_text(row["p"]),
            p_text(row["p_holm"]),
        ]
        for row in counts.to_dict("records")
    ]
    columns = ["what", "both clean", f"only {model}", f"only {baseline}", "p McNemar", "p Holm"]
    return Table(f"objects still found, {model} and {baseline}", columns, rows)
