"""How long forward passes take, measured in turns, so that what else the machine does hits all alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.detectors.ultralytics import zoo
from robustbench_sgdm.detectors.ultralytics.adapter import UltralyticsDetector

WARM_UP = 3
"""Calls before a call is timed."""

ROUNDS = 25
"""Enough for an interval of the median that leaves out the 7 least and greatest."""

MAX_SECONDS = 60.0
"""Seconds after which no further round of a run's models begins, where there are enough for any interval."""

_MIN_ROUNDS = 6  # rounds of which `median_interval` can say anything


@dataclass(frozen=True)
class Timing:
    """Forward passes of one model beside the first one's.

    Attributes:
        milliseconds: median, for a batch.
        ratio: median over rounds of its time over the first model's in the same round.
        low: lower end of the ratio's 95 % interval; see `median_interval`.
        high: upper end.
    """

    milliseconds: float
    ratio: float
    low: float
    high: float


def benchmark_interleaved(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    device: str = "cpu",
    longest: float = math.inf,
    progress: Callable[[float], None] = lambda _: None,
) -> dict[str, Timing]:
    """Time each call once a round, in random order; the first is what the others are compared with.

    In a fixed order a call profits from the one before it, or suffers, in every round alike, and two copies of one
    network seem to differ.

    Args:
        calls: by name.
        rounds: at most.
        device: whose work is waited for.
        longest: seconds after which no further round begins, once there are enough for an interval.
        progress: called after each round with the share of the work, or of the time, that is over.
    """
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    functions, rng = list(calls.values()), np.random.default_rng(0)
    rounds_taken: list[NDArray[np.float64]] = []
    start = time.perf_counter()
    while len(rounds_taken) < rounds and (
        len(rounds_taken) < _MIN_ROUNDS or time.perf_counter() - start <= longest
    ):
        rounds_taken.append(np.empty(len(functions)))
        for i in rng.permutation(len(functions)):
            rounds_taken[-1][i] = _seconds(functions[i], device)
        over = (time.perf_counter() - start) / longest if len(rounds_taken) >= _MIN_ROUNDS else 0.0
        progress(min(max(len(rounds_taken) / rounds, over), 1.0))
    seconds = np.stack(rounds_taken)
    ratios = seconds / seconds[:, :1]
    timings = {}
    for i, name in enumerate(calls):
        low, high = median_interval(ratios[:, i]) if i else (1.0, 1.0)
        middle = [float(np.median(values)) for values in (seconds[:, i], ratios[:, i])]
        timings[name] = Timing(middle[0] * 1e3, middle[1], low, high)
    return timings


def median_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """An interval that holds the median with at least 95 % confidence, whatever the distribution.

    Its ends are values: as many are cut off on each side as the sign test allows. Of fewer than six values no
    interval can say so much: it holds every positive number.
    """
    ordered, count = np.sort(values), len(values)
    cut, tail = 0, 0.5**count
    while tail <= 0.025:
        cut += 1
        tail += math.comb(count, cut) * 0.5**count
    return (float(ordered[cut - 1]), float(ordered[count - cut])) if cut else (0.0, math.inf)


def benchmark_forward(
    names: list[str],
    classes: int,
    *,
    imgsz: int = 640,
    batch: int = 1,
    device: str = "cpu",
    rounds: int = ROUNDS,
) -> dict[str, Timing]:
    """Time freshly initialised zoo models as detectors run them: fused, folded, on a grey image.

    Raises:
        UsageError: as `zoo.build_model`, or no such device.
    """
    image = torch.full((batch, 3, imgsz, imgsz), 114, dtype=torch.uint8)

    def forward(name: str) -> Callable[[], object]:
        detector = UltralyticsDetector(
            zoo.build_model(name, classes), name, InferenceConfig(imgsz=imgsz, device=device)
        )
        return lambda: detector.forward(image)

    return benchmark_interleaved({name: forward(name) for name in names}, rounds, device)


def _seconds(call: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    call()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
