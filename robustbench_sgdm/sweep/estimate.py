"""What a run will cost, measured on its first image before it starts."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from robustbench_sgdm import corruption as corrupting
from robustbench_sgdm.datasets import images as decoding
from robustbench_sgdm.errors import RobustBenchError
from robustbench_sgdm.sweep.plan import Plan, Unit

_T = TypeVar("_T")


def estimate(plan: Plan, units: Sequence[Unit], *, workers: int) -> float:
    """Seconds that the units will take: one image is read, and a batch of it corrupted and shown to each model.

    Corruption is timed at each one's highest severity, so the estimate errs upwards.

    Raises:
        RobustBenchError: it cannot be told, since the image, a corruption, memory or the device failed.
    """
    if not units:
        return 0.0
    threads = torch.get_num_threads()
    cpu = plan.settings.device == "cpu"
    try:
        if cpu:
            torch.set_num_threads(1)
        total = _seconds(plan, units)
    except (RuntimeError, MemoryError) as error:
        raise RobustBenchError(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}") from error
    finally:
        torch.set_num_threads(threads)
    return total / (workers if cpu else 1)


def _seconds(plan: Plan, units: Sequence[Unit]) -> float:
    settings, first = plan.settings, units[0].images[0]
    read, array = _timed(lambda: decoding.read(first))
    image = torch.from_numpy(array.transpose(2, 0, 1).copy()).to(settings.device)
    size = min(settings.batch, len(units[0].images))
    batch = image.expand(size, -1, -1, -1)
    predict = {}
    for name, entrant in plan.models.items():
        detector = entrant.detector
        detector.predict(list(batch))  # the first call pays for warming up
        predict[name] = _timed(lambda d=detector: d.predict(list(batch)))[0] / size  # type: ignore[misc]
    corrupt = {}
    for name, corruption in plan.corruptions.items():
        for level in corruption.levels(plan.severities)[-1:]:
            took, _ = _timed(
                lambda c=corruption, s=level: corrupting.apply(  # type: ignore[misc]
                    c, batch, s, seed=0, image_ids=range(size), engine=settings.engine
                )
            )
            corrupt[name] = took / size
    return sum(
        len(u.images)
        * (
            read
            + sum(predict[c.model] for c in u.cells)
            + (corrupt[u.corruption.name] * len({c.severity for c in u.cells}) if u.corruption else 0)
        )
        for u in units
    )


def _timed(call: Callable[[], _T]) -> tuple[float, _T]:
    start = time.perf_counter()
    result = call()
    if torch.cuda.is_available():
        for device in range(torch.cuda.device_count()):
            torch.cuda.synchronize(device)
    return time.perf_counter() - start, result
