"""The Ray executor: units as calls of actors, each of which keeps the detectors loaded.

Workers need no shared disk: one that sees the run directory writes it, the others send their shards to the driver.
Detectors travel as tensors, corruptions as names of files and functions, images as paths where a worker sees the same
files, else as bytes.
"""

import importlib
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import chdir, contextmanager, nullcontext
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

from robustbench_sgdm.core.errors import DataError, DeviceError, RobustBenchError, UsageError
from robustbench_sgdm.core.worker_bootstrap import override_environ
from robustbench_sgdm.datasets import Image
from robustbench_sgdm.store import share_store
from robustbench_sgdm.sweep.executors.base import ResultSink
from robustbench_sgdm.sweep.executors.scheduler import PREFETCH_PER_WORKER, EventQueue, run_scheduled
from robustbench_sgdm.sweep.executors.threads import available_cores
from robustbench_sgdm.sweep.executors.worker_process import UnitResult, WorkerRuntime, make_payload
from robustbench_sgdm.sweep.plan import ScoringTask, Task, WorkUnit
from robustbench_sgdm.sweep.worker import Worker

_CONNECT_TIMEOUT = 10.0  # seconds for the head of a cluster to answer
_CONNECT_TRIES = "RAY_gcs_server_port_wait_time_s"  # how often Ray asks a head that does not answer
# Set to "0", which Ray obeys on Linux too, it makes a cluster listen on the loopback only; `ray.init` itself would
# turn 127.0.0.1 into the machine's address in the network.
_LISTEN_ON_NETWORK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_MAX_FOLDER_LENGTH = 30  # characters; a socket's path has 107 at most, of which Ray takes 66


@contextmanager
def ray_executor(
    address: str | None = None, *, workers: int = 0, device: str = "cpu", gpus: float = 1.0
) -> Iterator["RayExecutor"]:
    """Connect to a Ray cluster, or start one on this machine for as long as the context lasts.

    A cluster started here listens on the loopback only and keeps its files where only the user can read them.

    Args:
        address: `host:port` or `auto`; None starts a cluster.
        workers: how many; 0 for as many as the cluster has room for now. The run waits for those without room.
        device: the run's; on `cuda` each worker asks for `gpus`, else for one CPU.
        gpus: of each worker; 0.5 lets two share one.

    Raises:
        UsageError: Ray is not installed, `gpus` is out of bounds, or there is no room for a worker.
        RobustBenchError: the cluster cannot be reached.
    """
    check_ray_options(address, device=device, gpus=gpus)
    with _private_folder() if address is None else nullcontext() as folder:
        ray = _connect(address, folder)
        try:
            kind, amount = ("GPU", gpus) if device.startswith("cuda") else ("CPU", 1.0)
            there = float(ray.cluster_resources().get(kind, 0))
            room = int(there / amount + 1e-9)
            if not workers and not room:
                raise UsageError(
                    f"the Ray cluster has {there:g} {kind}s, a worker needs {amount:g}: add a node, or set --workers "
                    "to wait for one"
                )
            yield RayExecutor(ray, workers or room, gpus if kind == "GPU" else 0.0)
        finally:
            ray.shutdown()


def check_ray_options(address: str | None, *, device: str, gpus: float, connect: bool = True) -> None:
    """Reject what cannot work, within seconds and before anything is written; Ray itself would try for minutes.

    Args:
        address, device, gpus: see `ray_executor`.
        connect: whether to try the address.

    Raises:
        UsageError: `gpus` is out of bounds, Ray cannot assign the device, or the address is malformed.
        RobustBenchError: nothing answers at the address.
    """
    if not 0 < gpus <= 64:
        raise UsageError(f"--gpus {gpus} must be above 0 and at most 64; 0.5 lets two workers share a GPU")
    if device not in ("cpu", "cuda", "cuda:0"):
        raise UsageError(
            f"Ray assigns each worker its GPU: with --executor ray use --device cuda, not {device}"
        )
    if address in (None, "auto"):
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UsageError(f"--address {address!r} must be HOST:PORT, as `ray start --head` prints it, or auto")
    if not connect:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT).close()
    except (OSError, UnicodeError) as error:
        raise RobustBenchError(f"no Ray cluster at {address}: {error}; is its head node running?") from error


def _connect(address: str | None, folder: str | None) -> Any:
    """The module `ray`, connected to a cluster, or to a new one that keeps its files in a folder."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry unless the user wants it
    if address is None:  # its ports run anyone's code: they ask for a token of this process
        if "ray" not in sys.modules:  # Ray reads these at its import only
            os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)
            os.environ[_LISTEN_ON_NETWORK] = "0"
        elif os.environ.get("RAY_AUTH_MODE") != "token":
            raise UsageError(
                "Ray was imported already, without a token: set RAY_AUTH_MODE=token before, or give an address"
            )
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise UsageError(
            "--executor ray needs Ray, which is not installed: pip install 'robustbench-sgdm[ray]'"
        ) from None
    how: dict[str, Any] = {"address": address}
    if folder:
        how = {"address": "local", "num_cpus": available_cores(), "include_dashboard": False}
        # Ray lets everybody write into the folder that it is given; nobody else can enter one inside ours.
        how["_temp_dir"] = str(Path(folder) / "ray")
    before = signal.getsignal(signal.SIGTERM)
    # Without it Ray asks twenty times, half a minute each, where something else than a cluster listens.
    once = {} if address is None or _CONNECT_TRIES in os.environ else {_CONNECT_TRIES: "1"}
    try:
        # Ray lets workers import from the driver's current folder, which may hold files of strangers.
        with (
            override_environ(**once),
            chdir(Path(sys.executable).parent),
            _private_files() if folder else nullcontext(),
        ):
            ray.init(**how, log_to_driver=False, logging_level=logging.ERROR)
        if folder and not ip_address(ray.util.get_node_ip_address()).is_loopback:
            ray.shutdown()
            raise UsageError(
                f"Ray was imported already and listens on the network: set {_LISTEN_ON_NETWORK}=0 before"
            )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
        where = f"at {address}" if address else "on this machine"
        token = "; if it has a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to it" if address else ""
        raise RobustBenchError(
            f"cannot use a Ray cluster {where}: {str(error).strip().partition(chr(10))[0]}{token}"
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # Ray sets its own handler, which exits at once
    return ray


def _private_folder() -> "TemporaryDirectory[str]":
    """A new folder that only the user can enter, of a short path, for Ray's session: its logs and sockets."""
    usual = tempfile.gettempdir()
    place = usual if len(usual) <= _MAX_FOLDER_LENGTH or not Path("/tmp").is_dir() else "/tmp"
    return TemporaryDirectory(prefix="rb-ray-", dir=place, ignore_cleanup_errors=True)


