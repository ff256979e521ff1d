"""The executor of `--workers`: units in other processes of this machine."""

import multiprocessing
import pickle
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from tempfile import TemporaryFile

from robustbench_sgdm.lifeline import Handle, begin, safe_path
from robustbench_sgdm.sweep.dealing import AHEAD, News, deal
from robustbench_sgdm.sweep.executor import Sink
from robustbench_sgdm.sweep.plan import Unit
from robustbench_sgdm.sweep.remote import Post, Report, make_kit
from robustbench_sgdm.sweep.work import Worker


@dataclass(frozen=True)
class Processes:
    """Processes, each with the detectors of its own; one that is lost is replaced, and its unit done again."""

    workers: int

    def run(self, units: Sequence[Unit], worker: Worker, sink: Sink) -> None:
        """Work through the units."""
        news: News = SimpleQueue()
        with TemporaryFile() as kit:
            pickle.dump(make_kit(units, worker), kit)
            kit.flush()
            crew = _Pool(self.workers, Handle(kit.fileno()))
            try:
                deal(units, crew, worker, sink, news)
            finally:
                crew.close()


class _Pool:
    losses = (BrokenExecutor,)

    def __init__(self, workers: int, kit: Handle) -> None:
        self.workers, self._kit = workers, kit
        self._held: set[Future[Report]] = set()
        self._open()

    def free(self) -> bool:
        self._held = {future for future in self._held if not future.done()}
        return len(self._held) < AHEAD * self.workers

    def send(self, unit: Unit) -> Future[Report]:
        with _signals_held_back(), safe_path():
            try:
                future = self._pool.submit(_work, unit)
            except (BrokenExecutor, OSError):  # a pipe closed under a pool that is just found broken
                self.close()  # one that was killed while it took a unit leaves the others waiting for ever
                self._open()
                future = self._pool.submit(_work, unit)
        self._held.add(future)
        return future

    def close(self) -> None:
        """Workers leave at once, whatever they are at."""
        self._near.close()
        self._pool.shutdown(cancel_futures=True)
        self._far.close()

    def _open(self) -> None:
        # Workers hold the far end and leave when the near one closes, however this process ends.
        self._far, self._near = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("spawn")  # threads of torch do not survive a fork
        start = (self._far, self._kit, pickle.dumps(_install))
        with safe_path():  # its semaphores bring multiprocessing's tracker, a process too
            self._pool = ProcessPoolExecutor(self.workers, context, initializer=begin, initargs=start)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Processes started meanwhile leave Ctrl-C, which the terminal sends to all, and SIGTERM to this one."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_post: Post


def _install(kit: bytes) -> None:
    global _post
    _post = Post(pickle.loads(kit))


def _work(unit: Unit) -> Report:
    return _post.work(unit)
