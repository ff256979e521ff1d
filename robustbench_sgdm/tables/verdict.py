"""The verdict on a model and its baseline in words: the only place that turns differences into sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from robustbench_sgdm.robustness import CorruptionSet, lower_is_better
from robustbench_sgdm.store import Run
from robustbench_sgdm.tables.table import format_interval, format_number, format_p_value, humanize

_MAX_NAMES = 3  # corruptions that a sentence names

Outcome = Literal["higher", "lower", "undecided", "identical", "unknown"]

Row = Mapping[Any, Any]


@dataclass(frozen=True)
class Verdict:
    """What a run says about a model and its baseline.

    Attributes:
        baseline, model: names, of models or of groups of trainings.
        outcome: of the mean under corruption, or of the clean score if only clean images were run.
        headline: which model scores higher under corruption, or that no difference could be shown.
        details: the same for families of corruptions, for the retained share of the clean score, and for clean
            images.
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
    corruption_set: CorruptionSet | None,
    same: Mapping[tuple[str, str], str] | None = None,
    *,
    level: float = 0.95,
) -> list[Verdict]:
    """A verdict for each pair, by the column `significant` of the table.

    Args:
        table: of `Intervals.table`.
        pairs: (baseline, model).
        metric: of those rows.
        corruption_set: that means are over; None if only clean images were run.
        same: the pairs with the same outputs, and why; of `robustness.find_identical_pairs`.
        level: of the table's intervals.
    """
    rows = table[(table["metric"] == metric) & (table["statistic"] != "score")]  # cells, most of a table
    sentences = []
    for baseline, model in pairs:
        if why := (same or {}).get((baseline, model)):
            sentences.append(Verdict(baseline, model, "identical", identical_sentence(baseline, model, why)))
        else:
            sentences.append(_Pair(rows, baseline, model, metric, level).verdict(corruption_set))
    return sentences


def identical_sentence(baseline: str, model: str, why: str) -> str:
    """The sentence about a pair with the same outputs.

    >>> identical_sentence("yolov8n", "yolov8n-sgdm", "module untrained")
    'yolov8n-sgdm and yolov8n are identical: module untrained'
    """
    return f"{model} and {baseline} are identical: {why}"


