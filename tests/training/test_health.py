"""What is measured of a run's health, and what is reported."""

import math
from collections.abc import Sequence

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from robustbench_sgdm.detectors.ultralytics import zoo
from robustbench_sgdm.modules import MODULES, SGDM
from robustbench_sgdm.training.health import (
    attention_statistics,
    diagnose_log,
    diagnose_run,
    inserted_modules,
)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def images() -> Tensor:
    return torch.rand(6, 32, 8, 8, generator=generator())


def attending(weights: Sequence[float]) -> SGDM:
    """An SGDM whose kernel attention is `weights` whatever it sees."""
    module = SGDM(32)
    nn.init.zeros_(module.rd.fc2.weight)
    with torch.no_grad():
        module.rd.fc2.bias.copy_(torch.logit(torch.tensor(weights, dtype=torch.float64)).float())
    return module


def test_entropy_is_one_for_equal_kernels_and_that_of_the_shares_otherwise() -> None:
    assert attention_statistics(attending([0.3] * 4), images())["entropy"] == pytest.approx(1, abs=1e-6)
    measured = attention_statistics(attending([0.9, 0.3, 0.3, 0.3]), images())
    shares = [0.5, 1 / 6, 1 / 6, 1 / 6]
    assert measured["entropy"] == pytest.approx(-sum(s * math.log(s) for s in shares) / math.log(4), abs=1e-6)
    assert measured["spread"] == pytest.approx(0, abs=1e-6)


def test_modulation_is_zero_where_the_strips_see_nothing() -> None:
    module = SGDM(32)
    assert attention_statistics(module, images())["modulation"] > 1e-3
    for strip in (module.rd.strip_h, module.rd.strip_w):
        nn.init.zeros_(strip.weight)
    assert attention_statistics(module, images())["modulation"] == 0


@pytest.mark.parametrize("name", MODULES)
def test_every_module_can_be_watched_and_is_left_as_it_was(name: str) -> None:
    module = MODULES[name].cls(32)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    measured = attention_statistics(module, images())
    assert all(math.isfinite(value) for value in measured.values())
    assert ("entropy" in measured) == (name.startswith(("sgdm", "rdconv")) and name != "sgdm+dcd")
    assert module.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_inserted_modules_are_found_by_layer() -> None:
    assert list(inserted_modules(zoo.build_model("yolov8n-cbam", 2))) == [22, 23, 24]
    assert not inserted_modules(zoo.build_model("yolov8n", 2))


def table(**changed: list[float]) -> pd.DataFrame:
    """A healthy log of four epochs with one module, but for what is changed."""
    healthy = {
        "steps": 40,
        "rate": 0.01,
        "loss": 3.0,
        "finite": 1,
        "gradient/22": 0.01,
        "gamma/22": 0.5,
        "entropy/22": 0.9,
    }
    healthy |= {"spread/22": 0.1, "modulation/22": 0.1}
    named = {key.replace("_22", "/22"): value for key, value in changed.items()}
    return pd.DataFrame(
        {"epoch": [1, 2, 3, 4]} | {key: [value] * 4 for key, value in healthy.items()} | named
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"steps": [1, 0, 0, 0]}, ["1 optimiser step, too few to judge a model; at least 100 are needed"]),
        (
            {"steps": [24, 25, 25, 25]},
            ["99 optimiser steps, too few to judge a model; at least 100 are needed"],
        ),
        ({"steps": [25] * 4}, []),
        (
            {"steps": [0] * 4, "rate": [0.0] * 4},
            ["no optimiser step was taken: lower nbs, or train on more images or for more epochs"],
        ),
        (
            {"rate": [0.0] * 4},
            ["the learning rate was 0 in all 160 optimiser steps: the weights did not change"],
        ),
        ({"finite": [1, 0, 1, 1]}, ["loss or gradients were not finite in epoch 2"]),
        ({"gradient_22": [0.1, 0, 0, 0]}, ["layer 22: the module's gradients vanished in epochs 2, 3, 4"]),
        ({"entropy_22": [0.0] * 4}, ["layer 22: the attention collapsed to one kernel in 4 epochs, 1 to 4"]),
        ({"spread_22": [0, 0.1, 0.1, 0.1], "modulation_22": [0.1] * 4}, []),
        (
            {"spread_22": [0, 0, 0.1, 0.1], "modulation_22": [0, 0, 0, 0]},
            ["layer 22: the kernels were the same for every image in epochs 1, 2"],
        ),
    ],
)
def test_findings(changed: dict[str, list[float]], said: list[str]) -> None:
    assert diagnose_log(table(**changed)) == said


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ((16, 8, 5, 1.0), []),
        ((8, 8, 5, 0.1), []),
        ((1, 8, 5, 1.0), ["1 training image, fewer than a batch of 8: every step saw all of them"]),
        (
            (16, 8, 0, None),
            ["the validation images contain no object: nothing is scored, and no epoch is better"],
        ),
        ((16, 8, 5, 0.0), ["AP is 0: the weights find no object in the validation images"]),
        ((16, 8, 5, None), ["AP is 0: the weights find no object in the validation images"]),
    ],
)
def test_shortfalls(run: tuple[int, int, int, float | None], said: list[str]) -> None:
    found = diagnose_run(*run)
    assert len(found) == len(said) and all(map(str.startswith, found, said))
