"""What a worker does with a unit: decode its images once, corrupt them, show them to every detector."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm import corruption as corrupting
from robustbench_sgdm.core.detections import Detections
from robustbench_sgdm.core.errors import CorruptionError, DeviceError, RobustBenchError
from robustbench_sgdm.datasets import Image
from robustbench_sgdm.datasets import image_decoding as decoding
from robustbench_sgdm.detectors import Detector, is_out_of_memory
from robustbench_sgdm.store import Cell
from robustbench_sgdm.sweep.plan import Settings, Unit

_LOG = logging.getLogger(__name__)

Shards = dict[Cell, dict[str, Any]]
"""A unit's result: the columns of one shard for each of its cells."""


class Worker:
    """Makes shards. Threads may share one; a pickled one starts afresh, without its callback.

    Args:
        detectors: by the name that cells give them.
        categories: for each, the data set's category id of every class; -1 for none.
        settings: the plan's.
        progress: called with the number of predictions just made, from any thread.
    """

    def __init__(
        self,
        detectors: Mapping[str, Detector],
        categories: Mapping[str, NDArray[np.int64]],
        settings: Settings,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.detectors, self.categories, self.settings = detectors, categories, settings
        self.progress = progress
        self.batch = settings.batch
        self.stop = threading.Event()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["Worker"], tuple[Any, ...]]:
        return Worker, (dict(self.detectors), dict(self.categories), self.settings)

    def work(self, unit: Unit) -> Shards:
        """Do one unit; no shard where `stop` was set meanwhile.

        Raises:
            CorruptionError: the unit's corruption failed.
            DeviceError: the device failed this unit.
            RobustBenchError: an image or memory failed.
        """
        found: dict[Cell, dict[int, Detections]] = {c: {} for c in unit.cells}
        for chunk in _batches(unit.images, self.settings.batch):
            self._work_through(unit, chunk, found)
            if self.stop.is_set():
                return {}
        return {
            cell: _columns(unit.images, each, self.categories[cell.model]) for cell, each in found.items()
        }

    def _work_through(
        self, unit: Unit, chunk: Sequence[int], found: dict[Cell, dict[int, Detections]]
    ) -> None:
        """Show some images at every severity to every model that lacks them; in smaller batches if memory ends."""
        if len(chunk) <= self.batch:
            try:
                self._show(unit, chunk, found)
                return
            except (RuntimeError, MemoryError, CorruptionError) as error:
                cause = error.__cause__ if isinstance(error, CorruptionError) else error
                if not is_out_of_memory(cause):
                    if isinstance(error, CorruptionError) and "CUDA error" not in str(cause):
                        raise
                    reason = f"{type(cause).__name__}: {str(cause).partition(chr(10))[0]}"
                    raise DeviceError(f"{self.settings.device} failed: {reason}") from error
                self._halve(len(chunk))
        half = -(-len(chunk) // 2)
        self._work_through(unit, chunk[:half], found)
        self._work_through(unit, chunk[half:], found)

    def _halve(self, batch: int) -> None:
        device = self.settings.device
        if batch == 1:
            raise RobustBenchError(f"out of memory on {device} with a single image; give fewer --workers")
        self.at_most(-(-batch // 2))
        if device != "cpu":
            torch.cuda.empty_cache()

    def at_most(self, batch: int) -> None:
        """From here on, make no larger batches; each time that changes something is said."""
        with self._lock:
            if batch < self.batch:
                self.batch = batch
                _LOG.warning("out of memory on %s: batches of %d from here on", self.settings.device, batch)

    def _show(self, unit: Unit, chunk: Sequence[int], found: dict[Cell, dict[int, Detections]]) -> None:
        device = self.settings.device
        arrays = [decoding.read_image(unit.images[i]) for i in chunk]
        tensors = [torch.from_numpy(a.transpose(2, 0, 1).copy()).to(device) for a in arrays]
        ids = [unit.images[i].id for i in chunk]
        for severity in sorted({c.severity for c in unit.cells}):
            seen = self._corrupt(unit, tensors, ids, severity)
            for cell in (c for c in unit.cells if c.severity == severity):
                if self.stop.is_set():
                    return
                detections = self.detectors[cell.model].predict(seen)
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
            corrupted = corrupting.apply_corruption(
                unit.corruption,
                torch.stack([images[k] for k in same]),
                severity,
                seed=self.settings.seed,
                image_ids=[ids[k] for k in same],
                engine=self.settings.engine,
            )
            seen.update(zip(same, corrupted, strict=True))
        return [seen[k] for k in range(len(images))]


def _batches(images: Sequence[Image], batch: int) -> list[list[int]]:
    """Indices in batches, images of one size next to each other so that they are corrupted together."""
    order = sorted(range(len(images)), key=lambda i: (images[i].height, images[i].width))
    return [order[i : i + batch] for i in range(0, len(order), batch)]


def _columns(
    images: Sequence[Image], found: dict[int, Detections], categories: NDArray[np.int64]
) -> dict[str, Any]:
    """A shard's columns, in the data set's order; classes that the data does not have are left out."""
    each = [found[i] for i in range(len(images))]
    label = np.concatenate([d.labels for d in each])
    keep = categories[label] >= 0
    xyxy = np.concatenate([d.xyxy for d in each])[keep]
    return {
        "image_id": np.repeat(np.array([i.id for i in images], np.int64), [len(d) for d in each])[keep],
        "category_id": categories[label][keep],
        "score": np.concatenate([d.scores for d in each])[keep],
        **{name: np.ascontiguousarray(xyxy[:, k]) for k, name in enumerate(("x1", "y1", "x2", "y2"))},
    }
