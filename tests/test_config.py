"""Configurations: what they take, what they hold, and what they refuse before anything is loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import robustbench_sgdm as rb


def test_text_stands_for_a_path_and_one_value_for_several() -> None:
    run = rb.EvaluationConfig("yolov8n", noise="fog", severity=3, project="runs", images="images")
    assert (run.models, run.noise, run.severity) == (("yolov8n",), ("fog",), (3.0,))
    assert (run.project, run.images, run.from_train) == (Path("runs"), Path("images"), None)
    assert run == rb.EvaluationConfig(
        ["yolov8n"], noise=["fog"], severity=[3], project=Path("runs"), images=Path("images")
    )
    training = rb.TrainingConfig("yolov8n", seeds=1, noise="fog", corruptions="mine", classes="ball")
    assert (training.seeds, training.noise, training.corruptions) == ((1,), ("fog",), (Path("mine"),))
    assert training.classes == ("ball",)
    assert rb.ScoringConfig(Path("found"), model="m", data="d").sources == ("found",)
    assert rb.ExportConfig("yolov8n", out="y.onnx").out == Path("y.onnx")


@pytest.mark.parametrize("several", [[0, 3, 1], (3, 1, 0, 0), range(0, 4), np.array([0.0, 1, 3])])
def test_severities_come_in_order_each_once(several: Any) -> None:
    assert rb.EvaluationConfig("m", severity=several).severity == tuple(sorted(set(map(float, several))))


REFUSED: dict[str, tuple[Callable[[Any], object], Any]] = {
    "a severity in words": (lambda value: rb.EvaluationConfig("m", severity=value), "0-5"),
    "a severity above 5": (lambda value: rb.CopyConfig(severity=value), [0, 6]),
    "no severity": (lambda value: rb.CopyConfig(severity=value), []),
    "no seed": (lambda value: rb.TrainingConfig("m", seeds=value), []),
    "a seed below 0": (lambda value: rb.TrainingConfig("m", seeds=value), -1),
    "half a seed": (lambda value: rb.TrainingConfig("m", seeds=value), [0.5]),
    "no model": (lambda value: rb.TrainingConfig(value), ()),
    "no run": (lambda value: rb.ComparisonConfig(value), ()),
    "no predictions": (lambda value: rb.ScoringConfig(value, model="m", data="d"), ()),
    "an unknown engine": (lambda value: rb.ScoringConfig("p", model="m", data="d", engine=value), "cv2"),
    "an unknown reading": (lambda value: rb.ScoringConfig("p", model="m", data="d", image_ids=value), "path"),
    "an unknown format": (lambda value: rb.CopyConfig(format=value), "webp"),
}


@pytest.mark.parametrize(("make", "value"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_at_once(make: Callable[[Any], object], value: Any) -> None:
    with pytest.raises(rb.UsageError):
        make(value)
