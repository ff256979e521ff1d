"""Runs in processes of their own: started from a page, watched through the store, stopped by signal."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from robustbench_sgdm.core.errors import RobustBenchError, UnsafeFileError, UsageError
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.core.untrusted_input import read_json
from robustbench_sgdm.store import Run, shard_count

LOG = "dashboard.log"
_RECORD = "dashboard.json"
_COMMAND = (sys.executable, "-P", "-m", "robustbench_sgdm.cli")  # -P: no module is taken from where we stand
_PATIENCE = 15.0  # s for a run to leave the unit it works on, and then it is killed
_LONGEST_NAME = (
    200  # bytes; file systems take 255, of which a number and the names of temporary files need some
)
_STARTING = threading.Lock()
_CALLING = threading.Lock()
_LONGEST_WAIT = 60.0  # s for another visitor's call to end


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        cells: planned.
        complete: of those.
        share: of all shards, in [0, 1]; those of incomplete cells count too.
    """

    cells: int
    complete: int
    share: float


def call(*words: str) -> "subprocess.CompletedProcess[str]":
    """Run `robustbench` with these words to its end; one such process at a time, whoever asks.

    Raises:
        RobustBenchError: another one works for too long.
    """
    if not _CALLING.acquire(timeout=_LONGEST_WAIT):
        raise RobustBenchError("this machine works on another visitor's question; try again in a minute")
    try:
        return subprocess.run([*_COMMAND, *words], capture_output=True, text=True, check=False)
    finally:
        _CALLING.release()


def estimate(arguments: Sequence[str]) -> str:
    """What a run would cost, in words.

    Raises:
        UsageError: what the command line says against the arguments.
    """
    done = call("run", *arguments, "--estimate")
    if done.returncode:
        raise UsageError(_last_words(done.stderr))
    return done.stdout.strip()


def start(arguments: Sequence[str], project: Path, name: str) -> Path:
    """Start a run in its own process and session, with its log in the run directory.

    Arguments that were started under this name before go on there; other ones get the next free name. One run of a
    project works at a time: each takes the whole machine.

    Raises:
        UsageError: the name is no plain folder name.
        RobustBenchError: it runs already, or another one.
    """
    is_plain = Path(name).name == name and not name.startswith(".") and "\0" not in name
    if not name or not is_plain or len(os.fsencode(name)) > _LONGEST_NAME:
        short = name if len(name) <= 80 else f"{name[:80]}…"
        raise UsageError(f"the name {short!r} must be a plain folder name of at most {_LONGEST_NAME} bytes")
    with _STARTING:
        path, number = project / name, 1
        while path.exists() and (_record(path) or {}).get("arguments") != list(arguments):
            number += 1
            path = project / f"{name}{number}"
        if running(path):
            raise RobustBenchError(f"{path} is being worked on already")
        if others := [other.name for other in started(project) if running(other)]:
            raise RobustBenchError(
                f"{others[0]} is running, and one run at a time is started here; wait for its end or stop it"
            )
        _begin(path, arguments)
    return path


def _begin(path: Path, arguments: Sequence[str]) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RobustBenchError(f"cannot make {path}: {error.strerror or error}") from error
    begun, files = _share(path), SafeDirectory(path)
    words = [*_COMMAND, "run", *arguments, *_place(path)]
    with files.open(LOG, "a+b") as log:
        child = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    record = {"pid": child.pid, "arguments": list(arguments), "started": time.time(), "share": begun}
    files.write_json(_RECORD, record)


def started(project: Path) -> list[Path]:
    """The run directories of a project that were started from a dashboard, the newest first."""
    paths = {record.parent for record in project.glob(f"*/{_RECORD}")} if project.is_dir() else set()
    return sorted(paths, key=started_at, reverse=True)


def running(path: Path) -> bool:
    """Whether the process that was started for a run directory still works on it."""
    return _process(path) is not None


