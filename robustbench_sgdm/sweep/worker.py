"""What a worker does with a unit: decode its images once, corrupt them, run every detector on them."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm import corruption as corrupting
from robustbench_sgdm.core.detections import Detections
from robustbench_sgdm.core.errors import CorruptionError, DeviceError, RobustBenchError
from robustbench_sgdm.core.transfer import to_device
from robustbench_sgdm.datasets import Image
from robustbench_sgdm.datasets import image_decoding as decoding
from robustbench_sgdm.detectors import Detector, is_out_of_memory
from robustbench_sgdm.store import Cell, Settings
from robustbench_sgdm.sweep.plan import WorkUnit

_LOG = logging.getLogger(__name__)

Shards = dict[Cell, dict[str, Any]]
"""A unit's result: the columns of one shard for each of its cells."""

_CellDetections = dict[Cell, dict[int, Detections]]  # by the image's index in the unit


KEPT_SHARE = 0.25
"""Of a GPU's free memory, for decoded images: they are corrupted again and again, and decoding takes longer there than a
prediction. On the CPU it is a hundredth of one, so that nothing is kept."""


class DecodedImages:
    """Images on a device, each decoded once as long as there is room; threads may share it.

    The first that come are kept, since every corruption asks for all of them in the same order: of a cache that drops
    the oldest nothing would be used again.

    Args:
        device: they are on.
        room: bytes that may be kept; None for a share of what a GPU has free when the first image is read.
    """

    def __init__(self, device: str, room: int | None = None) -> None:
        self._device, self._room, self._lock = device, room, threading.Lock()
        self._kept: dict[int, Tensor] = {}

    def read(self, image: Image) -> Tensor:
        """Pixels, uint8 of (3, H, W), which nobody may change.

        Raises:
            RobustBenchError: the file cannot be read.
        """
        if (kept := self._kept.get(image.id)) is not None:
            return kept
        pixels = to_device(decoding.read_image(image).transpose(2, 0, 1).copy(), self._device)
        with self._lock:
            if self._room is None:
                self._room = _free_share(self._device)
            if pixels.nbytes <= self._room and image.id not in self._kept:
                self._kept[image.id] = pixels
                self._room -= pixels.nbytes
        return pixels

    def clear(self) -> bool:
        """Drop all and keep nothing from now on: memory has run out. Tells whether there was any."""
        with self._lock:
            had_any = bool(self._kept)
            self._kept, self._room = {}, 0
        return had_any


def _free_share(device: str) -> int:
    return 0 if device == "cpu" else int(KEPT_SHARE * torch.cuda.mem_get_info(device)[0])


