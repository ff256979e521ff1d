"""Thresholds on a comparison, for continuous integration: `rPC=50`, `AP_S=1.0`."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from xml.etree import ElementTree

import pandas as pd

from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.core.escaping import xml
from robustbench_sgdm.robustness import MEASURES, METRICS, lower_is_better
from robustbench_sgdm.tables import format_number, humanize

EXIT_CODE = 3
"""The exit code of a command with a failed threshold."""

Kind = Literal["fail-under", "max-drop"]

_MEANS = ("P", "mPC", "rPC")
_PATTERN = re.compile(r"(?:(P|mPC|rPC)(?::([\w.+-]+))?|([\w.+-]+))\s*=\s*(.+)")


@dataclass(frozen=True)
class Threshold:
    """A bound on one number of every model or every pair.

    Attributes:
        kind: `fail-under`, the lowest value of a model; `max-drop`, how much worse a model may be than its baseline.
        statistic: P, mPC, rPC, or score for the score of each cell.
        metric: of METRICS or MEASURES, or of other sizes.
        value: in points, percent for rPC.
    """

    kind: Kind
    statistic: str
    metric: str
    value: float

    @property
    def text(self) -> str:
        """As on the command line: `rPC:AP_S=50`."""
        name = self.metric if self.statistic == "score" else f"{self.statistic}:{self.metric}"
        return f"{name}={self.value:g}"


@dataclass(frozen=True)
class ThresholdResult:
    """Whether one number passed a threshold.

    Attributes:
        threshold: that was checked.
        subject: whose number, and over what.
        passed: whether it did.
        message: the number, or what is missing.
        over: the set of corruptions of a mean.
    """

    threshold: Threshold
    subject: str
    passed: bool
    message: str
    over: str = ""


def parse_threshold(
    text: str, kind: Kind, metric: str = "AP", metrics: Sequence[str] = (*METRICS, *MEASURES)
) -> Threshold:
    """Parse `rPC=50`, `mPC:AP_S=10` or `AP_S=1.0`.

    Args:
        text: a mean (P, mPC, rPC), with or without a metric; or only a metric, for the score of each cell.
        kind: of threshold.
        metric: of a mean without one.
        metrics: that are known.

    Raises:
        UsageError: another form, an unknown metric or not a finite number.
    """
    match = _PATTERN.fullmatch(text.strip())
    known = {one.lower(): one for one in metrics}
    name = known.get((match[2] or match[3] or metric).lower(), "") if match else ""
    try:
        value = float(match[4]) if match else float("nan")
    except ValueError:
        value = float("nan")
    if match is None or not name or not abs(value) < float("inf"):
        raise UsageError(
            f"--{kind} {text!r} is not a threshold: write a mean ({', '.join(_MEANS)}; rPC:AP_S for a metric other than "
            f"{metric}) or a metric ({', '.join(known.values())}), '=' and a number, for example rPC=50"
        )
    if kind == "fail-under" and lower_is_better(name):
        raise UsageError(f"--fail-under {text!r}: {name} measures errors, so lower is better; use --max-drop")
    if match[1] == "rPC" and lower_is_better(name):
        raise UsageError(
            f"--{kind} {text!r}: {name} measures errors, which have no rPC; write mPC:{name} instead"
        )
    if kind == "max-drop" and value < 0:
        raise UsageError(f"--max-drop {text!r} is negative: write a drop as a positive number of points")
    return Threshold(kind, match[1] or "score", name, value)


def check_thresholds(
    table: pd.DataFrame, thresholds: Sequence[Threshold], *, significant: bool = True
) -> list[ThresholdResult]:
    """Check thresholds against a comparison.

    Args:
        table: of `Intervals.table`, with the thresholds' metrics.
        thresholds: each is checked for every model or pair, and for every set of corruptions or cell.
        significant: a drop fails only if it is significant.

    Returns:
        A result for each number. An absent number fails, and so does a drop without an interval.

    Raises:
        UsageError: a threshold without any number to check, such as a drop without a pair.
    """
    results = []
    for threshold in thresholds:
        pairs = table["baseline"] != ""
        rows = table[pairs if threshold.kind == "max-drop" else ~pairs]
        rows = rows[(rows["statistic"] == threshold.statistic) & (rows["metric"] == threshold.metric)]
        if rows.empty:
            need = "a model and a baseline" if threshold.kind == "max-drop" else "a corrupted cell"
            raise UsageError(f"--{threshold.kind} {threshold.text} has nothing to check: it needs {need}")
        results += [_check(threshold, row, significant) for row in rows.to_dict("records")]
    return results


def summarize_results(results: Sequence[ThresholdResult]) -> list[str]:
    """A line for each threshold: how many numbers passed, and the sets of corruptions that they are means over.

    >>> threshold = Threshold("fail-under", "rPC", "AP", 10)
    >>> summarize_results([ThresholdResult(threshold, "m, rPC over fog at 1, 3", True, "40.00", "fog at 1, 3")])
    ['--fail-under rPC:AP=10 passed by 1 of 1, over: fog at 1, 3']
    """
    lines = []
    for threshold in dict.fromkeys(result.threshold for result in results):
        own = [result for result in results if result.threshold == threshold]
        over = "; ".join(dict.fromkeys(result.over for result in own if result.over))
        passed = sum(result.passed for result in own)
        line = f"--{threshold.kind} {threshold.text} passed by {passed} of {len(own)}"
        lines.append(f"{line}, over: {over}" if over else line)
    return lines


def _check(threshold: Threshold, row: Mapping[Any, Any], significant: bool) -> ThresholdResult:
    model = str(row["model"]) + (f" against {row['baseline']}" if row["baseline"] else "")
    statistic = threshold.metric if threshold.statistic == "score" else threshold.statistic
    subject, over = f"{model}, {statistic}{_where(row)}", _set_name(row)
    estimate, low, high = (float(row[k]) for k in ("estimate", "low", "high"))
    if math.isnan(estimate):
        remedy = "run " if math.isnan(row["seeds"]) else ""  # without cells nothing was inferred
        reason = row["missing"] or "no such object in the data"
        return ThresholdResult(threshold, subject, False, f"absent: {remedy}{reason}", over)
    value, *ends = (format_number(number, signed=bool(row["baseline"])) for number in (estimate, low, high))
    has_interval = not math.isnan(low)
    message = f"{value} (interval {' to '.join(ends)})" if has_interval else f"{value} (no interval)"
    if threshold.kind == "fail-under":
        return ThresholdResult(threshold, subject, estimate >= threshold.value, message, over)
    # A drop without an interval may be chance or not: it fails, because a gate must not pass what it does not know.
    worse = estimate if lower_is_better(threshold.metric) else -estimate
    failed = worse > threshold.value and (row["significant"] or not has_interval or not significant)
    if failed and significant and not has_interval:
        message += ": its significance is unknown; --drops any does not need it"
    return ThresholdResult(threshold, subject, not failed, message, over)


def _where(row: Mapping[Any, Any]) -> str:
    if row["statistic"] == "score":
        return f" under {humanize(row['corruption'])} at {row['severity']:g}"
    return f" over {humanize(row['over'])}" if row["over"] else ""


def _set_name(row: Mapping[Any, Any]) -> str:
    if row["statistic"] not in ("mPC", "rPC"):
        return ""
    return humanize(row["over"]) or "the benchmark's 15 corruptions"


def to_junit(results: Sequence[ThresholdResult]) -> str:
    """The results as JUnit XML, a test case each."""
    failures = sum(not result.passed for result in results)
    counts = {"tests": str(len(results)), "failures": str(failures), "errors": "0"}
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": "robustbench compare", **counts})
    for result in results:
        threshold, message = result.threshold, xml(result.message)
        name = xml(f"{threshold.kind} {threshold.text}: {result.subject}")
        case = ElementTree.SubElement(suite, "testcase", {"classname": threshold.kind, "name": name})
        if result.passed:
            ElementTree.SubElement(case, "system-out").text = message
        else:
            ElementTree.SubElement(case, "failure", {"message": message}).text = f"{name}: {message}"
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
