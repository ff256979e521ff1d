"""Executors: units done in other processes give the same files; a lost worker costs nothing."""

import importlib
import math
import multiprocessing
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, suppress
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psutil
import pytest

from robustbench_sgdm import corruption, datasets
from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.errors import RobustBenchError, UsageError
from robustbench_sgdm.detectors import load_detectors
from robustbench_sgdm.store import Run, Settings
from robustbench_sgdm.sweep import (
    Executor,
    Plan,
    ProcessExecutor,
    make_plan,
    pending_units,
    ray_executor,
    run_sweep,
)
from robustbench_sgdm.sweep.executors import processes

pytestmark = pytest.mark.filterwarnings("default:::ray")

Stored = dict[str, bytes]


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that somebody may stand in."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def ray(downloads: Path) -> Iterator[Executor]:
    """One cluster for this file: it takes seconds to start."""
    if find_spec("ray") is None:
        pytest.skip("Ray (the extra [ray]) is not installed")
    with ExitStack() as until:
        with chdir(downloads):
            started = until.enter_context(ray_executor(workers=2))
        yield started


@pytest.fixture
def plan() -> Plan:
    entries = load_detectors(["yolov8n"], InferenceConfig(imgsz=64))
    chosen = corruption.load_corruptions().select(["gaussian_noise"])
    data = datasets.load_dataset("scenes").subset(0.08)
    return make_plan(entries, data, chosen, [0, 3], Settings("cpu", "torch", 0, 4))


@pytest.fixture
def start(tmp_path: Path, plan: Plan) -> Callable[[str], Run]:
    return lambda name: Run.create_or_resume(tmp_path, name, plan.to_manifest())


@pytest.fixture
def reference(plan: Plan, start: Callable[[str], Run]) -> Stored:
    run = start("threads")
    run_sweep(plan, run.store)
    return stored(run)


def stored(run: Run) -> Stored:
    run.write_results()
    files = (p for p in run.path.rglob("*") if p.is_file() and p.name not in ("manifest.json", ".lock"))
    return {str(p.relative_to(run.path)): p.read_bytes() for p in files}


def killer(victims: Callable[[], list[int]], at: int) -> tuple[Callable[[int], None], list[int]]:
    """Kills one of the victims with the `at`-th prediction, or a later one where none is found by then."""
    done: list[int] = []
    killed: list[int] = []

    def progress(count: int) -> None:
        done.append(count)
        if sum(done) >= at and not killed and (found := victims()):
            killed.append(found[0])
            os.kill(found[0], signal.SIGKILL)

    return progress, killed


def children() -> list[int]:
    return [int(child.pid or 0) for child in multiprocessing.active_children()]


def actors() -> list[int]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it ended meanwhile
            found += [process.pid] if "WorkerRuntime" in " ".join(process.cmdline()) else []
    return found


