"""The script behind docs/explanation/evidence.md, on a small part: what it trains, evaluates and writes."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from robustbench_sgdm import robustness
from robustbench_sgdm.core import resources
from robustbench_sgdm.detectors import bundled_weights
from robustbench_sgdm.robustness.significance import holm
from robustbench_sgdm.store import Run
from robustbench_sgdm.training.data import TrainingData

evidence: Any = resources.import_file(resources.root() / "benchmarks" / "evidence.py")


def test_the_design_compares_ten_pairs_of_its_arms() -> None:
    arms = {(group.name, model) for group in evidence.GROUPS for model in group.models}
    assert len(arms) == 11 and len(set(evidence.COMPARISONS)) == 10
    assert {arm for pair in evidence.COMPARISONS for arm in pair} == arms


@pytest.mark.slow
def test_a_small_part_of_it(
    tmp_path: Path,
    boxes: Callable[[Path], TrainingData],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = {"data": boxes(tmp_path / "data"), "imgsz": 64, "epochs": 1, "batch": 4, "fraction": 1.0}
    monkeypatch.setattr(evidence, "RECIPE", evidence.RECIPE | small)
    few = [replace(g, models=g.models[:2], settings={**g.settings, "epochs": 1}) for g in evidence.GROUPS]
    monkeypatch.setattr(evidence, "GROUPS", few)
    arms = {(group.name, model) for group in few for model in group.models}
    monkeypatch.setattr(evidence, "COMPARISONS", [p for p in evidence.COMPARISONS if set(p) <= arms])
    images = {"data": str(tmp_path / "data" / "val.json")}
    evaluations = {
        "noise": {"noise": ("noise",), **images},
        "others": {"noise": ("fog", "ringing"), **images},
    }
    monkeypatch.setattr(evidence, "EVALUATIONS", evaluations)
    monkeypatch.setattr(evidence, "SEVERITIES", (0, 1))
    words = ["evidence.py", "--init", str(bundled_weights("yolov8n")), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [*words, "--seeds", "0", "1"])
    evidence.main()
    assert "missing" not in capsys.readouterr().out
    found = pd.read_csv(tmp_path / "out" / "comparisons.csv")
    assert len(found) == 5 and (found["seeds"] == 2).all()
    assert found["p_holm"].tolist() == pytest.approx(holm(found["p"].to_numpy()).tolist(), nan_ok=True)
    run = Run.open(tmp_path / "out" / "noise" / "modules")
    alone = robustness.bootstrap_intervals(run).table(["AP"])
    expected = alone[
        (alone["statistic"] == "mPC") & (alone["baseline"] == "yolov8n") & (alone["family"] == "")
    ]
    assert found["estimate"][0] == pytest.approx(expected["estimate"].iloc[0])
    means = pd.read_csv(tmp_path / "out" / "means.csv", keep_default_na=False)
    assert set(means["evaluation"]) == {"noise", "others"} and set(means["metric"]) == {"AP", "AP_S"}
