"""The engine: units go to an executor, what comes back is stored, and whole cells are scored."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from robustbench_sgdm.core.errors import CorruptionError, DeviceError, RobustBenchError
from robustbench_sgdm.core.versions import scoring_version
from robustbench_sgdm.scoring import Scorer, Scores, rows
from robustbench_sgdm.store import Cell, CellStore, shard_count
from robustbench_sgdm.sweep.executor import Executor, Outcome
from robustbench_sgdm.sweep.local import Threads
from robustbench_sgdm.sweep.plan import Plan, Unit, category_ids, needed_units
from robustbench_sgdm.sweep.work import Worker


def sweep(
    plan: Plan,
    store: CellStore,
    *,
    units: Sequence[Unit] | None = None,
    workers: int = 1,
    on: Executor | None = None,
    progress: Callable[[int], None] = lambda _: None,
    finished: Callable[[Cell], None] = lambda _: None,
) -> list[RobustBenchError]:
    """Make every cell of a plan that is not stored yet.

    Args:
        units: those of `needed_units`, where they are known already.
        workers: units worked on at once, as threads of this process; never changes a result.
        on: what does the units instead: `Processes`, or what `on_ray` gives.
        progress: called with the number of predictions just made, from any thread.
        finished: called when a cell is complete, from any thread.

    Returns:
        why corruptions or units failed whose cells are therefore missing; the others are complete.

    Raises:
        RobustBenchError: an image, the disk or memory failed; every finished shard is kept.
    """
    detectors = {name: entrant.detector for name, entrant in plan.models.items()}
    categories = {name: category_ids(one, plan.dataset) for name, one in detectors.items()}
    units = needed_units(plan, store) if units is None else units
    results = Results(plan, store, units, finished)
    if units:
        (on or Threads(workers)).run(units, Worker(detectors, categories, plan.settings, progress), results)
    return results.failures()


class Results:
    """Takes what units gave, stores it, and finishes each cell with its last shard. Threads may share it."""

    def __init__(
        self, plan: Plan, store: CellStore, units: Sequence[Unit], finished: Callable[[Cell], None]
    ) -> None:
        self._store, self._finished = store, finished
        self._count = shard_count(len(plan.dataset))
        self._scorer = Scorer(plan.dataset)
        self._corruptions: dict[str, CorruptionError] = {}
        self._devices: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._waiting = Counter(cell for unit in units for cell in unit.cells)
        for cell in plan.cells:
            if self._waiting[cell]:
                continue
            if store.complete(cell) and not store.shards(cell):
                if store.has_old_scores(cell, scoring_version()):
                    rescore(store, cell, self._scorer)
                continue
            if store.sound(cell):  # stopped before its shards were gone
                store.drop_shards(cell)
            else:  # stopped between its last shard and its scores
                self._finish(cell)

    def wants(self, unit: Unit) -> bool:
        """Whether the unit is worth doing: its corruption has not failed."""
        return unit.cells[0].corruption not in self._corruptions

    def take(self, unit: Unit, outcome: Outcome) -> None:
        """Store a unit's shards, or remember why its cells will be missing.

        Raises:
            RobustBenchError: the outcome is one that the whole run must stop for, or the disk failed.
        """
        if isinstance(outcome, CorruptionError):
            self._corruptions.setdefault(unit.cells[0].corruption, outcome)
        elif isinstance(outcome, DeviceError):
            with self._lock:
                self._devices[str(outcome)] += 1
        elif isinstance(outcome, RobustBenchError):
            raise outcome
        else:
            for cell, columns in outcome.items():
                self._store.write_shard(cell, unit.shard, columns)
                self._arrived(cell)

    def failures(self) -> list[RobustBenchError]:
        """Why cells are missing."""
        devices = [DeviceError(f"{text} ({count} units)") for text, count in self._devices.items()]
        return [*self._corruptions.values(), *devices]

    def _arrived(self, cell: Cell) -> None:
        with self._lock:
            self._waiting[cell] -= 1
            last = not self._waiting[cell]
        if last:
            self._finish(cell)

    def _finish(self, cell: Cell) -> None:
        finish(self._store, cell, self._count, self._scorer)
        self._finished(cell)


def finish(store: CellStore, cell: Cell, count: int, scorer: Scorer) -> None:
    """Merge and score a cell whose shards are all there, 0 to count - 1, a shard at a time.

    Raises:
        DataError: a shard is missing or cannot be read.
    """
    detections = store.merge(cell, count)
    scores = scorer.score(rows(shard) for shard in store.read_shards(cell, count))
    store.finish(cell, {**_scores(scores), "detections": detections})


def rescore(store: CellStore, cell: Cell, scorer: Scorer) -> None:
    """Score the stored detections of a complete cell anew.

    Raises:
        DataError: they cannot be read.
    """
    detections = store.detections(cell)
    store.finish(cell, {**_scores(scorer.score([rows(detections)])), "detections": len(detections)})


def _scores(scores: Scores) -> dict[str, Any]:
    """What `scores.json` keeps."""
    return {
        "scoring": scoring_version(),
        "metrics": dict(scores.metrics),
        "per_class": dict(scores.per_class),
    }
