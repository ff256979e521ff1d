"""A run that is interrupted and resumed ends as if it had not been: equal curves, equal weights."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from robustbench_sgdm.api import train
from robustbench_sgdm.core.errors import DataError, TrainingFailedError, UsageError
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.detectors.ultralytics import weights
from robustbench_sgdm.training import TrainedRun, TrainingData, runner, training_state
from robustbench_sgdm.training.evaluate import evaluate_weights
from robustbench_sgdm.training.trainer import ReproducibleTraining
from robustbench_sgdm.training.training_state import strip_checkpoint

MODEL = "yolov8n-sgdm"
SETTINGS: dict[str, Any] = {
    "epochs": 3,
    "imgsz": 64,
    "batch": 4,
    "arguments": {"close_mosaic": 2, "mosaic": 1.0},
}


def quiet(_: object) -> None: ...


def go(data: TrainingData, root: Path, name: str, **changed: Any) -> TrainedRun:
    options = {**SETTINGS, "project": root / "runs", "name": name, "report": quiet, **changed}
    (done,) = train([MODEL], data=data, **options)
    return done


def curves(done: TrainedRun) -> list[pd.DataFrame]:
    results = pd.read_csv(done.folder / "results.csv").drop(columns="time")
    return [results, pd.read_csv(done.folder / "health.csv")]


@dataclass
class Whole:
    root: Path
    data: TrainingData
    done: TrainedRun

    def go(self, name: str, **changed: Any) -> TrainedRun:
        return go(self.data, self.root, name, **changed)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, boxes: Callable[[Path], TrainingData]) -> Whole:
    """Three epochs without interruption; the data and the cache serve the interrupted runs too."""
    root = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUSTBENCH_CACHE", str(root / "cache"))
        data = boxes(root / "data")
        return Whole(root, data, go(data, root, "whole"))


def check_equal(whole: Whole, resumed: TrainedRun) -> None:
    """To every digit of the logs (six) and every bit of the weights: same machine, one thread."""
    for ours, theirs in zip(curves(resumed), curves(whole.done), strict=True):
        assert list(ours["epoch"]) == [1, 2, 3]
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    one, two = (weights.hash_tensors(weights.read_weights(d.weights).state) for d in (whole.done, resumed))
    assert one == two
    assert resumed.best_epoch == whole.done.best_epoch
    assert not (resumed.folder / "weights" / "state.pt").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from robustbench_sgdm.training import runner
from robustbench_sgdm.training.trainer import ReproducibleTraining
import conftest, test_resume

class Killed(ReproducibleTraining):
    def optimizer_step(self):
        super().optimizer_step()
        if self.epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)

runner.ReproducibleTraining = Killed
root = Path(sys.argv[1])
test_resume.go(conftest.given(root / "data"), root, "killed")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_killed_within_an_epoch_and_resumed(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(whole.root / "cache"))
    code = KILLED.format(tests=str(Path(__file__).parent))
    threads = {**os.environ, "OMP_NUM_THREADS": "1"}
    dead = subprocess.run([sys.executable, "-c", code, str(whole.root)], env=threads, capture_output=True)
    assert dead.returncode == -signal.SIGKILL, dead.stderr.decode()[-2000:]
    folder = whole.root / "runs" / "killed" / f"{MODEL}-seed0"
    assert not (folder / "result.json").exists()
    assert list(pd.read_csv(folder / "results.csv")["epoch"]) == [1]
    check_equal(whole, whole.go("killed", resume=True))


class Pulled(BaseException):
    """The plug."""


@pytest.mark.parametrize(
    "moment",
    [
        "between the log and the checkpoints",
        pytest.param("after the last epoch", marks=pytest.mark.slow),
        "while best.pt is rewritten",
    ],
)
def test_stopped_at_an_awkward_moment(whole: Whole, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(whole.root / "cache"))
    name = moment.split()[0]

    class Stopping(ReproducibleTraining):
        def save_model(self) -> bool:
            if name == "between" and self.epoch == 1:
                raise Pulled
            return super().save_model()

        def final_eval(self) -> None:
            if name == "after":
                raise Pulled

    def cut(path: Path, files: SafeDirectory) -> None:
        if path.name == "best.pt":
            path.with_name(".best.pt.draft").write_bytes(path.read_bytes()[:5000])
            raise Pulled
        strip_checkpoint(path, files)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "ReproducibleTraining", Stopping)
        if name == "while":
            patch.setattr(training_state, "strip_checkpoint", cut)
        with pytest.raises(Pulled):
            whole.go(name)
    check_equal(whole, whole.go(name, resume=True))


def test_what_is_finished_is_read_and_not_trained_again(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(whole.root / "cache"))
    before = (whole.done.folder / "best.safetensors").stat().st_mtime_ns
    assert whole.go("whole", resume=True) == whole.done
    assert (whole.done.folder / "best.safetensors").stat().st_mtime_ns == before


def test_only_the_same_run_is_resumed(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(whole.root / "cache"))
    with pytest.raises(
        UsageError, match=r"started with other options \(arguments epochs 3, now 4\).*last.pt is kept"
    ):
        whole.go("whole", resume=True, epochs=4)
    with pytest.raises(UsageError, match=r"arguments lr0 0\.002, now 0\.1"):
        whole.go("whole", resume=True, arguments={**SETTINGS["arguments"], "lr0": 0.1})
    record = whole.done.folder / "recipe.yaml"
    text = record.read_text()
    old = yaml.safe_load(text)
    old["versions"]["ultralytics"] = "8.0.0"
    record.write_text(yaml.safe_dump(old))
    with pytest.raises(UsageError, match=r"other versions \(ultralytics 8.0.0, now .*last.pt is kept"):
        whole.go("whole", resume=True)
    record.write_text(text)
    assert (whole.done.folder / "weights" / "last.pt").is_file()


def test_a_damaged_state_is_named(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(whole.root / "cache"))
    folder = whole.root / "runs" / "damaged" / f"{MODEL}-seed0" / "weights"
    folder.mkdir(parents=True)
    (folder / "state.pt").write_bytes(b"no state")
    with pytest.raises((DataError, TrainingFailedError), match=r"state.pt cannot be read .*remove it"):
        whole.go("damaged", resume=True)
    logs = {"results.csv": "a", "health.csv": "b"}
    sound = {"epoch": 1, "finished": True, "batch": 4, "logs": logs}
    torn: list[Any] = [logs | {"health.csv": 5}, logs | {"health.csv": "\ud800"}, {}]
    changes: list[dict[str, Any]] = [{"epoch": "x"}, {"batch": 0}, *({"logs": one} for one in torn)]
    for change in changes:
        torch.save(sound | change, folder / "state.pt")
        with pytest.raises(TrainingFailedError, match=r"state.pt cannot be read .*remove it"):
            whole.go("damaged", resume=True)
    torch.save(sound, folder / "state.pt")
    with pytest.raises(TrainingFailedError, match="finished without weights"):
        whole.go("damaged", resume=True)


class Code:
    """Pickled, it makes a folder when it is loaded without restriction."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