@dataclass(frozen=True, eq=False)
class _Pair:
    """The rows of one metric, and the pair that they compare."""

    rows: pd.DataFrame
    baseline: str
    model: str
    metric: str
    level: float

    def verdict(self, corruption_set: CorruptionSet | None) -> Verdict:
        if corruption_set is None:
            outcome = _outcome(self.difference("P"))
            return Verdict(self.baseline, self.model, outcome, self.clean())
        mean = self.difference("mPC", corruption_set)
        unit = "mPC" if self.metric == "AP" else f"mPC of {self.metric}{self.direction}"
        under = f"under {describe_set(corruption_set)}"
        if mean is None:
            why = f"{self.model} against {self.baseline} {under}: no verdict, because {self.gap(corruption_set)}"
            return Verdict(self.baseline, self.model, "unknown", why)
        outcome, numbers = _outcome(mean), f"{_points(mean)} {unit}, {self.interval(mean)}"
        if outcome == "undecided":
            headline = (
                f"No difference between {self.model} and {self.baseline} could be shown {under}: {numbers}"
            )
        else:
            headline = f"{self.model} scores {outcome} than {self.baseline} {under}: {numbers}"
        details = [*self.families(), *self.share(corruption_set), self.clean()]
        return Verdict(self.baseline, self.model, outcome, headline, details)

    @property
    def direction(self) -> str:
        """Said of a metric where lower is better."""
        return " (lower is better)" if lower_is_better(self.metric) else ""

    def families(self) -> list[str]:
        """A sentence about the families of corruptions with a significant difference."""
        rows = self.rows[(self.rows["model"] == self.model) & (self.rows["baseline"] == self.baseline)]
        rows = rows[(rows["family"] != "") & (rows["statistic"] == "mPC") & rows["estimate"].notna()]
        by_outcome: dict[str, list[str]] = {}
        for row in rows[rows["significant"]].to_dict("records"):
            text = (
                f"{row['family']} ({_points(row)}, {self.interval(row)}, p {format_p_value(row['p_holm'])})"
            )
            by_outcome.setdefault(_outcome(row), []).append(text)
        if not by_outcome or len(rows) < 2:
            return []
        sides = "; ".join(f"{word} under {' and '.join(texts)}" for word, texts in by_outcome.items())
        return [
            f"By family {self.model} scores {sides}; p is corrected by Holm over the {len(rows)} families, "
            "intervals are not"
        ]

    def share(self, corruption_set: CorruptionSet) -> list[str]:
        """A sentence about the retained share of the clean score."""
        row = self.difference("rPC", corruption_set)
        if row is None:
            return []
        own = (self.row(name, "", "rPC", corruption_set) for name in (self.model, self.baseline))
        shares = " against ".join(
            f"{format_number(None if side is None else float(side['estimate']))} %" for side in own
        )
        less = {"higher": "a larger", "lower": "a smaller"}.get(_outcome(row))
        numbers = f"{shares}, {_points(row)} rPC, {self.interval(row)}"
        if less is None:
            return [f"No difference in the retained share of clean {self.metric} could be shown: {numbers}"]
        return [
            f"{self.model} retains {less} share of its clean {self.metric} than {self.baseline}: {numbers}"
        ]

    def clean(self) -> str:
        """A sentence about the clean score."""
        row = self.difference("P")
        if row is None:
            return (
                f"{self.model} against {self.baseline} on clean images: no verdict without its cells and "
                "intervals"
            )
        numbers, outcome = (
            f"{_points(row)} {self.metric}{self.direction}, {self.interval(row)}",
            _outcome(row),
        )
        if outcome == "undecided":
            return f"On clean images no difference could be shown: {numbers}"
        return f"On clean images {self.model} scores {outcome} than {self.baseline}: {numbers}"

    def difference(self, statistic: str, corruption_set: CorruptionSet | None = None) -> Row | None:
        """The row of the pair's difference."""
        return self.row(self.model, self.baseline, statistic, corruption_set)

    def row(
        self, model: str, baseline: str, statistic: str, corruption_set: CorruptionSet | None
    ) -> Row | None:
        """The row of a statistic, or None if it could not be computed."""
        rows = self.rows[self.rows["statistic"] == statistic]
        rows = rows[(rows["model"] == model) & (rows["baseline"] == baseline)]
        if corruption_set is not None:
            rows = rows[rows["over"] == corruption_set.name]
        rows = rows.dropna(subset=["estimate", "low", "high"])
        return None if rows.empty else rows.to_dict("records")[0]

    def gap(self, corruption_set: CorruptionSet) -> str:
        """Why there is no verdict."""
        rows = self.rows[(self.rows["model"] == self.model) & (self.rows["over"] == corruption_set.name)]
        rows = rows[rows["missing"] != ""]
        if len(rows):
            first = rows.iloc[0]
            return f"{'cells are missing' if pd.isna(first['seeds']) else 'a value is absent'} ({first['missing']})"
        return "there is no interval: too few images vary, or only scores are known"

    def interval(self, row: Row) -> str:
        """The interval in words, and what it is over if that is more than images."""
        ends = " to ".join(format_number(float(row[end]), signed=True) for end in ("low", "high"))
        trainings = f" over images and {row['seeds']:g} trainings" if row["seeds"] > 1 else ""
        return f"{100 * self.level:g} % interval {ends}{trainings}"


def _outcome(row: Row | None) -> Outcome:
    if row is None:
        return "unknown"
    if not row["significant"]:
        return "undecided"
    return "higher" if row["estimate"] > 0 else "lower"


def _points(row: Row) -> str:
    return format_number(float(row["estimate"]), signed=True)


