"""What a run will cost, part by part, measured on a little of it before it starts."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from robustbench_sgdm import corruption as corrupting
from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.datasets import image_decoding as decoding
from robustbench_sgdm.detectors import timing
from robustbench_sgdm.scoring import Scorer, rows
from robustbench_sgdm.store import GroundTruth, Run
from robustbench_sgdm.sweep.damage import measurements
from robustbench_sgdm.sweep.facts import ground_truth
from robustbench_sgdm.sweep.local import cores
from robustbench_sgdm.sweep.plan import Plan, Unit

Span = NDArray[np.float64]
"""Seconds at least and at most, (2,)."""

_STARTING = np.array([2.0, 15.0])  # a worker process imports the libraries and loads the detectors
_DRAWING = np.array([4.0, 25.0])  # figures, HTML and PDF of a report
_FURTHER = 0.5  # of a core's work that each further one adds at least: they share memory and caches
_BUSY = 1.5
_SAMPLE = 256  # images that a cell's scores and statistics are timed on
_FIXED = 0.5  # of a cell's cost that may not grow with its images


@dataclass(frozen=True)
class Crew:
    """Who works on units.

    Attributes:
        workers: how many.
        gpus: of each; None where all share the run's device.
        elsewhere: whether they have cores and GPUs of other machines, so that more than this one has are quicker.
        start: whether they have to start first, as processes.
    """

    workers: int
    gpus: float | None = None
    elsewhere: bool = False
    start: bool = False

    def cores(self, units: int) -> int:
        """Cores that work at once on so many units."""
        return max(min(self.workers, units, units if self.elsewhere else cores()), 1)

    def devices(self, units: int) -> float:
        """GPUs that do; of two workers that share one, neither is quicker for the other."""
        found = min(self.workers, units) * min(self.gpus or 1.0, 1.0) if self.gpus else 1.0
        return found if self.elsewhere else min(found, max(torch.cuda.device_count(), 1))


@dataclass(frozen=True)
class Costs:
    """Seconds of an image of the first one's size, by model and by corruption, and of a cell."""

    read: Span
    predict: Mapping[str, Span]
    corrupt: Mapping[str, Span]
    damage: Mapping[str, Span]
    scores: Span
    statistics: Span
    latency: Span


def estimate(plan: Plan, units: Sequence[Unit], crew: Crew, run: Run | None = None) -> dict[str, Span]:
    """What the units will take, and all that follows them to the report, by part; their sum is the whole.

    Args:
        plan: of the run.
        units: that are to do.
        crew: who does them.
        run: where it is stored; what is there of later parts is not made again.

    Raises:
        RobustBenchError: it cannot be told, since the image, a corruption, memory, the disk or the device failed.
    """
    threads = torch.get_num_threads()
    try:
        return expected(plan, units, crew, _measure(plan), run)
    except (RuntimeError, MemoryError, OSError) as error:  # numba writes what it compiled to disk
        raise RobustBenchError(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}") from error
    finally:
        torch.set_num_threads(threads)


def expected(
    plan: Plan, units: Sequence[Unit], crew: Crew, costs: Costs, run: Run | None = None
) -> dict[str, Span]:
    """As `estimate`, from what little things cost."""
    cells = {cell for unit in units for cell in unit.cells}
    levels = {name: len(one.effective_severities(plan.severities)) for name, one in plan.corruptions.items()}
    damage = sum((cost * levels[name] for name, cost in costs.damage.items()), np.zeros(2))
    damage = damage / max(sum(levels.values()), 1) * measurements(plan, run)
    # What is kept of stored cells' statistics is not looked for.
    statistics = costs.statistics * np.array([len(cells), len(plan.cells)])
    timed = run is not None and not run.latency().empty
    return {
        "predictions": _of_units(plan, units, crew, costs)
        + _shared(costs.scores * len(cells), crew.cores(len(units))),
        "timing the models": np.minimum(costs.latency, timing.MAX_SECONDS) * (not timed),
        "damage to the images": _shared(damage, cores()),
        "resampling and error types": _shared(statistics, cores()),
        "report": _DRAWING,
    }


def _shared(work: Span, at_once: int) -> Span:
    """Work that several cores share, at best as if each were alone."""
    shared: Span = work / np.array([at_once, 1 + _FURTHER * (at_once - 1)])
    return shared


def _of_units(plan: Plan, units: Sequence[Unit], crew: Crew, costs: Costs) -> Span:
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
    at_once = crew.cores(len(units))
    took: Span
    if plan.settings.device == "cpu":
        took = _shared((reading + computing).sum(0), at_once)
        took = np.maximum(took, (reading + computing).max(0))  # a unit is one worker's
    else:  # the GPUs compute while others read, or all wait for each other
        read, computed = _shared(reading.sum(0), at_once), computing.sum(0) / crew.devices(len(units))
        took = np.array([max(read[0], computed[0]), read[1] + computed[1]])
    return took + _STARTING if crew.start else took


