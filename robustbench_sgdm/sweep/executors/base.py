"""The interface of executors: run every work unit somewhere and hand over its outcome."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.store import Cell, CellStore
from robustbench_sgdm.sweep.cell_scoring import CellScorer
from robustbench_sgdm.sweep.plan import WorkUnit
from robustbench_sgdm.sweep.worker import Shards, Worker


@dataclass(frozen=True)
class Stored:
    """The worker has written the result into the run directory itself."""


UnitOutcome = Shards | Stored | RobustBenchError
"""A unit's shards, or that they are stored, or the error that prevented them: a value that travels between processes."""


class ResultSink(Protocol):
    """Receives outcomes; see `runner.CellWriter`. Threads may share it."""

    store: CellStore
    scorer: CellScorer

    def should_run(self, unit: WorkUnit) -> bool:
        """Whether the unit is still worth running."""

    def submit(self, unit: WorkUnit, outcome: UnitOutcome) -> list[Cell]:
        """Store an outcome; gives the cells that are to be scored now, and raises where the run must stop."""

    def score(self, cell: Cell) -> None:
        """Complete a cell that has all its shards; raises as `submit`."""


class Executor(Protocol):
    """Runs units."""

    @property
    def workers(self) -> int:
        """Units that run at once."""

    def run(self, units: Sequence[WorkUnit], worker: Worker, sink: ResultSink) -> None:
        """Run each unit that the sink still wants, as `worker` would, and submit its outcome.

        Raises:
            RobustBenchError: the run must stop; what was submitted stays stored.
        """


def run_unit(worker: Worker, unit: WorkUnit) -> UnitOutcome:
    """Run a unit; an expected error is returned as a value."""
    try:
        return worker.run(unit)
    except RobustBenchError as error:
        return error
