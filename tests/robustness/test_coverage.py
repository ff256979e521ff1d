"""95 % intervals of a difference cover it in 95 of 100 samples: slow, run by `make test-slow`."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from robustbench_sgdm.robustness.first_failure import Survival
from robustbench_sgdm.robustness.inference import infer
from robustbench_sgdm.robustness.matching import SortedTruth, match_detections
from robustbench_sgdm.robustness.measures import MEASURES, MeasureSampler
from robustbench_sgdm.robustness.resample_cache import (
    BootstrapSamples,
    bootstrap_weights,
    resample_cell,
    sample_images,
)
from robustbench_sgdm.robustness.resampling import METRICS, Resampler
from robustbench_sgdm.robustness.significance import Variance, student_interval

POPULATION, SAMPLE, RESAMPLES, REPETITIONS = 20_000, 400, 500, 1_000


def boxes(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    size = np.exp(rng.uniform(np.log(10), np.log(200), (count, 1)))
    return np.concatenate([rng.uniform(0, 400, (count, 2)), size, size], axis=1)


def population(rng: np.random.Generator) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """Objects in images that are hard and easy for both of two detectors, one of which finds more of them."""
    image = np.repeat(np.arange(POPULATION), np.maximum(rng.poisson(3, POPULATION), 1))
    hard = rng.beta(2, 2, POPULATION)[image]
    truth = pd.DataFrame(boxes(rng, len(image)), columns=list("xywh")).assign(image_id=image, category_id=1)
    truth = truth.assign(area=truth["w"] * truth["h"], iscrowd=0)
    models = []
    for skill in (0.75, 0.80):
        found = truth[rng.random(len(image)) < skill * (1 - 0.5 * hard)]
        moved = found[list("xywh")].to_numpy(copy=True)
        moved[:, :2] += rng.normal(0, 0.08, (len(found), 2)) * moved[:, 2:3]
        stray = np.repeat(np.arange(POPULATION), rng.poisson(3, POPULATION))
        every = np.concatenate([moved, boxes(rng, len(stray))])
        every[:, 2:] += every[:, :2]
        made = pd.DataFrame(every, columns=["x1", "y1", "x2", "y2"])
        made["image_id"] = np.concatenate([found["image_id"].to_numpy(), stray])
        made["score"] = np.concatenate([rng.beta(4, 2, len(found)), rng.beta(2, 4, len(stray))])
        models.append(made.assign(category_id=1))
    return truth, models


def resamplers(images: NDArray[np.int64], truth: pd.DataFrame, models: list[pd.DataFrame]) -> list[Resampler]:
    ordered = SortedTruth.build(images, [1], truth)
    return [Resampler(ordered, match_detections(ordered, model)) for model in models]


def known(truth: pd.DataFrame, models: list[pd.DataFrame]) -> NDArray[np.float64]:
    """The difference of each metric in the whole population."""
    everyone = np.ones(POPULATION, np.uint16)
    base, better = (r.score(everyone) for r in resamplers(np.arange(POPULATION), truth, models))
    difference: NDArray[np.float64] = better - base
    return difference


def covered(first: int, last: int) -> NDArray[np.float64]:
    """How often the interval covers each metric's difference, (6,), over some repetitions."""
    truth, models = population(np.random.default_rng(0))
    differences = known(truth, models)
    parts = [dict(tuple(frame.groupby("image_id"))) for frame in (truth, *models)]
    hits = np.zeros(len(METRICS))
    for repetition in range(first, last):
        picked = np.random.default_rng([1, repetition]).choice(POPULATION, SAMPLE, replace=False)
        sample = [pd.concat([part[i] for i in picked.tolist() if i in part]) for part in parts]
        drawn = bootstrap_weights(SAMPLE, RESAMPLES, repetition)
        one, two = (resample_cell(r, drawn) for r in resamplers(picked, sample[0], sample[1:]))
        for m in range(len(METRICS)):
            spread = (two.resamples - one.resamples)[:, m]
            estimate = float((two.estimate - one.estimate)[m])
            low, high = student_interval(
                estimate, Variance(float(np.var(spread, ddof=1)), len(one.jackknife) - 1), 0.95
            )
            hits[m] += low <= differences[m] <= high
    return hits


