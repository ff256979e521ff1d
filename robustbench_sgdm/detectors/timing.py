"""How long forward passes take, measured in turns, so that what else the machine does hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from robustbench_sgdm.detectors import zoo
from robustbench_sgdm.detectors.yolo import Inference, YoloDetector

_WARM_UP = 3


@dataclass(frozen=True)
class Timing:
    """Forward passes of one model beside the first one's.

    Attributes:
        milliseconds: median, for a batch.
        ratio: median over rounds of its time over the first model's in the same round.
        low: lower quartile of that ratio.
        high: upper quartile.
    """

    milliseconds: float
    ratio: float
    low: float
    high: float


def in_turns(
    calls: Mapping[str, Callable[[], object]], rounds: int, device: str = "cpu"
) -> dict[str, Timing]:
    """Time each call once a round, in turns; the first is what the others are compared with."""
    for call in calls.values():
        for _ in range(_WARM_UP):
            call()
    seconds = np.array([[_seconds(call, device) for call in calls.values()] for _ in range(rounds)])
    ratios = seconds / seconds[:, :1]
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75), axis=0)
    return {
        name: Timing(float(np.median(seconds[:, i])) * 1e3, float(middle[i]), float(low[i]), float(high[i]))
        for i, name in enumerate(calls)
    }


def forward_passes(
    names: list[str], classes: int, *, imgsz: int = 640, batch: int = 1, device: str = "cpu", rounds: int = 15
) -> dict[str, Timing]:
    """Time freshly initialised zoo models as detectors run them: fused, folded, on a grey image.

    Raises:
        UsageError: as `zoo.build`, or no such device.
    """
    image = torch.full((batch, 3, imgsz, imgsz), 114, dtype=torch.uint8)

    def forward(name: str) -> Callable[[], object]:
        detector = YoloDetector(zoo.build(name, classes), name, Inference(imgsz=imgsz), device)
        return lambda: detector.forward(image)

    return in_turns({name: forward(name) for name in names}, rounds, device)


def _seconds(call: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    call()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