def _measure(plan: Plan) -> Costs:
    """Read an image, show a batch of it to each model, and corrupt it at the least and the greatest severity.

    A cell of made-up boxes, as many as were found, is scored and resampled. All of it as in a run, where on the CPU
    a worker has one thread, but for `latency`.
    """
    settings, first = plan.settings, plan.dataset.images[0]
    threads = torch.get_num_threads()
    latency = np.zeros(2)
    read, array = _timed(lambda: decoding.read_image(first))
    image = torch.from_numpy(array.transpose(2, 0, 1).copy()).to(settings.device)
    size = min(settings.batch, len(plan.dataset))
    batch = image.expand(size, -1, -1, -1)
    predict, found = {}, 1
    for name, entrant in plan.models.items():
        show = entrant.detector.predict
        show([image])  # the first call pays for warming up
        latency += _timed(partial(show, [image]))[0] * (timing.ROUNDS + timing.WARM_UP)
        if settings.device == "cpu":
            torch.set_num_threads(1)
        took, boxes = _timed(partial(show, list(batch)))
        predict[name], found = took / size, max(found, len(boxes[0]))
        torch.set_num_threads(threads)
    if settings.device == "cpu":
        torch.set_num_threads(1)
    corrupt, damage = {}, {}
    how: dict[str, Any] = {"seed": 0, "engine": settings.engine}
    for name, one in plan.corruptions.items():
        levels = [level for level in one.effective_severities(plan.severities) if level] or [0.0]
        ends = [
            _timed(partial(corrupting.apply_corruption, one, batch, level, image_ids=range(size), **how))[0]
            for level in (levels[0], levels[-1])
        ]
        corrupt[name] = np.array([min(e[0] for e in ends), max(e[1] for e in ends)]) / size
        damage[name], _ = _timed(
            partial(corrupting.measure_image_quality, one, [image], [levels[-1]], image_ids=[0], **how)
        )
    scores, statistics = _of_cell(plan, found)
    return Costs(read, predict, corrupt, damage, scores, statistics, latency)


def _of_cell(plan: Plan, boxes: int) -> tuple[Span, Span]:
    """What it takes to score a cell with so many boxes an image, and to resample and diagnose it."""
    # Here, since worker processes import this module too and are to start quickly.
    from robustbench_sgdm.robustness.bootstrap import GROUPS, RESAMPLES
    from robustbench_sgdm.robustness.diagnosis import diagnose
    from robustbench_sgdm.robustness.matching import match
    from robustbench_sgdm.robustness.outcomes import coco, ordered
    from robustbench_sgdm.robustness.resampling import Resampler

    ids = [image.id for image in plan.dataset.images[:_SAMPLE]]
    whole, rng, count = ground_truth(plan.dataset), np.random.default_rng(0), boxes * len(ids)
    images, objects = (f[f["image_id"].isin(ids)] for f in (whole.images, whole.annotations))
    truth = GroundTruth(images, objects, whole.categories)
    corner, size = rng.uniform(0, 500, (count, 2)), rng.uniform(5, 200, (count, 2))
    found = pd.DataFrame(np.concatenate([corner, corner + size], axis=1), columns=["x1", "y1", "x2", "y2"])
    found["image_id"], found["score"] = np.repeat(ids, boxes), rng.random(count)
    found["category_id"] = rng.choice(truth.categories["category_id"], count)
    scorer, ordering, known = Scorer(plan.dataset), ordered(truth), coco(truth)
    Resampler(ordering, match(ordering, found)).score(np.ones(len(ids), np.uint16))  # compiled, or loaded
    scores, _ = _timed(lambda: scorer.score([rows(found)]))
    matching, resampler = _timed(lambda: Resampler(ordering, match(ordering, found)))
    resampling, _ = _timed(lambda: resampler.score(np.ones(len(ids), np.uint16)))
    diagnosis, _ = _timed(lambda: diagnose(truth, known, found))
    more = len(plan.dataset) / len(ids) * np.array([_FIXED if len(plan.dataset) > len(ids) else 1.0, 1.0])
    return scores * more, (matching + resampling * (RESAMPLES + GROUPS) + diagnosis) * more


def _timed(call: Callable[[], Any]) -> tuple[Span, Any]:
    """The quicker of two calls, and the slower with what else the machine may do then; and what it gives."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        result = call()
        for device in range(torch.cuda.device_count()):
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return np.array([min(seconds), _BUSY * max(seconds)]), result
