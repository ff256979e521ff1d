"""The engine: a unit decodes its images once, corrupts them, and shows them to every model."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm import corruption as corrupting
from robustbench_sgdm.datasets import Image
from robustbench_sgdm.datasets import images as decoding
from robustbench_sgdm.detections import Detections
from robustbench_sgdm.errors import CorruptionError, RobustBenchError
from robustbench_sgdm.scoring import Scorer, rows
from robustbench_sgdm.store import Cell, CellStore
from robustbench_sgdm.sweep.local import run_local
from robustbench_sgdm.sweep.plan import Plan, Unit, category_ids, needed_units, shard_count

_LOG = logging.getLogger(__name__)


def sweep(
    plan: Plan,
    store: CellStore,
    *,
    workers: int = 1,
    progress: Callable[[int], None] = lambda _: None,
    finished: Callable[[Cell], None] = lambda _: None,
) -> list[CorruptionError]:
    """Make every cell of a plan that is not stored yet.

    Args:
        workers: units worked on at once, as threads of this process; never changes a result.
        progress: called with the number of predictions just made, from any thread.
        finished: called when a cell is complete, from any thread.

    Returns:
        why corruptions failed whose cells are therefore missing; those of the others are complete.

    Raises:
        RobustBenchError: an image, the disk or memory failed; every finished shard is kept.
    """
    engine = _Engine(plan, store, progress, finished)
    units = needed_units(plan, store)
    engine.await_shards(units)
    run_local(units, engine.work, engine.stop, workers=workers, one_thread_each=plan.settings.device == "cpu")
    return list(engine.failed.values())


class _Engine:
    """What the units of one sweep share: detectors, ground truth, and which cells still miss shards."""

    def __init__(
        self, plan: Plan, store: CellStore, progress: Callable[[int], None], finished: Callable[[Cell], None]
    ) -> None:
        self.plan, self.store, self.progress, self.finished = plan, store, progress, finished
        self.scorer = Scorer(plan.dataset)
        self.categories = {name: category_ids(m.detector, plan.dataset) for name, m in plan.models.items()}
        self.waiting: Counter[Cell] = Counter()
        self.failed: dict[str, CorruptionError] = {}
        self.batch = plan.settings.batch
        self.lock = threading.Lock()
        self.stop = threading.Event()

    def await_shards(self, units: Sequence[Unit]) -> None:
        """Count what each cell waits for; one stopped between its last shard and its scores waits for none."""
        self.waiting.update(cell for unit in units for cell in unit.cells)
        for cell in self.plan.cells:
            if not self.waiting[cell] and not self.store.complete(cell):
                self._finish(cell)

    def work(self, unit: Unit) -> None:
        """Do one unit, store its shards, and finish the cells for which they were the last."""
        if unit.cells[0].corruption in self.failed:
            return
        found: dict[Cell, dict[int, Detections]] = {c: {} for c in unit.cells}
        try:
            for chunk in _batches(unit.images, self.plan.settings.batch):
                self._work_through(unit, chunk, found)
                if self.stop.is_set():
                    return
        except CorruptionError as error:
            self.failed.setdefault(unit.cells[0].corruption, error)
            return
        for cell, each in found.items():
            columns = _columns(unit.images, each, self.categories[cell.model])
            self.store.write_shard(cell, unit.shard, columns)
            self._arrived(cell)

    def _work_through(
        self, unit: Unit, chunk: Sequence[int], found: dict[Cell, dict[int, Detections]]
    ) -> None:
        """Show some images at every severity to every model that lacks them; in smaller batches if memory ends."""
        if len(chunk) <= self.batch:
            try:
                self._show(unit, chunk, found)
                return
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                self._halve(len(chunk))
        half = -(-len(chunk) // 2)
        self._work_through(unit, chunk[:half], found)
        self._work_through(unit, chunk[half:], found)

    def _halve(self, batch: int) -> None:
        """Stop making batches as large as one that did not fit into memory."""
        device = self.plan.settings.device
        if batch == 1:
            raise RobustBenchError(f"out of memory on {device} with a single image; give fewer --workers")
        with self.lock:
            if batch <= self.batch:
                self.batch = -(-batch // 2)
                _LOG.warning("out of memory on %s: batches of %d from here on", device, self.batch)
        if device != "cpu":
            torch.cuda.empty_cache()

    def _show(self, unit: Unit, chunk: Sequence[int], found: dict[Cell, dict[int, Detections]]) -> None:
        device = self.plan.settings.device
        arrays = [decoding.read(unit.images[i]) for i in chunk]
        tensors = [torch.from_numpy(a.transpose(2, 0, 1).copy()).to(device) for a in arrays]
        ids = [unit.images[i].id for i in chunk]
        for severity in sorted({c.severity for c in unit.cells}):
            seen = self._corrupt(unit, tensors, ids, severity)
            for cell in (c for c in unit.cells if c.severity == severity):
                if self.stop.is_set():
                    return
                detections = self.plan.models[cell.model].detector.predict(seen)
                before = len(found[cell])
                found[cell].update(zip(chunk, detections, strict=True))
                self.progress(len(found[cell]) - before)

    def _corrupt(
        self, unit: Unit, images: Sequence[Tensor], ids: Sequence[int], severity: float
    ) -> Sequence[Tensor]:
        """The images, corrupted, in their order; those of one size go through together."""
        if unit.corruption is None:
            return images
        seen: dict[int, Tensor] = {}
        for shape in dict.fromkeys(i.shape for i in images):
            same = [k for k, image in enumerate(images) if image.shape == shape]
            corrupted = corrupting.apply(
                unit.corruption,
                torch.stack([images[k] for k in same]),
                severity,
                seed=self.plan.settings.seed,
                image_ids=[ids[k] for k in same],
                engine=self.plan.settings.engine,
            )
            seen.update(zip(same, corrupted, strict=True))
        return [seen[k] for k in range(len(images))]

    def _arrived(self, cell: Cell) -> None:
        with self.lock:
            self.waiting[cell] -= 1
            last = not self.waiting[cell]
        if last:
            self._finish(cell)

    def _finish(self, cell: Cell) -> None:
        frame = self.store.merge(cell, shard_count(self.plan.dataset))
        scores = self.scorer.score(rows(frame))
        self.store.finish(
            cell,
            {
                "detections": len(frame),
                "metrics": dict(scores.metrics),
                "per_class": dict(scores.per_class),
            },
        )
        self.finished(cell)


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)  # GPU, CPU


def _batches(images: Sequence[Image], batch: int) -> list[list[int]]:
    """Indices in batches, images of one size next to each other so that they are corrupted together."""
    order = sorted(range(len(images)), key=lambda i: (images[i].height, images[i].width))
    return [order[i : i + batch] for i in range(0, len(order), batch)]


def _columns(
    images: Sequence[Image], found: dict[int, Detections], categories: NDArray[np.int64]
) -> dict[str, Any]:
    """A shard's columns, in the data set's order; classes that the data does not have are left out."""
    each = [found[i] for i in range(len(images))]
    label = np.concatenate([d.label for d in each])
    keep = categories[label] >= 0
    xyxy = np.concatenate([d.xyxy for d in each])[keep]
    return {
        "image_id": np.repeat(np.array([i.id for i in images], np.int64), [len(d) for d in each])[keep],
        "category_id": categories[label][keep],
        "score": np.concatenate([d.score for d in each])[keep],
        **{name: np.ascontiguousarray(xyxy[:, k]) for k, name in enumerate(("x1", "y1", "x2", "y2"))},
    }
