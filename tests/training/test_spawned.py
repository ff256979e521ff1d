"""What Ultralytics hands to a process of a further GPU builds the run anew: custom modules, callbacks, data.

A CPU has no such processes; their program is run here alone. What it cannot show is the exchange of gradients.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ultralytics.utils.dist import ddp_cleanup, generate_ddp_file

from robustbench_sgdm.api import train
from robustbench_sgdm.detectors.ultralytics import weights
from robustbench_sgdm.training import TrainingData, runner
from robustbench_sgdm.training.trainer import ReproducibleTraining


def test_the_program_of_a_spawned_process_trains_the_same(
    tmp_path: Path, boxes: Callable[[Path], TrainingData], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    class Spawned(ReproducibleTraining):
        def train(self) -> None:
            """As Ultralytics' for several GPUs: a program of its own, given what is pickled."""
            self.__class__ = ReproducibleTraining  # type: ignore[assignment]
            file = generate_ddp_file(self)
            try:
                done = subprocess.run([sys.executable, file], capture_output=True, text=True)
            finally:
                ddp_cleanup(self, file)
            assert done.returncode == 0, done.stderr

    settings: dict[str, Any] = {
        "epochs": 1,
        "imgsz": 64,
        "batch": 4,
        "fraction": 0.4,
        "report": lambda _: None,
    }
    settings["noise"] = ["gaussian_noise"]
    data = boxes(tmp_path / "data")
    (here,) = train(["yolov8n-sgdm"], data=data, project=tmp_path, name="here", **settings)
    monkeypatch.setattr(runner, "ReproducibleTraining", Spawned)
    (there,) = train(["yolov8n-sgdm"], data=data, project=tmp_path, name="there", **settings)
    first, second = (pd.read_csv(d.folder / "results.csv").drop(columns="time") for d in (here, there))
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    one, two = (weights.hash_tensors(weights.read_weights(d.weights).state) for d in (here, there))
    assert one == two
    assert (there.folder / "health.csv").read_text() == (here.folder / "health.csv").read_text()
