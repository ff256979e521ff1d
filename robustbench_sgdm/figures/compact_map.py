"""A small map of a run: corruption by severity for one pair or one model, corruption by model for several pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure

from robustbench_sgdm.core import palette
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.figures import fonts
from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.run_analysis import RunAnalysis
from robustbench_sgdm.figures.style import COLUMN, plot_style
from robustbench_sgdm.tables import Ranking, format_number, humanize, starred

MAX_ROWS = 16
"""Corruptions that are shown: those of the largest and of the smallest values where there are more."""

_NAMES = 1.15  # inches of the rows' names
_ROW = 0.16  # inches of a row
_HEAD = 0.5  # inches above and below the rows
_TURNED = 0.65  # inches more below them, where the columns' labels are turned
_SCALE = LinearSegmentedColormap.from_list("differences", palette.difference_colors())
_COLUMNS = ["corruption", "column", "value", "significant"]
_LOOKS = {
    "difference": "blue: better, orange: worse than the baseline",
    "loss": "the darker, the more is lost",
    "score": "the darker, the higher the score",
}


@dataclass(frozen=True, eq=False)
class CompactMap:
    """What a map shows.

    Attributes:
        cells: columns corruption, column (its label), value, significant.
        xlabel: of the columns.
        by: what the values are, as of `Ranking`.
        what: of the values, in words.
    """

    cells: pd.DataFrame
    xlabel: str
    by: Literal["difference", "loss", "score"]
    what: str

    @property
    def signed(self) -> bool:
        """Whether the values are differences."""
        return self.by == "difference"


def draw_compact_map(one: CompactMap) -> Figure:
    """Draw the cells with their values: differences from orange to blue, losses in orange, scores in blue."""
    table = one.cells.pivot(index="corruption", columns="column", values="value")
    order = list(dict.fromkeys(one.cells["corruption"]))
    columns = list(dict.fromkeys(one.cells["column"]))
    table = table.reindex(index=order, columns=columns)
    if len(table) > MAX_ROWS:
        ranked = table.mean(axis=1).sort_values(kind="stable").index
        kept = {*ranked[: MAX_ROWS // 2], *ranked[-MAX_ROWS // 2 :]}
        table = table[[name in kept for name in table.index]]
    sure = one.cells.pivot(index="corruption", columns="column", values="significant").reindex_like(table)
    values = table.to_numpy(float)
    toward_blue = -values if one.by == "loss" else values
    limit = float(np.nanmax(np.abs(values))) or 1.0
    wide = (COLUMN - _NAMES) / len(columns)
    is_long = max(map(fonts.width, columns)) > wide
    with plot_style():
        high = _HEAD + _ROW * len(table) + _TURNED * is_long
        figure = Figure(figsize=(COLUMN, high), layout="constrained")
        axis = figure.subplots()
        edges = np.arange(len(columns) + 1) - 0.5, np.arange(len(table) + 1) - 0.5
        # Rectangles, not an image: they stay sharp when enlarged.
        mesh = axis.pcolormesh(*edges, toward_blue, cmap=_SCALE, vmin=-limit, vmax=limit, linewidth=0)
        labels = list(fonts.fit_names(columns, 0.9 if is_long else wide, 7).values())
        axis.set_xticks(range(len(columns)), labels, fontsize=7)
        if is_long:
            axis.tick_params(axis="x", rotation=30)
            for label in axis.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        names = fonts.fit_names(map(humanize, table.index), _NAMES, 7)
        axis.set_yticks(range(len(table)), list(names.values()), fontsize=7)
        axis.set(xlabel=one.xlabel)
        axis.invert_yaxis()
        axis.grid(False)
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
        for (at, column), value in np.ndenumerate(values):
            if np.isnan(value):
                continue
            bold = bool(sure.iat[at, column])
            ground = to_hex(mesh.to_rgba(toward_blue[at, column : column + 1])[0])
            text = starred(format_number(value, signed=one.signed), bold)
            axis.text(
                column,
                at,
                text if fonts.width(text, 7) <= wide else "*" * bold,
                ha="center",
                va="center_baseline",
                fontsize=7,
                fontweight="bold" if bold else "normal",
                color=palette.readable_text_color(ground),
            )
    return figure


@figure("compact-map", "differences by corruption, or losses of a single model", section="summary", place=2)
def compact_map(analysis: RunAnalysis) -> FigureResult:
    """The map of a run."""
    rankings = analysis.summary.rankings
    if not rankings:
        raise DataError(f"{analysis.run.path} has no corruption whose cells are complete")
    one = _by_corruption(rankings) if len(rankings) > 1 else _by_severity(analysis, rankings[0])
    whole = one.cells["corruption"].nunique()
    count = f" The {MAX_ROWS} of {whole} corruptions with the largest and smallest values." * (
        whole > MAX_ROWS
    )
    stars = ""
    if one.cells["significant"].any():
        stars = (
            " A star: significant after Holm's correction, which keeps false findings among many tests rare."
        )
    caption = f"{one.what}, {_LOOKS[one.by]}.{stars}{count}"
    low, high = one.cells["value"].min(), one.cells["value"].max()
    alt = (
        f"Map of {one.what} by corruption and {one.xlabel}: {len(one.cells)} values from "
        f"{format_number(low, signed=one.signed)} to {format_number(high, signed=one.signed)}."
    )
    return FigureResult(draw_compact_map(one), caption, alt, one.cells)


def _by_corruption(rankings: Sequence[Ranking]) -> CompactMap:
    """The mean of every corruption, a column for each model."""
    rows = [
        (value.corruption, ranking.model, value.value, value.significant)
        for ranking in rankings
        for value in ranking.values
    ]
    by = rankings[0].by
    what = {"difference": "Difference from the baseline in points", "loss": "Points below the clean score"}
    return CompactMap(
        pd.DataFrame(rows, columns=_COLUMNS),
        "model",
        by,
        f"{what.get(by, 'Score in percent')}, the mean over severities",
    )


def _by_severity(analysis: RunAnalysis, ranking: Ranking) -> CompactMap:
    """Every cell of one pair or of one model."""
    results, metric = analysis.results, analysis.metric_name
    scores = results.set_index(["model", "corruption", "severity"])[metric]
    own = scores[ranking.model]
    noisy = own[own.index.get_level_values("corruption") != CLEAN]
    if ranking.by == "difference":
        values = (noisy - scores[ranking.baseline]).dropna()
        what = f"{metric} of {ranking.model} minus {ranking.baseline}, in points"
    elif ranking.by == "loss":
        values = own[CLEAN, 0.0] - noisy
        what = f"Points of {metric} below the clean score"
    else:
        values = noisy
        what = f"{metric} in percent"
    frame = values.rename("value").reset_index().assign(significant=False)
    if ranking.by == "difference" and analysis.summary.has_intervals:
        tested = analysis.intervals
        tested = tested[
            (tested["statistic"] == "score")
            & (tested["metric"] == metric)
            & (tested["model"] == ranking.model)
            & (tested["baseline"] == ranking.baseline)
        ]
        columns = ["corruption", "severity", "estimate", "significant"]
        frame = frame[["corruption", "severity"]].merge(tested[columns], how="inner")
        frame = frame.rename(columns={"estimate": "value"})
    order = {value.corruption: place for place, value in enumerate(ranking.values)}
    frame = frame[frame["corruption"].isin(list(order))].sort_values("severity", kind="stable")
    frame = frame.sort_values("corruption", key=lambda names: names.map(order), kind="stable")
    severities = [f"{s:g}" for s in sorted(frame["severity"].unique())]
    frame["column"] = pd.Categorical(frame["severity"].map("{:g}".format), severities, ordered=True)
    return CompactMap(frame[_COLUMNS].reset_index(drop=True), "severity", ranking.by, what)