TINY: dict[str, Any] = {
    "epochs": 2,
    "imgsz": 32,
    "fraction": 0.4,
    "arguments": {"close_mosaic": 0, "mosaic": 1.0},
}


def stopped(data: TrainingData, root: Path, patch: pytest.MonkeyPatch, epoch: int) -> Path:
    """The folder of a tiny run that stopped after an epoch, from 0."""

    class Stopping(ReproducibleTraining):
        def save_model(self) -> bool:
            saved = super().save_model()
            if self.epoch == epoch:
                raise Pulled
            return saved

    with patch.context() as inner:
        inner.setattr(runner, "ReproducibleTraining", Stopping)
        with pytest.raises(Pulled):
            go(data, root, "stopped", **TINY)
    return root / "runs" / "stopped" / f"{MODEL}-seed0"


@pytest.mark.parametrize("epoch", [0, 1])
def test_code_in_a_checkpoint_is_not_run_at_resume(
    whole: Whole, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, epoch: int
) -> None:
    """Ultralytics would run it where it strips a finished run's, and where it recovers from a loss that is NaN."""
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(whole.root / "cache"))
    folder = stopped(whole.data, tmp_path, monkeypatch, epoch)
    for name in ("last.pt", "best.pt"):
        path = folder / "weights" / name
        sound = path.read_bytes()
        torch.save({"model": Code(tmp_path / "ran")}, path)
        with pytest.raises(
            TrainingFailedError, match=rf"{name} is damaged or not from here: remove .*state.pt"
        ):
            go(whole.data, tmp_path, "stopped", resume=True, **TINY)
        assert not (tmp_path / "ran").exists()
        path.write_bytes(sound)


def test_a_state_writes_its_logs_and_nothing_else(
    whole: Whole, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(whole.root / "cache"))
    folder = stopped(whole.data, tmp_path, monkeypatch, 0)
    path = folder / "weights" / "state.pt"
    state = torch.load(path, weights_only=True)
    torch.save({**state, "logs": {**state["logs"], str(tmp_path / "elsewhere"): "text"}}, path)
    done = go(whole.data, tmp_path, "stopped", resume=True, **TINY)
    assert not (tmp_path / "elsewhere").exists()
    assert list(pd.read_csv(done.folder / "results.csv")["epoch"]) == [1, 2]


