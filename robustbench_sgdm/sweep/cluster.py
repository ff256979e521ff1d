"""The Ray executor: units as calls of actors, each of which keeps the line-up of detectors loaded.

The driver alone writes the run directory, so workers need no common disk. Detectors travel as tensors,
corruptions as names of files and functions, images as paths where a worker sees the same files, else as bytes.
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
from robustbench_sgdm.sweep.dealing import AHEAD, News, deal
from robustbench_sgdm.sweep.executor import Sink
from robustbench_sgdm.sweep.local import cores
from robustbench_sgdm.sweep.plan import Unit
from robustbench_sgdm.sweep.remote import Post, Report, make_kit
from robustbench_sgdm.sweep.work import Worker

_PATIENCE = 10.0  # seconds for the head of a cluster to answer
_TRIES = "RAY_gcs_server_port_wait_time_s"  # how often Ray asks a head that does not answer
# Where "0", which Ray takes on Linux too, a cluster listens on the loopback alone; `ray.init` itself turns 127.0.0.1 into
# the machine's address in the network.
_REACHABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_LONGEST_FOLDER = 30  # characters; a socket's path has 107 at the most, of which Ray takes 66


@contextmanager
def on_ray(
    address: str | None = None, *, workers: int = 0, device: str = "cpu", gpus: float = 1.0
) -> Iterator["Ray"]:
    """Connect to a Ray cluster, or start one on this machine for as long as the context lasts.

    One that is started listens on the loopback alone, and keeps its files where the user alone can read them.

    Args:
        address: `host:port` or `auto`; None starts a cluster.
        workers: how many; 0 takes as many as the cluster has room for now. More are waited for.
        device: the run's; on `cuda` each worker asks for `gpus`, else for one CPU.
        gpus: of each worker; a half lets two share one.

    Raises:
        UsageError: Ray is not installed, `gpus` is no amount, or there is no room for a worker.
        RobustBenchError: the cluster cannot be reached.
    """
    check_ray(address, device=device, gpus=gpus)
    with _private_folder() if address is None else nullcontext() as folder:
        ray = _connect(address, folder)
        try:
            kind, amount = ("GPU", gpus) if device.startswith("cuda") else ("CPU", 1.0)
            there = float(ray.cluster_resources().get(kind, 0))
            room = int(there / amount + 1e-9)
            if not workers and not room:
                raise UsageError(
                    f"the Ray cluster has {there:g} {kind}s, a worker needs {amount:g}: add a node, or give --workers "
                    "to wait for one"
                )
            yield Ray(ray, workers or room, gpus if kind == "GPU" else 0.0)
        finally:
            ray.shutdown()


def check_ray(address: str | None, *, device: str, gpus: float, connect: bool = True) -> None:
    """Refuse what cannot work, in seconds and before anything is made; Ray itself would try for minutes.

    Args:
        address, device, gpus: see `on_ray`.
        connect: whether to try the address.

    Raises:
        UsageError: `gpus` is no amount, the device is not Ray's to give, or the address is none.
        RobustBenchError: nothing answers at the address.
    """
    if not 0 < gpus <= 64:
        raise UsageError(f"--gpus {gpus} must be above 0 and at most 64; 0.5 lets two workers share a GPU")
    if device not in ("cpu", "cuda", "cuda:0"):
        raise UsageError(
            f"Ray gives each worker its GPU: with --executor ray give --device cuda, not {device}"
        )
    if address in (None, "auto"):
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UsageError(f"--address {address!r} must be HOST:PORT, as `ray start --head` prints it, or auto")
    if not connect:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, UnicodeError) as error:
        raise RobustBenchError(f"no Ray cluster at {address}: {error}; is its head up?") from error


def _connect(address: str | None, folder: str | None) -> Any:
    """Ray, connected to a cluster, or to one of its own that keeps its files in a folder."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent that nobody asked for
    if address is None:  # its ports run the code of whoever reaches them: only with a token of this process
        if "ray" not in sys.modules:  # Ray reads these when it is loaded, and never again
            os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)
            os.environ[_REACHABLE] = "0"
        elif os.environ.get("RAY_AUTH_MODE") != "token":
            raise UsageError(
                "Ray is loaded already, without a token: set RAY_AUTH_MODE=token before, or give an address"
            )
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise UsageError(
            "--executor ray needs Ray, which is not installed: pip install 'robustbench-sgdm[ray]'"
        ) from None
    how: dict[str, Any] = {"address": address}
    if folder:
        how = {"address": "local", "num_cpus": cores(), "include_dashboard": False}
        # Ray lets everybody write into the folder that it is given; nobody else comes to one within ours.
        how["_temp_dir"] = str(Path(folder) / "ray")
    before = signal.getsignal(signal.SIGTERM)
    # Else Ray asks twenty times, half a minute each, where something listens that is no cluster.
    once = {} if address is None or _TRIES in os.environ else {_TRIES: "1"}
    try:
        # Ray lets workers import from the driver's current folder.
        with (
            override_environ(**once),
            chdir(Path(sys.executable).parent),
            _private_files() if folder else nullcontext(),
        ):
            ray.init(**how, log_to_driver=False, logging_level=logging.ERROR)
        if folder and not ip_address(ray.util.get_node_ip_address()).is_loopback:
            ray.shutdown()
            raise UsageError(
                f"Ray is loaded already, so as to listen to the network: set {_REACHABLE}=0 before"
            )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
        where = f"at {address}" if address else "on this machine"
        token = "; if it has a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to it" if address else ""
        raise RobustBenchError(
            f"no Ray cluster {where} takes this run: {str(error).strip().partition(chr(10))[0]}{token}"
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # Ray sets its own, which leaves at once
    return ray


def _private_folder() -> "TemporaryDirectory[str]":
    """A new folder that is the user's alone, of a short path, for Ray's session: its logs and sockets."""
    usual = tempfile.gettempdir()
    place = usual if len(usual) <= _LONGEST_FOLDER or not Path("/tmp").is_dir() else "/tmp"
    return TemporaryDirectory(prefix="rb-ray-", dir=place, ignore_cleanup_errors=True)


@contextmanager
def _private_files() -> Iterator[None]:
    """What is made meanwhile, and by processes that are started meanwhile at any time, is the user's alone."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@dataclass(frozen=True)
class Ray:
    """A cluster that units run on; see `on_ray`."""

    ray: Any
    workers: int
    gpus: float

    def run(self, units: Sequence[Unit], worker: Worker, sink: Sink) -> None:
        """Keep every worker busy, store what comes back, and replace workers that are lost."""
        news: News = SimpleQueue()
        absolute = [replace(u, images=[replace(i, path=i.path.absolute()) for i in u.images]) for u in units]
        crew = _Crew(self, min(self.workers, len(units)), self.ray.put(make_kit(absolute, worker)), news)
        try:
            deal(absolute, crew, worker, sink, news)
        finally:
            crew.close()


class _Crew:
    """Actors. One that is lost, or whose device failed, is replaced; only those that have started get units."""

    def __init__(self, cluster: Ray, workers: int, kit: Any, news: News) -> None:
        self.workers, self._cluster, self._kit, self._news = workers, cluster, kit, news
        self._ray = cluster.ray
        failures = self._ray.exceptions
        self.losses = (
            failures.RayActorError,
            failures.WorkerCrashedError,
            failures.NodeDiedError,
            failures.OutOfMemoryError,
            failures.ObjectLostError,
        )
        self._lock = threading.Lock()
        self._hired: set[Any] = set()
        self._gone: deque[Any] = deque()
        self._held: dict[Any, int] = {}  # by actors that have started
        self._sees: dict[Any, bool] = {}
        self._sent: OrderedDict[int, Any] = OrderedDict()
        for _ in range(workers):
            self._hire()

    def free(self) -> bool:
        while self._gone:
            self._dismiss(self._gone.popleft())
            self._hire()
        with self._lock:
            return any(held < AHEAD for held in self._held.values())

    def send(self, unit: Unit) -> Future[Report]:
        with self._lock:
            if not self._held:  # the last one was lost since `free` was asked
                lost: Future[Report] = Future()
                lost.set_exception(self._ray.exceptions.ActorDiedError())
                return lost
            actor = min(self._held, key=lambda a: self._held[a])
            self._held[actor] += 1
            sees = self._sees[actor]
        future: Future[Report] = actor.work.remote(unit, () if sees else self._contents(unit)).future()
        future.add_done_callback(lambda report: self._answered(actor, report))
        return future

    def close(self) -> None:
        for actor in list(self._hired):
            self._dismiss(actor)

    def _hire(self) -> None:
        how = {"num_cpus": 1, "num_gpus": self._cluster.gpus, "max_restarts": 0}
        actor = self._ray.remote(_Actor).options(**how).remote(self._kit)
        self._hired.add(actor)
        actor.sees.remote().future().add_done_callback(lambda sees: self._started(actor, sees))

    def _dismiss(self, actor: Any) -> None:
        self._hired.discard(actor)
        self._ray.kill(actor)

    # Ray calls the next two from a thread of its own, which must not call Ray.

    def _started(self, actor: Any, sees: Future[bool]) -> None:
        error = sees.exception()
        if error is None:
            with self._lock:
                self._held[actor], self._sees[actor] = 0, sees.result()
        else:
            self._gone.append(actor)
        self._news.put((None, error))

    def _answered(self, actor: Any, report: Future[Report]) -> None:
        failed = report.exception() is not None or isinstance(report.result().outcome, DeviceError)
        with self._lock:
            if actor in self._held:
                self._held[actor] -= 1
                if failed:
                    del self._held[actor]
                    self._gone.append(actor)

    def _contents(self, unit: Unit) -> Any:
        """The unit's image files in the object store, where the last few shards stay for the next corruption."""
        if unit.shard not in self._sent:
            self._sent[unit.shard] = self._ray.put([_read(image) for image in unit.images])
        self._sent.move_to_end(unit.shard)
        while len(self._sent) > 2 * AHEAD * self.workers:
            self._sent.popitem(last=False)
        return self._sent[unit.shard]


class _Actor:
    """What runs in a worker of the cluster."""

    def __init__(self, kit: Any) -> None:
        self._post = Post(kit)

    def sees(self) -> bool:
        return self._post.sees

    def work(self, unit: Unit, contents: Sequence[bytes]) -> Report:
        return self._post.work(unit, contents)


def _read(image: Image) -> bytes:
    try:
        return image.path.read_bytes()
    except OSError as error:
        raise DataError(f"{image.path} cannot be read: {error.strerror or error}") from error
