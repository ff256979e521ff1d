"""Schedules units on worker processes: a few in advance, what they do not store stored here, lost units run again."""

import logging
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Protocol

from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.store import TakenOverError
from robustbench_sgdm.sweep.executors.base import ResultSink, Stored
from robustbench_sgdm.sweep.executors.threads import available_cores
from robustbench_sgdm.sweep.executors.worker_process import UnitResult
from robustbench_sgdm.sweep.plan import ScoringTask, Task, WorkUnit
from robustbench_sgdm.sweep.worker import Worker

_LOG = logging.getLogger(__name__)
PREFETCH_PER_WORKER = 2
"""Units that a worker has at most: one running, one ready, so that it never waits for the next."""
WRITER_THREADS = max(4, available_cores())
"""Threads that store results: with more than one a core, one computes while another waits for the disk."""
_MAX_RETRIES = 3  # of a unit whose worker was lost; then the unit is to blame
_STARTUP = "startup"
_WARN_AFTER = 30.0  # seconds without a worker

EventQueue = SimpleQueue[tuple[Task | None, BaseException | None]]
"""(task, None): stored. (task, error): failed. (None, None): a worker is free. (None, error): one did not start."""


class WorkerPool(Protocol):
    """Worker processes."""

    @property
    def workers(self) -> int:
        """How many are wanted."""

    @property
    def loss_errors(self) -> tuple[type[BaseException], ...]:
        """The exceptions of a future whose worker was lost."""

    def has_capacity(self) -> bool:
        """Whether a worker can take another task."""

    def submit(self, task: Task) -> Future[UnitResult]:
        """Run a unit, or score a cell."""


def run_scheduled(
    units: Sequence[WorkUnit], pool: WorkerPool, worker: Worker, sink: ResultSink, events: EventQueue
) -> None:
    """Run every unit, and score every cell that has its last shard; workers that see the run directory store and score.

    A slow disk slows the workers down instead of filling the memory.

    Args:
        units: to run.
        pool: of the workers that run them.
        worker: takes over what the pool's workers learn about memory, and reports progress.
        sink: for the outcomes.
        events: where the pool puts (None, None) for a free worker and (None, error) for one that did not start.

    Raises:
        RobustBenchError: the run must stop; what is stored stays stored.
    """
    # In flight: sent and not stored yet. The bound on it is what makes a slow disk hold the workers up.
    pending, in_flight = deque[Task](units), 0
    logged = dict[str, str]()
    to_score = deque[ScoringTask]()  # that workers may do; filled before the event of the unit that made them
    losses: Counter[str] = Counter()
    with ThreadPoolExecutor(WRITER_THREADS) as writers:

        def store(task: Task, future: Future[UnitResult]) -> None:
            try:
                result = future.result()
                is_stored = isinstance(result.outcome, Stored)
                worker.limit_batch(result.batch)
                _log_fallback(task, result, sink, logged)
                if isinstance(task, ScoringTask):
                    if isinstance(result.outcome, TakenOverError):
                        raise result.outcome
                    cells = [] if is_stored else [task.cell]
                else:
                    cells = sink.submit(task, result.outcome)
                    worker.progress(task.size)
                    if is_stored:
                        to_score.extend(map(ScoringTask, cells))
                        cells = []
                for cell in cells:
                    sink.score(cell)
                events.put((task, None))
            except BaseException as error:  # noqa: BLE001 - raised by the scheduling thread
                events.put((task, error))

        def on_done(task: Task, future: Future[UnitResult]) -> None:
            try:
                writers.submit(store, task, future)
            except RuntimeError as error:  # the writers are shut down, or no thread can be started
                events.put((task, error))

        while pending or in_flight:
            while pending and in_flight < (PREFETCH_PER_WORKER + 1) * pool.workers and pool.has_capacity():
                task = pending.popleft()
                if isinstance(task, ScoringTask) or sink.should_run(task):
                    pool.submit(task).add_done_callback(lambda future, t=task: on_done(t, future))  # type: ignore[misc]
                    in_flight += 1
            if not in_flight and not pending:
                return
            try:
                finished, error = events.get(timeout=_WARN_AFTER)
            except Empty:
                if not in_flight:
                    _LOG.warning("still waiting for a worker to start")
                continue
            in_flight -= finished is not None
            while to_score:  # first, so that shards take no more space than they must
                pending.appendleft(to_score.popleft())
            if isinstance(error, pool.loss_errors):
                _record_worker_loss(finished, error, losses)
                pending.extendleft([finished] if finished else [])
            elif error is not None:
                raise error
            elif finished is None:
                losses.pop(_STARTUP, None)


def _log_fallback(task: Task, result: UnitResult, sink: ResultSink, logged: dict[str, str]) -> None:
    """Log that this process stores or scores in place of a worker, and why: each reason once.

    Args:
        task: that a worker ran.
        result: what it sent.
        sink: of the run.
        logged: the message of each reason so far. Threads share it.
    """
    level = logging.WARNING
    if isinstance(task, ScoringTask):
        if not isinstance(result.outcome, RobustBenchError):
            return
        reason, message = "score", f"a worker could not score a cell, and this process does: {result.outcome}"
    elif not isinstance(result.outcome, dict) or not result.outcome:
        return
    elif result.storage_error is not None:
        reason, message = (
            "store",
            f"this process stores the shards of a worker that failed to: {result.storage_error}",
        )
    else:
        level, reason = logging.INFO, "see"
        path = sink.store.files.path
        message = f"a worker does not see {path}, or may not write there; this process stores its shards"
    if logged.setdefault(reason, message) is message:  # one step, so that of two threads one logs
        _LOG.log(level, "%s", message)


def _record_worker_loss(task: Task | None, error: BaseException, losses: Counter[str]) -> None:
    if isinstance(task, ScoringTask):
        where = f"the scores of {task.cell}"
    else:
        where = f"shard {task.shard} of {task.cells[0].corruption}" if task else _STARTUP
    losses[where] += 1
    if losses[where] > _MAX_RETRIES:
        reason = str(error).strip().partition("\n")[0]
        raise RobustBenchError(
            f"{losses[where]} workers were lost at {where} ({reason}); if memory ran out, use fewer --workers"
        ) from error
    _LOG.warning("worker lost at %s; retrying", where)