def judged_pairs(run: Run) -> list[tuple[str, str]]:
    """The pairs that get a verdict of their own.

    None of three networks and more of which nobody named a baseline: `ranking_verdict` answers for them.
    """
    return [] if len(run.groups) > 2 and run.has_default_baseline else run.baseline_pairs


def score_sentence(means: pd.DataFrame, metric: str, corruption_set: CorruptionSet | None) -> str:
    """What the only network of a run scores; empty if the mean under corruption is not known.

    >>> rows = [("a", "P", 65.4, 62, 68), ("a", "mPC", 20.2, 18, 22), ("a", "rPC", 30.887, 28, 34)]
    >>> means = pd.DataFrame(rows, columns=["model", "statistic", "estimate", "low", "high"])
    >>> score_sentence(means, "AP", CorruptionSet.from_product(["fog"]))
    'a has a mean AP of 20.20 [18.00, 22.00] under fog, 30.89 % of its 65.40 on clean images'
    >>> score_sentence(means[:1], "AP", None)
    'a has an AP of 65.40 [62.00, 68.00] on clean images'
    """
    known = {str(row["statistic"]): row for row in means.dropna(subset="estimate").to_dict("records")}
    if ("P" if corruption_set is None else "mPC") not in known:
        return ""
    shown = {name: format_interval(row["estimate"], row["low"], row["high"]) for name, row in known.items()}
    model = means["model"].iloc[0]
    if corruption_set is None:
        return f"{model} has an {metric} of {shown['P']} on clean images"
    text = f"{model} has a mean {metric} of {shown['mPC']} under {describe_set(corruption_set)}"
    if {"P", "rPC"} <= known.keys():
        share, clean = (format_number(known[name]["estimate"]) for name in ("rPC", "P"))
        text += f", {share} % of its {clean} on clean images"
    return text


def describe_set(corruption_set: CorruptionSet) -> str:
    """A set of corruptions, for a sentence.

    >>> describe_set(CorruptionSet.from_product(["gaussian_noise"]))
    'gaussian noise'
    >>> describe_set(CorruptionSet.from_product(["fog", "snow"], [1, 3]))
    'fog and snow at severities 1, 3'
    """
    if not corruption_set.name:
        return "the benchmark's 15 corruptions"
    names = list(map(humanize, corruption_set.corruptions))
    text = f"{len(names)} corruptions"
    if len(names) <= _MAX_NAMES:
        text = " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
    return f"{text} {corruption_set.severity_text}".strip()


def ranking_verdict(ranks: pd.DataFrame, metric: str, corruption_set: CorruptionSet | None) -> str:
    """Which networks may be first, by `robustness.rank_networks`.

    >>> ranks = pd.DataFrame({"model": ["a", "b", "c"], "first": [1, 1, 3], "last": [2, 2, 3]})
    >>> ranking_verdict(ranks, "AP", None)
    'Any of a and b may be first of 3 on clean images: in AP no other is significantly better'
    """
    under = "on clean images" if corruption_set is None else f"under {describe_set(corruption_set)}"
    unit = metric if corruption_set is None else "mPC" if metric == "AP" else f"mPC of {metric}"
    count, leaders = len(ranks), ranks.loc[ranks["first"] == 1, "model"].tolist()
    if (ranks["last"] == 1).any():
        return f"{leaders[0]} is first of {count} {under}: significantly better in {unit} than each of the others"
    if len(leaders) == count:
        return f"Any of the {count} models may be first {under}: in {unit} none is significantly better"
    if len(leaders) > _MAX_NAMES:
        leaders = [*leaders[: _MAX_NAMES - 1], f"{len(leaders) - _MAX_NAMES + 1} others"]
    names = " and ".join([*[", ".join(leaders[:-1])] * (len(leaders) > 1), leaders[-1]])
    return f"Any of {names} may be first of {count} {under}: in {unit} no other is significantly better"