@contextmanager
def _private_files() -> Iterator[None]:
    """Only the user can read files that this process, or one started meanwhile, writes."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@dataclass(frozen=True)
class RayExecutor:
    """Runs units on a cluster; see `ray_executor`."""

    ray: Any
    workers: int
    gpus: float

    def run(self, units: Sequence[WorkUnit], worker: Worker, sink: ResultSink) -> None:
        """Run the units; lost workers are replaced."""
        events: EventQueue = SimpleQueue()
        absolute = [replace(u, images=[replace(i, path=i.path.absolute()) for i in u.images]) for u in units]
        with share_store(sink.store) as shared:
            payload = self.ray.put(make_payload(absolute, worker, shared, sink.scorer))
            pool = _ActorPool(self, min(self.workers, len(units)), payload, events)
            try:
                run_scheduled(absolute, pool, worker, sink, events)
            finally:
                pool.close()


class _ActorPool:
    """Actors. One that is lost, or whose device failed, is replaced; only started ones get units."""

    def __init__(self, cluster: RayExecutor, workers: int, payload: Any, events: EventQueue) -> None:
        self.workers, self._cluster, self._payload, self._events = workers, cluster, payload, events
        self._ray = cluster.ray
        failures = self._ray.exceptions
        self.loss_errors = (
            failures.RayActorError,
            failures.WorkerCrashedError,
            failures.NodeDiedError,
            failures.OutOfMemoryError,
            failures.ObjectLostError,
        )
        self._lock = threading.Lock()
        self._actors: set[Any] = set()
        self._failed: deque[Any] = deque()
        self._in_flight: dict[Any, int] = {}  # by actors that have started
        self._has_images: dict[Any, bool] = {}
        self._sent_shards: OrderedDict[int, Any] = OrderedDict()
        for _ in range(workers):
            self._start_actor()

    def has_capacity(self) -> bool:
        while self._failed:
            self._kill_actor(self._failed.popleft())
            self._start_actor()
        with self._lock:
            return any(count < PREFETCH_PER_WORKER for count in self._in_flight.values())

    def submit(self, task: Task) -> Future[UnitResult]:
        with self._lock:
            if not self._in_flight:  # the last one was lost since `has_capacity`
                lost: Future[UnitResult] = Future()
                lost.set_exception(self._ray.exceptions.ActorDiedError())
                return lost
            actor = min(self._in_flight, key=lambda a: self._in_flight[a])
            self._in_flight[actor] += 1
            has_images = self._has_images[actor]
        contents = () if has_images or isinstance(task, ScoringTask) else self._contents(task)
        future: Future[UnitResult] = actor.run.remote(task, contents).future()
        future.add_done_callback(lambda done: self._on_result(actor, done))
        return future

    def close(self) -> None:
        for actor in list(self._actors):
            self._kill_actor(actor)

    def _start_actor(self) -> None:
        how = {"num_cpus": 1, "num_gpus": self._cluster.gpus, "max_restarts": 0}
        actor = self._ray.remote(WorkerRuntime).options(**how).remote(self._payload)
        self._actors.add(actor)
        actor.has_images.remote().future().add_done_callback(lambda done: self._on_start(actor, done))

    def _kill_actor(self, actor: Any) -> None:
        self._actors.discard(actor)
        self._ray.kill(actor)

    # Ray calls the next two from its own thread, which must not call Ray: it would wait for itself.

    def _on_start(self, actor: Any, done: Future[bool]) -> None:
        error = done.exception()
        if error is None:
            with self._lock:
                self._in_flight[actor], self._has_images[actor] = 0, done.result()
        else:
            self._failed.append(actor)
        self._events.put((None, error))

    def _on_result(self, actor: Any, done: Future[UnitResult]) -> None:
        failed = done.exception() is not None or isinstance(done.result().outcome, DeviceError)
        with self._lock:
            if actor in self._in_flight:
                self._in_flight[actor] -= 1
                if failed:
                    del self._in_flight[actor]
                    self._failed.append(actor)

    def _contents(self, unit: WorkUnit) -> Any:
        """The unit's image files in the object store, where the last few shards stay for the next corruption."""
        if unit.shard not in self._sent_shards:
            self._sent_shards[unit.shard] = self._ray.put([_read(image) for image in unit.images])
        self._sent_shards.move_to_end(unit.shard)
        while len(self._sent_shards) > 2 * PREFETCH_PER_WORKER * self.workers:
            self._sent_shards.popitem(last=False)
        return self._sent_shards[unit.shard]


def _read(image: Image) -> bytes:
    try:
        return image.path.read_bytes()
    except OSError as error:
        raise DataError(f"{image.path} cannot be read: {error.strerror or error}") from error
