"""No order of rows and no choice of ids changes first failures, scores by class, or natural shift."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustbench_sgdm.robustness import bootstrap_intervals, class_intervals, first_failures, shift_table
from robustbench_sgdm.store import Cell, GroundTruth, Run, cell_key
from tests.support.synthetic_runs import make_manifest, write_run

MODELS = {"base": None, "module": "base", "other": None}
CELLS = [("clean", 0.0), ("gaussian_noise", 1.0), ("gaussian_noise", 4.0), ("fog", 3.0)]


def moved(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The rows in another order, with other ids in the same order as before."""
    steps = {"image_id": (3, 100), "category_id": (2, 7)}
    changed = {c: factor * frame[c] + first for c, (factor, first) in steps.items() if c in frame}
    return frame.assign(**changed).sample(frac=1, random_state=rng, ignore_index=True)


def write(folder: Path, made: Any, seed: int, *, other: bool) -> Run:
    truth = made.truth(seed)
    rng = np.random.default_rng(9)
    if other:
        truth_of = truth
        truth = GroundTruth(
            *(moved(frame, rng) for frame in (truth_of.images, truth_of.annotations, truth_of.categories))
        )
    cells = [
        Cell(m, c, s, cell_key(model=m, c=c, s=s, seed=seed, other=other)) for m in MODELS for c, s in CELLS
    ]
    manifest = make_manifest(
        cells,
        models={m: {"baseline": b} for m, b in MODELS.items()},
        data={"name": "d", "images": 30, "fingerprint": f"{seed}{other}"},
    )

    def detect(cell: Cell) -> pd.DataFrame:
        order = list(MODELS).index(cell.model)
        found = made.detections(made.truth(seed), 10 + order, ties=False, shift=2 + order + 2 * cell.severity)
        return moved(found, rng) if other else found

    return write_run(folder, f"{seed}-{other}", manifest, truth, detect)


@pytest.fixture(scope="module")
def pairs(made: Any, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Run, Run]]:
    """A run and its natural shift, as they are and moved."""
    folder = tmp_path_factory.mktemp("moved")
    return [tuple(write(folder, made, seed, other=other) for seed in (0, 5)) for other in (False, True)]  # type: ignore[misc]


def same(one: pd.DataFrame, two: pd.DataFrame) -> None:
    keys = [str(c) for c in one if not pd.api.types.is_float_dtype(one[c])]
    assert len(one) > 10
    first, second = (frame.sort_values(keys, kind="stable", ignore_index=True) for frame in (one, two))
    pd.testing.assert_frame_equal(first, second, check_exact=False, rtol=1e-9, atol=1e-9)


def test_first_failures(pairs: list[tuple[Run, Run]]) -> None:
    one, two = (first_failures(bootstrap_intervals(run, resamples=40), resamples=40) for run, _ in pairs)
    same(one.table, two.table)
    same(one.survival, two.survival)


@pytest.mark.parametrize("metric", ["AP", "recall"])
def test_classes(pairs: list[tuple[Run, Run]], metric: str) -> None:
    same(*(class_intervals(bootstrap_intervals(run, resamples=40), metric, resamples=40) for run, _ in pairs))


def test_shift(pairs: list[tuple[Run, Run]]) -> None:
    same(*(shift_table(run, {"night": night}, resamples=40) for run, night in pairs))
