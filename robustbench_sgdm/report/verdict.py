"""The verdict of a run in words, which come from its intervals alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustbench_sgdm.figures import Material, words
from robustbench_sgdm.robustness import SIGNIFICANT, Over, holm
from robustbench_sgdm.tables import number, p_text

_FEW = 3  # corruptions that a sentence names


@dataclass(frozen=True)
class Verdict:
    """What a run says about a model and its baseline.

    Attributes:
        headline: which scores higher under corruption, or that no difference could be shown.
        details: families of corruptions that differ, in either direction; then the same of the share of the clean
            score that is kept, and of clean images.
    """

    headline: str
    details: Sequence[str]


def verdicts(material: Material) -> list[Verdict]:
    """One for each pair of the run.

    A difference counts as shown where its 95 % percentile interval over resampled images leaves out zero.

    Raises:
        DataError: intervals cannot be made.
    """
    frame = material.intervals
    rows = frame[frame["metric"] == material.score]
    return [_verdict(rows, baseline, model, material) for baseline, model in material.run.pairs]


def _verdict(rows: pd.DataFrame, baseline: str, model: str, material: Material) -> Verdict:
    clean = _row(rows, baseline, model, "P")
    if not material.sets:
        return Verdict(_clean(clean, material.score, baseline, model), [])
    over = material.whole
    mean, share = (_row(rows, baseline, model, statistic, over) for statistic in ("mPC", "rPC"))
    unit = "mPC" if material.score == "AP" else f"mPC of {material.score}"
    under = f"under {named(over)}"
    if mean is None:
        return Verdict(
            f"{model} against {baseline} {under}: nothing can be said, since {_lack(rows, model, over)}", []
        )
    word = _direction(mean)
    told = f"{_points(mean)} {unit}, {_interval(mean)}"
    if word is None:
        headline = f"No difference between {model} and {baseline} could be shown {under}: {told}"
    else:
        headline = f"{model} scores {word} than {baseline} {under}: {told}"
    details = _families(rows, baseline, model, material)
    if share is not None:
        kept = [_own(rows, name, "rPC", over) for name in (model, baseline)]
        shares = f"{number(kept[0])} % against {number(kept[1])} %"
        less = {"higher": "a larger", "lower": "a smaller"}.get(_direction(share) or "")
        told = f"{_points(share)} rPC, {_interval(share)}"
        details.append(
            f"{model} keeps {less} share of its clean {material.score} than {baseline}: {shares}, {told}"
            if less
            else f"No difference in the share of clean {material.score} that is kept could be shown: {shares}, {told}"
        )
    if clean is not None:
        details.append(_clean(clean, material.score, baseline, model))
    return Verdict(headline, details)


def _families(rows: pd.DataFrame, baseline: str, model: str, material: Material) -> list[str]:
    """A sentence of the families whose difference is shown, p corrected by Holm over all families."""
    found = {
        family: row
        for over, family in material.sets.items()
        if family and (row := _row(rows, baseline, model, "mPC", over)) is not None
    }
    if len(found) < 2:
        return []
    p = holm(np.array([float(row["p"]) for row in found.values()]))
    told: dict[str, list[str]] = {}
    for (family, row), corrected in zip(found.items(), p, strict=True):
        word = _direction(row)
        if word and corrected < SIGNIFICANT:
            text = f"{family} ({_points(row)}, {_interval(row)}, p {p_text(corrected)})"
            told.setdefault(word, []).append(text)
    if not told:
        return []
    sides = "; ".join(f"{word} under {' and '.join(texts)}" for word, texts in told.items())
    return [
        f"By family {model} scores {sides}; p is corrected by Holm over the {len(found)} families, intervals are not"
    ]


def _clean(row: "pd.Series[float] | None", metric: str, baseline: str, model: str) -> str:
    if row is None:
        return (
            f"{model} against {baseline} on clean images: nothing can be said without its cells and intervals"
        )
    told, word = f"{_points(row)} {metric}, {_interval(row)}", _direction(row)
    if word is None:
        return f"On clean images no difference could be shown: {told}"
    return f"On clean images {model} scores {word} than {baseline}: {told}"


def _row(
    rows: pd.DataFrame, baseline: str, model: str, statistic: str, over: Over | None = None
) -> "pd.Series[float] | None":
    """A statistic's row, or None where it could not be computed."""
    chosen = rows[
        (rows["model"] == model) & (rows["baseline"] == baseline) & (rows["statistic"] == statistic)
    ]
    if over is not None:
        chosen = chosen[chosen["over"] == over.name]
    chosen = chosen.dropna(subset=["estimate", "low", "high"])
    return None if chosen.empty else chosen.iloc[0]


def _own(rows: pd.DataFrame, model: str, statistic: str, over: Over) -> float | None:
    row = _row(rows, "", model, statistic, over)
    return None if row is None else float(row["estimate"])


def _lack(rows: pd.DataFrame, model: str, over: Over) -> str:
    chosen = rows[(rows["model"] == model) & (rows["over"] == over.name) & (rows["missing"] != "")]
    if len(chosen):
        return f"cells are missing ({chosen['missing'].iloc[0]})"
    return "there is no interval: too few images vary, or scores alone are known"


def _direction(row: "pd.Series[float]") -> str | None:
    """`higher` or `lower` where the interval leaves out zero."""
    if row["low"] > 0:
        return "higher"
    return "lower" if row["high"] < 0 else None


def _points(row: "pd.Series[float]") -> str:
    return number(float(row["estimate"]), signed=True)


def _interval(row: "pd.Series[float]") -> str:
    return (
        f"95 % interval {number(float(row['low']), signed=True)} to {number(float(row['high']), signed=True)}"
    )


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