class Worker:
    """Computes shards. Threads may share one; a pickled one starts afresh, without its callback.

    Args:
        detectors: by the name that cells give them.
        categories: for each, the data set's category id of every class; -1 for none.
        settings: the plan's.
        progress: called with the number of predictions just made, from any thread.
        room: bytes for decoded images, as of `DecodedImages`. A pickled worker keeps none: several may share a GPU.
    """

    def __init__(
        self,
        detectors: Mapping[str, Detector],
        categories: Mapping[str, NDArray[np.int64]],
        settings: Settings,
        progress: Callable[[int], None] = lambda _: None,
        room: int | None = None,
    ) -> None:
        self.detectors, self.categories, self.settings = detectors, categories, settings
        self.progress = progress
        self.batch = settings.batch
        self.stop = threading.Event()
        self.images = DecodedImages(settings.device, room)
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Callable[..., "Worker"], tuple[Any, ...]]:
        return partial(Worker, room=0), (dict(self.detectors), dict(self.categories), self.settings)

    def run(self, unit: WorkUnit) -> Shards:
        """Run one unit; gives no shard where `stop` was set meanwhile.

        Raises:
            CorruptionError: the unit's corruption failed.
            DeviceError: the device failed this unit.
            RobustBenchError: an image or memory failed.
        """
        detections: _CellDetections = {cell: {} for cell in unit.cells}
        for batch in _batches(unit.images, self.settings.batch):
            self._run_batch(unit, batch, detections)
            if self.stop.is_set():
                return {}
        return {
            cell: _shard_columns(unit.images, by_image, self.categories[cell.model])
            for cell, by_image in detections.items()
        }

    def _run_batch(self, unit: WorkUnit, batch: Sequence[int], detections: _CellDetections) -> None:
        """Run every model that lacks them on some images at every severity; in smaller batches if memory runs out."""
        if len(batch) <= self.batch:
            try:
                self._predict(unit, batch, detections)
                return
            except (RuntimeError, MemoryError, CorruptionError) as error:
                cause = error.__cause__ if isinstance(error, CorruptionError) else error
                if not is_out_of_memory(cause):
                    # A corruption's own error is its fault, unless the device failed inside it.
                    if isinstance(error, CorruptionError) and "CUDA error" not in str(cause):
                        raise
                    reason = f"{type(cause).__name__}: {str(cause).partition(chr(10))[0]}"
                    raise DeviceError(f"{self.settings.device} failed: {reason}") from error
                self._halve_batch(len(batch))
        half = -(-len(batch) // 2)
        for part in (batch[:half], batch[half:]):
            if part:
                self._run_batch(unit, part, detections)

    def _halve_batch(self, batch: int) -> None:
        device = self.settings.device
        has_more_room = self.images.clear()
        if device != "cpu":
            torch.cuda.empty_cache()
        if batch == 1 and not has_more_room:
            raise RobustBenchError(f"out of memory on {device} with a single image; use fewer --workers")
        self.limit_batch(-(-batch // 2))

    def limit_batch(self, batch: int) -> None:
        """Use no larger batches from now on; a change is logged."""
        with self._lock:
            if batch < self.batch:
                self.batch = batch
                _LOG.warning("out of memory on %s: batches of %d from here on", self.settings.device, batch)

    def _predict(self, unit: WorkUnit, batch: Sequence[int], detections: _CellDetections) -> None:
        tensors = [self.images.read(unit.images[i]) for i in batch]
        ids = [unit.images[i].id for i in batch]
        for severity in sorted({c.severity for c in unit.cells}):
            images = self._corrupt(unit, tensors, ids, severity)
            for cell in (c for c in unit.cells if c.severity == severity):
                if self.stop.is_set():
                    return
                boxes = self.detectors[cell.model].predict(images)
                before = len(detections[cell])
                detections[cell].update(zip(batch, boxes, strict=True))
                # A batch that is halved is predicted again; what was counted before is not counted twice.
                self.progress(len(detections[cell]) - before)

    def _corrupt(
        self, unit: WorkUnit, images: Sequence[Tensor], ids: Sequence[int], severity: float
    ) -> Sequence[Tensor]:
        """The images, corrupted, in their order; those of one size are corrupted together."""
        if unit.corruption is None:
            return images
        corrupted: dict[int, Tensor] = {}
        for shape in dict.fromkeys(i.shape for i in images):
            same_size = [k for k, image in enumerate(images) if image.shape == shape]
            group = corrupting.apply_corruption(
                unit.corruption,
                torch.stack([images[k] for k in same_size]),
                severity,
                seed=self.settings.seed,
                image_ids=[ids[k] for k in same_size],
                engine=self.settings.engine,
            )
            corrupted.update(zip(same_size, group, strict=True))
        return [corrupted[k] for k in range(len(images))]


def _batches(images: Sequence[Image], size: int) -> list[list[int]]:
    """Indices in batches, images of one size next to each other so that they are corrupted together."""
    order = sorted(range(len(images)), key=lambda i: (images[i].height, images[i].width))
    return [order[i : i + size] for i in range(0, len(order), size)]


def _shard_columns(
    images: Sequence[Image], detections: dict[int, Detections], categories: NDArray[np.int64]
) -> dict[str, Any]:
    """A shard's columns, in the data set's order; classes that the data does not have are left out."""
    by_image = [detections[i] for i in range(len(images))]
    labels = np.concatenate([d.labels for d in by_image])
    known = categories[labels] >= 0
    xyxy = np.concatenate([d.xyxy for d in by_image])[known]
    return {
        "image_id": np.repeat(np.array([i.id for i in images], np.int64), [len(d) for d in by_image])[known],
        "category_id": categories[labels][known],
        "score": np.concatenate([d.scores for d in by_image])[known],
        **{name: np.ascontiguousarray(xyxy[:, k]) for k, name in enumerate(("x1", "y1", "x2", "y2"))},
    }
