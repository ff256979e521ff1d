"""Limits on a comparison as verdicts, for continuous integration: `rPC=50`, `AP_S=1.0`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from xml.etree import ElementTree

import pandas as pd

from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.core.escaping import xml
from robustbench_sgdm.robustness import METRICS
from robustbench_sgdm.tables import number, words

EXIT_CODE = 3
"""Of a command whose limits were not kept."""

Kind = Literal["fail-under", "max-drop"]

_MEANS = ("P", "mPC", "rPC")
_FORM = re.compile(r"(?:(P|mPC|rPC)(?::(\w+))?|(\w+))\s*=\s*(.+)")


@dataclass(frozen=True)
class Limit:
    """A bound on one number of every model or every pair.

    Attributes:
        kind: `fail-under`, the least value of a model; `max-drop`, the most that a model may lie below its baseline.
        statistic: P, mPC, rPC, or score for that of each single cell.
        metric: of METRICS.
        value: in points, percent for rPC.
    """

    kind: Kind
    statistic: str
    metric: str
    value: float

    @property
    def text(self) -> str:
        """As it is given: `rPC:AP_S=50`."""
        name = self.metric if self.statistic == "score" else f"{self.statistic}:{self.metric}"
        return f"{name}={self.value:g}"


@dataclass(frozen=True)
class Verdict:
    """Whether one limit was kept by one number; `message` has the number, or what it lacks; `over`, a mean's set."""

    limit: Limit
    subject: str
    kept: bool
    message: str
    over: str = ""


def parse(text: str, kind: Kind, metric: str = "AP") -> Limit:
    """Read `rPC=50`, `mPC:AP_S=10` or `AP_S=1.0`.

    Args:
        text: a mean (P, mPC, rPC), with a metric or of `metric`; or a metric alone, for the score of each cell.
        kind: of limit.
        metric: of a mean without one.

    Raises:
        UsageError: another form, an unknown metric or no finite number.
    """
    found = _FORM.fullmatch(text.strip())
    name = (found[2] or found[3] or metric) if found else ""
    try:
        value = float(found[4]) if found else float("nan")
    except ValueError:
        value = float("nan")
    if found is None or name not in METRICS or not abs(value) < float("inf"):
        raise UsageError(
            f"--{kind} {text!r} is no limit: write a mean ({', '.join(_MEANS)}; rPC:AP_S for another metric than "
            f"{metric}) or a metric ({', '.join(METRICS)}), '=' and a number, for example rPC=50"
        )
    if kind == "max-drop" and value < 0:
        raise UsageError(f"--max-drop {text!r} is negative: a drop is given as a positive number of points")
    return Limit(kind, found[1] or "score", name, value)


def check(table: pd.DataFrame, limits: Sequence[Limit], *, significant: bool = True) -> list[Verdict]:
    """Hold limits against a comparison.

    Args:
        table: of `Intervals.table`, for the limits' metrics; its column `significant` decides.
        limits: every one is held against every model or pair and every set or cell it speaks of.
        significant: count a drop only where it is significant.

    Returns:
        A verdict for each number. What is absent keeps no limit, nor does a drop that has no interval: nobody
        knows.

    Raises:
        UsageError: a limit that no number belongs to, such as a drop where there is no pair.
    """
    verdicts = []
    for limit in limits:
        pairs = table["baseline"] != ""
        rows = table[pairs if limit.kind == "max-drop" else ~pairs]
        rows = rows[(rows["statistic"] == limit.statistic) & (rows["metric"] == limit.metric)]
        if rows.empty:
            need = "a model and a baseline" if limit.kind == "max-drop" else "a corrupted cell"
            raise UsageError(f"--{limit.kind} {limit.text} has nothing to hold for: it needs {need}")
        verdicts += [_verdict(limit, row, significant) for row in rows.to_dict("records")]
    return verdicts


def told(verdicts: Sequence[Verdict]) -> list[str]:
    """A line for each limit: how many numbers kept it, and which sets of corruptions they are means over.

    >>> limit = Limit("fail-under", "rPC", "AP", 10)
    >>> told([Verdict(limit, "m, rPC over fog at 1, 3", True, "40.00", "fog at 1, 3")])
    ['--fail-under rPC:AP=10 kept by 1 of 1, over: fog at 1, 3']
    """
    lines = []
    for limit in dict.fromkeys(v.limit for v in verdicts):
        own = [v for v in verdicts if v.limit == limit]
        over = "; ".join(dict.fromkeys(v.over for v in own if v.over))
        kept = f"--{limit.kind} {limit.text} kept by {sum(v.kept for v in own)} of {len(own)}"
        lines.append(f"{kept}, over: {over}" if over else kept)
    return lines


def _verdict(limit: Limit, row: Mapping[Any, Any], significant: bool) -> Verdict:
    subject = str(row["model"]) + (f" against {row['baseline']}" if row["baseline"] else "")
    where = _where(row)
    over = _set(row)
    estimate, low, high = (float(row[k]) for k in ("estimate", "low", "high"))
    what = f"{subject}, {limit.statistic if limit.statistic != 'score' else limit.metric}{where}"
    if estimate != estimate:
        lacks = f": run {row['missing']}" if row["missing"] else ": the data hold no such object"
        return Verdict(limit, what, False, f"absent{lacks}", over)
    shown, *ends = (number(value, signed=bool(row["baseline"])) for value in (estimate, low, high))
    told = low == low
    message = f"{shown} (interval {' to '.join(ends)})" if told else f"{shown} (no interval)"
    if limit.kind == "fail-under":
        return Verdict(limit, what, estimate >= limit.value, message, over)
    dropped = estimate < -limit.value and (row["significant"] or not told or not significant)
    if dropped and significant and not told:
        message += ": whether it is chance cannot be told; --drops any asks for no proof"
    return Verdict(limit, what, not dropped, message, over)


def _where(row: Mapping[Any, Any]) -> str:
    if row["statistic"] == "score":
        return f" under {words(row['corruption'])} at {row['severity']:g}"
    return f" over {words(row['over'])}" if row["over"] else ""


def _set(row: Mapping[Any, Any]) -> str:
    if row["statistic"] not in ("mPC", "rPC"):
        return ""
    return words(row["over"]) or "the benchmark's 15 corruptions"


def junit(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as JUnit XML, a test case each, which every build server reads."""
    broken = [v for v in verdicts if not v.kept]
    counts = {"tests": str(len(verdicts)), "failures": str(len(broken)), "errors": "0"}
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": "robustbench compare", **counts})
    for v in verdicts:
        name, message = xml(f"{v.limit.kind} {v.limit.text}: {v.subject}"), xml(v.message)
        case = ElementTree.SubElement(suite, "testcase", {"classname": v.limit.kind, "name": name})
        if v.kept:
            ElementTree.SubElement(case, "system-out").text = message
        else:
            ElementTree.SubElement(case, "failure", {"message": message}).text = f"{name}: {message}"
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
