"""Tables from results: pure functions of a results frame, for the terminal and the report alike."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from robustbench_sgdm.types import CLEAN

METRICS_SHOWN = ("AP", "AP50", "AP_S")

SIGNIFICANT = 0.05
"""Level of p, corrected by Holm, below which a difference is marked."""


@dataclass(frozen=True)
class Table:
    """A titled table of text cells; the first column labels the rows, the others are numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=tuple)


def number(value: float | None, *, signed: bool = False) -> str:
    """Two decimals, or a dash for what is absent.

    >>> number(42.978), number(1.7, signed=True), number(float("nan"))
    ('42.98', '+1.70', '–')
    """
    if value is None or pd.isna(value):
        return "–"
    return f"{value:+.2f}" if signed else f"{value:.2f}"


def interval(row: Mapping[str, float] | None) -> str:
    """A value with its interval, or a dash.

    >>> interval({"estimate": 1.234, "low": -0.5, "high": 3})
    '1.23 [-0.50, 3.00]'
    """
    if row is None or pd.isna(row["estimate"]):
        return "–"
    return f"{number(row['estimate'])} [{number(row['low'])}, {number(row['high'])}]"


def corruption_tables(
    results: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    metrics: Sequence[str] = METRICS_SHOWN,
    intervals: pd.DataFrame | None = None,
) -> list[Table]:
    """One table per corruption: a row per severity; per metric a column for each model and difference.

    Args:
        results: rows as in `results.csv`, metrics in percent.
        pairs: (baseline, model) whose difference model - baseline gets a column.
        metrics: columns of `results` to show.
        intervals: rows as of `Intervals.table()`; the first metric's differences then get their interval and p.
    """
    if results.empty:
        return []
    corruptions = [c for c in dict.fromkeys(results["corruption"]) if c != CLEAN] or [CLEAN]
    return [_corruption_table(results, name, pairs, metrics, intervals) for name in corruptions]


def _corruption_table(
    results: pd.DataFrame,
    corruption: str,
    pairs: Sequence[tuple[str, str]],
    metrics: Sequence[str],
    intervals: pd.DataFrame | None,
) -> Table:
    chosen = results[results["corruption"].isin([CLEAN, corruption])]
    models = list(dict.fromkeys(results["model"]))
    values = {
        metric: chosen.pivot(index="severity", columns="model", values=metric).reindex(columns=models)
        for metric in metrics
    }
    sure = {} if intervals is None else _tested(intervals, corruption, metrics[0])
    columns = ["severity"]
    for metric in metrics:
        columns += [f"{metric} {m}" for m in models]
        for pair in pairs:
            columns.append(f"{metric} {_delta(pair, pairs)}")
            if sure and metric == metrics[0]:
                columns += [f"{_delta(pair, pairs)} 95 % interval", f"{_delta(pair, pairs)} p (Holm)"]
    rows = []
    for severity in sorted(chosen["severity"].unique()):
        row = ["0 (clean)" if severity == 0 else f"{severity:g}"]
        for metric in metrics:
            at = values[metric].loc[severity]
            row += [number(at[m]) for m in models]
            for pair in pairs:
                row.append(number(at[pair[1]] - at[pair[0]], signed=True))
                if sure and metric == metrics[0]:
                    row += sure.get((*pair, severity), ("–", "–"))
        rows.append(row)
    return Table(corruption, columns, rows)


def _tested(
    intervals: pd.DataFrame, corruption: str, metric: str
) -> dict[tuple[str, str, float], tuple[str, str]]:
    """(baseline, model, severity) -> a difference's interval and p in text."""
    rows = intervals[
        (intervals["statistic"] == "score")
        & (intervals["baseline"] != "")
        & (intervals["metric"] == metric)
        & intervals["corruption"].isin([CLEAN, corruption])
    ]
    return {
        (str(r.baseline), str(r.model), float(r.severity)): (  # type: ignore[arg-type]
            f"{number(r.low, signed=True)} to {number(r.high, signed=True)}",  # type: ignore[arg-type]
            _p(float(r.p_holm)),  # type: ignore[arg-type]
        )
        for r in rows.itertuples()
    }


