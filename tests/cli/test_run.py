"""The main job on the embedded default: the module, its baseline, a resumed run, other people's checkpoints."""

import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from robustbench_sgdm import cli
from robustbench_sgdm.detectors import embedded
from robustbench_sgdm.store import Run


def robustbench(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["robustbench", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


SHORT = ("--fraction", "0.05", "--severity", "0,3")


def test_the_main_job(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("run", "--model", "yolov8n-sgdm", "--noise", "gaussian", *SHORT)
    robustbench(monkeypatch, *words)
    first = capsys.readouterr()
    assert "4 cells, 13 images; 0 cells stored, 52 predictions to make" in first.err
    run = Run.open(Path("runs/robustness/yolov8n-sgdm_gaussian_scenes-0.05"))
    frame = pd.read_csv(run.path / "results.csv")
    assert frame["model"].tolist() == ["yolov8n", "yolov8n", "yolov8n-sgdm", "yolov8n-sgdm"]
    assert (frame["AP"][[0, 2]] > frame["AP"][[1, 3]].to_numpy()).all() and (frame["AP"] > 0).all()
    for value in frame["AP"]:
        assert f"{value:.2f}" in first.out
    assert (run.path / "report.html").is_file() and run.plan["models"]["yolov8n-sgdm"]["imgsz"] == 320
    robustbench(monkeypatch, *words)
    second = capsys.readouterr()
    assert "4 cells stored, 0 predictions to make" in second.err and second.out == first.out
    robustbench(monkeypatch, "list", "runs")
    assert "complete" in capsys.readouterr().out


def test_a_checkpoint_without_baseline(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = embedded("yolov8n-sgdm")
    assert path
    shutil.copy(path, "mine.safetensors")
    robustbench(monkeypatch, "run", "--model", "mine.safetensors", "--imgsz", "320", *SHORT, "--name", "mine")
    frame = pd.read_csv("runs/robustness/mine/results.csv")
    assert frame["model"].unique().tolist() == ["mine"]
    robustbench(monkeypatch, "run", "--model", "yolov8n-sgdm", "--no-baseline", *SHORT, "--name", "mine")
    assert "mine holds another plan, so this run goes to" in capsys.readouterr().err
    same = pd.read_csv("runs/robustness/mine2/results.csv")
    assert same["AP"].tolist() == frame["AP"].tolist() and same["key"].tolist() == frame["key"].tolist()


def test_the_lists(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for words, expected in (
        (("list", "corruptions"), ("gaussian_noise", "ringing", "benchmark")),
        (("list", "data"), ("scenes", "coco")),
        (("checks",), ("torch", "ultralytics", "nothing is missing")),
    ):
        robustbench(monkeypatch, *words)
        shown = capsys.readouterr()
        assert all(e in shown.out for e in expected)
