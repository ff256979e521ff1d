"""The interface of executors: run every work unit somewhere and hand over its outcome."""

from collections.abc import Sequence
from typing import Protocol

from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.sweep.plan import WorkUnit
from robustbench_sgdm.sweep.worker import Shards, Worker

UnitOutcome = Shards | RobustBenchError
"""A unit's shards, or the error that prevented them: a value, because it travels between processes."""


class ResultSink(Protocol):
    """Receives outcomes; see `runner.CellWriter`. Threads may share it."""

    def should_run(self, unit: WorkUnit) -> bool:
        """Whether the unit is still worth running."""

    def submit(self, unit: WorkUnit, outcome: UnitOutcome) -> None:
        """Store an outcome; raises where the run must stop."""


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
