"""The numbers that the SGDM paper prints, and how a recomputed one is compared with them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

Outcome = Literal["equal", "by rule", "differs", "to train", "to measure"]
Quantity = Literal["params", "flops", "time", "ap50", "ap"]


class Judgement(NamedTuple):
    """Whether a printed number is confirmed: the compared value, and the rules or the reason."""

    outcome: Outcome
    value: float | None
    why: str


@dataclass(frozen=True)
class PrintedNumber:
    """One printed number beside the recomputed one.

    Attributes:
        table: number in the paper.
        row: its label there.
        column: module, or "" if the table has none.
        quantity: "params" in millions; "flops" in 1e9, 2 for a multiply-add but 1 in table 6; "time" over the
            baseline's; "ap50", "ap" in percent.
        model: name in the zoo.
        classes: of that model; None for a single module.
        printed: as in the paper.
        value: recomputed, operations counted as in the paper; None for AP, and for a time not measured.
        at_640: operations of the same layers on a true 640 x 640 image; None for other quantities.
        verdict: whether they agree.
    """

    table: int
    row: str
    column: str
    quantity: Quantity
    model: str
    classes: int | None
    printed: float
    value: float | None
    at_640: float | None
    verdict: Judgement


@cache
def paper_data() -> dict[str, Any]:
    """`tables.yaml`: every number that the paper prints, how to recompute it, and remarks on the others."""
    data: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("tables.yaml").read_text("utf-8"))
    return data


def judge_number(value: float, others: Sequence[tuple[str, float]], aim: float, digits: int = 1) -> Judgement:
    """Compare a value with a printed number: rounded, then cut off, then other values by their rules, rounded.

    >>> judge_number(3.343, [], 3.3), judge_number(4.554, [], 4.5).why
    (Judgement(outcome='equal', value=3.343, why=''), 'cut off, not rounded')
    >>> judge_number(2.95, [("BatchNorm folded", 2.9)], 3.5).outcome
    'differs'
    """
    if _is_printed_as(value, aim, digits):
        return Judgement("equal", value, "")
    if _is_printed_as(math.floor(value * 10**digits) / 10**digits, aim, digits):
        return Judgement("by rule", value, "cut off, not rounded")
    for rule, other in others:
        if _is_printed_as(other, aim, digits):
            return Judgement("by rule", other, rule)
    return Judgement("differs", value, "")


def _is_printed_as(value: float, aim: float, digits: int) -> bool:
    return round(abs(round(value, digits) - aim), digits + 1) == 0
