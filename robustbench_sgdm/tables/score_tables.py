"""The tables that the terminal shows of a run or of a comparison: one per metric, ranks, and the closing lines."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.robustness import CorruptionSet, lower_is_better
from robustbench_sgdm.tables.comparison import calibration_notes, unit_text
from robustbench_sgdm.tables.table import (
    STARRED,
    UNROUNDED,
    Table,
    format_interval,
    format_number,
    humanize,
    starred,
)
from robustbench_sgdm.tables.verdict import Verdict, describe_set, ranking_verdict

_STARS = "the corrupted cells, or over the corruptions' means; the clean score is one test"

Row = Mapping[Any, Any]


@dataclass(frozen=True, eq=False)
class ScoreTables:
    """Networks side by side.

    Attributes:
        rows: as of `robustness.Intervals.table`, or of `robustness.point_estimates`.
        models: networks, in order.
        pairs: (baseline, model) whose differences are shown.
        sets: of corruptions, the largest first; none if only clean images were run.
        ranks: as of `robustness.rank_networks`, by metric; empty where there are no intervals.
        leaders: as of `robustness.compare_leaders`, by metric.
        verdicts: of the pairs.
        level: of the intervals.
        reason: why there are none; empty if there are.
    """

    rows: pd.DataFrame
    models: Sequence[str]
    pairs: Sequence[tuple[str, str]]
    sets: Sequence[CorruptionSet]
    ranks: Mapping[str, pd.DataFrame]
    verdicts: Sequence[Verdict]
    leaders: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    level: float = 0.95
    reason: str = ""

    @cached_property
    def _by_key(self) -> dict[tuple[Any, ...], Row]:
        """metric, model, baseline, statistic, and the set's name or corruption and severity -> a row."""
        keyed: dict[tuple[Any, ...], Row] = {}
        for row in (row for frame in (*self.leaders.values(), self.rows) for row in frame.to_dict("records")):
            at = (row["corruption"], row["severity"]) if row["statistic"] == "score" else (row["over"],)
            keyed[(row["metric"], row["model"], row["baseline"], row["statistic"], *at)] = row
        return keyed

    @cached_property
    def _single(self) -> dict[str, CorruptionSet]:
        """The set of each corruption alone."""
        cells = list(dict.fromkeys(cell for one in self.sets for cell in one.cells))
        names = dict.fromkeys(name for name, _ in cells)
        return {name: CorruptionSet(tuple(cell for cell in cells if cell[0] == name)) for name in names}

    @property
    def _first(self) -> CorruptionSet | None:
        return next(iter(self.sets), None)

    def _baseline(self, model: str) -> str:
        return next((baseline for baseline, other in self.pairs if other == model), "")

    def metric_tables(self, metric: str) -> list[Table]:
        """The scores of a metric by corruption and the differences beside them, by severity or, of many, by network.

        Returns:
            The same table at several widths, the widest first; the caller takes the first that fits.
        """
        if len(self.models) > 2 or len(self.pairs) > 1:
            return [self._model_table(metric, differences) for differences in (True, False)]
        return [self._severity_table(metric, *how) for how in ((True, True), (False, True), (False, False))]

    def _severity_table(self, metric: str, both: bool, mean: bool) -> Table:
        """Of one network or one pair: a column per severity, then the mean."""
        model = self.pairs[0][1] if self.pairs else self.models[-1]
        baseline = self.pairs[0][0] if self.pairs else ""
        severities = sorted({s for one in self._single.values() for _, s in one.cells})

        def cell(statistic: str, *at: Any) -> str:
            shown = [self._cell(metric, model, baseline, statistic, *at)]
            if both and baseline:
                shown.insert(0, self._cell(metric, baseline, "", statistic, *at))
            return " ".join(shown)

        rows = [["clean", cell("score", CLEAN, 0.0)] + [""] * (len(severities) - 1 + mean)]
        for name, one in self._single.items():
            levels = {s for _, s in one.cells}
            row = [cell("score", name, s) if s in levels else "" for s in severities]
            rows.append([humanize(name), *row, *[cell("mPC", one.name)] * mean])
        if not severities:
            severities, rows = [0.0], [row[:2] for row in rows]
        columns = ["severity", *(f"{s:g}" for s in severities), *["mean"] * (mean and bool(self._single))]
        what = model
        if baseline:
            what = f"{f'{baseline}, ' * both}{model} and its difference from {baseline}"
        return Table(
            f"{metric}{unit_text(metric)} of {what}",
            columns,
            _align([row[: len(columns)] for row in rows]),
            self._notes,
        )

    def _model_table(self, metric: str, differences: bool) -> Table:
        """Of several networks: a column for each, with means over the severities."""
        rows = []
        for label, statistic, at in (
            ("clean", "score", (CLEAN, 0.0)),
            *((humanize(name), "mPC", (one.name,)) for name, one in self._single.items()),
        ):
            baselines = [self._baseline(m) if differences else "" for m in self.models]
            cells = [
                self._cell(metric, m, b, statistic, *at) for m, b in zip(self.models, baselines, strict=True)
            ]
            rows.append([label, *cells])
        of = "; ".join(dict.fromkeys(b for b, _ in self.pairs))
        more = f" and its difference from {of}" if differences and of else ""
        title = f"{metric}{unit_text(metric)}, mean over severities{more}"
        return Table(title, ["corruption", *self.models], _align(rows), self._notes if differences else ())

    @property
    def _notes(self) -> list[str]:
        if not self.pairs:
            return []
        if not self.rows["significant"].any():
            return [UNROUNDED]
        return [f"{UNROUNDED} {STARRED.format(alpha=round(1 - self.level, 12), what=_STARS)}"]

    def _cell(self, metric: str, model: str, baseline: str, statistic: str, *at: Any) -> str:
        """A score, and the difference beside it if there is a baseline."""
        own = self._by_key.get((metric, model, "", statistic, *at))
        text = format_number(_estimate(own))
        if not baseline:
            return text
        row = self._by_key.get((metric, model, baseline, statistic, *at))
        change = format_number(_estimate(row), signed=True)
        return f"{text} {starred(change, row is not None and row['significant'])}"

    def means(self, metric: str, families: Mapping[CorruptionSet, str]) -> Table:
        """P, mPC, rPC and mCE of one network or one pair, and mPC of the families of corruptions, with intervals.

        Args:
            metric: of the rows.
            families: of sets, by name.
        """
        over = self._first.name if self._first else ""
        wanted = [("P", "P", ""), *([(s, s, over) for s in ("mPC", "rPC", "mCE")] if self._first else [])]
        names = {one.name: family for one, family in families.items() if family and one != self._first}
        wanted += (
            [(f"mPC, {family}", "mPC", name) for name, family in names.items()] if len(names) > 1 else []
        )
        rows = []
        reasons = [self._by_key.get((metric, m, "", s, at)) for m in self.models for _, s, at in wanted]
        missing = dict.fromkeys(str(row["missing"]) for row in reasons if row and row["missing"])
        for label, statistic, at in wanted:
            row = [label]
            for model in self.models:
                baseline = self._baseline(model) if statistic == "mCE" else ""
                row.append(self._interval(self._by_key.get((metric, model, baseline, statistic, at))))
            for baseline, model in self.pairs:
                one = (
                    self._by_key.get((metric, model, baseline, statistic, at)) if statistic != "mCE" else None
                )
                row.append(starred(self._interval(one, signed=True), one is not None and one["significant"]))
            if {*row[1:]} != {"–"}:
                rows.append(row)
        heads = [*self.models, *["difference"] * len(self.pairs)]
        where = f" under {describe_set(self._first)}" if self._first else ""
        title = f"{metric}{unit_text(metric)}{where}, {100 * self.level:g} % intervals"
        shown = self.rows[(self.rows["metric"] == metric) & self.rows["statistic"].isin(("P", "mPC"))]
        notes = [*(f"Missing: {text}." for text in missing), *calibration_notes(shown)]
        return Table(title, ["", *heads], rows, notes)

    def ranking(self, metric: str) -> Table | None:
        """The networks by their mean under corruption with ranks, the best first; None for fewer than three."""
        ranks = self.ranks.get(metric)
        if ranks is None or len(self.models) < 3:
            return None
        statistic, over = ("mPC", self._first.name) if self._first else ("P", "")
        rows, before = [], 0
        for rank in ranks.to_dict("records"):
            model, place = str(rank["model"]), int(rank["place"])
            span = f"{rank['first']}" if rank["first"] == rank["last"] else f"{rank['first']}–{rank['last']}"
            row = self._by_key.get((metric, model, self._baseline(model), statistic, over))
            change = self._interval(row, signed=True) if self._baseline(model) else "–"
            cells = [self._interval(self._by_key.get((metric, model, "", statistic, over))), change]
            if self._first:
                clean = self._by_key.get((metric, model, "", "P", ""))
                share = self._by_key.get((metric, model, "", "rPC", over))
                cells += [format_number(_estimate(one)) for one in (clean, share)]
            rows.append([model, f"{place}" if place != before else "=", span, *cells])
            before = place
        absent = [m for m in self.models if m not in set(ranks["model"])]
        rows += [[m, "–", "–", "–", "–", *["–"] * (2 * bool(self._first))] for m in absent]
        gaps = [self._by_key.get((metric, m, "", statistic, over)) for m in absent]
        missing = dict.fromkeys(str(row["missing"]) for row in gaps if row and row["missing"])
        columns = [
            "model",
            "place",
            "rank",
            statistic,
            f"Δ {statistic}",
            *(["P", "rPC"] if self._first else []),
        ]
        baselines = ", ".join(dict.fromkeys(baseline for baseline, _ in self.pairs))
        better = " (lower is better)" if lower_is_better(metric) else ""
        return Table(
            f"Ranking by {statistic} of {metric}{f' under {describe_set(self._first)}' if self._first else ''}{better}",
            columns,
            rows,
            [
                "=: shares the place above, because no significant difference separates them; p is corrected by Holm "
                f"over all pairs of the table. Rank: its {100 * self.level:g} % interval.",
                *[f"Δ: minus {baselines}."] * bool(baselines),
                *(f"Missing: {text}." for text in missing),
            ],
        )

    def closing(self, metric: str) -> Iterator[tuple[str, str]]:
        """The result in lines of a label and a text: P, mPC, rPC, difference, verdict; why there are no intervals.

        Of three networks and more the numbers are those of the first, and its difference from the second.
        """
        ranks = self.ranks.get(metric) if len(self.models) > 2 else None
        models, pairs, best = self.models, self.pairs, ""
        if ranks is not None:
            first, *others = ranks["model"].tolist() or [""]
            models, pairs = [first], [(other, first) for other in others[:1] if metric in self.leaders]
            best = f", best of {len(ranks)}"
        statistic, over = ("mPC", self._first.name) if self._first else ("P", "")
        under = f"mean {metric} under {describe_set(self._first)}{best}" if self._first else ""
        for name, at, what in (
            ("P", "", f"{metric} on clean images{'' if self._first else best}"),
            ("mPC", over, under),
            ("rPC", over, "mPC in % of P" * bool(self._first)),
        ):
            rows = {m: self._by_key.get((metric, m, "", name, at)) for m in models}
            shown = [f"{m} {self._interval(row)}" for m, row in rows.items() if row is not None]
            if shown and what:
                yield name, f"{', '.join(shown)}  ({what})"
        for baseline, model in pairs:
            row = self._by_key.get((metric, model, baseline, statistic, over))
            chosen = " (interval not corrected for choosing the best two)" if ranks is not None else ""
            difference = f"{self._interval(row, signed=True)} {statistic}, {model} minus {baseline}"
            yield "difference", f"{difference}{chosen}"
        if ranks is not None:
            yield "verdict", ranking_verdict(ranks, metric, self._first)
        for verdict in self.verdicts:
            yield "verdict", verdict.headline
        if self.reason:
            yield "intervals", f"none: {self.reason}"

    def _interval(self, row: Row | None, *, signed: bool = False) -> str:
        return (
            "–" if row is None else format_interval(row["estimate"], row["low"], row["high"], signed=signed)
        )

    def record(self, metric: str) -> dict[str, Any]:
        """The same numbers for programs, percent; None for what is absent."""

        def numbers(row: Row | None, *keys: str) -> dict[str, Any] | None:
            if row is None or math.isnan(float(row["estimate"])):
                return None
            return {key: None if pd.isna(row[key]) else row[key] for key in keys}

        over = self._first.name if self._first else ""
        statistics = [("P", "")] + [(s, over) for s in ("mPC", "rPC") if self._first]
        ends, tests = ("estimate", "low", "high"), ("estimate", "low", "high", "p", "p_holm", "significant")
        ranks = self.ranks.get(metric)
        ranked = {} if ranks is None else {r["model"]: r for r in ranks.to_dict("records")}
        by_pair = {(v.baseline, v.model): v for v in self.verdicts}
        return {
            "metric": metric,
            "lower_is_better": lower_is_better(metric),
            "over": [list(cell) for cell in self._first.cells] if self._first else [],
            "level": self.level,
            "reason": self.reason,
            "models": [
                {
                    "model": m,
                    **{s: numbers(self._by_key.get((metric, m, "", s, at)), *ends) for s, at in statistics},
                    **{k: ranked[m][k] for k in ("place", "first", "last") if m in ranked},
                }
                for m in self.models
            ],
            "differences": [
                {
                    "model": m,
                    "baseline": b,
                    **{s: numbers(self._by_key.get((metric, m, b, s, at)), *tests) for s, at in statistics},
                    **(
                        {"outcome": v.outcome, "verdict": v.headline, "details": list(v.details)}
                        if (v := by_pair.get((b, m)))
                        else {}
                    ),
                }
                for b, m in self.pairs
            ],
        }


def _estimate(row: Row | None) -> float | None:
    return None if row is None else float(row["estimate"])


def _align(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The numbers of each column's cells below each other, a star behind them."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    for column in columns[1:]:
        parts = [cell.split() for cell in column]
        for place in range(max(map(len, parts), default=0)):
            own = [one for one in parts if place < len(one)]
            star = any(one[place].endswith("*") for one in own)
            texts = [one[place] if one[place].endswith("*") or not star else f"{one[place]} " for one in own]
            width = max(map(len, texts))
            for one, text in zip(own, texts, strict=True):
                one[place] = f"{text:>{width}}"
        column[:] = [" ".join(one) for one in parts]
    return [list(row) for row in zip(*columns, strict=True)]
