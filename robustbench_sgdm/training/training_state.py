"""The whole state of a training run after an epoch, so that an interrupted one ends as if it had not been.

Ultralytics' `last.pt` holds averaged weights and the optimiser in half precision: enough to go on, not enough to
go on equally. This file holds everything in full, and the logs as they were; it lies beside `last.pt` while the
run is unfinished.
"""

import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import unwrap_model

from robustbench_sgdm.core.errors import DataError, UnsafeFileError
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.detectors.ultralytics import weights
from robustbench_sgdm.detectors.ultralytics.pickle_records import open_checkpoint, read_plain

STATE_FILE = "state.pt"
_LOGS = ("results.csv", "health.csv")
_KEPT_FIELDS = ("train_args", "train_metrics", "train_results", "date", "version", "license", "docs")
_FIELD_TYPES = {"epoch": int, "finished": bool, "batch": int, "logs": dict}


def files_of(run: Any) -> SafeDirectory:
    """The files of the comparison that an Ultralytics trainer works in."""
    return SafeDirectory(Path(run.save_dir).parent)


def save_state(run: Any, path: Path) -> None:
    """Write the state of a trainer after its epoch, atomically.

    Args:
        run: an Ultralytics trainer that has just written its own checkpoints.
        path: the file.
    """
    files = files_of(run)
    logs = {name: files.read_text(Path(run.save_dir) / name) for name in _LOGS}
    state = {
        "epoch": run.epoch,
        "finished": bool(run.stop),
        "seconds": time.time() - run.train_time_start,
        "batch": run.batch_size,
        "model": unwrap_model(run.model).state_dict(),
        "ema": run.ema.ema.state_dict(),
        "updates": run.ema.updates,
        "optimizer": run.optimizer.state_dict(),
        "scaler": run.scaler.state_dict(),
        "best_fitness": _number(run.best_fitness),
        "stopper": {
            "best_fitness": _number(run.stopper.best_fitness),
            "best_epoch": run.stopper.best_epoch,
            "possible_stop": bool(run.stopper.possible_stop),
        },
        "logs": logs,
    }
    buffer = io.BytesIO()  # torch, writing to a full disk itself, fails without saying why
    torch.save(state, buffer)
    files.write_bytes(path, buffer.getvalue())


def read_state(path: Path, files: SafeDirectory) -> dict[str, Any]:
    """A saved state, on the CPU.

    Args:
        path: the file.
        files: of the comparison.

    Raises:
        DataError: damaged.
    """
    try:
        with files.open(path) as file:
            state: dict[str, Any] = read_plain(file)
        sound = all(type(state[key]) is kind for key, kind in _FIELD_TYPES.items())
        logs = [state["logs"][name].encode() for name in _LOGS]  # absent or no text: refused too
        if not (sound and state["batch"] > 0 and all(logs)):
            raise ValueError
    except UnsafeFileError:
        raise
    except Exception as error:  # whatever the bytes of a damaged file provoke
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}): remove it to train this model from its start"
        ) from error
    return state


def restore_state(run: Any, path: Path) -> None:
    """Put a trainer that has just been set up into a saved state; the next epoch follows."""
    files = files_of(run)
    state = read_state(path, files)
    unwrap_model(run.model).load_state_dict(state["model"])
    run.ema.ema.load_state_dict(state["ema"])
    run.ema.updates = state["updates"]
    run.optimizer.load_state_dict(state["optimizer"])
    run.scaler.load_state_dict(state["scaler"])
    run.best_fitness = state["best_fitness"]
    vars(run.stopper).update(state["stopper"])
    run.start_epoch = state["epoch"] + 1
    run.seconds_before = state["seconds"]
    if RANK <= 0:
        restore_logs(state, Path(run.save_dir), files)


def restore_logs(state: Mapping[str, Any], folder: Path, files: SafeDirectory) -> None:
    """Write the logs of a run's folder as they were when its state was saved."""
    for name in _LOGS:  # no other name in the file is followed
        files.write_text(folder / name, state["logs"][name])


def strip_checkpoint(path: Path, files: SafeDirectory) -> None:
    """Leave the averaged weights alone in a checkpoint, as Ultralytics' `strip_optimizer` does; nothing is unpickled.

    Raises:
        DataError: it cannot be read; see `weights.read_weights`.
    """
    if not files.is_file(path):
        return
    network = weights.read_weights(path).network.half().requires_grad_(False)
    with files.open(path) as file, open_checkpoint(file) as content:
        kept = {key: value for key in _KEPT_FIELDS if _is_plain(value := _plain_part(content.get(key)))}
    empty = dict.fromkeys(("optimizer", "best_fitness", "ema", "updates", "scaler"))
    buffer = io.BytesIO()
    torch.save({**kept, **empty, "epoch": -1, "model": network}, buffer)
    files.write_bytes(path, buffer.getvalue())


def _plain_part(value: Any) -> Any:
    """A dict without the entries that are no plain values."""
    return {k: v for k, v in value.items() if _is_plain(v)} if isinstance(value, dict) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