@pytest.mark.slow
def test_logs_lost_after_the_last_epoch_are_the_states(
    whole: Whole, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(whole.root / "cache"))
    folder = stopped(whole.data, tmp_path, monkeypatch, 1)
    logs = {name: (folder / name).read_bytes() for name in ("results.csv", "health.csv")}
    (folder / "results.csv").write_bytes(b"\x00" * 80)
    (folder / "health.csv").unlink()
    go(whole.data, tmp_path, "stopped", resume=True, **TINY)
    assert {name: (folder / name).read_bytes() for name in logs} == logs


def test_an_old_checkpoint_is_never_a_new_runs(
    whole: Whole, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run without a state begins anew, from nothing that lies there."""
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(whole.root / "cache"))
    folder = tmp_path / "runs" / "old" / f"{MODEL}-seed0"
    (folder / "weights").mkdir(parents=True)
    torch.save({"model": Code(tmp_path / "ran")}, folder / "weights" / "best.pt")

    class Worst(ReproducibleTraining):
        def validate(self) -> tuple[Any, Any]:
            metrics, _ = super().validate()  # type: ignore[no-untyped-call]
            return metrics, float("nan")

    monkeypatch.setattr(runner, "ReproducibleTraining", Worst)
    with pytest.raises(TrainingFailedError, match="finished without weights"):
        go(whole.data, tmp_path, "old", resume=True, **{**TINY, "epochs": 1})
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_a_loss_that_stays_nan_is_said_and_costs_no_other_run(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends in Ultralytics' own error, after three recoveries."""
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(whole.root / "cache"))

    class Broken(ReproducibleTraining):
        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            batch = super().preprocess_batch(batch)
            if self.args.model == MODEL and self.epoch == 1:
                batch["img"] = batch["img"] * float("nan")
            return batch

    monkeypatch.setattr(runner, "ReproducibleTraining", Broken)
    options: dict[str, Any] = {"epochs": 2, "imgsz": 64, "batch": 4, "fraction": 0.4}
    options |= {"project": whole.root / "runs", "name": "nan", "report": quiet}
    with pytest.raises(TrainingFailedError, match=rf"{MODEL}-seed0: .*NaN.*last.pt is kept") as failure:
        train([MODEL, "yolov8n"], data=whole.data, **options)
    assert [done.model for done in failure.value.runs] == ["yolov8n"]
    folder = whole.root / "runs" / "nan"
    assert list(pd.read_csv(folder / "runs.csv")["model"]) == ["yolov8n"]
    assert not pd.read_csv(folder / f"{MODEL}-seed0" / "health.csv")["finite"].iloc[1:].any()


@pytest.mark.slow
def test_scores_that_fail_cost_no_other_run(
    whole: Whole, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(whole.root / "cache"))

    def failing(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.parent.name.startswith(MODEL):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return evaluate_weights(path, *arguments, **options)

    monkeypatch.setattr(runner, "evaluate_weights", failing)
    options: dict[str, Any] = {
        **TINY,
        "epochs": 1,
        "project": tmp_path / "runs",
        "name": "two",
        "report": quiet,
    }
    with pytest.raises(TrainingFailedError, match=rf"{MODEL}-seed0: memory ran out") as failure:
        train([MODEL, "yolov8n"], data=whole.data, **options)
    assert [done.model for done in failure.value.runs] == ["yolov8n"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
            "memory ran out with --batch 4",
        ),
        (
            "CUDA error: an illegal memory access was encountered",
            "seed0: RuntimeError: CUDA error: an illegal",
        ),
    ],
)
def test_memory_that_never_suffices_is_said(
    whole: Whole, monkeypatch: pytest.MonkeyPatch, error: str, said: str
) -> None:
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(whole.root / "cache"))

    class Full(ReproducibleTraining):
        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            raise RuntimeError(error)

    monkeypatch.setattr(runner, "ReproducibleTraining", Full)
    with pytest.raises(TrainingFailedError, match=said):
        whole.go("full", arguments=TINY["arguments"])


def test_a_batch_halved_for_want_of_memory_is_said(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is raised as CUDA raises it; what follows is Ultralytics' recovery."""
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(whole.root / "cache"))

    class Small(ReproducibleTraining):
        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            if len(batch["img"]) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().preprocess_batch(batch)

    monkeypatch.setattr(runner, "ReproducibleTraining", Small)
    done = whole.go("halved", epochs=1, fraction=0.4, arguments=TINY["arguments"])
    assert done.batch == 2
    said = next(line for line in done.health if "memory" in line)
    assert "not enough memory for batch 4: trained with 2" in said
    recipe = yaml.safe_load((done.folder / "recipe.yaml").read_text())
    assert (recipe["arguments"]["batch"], recipe["effective"]["batch"]) == (4, 2)
    assert recipe["effective"]["weight_decay"] == pytest.approx(2 * recipe["arguments"]["weight_decay"])
    assert said in (done.folder / "best.md").read_text()
    assert said in (done.folder.parent / "runs.csv").read_text()
