"""Tables of a comparison: means, differences, half-severities, flips."""

import json
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from robustbench_sgdm.robustness import FEW_OBJECTS, lower_is_better, maximum
from robustbench_sgdm.tables.table import (
    STARRED,
    Table,
    format_interval,
    format_number,
    format_p_value,
    humanize,
    notes_once,
    starred,
)

_SMALL_ERROR = 2.0  # percent; from this D-ECE on, intervals cover in simulations


def comparison_tables(
    intervals: pd.DataFrame, level: float, same: Mapping[tuple[str, str], str] | None = None
) -> list[Table]:
    """The means and mCE of the models for each metric, and the differences of each pair, with intervals and p-values.

    Args:
        intervals: as of `robustness.Intervals.table`.
        level: of the intervals.
        same: the pairs with the same outputs, and why; the titles of their tables say so.
    """
    means = intervals[
        ((intervals["baseline"] == "") & (intervals["statistic"] != "score"))
        | ((intervals["statistic"] == "mCE") & intervals["estimate"].notna())
    ]
    tables = [_means_table(means[means["metric"] == m], m, level) for m in dict.fromkeys(means["metric"])]
    paired = intervals[(intervals["baseline"] != "") & (intervals["statistic"] != "mCE")]
    keys = dict.fromkeys(paired[["baseline", "model", "metric"]].itertuples(index=False, name=None))
    for baseline, model, metric in keys:
        chosen = (paired[["baseline", "model", "metric"]] == [baseline, model, metric]).all(axis=1)
        title = f"{metric} of {model} minus {baseline}{' (lower is better)' * lower_is_better(metric)}"
        why = (same or {}).get((baseline, model))
        tables.append(
            _difference_table(paired[chosen], f"{title}, identical: {why}" if why else title, level)
        )
    return tables


