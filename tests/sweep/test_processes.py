"""The pool of worker processes: every unit is answered or said to be lost, whenever a process is killed."""

import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import psutil
import pytest

from robustbench_sgdm.core.worker_bootstrap import InheritedFile
from robustbench_sgdm.sweep.executors import processes
from robustbench_sgdm.sweep.executors.processes import ProcessPool, WorkerLost
from tests.sweep import answering

LONG = 60.0  # seconds within which anything here has happened, however busy the machine is
KILLS = int(os.environ.get("ROBUSTBENCH_KILLS", "0")) * 5 or 12


@contextmanager
def pool(
    workers: int, *, start: float = 0, work: float = 0, install: Callable[..., Any] = answering.doing
) -> Iterator[Any]:
    with TemporaryFile() as payload:
        pickle.dump((start, work), payload)
        payload.flush()
        made = ProcessPool(workers, InheritedFile(payload.fileno()), install)
        try:
            yield made
        finally:
            made.close()
    assert not multiprocessing.active_children()


def test_units_are_answered_and_processes_reused() -> None:
    with pool(2) as workers:
        assert workers.has_capacity()
        futures: list[Future[Any]] = [workers.submit(number) for number in range(20)]
        assert not workers.has_capacity()
        assert [future.result(LONG) for future in futures] == list(range(20))
        assert workers.has_capacity() and workers.submit("pid").result(LONG) in [
            child.pid for child in multiprocessing.active_children()
        ]
        assert len(workers.submit("large").result(LONG)) == 50_000_000


@pytest.mark.parametrize(("how", "why"), [("die", "signal 9"), ("leave", "exit code 7")])
def test_a_process_that_ends_costs_its_unit_only(how: str, why: str) -> None:
    with pool(2) as workers:
        futures = [workers.submit(how if number % 5 == 2 else number) for number in range(10)]
        for number, future in enumerate(futures):
            if number % 5 == 2:
                with pytest.raises(WorkerLost, match=why):
                    future.result(LONG)
            else:
                assert future.result(LONG) == number


def test_a_process_that_cannot_start_is_lost_and_said() -> None:
    with pool(1, install=answering.never) as workers, pytest.raises(WorkerLost, match="exit code 3"):
        workers.submit(1).result(LONG)


UNGUARDED = """
from tempfile import TemporaryFile
from robustbench_sgdm.core.worker_bootstrap import InheritedFile, stop_second_run
stop_second_run()
from robustbench_sgdm.sweep.executors.processes import ProcessPool
from tests.sweep import answering
with TemporaryFile() as payload:
    pool = ProcessPool(1, InheritedFile(payload.fileno()), answering.doing)
    print(repr(pool.submit(1).exception()), flush=True)
    pool.close()
"""


def test_a_script_that_its_workers_run_again_is_told_what_to_write(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=2 * LONG,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "UsageError" in done.stdout and '`if __name__ == "__main__":`' in done.stdout and not done.stderr


def test_what_a_worker_raises_is_raised_here() -> None:
    with pool(1) as workers:
        with pytest.raises(ValueError, match="as told"):
            workers.submit("fail").result(LONG)
        assert workers.submit(1).result(LONG) == 1


class Odd(Exception):
    """One that pickle writes and cannot read."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what} since {why}")


@pytest.mark.parametrize("raised", [Odd("no", "so"), ValueError(threading.Lock())], ids=["read", "write"])
def test_what_cannot_be_sent_is_told_in_words(raised: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    class WorkerRuntime:
        def __init__(self, _: Any) -> None: ...

        def run(self, _: Any) -> None:
            raise raised

    monkeypatch.setattr(processes, "WorkerRuntime", WorkerRuntime)
    answer = pickle.loads(processes.make_handler(pickle.dumps(None))(pickle.dumps(1)))
    assert str(answer) == f"{type(raised).__name__}: {raised}"
    assert "in a worker process" in answer.__notes__[0]


def test_a_closed_pool_leaves_nothing_unanswered() -> None:
    """Neither what is at work, nor what waits, nor what comes later: who waits for it would wait for ever."""
    with pool(2, work=LONG) as workers:
        futures = [workers.submit(number) for number in range(8)]
        while len(multiprocessing.active_children()) < 2:
            time.sleep(0.01)
        began = time.monotonic()
    assert time.monotonic() - began < LONG / 2
    for future in futures:
        assert isinstance(future.exception(0), WorkerLost)


def test_processes_killed_at_any_moment() -> None:
    """While they start, take a unit, work, answer a large one or wait; a unit that is lost is sent again."""
    draw, killed = random.Random(KILLS), [0]

    def kill() -> None:
        # No more: where starting takes longer than a victim lives, nothing would be done.
        while killed[0] < KILLS:
            time.sleep(draw.choice((0, 0.01, 0.05, 0.1)))
            if children := multiprocessing.active_children():
                with suppress(ProcessLookupError):
                    os.kill(draw.choice(children).pid or 0, signal.SIGKILL)
                    killed[0] += 1

    with pool(3, work=0.002) as workers:
        killing = threading.Thread(target=kill, daemon=True)
        killing.start()
        while killing.is_alive():
            units: list[Any] = [*range(30), bytes(3_000_000)]
            left = {number: workers.submit(unit) for number, unit in enumerate(units)}
            while left:
                number, future = next(iter(left.items()))
                try:
                    assert future.result(LONG) == units[number]
                    del left[number]
                except WorkerLost:
                    left[number] = workers.submit(units[number])
    assert killed[0] == KILLS


SCRIPT = """
import signal, sys, time
from tests.sweep.test_processes import pool
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell works in the background
    with pool(2, work=60) as workers:
        futures = [workers.submit(1), workers.submit(2)]
        while len(workers._processes) < 2:
            time.sleep(0.01)
        print(*(p.pid for p in workers._processes), flush=True)
        if sys.argv[1:] == ["leave"]:
            sys.stdin.readline()  # the workers have been seen
            workers.close = lambda: None  # as if Ctrl-C had come between
            sys.exit()
        futures[0].result()
"""


@pytest.mark.parametrize("how", ["leave", "SIGINT", "SIGKILL"])
def test_processes_leave_with_the_one_that_started_them(how: str) -> None:
    more = [how] if how == "leave" else []
    command = [sys.executable, "-c", SCRIPT, *more]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdin and run.stdout
        workers = [psutil.Process(int(pid)) for pid in run.stdout.readline().split()]
        if more:
            run.stdin.write(b"\n")
            run.stdin.flush()
        else:
            run.send_signal(getattr(signal, how))
        try:
            run.wait(LONG)
            assert len(workers) == 2 and not psutil.wait_procs(workers, timeout=LONG)[1]
        finally:
            for process in (run, *workers):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
