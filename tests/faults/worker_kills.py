"""Kills a run whose workers store, or a worker of it, at random moments until it is complete; prints a tally as JSON.

    python -m tests.faults.worker_kills FOLDER KILLS

Runs are forked from this process, and their workers before they begin, so that kills hit the work and not the imports.
Everything else is as with `--workers 2`. The detector is a hash of the pixels.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from robustbench_sgdm import corruption, datasets
from robustbench_sgdm.core.worker_bootstrap import worker_main
from robustbench_sgdm.detectors import DetectorEntry
from robustbench_sgdm.store import Run, Settings, remove_stale_files
from robustbench_sgdm.sweep import Plan, ProcessExecutor, make_plan, pending_units, run_sweep
from robustbench_sgdm.sweep.executors.processes import ProcessPool
from tests.faults.harness import Tally, sound
from tests.sweep.test_sweep import PixelDetector

IMAGES, SPARES, IN_A_ROW = 40, 5, 8


class _Payload:
    """What `worker_main` reads at its start; here it comes through the pipe."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self) -> bytes:
        return self._content


def _worker(far: Connection) -> None:
    """A worker process that waits for its payload."""
    for handle in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208
        if handle > 2 and handle != far.fileno():
            with suppress(OSError):
                os.close(handle)
    try:
        payload, install = far.recv_bytes(), far.recv_bytes()
    except EOFError:
        os._exit(0)
    worker_main(far, _Payload(payload), install)  # type: ignore[arg-type]


def _fork_workers() -> None:
    """Let the pool take workers that are forked here, before this process has threads."""
    spares = []
    for _ in range(SPARES):
        near, far = Pipe()
        process = get_context("fork").Process(target=_worker, args=(far,))
        process.start()
        far.close()
        spares.append((process, near))

    def start(pool: Any) -> Any:
        with pool._lock:
            process, near = spares.pop()
            pool._processes.add(process)
        near.send_bytes(pool._payload.read())
        near.send_bytes(pool._make_handler)
        return process, near

    setattr(ProcessPool, "_start", start)  # noqa: B010 - a class whose method is replaced


def _run(folder: Path, made: Plan, workers: int) -> None:
    if workers:
        _fork_workers()
    run = Run.create_or_resume(folder, "r", made.to_manifest())
    with run.lock():
        run_sweep(made, run.store, executor=ProcessExecutor(workers) if workers else None)
        run.write_results()


def _forked(work: Callable[[], None]) -> int:
    if pid := os.fork():
        return pid
    code = 1
    try:
        work()
        code = 0
    except Exception:  # noqa: BLE001 - the run's, which must not go on as this process
        traceback.print_exc()
    finally:
        os._exit(code)


def _files(folder: Path) -> dict[str, bytes]:
    run = folder / "r"
    paths = (p for p in run.rglob("*") if p.is_file() and p.name not in ("manifest.json", ".lock"))
    return {str(p.relative_to(run)): p.read_bytes() for p in sorted(paths)}


def _stored(folder: Path, made: Plan) -> int:
    """Predictions that the next start will not make."""
    run = Run.create_or_resume(folder, "r", made.to_manifest())
    return IMAGES * len(made.cells) - sum(unit.size for unit in pending_units(made, run.store))


def _plan(folder: Path) -> Plan:
    draw, images = np.random.default_rng(0), []
    for number in range(1, IMAGES + 1):
        path = folder / "data" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 255, (64, 64, 3), np.uint8)).save(path)
        images.append(datasets.Image(number, path, 64, 64))
    boxes = [{"id": i.id, "image_id": i.id, "category_id": 1 + i.id % 2} for i in images]
    annotations = [{**box, "bbox": [9.0, 9.0, 30.0, 30.0], "area": 900.0, "iscrowd": 0} for box in boxes]
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "cat"}]
    data = datasets.Dataset("noise", "noise", images, categories, annotations)
    models = {"pixels": DetectorEntry(PixelDetector(), "none")}
    chosen = corruption.load_corruptions().select(["gaussian_noise", "gaussian_blur"])
    return make_plan(models, data, chosen, [0, 1, 3.5], Settings("cpu", "torch", 0, 4))


def _ended(pid: int, below: set[psutil.Process], tally: Tally) -> int:
    """Wait for a run, and for its workers to follow it."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    tally.orphans += len(psutil.wait_procs(below, timeout=30)[1])
    return code


def _children(pid: int) -> set[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return set(psutil.Process(pid).children(recursive=True))
    return set()


def _kill_run(folder: Path, made: Plan, seconds: float, draw: random.Random, kills: int) -> Tally:
    """A run that is killed at most so often, and started again each time."""
    tally, there = Tally(), 0
    for attempt in range(kills + 1):
        pid, below = _forked(partial(_run, folder, made, 2)), set[psutil.Process]()
        if attempt < kills:
            time.sleep(draw.uniform(0, 1.2 * seconds))
            below = _children(pid)
            os.kill(pid, signal.SIGKILL)
        code = _ended(pid, below, tally)
        tally.kills += code != 0
        there = _look(folder, made, there, tally)
        if code == 0:
            break
    return tally


def _kill_workers(folder: Path, made: Plan, seconds: float, draw: random.Random, kills: int) -> Tally:
    """A run whose workers at work are killed, at most so often; it goes on."""
    tally, below = Tally(), set[psutil.Process]()
    pid = _forked(partial(_run, folder, made, 2))
    for _ in range(min(kills, SPARES - 2)):
        time.sleep(draw.uniform(0, seconds / 3))
        below |= _children(pid)
        with suppress(psutil.NoSuchProcess):
            if working := [p for p in _children(pid) if p.num_threads() > 1]:
                draw.choice(sorted(working, key=lambda p: p.pid)).kill()
                tally.kills += 1
    code = _ended(pid, below, tally)
    tally.wrong += code != 0
    _look(folder, made, 0, tally)
    return tally


def _look(folder: Path, made: Plan, before: int, tally: Tally) -> int:
    """What is wrong with a run that has ended; gives how many predictions are stored."""
    tally.torn += not sound(folder)
    stored = _stored(folder, made)
    tally.lost += max(0, before - stored)
    tally.resumed += bool(stored)
    return stored


def main() -> None:
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    made, draw = _plan(folder), random.Random(kills)
    seconds = []
    for name, workers in (("threads", 0), ("timed", 2)):
        began = time.monotonic()
        pid = _forked(partial(_run, folder / name, made, workers))
        assert _ended(pid, set(), Tally()) == 0
        seconds.append(time.monotonic() - began)
    reference = _files(folder / "threads")
    assert _files(folder / "timed") == reference
    rows = {"the run": Tally(), "a worker": Tally()}
    number = 0
    while (done := sum(row.kills for row in rows.values())) < kills:
        whom = "the run" if number % 2 == 0 else "a worker"
        disturb = _kill_run if number % 2 == 0 else _kill_workers
        own, number = folder / str(number), number + 1
        tally = disturb(own, made, seconds[1], draw, min(IN_A_ROW, kills - done))
        remove_stale_files(own / "r")
        tally.wrong += _files(own) != reference
        for field, count in asdict(tally).items():
            setattr(rows[whom], field, getattr(rows[whom], field) + count)
        print(whom, tally, file=sys.stderr, flush=True)
    print(json.dumps({"seconds": seconds} | {whom: asdict(row) for whom, row in rows.items()}))


if __name__ == "__main__":
    main()
