"""Estimates how long a run takes, part by part, from a few measurements before it starts."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numba.core.errors import NumbaError
from numpy.typing import NDArray

from robustbench_sgdm import corruption as corrupting
from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.datasets import image_decoding as decoding
from robustbench_sgdm.detectors import timing
from robustbench_sgdm.scoring import Scorer, coco_rows
from robustbench_sgdm.store import GroundTruth, Run
from robustbench_sgdm.sweep.executors.threads import available_cores
from robustbench_sgdm.sweep.image_quality import count_measurements
from robustbench_sgdm.sweep.metadata import ground_truth
from robustbench_sgdm.sweep.plan import Plan, WorkUnit

Span = NDArray[np.float64]
"""Seconds, at least and at most: (2,)."""

REPORT_SECONDS = np.array([8.0, 32.0])
"""Figures, HTML and PDF of a report."""

_STARTUP = np.array([2.0, 15.0])  # a worker process imports the libraries and loads the detectors
_SCALING = 0.5  # of a core's work that each further core adds at least: they share memory and caches
_SLOWDOWN = 1.5  # where the machine does other things too
_SAMPLE_IMAGES = 256  # that a cell's scores and statistics are timed on
_FIXED_SHARE = 0.5  # of a cell's cost that may not grow with its images


@dataclass(frozen=True)
class Capacity:
    """The workers of a run and what they share.

    Attributes:
        workers: how many.
        gpus: of each; None where all share the run's device.
        is_remote: whether they have cores and GPUs of other machines, so that this machine's number is no bound.
        has_startup: whether they must start first, as processes.
    """

    workers: int
    gpus: float | None = None
    is_remote: bool = False
    has_startup: bool = False

    def cores(self, units: int) -> int:
        """Cores that compute at once, given so many units."""
        return max(min(self.workers, units, units if self.is_remote else available_cores()), 1)

    def devices(self, units: int) -> float:
        """GPUs that compute at once; two workers that share one are no faster than one."""
        gpus = min(self.workers, units) * min(self.gpus or 1.0, 1.0) if self.gpus else 1.0
        return gpus if self.is_remote else min(gpus, max(torch.cuda.device_count(), 1))


@dataclass(frozen=True)
class Costs:
    """Seconds per image of the first image's size, by model and by corruption, and per cell."""

    read: Span
    predict: Mapping[str, Span]
    corrupt: Mapping[str, Span]
    image_quality: Mapping[str, Span]
    scores: Span
    statistics: Span
    latency: Span


def estimate_seconds(
    plan: Plan, units: Sequence[WorkUnit], capacity: Capacity, run: Run | None = None
) -> dict[str, Span]:
    """How long the units take, and everything after them up to the report, by part; the sum is the whole run.

    Args:
        plan: of the run.
        units: to compute.
        capacity: of the workers.
        run: where it is stored; later parts that it already has cost nothing.

    Raises:
        RobustBenchError: no estimate, because an image, a corruption, memory, the disk or the device failed.
    """
    threads = torch.get_num_threads()
    try:
        return combine_costs(plan, units, capacity, _measure(plan), run)
    except (RuntimeError, MemoryError, OSError, NumbaError) as error:
        # Numba caches on a disk that may be full.
        raise RobustBenchError(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}") from error
    finally:
        torch.set_num_threads(threads)


def combine_costs(
    plan: Plan, units: Sequence[WorkUnit], capacity: Capacity, costs: Costs, run: Run | None = None
) -> dict[str, Span]:
    """As `estimate_seconds`, from the costs of single images and cells."""
    cells = {cell for unit in units for cell in unit.cells}
    levels = {name: len(one.effective_severities(plan.severities)) for name, one in plan.corruptions.items()}
    quality = sum((cost * levels[name] for name, cost in costs.image_quality.items()), np.zeros(2))
    quality = quality / max(sum(levels.values()), 1) * count_measurements(plan, run)
    # Stored cells may have their statistics or not: at least none of them, at most all are computed.
    statistics = costs.statistics * np.array([len(cells), len(plan.cells)])
    has_latency = run is not None and not run.read_latency().empty
    return {
        "predictions": _unit_seconds(plan, units, capacity, costs)
        + _share(costs.scores * len(cells), capacity.cores(len(units))),
        "latency of the models": np.minimum(costs.latency, timing.MAX_SECONDS) * (not has_latency),
        "PSNR and SSIM": _share(quality, available_cores()),
        "resampling and error analysis": _share(statistics, available_cores()),
        "report": REPORT_SECONDS,
    }


def _share(work: Span, cores: int) -> Span:
    """Work that several cores share, at best as if each were alone."""
    shared: Span = work / np.array([cores, 1 + _SCALING * (cores - 1)])
    return shared


def _unit_seconds(plan: Plan, units: Sequence[WorkUnit], capacity: Capacity, costs: Costs) -> Span:
    if not units:
        return np.zeros(2)
    first = plan.dataset.images[0]
    reading, computing = np.zeros((2, len(units), 2))
    for number, unit in enumerate(units):
        pixels = sum(i.height * i.width for i in unit.images) / (first.height * first.width)
        reading[number] = costs.read * pixels
        computing[number] = sum(costs.predict[c.model] for c in unit.cells) * len(unit.images)
        if unit.corruption:
            severities = len({c.severity for c in unit.cells})
            computing[number] += costs.corrupt[unit.corruption.name] * pixels * severities
    cores = capacity.cores(len(units))
    seconds: Span
    if plan.settings.device == "cpu":
        seconds = _share((reading + computing).sum(0), cores)
        seconds = np.maximum(seconds, (reading + computing).max(0))  # a unit belongs to one worker
    else:  # at best the GPUs compute while others read, at worst all wait for each other
        read, computed = _share(reading.sum(0), cores), computing.sum(0) / capacity.devices(len(units))
        seconds = np.array([max(read[0], computed[0]), read[1] + computed[1]])
    return seconds + _STARTUP if capacity.has_startup else seconds


