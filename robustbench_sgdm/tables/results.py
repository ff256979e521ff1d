"""Tables of a run: by corruption, of means, by size and class of objects, of error types and calibration."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.robustness import lower_is_better
from robustbench_sgdm.tables.comparison import calibration_notes
from robustbench_sgdm.tables.table import (
    STARRED,
    UNROUNDED,
    Table,
    format_interval,
    format_number,
    format_p_value,
    humanize,
    starred,
)

METRICS_SHOWN = ("AP", "AP50", "AP_S")
_MEANS_FAMILY = "the families or the single corruptions; the first mean and P are one test each"
_CELLS_FAMILY = "all corrupted cells of a model, its baseline and a metric; the clean score is one test"

_ROUNDING = 1e-6  # percent, between a score and its written form


def corruption_tables(
    results: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    metrics: Sequence[str] = METRICS_SHOWN,
    intervals: pd.DataFrame | None = None,
) -> list[Table]:
    """One table per corruption: a row per severity; per metric a column for each model and difference.

    Args:
        results: rows as in `results.csv`, metrics in percent.
        pairs: (baseline, model) whose difference model - baseline gets a column, if both have results.
        metrics: columns of `results` to show.
        intervals: rows as of `Intervals.table()`; significant differences then get a star, and those of the first
            metric their interval and p.
    """
    if results.empty:
        return []
    pairs = [pair for pair in pairs if set(pair) <= set(results["model"])]
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
    tested = {} if intervals is None else _tested(intervals, corruption)
    columns = ["severity"]
    for metric in metrics:
        columns += [f"{metric} {m}" for m in models]
        for pair in pairs:
            columns.append(f"{metric} {_delta(pair, pairs)}")
            if tested and metric == metrics[0]:
                columns += [f"{_delta(pair, pairs)} 95 % interval", f"{_delta(pair, pairs)} p (Holm)"]
    rows, partial = [], dict[tuple[str, str], None]()
    for severity in sorted(chosen["severity"].unique()):
        row = ["0 (clean)" if severity == 0 else f"{severity:g}"]
        for metric in metrics:
            at = values[metric].loc[severity]
            row += [format_number(at[m]) for m in models]
            for pair in pairs:
                test = tested.get((metric, *pair, severity))
                difference = of_means = at[pair[1]] - at[pair[0]]
                if test is not None:
                    difference = test["estimate"]
                    partial |= {pair: None} if abs(difference - of_means) > _ROUNDING else {}
                row.append(
                    starred(format_number(difference, signed=True), test is not None and test["significant"])
                )
                if tested and metric == metrics[0]:
                    row += (
                        ["–", "–"] if test is None else [_interval_text(test), format_p_value(test["p_holm"])]
                    )
        rows.append(row)
    notes = [STARRED.format(alpha=0.05, what=_CELLS_FAMILY)] if tested else []
    notes += [
        f"{_delta(pair, pairs)}: {pair[1]} minus {pair[0]} over the seeds that both were trained with; the scores beside "
        "it are means over all trainings."
        for pair in partial
    ]
    return Table(humanize(corruption), columns, rows, [*_minus(pairs), *notes])


def _tested(intervals: pd.DataFrame, corruption: str) -> dict[tuple[str, str, str, float], Mapping[Any, Any]]:
    """(metric, baseline, model, severity) -> a difference's row."""
    rows = intervals[
        (intervals["statistic"] == "score")
        & (intervals["baseline"] != "")
        & intervals["corruption"].isin([CLEAN, corruption])
    ]
    return {(r["metric"], r["baseline"], r["model"], r["severity"]): r for r in rows.to_dict("records")}


def _interval_text(row: Mapping[Any, Any]) -> str:
    """An interval; a dash if there is none, such as for scores without detections."""
    if pd.isna(row["low"]):
        return format_number(None)
    return " to ".join(format_number(row[end], signed=True) for end in ("low", "high"))


def means_table(
    intervals: pd.DataFrame,
    names: Mapping[str, str],
    metric: str,
    pairs: Sequence[tuple[str, str]],
    at: str = "",
) -> Table:
    """P, mPC, rPC and mCE of every model and difference with their 95 % intervals; mCE is against its baseline.

    Rows without any value are left out, such as P of a run without clean images.

    Args:
        intervals: rows as of `Intervals.table()`.
        names: the sets to show, `over` -> its label.
        metric: of those rows.
        pairs: (baseline, model) whose difference model - baseline gets a column.
        at: the sets' severities in words, for the title.
    """
    wanted = [("P", "", "clean")]
    wanted += [(s, over, text) for s in ("mPC", "rPC") for over, text in names.items()]
    frame = intervals[intervals["metric"] == metric]
    rows = []
    for statistic, over, text in wanted:
        part = frame[(frame["statistic"] == statistic) & (frame["over"] == over)]
        rows.append([f"{statistic}, {humanize(text)}", *_compared(part, pairs)])
    models, of = list(dict.fromkeys(intervals["model"])), {m: b for b, m in pairs}
    for over, text in names.items() if pairs else ():
        part = frame[(frame["statistic"] == "mCE") & (frame["over"] == over)]
        by_pair = {(str(r["model"]), str(r["baseline"])): r for r in part.to_dict("records")}
        own = [_interval(by_pair.get((m, of.get(m, "")))) for m in models]
        rows.append([f"mCE, {humanize(text)}", *own, *("–" for _ in pairs)])
    rows = [row for row in rows if set(row[1:]) != {"–"}]
    return Table(
        f"Means of {metric} {at}".strip(), ["statistic", *_heads(intervals, pairs)], rows, _notes(pairs)
    )


