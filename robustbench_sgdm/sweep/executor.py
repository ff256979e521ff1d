"""What an executor is: it gets every unit done, somewhere."""

from collections.abc import Sequence
from typing import Protocol

from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.sweep.plan import Unit
from robustbench_sgdm.sweep.work import Shards, Worker

Outcome = Shards | RobustBenchError
"""A unit's shards, or why there are none: a value, since it travels between processes."""


class Sink(Protocol):
    """Where outcomes go; see `engine.Results`. Threads may share it."""

    def wants(self, unit: Unit) -> bool:
        """Whether the unit is still worth doing."""

    def take(self, unit: Unit, outcome: Outcome) -> None:
        """Store an outcome; raises where the run must stop."""


class Executor(Protocol):
    """Runs units."""

    @property
    def workers(self) -> int:
        """Units worked on at once."""

    def run(self, units: Sequence[Unit], worker: Worker, sink: Sink) -> None:
        """Do each unit that is still wanted as `worker` would, and hand its outcome over.

        Raises:
            RobustBenchError: the run must stop; what the sink has is kept.
        """


def attempt(worker: Worker, unit: Unit) -> Outcome:
    """Do a unit; why it failed is a value too."""
    try:
        return worker.work(unit)
    except RobustBenchError as error:
        return error
