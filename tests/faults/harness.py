"""Real runs that are stopped in every way: the small run, how it looks undisturbed, and what is compared."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

RUN = ["run", "--model", "yolov8n", "--noise", "gaussian", "--severity", "0,3", "--imgsz", "64"]
RUN += ["--fraction", "0.06", "--batch", "2", "--name", "r"]
"""One model, two severities, sixteen images, each a shard: every part of a run, in seconds."""

IMAGES = 16


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit code (negative: by that signal) and all it printed."""

    code: int
    said: str

    @property
    def stored(self) -> int | None:
        """Predictions it found stored at its beginning; None where it did not come so far."""
        found = re.search(
            r"(\d+) cells, (\d+) images; \d+ cells stored, ([\d,]+) predictions to make", self.said
        )
        if not found:
            return None
        cells, images, todo = (int(word.replace(",", "")) for word in found.groups())
        return cells * images - todo


class Runs:
    """Starts runs in forks of a process that has imported everything."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self._zygote = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(Path(__file__).with_name("zygote.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"ROBUSTBENCH_CACHE": str(cache)},
        )
        self._logs: dict[int, Path] = {}
        self._count = 0
        self.environment: dict[str, str] = {}

    def start(self, project: Path, *more: str) -> int:
        """Begin the small run; gives the process id."""
        project.mkdir(parents=True, exist_ok=True)
        self._count += 1
        log = self.folder / f"{self._count}.log"
        words = [*RUN, "--project", str(project), *more]
        pid = self._ask({"run": words, "log": str(log), "environment": self.environment})
        self._logs[pid] = log
        return pid

    def said(self, pid: int) -> str:
        """What it printed so far."""
        return self._logs[pid].read_text("utf-8", "replace") if self._logs[pid].exists() else ""

    def end(self, pid: int) -> Ended:
        """Wait for it."""
        return Ended(self._ask({"wait": pid}), self.said(pid))

    def whole(self, project: Path, *more: str) -> Ended:
        """The small run from where it is to its end."""
        return self.end(self.start(project, *more))

    def close(self) -> None:
        """End the process that forks."""
        self._zygote.communicate()

    def _ask(self, wanted: dict[str, object]) -> int:
        assert self._zygote.stdin and self._zygote.stdout
        print(json.dumps(wanted), file=self._zygote.stdin, flush=True)
        return int(self._zygote.stdout.readline())


@dataclass
class Tally:
    """What was seen of one kind of kill."""

    kills: int = 0
    resumed: int = 0
    lost: int = 0
    torn: int = 0
    wrong: int = 0
    tracebacks: int = 0
    orphans: int = 0

    @property
    def clean(self) -> bool:
        """Whether there is nothing to complain of."""
        return not (self.lost or self.torn or self.wrong or self.tracebacks or self.orphans)


@dataclass(frozen=True)
class Undisturbed:
    """The small run as it is when nothing happens: its files, and when it had its results (s)."""

    files: dict[str, bytes]
    seconds: float


def undisturbed(runs: Runs, project: Path, *more: str) -> Undisturbed:
    """Make it; the images are rendered before."""
    runs.whole(project / "estimated", "--estimate")
    began = time.time()
    ended = runs.whole(project, *more)
    assert ended.code == 0, ended.said
    return Undisturbed(results(project), (project / "r/results.csv").stat().st_mtime - began)


def kill_again_and_again(
    runs: Runs,
    project: Path,
    expected: Undisturbed,
    tally: Tally,
    draw: random.Random,
    kills: Sequence[signal.Signals],
    *,
    more: Sequence[str] = (),
) -> None:
    """Kill a run at random moments, go on with it each time until it ends by itself, and compare what it comes to.

    Args:
        runs: starts it.
        project: a folder of its own.
        expected: what it must come to, and how long it takes to its results.
        tally: what was seen is counted here.
        draw: the moments.
        kills: by these signals, one after the other.
        more: arguments of the run.
    """
    there = 0
    for how in (*kills, None):
        pid, below = runs.start(project, *more), []
        if how is not None:
            _wait(pid, draw.uniform(0, 1.2 * expected.seconds))
            below = psutil.Process(pid).children(recursive=True)
            os.kill(pid, how)
        ended = runs.end(pid)
        tally.kills += ended.code != 0
        tally.orphans += len(psutil.wait_procs(below, timeout=15)[1])
        if ended.stored is not None:
            tally.resumed += 1
            tally.lost += max(0, there - ended.stored)
        tally.torn += not sound(project)
        tally.tracebacks += "Traceback" in ended.said
        there = predictions(project)
        if ended.code == 0:
            break
    tally.wrong += ended.code != 0 or results(project) != expected.files


def kill_workers(
    runs: Runs,
    project: Path,
    expected: Undisturbed,
    tally: Tally,
    draw: random.Random,
    most: int,
    *,
    more: Sequence[str],
    workers: Callable[[int], list[psutil.Process]],
) -> None:
    """Kill workers of a run at random moments; the run goes on. Arguments as above, and who the workers of a run are."""
    pid, killed, there = runs.start(project, *more), 0, 0
    seen: set[psutil.Process] = set()
    while alive(pid) and killed < most:
        if workers(pid):
            _wait(pid, draw.uniform(0, 0.2) * expected.seconds)
            if found := workers(pid):  # others by now, or none
                seen.update(found)
                there = predictions(project)
                with suppress(psutil.NoSuchProcess):
                    draw.choice(found).kill()
                    killed += 1
        _wait(pid, 0.1)
        tally.lost += max(0, there - predictions(project))
    while alive(pid):
        seen.update(workers(pid))
        _wait(pid, 0.2)
    tally.kills += killed
    ended = runs.end(pid)
    tally.orphans += len(psutil.wait_procs(seen, timeout=15)[1])
    tally.resumed += 1
    tally.torn += not sound(project)
    tally.tracebacks += "Traceback" in ended.said
    tally.wrong += ended.code != 0 or results(project) != expected.files


def alive(pid: int) -> bool:
    """Whether a process has not ended, waited for or not."""
    return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


def _wait(pid: int, seconds: float) -> None:
    """So long, or until the process ends."""
    until = time.monotonic() + seconds
    while alive(pid) and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.2))


def results(project: Path) -> dict[str, bytes]:
    """`results.csv` and every stored cell of the small run, to the byte."""
    run = project / "r"
    files = [run / "results.csv", *run.glob("cells/**/*.parquet"), *run.glob("cells/**/*.json")]
    return {str(p.relative_to(run)): p.read_bytes() for p in sorted(files) if p.exists()}


def predictions(project: Path) -> int:
    """Predictions that lie in whole files: those of complete cells, and of shards of one image each."""
    found = 0
    for folder in (project / "r/cells").glob("*/*/*"):
        # Before they go, where a cell ends meanwhile.
        shards = len(list((folder / "shards").glob("[!.]*.parquet")))
        found += IMAGES if (folder / "scores.json").exists() else shards
    return found


def sound(project: Path) -> bool:
    """Whether every file under a final name can be read: nothing is half-written."""
    try:
        for path in project.rglob("[!.]*.parquet"):
            pq.read_table(path, partitioning=None, page_checksum_verification=True)
        for path in project.rglob("[!.]*.json"):
            json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, pa.ArrowException):
        return False
    return True
