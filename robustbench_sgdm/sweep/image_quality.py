"""PSNR and SSIM of a run's own images under each corruption and severity."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import torch

from robustbench_sgdm import corruption as corrupting
from robustbench_sgdm.core.errors import CorruptionError
from robustbench_sgdm.datasets import Image
from robustbench_sgdm.datasets import image_decoding as decoding
from robustbench_sgdm.store import IMAGE_QUALITY, Run, cell_key
from robustbench_sgdm.sweep.executors.threads import use_one_thread
from robustbench_sgdm.sweep.plan import Plan

_MAX_IMAGES, _MIN_IMAGES = 16, 4
_MAX_MEASUREMENTS = 256  # a few seconds

_Cell = tuple[str, float]
"""Corruption and severity."""


def measure_image_quality(
    plan: Plan, run: Run, *, workers: int = 1, progress: Callable[[int], None] = lambda _: None
) -> list[CorruptionError]:
    """Measure what `image_quality.csv` lacks of the plan's corruptions and severities, and write it.

    Args:
        plan: of the run.
        run: that keeps the file.
        workers: images measured at once.
        progress: called with the number of measurements just made, from any thread.

    Returns:
        The errors of corruptions that therefore have no row.
    """
    keys = _keys(plan)
    stored = run.read_image_quality()
    stored = stored[stored["key"].isin(keys.values())]
    missing = [cell for cell, key in keys.items() if key not in set(stored["key"])]
    if not missing:
        return []
    images = sample_evenly(plan.dataset.images, len(keys))
    failed: dict[str, CorruptionError] = {}
    on_cpu = plan.settings.device == "cpu"
    with ThreadPoolExecutor(workers, initializer=use_one_thread if on_cpu else None) as pool:
        scores = list(pool.map(lambda image: _measure(plan, image, missing, failed, progress), images))
    rows = [
        (*cell, *np.mean([of_image[cell] for of_image in scores], axis=0).tolist(), len(images), keys[cell])
        for cell in missing
        if cell[0] not in failed
    ]
    measured = pd.DataFrame(rows, columns=list(IMAGE_QUALITY))
    run.write_image_quality(pd.concat([stored, measured]) if len(stored) else measured)
    return list(failed.values())


def count_measurements(plan: Plan, run: Run | None = None) -> int:
    """How many measurements `measure_image_quality` will make; without a run, of one that has none."""
    stored, keys = set() if run is None else set(run.read_image_quality()["key"]), _keys(plan)
    return sum(key not in stored for key in keys.values()) * len(
        sample_evenly(plan.dataset.images, len(keys))
    )


def sample_evenly(images: Sequence[Image], cells: int) -> list[Image]:
    """Evenly spread images: 16, or down to 4 where there are many cells to measure on them."""
    count = min(len(images), _MAX_IMAGES, max(_MIN_IMAGES, _MAX_MEASUREMENTS // max(cells, 1)))
    return [images[i * len(images) // count] for i in range(count)]


def _keys(plan: Plan) -> dict[_Cell, str]:
    """The content address of what is measured of each (corruption, severity)."""
    settings = plan.settings
    shared = {"data": plan.dataset.fingerprint, "device": settings.device.partition(":")[0]}
    return {
        (name, severity): cell_key(
            **shared,
            corruption=corruption.fingerprint(settings.engine),
            severity=severity,
            engine=settings.engine,
            seed=settings.seed,
        )
        for name, corruption in plan.corruptions.items()
        for severity in corruption.effective_severities(plan.severities)
    }


def _measure(
    plan: Plan,
    image: Image,
    cells: Sequence[_Cell],
    failed: dict[str, CorruptionError],
    progress: Callable[[int], None],
) -> dict[_Cell, tuple[float, float]]:
    settings = plan.settings
    scores: dict[_Cell, tuple[float, float]] = {}
    pixels = torch.from_numpy(decoding.read_image(image).transpose(2, 0, 1).copy()).to(settings.device)
    for name, severity in cells:
        try:
            if name not in failed:
                (scores[name, severity],) = corrupting.measure_image_quality(
                    plan.corruptions[name], [pixels], [severity],
                    seed=settings.seed, image_ids=[image.id], engine=settings.engine,
                )  # fmt: skip
        except CorruptionError as error:
            failed.setdefault(name, error)
        progress(1)
    return scores