def test_processes_give_the_same_cells_though_one_is_killed(
    plan: Plan, start: Callable[[str], Run], reference: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    run, (progress, killed) = start("processes"), killer(children, at=5)
    assert run_sweep(plan, run.store, executor=ProcessExecutor(2), progress=progress) == []
    assert killed and stored(run) == reference
    assert any("worker lost at shard" in r.message for r in caplog.records)
    assert not children()


@pytest.mark.slow
def test_a_worker_killed_while_it_takes_a_unit_does_not_stop_the_others(
    plan: Plan, start: Callable[[str], Run], reference: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is killed as soon as it is there, while it still imports and units are dealt to all."""
    begin, killed = processes.ProcessPool._start, list[int | None]()

    def beginning(pool: Any) -> Any:
        process, link = begin(pool)
        if not killed:
            killed.append(process.pid)
            process.kill()
        return process, link

    monkeypatch.setattr(processes.ProcessPool, "_start", beginning)
    run = start("taken")
    assert run_sweep(plan, run.store, executor=ProcessExecutor(2)) == []
    assert killed and stored(run) == reference and not children()


def test_workers_run_no_code_of_the_current_folder(tmp_path: Path) -> None:
    """In a process of its own: in this one multiprocessing's tracker, which is a process too, is there by now."""
    (tmp_path / "pickle.py").write_text("import pathlib; pathlib.Path('RAN').touch()")
    words = [
        "run",
        "--model",
        "yolov8n",
        "--noise",
        "gaussian",
        "--severity",
        "0",
        "--imgsz",
        "64",
        "--no-report",
    ]
    command = [
        sys.executable,
        "-P",
        "-m",
        "robustbench_sgdm.cli",
        *words,
        "--fraction",
        "0.02",
        "--workers",
        "1",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [path.name for path in (tmp_path / "runs/robustness").iterdir()] == [
        "yolov8n_gaussian_scenes-0.02"
    ]
    assert not (tmp_path / "RAN").exists()


def ours() -> list[psutil.Process]:
    """This process and all that it has started, or that those have."""
    return [psutil.Process(), *psutil.Process().children(recursive=True)]


def test_a_cluster_of_ones_own_listens_to_this_machine_alone(ray: Executor) -> None:
    library: Any = importlib.import_module("ray")
    assert library.get(library.remote(lambda: 1).remote()) == 1  # a worker is up, which listens too
    open_to = [
        (process.name(), connection.laddr.ip)
        for process in ours()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN or connection.type == socket.SOCK_DGRAM
    ]
    assert len(open_to) > 4  # the head, the raylet's two, the driver's and a worker's
    assert not [
        one for one in open_to if not ip_address(one[1].removeprefix("::ffff:").partition("%")[0]).is_loopback
    ]


def test_the_files_of_a_cluster_of_ones_own_are_the_users_alone(ray: Executor) -> None:
    library: Any = importlib.import_module("ray")
    session = Path(library._private.worker._global_node.get_session_dir_path())
    root = session.parent.parent
    assert stat.S_IMODE(root.stat().st_mode) == 0o700 and root.stat().st_uid == os.getuid()
    files = [path.lstat() for path in session.rglob("*") if not path.is_dir()]
    assert len(files) > 10 and not [
        one for one in files if one.st_mode & 0o077 and not stat.S_ISLNK(one.st_mode)
    ]
    shared = Path("/dev/shm")  # the object store's memory has no name, or is in the session's folder
    began = root.stat().st_ctime
    named = [path.lstat() for path in shared.iterdir()] if shared.is_dir() else []
    assert not [
        one for one in named if one.st_uid == os.getuid() and one.st_ctime >= began and one.st_mode & 0o077
    ]


@pytest.mark.usefixtures("ray")
def test_ray_workers_import_nothing_from_the_current_folder(downloads: Path) -> None:
    library: Any = importlib.import_module("ray")
    folders = library.get(library.remote(lambda: [str(Path.cwd()), *sys.path]).remote())
    assert len(folders) > 2 and str(downloads) not in folders


def test_ray_gives_the_same_cells_though_a_worker_is_killed(
    plan: Plan,
    start: Callable[[str], Run],
    reference: Stored,
    ray: Executor,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run, (progress, killed) = start("ray"), killer(actors, at=5)
    assert run_sweep(plan, run.store, executor=ray, progress=progress) == []
    assert killed and stored(run) == reference
    assert any("worker lost at" in r.message for r in caplog.records)


def test_begun_on_ray_with_images_sent_and_finished_here(
    plan: Plan, start: Callable[[str], Run], reference: Stored, ray: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that do not see the driver's files get them through the object store."""
    from robustbench_sgdm.sweep.executors import ray as ray_module
    from robustbench_sgdm.sweep.executors import worker_process

    sent: list[Path] = []
    read = ray_module._read

    def counted(image: datasets.Image) -> bytes:
        sent.append(image.path)
        return read(image)

    monkeypatch.setattr(ray_module, "_read", counted)
    monkeypatch.setattr(worker_process, "_file_digest", lambda _: "of a file that only the driver sees")
    run, done = start("both"), [0]

    def interrupt(count: int) -> None:
        done[0] += count
        if done[0] >= len(plan.dataset):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(plan, run.store, executor=ray, progress=interrupt)
    left = sum(unit.size for unit in pending_units(plan, run.store))
    assert sent and 0 < left <= len(plan.dataset)
    run_sweep(plan, run.store)
    assert stored(run) == reference


def test_a_unit_that_takes_every_worker_with_it_ends_the_run(plan: Plan, start: Callable[[str], Run]) -> None:
    run, over = start("cursed"), threading.Event()

    def curse() -> None:
        while not over.wait(0.05):
            for pid in children():
                with suppress(ProcessLookupError):  # it was waited for meanwhile
                    os.kill(pid, signal.SIGKILL)

    threading.Thread(target=curse).start()
    try:
        with pytest.raises(RobustBenchError, match=r"4 workers were lost at shard .*use fewer --workers"):
            run_sweep(plan, run.store, executor=ProcessExecutor(1))
    finally:
        over.set()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"gpus": 0}, "--gpus 0"),
        ({"gpus": math.nan}, "--gpus nan"),
        ({"device": "cuda:1"}, "--device cuda, not cuda:1"),
        ({"address": "host"}, "must be HOST:PORT"),
        ({"address": "host:99999999"}, "must be HOST:PORT"),
        ({"address": "ray://host:1"}, "must be HOST:PORT"),
    ],
)
def test_what_ray_cannot_do(how: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message), ray_executor(**how):
        pass


def test_an_address_where_nothing_listens_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        pytest.raises(RobustBenchError, match=f"no Ray cluster at 127.0.0.1:{port}"),
        ray_executor(f"127.0.0.1:{port}"),
    ):
        pass


@pytest.mark.slow
def test_what_listens_and_is_no_cluster_is_left_within_a_minute() -> None:
    """Ray itself would ask for a quarter of an hour."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as deaf:
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        code = f"from robustbench_sgdm.sweep import ray_executor\nwith ray_executor({address!r}): pass"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90)
    assert "RobustBenchError: no Ray cluster at 127.0.0.1" in done.stderr
