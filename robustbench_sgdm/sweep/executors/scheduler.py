"""Schedules units on worker processes: a few in advance, results stored here, lost units run again."""

import logging
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Protocol

from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.sweep.executors.base import ResultSink
from robustbench_sgdm.sweep.executors.threads import available_cores
from robustbench_sgdm.sweep.executors.worker_process import UnitResult
from robustbench_sgdm.sweep.plan import WorkUnit
from robustbench_sgdm.sweep.worker import Worker

_LOG = logging.getLogger(__name__)
PREFETCH_PER_WORKER = 2
"""Units that a worker has at most: one running, one ready, so that it never waits for the next."""
WRITER_THREADS = max(4, available_cores())
"""Threads that store results: with more than one a core, one computes while another waits for the disk."""
_MAX_RETRIES = 3  # of a unit whose worker was lost; then the unit is to blame
_STARTUP = "startup"
_WARN_AFTER = 30.0  # seconds without a worker

EventQueue = SimpleQueue[tuple[WorkUnit | None, BaseException | None]]
"""(unit, None): stored. (unit, error): failed. (None, None): a worker is free. (None, error): one did not start."""


class WorkerPool(Protocol):
    """Worker processes."""

    @property
    def workers(self) -> int:
        """How many are wanted."""

    @property
    def loss_errors(self) -> tuple[type[BaseException], ...]:
        """The exceptions of a future whose worker was lost."""

    def has_capacity(self) -> bool:
        """Whether a worker can take another unit."""

    def submit(self, unit: WorkUnit) -> Future[UnitResult]:
        """Run a unit."""


def run_scheduled(
    units: Sequence[WorkUnit], pool: WorkerPool, worker: Worker, sink: ResultSink, events: EventQueue
) -> None:
    """Run every unit. A slow disk slows the workers down instead of filling the memory.

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
    pending, in_flight = deque(units), 0
    losses: Counter[str] = Counter()
    with ThreadPoolExecutor(WRITER_THREADS) as writers:

        def store(unit: WorkUnit, future: Future[UnitResult]) -> None:
            try:
                worker.limit_batch(future.result().batch)
                sink.submit(unit, future.result().outcome)
                worker.progress(unit.size)
                events.put((unit, None))
            except BaseException as error:  # noqa: BLE001 - raised by the scheduling thread
                events.put((unit, error))

        def on_done(unit: WorkUnit, future: Future[UnitResult]) -> None:
            try:
                writers.submit(store, unit, future)
            except RuntimeError as error:  # the writers are shut down, or no thread can be started
                events.put((unit, error))

        while pending or in_flight:
            while pending and in_flight < (PREFETCH_PER_WORKER + 1) * pool.workers and pool.has_capacity():
                unit = pending.popleft()
                if sink.should_run(unit):
                    pool.submit(unit).add_done_callback(lambda future, u=unit: on_done(u, future))  # type: ignore[misc]
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
            if isinstance(error, pool.loss_errors):
                _record_worker_loss(finished, error, losses)
                pending.extendleft([finished] if finished else [])
            elif error is not None:
                raise error
            elif finished is None:
                losses.pop(_STARTUP, None)


def _record_worker_loss(unit: WorkUnit | None, error: BaseException, losses: Counter[str]) -> None:
    where = f"shard {unit.shard} of {unit.cells[0].corruption}" if unit else _STARTUP
    losses[where] += 1
    if losses[where] > _MAX_RETRIES:
        reason = str(error).strip().partition("\n")[0]
        raise RobustBenchError(
            f"{losses[where]} workers were lost at {where} ({reason}); if memory ran out, use fewer --workers"
        ) from error
    _LOG.warning("worker lost at %s; retrying", where)
