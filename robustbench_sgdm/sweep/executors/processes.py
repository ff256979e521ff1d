"""The executor of `--workers`: units in other processes of this machine.

The standard `ProcessPoolExecutor` is not used: its workers share one queue, and a killed process takes the queue's
lock along; it may also be given work while its own thread takes it apart (`RuntimeError: dictionary changed size`).
Here each process has its own pipe and belongs to one thread, which starts it, asks it and notices its end.
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

from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.core.worker_bootstrap import (
    MAIN_WAS_RUN_AGAIN,
    WORKER_NAME,
    InheritedFile,
    without_cwd_imports,
    worker_main,
)
from robustbench_sgdm.store import share_store
from robustbench_sgdm.sweep.executors.base import ResultSink
from robustbench_sgdm.sweep.executors.scheduler import PREFETCH_PER_WORKER, EventQueue, run_scheduled
from robustbench_sgdm.sweep.executors.worker_process import UnitResult, WorkerRuntime, make_payload
from robustbench_sgdm.sweep.plan import Task, WorkUnit
from robustbench_sgdm.sweep.worker import Worker

_EXIT_TIMEOUT = 5.0  # seconds for a process whose pipe is closed to end by itself, with its own exit code


@dataclass(frozen=True)
class ProcessExecutor:
    """Processes, each with its own detectors; a lost one is replaced, and its unit runs again."""

    workers: int

    def run(self, units: Sequence[WorkUnit], worker: Worker, sink: ResultSink) -> None:
        """Run the units."""
        events: EventQueue = SimpleQueue()
        with TemporaryFile() as payload, share_store(sink.store) as shared:
            pickle.dump(make_payload(units, worker, shared, sink.scorer), payload)
            payload.flush()
            pool = ProcessPool(self.workers, InheritedFile(payload.fileno()), make_handler)
            try:
                run_scheduled(units, pool, worker, sink, events)
            finally:
                pool.close()


class WorkerLost(Exception):
    """A process ended before it had answered."""


class ProcessPool:
    """Worker processes, each with a thread here that alone starts, asks and replaces it.

    Args:
        workers: how many; each starts with the first unit that no other is free for.
        payload: a file that each reads at its start.
        make_handler: makes a function of the file's content; it answers a pickled task with a pickled result.
    """

    loss_errors = (WorkerLost,)

    def __init__(
        self, workers: int, payload: InheritedFile, make_handler: Callable[[bytes], Callable[[bytes], bytes]]
    ) -> None:
        self.workers, self._payload, self._make_handler = workers, payload, pickle.dumps(make_handler)
        self._in_flight: set[Future[UnitResult]] = set()
        self._tasks: SimpleQueue[tuple[Task, Future[UnitResult]] | None] = SimpleQueue()
        self._lock = threading.Lock()  # guards the next two, which `_kill` reads from another thread
        self._closed, self._processes = False, set[BaseProcess]()
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(workers)]
        # Runs before multiprocessing's own handler, which would wait for the processes.
        atexit.register(self._kill)
        for thread in self._threads:
            thread.start()

    def has_capacity(self) -> bool:
        """Whether a worker can take another task."""
        self._in_flight = {future for future in self._in_flight if not future.done()}
        return len(self._in_flight) < PREFETCH_PER_WORKER * self.workers

    def submit(self, task: Task) -> Future[UnitResult]:
        """Run a task; the future raises `WorkerLost`, or what the worker raised."""
        future: Future[UnitResult] = Future()
        self._in_flight.add(future)
        self._tasks.put((task, future))
        return future

    def close(self) -> None:
        """Kill the workers, whatever they do; unanswered tasks count as lost."""
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
        """Pass on the tasks of one worker."""
        # The main thread alone handles Ctrl-C, which a terminal sends to all processes, and SIGTERM. A process
        # inherits the mask of the thread that starts it.
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        worker: tuple[BaseProcess, Connection] | None = None
        while item := self._tasks.get():
            task, future = item
            try:
                worker = worker or self._start()
                worker[1].send_bytes(pickle.dumps(task))
                answer = pickle.loads(worker[1].recv_bytes())
            except (EOFError, OSError) as error:  # killed at any moment, or never started
                answer = _loss(self._end(*worker)) if worker else WorkerLost(str(error))
                worker = None
            except Exception as error:  # noqa: BLE001 - raised by the scheduling thread
                answer = error
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        if worker:
            self._end(*worker)

    def _start(self) -> tuple[BaseProcess, Connection]:
        near, far = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        arguments = (far, self._payload, self._make_handler)
        process = context.Process(name=WORKER_NAME, target=worker_main, args=arguments)
        try:
            # Under the lock, so that no process starts after `_kill`; `far` is closed here, so that the worker's end
            # is the only one and its death is seen as the pipe's end.
            with self._lock, far, without_cwd_imports():
                if self._closed:
                    raise EOFError("closed")
                process.start()
                self._processes.add(process)
        except BaseException:
            near.close()
            raise
        return process, near

    def _end(self, process: BaseProcess, link: Connection) -> int:
        """End a process; gives its exit code, or a signal's number below 0."""
        link.close()
        # Under the lock, so that `_kill` never signals a process that was reaped here: its number may be another's.
        with self._lock:
            self._processes.discard(process)
            process.join(_EXIT_TIMEOUT)
            process.kill()
            process.join()
        return process.exitcode or 0


def _loss(code: int) -> WorkerLost | UsageError:
    """Why a process ended before it had answered: an accident, or one that would happen to every process."""
    if code == MAIN_WAS_RUN_AGAIN:
        return UsageError(
            "worker processes run this script from its beginning: put what it does under "
            '`if __name__ == "__main__":`, or leave out workers, which takes threads instead'
        )
    return WorkerLost(f"exit code {code}" if code >= 0 else f"killed by signal {-code}")


def make_handler(payload: bytes) -> Callable[[bytes], bytes]:
    """The function with which a worker process answers; an unexpected exception is an answer too."""
    runtime = WorkerRuntime(pickle.loads(payload))

    def handle(task: bytes) -> bytes:
        try:
            return pickle.dumps(runtime.run(pickle.loads(task)))
        except Exception as error:  # noqa: BLE001 - raised by the scheduling thread
            error.add_note(f"in a worker process:\n{traceback.format_exc()}")
            return _pickle_exception(error)

    return handle


def _pickle_exception(error: Exception) -> bytes:
    """An exception pickled; one that pickle cannot write, or not read again, becomes a RuntimeError of its text."""
    with contextlib.suppress(Exception):
        pickle.loads(pickled := pickle.dumps(error))
        return pickled
    plain = RuntimeError(f"{type(error).__name__}: {error}")
    for note in error.__notes__:
        plain.add_note(note)
    return pickle.dumps(plain)
