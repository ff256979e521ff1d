"""Runs a sweep: units go to an executor, their shards are stored, and complete cells are scored."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence

from robustbench_sgdm.core.errors import CorruptionError, DeviceError, RobustBenchError
from robustbench_sgdm.core.versions import scoring_version
from robustbench_sgdm.store import Cell, CellStore, revoke_workers
from robustbench_sgdm.sweep.cell_scoring import CellScorer
from robustbench_sgdm.sweep.class_matching import map_classes
from robustbench_sgdm.sweep.executors.base import Executor, Stored, UnitOutcome
from robustbench_sgdm.sweep.executors.threads import ThreadExecutor
from robustbench_sgdm.sweep.plan import Plan, WorkUnit, pending_units
from robustbench_sgdm.sweep.worker import Worker


def run_sweep(
    plan: Plan,
    store: CellStore,
    *,
    units: Sequence[WorkUnit] | None = None,
    executor: Executor | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> list[RobustBenchError]:
    """Compute every cell of a plan that is not stored yet.

    Args:
        plan: what to compute.
        store: where cells are stored.
        units: those of `pending_units`, if they are known already.
        executor: what runs the units; one thread of this process if None. Never changes a result.
        progress: called with the number of predictions just made, from any thread.

    Returns:
        The errors of corruptions or units whose cells are missing; all other cells are complete.

    Raises:
        RobustBenchError: an image, the disk or memory failed; every finished shard stays stored.
    """
    detectors = {name: entry.detector for name, entry in plan.models.items()}
    categories = {name: map_classes(detector, plan.dataset) for name, detector in detectors.items()}
    units = pending_units(plan, store) if units is None else units
    revoke_workers(store)
    writer = CellWriter(plan, store, units)
    if units:
        worker = Worker(detectors, categories, plan.settings, progress)
        (executor or ThreadExecutor(1)).run(units, worker, writer)
        writer.drop_late_shards()
    return writer.failures()


class CellWriter:
    """Stores the shards of units that workers did not store, and knows which cells have all. Threads may share it.

    Attributes:
        store: where they go.
        scorer: completes cells.
    """

    def __init__(self, plan: Plan, store: CellStore, units: Sequence[WorkUnit]) -> None:
        self.store = store
        self.scorer = CellScorer(plan.dataset)
        self._failed_corruptions: dict[str, CorruptionError] = {}
        self._device_errors: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._missing_shards = Counter(cell for unit in units for cell in unit.cells)
        for cell in plan.cells:
            if not self._missing_shards[cell]:
                self._repair(cell)

    def should_run(self, unit: WorkUnit) -> bool:
        """Whether the unit is worth running: its corruption has not failed."""
        return unit.cells[0].corruption not in self._failed_corruptions

    def submit(self, unit: WorkUnit, outcome: UnitOutcome) -> list[Cell]:
        """Store a unit's shards, or remember why its cells will be missing.

        Returns:
            Cells that have their last shard now, to be scored.

        Raises:
            RobustBenchError: the outcome is one that the whole run must stop for, or the disk failed.
        """
        if isinstance(outcome, CorruptionError):
            self._failed_corruptions.setdefault(unit.cells[0].corruption, outcome)
        elif isinstance(outcome, DeviceError):
            with self._lock:
                self._device_errors[str(outcome)] += 1
        elif isinstance(outcome, RobustBenchError):
            raise outcome
        elif isinstance(outcome, Stored):
            return [cell for cell in unit.cells if self._count_shard(cell)]
        else:
            full = []
            for cell, columns in outcome.items():
                self.store.write_shard(cell, unit.shard, columns)
                full += [cell] if self._count_shard(cell) else []
            return full
        return []

    def score(self, cell: Cell) -> None:
        """Complete a cell that has all its shards.

        Raises:
            RobustBenchError: a shard is damaged, or the disk failed.
        """
        self.scorer.score(self.store, cell)

    def drop_late_shards(self) -> None:
        """Remove what workers that had been given up wrote after others had done their units and cells were scored."""
        for cell, missing in self._missing_shards.items():
            if not missing:
                self.store.drop_shards(cell)

    def failures(self) -> list[RobustBenchError]:
        """Why cells are missing."""
        device_errors = [
            DeviceError(f"{text} ({count} units)") for text, count in self._device_errors.items()
        ]
        return [*self._failed_corruptions.values(), *device_errors]

    def _repair(self, cell: Cell) -> None:
        """Complete a cell that lacks no shard, wherever an earlier run stopped."""
        if self.store.is_complete(cell) and not self.store.stored_shards(cell):
            if self.store.has_outdated_scores(cell, scoring_version()):
                self.scorer.rescore(self.store, cell)
        elif self.store.verify(cell):  # stopped before its shards were removed
            self.store.drop_shards(cell)
        else:  # stopped between its last shard and its scores
            self.scorer.score(self.store, cell)

    def _count_shard(self, cell: Cell) -> bool:
        """Whether it was the cell's last."""
        with self._lock:
            self._missing_shards[cell] -= 1
            return not self._missing_shards[cell]