def _p(value: float) -> str:
    return "–" if pd.isna(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def _delta(pair: tuple[str, str], pairs: Sequence[tuple[str, str]]) -> str:
    return "Δ" if len(pairs) == 1 else f"Δ {pair[1]}"


def means_table(
    intervals: pd.DataFrame, names: Mapping[str, str], metric: str, pairs: Sequence[tuple[str, str]]
) -> Table:
    """P, mPC and rPC of every model and difference with their 95 % intervals.

    Args:
        intervals: rows as of `Intervals.table()`.
        names: the sets to show, `over` -> what to call it.
        metric: of those rows.
        pairs: (baseline, model) whose difference model - baseline gets a column.
    """
    wanted = [("P", "", "clean")]
    wanted += [(s, over, text) for s in ("mPC", "rPC") for over, text in names.items()]
    frame = intervals[intervals["metric"] == metric]
    rows = []
    for statistic, over, text in wanted:
        part = frame[(frame["statistic"] == statistic) & (frame["over"] == over)]
        rows.append([f"{statistic}, {text.replace('_', ' ')}", *_compared(part, pairs)])
    return Table(f"Means of {metric}", ["statistic", *_heads(intervals, pairs)], rows)


def sizes_table(intervals: pd.DataFrame, over: str, pairs: Sequence[tuple[str, str]]) -> Table:
    """AP by size, clean and as the mean over a set of corruptions, with 95 % intervals.

    Args:
        intervals: rows as of `Intervals.table()`.
        over: the set, by its name there.
        pairs: (baseline, model) whose difference model - baseline gets a column.
    """
    rows = []
    for metric, size in (("AP_S", "small"), ("AP_M", "medium"), ("AP_L", "large")):
        for statistic, which in (("P", "clean"), ("mPC", "corrupted"), ("rPC", "share kept")):
            part = intervals[(intervals["metric"] == metric) & (intervals["statistic"] == statistic)]
            if statistic != "P":
                part = part[part["over"] == over]
            if part["estimate"].notna().any():
                rows.append([f"{size}, {which}", *_compared(part, pairs)])
    return Table("AP by size of objects", ["size", *_heads(intervals, pairs)], rows)


def _heads(intervals: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> list[str]:
    return [*dict.fromkeys(intervals["model"]), *(_delta(pair, pairs) for pair in pairs)]


def _compared(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """The value of each model, then of each difference."""
    found = {(str(r["model"]), str(r["baseline"])): r for r in rows.to_dict("records")}
    own = [interval(r) for (_, baseline), r in found.items() if not baseline]
    return own + [_difference(found.get((model, baseline))) for baseline, model in pairs]


def _difference(row: Mapping[str, float] | None) -> str:
    if row is None or pd.isna(row["estimate"]):
        return "–"
    ends = f"{number(row['low'], signed=True)}, {number(row['high'], signed=True)}"
    return f"{number(row['estimate'], signed=True)} [{ends}]"


def class_table(drops: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> Table:
    """AP by class, clean, corrupted and lost.

    Args:
        drops: columns model, class, clean, corrupted, drop (percent).
        pairs: (baseline, model) whose difference in the corrupted AP gets a column.
    """
    models = list(dict.fromkeys(drops["model"]))
    parts = ("clean", "corrupted", "drop")
    values = {p: drops.pivot(index="class", columns="model", values=p).reindex(columns=models) for p in parts}
    columns = ["class", *(f"{'lost' if p == 'drop' else p} {m}" for p in parts for m in models)]
    columns += [f"corrupted {_delta(pair, pairs)}" for pair in pairs]
    rows = []
    for name in dict.fromkeys(drops["class"]):
        at = values["corrupted"].loc[name]
        row = [str(name), *(number(values[p].loc[name, m]) for p in parts for m in models)]
        rows.append([*row, *(number(at[m] - at[b], signed=True) for b, m in pairs)])
    return Table("AP by class", columns, rows)


def error_table(errors: pd.DataFrame) -> Table:
    """The AP50 that each type of error costs, by model and severity, averaged over corruptions.

    Args:
        errors: columns model, corruption, severity, the types (points of AP50), and `<type>_count` for each.
    """
    kinds = [c for c in errors.columns if f"{c}_count" in errors]
    means = errors.groupby(["model", "severity"], sort=False)[kinds].mean()
    rows = [
        [f"{model}, {'clean' if severity == 0 else f'severity {severity:g}'}", *map(number, values)]
        for (model, severity), values in zip(means.index, means.to_numpy(), strict=True)
    ]
    return Table("AP50 lost to each type of error", ["model and severity", *kinds], rows)


def split(table: Table, most: int) -> list[Table]:
    """The table in parts of at most so many columns, each with the first."""
    if len(table.columns) <= most:
        return [table]
    step = most - 1
    return [
        Table(
            table.title if start == 1 else f"{table.title} (continued)",
            [table.columns[0], *table.columns[start : start + step]],
            [[row[0], *row[start : start + step]] for row in table.rows],
            table.notes,
        )
        for start in range(1, len(table.columns), step)
    ]


def damage_table(measured: Mapping[str, Sequence[tuple[float, float]]], where: str) -> Table:
    """A row per corruption, a column per severity.

    Args:
        measured: name -> (PSNR in dB, SSIM) at severities 1 to 5.
        where: the images, in words.
    """
    rows = [
        [name, *(f"{psnr:.1f} {ssim:.2f}".replace(" 0.", " .") for psnr, ssim in scores)]
        for name, scores in measured.items()
    ]
    columns = ["corruption", *(f"severity {severity}" for severity in range(1, 6))]
    return Table(
        "Damage", columns, rows, [f"PSNR in dB and SSIM against the clean image, means over {where}."]
    )


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


def interval(estimate: float, low: float, high: float, *, signed: bool = False) -> str:
    """An estimate and its interval.

    >>> interval(2.1, 0.9, 3.3, signed=True), interval(float("nan"), 0, 0)
    ('+2.10 [+0.90, +3.30]', '–')
    """
    value = number(estimate, signed=signed)
    if value == "–" or pd.isna(low):
        return value
    return f"{value} [{number(low, signed=signed)}, {number(high, signed=signed)}]"


def p_text(p: float) -> str:
    """A p-value to three decimals.

    >>> p_text(0.0421), p_text(0.0002), p_text(float("nan"))
    ('0.042', '< 0.001', '–')
    """
    if math.isnan(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def to_markdown(table: Table) -> str:
    """A table with its title and notes."""
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    drawn = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "".join(f"* {note}\n" for note in table.notes)
    return f"## {table.title}\n\n{drawn}\n\n{notes}"