def sizes_table(intervals: pd.DataFrame, over: str, pairs: Sequence[tuple[str, str]]) -> Table:
    """AP by size, clean and as the mean over a set of corruptions, with 95 % intervals.

    Args:
        intervals: rows as of `Intervals.table()`.
        over: the set, by its name there.
        pairs: (baseline, model) whose difference model - baseline gets a column.
    """
    rows = []
    for metric, size in (("AP_S", "small"), ("AP_M", "medium"), ("AP_L", "large")):
        for statistic, which in (("P", "clean"), ("mPC", "corrupted"), ("rPC", "share of clean")):
            part = intervals[(intervals["metric"] == metric) & (intervals["statistic"] == statistic)]
            if statistic != "P":
                part = part[part["over"] == over]
            if part["estimate"].notna().any():
                rows.append([f"{size}, {which}", *_compared(part, pairs)])
    return Table("AP by size of objects", ["size", *_heads(intervals, pairs)], rows, _notes(pairs))


def _notes(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """The notes of a table of means."""
    return [*_minus(pairs), STARRED.format(alpha=0.05, what=_MEANS_FAMILY)] if pairs else []


def _minus(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """What each Δ is the difference of."""
    if not pairs:
        return []
    return [f"Δ: {'; '.join(f'{model} minus {baseline}' for baseline, model in pairs)}. {UNROUNDED}"]


def _heads(intervals: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> list[str]:
    return [*dict.fromkeys(intervals["model"]), *(_delta(pair, pairs) for pair in pairs)]


def _compared(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """The value of each model, then of each difference."""
    by_pair = {(str(r["model"]), str(r["baseline"])): r for r in rows.to_dict("records")}
    own = [_interval(r) for (_, baseline), r in by_pair.items() if not baseline]
    return own + [_interval(by_pair.get((model, baseline)), signed=True) for baseline, model in pairs]


def measures_table(intervals: pd.DataFrame, over: str, pairs: Sequence[tuple[str, str]]) -> Table:
    """The measures at the operating confidence, clean and as the mean over a set of corruptions, with 95 % intervals.

    Args:
        intervals: rows as of `Intervals.table()`, of `robustness.MEASURES`.
        over: the set, by its name there.
        pairs: (baseline, model) whose difference model - baseline gets a column.
    """
    statistic_of = intervals["statistic"]
    shown = intervals[(statistic_of == "P") | ((statistic_of == "mPC") & (intervals["over"] == over))]
    rows = []
    for metric in dict.fromkeys(shown["metric"]):
        for statistic, which in (("P", "clean"), ("mPC", "corrupted")):
            part = shown[(shown["metric"] == metric) & (shown["statistic"] == statistic)]
            if part["estimate"].notna().any():
                less = ", lower is better" if lower_is_better(metric) else ""
                rows.append([f"{metric.replace('_', ' ')}, {which}{less}", *_compared(part, pairs)])
    return Table(
        "Measures at the operating confidence",
        ["measure", *_heads(intervals, pairs)],
        rows,
        [*_notes(pairs), *calibration_notes(shown)],
    )


def object_table(errors: pd.DataFrame) -> Table:
    """The outcomes of the objects, by model and severity, averaged over corruptions.

    Args:
        errors: as of `robustness.error_types`.
    """
    shares = {
        c: c.removesuffix("_percent").replace("_", " ") for c in errors.columns if c.endswith("_percent")
    }
    return _by_severity(
        errors, {**shares, "false_per_image": "false boxes per image"}, "Outcomes of the objects (%)"
    )


def error_table(errors: pd.DataFrame) -> Table:
    """The AP50 that each type of error costs, by model and severity, averaged over corruptions.

    Args:
        errors: as of `robustness.error_types`.
    """
    kinds = [c for c in errors.columns if f"{c}_count" in errors]
    table = _by_severity(errors, dict(zip(kinds, kinds, strict=True)), "AP50 lost to each type of error")
    note = (
        "The gain of fixing one type alone. It shrinks as AP50 approaches 0, where there is less to gain, so fewer "
        "points do not mean fewer errors."
    )
    return replace(table, notes=[note])


def _by_severity(frame: pd.DataFrame, columns: Mapping[str, str], title: str) -> Table:
    means = frame.groupby(["model", "severity"], sort=False)[list(columns)].mean()
    rows = [
        [_at(model, severity), *map(format_number, values)]
        for (model, severity), values in zip(means.index, means.to_numpy(), strict=True)
    ]
    return Table(title, ["model and severity", *columns.values()], rows)


def calibration_table(calibration: pd.DataFrame) -> Table:
    """How far confidence is from precision, by model and severity, averaged over corruptions.

    Args:
        calibration: columns model, corruption, severity, ece and max_calibration_error (0 to 1).
    """
    names = {"ece": "expected", "max_calibration_error": "largest"}
    points = calibration.assign(**{name: 100 * calibration[name] for name in names})
    return _by_severity(points, names, "Calibration error of confidence (points)")


def _at(model: str, severity: float) -> str:
    return f"{model}, {'clean' if severity == 0 else f'severity {severity:g}'}"


def _delta(pair: tuple[str, str], pairs: Sequence[tuple[str, str]]) -> str:
    return "Δ" if len(pairs) == 1 else f"Δ {pair[1]}"


def _interval(row: Mapping[Any, Any] | None, *, signed: bool = False) -> str:
    if row is None:
        return "–"
    text = format_interval(row["estimate"], row["low"], row["high"], signed=signed)
    return starred(text, row["significant"]) if signed else text