def _measure(plan: Plan) -> Costs:
    """Read an image, run each model on a batch of it, and corrupt it at the lowest and the highest severity.

    A cell of synthetic boxes, as many as were detected, is scored and resampled. All of it as in a run, where a
    worker on the CPU has one thread, except for `latency`.
    """
    settings, first = plan.settings, plan.dataset.images[0]
    threads = torch.get_num_threads()
    latency = np.zeros(2)
    read, array = _time(lambda: decoding.read_image(first))
    image = torch.from_numpy(array.transpose(2, 0, 1).copy()).to(settings.device)
    size = min(settings.batch, len(plan.dataset))
    batch = image.expand(size, -1, -1, -1)
    predict, detected = {}, 1
    for name, entry in plan.models.items():
        run_model = entry.detector.predict
        run_model([image])  # warm-up
        latency += _time(partial(run_model, [image]))[0] * (timing.ROUNDS + timing.WARM_UP)
        if settings.device == "cpu":
            torch.set_num_threads(1)
        seconds, boxes = _time(partial(run_model, list(batch)))
        predict[name], detected = seconds / size, max(detected, len(boxes[0]))
        torch.set_num_threads(threads)
    if settings.device == "cpu":
        torch.set_num_threads(1)
    corrupt, quality = {}, {}
    shared: dict[str, Any] = {"seed": 0, "engine": settings.engine}
    for name, one in plan.corruptions.items():
        levels = [level for level in one.effective_severities(plan.severities) if level] or [0.0]
        ends = [
            _time(partial(corrupting.apply_corruption, one, batch, level, image_ids=range(size), **shared))[0]
            for level in (levels[0], levels[-1])
        ]
        corrupt[name] = np.array([min(e[0] for e in ends), max(e[1] for e in ends)]) / size
        quality[name], _ = _time(
            partial(corrupting.measure_image_quality, one, [image], [levels[-1]], image_ids=[0], **shared)
        )
    scores, statistics = _measure_cell(plan, detected)
    return Costs(read, predict, corrupt, quality, scores, statistics, latency)


def _measure_cell(plan: Plan, boxes: int) -> tuple[Span, Span]:
    """The cost to score a cell with so many boxes per image, and to resample and analyse it."""
    # Imported here: worker processes import this module too and must start quickly.
    from robustbench_sgdm.robustness.error_analysis import analyze_errors
    from robustbench_sgdm.robustness.matching import match_detections
    from robustbench_sgdm.robustness.outcomes import sort_truth, to_hotcoco
    from robustbench_sgdm.robustness.resample_cache import DEFAULT_RESAMPLES, JACKKNIFE_GROUPS
    from robustbench_sgdm.robustness.resampling import Resampler

    ids = [image.id for image in plan.dataset.images[:_SAMPLE_IMAGES]]
    whole, rng, count = ground_truth(plan.dataset), np.random.default_rng(0), boxes * len(ids)
    images, objects = (f[f["image_id"].isin(ids)] for f in (whole.images, whole.annotations))
    truth = GroundTruth(images, objects, whole.categories)
    corner, size = rng.uniform(0, 500, (count, 2)), rng.uniform(5, 200, (count, 2))
    detections = pd.DataFrame(
        np.concatenate([corner, corner + size], axis=1), columns=["x1", "y1", "x2", "y2"]
    )
    detections["image_id"], detections["score"] = np.repeat(ids, boxes), rng.random(count)
    detections["category_id"] = rng.choice(truth.categories["category_id"], count)
    scorer, ordering, known = Scorer(plan.dataset), sort_truth(truth), to_hotcoco(truth)
    # The first call compiles the numba functions, or loads them from disk.
    Resampler(ordering, match_detections(ordering, detections)).score(np.ones(len(ids), np.uint16))
    scores, _ = _time(lambda: scorer.score([coco_rows(detections)]))
    matching, resampler = _time(lambda: Resampler(ordering, match_detections(ordering, detections)))
    resampling, _ = _time(lambda: resampler.score(np.ones(len(ids), np.uint16)))
    diagnosis, _ = _time(lambda: analyze_errors(truth, known, detections))
    fixed = _FIXED_SHARE if len(plan.dataset) > len(ids) else 1.0
    growth = len(plan.dataset) / len(ids) * np.array([fixed, 1.0])
    return scores * growth, (
        matching + resampling * (DEFAULT_RESAMPLES + JACKKNIFE_GROUPS) + diagnosis
    ) * growth


def _time(call: Callable[[], Any]) -> tuple[Span, Any]:
    """The quicker of two calls, and the slower one on a busy machine; and the call's result."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        result = call()
        for device in range(torch.cuda.device_count()):
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return np.array([min(seconds), _SLOWDOWN * max(seconds)]), result
