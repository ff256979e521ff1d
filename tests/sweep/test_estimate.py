"""Estimates: their parts, what makes them larger and smaller. How long anything takes is never asked."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from robustbench_sgdm import corruption, datasets
from robustbench_sgdm.config import EvaluationConfig, InferenceConfig
from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.detectors import load_detectors
from robustbench_sgdm.evaluation import planned_capacity
from robustbench_sgdm.store import CellStore, Run, Settings
from robustbench_sgdm.store.runs import LATENCY
from robustbench_sgdm.sweep import (
    Capacity,
    Plan,
    available_cores,
    estimate_seconds,
    make_plan,
    pending_units,
)
from robustbench_sgdm.sweep.estimate import Costs, combine_costs

PARTS = [
    "predictions",
    "latency of the models",
    "PSNR and SSIM",
    "resampling and error analysis",
    "report",
]
HERE = available_cores()


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Two models, three corruptions, three severities, and more units than cores."""
    entries = load_detectors(["yolov8n-sgdm"], InferenceConfig(imgsz=64))
    chosen = corruption.load_corruptions().select(["gaussian_noise", "fog", "contrast"])
    data = datasets.load_dataset("scenes").subset(0.5)
    return make_plan(entries, data, chosen, [0, 1, 3], Settings("cpu", "torch", 0, 2))


def costs(plan: Plan, seconds: float = 1.0) -> Costs:
    one = np.array([seconds, 2 * seconds])
    models, noise = dict.fromkeys(plan.models, one), dict.fromkeys(plan.corruptions, one)
    return Costs(one, models, noise, noise, one, one, one)


def spans(
    plan: Plan, tmp_path: Path, capacity: Capacity, run: Run | None = None, seconds: float = 1.0
) -> Any:
    units = pending_units(plan, CellStore(tmp_path / "nothing"))
    return combine_costs(plan, units, capacity, costs(plan, seconds), run)


def no_more(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all((one[part] <= other[part] + 1e-9).all() for part in PARTS)


def test_it_states_every_part_at_least_and_at_most(plan: Plan) -> None:
    threads = torch.get_num_threads()
    found = estimate_seconds(plan, pending_units(plan, CellStore(Path("nothing"))), Capacity(2))
    assert list(found) == PARTS and torch.get_num_threads() == threads
    assert all(0 < low <= high < np.inf for low, high in found.values())


def test_more_workers_never_take_longer(plan: Plan, tmp_path: Path) -> None:
    for kind in (Capacity(1), Capacity(1, has_startup=True), Capacity(1, is_remote=True, has_startup=True)):
        found = [spans(plan, tmp_path, replace(kind, workers=n)) for n in (1, 2, 3, 8, 1000)]
        assert all(no_more(more, fewer) for fewer, more in itertools.pairwise(found))
        assert (found[-1]["predictions"] > 0).all()
    here, there = (
        spans(plan, tmp_path, Capacity(10 * HERE, is_remote=e))["predictions"] for e in (False, True)
    )
    assert (here > there).all()  # cores of other machines help, workers without cores do not
    np.testing.assert_allclose(here, spans(plan, tmp_path, Capacity(HERE))["predictions"])


def test_more_work_never_takes_less(plan: Plan, tmp_path: Path) -> None:
    whole = spans(plan, tmp_path, Capacity(2))
    assert no_more(spans(plan, tmp_path, Capacity(2), seconds=0.5), whole)
    fewer = make_plan(
        dict([*plan.models.items()][:1]),
        plan.dataset,
        [*plan.corruptions.values()][:2],
        [0, 3],
        plan.settings,
    )
    small = spans(fewer, tmp_path, Capacity(2))
    assert no_more(small, whole)
    for part in ("predictions", "PSNR and SSIM", "resampling and error analysis"):
        assert (small[part] < whole[part]).all()


def test_workers_share_gpus_and_processes_have_to_start(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = replace(plan, settings=replace(plan.settings, device="cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    def longest(capacity: Capacity) -> float:
        return float(spans(plan, tmp_path, capacity)["predictions"][1])

    assert longest(Capacity(2)) == pytest.approx(longest(Capacity(2, gpus=0.5)))  # one GPU either way
    assert longest(Capacity(2, gpus=1)) < longest(Capacity(2, gpus=0.5))
    assert longest(Capacity(8, gpus=1)) >= longest(Capacity(8, gpus=1, is_remote=True))
    assert longest(Capacity(2, has_startup=True)) > longest(Capacity(2))


def test_what_a_run_has_is_not_made_again(plan: Plan, tmp_path: Path) -> None:
    run = Run.create_or_resume(tmp_path, "r", plan.to_manifest(), ground_truth=plan.ground_truth())
    assert no_more(before := spans(plan, tmp_path, Capacity(2), run), spans(plan, tmp_path, Capacity(2)))
    run.write_latency(pd.DataFrame([("m", 1.0, 1.0, 1.0, 1.0, "cpu")], columns=list(LATENCY)))
    after = spans(plan, tmp_path, Capacity(2), run)
    assert before["latency of the models"].sum() > after["latency of the models"].sum() == 0


def test_what_fails_is_said(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    (one, *_) = plan.models.values()

    def predict(*_: Any) -> None:
        raise RuntimeError("CUDA error: no kernel image\nmore")

    monkeypatch.setattr(one.detector, "predict", predict)
    with pytest.raises(RobustBenchError, match=r"RuntimeError: CUDA error: no kernel image$"):
        estimate_seconds(plan, pending_units(plan, CellStore(Path("nothing"))), Capacity(2))


@pytest.mark.parametrize(
    ("on", "workers", "device", "address", "gpus", "capacity"),
    [
        ("local", 0, "cpu", None, 1.0, Capacity(2)),
        ("local", 5, "cpu", None, 1.0, Capacity(5, has_startup=True)),
        ("local", 3, "cuda", None, 1.0, Capacity(3, has_startup=True)),
        ("ray", 0, "cpu", None, 1.0, Capacity(HERE, has_startup=True)),
        ("ray", 0, "cpu", "host:1", 1.0, Capacity(1, is_remote=True, has_startup=True)),
        ("ray", 7, "cpu", "host:1", 1.0, Capacity(7, is_remote=True, has_startup=True)),
        ("ray", 0, "cuda", None, 0.5, Capacity(8, gpus=0.5, has_startup=True)),
        ("ray", 6, "cuda", "auto", 0.5, Capacity(6, gpus=0.5, is_remote=True, has_startup=True)),
    ],
)
def test_who_would_work(
    on: str,
    workers: int,
    device: str,
    address: str | None,
    gpus: float,
    capacity: Capacity,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    config = EvaluationConfig("yolov8n", executor=on, workers=workers, address=address, gpus=gpus)
    assert planned_capacity(config, device, 2) == capacity
