"""Tables of natural shift; see `robustness.shift_table`."""

import pandas as pd

from robustbench_sgdm.tables.table import STARRED, Table, format_interval, notes_once, starred

_COLUMNS = {
    "clean": "clean AP",
    "shifted": "shifted AP",
    "change": "change",
    "retained": "% of clean",
    "effective": "above the line",
}


def shift_tables(frame: pd.DataFrame, level: float) -> list[Table]:
    """A table per shift: a row for each model and each difference.

    Args:
        frame: as of `robustness.shift_table`.
        level: of the intervals.
    """
    made = [_shift_table(str(name), rows, level) for name, rows in frame.groupby("shift", sort=False)]
    return notes_once(made)


def _shift_table(name: str, rows: pd.DataFrame, level: float) -> Table:
    first = rows.iloc[0]
    cells: dict[str, dict[str, str]] = {}
    for row in rows.to_dict("records"):
        signed = bool(row["baseline"]) or row["statistic"] in ("change", "effective")
        text = format_interval(row["estimate"], row["low"], row["high"], signed=signed)
        label = f"{row['model']} minus {row['baseline']}" if row["baseline"] else str(row["model"])
        cells.setdefault(label, {})[str(row["statistic"])] = starred(text, row["significant"])
    size = f"{first['images']:,} images, {first['classes']:,} shared classes, " if first["images"] else ""
    shown = [s for s in _COLUMNS if (rows.loc[rows["statistic"] == s, "estimate"]).notna().any()] or [
        "shifted"
    ]
    missing = dict.fromkeys(str(text) for text in rows["missing"] if text)
    return Table(
        f"Natural shift {name}: {size}{100 * level:g} % intervals",
        ["model", *(_COLUMNS[s] for s in shown)],
        [[label, *(by_statistic.get(s, "–") for s in shown)] for label, by_statistic in cells.items()],
        [
            "Not paired: clean and shifted images differ, so the interval of a change adds both data sets' "
            "variances. Only differences between models on shifted images are paired.",
            STARRED.format(alpha=round(1 - level, 12), what="the shifts"),
            *(f"Missing: {text}." for text in missing),
        ],
    )
