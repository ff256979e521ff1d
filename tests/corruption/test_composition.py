"""Compositions: their parts one by one, their names, and what is refused."""

import pickle
import random

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.corruption import Corruption, apply_corruption, load_corruptions
from robustbench_sgdm.corruption.composition import Composition

REGISTRY = load_corruptions()
PAIRS = [random.Random(seed).sample(REGISTRY.names, 2) for seed in range(12)]


@pytest.fixture
def images(photographs: list[NDArray[np.uint8]]) -> Tensor:
    return (
        torch.from_numpy(np.stack([p[60:124, 80:160] for p in photographs[:2]]))
        .permute(0, 3, 1, 2)
        .contiguous()
    )


def composition(name: str) -> Composition:
    found = REGISTRY.get(name)
    assert isinstance(found, Composition)
    return found


def apply(one: Corruption, images: Tensor, severity: float, seed: int = 3) -> Tensor:
    return apply_corruption(one, images, severity, seed=seed, image_ids=range(8, 8 + len(images)))


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_the_contract_holds_for_pairs(pair: list[str], images: Tensor) -> None:
    both, (first, second) = composition("+".join(pair)), map(REGISTRY.get, pair)
    before = images.clone()
    out = apply(both, images, 2.5)
    assert torch.equal(out, apply(second, apply(first, images, 2.5), 2.5))
    assert torch.equal(images, before)
    assert torch.equal(apply(both, images, 0), images)
    assert torch.equal(out[1:], apply_corruption(both, images[1:], 2.5, seed=3, image_ids=[9]))
    assert both.random == (first.random or second.random)
    assert torch.equal(out, apply(both, images, 2.5, seed=4)) != both.random
    assert pickle.loads(pickle.dumps(both)) == both
    assert both.fingerprint() != composition("+".join(pair[::-1])).fingerprint()


def test_parts_have_severities_of_their_own(images: Tensor) -> None:
    fog, noise = REGISTRY.get("fog"), REGISTRY.get("gaussian_noise")
    fixed, half = composition("fog@2+gaussian@4"), composition("fog@2+gaussian_noise")
    assert fixed.name == "fog@2+gaussian_noise@4"
    assert fixed.effective_severities([0, 2, 3]) == [1]
    assert torch.equal(apply(fixed, images, 1), apply(noise, apply(fog, images, 2), 4))
    assert half.effective_severities([0, 2, 3]) == [2, 3]
    assert torch.equal(apply(half, images, 3), apply(noise, apply(fog, images, 2), 3))
    assert half.strength(3) == {"fog.amount": 2, "fog.decay": 2, "gaussian_noise.sigma": 0.18}
    assert half.strength(0)["fog.amount"] == 0
    with pytest.raises(UsageError, match="has one strength: ask for severity 1"):
        apply(fixed, images, 3)


def test_parts_may_have_strengths_in_brackets(images: Tensor) -> None:
    one = composition("gaussian[sigma=1e-1]+fog")
    assert one.name == "gaussian_noise[sigma=0.1]+fog"
    expected = apply(REGISTRY.get("fog"), apply(REGISTRY.get("gaussian[sigma=0.1]"), images, 1), 3)
    assert torch.equal(apply(one, images, 3), expected)
    assert composition("gaussian[sigma=1e+0]+fog@2").effective_severities([5]) == [1]


def test_the_reference_composes_too(images: Tensor) -> None:
    one = composition("contrast+jpeg")
    out = apply_corruption(one, images, 2, seed=0, image_ids=[1, 2], engine="imgaug")
    assert out.shape == images.shape
    with pytest.raises(UsageError, match="published strengths only"):
        apply_corruption(
            composition("contrast[gain=0.3]+jpeg"), images, 2, seed=0, image_ids=[1, 2], engine="imgaug"
        )


def test_compositions_come_last_and_once() -> None:
    chosen = [one.name for one in REGISTRY.select(["fog+gaussian", "snow", "fog+gaussian_noise", "fog"])]
    assert chosen == ["snow", "fog", "fog+gaussian_noise"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fog+fog", "names fog twice"),
        ("gaussian+gaussian_noise[sigma=0.2]", "names gaussian_noise twice"),
        ("fog@2+fog@3", "names fog twice"),
        ("+".join(REGISTRY.names[:9]), "has 9 parts; a composition has 2 to 8"),
        ("fog+snow" * 5000, "parts; a composition has 2 to 8"),
        ("fog+snw", "unknown corruption 'snw'; did you mean snow"),
        ("fog+", "lacks a corruption before or after"),
        ("+", "lacks a corruption before or after"),
        ("fog+noise", "noise is a group"),
        ("fog@2", "only parts of a composition have a severity of their own"),
        ("fog@x+snow", "must be a number, not 'x'"),
        ("fog@6+snow", "must lie above 0 and not above 5"),
        ("fog@0+snow", "must lie above 0"),
        ("fog@nan+snow", "must lie above 0"),
        ("fog@1.2345+snow", "more than three decimals"),
        ("gaussian[sigma=0.1]@3+fog", "gives both a strength and a severity"),
        (
            "snow[mean=.1,deviation=.3,size=3,threshold=.5,radius=10,sigma=4.123456789,keep=.8]+"
            "fog[amount=1.123456789,decay=2.123456789]+spatter[mean=.65,deviation=.3,sigma=4,threshold=.69,amount=.6,mud=0]",
            "characters long; the limit is 200",
        ),
    ],
)
def test_what_is_no_composition_is_named(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        REGISTRY.get(name)
