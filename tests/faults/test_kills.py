"""A run that is killed at random moments and started again loses nothing and ends as an undisturbed one, to the byte.

`make faults` kills a hundred times and more, on every executor, and prints the table of docs/explanation/reliability.md.
"""

import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from tests.faults.harness import Runs, Tally, Undisturbed, kill_again_and_again, kill_workers, undisturbed

KILLS = int(os.environ.get("ROBUSTBENCH_KILLS", "0"))  # in all, about
LONG = pytest.mark.skipif(not KILLS, reason="make faults")
IN_A_ROW = 8
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@pytest.fixture(scope="module")
def table() -> Iterator[dict[str, Tally]]:
    rows: dict[str, Tally] = {}
    yield rows
    columns = [field.name for field in fields(Tally)]
    print(f"\n\n| what was killed | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name, tally in rows.items():
        print(f"| {name} | {' | '.join(str(getattr(tally, column)) for column in columns)} |")


@pytest.fixture(scope="module")
def cluster(runs: Runs) -> Iterator[str]:
    if find_spec("ray") is None:
        pytest.skip("Ray (the extra [ray]) is not installed")
    from robustbench_sgdm.sweep import ray_executor

    with ray_executor(workers=2) as started:
        runs.environment |= {
            k: v for k, v in os.environ.items() if k.startswith(("RAY_AUTH_", "RAY_ENABLE_"))
        }
        yield started.ray.get_runtime_context().gcs_address


def test_threads(runs: Runs, expected: Undisturbed, table: dict[str, Tally], tmp_path: Path) -> None:
    tally = table.setdefault("the run", Tally())
    draw, wanted, number = random.Random(KILLS), KILLS * 5 // 8 or len(SIGNALS), 0
    while tally.kills < wanted:
        some = [SIGNALS[(tally.kills + i) % len(SIGNALS)] for i in range(min(IN_A_ROW, wanted - tally.kills))]
        kill_again_and_again(runs, tmp_path / str(number), expected, tally, draw, some)
        number += 1
    print(tally, flush=True)
    assert tally.clean, tally


@LONG
@pytest.mark.parametrize("whom", ["the run", "a worker"])
def test_processes(
    runs: Runs, expected: Undisturbed, table: dict[str, Tally], tmp_path: Path, whom: str
) -> None:
    tally = table.setdefault(f"{whom}, `--workers 2`", Tally())
    more = ("--workers", "2")
    if whom == "the run":
        kill_runs(runs, expected, tally, tmp_path, more)
    else:
        kill_some(runs, expected, tally, tmp_path, more, lambda run: processes(run, "spawn_main"))


@LONG
@pytest.mark.parametrize("whom", ["the run", "a worker"])
def test_ray(
    runs: Runs, expected: Undisturbed, table: dict[str, Tally], tmp_path: Path, whom: str, cluster: str
) -> None:
    tally = table.setdefault(f"{whom}, `--executor ray --workers 2`", Tally())
    more = ("--executor", "ray", "--address", cluster, "--workers", "2")
    if whom == "the run":
        kill_runs(runs, expected, tally, tmp_path, more)
    else:
        kill_some(runs, expected, tally, tmp_path, more, lambda _: processes(os.getpid(), "WorkerRuntime"))
    _, left = psutil.wait_procs(processes(os.getpid(), "WorkerRuntime"), timeout=30)
    tally.orphans += len(left)
    print(tally, flush=True)
    assert tally.clean, tally


def kill_runs(runs: Runs, expected: Undisturbed, tally: Tally, folder: Path, more: Sequence[str]) -> None:
    """A tenth of the kills."""
    timed, draw, number = undisturbed(runs, folder / "timed", *more), random.Random(KILLS), 0
    assert timed.files == expected.files
    while (left := KILLS // 10 - tally.kills) > 0:
        some = [signal.SIGKILL] * min(IN_A_ROW, left)
        kill_again_and_again(runs, folder / str(number), timed, tally, draw, some, more=more)
        number += 1
    print(tally, flush=True)
    assert tally.clean, tally


def kill_some(
    runs: Runs,
    expected: Undisturbed,
    tally: Tally,
    folder: Path,
    more: Sequence[str],
    workers: Callable[[int], list[psutil.Process]],
) -> None:
    """A tenth of the kills; fewer a run than the workers that a unit may take with it."""
    timed, draw, number = undisturbed(runs, folder / "timed", *more), random.Random(KILLS), 0
    while (left := KILLS // 10 - tally.kills) > 0:
        kill_workers(runs, folder / str(number), timed, tally, draw, min(3, left), more=more, workers=workers)
        number += 1
    print(tally, flush=True)
    assert tally.clean, tally


def processes(above: int, named: str) -> list[psutil.Process]:
    """Descendants of a process with a word in their command line."""
    found = []
    for process in psutil.Process(above).children(recursive=True):
        try:
            if named in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:  # it ended meanwhile
            continue
    return found
