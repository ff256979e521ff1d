"""Runs a sweep: units go to an executor, their shards are stored, and complete cells are scored."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence

from robustbench_sgdm.core.errors import CorruptionError, DeviceError, RobustBenchError
from robustbench_sgdm.core.versions import scoring_version
from robustbench_sgdm.scoring import Scorer, coco_rows
from robustbench_sgdm.store import Cell, CellStore, shard_count
from robustbench_sgdm.sweep.class_matching import map_classes
from robustbench_sgdm.sweep.executors.base import Executor, UnitOutcome
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
    writer = CellWriter(plan, store, units)
    if units:
        worker = Worker(detectors, categories, plan.settings, progress)
        (executor or ThreadExecutor(1)).run(units, worker, writer)
    return writer.failures()


class CellWriter:
    """Stores the shards of units, and scores each cell with its last shard. Threads may share it."""

    def __init__(self, plan: Plan, store: CellStore, units: Sequence[WorkUnit]) -> None:
        self._store = store
        self._shards = shard_count(len(plan.dataset))
        self._scorer = Scorer(plan.dataset)
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

    def submit(self, unit: WorkUnit, outcome: UnitOutcome) -> None:
        """Store a unit's shards, or remember why its cells will be missing.

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
        else:
            for cell, columns in outcome.items():
                self._store.write_shard(cell, unit.shard, columns)
                self._count_shard(cell)

    def failures(self) -> list[RobustBenchError]:
        """Why cells are missing."""
        device_errors = [
            DeviceError(f"{text} ({count} units)") for text, count in self._device_errors.items()
        ]
        return [*self._failed_corruptions.values(), *device_errors]

    def _repair(self, cell: Cell) -> None:
        """Complete a cell that lacks no shard, wherever an earlier run stopped."""
        if self._store.is_complete(cell) and not self._store.stored_shards(cell):
            if self._store.has_outdated_scores(cell, scoring_version()):
                rescore_cell(self._store, cell, self._scorer)
        elif self._store.verify(cell):  # stopped before its shards were removed
            self._store.drop_shards(cell)
        else:  # stopped between its last shard and its scores
            score_cell(self._store, cell, self._shards, self._scorer)

    def _count_shard(self, cell: Cell) -> None:
        with self._lock:
            self._missing_shards[cell] -= 1
            is_last = not self._missing_shards[cell]
        if is_last:
            score_cell(self._store, cell, self._shards, self._scorer)


def score_cell(store: CellStore, cell: Cell, count: int, scorer: Scorer) -> None:
    """Merge and score a cell that has all its shards, 0 to count - 1, one shard at a time.

    Raises:
        DataError: a shard is missing or cannot be read.
    """
    detections = store.merge_shards(cell, count)
    scores = scorer.score(coco_rows(shard) for shard in store.read_shards(cell, count))
    store.commit(cell, scores.metrics, scores.per_class, detections=detections, scoring=scoring_version())


def rescore_cell(store: CellStore, cell: Cell, scorer: Scorer) -> None:
    """Score the stored detections of a complete cell again.

    Raises:
        DataError: they cannot be read.
    """
    detections = store.read_detections(cell)
    scores = scorer.score([coco_rows(detections)])
    store.commit(
        cell, scores.metrics, scores.per_class, detections=len(detections), scoring=scoring_version()
    )
