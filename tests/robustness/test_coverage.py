"""95 % intervals of a difference cover it in 95 of 100 samples: slow, run by `make test-slow`."""

import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from robustbench_sgdm.robustness.matching import SortedTruth, match_detections
from robustbench_sgdm.robustness.resample_cache import bootstrap_weights, resample_cell
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