def started_at(path: Path) -> float:
    """When, in seconds since 1970."""
    return float((_record(path) or {}).get("started", time.time()))


def stop(path: Path) -> None:
    """Ask the run to stop, as Ctrl-C does, and end it in a while if it does not; what is finished is kept."""
    process = _process(path)
    if process is None:
        return
    with contextlib.suppress(psutil.Error):
        process.send_signal(signal.SIGINT)
    with contextlib.suppress(RobustBenchError):  # it stops, whether or not that can be noted
        SafeDirectory(path).write_json(_RECORD, {**(_record(path) or {}), "stopping": time.time()})
    threading.Thread(target=_end, args=(process,), daemon=True).start()


def stopping(path: Path) -> bool:
    """Whether a run that still works was asked to stop a moment ago."""
    asked = float((_record(path) or {}).get("stopping", 0))
    return running(path) and time.time() - asked < 2 * _PATIENCE


def _end(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error):
        try:
            process.wait(_PATIENCE)
        except psutil.TimeoutExpired:
            process.kill()  # as safe: a shard is whole or absent


def progress(run: Run) -> Progress:
    """From the store alone."""
    cells = run.cells
    shards = shard_count(int(run.plan["data"]["images"]))
    done, complete = 0.0, 0
    for cell in cells:
        if run.store.complete(cell):
            complete += 1
            done += 1
        else:
            done += min(1.0, len(run.store.shards(cell)) / max(shards, 1)) * 0.99
    return Progress(len(cells), complete, done / max(len(cells), 1))


def seconds_left(path: Path, at: Progress) -> float | None:
    """At the pace since the run was started, or went on; None where that is not known yet."""
    record: Mapping[str, Any] = _record(path) or {}
    before = record.get("share", 0.0)
    made = at.share - (before if before <= at.share else 0.0)  # of other code or data, perhaps
    if made < 0.02 or "started" not in record:
        return None
    return float((time.time() - record["started"]) * (1 - at.share) / made)


def log(path: Path, most: int = 4000) -> str:
    """The end of a run's log; why it cannot be read, where it is a link or no regular file."""
    try:
        with SafeDirectory(path).open(LOG) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - most))
            text = file.read(most).decode("utf-8", "replace")
    except UnsafeFileError as error:
        return str(error)
    except OSError:
        return ""
    return "\n".join(line.rstrip() for line in text.replace("\r", "\n").splitlines() if line.strip())


def _place(path: Path) -> list[str]:
    return ["--project", str(path.parent), "--name", path.name, "--exist-ok"]


def _share(path: Path) -> float:
    """How far a run is before it goes on."""
    try:
        return progress(Run.open(path)).share
    except (RobustBenchError, OSError):
        return 0.0


def _record(path: Path) -> dict[str, Any] | None:
    try:
        found = read_json(path / _RECORD, 2**16, SafeDirectory(path))
    except RobustBenchError:
        return None
    if not isinstance(found, dict) or not (type(pid := found.get("pid")) is int and 0 < pid < 2**31):
        return None
    numbers = [found.get(key, 0.0) for key in ("started", "share", "stopping")]
    return found if all(isinstance(n, int | float) and abs(n) < 1e12 for n in numbers) else None


def _process(path: Path) -> psutil.Process | None:
    """The run's process: the recorded one, if its own command line says that it works on this directory."""
    record: Mapping[str, Any] = _record(path) or {}
    try:
        process = psutil.Process(int(record["pid"]))
        words = process.cmdline()
        if process.status() == psutil.STATUS_ZOMBIE:
            with contextlib.suppress(ChildProcessError, OSError):
                os.waitpid(process.pid, os.WNOHANG)
            return None
    except (KeyError, psutil.Error, ValueError):
        return None
    ours = list(_COMMAND[1:]) == words[1 : len(_COMMAND)] and words[-5:] == _place(path)
    return process if ours else None


def _last_words(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else "the command failed without a word"
