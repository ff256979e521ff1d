"""The script behind docs/explanation/evidence.md, on a small part: what it trains, evaluates and writes."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import robustbench_sgdm as rb
from robustbench_sgdm import robustness
from robustbench_sgdm.core import resources
from robustbench_sgdm.detectors import bundled_weights
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
    monkeypatch.setattr(evidence, "SEEDS", (0, 1))
    out = tmp_path / "out"

    def main(*seeds: str) -> str:
        words = ["evidence.py", "--init", str(bundled_weights("yolov8n")), "--out", str(out)]
        monkeypatch.setattr(sys, "argv", [*words, "--seeds", *seeds])
        evidence.main()
        return capsys.readouterr().out

    assert "nothing is compared" in main("0") and not (out / "comparisons.csv").exists()
    assert "missing" not in main("0", "1")
    assert (pd.read_csv(out / "comparisons.csv")["seeds"] == 2).all()
    assert "missing" not in main("0", "1", "2")
    found = pd.read_csv(out / "comparisons.csv")
    assert len(found) == 5 and (found["seeds"] == 3).all()
    assert found["p_holm"].min() == pytest.approx(min(1, 5 * found["p"].min()))
    run = Run.open(out / "noise" / "coco")
    alone = robustness.bootstrap_intervals(run).table(["AP"])
    expected = alone[
        (alone["statistic"] == "mPC") & (alone["baseline"] == "yolov8n") & (alone["family"] == "")
    ]
    assert found["estimate"][0] == pytest.approx(expected["estimate"].iloc[0])
    means = pd.read_csv(out / "means.csv").fillna({"baseline": "", "family": ""})
    assert set(means["evaluation"]) == {"noise", "others"} and set(means["metric"]) == {"AP", "AP_S"}
    pages = resources.import_file(resources.root() / "tools" / "results.py")
    for name, folder in {"ROOT": "", "DATA": "docs/data", "IMAGES": "docs/images"}.items():
        (tmp_path / "checkout" / folder).mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(pages, name, tmp_path / "checkout" / folder)
    pages.write_evidence(out)
    assert pages.comparisons(found).count("| no |") + pages.comparisons(found).count("| yes |") == 5
    drawn = {path.name for path in (tmp_path / "checkout" / "docs" / "images").iterdir()}
    assert drawn == {
        f"evidence_{name}.png" for name in ("comparisons", "mean_curve", "first_failure", "pareto")
    }
    _, reasons = rb.write_leaderboard([tmp_path / "checkout/docs/evidence/noise"], tmp_path / "site")
    assert ["report" in reason for reason in reasons] == [True]
    ranked = pd.read_csv(tmp_path / "site" / "leaderboard.csv").set_index("model")["mPC"]
    whole = means.query("evaluation == 'noise' and family == 'noise' and metric == 'AP' and baseline == ''")
    assert ranked.to_dict() == pytest.approx(whole.set_index("model")["estimate"].to_dict())
