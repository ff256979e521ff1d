"""The executor of `--workers`: units in other processes of this machine.

The standard `ProcessPoolExecutor` is not used: its workers share one queue, whose lock a killed process takes along,
and it may be given work while a thread of its own takes it apart (`RuntimeError: dictionary changed size`). Here a
process has a pipe of its own and belongs to one thread, which starts it, asks it, and notices that it is gone.
"""

import atexit
import contextlib
import multiprocessing
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from tempfile import TemporaryFile

from robustbench_sgdm.core.worker_bootstrap import InheritedFile, without_cwd_imports, worker_main
from robustbench_sgdm.sweep.dealing import AHEAD, News, deal
from robustbench_sgdm.sweep.executor import Sink
from robustbench_sgdm.sweep.plan import Unit
from robustbench_sgdm.sweep.remote import Post, Report, make_kit
from robustbench_sgdm.sweep.work import Worker

_GRACE = 5.0  # seconds for a process whose pipe is closed to end by itself, with its own exit code


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
            crew = Pool(self.workers, InheritedFile(kit.fileno()), install)
            try:
                deal(units, crew, worker, sink, news)
            finally:
                crew.close()


class WorkerLost(Exception):
    """A process ended before it had answered."""


class Pool:
    """Worker processes, each with a thread here that alone starts, asks and replaces it.

    Args:
        workers: how many; each starts with the first unit that no other is free for.
        kit: a file that each reads when it starts.
        install: makes of the file's content the function that answers a pickled unit with a pickled report.
    """

    losses = (WorkerLost,)

    def __init__(
        self, workers: int, kit: InheritedFile, install: Callable[[bytes], Callable[[bytes], bytes]]
    ) -> None:
        self.workers, self._kit, self._install = workers, kit, pickle.dumps(install)
        self._held: set[Future[Report]] = set()
        self._tasks: SimpleQueue[tuple[Unit, Future[Report]] | None] = SimpleQueue()
        self._lock = threading.Lock()  # of what follows
        self._closed, self._processes = False, set[BaseProcess]()
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(workers)]
        atexit.register(self._kill)  # before multiprocessing, which would wait for them
        for thread in self._threads:
            thread.start()

    def free(self) -> bool:
        """Whether a worker can hold another unit."""
        self._held = {future for future in self._held if not future.done()}
        return len(self._held) < AHEAD * self.workers

    def send(self, unit: Unit) -> Future[Report]:
        """Have a unit done; the future raises `WorkerLost`, or what the worker raised."""
        future: Future[Report] = Future()
        self._held.add(future)
        self._tasks.put((unit, future))
        return future

    def close(self) -> None:
        """Workers end at once, whatever they are at; what they have not answered counts as lost."""
        self._kill()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        atexit.unregister(self._kill)

    def _kill(self) -> None:
        with self._lock:
            self._closed = True
            for process in self._processes:
                process.kill()

    def _serve(self) -> None:
        """The units of one worker."""
        if hasattr(
            signal, "pthread_sigmask"
        ):  # Ctrl-C, which the terminal sends to all, and SIGTERM are left to
            signal.pthread_sigmask(
                signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM}
            )  # the main thread; inherited
        worker: tuple[BaseProcess, Connection] | None = None
        while task := self._tasks.get():
            unit, future = task
            try:
                worker = worker or self._start()
                worker[1].send_bytes(pickle.dumps(unit))
                answer = pickle.loads(worker[1].recv_bytes())
            except (EOFError, OSError) as error:  # killed at any moment, or not even started
                answer = WorkerLost(self._end(*worker) if worker else str(error))
                worker = None
            except Exception as error:  # noqa: BLE001 - raised by the thread that deals
                answer = error
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        if worker:
            self._end(*worker)

    def _start(self) -> tuple[BaseProcess, Connection]:
        near, far = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")  # threads of torch do not survive a fork
        process = context.Process(target=worker_main, args=(far, self._kit, self._install))
        try:
            with self._lock, far, without_cwd_imports():
                if self._closed:
                    raise EOFError("closed")
                process.start()
                self._processes.add(process)
        except BaseException:
            near.close()
            raise
        return process, near

    def _end(self, process: BaseProcess, link: Connection) -> str:
        """End a process; how it ended."""
        link.close()
        with self._lock:
            self._processes.discard(process)
            process.join(_GRACE)
            process.kill()
            process.join()
        code = process.exitcode or 0
        return f"exit code {code}" if code >= 0 else f"killed by signal {-code}"


def install(kit: bytes) -> Callable[[bytes], bytes]:
    """What a worker process answers with; an exception that should not be is an answer too."""
    post = Post(pickle.loads(kit))

    def work(unit: bytes) -> bytes:
        try:
            return pickle.dumps(post.work(pickle.loads(unit)))
        except Exception as error:  # noqa: BLE001 - raised by the thread that deals
            error.add_note(f"in a worker process:\n{traceback.format_exc()}")
            return _portable(error)

    return work


def _portable(error: Exception) -> bytes:
    """An exception pickled; one that cannot be, or not be read again, by its name and its words."""
    with contextlib.suppress(Exception):
        pickle.loads(answer := pickle.dumps(error))
        return answer
    plain = RuntimeError(f"{type(error).__name__}: {error}")
    for note in error.__notes__:
        plain.add_note(note)
    return pickle.dumps(plain)
