"""A run that is killed at random moments and started again loses nothing and ends as an undisturbed one, to the byte.

`make faults` kills a hundred times and more, on every executor, and prints the table of docs/reliability.md.
"""

import os
import random
import signal
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from tests.faults.harness import Runs, Tally, Undisturbed, kill_again_and_again, undisturbed

KILLS = int(os.environ.get("ROBUSTBENCH_KILLS", "0"))  # in all, about
LONG = pytest.mark.skipif(not KILLS, reason="make faults")
IN_A_ROW = 8
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@pytest.fixture(scope="module")
def table() -> Iterator[dict[str, Tally]]:
    rows: dict[str, Tally] = {}
    yield rows
    columns = ["kills", "resumed", "lost", "torn", "wrong", "tracebacks", "orphans"]
    print(f"\n\n| what was killed | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name, tally in rows.items():
        print(f"| {name} | {' | '.join(str(getattr(tally, column)) for column in columns)} |")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    if find_spec("ray") is None:
        pytest.skip("Ray (the extra [ray]) is not installed")
    from robustbench_sgdm.sweep import on_ray

    with on_ray(workers=2) as started:
        yield started.ray.get_runtime_context().gcs_address


def test_threads(runs: Runs, expected: Undisturbed, table: dict[str, Tally], tmp_path: Path) -> None:
    tally = table.setdefault("the run", Tally())
    draw, wanted, number = random.Random(KILLS), KILLS // 2 or len(SIGNALS), 0
    while tally.kills < wanted:
        some = [SIGNALS[(tally.kills + i) % len(SIGNALS)] for i in range(min(IN_A_ROW, wanted - tally.kills))]
        kill_again_and_again(runs, tmp_path / str(number), expected, tally, draw, some)
        number += 1
    assert tally.clean, tally


@LONG
@pytest.mark.parametrize("whom", ["the run", "a worker"])
def test_processes(
    runs: Runs, expected: Undisturbed, table: dict[str, Tally], tmp_path: Path, whom: str
) -> None:
    tally = table.setdefault(f"{whom}, `--workers 2`", Tally())
    rounds(runs, expected, tally, tmp_path, ("--workers", "2"), "spawn_main" if whom == "a worker" else None)


@LONG
@pytest.mark.parametrize("whom", ["the run", "a worker"])
def test_ray(
    runs: Runs, expected: Undisturbed, table: dict[str, Tally], tmp_path: Path, whom: str, cluster: str
) -> None:
    tally = table.setdefault(f"{whom}, `--on ray --workers 2`", Tally())
    more = ("--on", "ray", "--address", cluster, "--workers", "2")
    rounds(runs, expected, tally, tmp_path, more, "_Actor" if whom == "a worker" else None)
    _, alive = psutil.wait_procs(processes(os.getpid(), "_Actor"), timeout=30)
    tally.orphans += len(alive)
    assert not alive


def rounds(
    runs: Runs, expected: Undisturbed, tally: Tally, folder: Path, more: Sequence[str], worker: str | None
) -> None:
    """An eighth of the kills each: of the run, or of a process with `worker` in its command line."""
    draw = random.Random(len(more))

    def victim(run: int) -> int | None:
        if worker is None:
            return run
        found = processes(run if worker == "spawn_main" else os.getpid(), worker)
        return draw.choice(found).pid if found else None

    timed = undisturbed(runs, folder / "timed", *more)
    assert timed.files == expected.files
    number = 0
    while tally.kills < KILLS // 8:
        some = [signal.SIGKILL] * min(IN_A_ROW, KILLS // 8 - tally.kills)
        kill_again_and_again(runs, folder / str(number), timed, tally, draw, some, more=more, victim=victim)
        number += 1
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
