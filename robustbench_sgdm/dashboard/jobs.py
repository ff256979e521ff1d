"""Runs in their own processes: started from a page, watched through the store, stopped by signal."""

import contextlib
import hashlib
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from robustbench_sgdm.core.errors import RobustBenchError, UnsafeFileError, UsageError
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.core.versions import installed_versions
from robustbench_sgdm.datasets.cache import cache_dir
from robustbench_sgdm.store import Run, shard_count
from robustbench_sgdm.store.schema import DashboardJob

LOG = "dashboard.log"
_RECORD = "dashboard.json"
# -P: import nothing from the current directory.
_COMMAND = (sys.executable, "-P", "-m", "robustbench_sgdm.cli")
_STOP_TIMEOUT = 15.0  # s for a run to finish its work unit; then it is killed
_MAX_NAME = 200  # bytes; file systems take 255, and a number and temporary files' endings are added
_START_LOCK = threading.Lock()  # two visitors must not both find that nothing runs
_CALL_LOCK = threading.Lock()  # a command may take the whole machine
_CALL_TIMEOUT = 60.0  # s to wait for another visitor's command
_MAX_ESTIMATE = 2**16  # bytes


@dataclass(frozen=True)
class JobProgress:
    """How far a run is.

    Attributes:
        cells: planned.
        complete: of those.
        share: of all shards, in [0, 1]; those of incomplete cells count too.
    """

    cells: int
    complete: int
    share: float


def run_command(*words: str) -> "subprocess.CompletedProcess[str]":
    """Run `robustbench` with these arguments and wait for it; one such process at a time for all visitors.

    Raises:
        RobustBenchError: another visitor's takes too long.
    """
    if not _CALL_LOCK.acquire(timeout=_CALL_TIMEOUT):
        raise RobustBenchError("the server is busy with another visitor's command; try again in a minute")
    try:
        return subprocess.run([*_COMMAND, *words], capture_output=True, text=True, check=False)
    finally:
        _CALL_LOCK.release()


def known_estimate(arguments: Sequence[str]) -> str:
    """The last estimate of the same arguments and files; empty if there is none.

    Files within a folder that is named do not count, nor what else the machine did.
    """
    try:
        text = SafeDirectory(_estimates()).read_bytes(_estimate_name(arguments), _MAX_ESTIMATE).decode()
    except (OSError, ValueError, RobustBenchError):
        return ""
    return text.strip()


def estimate_cost(arguments: Sequence[str]) -> str:
    """Measure what a run would cost, in words; kept on disk for `known_estimate`.

    Raises:
        UsageError: the command line rejects the arguments.
    """
    name = _estimate_name(arguments)
    done = run_command("run", *arguments, "--estimate")
    if done.returncode:
        raise UsageError(_last_words(done.stderr))
    with contextlib.suppress(OSError):  # on a full disk it is made again another time
        _estimates().mkdir(parents=True, exist_ok=True)
        SafeDirectory(_estimates()).write_text(name, done.stdout)
    return done.stdout.strip()


def _estimates() -> Path:
    return cache_dir() / "estimates"


def _estimate_name(arguments: Sequence[str]) -> str:
    """The file of an estimate: of the machine, the versions, the arguments, and the files that these name."""
    stamps = []
    for name in (part for word in arguments for part in (word, word.partition("=")[2]) if part):
        with contextlib.suppress(OSError, ValueError):
            about = Path(name).stat()
            stamps.append((name, about.st_mtime_ns, about.st_size))
    facts = platform.node(), sorted(installed_versions().items()), list(arguments), stamps
    return f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:32]}.txt"


def write_report(path: Path) -> None:
    """Compute a run's intervals and write its report.

    Raises:
        RobustBenchError: it cannot, or the server is busy.
    """
    done = run_command("report", "--", str(path))
    if done.returncode:
        raise RobustBenchError(_last_words(done.stderr))


def check_name(name: str) -> None:
    """Refuse a name of a run directory.

    Raises:
        UsageError: not a plain directory name, or too long.
    """
    is_plain = Path(name).name == name and not name.startswith(".") and "\0" not in name
    if not name or not is_plain or len(os.fsencode(name)) > _MAX_NAME:
        short = name if len(name) <= 80 else f"{name[:80]}…"
        raise UsageError(f"the name {short!r} must be a plain directory name of at most {_MAX_NAME} bytes")


def start(arguments: Sequence[str], project: Path, name: str) -> Path:
    """Start a run in its own process and session, with its log in the run directory.

    A run with the same name and arguments resumes; other arguments get the next free name. Only one run of a project
    runs at a time, since each uses the whole machine.

    Raises:
        UsageError: the name is not a plain directory name.
        RobustBenchError: this run or another one is running.
    """
    check_name(name)
    with _START_LOCK:
        path, number = project / name, 1
        while path.exists() and ((job := _job(path)) is None or job.arguments != tuple(arguments)):
            number += 1
            path = project / f"{name}{number}"
        if is_running(path):
            raise RobustBenchError(f"{path} is already running")
        if others := [other.name for other in started_runs(project) if is_running(other)]:
            raise RobustBenchError(
                f"{others[0]} is running, and only one run can run at a time; wait until it ends, or stop it"
            )
        _launch(path, arguments)
    return path


def _launch(path: Path, arguments: Sequence[str]) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RobustBenchError(f"cannot create {path}: {error.strerror or error}") from error
    share, files = _share(path), SafeDirectory(path)
    words = [*_COMMAND, "run", *arguments, *directory_options(path)]
    with files.open(LOG, "a+b") as log:
        child = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    job = DashboardJob(pid=child.pid, arguments=tuple(arguments), started=time.time(), share=share)
    job.write(_RECORD, files)


