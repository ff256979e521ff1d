"""The latency of a run's detectors, measured interleaved on its first image."""

from collections.abc import Callable

import pandas as pd
import torch

from robustbench_sgdm.datasets import image_decoding as decoding
from robustbench_sgdm.detectors import timing
from robustbench_sgdm.store.runs import LATENCY
from robustbench_sgdm.sweep.plan import Plan


def measure_latency(
    plan: Plan, rounds: int = timing.ROUNDS, progress: Callable[[float], None] = lambda _: None
) -> pd.DataFrame:
    """Milliseconds for one image, from pixels to boxes, and the ratio to the first model's; a row per model."""
    array = decoding.read_image(plan.dataset.images[0])
    image = torch.from_numpy(array.transpose(2, 0, 1).copy()).to(plan.settings.device)
    calls = {name: (lambda d=entry.detector: d.predict([image])) for name, entry in plan.models.items()}
    timed = timing.benchmark_interleaved(calls, rounds, plan.settings.device, timing.MAX_SECONDS, progress)
    rows = [(n, t.milliseconds, t.ratio, t.low, t.high, plan.settings.device) for n, t in timed.items()]
    return pd.DataFrame(rows, columns=list(LATENCY))
