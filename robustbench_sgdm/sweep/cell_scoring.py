"""Merges the shards of a cell and scores them: in the process of a run, or in its workers."""

import threading

from robustbench_sgdm.core.versions import scoring_version
from robustbench_sgdm.datasets import Dataset
from robustbench_sgdm.scoring import Scorer, coco_rows
from robustbench_sgdm.store import Cell, CellStore, shard_count


class CellScorer:
    """Completes cells of one data set. Threads may share it; a pickled one starts afresh.

    Args:
        dataset: the ground truth.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._shards = shard_count(len(dataset))
        self._lock = threading.Lock()
        self._made: Scorer | None = None

    def __reduce__(self) -> tuple[type["CellScorer"], tuple[Dataset]]:
        return CellScorer, (self._dataset,)

    def score(self, store: CellStore, cell: Cell) -> None:
        """Complete a cell that has all its shards, or had them when a worker that was lost began to.

        Raises:
            DataError: a shard is missing or cannot be read.
        """
        if store.verify(cell):  # the lost worker had not removed the shards
            store.drop_shards(cell)
        else:
            score_cell(store, cell, self._shards, self._scorer())

    def rescore(self, store: CellStore, cell: Cell) -> None:
        """See `rescore_cell`."""
        rescore_cell(store, cell, self._scorer())

    def _scorer(self) -> Scorer:
        """Made when it is needed: where workers score, the process of the run needs none."""
        with self._lock:
            self._made = self._made or Scorer(self._dataset)
            return self._made


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
