"""What `run` compares: any two models, trainings of a comparison, models that detect the same."""

import io
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pytest
import torch

from robustbench_sgdm.core.constants import METRICS
from robustbench_sgdm.detectors import bundled_weights
from robustbench_sgdm.detectors.ultralytics import weights
from robustbench_sgdm.scoring import Scores
from robustbench_sgdm.store import Run
from robustbench_sgdm.training import TrainedRun
from robustbench_sgdm.training.comparison import write_recipe

FEW = ("--fraction", "0.02", "--noise", "fog", "--severity", "0,3", "--imgsz", "128")
Command = Callable[..., str]


def checkpoint(path: Path, model: str = "yolov8n", noise: float = 0.0) -> Path:
    """Embedded weights under another name, with some noise."""
    found = bundled_weights(model)
    assert found
    read, generator = weights.read_weights(found), torch.Generator().manual_seed(1)
    state: Mapping[str, torch.Tensor] = {
        name: values + noise * values.abs().mean() * torch.randn(values.shape, generator=generator)
        if values.ndim == 4
        else values
        for name, values in read.state.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    weights.write_weights(path, state, read.config, list(read.classes), layers=read.layers)
    return path


@pytest.fixture
def two(tmp_path: Path) -> str:
    """Two checkpoints of one's own, as `--model` takes them."""
    checkpoint(tmp_path / "a.safetensors")
    checkpoint(tmp_path / "b.safetensors", noise=0.1)
    return "a.safetensors,b.safetensors"


def test_two_checkpoints_get_everything_and_another_baseline_keeps_the_cells(
    command: Command, two: str
) -> None:
    said = command("run", "--model", two, *FEW, "--name", "r")
    assert "a is the baseline because it is the first model" in said and "verdict " in said
    run = Run.open(Path("runs/robustness/r"))
    assert run.baseline_pairs == [("a", "b")]
    for name in ("differences.csv", "side-by-side-1.csv", "severity.csv"):
        assert len(pd.read_csv(run.path / "figures" / name))
    frame = pd.read_csv(run.path / "figures" / "differences.csv")
    assert set(zip(frame["baseline"], frame["model"], strict=True)) == {("a", "b")}
    for name, again in (("b", "b"), ("./a.safetensors", None), ("a.safetensors", "a")):
        if again is None:
            assert "unknown --baseline" in command("run", "--model", two, *FEW, "--baseline", name, code=2)
            continue
        said = command("run", "--model", two, *FEW, "--name", "r", "--baseline", name, "--no-report")
        assert "4 cells stored, 0 predictions" in said and "because it is the first model" not in said
        other = "b" if again == "a" else "a"
        assert Run.open(run.path).baseline_pairs == [(again, other)]
        assert f"between {other} and {again}" in said or f"{other} scores" in said
    said = command("report", str(run.path), "--baseline", "b", "--summary")
    assert "between a and b" in said or "a scores" in said
    said = command("compare", str(run.path), "--baseline", "b", "--format", "json")
    rows = json.loads(said[said.index("[") :])
    assert {r["model"] for r in rows if r["baseline"] == "b" and r["statistic"] == "score"} == {"a"}


@pytest.mark.parametrize(
    ("models", "baseline", "words"),
    [
        ("a.safetensors,b.safetensors", "c", "unknown --baseline 'c'"),
        ("a.safetensors", "a", "the only model of the run"),
        ("yolov8n-sgdm", "yolov8s", "unknown --baseline 'yolov8s'"),
    ],
)
def test_a_baseline_that_is_none_is_told(
    command: Command, two: str, models: str, baseline: str, words: str
) -> None:
    said = command("run", "--model", models, *FEW, "--baseline", baseline, code=2)
    assert words in said and len(said.splitlines()[-1]) < 200 and not Path("runs").exists()


def test_an_untrained_module_is_asked_about_and_said_to_be_identical(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(tmp_path / "w.safetensors")
    words = ("run", "--model", "yolov8n-sgdm", "--weights", "w.safetensors", *FEW, "--name", "r")
    said = command(*words, code=2)
    assert "its sgdm module is untrained" in said and "--yes" in said and not Path("runs").exists()
    answer = io.StringIO("n\n")
    monkeypatch.setattr(answer, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", answer)
    assert "not started" in command(*words, code=2)
    title = "identical: module untrained"
    said = command(*words, "--yes", "--no-report")
    assert title in said and "could be shown" not in said
    run = Run.open(Path("runs/robustness/r"))
    command("report", str(run.path), "--summary")
    for shown in (command("compare", str(run.path)), (run.path / "summary.html").read_text("utf-8")):
        assert title in shown and "o difference between" not in shown
    assert run.results().groupby(["corruption", "severity"])["AP"].nunique().eq(1).all()


def test_two_copies_are_identical_but_not_untrained(command: Command, tmp_path: Path) -> None:
    checkpoint(tmp_path / "a.safetensors")
    shutil.copy("a.safetensors", "copy.safetensors")
    words = ("run", "--model", "a.safetensors,copy.safetensors", *FEW, "--no-report")
    said = command(*words, code=2)
    assert "copy detects the same as a," in said and "untrained" not in said
    assert "copy and a are identical: same outputs" in command(*words, "--yes")


def comparison(folder: Path, seeds: Mapping[str, tuple[int, ...]], lacking: str = "") -> Path:
    """A comparison's folder as `train` leaves it, of embedded weights with noise."""
    runs = [(model, seed) for model, trained in seeds.items() for seed in trained]
    folder.mkdir()
    write_recipe(folder, {"versions": {}}, runs)
    for model, seed in runs:
        place = folder / f"{model}-seed{seed}"
        module = "yolov8n-sgdm" if "sgdm" in model else "yolov8n"
        noise = 0.02 * (seed + 1) + (0.01 if "sgdm" in model else 0)
        checkpoint(place / "best.safetensors", module, noise=noise)
        (place / "weights").mkdir()
        if place.name != lacking:
            scores = Scores(dict.fromkeys(METRICS, 1.0), {})
            TrainedRun(model, seed, place, scores, 1, 1.0, 4, ()).write()
    return folder


def test_a_comparison_of_trainings_brings_names_baselines_and_seeds(command: Command, tmp_path: Path) -> None:
    comparison(tmp_path / "s", {"yolov8n": (0, 1), "yolov8n-sgdm": (1, 0)})
    said = command("run", "--from-train", "s", *FEW)
    run = Run.open(Path("runs/robustness/s_fog_scenes-0.02"))
    assert run.groups == {
        "yolov8n": ["yolov8n-seed0", "yolov8n-seed1"],
        "yolov8n-sgdm": ["yolov8n-sgdm-seed1", "yolov8n-sgdm-seed0"],
    }
    assert set(run.training_pairs) == {(f"yolov8n-seed{k}", f"yolov8n-sgdm-seed{k}") for k in (0, 1)}
    assert run.baseline_pairs == [("yolov8n", "yolov8n-sgdm")] and "over images and 2 trainings" in said
    results = run.results()
    mean = results[(results["corruption"] == "clean") & results["model"].str.match("yolov8n-seed")][
        "AP"
    ].mean()
    assert f"{mean:.2f}" in said
    differences = pd.read_csv(run.path / "figures" / "differences.csv")
    assert differences["model"].tolist() == ["yolov8n-sgdm"]
    text = (run.path / "report.html").read_text("utf-8")
    assert "a training of yolov8n-sgdm" in text and "They do not cover training" not in text
    said = command("run", "--from-train", "s", *FEW, "--baseline", "yolov8n-sgdm", "--no-report")
    assert (
        Run.open(run.path).baseline_pairs == [("yolov8n-sgdm", "yolov8n")] and "0 predictions to make" in said
    )


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("--from-train", "s"), "yolov8n-sgdm seed 1", 1),
        (("--from-train", "s/yolov8n-seed0"), "not a comparison", 1),
        (("--from-train", "nowhere"), "not a comparison", 1),
        (("--from-train", "s", "--model", "yolov8n"), "leave out --model", 2),
    ],
)
def test_a_comparison_that_cannot_be_run_is_told(
    command: Command, tmp_path: Path, words: tuple[str, ...], said: str, code: int
) -> None:
    comparison(tmp_path / "s", {"yolov8n": (0,), "yolov8n-sgdm": (0, 1)}, lacking="yolov8n-sgdm-seed1")
    told = command("run", *words, *FEW, code=code)
    assert said in told and not Path("runs").exists()
