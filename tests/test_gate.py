"""Thresholds: what is parsed, what passes, what a build server gets."""

from xml.etree import ElementTree

import pandas as pd
import pytest

from robustbench_sgdm import gate
from robustbench_sgdm.core.errors import UsageError

NAN = float("nan")


def row(statistic: str, estimate: float, low: float, high: float, **other: object) -> dict[str, object]:
    given: dict[str, object] = {
        "model": "m",
        "baseline": "",
        "over": "fog",
        "corruption": "",
        "severity": NAN,
    }
    given |= {"metric": "AP", "missing": "", "seeds": 1.0, "statistic": statistic, "significant": False}
    return given | {"estimate": estimate, "low": low, "high": high} | other


TABLE = pd.DataFrame(
    [
        row("rPC", 48.0, 45.0, 51.0),
        row("score", 20.0, 18.0, 22.0, over="", corruption="fog", severity=3.0),
        row("score", NAN, NAN, NAN, over="", corruption="fog", severity=5.0, metric="AP_S"),
        row("mPC", NAN, NAN, NAN, missing="m: fog 5", seeds=NAN),
        row("rPC", -2.0, -4.0, 0.5, baseline="b"),
        row(
            "score", -3.0, -5.0, -1.0, baseline="b", over="", corruption="fog", severity=3.0, significant=True
        ),
        row("P", -3.0, NAN, NAN, baseline="b", over=""),
        row("score", -3.0, -5.0, -1.0, baseline="b", over="", metric="AP50", severity=3.0, significant=False),
    ]
)


@pytest.mark.parametrize(
    ("text", "kind", "significant", "passed"),
    [
        ("rPC=48", "fail-under", True, True),
        ("rPC=48.1", "fail-under", True, False),
        ("AP=20", "fail-under", True, True),
        ("mPC=1", "fail-under", True, False),
        ("AP_S=1", "fail-under", True, False),
        ("rPC=1", "max-drop", True, True),
        ("rPC=1", "max-drop", False, False),
        ("rPC=2", "max-drop", False, True),
        ("AP=2.9", "max-drop", True, False),
        ("AP=3", "max-drop", True, True),
        ("AP50=1", "max-drop", True, True),  # its interval is below 0, but it is one cell of many
        ("AP50=1", "max-drop", False, False),
        ("P=1", "max-drop", True, False),  # no interval: unknown
        ("P=3", "max-drop", True, True),
    ],
)
def test_thresholds(text: str, kind: gate.Kind, significant: bool, passed: bool) -> None:
    threshold = gate.parse_threshold(text, kind)
    (result,) = gate.check_thresholds(TABLE, [threshold], significant=significant)
    assert result.passed == passed
    assert gate.parse_threshold(threshold.text, kind) == threshold


def test_what_is_absent_says_what_to_run() -> None:
    (result,) = gate.check_thresholds(TABLE, [gate.parse_threshold("mPC=1", "fail-under")])
    assert result.message == "absent: run m: fog 5"
    frame = pd.DataFrame([row("mPC", NAN, NAN, NAN, missing="m: no box has that confidence (fog 5)")])
    (result,) = gate.check_thresholds(frame, [gate.parse_threshold("mPC=1", "fail-under")])
    assert result.message == "absent: m: no box has that confidence (fog 5)"


def test_errors_have_no_relative_value() -> None:
    with pytest.raises(UsageError, match="have no rPC; write mPC:D-ECE"):
        gate.parse_threshold("rPC:D-ECE=1", "max-drop")


def test_metrics_of_other_sizes() -> None:
    known = ["recall_0-16.5", "AP_1e+03-inf"]
    thresholds = [gate.parse_threshold(f"mPC:{name}=5", "fail-under", "AP", known) for name in known]
    assert [one.metric for one in thresholds] == known
    with pytest.raises(UsageError, match=r"recall_0-16\.5, AP_1e"):
        gate.parse_threshold("recall_S=5", "fail-under", "AP", known)


@pytest.mark.parametrize(
    "text", ["", "rPC", "rPC=", "=5", "foo=1", "rPC:AR1=5", "rPC=nan", "rPC=inf", "P:=1"]
)
def test_what_is_not_a_threshold(text: str) -> None:
    with pytest.raises(UsageError, match="is not a threshold"):
        gate.parse_threshold(text, "fail-under")


def test_a_negative_drop_and_a_threshold_without_a_number() -> None:
    with pytest.raises(UsageError, match="negative"):
        gate.parse_threshold("AP=-1", "max-drop")
    with pytest.raises(UsageError, match="needs a model and a baseline"):
        gate.check_thresholds(TABLE, [gate.parse_threshold("mPC=1", "max-drop")])


def test_a_drop_without_an_interval_says_so() -> None:
    (result,) = gate.check_thresholds(TABLE, [gate.parse_threshold("P=1", "max-drop")])
    assert result.message.startswith("-3.00 (no interval): its significance is unknown; --drops any")


def test_junit_counts_what_it_holds() -> None:
    thresholds = [gate.parse_threshold("rPC=50", "fail-under"), gate.parse_threshold("AP=1", "fail-under")]
    root = ElementTree.fromstring(gate.to_junit(gate.check_thresholds(TABLE, thresholds)))
    (suite,) = root
    assert suite.get("tests") == "2" == str(len(suite)) and suite.get("failures") == "1"
    (failure,) = suite.iter("failure")
    assert failure.get("message") == "48.00 (interval 45.00 to 51.00)"
