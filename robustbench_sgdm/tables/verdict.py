"""The verdict on a model and its baseline in words: the one place that makes sentences of differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from robustbench_sgdm.robustness import Over
from robustbench_sgdm.tables.table import number, p_text, words

_FEW = 3  # corruptions that a sentence names

Outcome = Literal["higher", "lower", "undecided", "identical", "unknown"]

Row = Mapping[Any, Any]


@dataclass(frozen=True)
class Verdict:
    """What a run says about a model and its baseline.

    Attributes:
        baseline, model: names, of models or of groups of trainings.
        outcome: of the mean under corruption, or of the clean score where nothing else was run.
        headline: which scores higher under corruption, or that no difference could be shown.
        details: families of corruptions that differ, in either direction; then the same of the share of the clean
            score that is kept, and of clean images.
    """

    baseline: str
    model: str
    outcome: Outcome
    headline: str
    details: Sequence[str] = ()


def verdicts(
    table: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    metric: str,
    over: Over | None,
    same: Mapping[tuple[str, str], str] | None = None,
    *,
    level: float = 0.95,
) -> list[Verdict]:
    """One for each pair; a difference counts as shown where the table's column `significant` says so.

    Args:
        table: of `Intervals.table`.
        pairs: (baseline, model).
        metric: of those rows.
        over: the set of corruptions; None where only clean images were run.
        same: the pairs that are identical, and why; of `robustness.identical`.
        level: of the table's intervals.
    """
    rows = table[table["metric"] == metric]
    found = []
    for baseline, model in pairs:
        if why := (same or {}).get((baseline, model)):
            found.append(Verdict(baseline, model, "identical", identical_words(baseline, model, why)))
        else:
            found.append(_Pair(rows, baseline, model, metric, level).verdict(over))
    return found


def identical_words(baseline: str, model: str, why: str) -> str:
    """What every result of a pair that puts out the same is called.

    >>> identical_words("yolov8n", "yolov8n-sgdm", "module untrained")
    'yolov8n-sgdm and yolov8n are identical: module untrained'
    """
    return f"{model} and {baseline} are identical: {why}"


@dataclass(frozen=True, eq=False)
class _Pair:
    """The rows of one metric, and whom they compare."""

    rows: pd.DataFrame
    baseline: str
    model: str
    metric: str
    level: float

    def verdict(self, over: Over | None) -> Verdict:
        if over is None:
            outcome = _outcome(self.difference("P"))
            return Verdict(self.baseline, self.model, outcome, self.clean())
        mean = self.difference("mPC", over)
        unit = "mPC" if self.metric == "AP" else f"mPC of {self.metric}"
        under = f"under {named(over)}"
        if mean is None:
            why = (
                f"{self.model} against {self.baseline} {under}: nothing can be said, since {self.lack(over)}"
            )
            return Verdict(self.baseline, self.model, "unknown", why)
        outcome, told = _outcome(mean), f"{_points(mean)} {unit}, {self.interval(mean)}"
        if outcome == "undecided":
            headline = (
                f"No difference between {self.model} and {self.baseline} could be shown {under}: {told}"
            )
        else:
            headline = f"{self.model} scores {outcome} than {self.baseline} {under}: {told}"
        details = [*self.families(), *self.share(over), self.clean()]
        return Verdict(self.baseline, self.model, outcome, headline, details)

    def families(self) -> list[str]:
        """A sentence of the families of corruptions whose difference is shown."""
        found = self.rows[(self.rows["model"] == self.model) & (self.rows["baseline"] == self.baseline)]
        found = found[(found["family"] != "") & (found["statistic"] == "mPC") & found["estimate"].notna()]
        told: dict[str, list[str]] = {}
        for row in found[found["significant"]].to_dict("records"):
            text = f"{row['family']} ({_points(row)}, {self.interval(row)}, p {p_text(row['p_holm'])})"
            told.setdefault(_outcome(row), []).append(text)
        if not told or len(found) < 2:
            return []
        sides = "; ".join(f"{word} under {' and '.join(texts)}" for word, texts in told.items())
        return [
            f"By family {self.model} scores {sides}; p is corrected by Holm over the {len(found)} families, "
            "intervals are not"
        ]

    def share(self, over: Over) -> list[str]:
        """A sentence of the share of the clean score that is kept."""
        row = self.difference("rPC", over)
        if row is None:
            return []
        own = (self.row(name, "", "rPC", over) for name in (self.model, self.baseline))
        shares = " against ".join(
            f"{number(None if side is None else float(side['estimate']))} %" for side in own
        )
        less = {"higher": "a larger", "lower": "a smaller"}.get(_outcome(row))
        told = f"{shares}, {_points(row)} rPC, {self.interval(row)}"
        if less is None:
            return [f"No difference in the share of clean {self.metric} that is kept could be shown: {told}"]
        return [f"{self.model} keeps {less} share of its clean {self.metric} than {self.baseline}: {told}"]

    def clean(self) -> str:
        """A sentence of the clean score."""
        row = self.difference("P")
        if row is None:
            return (
                f"{self.model} against {self.baseline} on clean images: nothing can be said without its cells and "
                "intervals"
            )
        told, outcome = f"{_points(row)} {self.metric}, {self.interval(row)}", _outcome(row)
        if outcome == "undecided":
            return f"On clean images no difference could be shown: {told}"
        return f"On clean images {self.model} scores {outcome} than {self.baseline}: {told}"

    def difference(self, statistic: str, over: Over | None = None) -> Row | None:
        """Of the pair."""
        return self.row(self.model, self.baseline, statistic, over)

    def row(self, model: str, baseline: str, statistic: str, over: Over | None) -> Row | None:
        """A statistic's row, or None where it could not be computed."""
        keys = {"model": model, "baseline": baseline, "statistic": statistic}
        keys |= {} if over is None else {"over": over.name}
        found = self.rows[(self.rows[list(keys)] == pd.Series(keys)).all(axis=1)]
        found = found.dropna(subset=["estimate", "low", "high"])
        return None if found.empty else found.to_dict("records")[0]

    def lack(self, over: Over) -> str:
        """Why nothing can be said."""
        found = self.rows[(self.rows["model"] == self.model) & (self.rows["over"] == over.name)]
        found = found[found["missing"] != ""]
        if len(found):
            return f"cells are missing ({found['missing'].iloc[0]})"
        return "there is no interval: too few images vary, or scores alone are known"

    def interval(self, row: Row) -> str:
        """In words, and what it is over where that is more than images."""
        ends = " to ".join(number(float(row[end]), signed=True) for end in ("low", "high"))
        trainings = f" over images and {row['seeds']:g} trainings" if row["seeds"] > 1 else ""
        return f"{100 * self.level:g} % interval {ends}{trainings}"


def _outcome(row: Row | None) -> Outcome:
    if row is None:
        return "unknown"
    if not row["significant"]:
        return "undecided"
    return "higher" if row["estimate"] > 0 else "lower"


def _points(row: Row) -> str:
    return number(float(row["estimate"]), signed=True)


def named(over: Over) -> str:
    """A set of corruptions as a sentence names it.

    >>> named(Over.of(["gaussian_noise"])), named(Over.of(["fog", "snow"], [1, 3]))
    ('gaussian noise', 'fog and snow at severities 1, 3')
    """
    if not over.name:
        return "the benchmark's 15 corruptions"
    names = list(map(words, over.corruptions))
    text = f"{len(names)} corruptions"
    if len(names) <= _FEW:
        text = " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
    return f"{text} {over.at}".strip()