def started_runs(project: Path) -> list[Path]:
    """The run directories of a project that were started from a dashboard, newest first."""
    paths = {record.parent for record in project.glob(f"*/{_RECORD}")} if project.is_dir() else set()
    return sorted(paths, key=started_at, reverse=True)


def is_running(path: Path) -> bool:
    """Whether the process that was started for a run directory still runs."""
    return _process(path) is not None


def started_at(path: Path) -> float:
    """Start time, in seconds since 1970."""
    job = _job(path)
    return job.started if job else time.time()


def stop(path: Path) -> None:
    """Ask the run to stop, as a scheduler does, and kill it later if it goes on; what is finished is stored."""
    process = _process(path)
    if process is None:
        return
    with contextlib.suppress(psutil.Error):
        process.terminate()  # not SIGINT, which runs of a dashboard that a shell started in the background ignore
    with contextlib.suppress(RobustBenchError):  # it stops even if that cannot be recorded
        if job := _job(path):
            job.model_copy(update={"stopping": time.time()}).write(_RECORD, SafeDirectory(path))
    threading.Thread(target=_kill_later, args=(process,), daemon=True).start()


def is_stopping(path: Path) -> bool:
    """Whether a run was interrupted a moment ago and still runs."""
    job = _job(path)
    return job is not None and is_running(path) and time.time() - job.stopping < 2 * _STOP_TIMEOUT


def _kill_later(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error):
        try:
            process.wait(_STOP_TIMEOUT)
        except psutil.TimeoutExpired:
            process.kill()  # safe: a shard is complete or absent


def arguments(path: Path) -> tuple[str, ...]:
    """The arguments that a run directory says it was started with; of a stranger's directory they may be anything."""
    job = _job(path)
    return job.arguments if job else ()


def failure_reason(path: Path) -> str:
    """The last error in the end of a run's log; empty if there is none."""
    lines = [line for line in read_log(path).splitlines()[-12:] if line.startswith("error: ")]
    return lines[-1].removeprefix("error: ") if lines else ""


def stages(path: Path, run: Run, progress: JobProgress) -> dict[str, float]:
    """How much of each stage of a run is done, in [0, 1], in their order; from its files alone."""
    begun = started_at(path) if is_running(path) else 0.0
    with_samples = sum(
        run.files.is_file(run.statistics_folder(cell) / "bootstrap.parquet") for cell in run.cells
    )

    def is_written(name: str, after: float = 0.0) -> float:
        about = run.files.stat(name)
        return float(about is not None and about.st_mtime >= after)

    return {
        "predictions": progress.share,
        "latency": is_written("latency.csv"),
        "PSNR and SSIM": is_written("image_quality.csv"),
        "statistics": with_samples / max(progress.cells, 1),
        "report": is_written("report.html", begun),
    }


def job_progress(run: Run) -> JobProgress:
    """Progress of a run, from its files alone."""
    cells = run.cells
    shards = shard_count(run.manifest.data.images)
    done, complete = 0.0, 0
    for cell in cells:
        if run.store.is_complete(cell):
            complete += 1
            done += 1
        else:
            done += min(1.0, len(run.store.stored_shards(cell)) / max(shards, 1)) * 0.99
    return JobProgress(len(cells), complete, done / max(len(cells), 1))


def seconds_left(path: Path, progress: JobProgress) -> float | None:
    """Time left at the pace since the run was started or resumed; None while that is unknown."""
    job = _job(path)
    if job is None:
        return None
    # Else its cells are outdated: code or data changed.
    before = job.share if job.share <= progress.share else 0.0
    done = progress.share - before
    return None if done < 0.02 else (time.time() - job.started) * (1 - progress.share) / done


def read_log(path: Path, max_bytes: int = 4000) -> str:
    """The end of a run's log, or why it cannot be read if it is a link or not a regular file."""
    try:
        with SafeDirectory(path).open(LOG) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - max_bytes))
            text = file.read(max_bytes).decode("utf-8", "replace")
    except UnsafeFileError as error:
        return str(error)
    except OSError:
        return ""
    return "\n".join(line.rstrip() for line in text.replace("\r", "\n").splitlines() if line.strip())


def directory_options(path: Path) -> list[str]:
    """The options of `robustbench run` that make or resume a run directory."""
    return ["--project", str(path.parent), "--name", path.name, "--exist-ok"]


def _share(path: Path) -> float:
    """How far a run is before it resumes."""
    try:
        return job_progress(Run.open(path)).share
    except (RobustBenchError, OSError):
        return 0.0


def _job(path: Path) -> DashboardJob | None:
    try:
        return DashboardJob.read(path / _RECORD, SafeDirectory(path))
    except RobustBenchError:
        return None


def _process(path: Path) -> psutil.Process | None:
    """The recorded process, if its command line says that it works on this directory: numbers are used again."""
    if (job := _job(path)) is None:
        return None
    try:
        process = psutil.Process(job.pid)
        words = process.cmdline()
        if process.status() == psutil.STATUS_ZOMBIE:
            with contextlib.suppress(ChildProcessError, OSError):
                os.waitpid(process.pid, os.WNOHANG)
            return None
    except (psutil.Error, ValueError):
        return None
    ours = list(_COMMAND[1:]) == words[1 : len(_COMMAND)] and words[-5:] == directory_options(path)
    return process if ours else None


def _last_words(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else "the command failed without a message"