@pytest.mark.slow
def test_intervals_of_a_known_difference_cover_it(capsys: pytest.CaptureFixture[str]) -> None:
    workers = os.cpu_count() or 1
    edges = np.linspace(0, REPETITIONS, workers + 1, dtype=int).tolist()
    with ProcessPoolExecutor(workers) as pool:
        rates = sum(pool.map(covered, edges[:-1], edges[1:])) / REPETITIONS
    with capsys.disabled():
        table = pd.Series(100 * rates, list(METRICS)).round(1)
        print(f"\nknown AP difference {known(*population(np.random.default_rng(0)))[0]:.2f}")
        print(f"coverage in percent of {REPETITIONS} repetitions:\n{table}")
    assert np.all((rates >= 0.93) & (rates <= 0.97))


def measures_covered(first: int, last: int) -> NDArray[np.float64]:
    """How often intervals cover recall and D-ECE (2,), of the better detector, over some repetitions."""
    truth, models = population(np.random.default_rng(0))
    columns = [list(MEASURES).index(name) for name in ("recall", "D-ECE")]
    whole = MeasureSampler(SortedTruth.build(np.arange(POPULATION), [1], truth), models[1], 0.5)
    expected = whole.score(np.ones((1, POPULATION), np.uint16))[0, columns]
    parts = [dict(tuple(frame.groupby("image_id"))) for frame in (truth, models[1])]
    hits = np.zeros(2)
    for repetition in range(first, last):
        picked = np.random.default_rng([2, repetition]).choice(POPULATION, SAMPLE, replace=False)
        sample = [pd.concat([part[i] for i in picked.tolist() if i in part]) for part in parts]
        sampler = MeasureSampler(SortedTruth.build(picked, [1], sample[0]), sample[1], 0.5)
        samples = sample_images(sampler.score, SAMPLE, bootstrap_weights(SAMPLE, RESAMPLES, repetition))
        for place, column in enumerate(columns):
            found = infer(samples, column, None, [[samples]], 0.95)
            hits[place] += found.low <= expected[place] <= found.high
    return hits


def failures_covered(first: int, last: int) -> NDArray[np.float64]:
    """How often intervals cover the mean severity endured and its difference between two models (2,)."""
    rng = np.random.default_rng(3)
    hard = rng.beta(2, 2, POPULATION)
    levels: NDArray[np.float64] = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    objects = np.maximum(rng.poisson(3, POPULATION), 1)
    counts = []
    for skill in (3.0, 3.4):  # objects of one image fail at about the same severity
        image = np.repeat(np.arange(POPULATION), objects)
        at = np.clip(np.ceil(rng.normal(skill * (1.6 - hard[image]), 1.0)) - 1, 0, 5).astype(np.int64)
        counts.append(np.bincount(image * 6 + at, minlength=POPULATION * 6).reshape(-1, 6).astype(float))
    everyone = np.ones((1, POPULATION), np.uint16)
    base, better = (float(Survival(one, levels)(everyone)[0, 0]) for one in counts)
    hits = np.zeros(2)
    for repetition in range(first, last):
        picked = np.random.default_rng([4, repetition]).choice(POPULATION, SAMPLE, replace=False)
        drawn = bootstrap_weights(SAMPLE, RESAMPLES, repetition)
        one, two = (sample_images(Survival(part[picked], levels), SAMPLE, drawn) for part in counts)
        change = BootstrapSamples.map(np.subtract, two, one)
        for place, (samples, expected) in enumerate(((two, better), (change, better - base))):
            found = infer(samples, 0, None, [[samples]], 0.95)
            hits[place] += found.low <= expected <= found.high
    return hits


@pytest.mark.slow
@pytest.mark.parametrize(
    ("covers", "names"),
    [
        (measures_covered, ("recall", "D-ECE")),
        (failures_covered, ("severity endured", "its difference")),
    ],
)
def test_intervals_of_measures_cover_them(
    capsys: pytest.CaptureFixture[str],
    covers: Callable[[int, int], NDArray[np.float64]],
    names: Sequence[str],
) -> None:
    workers = os.cpu_count() or 1
    edges = np.linspace(0, REPETITIONS, workers + 1, dtype=int).tolist()
    with ProcessPoolExecutor(workers) as pool:
        rates = sum(pool.map(covers, edges[:-1], edges[1:])) / REPETITIONS
    with capsys.disabled():
        print(
            f"\ncoverage in percent of {REPETITIONS} repetitions:\n{pd.Series(100 * rates, list(names)).round(1)}"
        )
    assert np.all((rates >= 0.93) & (rates <= 0.97))
