"""Units for worker processes: dealt a few ahead, stored here as they come back, done again where a worker is lost."""

import logging
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Protocol

from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.sweep.executor import Sink
from robustbench_sgdm.sweep.local import cores
from robustbench_sgdm.sweep.plan import Unit
from robustbench_sgdm.sweep.remote import Report
from robustbench_sgdm.sweep.work import Worker

_LOG = logging.getLogger(__name__)
AHEAD = 2
"""Units a worker holds: one at work, one ready."""
STORING = max(4, cores())
"""Threads that store: with more than one a core, one computes while another waits for the disk."""
_LIVES = 4  # workers that a unit may take with it before it is blamed
_START = "its start"
_PATIENCE = 30.0  # seconds without a worker before that is said

News = SimpleQueue[tuple[Unit | None, BaseException | None]]
"""A unit is stored or failed; without a unit: a worker is free, or could not start."""


class Crew(Protocol):
    """Worker processes."""

    @property
    def workers(self) -> int:
        """How many are wanted."""

    @property
    def losses(self) -> tuple[type[BaseException], ...]:
        """What a future raises whose worker is lost."""

    def free(self) -> bool:
        """Whether a worker can hold another unit."""

    def send(self, unit: Unit) -> Future[Report]:
        """Have a unit done."""


def deal(units: Sequence[Unit], crew: Crew, worker: Worker, sink: Sink, news: News) -> None:
    """Until every unit is stored. A slow disk holds the workers up instead of filling the memory.

    Args:
        units: to do.
        crew: who does them.
        worker: says what the crew's workers found out about memory, and how far they are.
        sink: where outcomes go.
        news: where the crew says, by (None, None), that a worker is free, and by (None, error) that none starts.

    Raises:
        RobustBenchError: the run must stop; what is stored is kept.
    """
    left, held = deque(units), 0  # held: sent and not stored yet
    lost: Counter[str] = Counter()
    with ThreadPoolExecutor(STORING) as storing:

        def store(unit: Unit, report: Future[Report]) -> None:
            try:
                worker.at_most(report.result().batch)
                sink.take(unit, report.result().outcome)
                worker.progress(unit.size)
                news.put((unit, None))
            except BaseException as error:  # noqa: BLE001 - raised by the thread that deals
                news.put((unit, error))

        def arrived(unit: Unit, report: Future[Report]) -> None:
            try:
                storing.submit(store, unit, report)
            except RuntimeError as error:  # after the end, when nobody reads it; or no thread can be started
                news.put((unit, error))

        while left or held:
            while left and held < (AHEAD + 1) * crew.workers and crew.free():
                unit = left.popleft()
                if sink.wants(unit):
                    crew.send(unit).add_done_callback(lambda r, u=unit: arrived(u, r))  # type: ignore[misc]
                    held += 1
            if not held and not left:
                return
            try:
                stored, error = news.get(timeout=_PATIENCE)
            except Empty:
                if not held:
                    _LOG.warning("still waiting for a worker to start")
                continue
            held -= stored is not None
            if isinstance(error, crew.losses):
                _mourn(stored, error, lost)
                left.extendleft([stored] if stored else [])
            elif error is not None:
                raise error
            elif stored is None:
                lost.pop(_START, None)


def _mourn(unit: Unit | None, error: BaseException, lost: Counter[str]) -> None:
    what = f"shard {unit.shard} of {unit.cells[0].corruption}" if unit else _START
    lost[what] += 1
    if lost[what] >= _LIVES:
        reason = str(error).strip().partition("\n")[0]
        raise RobustBenchError(
            f"{lost[what]} workers were lost over {what} ({reason}); if memory ended, give fewer --workers"
        ) from error
    _LOG.warning("a worker was lost over %s; it is done again", what)