def comparison_rows(
    intervals: pd.DataFrame,
    halves: pd.DataFrame,
    flips: Mapping[tuple[str, str], pd.DataFrame],
    failures: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Everything that `compare` shows, as a row per number.

    Args:
        intervals: as of `robustness.Intervals.table`.
        halves: as of `robustness.half_severities`.
        flips: (baseline, model) -> as of `robustness.Flips.counts`.
        failures: as of `robustness.FirstFailures.table`.

    Returns:
        The columns of `intervals`, and both, kept, lost. Statistic `half-life`: a severity, infinite where more than
        half is left, from the severities that `over` names. Statistic `flips`: both, kept, lost, p, p_holm of a cell.
        Statistic `first-failure`: the columns of `failures`, the mean severity endured as the estimate.
    """
    half_rows = pd.DataFrame(
        {
            **{column: halves[column] for column in ("model", "corruption", "metric", "low", "high")},
            "statistic": "half-life",
            "over": halves["corruption"] + " at " + halves["used"],
            "estimate": halves["severity"],
        }
    )
    flip_rows = [
        frame.assign(baseline=baseline, model=model, statistic="flips")
        for (baseline, model), frame in flips.items()
    ]
    failure_rows = [] if failures is None else [failures.assign(statistic="first-failure")]
    columns = [*intervals.columns, "both", "kept", "lost"]
    columns += [c for part in failure_rows for c in part.columns if c not in columns]
    more = [part for part in (half_rows, *flip_rows, *failure_rows) if len(part)]
    parts = [part.reindex(columns=columns) for part in (intervals, *more)]
    texts = [c for c in intervals.columns if pd.api.types.is_string_dtype(intervals[c].dtype)]
    whole = dict.fromkeys(("both", "kept", "lost"), "Int64")
    return pd.concat(parts, ignore_index=True).fillna(dict.fromkeys(texts, "")).astype(whole)


def to_json(rows: pd.DataFrame) -> str:
    """A list of objects as JSON; null for absent values, "Infinity" as text because JSON has no such number."""
    records = rows.astype(object).where(rows.notna(), None).to_dict("records")
    return to_json_text([{k: "Infinity" if v == math.inf else v for k, v in row.items()} for row in records])


def to_json_text(content: Any) -> str:
    """Plain types as JSON that any program reads; numpy's numbers too."""
    return json.dumps(content, indent=1, allow_nan=False, default=lambda number: number.item()) + "\n"


def calibration_notes(rows: pd.DataFrame) -> list[str]:
    """What to know of a small calibration error; see `docs/explanation/statistics.md`.

    Args:
        rows: as of `robustness.Intervals.table`.
    """
    small = (rows["metric"] == "D-ECE") & (rows["baseline"] == "") & (rows["estimate"] < _SMALL_ERROR)
    if not small.any():
        return []
    return [
        f"D-ECE sums absolute values, so chance alone makes it larger than 0: below about {_SMALL_ERROR:g} on few "
        "images a detector may be calibrated, and the interval need not cover the true value."
    ]


def unit_text(metric: str) -> str:
    """` (%)`, or nothing for a count; and which direction is better where it is not the usual one."""
    unit = ["%"] if math.isfinite(maximum(metric)) else []
    parts = unit + ["lower is better"] * lower_is_better(metric)
    return f" ({', '.join(parts)})" if parts else ""


def first_failure_tables(failures: pd.DataFrame, level: float) -> list[Table]:
    """When objects and images are first lost, and objects for good, by corruption; see `robustness.FirstFailures`."""
    titles = {
        ("object", "first"): "Severity at which an object is first lost",
        ("object", "lasting"): "Severity from which an object stays lost",
        ("image", "first"): "Severity at which an image first loses an object",
    }
    made = [
        _first_failure_table(rows, title, level)
        for (unit, rule), title in titles.items()
        if len(rows := failures[(failures["unit"] == unit) & (failures["rule"] == rule)])
    ]
    return notes_once(made)


def _first_failure_table(rows: pd.DataFrame, title: str, level: float) -> Table:
    names = list(dict.fromkeys(zip(rows["model"], rows["baseline"], strict=True)))
    headings = [f"{model} minus {baseline}" if baseline else str(model) for model, baseline in names]
    cells: dict[str, dict[str, str]] = {}
    for heading, (model, baseline) in zip(headings, names, strict=True):
        for row in rows[(rows["model"] == model) & (rows["baseline"] == baseline)].to_dict("records"):
            label = humanize(str(row["corruption"])) or "mean of the corruptions"
            text = format_interval(row["estimate"], row["low"], row["high"], signed=bool(baseline))
            if baseline:
                text = starred(text, row["significant"])
            elif not pd.isna(row["median"]):
                half = (
                    f"half beyond {row['to']:g}"
                    if row["median"] == math.inf
                    else f"half by {row['median']:.2f}"
                )
                text = f"{text}, {half}"
            cells.setdefault(label, {})[heading] = text
    missing = dict.fromkeys(str(text) for text in rows["missing"] if text)
    lacking = rows[(rows["lacking"] != "") & (rows["corruption"] != "")].drop_duplicates("corruption")
    corrected = [STARRED.format(alpha=round(1 - level, 12), what="the corruptions")]
    return Table(
        f"{title}: mean, {100 * level:g} % intervals",
        ["corruption", *headings],
        [[label, *(by_name.get(h, "–") for h in headings)] for label, by_name in cells.items()],
        [
            "Of the objects found on clean images; for a difference, of those that both find. The mean counts an object "
            "that is never lost with the highest severity, and is linear between severities.",
            *(corrected if any(baseline for _, baseline in names) else []),
            *(
                f"{humanize(row['corruption'])}: without severities {row['lacking']}, which a model lacks."
                for row in lacking.to_dict("records")
            ),
            *(f"Missing: {text}." for text in missing),
        ],
    )


def class_interval_table(rows: pd.DataFrame, level: float) -> Table:
    """A metric by class: clean, the mean over the first set of corruptions, what is lost, and differences of the mean.

    Args:
        rows: as of `robustness.class_intervals`.
        level: of the intervals.
    """
    over = next(iter(rows.loc[rows["statistic"] == "mPC", "over"]), "")
    shown = rows[
        (rows["statistic"] == "P") | (rows["statistic"].isin(("mPC", "loss")) & (rows["over"] == over))
    ]
    shown = shown[(shown["corruption"] == "") & ((shown["baseline"] == "") | (shown["statistic"] == "mPC"))]
    words = {"P": "clean", "mPC": "corrupted", "loss": "lost"}
    cells: dict[str, dict[str, str]] = {}
    columns: dict[str, None] = {}
    for row in shown.to_dict("records"):
        pair = f"{row['model']} minus {row['baseline']}"
        column = f"corrupted, {pair}" if row["baseline"] else f"{words[row['statistic']]} {row['model']}"
        text = format_interval(row["estimate"], row["low"], row["high"], signed=bool(row["baseline"]))
        columns[column] = None
        label = f"{row['class']}{' (few)' * bool(row['few'])}"
        cells.setdefault(label, {"objects": f"{row['objects']:,}"})[column] = (
            starred(text, row["significant"]) if row["baseline"] else text
        )
    names = ["objects", *columns]
    notes = [
        f"Corrupted: the mean over {humanize(over) or 'the benchmark'}. Few: fewer than {FEW_OBJECTS} objects."
    ]
    if any(column.startswith("corrupted, ") for column in columns):
        notes.append(STARRED.format(alpha=round(1 - level, 12), what="the classes"))
    missing = dict.fromkeys(str(text) for text in shown["missing"] if text)
    return Table(
        f"{rows['metric'].iloc[0] if len(rows) else 'AP'} by class (%), {100 * level:g} % intervals",
        ["class", *names],
        [[label, *(by_name.get(n, "–") for n in names)] for label, by_name in cells.items()],
        [
            *notes,
            *(f"Missing: {text}." for text in missing or ([] if len(rows) else ["no class has an object"])),
        ],
    )


def confidence_table(confidences: Mapping[str, float]) -> Table:
    """The confidence from which each model's boxes count."""
    rows = [[model, "–" if math.isnan(value) else f"{value:.3f}"] for model, value in confidences.items()]
    note = "The one with the highest F1 on clean images unless --confidence sets it; the same under every corruption."
    return Table("Operating confidence", ["model", "confidence"], rows, [note])


def _means_table(means: pd.DataFrame, metric: str, level: float) -> Table:
    models = list(dict.fromkeys(means["model"]))
    cells: dict[str, dict[str, str]] = {}
    for row in means.to_dict("records"):
        against = f", against {row['baseline']}" if row["baseline"] else ""
        span = format_interval(row["estimate"], row["low"], row["high"])
        cells.setdefault(_mean_name(row) + against, {})[str(row["model"])] = span
    missing = dict.fromkeys(str(m) for m in means["missing"] if m)
    families = means.loc[means["family"] != "", ["family", "over"]].drop_duplicates()
    return Table(
        f"{metric}{unit_text(metric)}, {100 * level:g} % intervals",
        ["statistic", *models],
        [[name, *(by_model.get(m, "–") for m in models)] for name, by_model in cells.items()],
        [f"{family}: {humanize(over)}." for family, over in families.itertuples(index=False)]
        + [f"Missing: {text}." for text in missing]
        + calibration_notes(means),
    )


def _difference_table(rows: pd.DataFrame, title: str, level: float) -> Table:
    cells = []
    for row in rows.to_dict("records"):
        score = row["statistic"] == "score"
        item = f"{humanize(row['corruption'])} {row['severity']:g}" if score else _mean_name(row)
        span = format_interval(row["estimate"], row["low"], row["high"], signed=True)
        errors = [format_number(row["se_images"]), format_number(row["se_seeds"])]
        cells.append(
            [
                item,
                starred(span, row["significant"]),
                format_p_value(row["p"]),
                format_p_value(row["p_holm"]),
                *errors,
            ]
        )
    columns = ["item", f"difference {100 * level:g} %", "p", "p Holm", "se images", "se seeds"]
    trainings = rows["seeds"].max()
    notes = [STARRED.format(alpha=round(1 - level, 12), what=_CORRECTED)]
    if trainings > 1:
        notes.append(f"Intervals and p include the errors of the images and of {trainings:g} trainings.")
    else:
        columns, cells = columns[:-2], [row[:-2] for row in cells]
    return Table(title, columns, cells, notes)


_CORRECTED = "the corrupted cells; over the families; over the single corruptions; the first mean and P are one test each"


def _mean_name(row: Mapping[Any, Any]) -> str:
    over = humanize(str(row["family"] or row["over"]))
    return f"{row['statistic']} over {over}" if over else str(row["statistic"])


def half_severity_table(frame: pd.DataFrame) -> Table:
    """The severity at which each model has lost half of its clean score; see `robustness.half_severities`.

    If not all planned severities could be used, a row and a note name those that were.
    """
    models = list(dict.fromkeys(frame["model"]))
    cells: dict[str, dict[str, str]] = {}
    for row in frame.to_dict("records"):
        name = humanize(row["corruption"])
        label = f"{name} at {row['used'] or '–'}" if row["lacking"] else name
        cells.setdefault(label, {})[str(row["model"])] = _severities(row)
    short = frame[frame["lacking"] != ""].drop_duplicates("corruption").itertuples()
    return Table(
        f"Severity at which half of the clean {frame['metric'].iloc[0]} is lost",
        ["corruption", *models],
        [[name, *(by_model.get(m, "–") for m in models)] for name, by_model in cells.items()],
        [
            "The score is interpolated linearly between the severities that were run.",
            *(
                f"{humanize(str(row.corruption))}: from severities {', '.join(filter(None, ['0', str(row.used)]))}, "
                "which all models have; "
                f"some models lack {row.lacking}."
                for row in short
            ),
        ],
    )


def _severities(row: Mapping[Any, Any]) -> str:
    """`3.10 [2.90, 3.35]`; `> 5` where more than half is left at the strongest."""

    def text(value: float) -> str:
        return f"> {row['to']:g}" if value == math.inf else f"{value:.2f}"

    if pd.isna(row["severity"]):
        return "–"
    if pd.isna(row["low"]):
        return text(row["severity"])
    return f"{text(row['severity'])} [{text(row['low'])}, {text(row['high'])}]"


def flip_table(counts: pd.DataFrame, baseline: str, model: str) -> Table:
    """Objects that only one of two models still finds; see `robustness.Flips.counts`."""
    rows = [
        [
            f"{humanize(row['corruption'])} {row['severity']:g}",
            *(str(row[k]) for k in ("both", "kept", "lost")),
            format_p_value(row["p"]),
            format_p_value(row["p_holm"]),
        ]
        for row in counts.to_dict("records")
    ]
    total = "both clean" if counts["clean"].all() else "objects"
    columns = ["item", total, f"only {model}", f"only {baseline}", "p McNemar", "p Holm"]
    return Table(f"Objects found by only one of {model} and {baseline}", columns, rows)
