"""How much a run's corruptions damage its own images: PSNR and SSIM of each severity."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import torch

from robustbench_sgdm import corruption as corrupting
from robustbench_sgdm.core.errors import CorruptionError
from robustbench_sgdm.datasets import Image
from robustbench_sgdm.datasets import image_decoding as decoding
from robustbench_sgdm.store import DAMAGE, Run, cell_key
from robustbench_sgdm.sweep.local import one_thread
from robustbench_sgdm.sweep.plan import Plan

_MAX_IMAGES, _FEWEST_IMAGES = 16, 4
_MEASUREMENTS = 256  # a few seconds


def measure_damage(
    plan: Plan, run: Run, *, workers: int = 1, progress: Callable[[int], None] = lambda _: None
) -> list[CorruptionError]:
    """Measure what `damage.csv` lacks of the plan's corruptions and severities, and write it.

    Args:
        workers: images worked on at once.
        progress: called with the number of measurements just made, from any thread.

    Returns:
        why corruptions failed that therefore have no row.
    """
    keys = _keys(plan)
    there = run.damage()
    there = there[there["key"].isin(keys.values())]
    todo = [at for at, key in keys.items() if key not in set(there["key"])]
    if not todo:
        return []
    images = spread(plan.dataset.images, len(keys))
    failed: dict[str, CorruptionError] = {}
    cpu = plan.settings.device == "cpu"
    with ThreadPoolExecutor(workers, initializer=one_thread if cpu else None) as pool:
        each = list(pool.map(lambda image: _of_image(plan, image, todo, failed, progress), images))
    rows = [
        (*at, *np.mean([scores[at] for scores in each], axis=0).tolist(), len(images), keys[at])
        for at in todo
        if at[0] not in failed
    ]
    made = pd.DataFrame(rows, columns=list(DAMAGE))
    run.write_damage(pd.concat([there, made]) if len(there) else made)
    return list(failed.values())


def measurements(plan: Plan, run: Run | None = None) -> int:
    """How many `measure_damage` has to make; without a run, of one that has none."""
    there, keys = set() if run is None else set(run.damage()["key"]), _keys(plan)
    return sum(key not in there for key in keys.values()) * len(spread(plan.dataset.images, len(keys)))


def spread(images: Sequence[Image], cells: int) -> list[Image]:
    """Evenly spread images: 16, or fewer where there are many cells to measure on them, but 4."""
    count = min(len(images), _MAX_IMAGES, max(_FEWEST_IMAGES, _MEASUREMENTS // max(cells, 1)))
    return [images[i * len(images) // count] for i in range(count)]


def _keys(plan: Plan) -> dict[tuple[str, float], str]:
    """The content address of what is measured of each (corruption, severity)."""
    settings = plan.settings
    shared = {"data": plan.dataset.fingerprint, "device": settings.device.partition(":")[0]}
    return {
        (name, severity): cell_key(
            **shared,
            corruption=one.fingerprint(settings.engine),
            severity=severity,
            engine=settings.engine,
            seed=settings.seed,
        )
        for name, one in plan.corruptions.items()
        for severity in one.effective_severities(plan.severities)
    }


def _of_image(
    plan: Plan,
    image: Image,
    todo: Sequence[tuple[str, float]],
    failed: dict[str, CorruptionError],
    progress: Callable[[int], None],
) -> dict[tuple[str, float], tuple[float, float]]:
    settings = plan.settings
    found: dict[tuple[str, float], tuple[float, float]] = {}
    picture = torch.from_numpy(decoding.read_image(image).transpose(2, 0, 1).copy()).to(settings.device)
    for name, severity in todo:
        try:
            if name not in failed:
                (found[name, severity],) = corrupting.measure_image_quality(
                    plan.corruptions[name], [picture], [severity],
                    seed=settings.seed, image_ids=[image.id], engine=settings.engine,
                )  # fmt: skip
        except CorruptionError as error:
            failed.setdefault(name, error)
        progress(1)
    return found
