"""The main job on the embedded default: the module, its baseline, a resumed run, other people's checkpoints."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from robustbench_sgdm import cli
from robustbench_sgdm.core.detections import Detections
from robustbench_sgdm.detectors import bundled_weights
from robustbench_sgdm.detectors.ultralytics.adapter import UltralyticsDetector
from robustbench_sgdm.store import Run


def robustbench(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["robustbench", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


PARTS = ("predictions", "latency of the models", "PSNR and SSIM", "resampling and error analysis", "report")
SHORT = ("--fraction", "0.05", "--severity", "0,3")


def test_the_main_job(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("run", "--model", "yolov8n-sgdm", "--noise", "gaussian", *SHORT)
    robustbench(monkeypatch, *words)
    first = capsys.readouterr()
    assert "4 cells, 13 images; 0 cells stored, 52 predictions to make" in first.err
    assert all(part in first.err for part in PARTS)
    run = Run.open(Path("runs/robustness/yolov8n-sgdm_gaussian_scenes-0.05"))
    frame = pd.read_csv(run.path / "results.csv")
    assert frame["model"].tolist() == ["yolov8n", "yolov8n", "yolov8n-sgdm", "yolov8n-sgdm"]
    assert (frame["AP"][[0, 2]] > frame["AP"][[1, 3]].to_numpy()).all() and (frame["AP"] > 0).all()
    for value in frame["AP"]:
        assert f"{value:.2f}" in first.out
    assert (run.path / "report.html").is_file() and run.manifest.models["yolov8n-sgdm"].imgsz == 320
    robustbench(monkeypatch, *words, "--no-report")
    second = capsys.readouterr()
    assert "report      " in first.err and "report      " not in second.err and "old report" not in second.err
    assert "4 cells stored, 0 predictions to make" in second.err and second.out == first.out
    os.utime(run.path / "report.html", (1, 1))
    robustbench(monkeypatch, *words, "--no-report")
    assert "old report  " in capsys.readouterr().err
    robustbench(monkeypatch, "list", "runs")
    assert "complete" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("run", "--model", "yolov8n"), ("run", "--model", "a.pt", "--estimate")])
def test_the_first_line_is_said_before_torch_is_imported(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Which takes seconds: a torch that only says so stands in its place."""
    (tmp_path / "torch.py").write_text("raise SystemExit('torch is imported')")
    paths = os.pathsep.join([str(tmp_path), str(Path(cli.__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-m", "robustbench_sgdm.cli", *words],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
        cwd=tmp_path,
        timeout=300,
        check=False,
    )
    said = done.stderr.splitlines()
    assert said[0] == f"loading {words[2]} and scenes" and said[-1] == "torch is imported", done.stderr


@pytest.mark.parametrize(
    ("more", "who"),
    [
        ((), "workers"),
        (("--workers", "1"), "1 worker\n"),
        (("--on", "ray", "--address", "10.0.0.1:6379"), "size is unknown here"),
        (("--on", "ray", "--address", "10.0.0.1:6379", "--workers", "40"), "40 workers"),
    ],
)
def test_an_estimate_states_its_parts_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], who: str
) -> None:
    robustbench(monkeypatch, "run", "--model", "yolov8n", *SHORT, "--imgsz", "64", "--estimate", *more)
    said = capsys.readouterr().out
    assert said.startswith("1 model, 2 cells, 13 images, 26 predictions: ") and who in said
    assert all(f"  {part}: " in said for part in PARTS)
    assert not list(Path().iterdir())


def test_a_checkpoint_without_baseline(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bundled_weights("yolov8n-sgdm")
    assert path
    shutil.copy(path, "mine.safetensors")
    words = (
        "run",
        "--model",
        "mine.safetensors",
        "--imgsz",
        "320",
        *SHORT,
        "--name",
        "mine",
        "-q",
        "--no-report",
    )
    robustbench(monkeypatch, *words)
    shown = capsys.readouterr()
    labels = [
        line.partition(" ")[0] for line in shown.out.splitlines() if not line.startswith(" ")
    ]  # folded ones
    assert labels == ["P", "mPC", "rPC"] and not shown.err
    frame = pd.read_csv("runs/robustness/mine/results.csv")
    assert frame["model"].unique().tolist() == ["mine"]
    other = ("run", "--model", "yolov8n-sgdm", "--no-baseline", "--no-report")
    robustbench(monkeypatch, *other, *SHORT, "--name", "mine")
    assert "mine has another plan, so this run writes" in capsys.readouterr().err
    same = pd.read_csv("runs/robustness/mine2/results.csv")
    assert same["AP"].tolist() == frame["AP"].tolist() and same["key"].tolist() == frame["key"].tolist()


def test_an_untrained_module_is_asked_about_before_it_is_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bundled_weights("yolov8n")
    assert path
    words = ["robustbench", "run", "--model", "yolov8n-sgdm", "--weights", str(path), "--severity", "3"]
    words += ["--imgsz", "128", "--fraction", "0.03"]
    for answer, code in (([], 2), (["--yes", "--estimate"], 0)):
        monkeypatch.setattr(sys, "argv", [*words, *answer])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert (stop.value.code or 0) == code
        said = capsys.readouterr().err
        assert "yolov8n-sgdm detects the same as yolov8n: its sgdm module is untrained" in said
        assert ("--yes" in said) == bool(code)
    assert not list(Path().iterdir())


@pytest.mark.slow
def test_another_baseline_is_no_other_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bundled_weights("yolov8n")
    assert path
    shutil.copy(path, "a.safetensors")
    shutil.copy(bundled_weights("yolov8n-sgdm") or "", "b.safetensors")
    words = ("run", "--model", "a.safetensors,b.safetensors", "--severity", "3", "--imgsz", "64")
    robustbench(monkeypatch, *words, "--fraction", "0.02", "--no-report")
    assert "a is the baseline because it is the first model" in capsys.readouterr().err
    robustbench(monkeypatch, *words, "--fraction", "0.02", "--baseline", "b", "--json")
    shown = capsys.readouterr()
    record = json.loads(shown.out)
    assert "0 predictions to make" in shown.err and Path(record["report"]["pdf"]).is_file()
    assert [(one["baseline"], one["model"]) for one in record["metrics"][0]["differences"]] == [("b", "a")]
    assert len(list(Path("runs/robustness").iterdir())) == 1


def test_the_lists(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for words, expected in (
        (("list", "corruptions"), ("gaussian_noise", "ringing", "benchmark")),
        (("list", "data"), ("scenes", "coco")),
        (("checks",), ("torch", "ultralytics", "nothing is missing")),
    ):
        robustbench(monkeypatch, *words)
        shown = capsys.readouterr()
        assert all(e in shown.out for e in expected)


SMALL = (
    "run",
    "--model",
    "yolov8n",
    "--imgsz",
    "64",
    "--fraction",
    "0.03",
    "--severity",
    "0,3",
    "--no-report",
)


def fail_predictions(
    monkeypatch: pytest.MonkeyPatch, error: RuntimeError, fails: Callable[[int], bool]
) -> None:
    """Raise what torch raises, at batches of these sizes."""
    whole = UltralyticsDetector.predict

    def predict(self: UltralyticsDetector, images: Sequence[Tensor]) -> list[Detections]:
        if fails(len(images)):
            raise error
        return whole(self, images)

    monkeypatch.setattr(UltralyticsDetector, "predict", predict)


def test_a_device_that_fails_ends_with_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as broken:
        fail_predictions(broken, RuntimeError("CUDA error: unspecified launch failure"), lambda _: True)
        broken.setattr(sys, "argv", ["robustbench", *SMALL, "--name", "r"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    said = capsys.readouterr().err
    assert stop.value.code == 1 and "Traceback" not in said
    assert "duration unknown: RuntimeError: CUDA error" in said
    assert "cpu failed: RuntimeError: CUDA error: unspecified launch failure" in said
    assert "2 of 2 cells are missing (yolov8n under clean" in said
    assert Path("runs/robustness/r/results.csv").is_file()
    robustbench(monkeypatch, *SMALL, "--name", "r")
    assert len(Run.open(Path("runs/robustness/r")).results()) == 2


def test_a_batch_that_memory_is_too_small_for_is_halved(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    some = (*SMALL, "--fraction", "0.2")  # shards of four
    robustbench(monkeypatch, *some, "--name", "whole")
    with monkeypatch.context() as cramped:
        fail_predictions(cramped, torch.OutOfMemoryError("CUDA out of memory"), lambda size: size > 2)
        robustbench(cramped, *some, "--name", "cramped", "--project", "other")
    warnings = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert warnings == ["out of memory on cpu: batches of 2 from here on"]
    results = [Path(p, "results.csv").read_bytes() for p in ("runs/robustness/whole", "other/cramped")]
    assert results[0] == results[1]
