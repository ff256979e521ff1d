"""Sensor noise: each value of each channel on its own, with COCO-C's strengths."""

import math
from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor

from robustbench_sgdm.corruption import BatchRng, Parameter, corruption
from robustbench_sgdm.corruption.filters import to_uint8

_SOURCE = "Hendrycks & Dietterich 2019 (arXiv:1903.12261), with COCO-C's constants (Michaelis et al. 2019)"


@corruption(
    family="noise",
    parameters=(Parameter("sigma", (0.08, 0.12, 0.18, 0.26, 0.38), "of full scale", "standard deviation"),),
    aliases=("gaussian",),
    source=_SOURCE,
    random=True,
)
def gaussian_noise(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Additive Gaussian noise, as of a sensor in poor light: x + N(0, sigma)."""
    noise = rng.normal(*images.shape[1:])
    return to_uint8(noise.mul_(255 * strength["sigma"]).add_(images))


@corruption(
    family="noise",
    parameters=(
        Parameter(
            "photons",
            (60, 25, 12, 5, 3),
            "photons",
            "mean count of a white pixel",
            identity_value=math.inf,
            scale="reciprocal",
            low=0.01,
        ),
    ),
    aliases=("shot", "poisson"),
    source=_SOURCE,
    random=True,
)
def shot_noise(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Photon-counting noise: Poisson(x c) / c for c photons at white.

    What becomes of a byte is one of at most 256 bytes, with known probabilities. They are drawn by the
    alias method (Walker 1977), exact to float32's 24 random bits and five times as fast as a Poisson draw.
    """
    chance, outcome = (table.to(images.device) for table in _shot_tables(strength["photons"]))
    columns = chance.numel() // 256
    position = rng.uniform(*images.shape[1:]).mul_(columns)
    column = position.to(torch.int32)
    cell = images.to(torch.int32).mul_(columns).add_(column).flatten()
    refused = position.sub_(column).flatten() >= chance.index_select(0, cell)
    return outcome.index_select(0, cell.mul_(2).add_(refused)).view(images.shape)


@lru_cache(maxsize=32)
def _shot_tables(photons: float) -> tuple[Tensor, Tensor]:
    """Alias tables of the byte that each of the 256 bytes becomes, over K columns.

    Returns:
        float32 (256 K,) chance that a cell keeps its own column; uint8 (512 K,) the byte of each cell's
        own column and of its alias, in turn.
    """
    least = torch.tensor([_least_count(byte, photons) for byte in range(1, 256)], dtype=torch.float64)
    rates = torch.arange(256, dtype=torch.float64)[:, None] / 255 * photons
    below = torch.special.gammaincc(least, rates)  # P(count < least) of a Poisson count
    edges = torch.cat([torch.zeros(256, 1), below, torch.ones(256, 1)], 1)
    masses = edges.diff(dim=1)
    reached = (masses > 0).any(0).nonzero().flatten()
    rows = [_alias(row) for row in masses[:, reached].tolist()]
    other = torch.tensor([alias for _, alias in rows])
    own = torch.arange(len(reached)).expand_as(other)
    # On the grid of the coin it meets, or a chance of 1e-17 would come true once in 2^24 draws.
    grid = 2**24 / len(reached)
    chance = torch.tensor([kept for kept, _ in rows], dtype=torch.float64).mul(grid).round().div(grid)
    return chance.flatten().float(), reached[torch.stack([own, other], -1)].flatten().to(torch.uint8)


def _least_count(byte: int, photons: float) -> int:
    """The least photon count that is shown as `byte` or more, under the reference's own rounding."""
    count = math.ceil(byte / 255 * photons)
    while min(count / photons, 1) * 255 < byte:
        count += 1
    while count > 0 and min((count - 1) / photons, 1) * 255 >= byte:
        count -= 1
    return count


def _alias(masses: list[float]) -> tuple[list[float], list[int]]:
    """Walker's tables of one distribution by Vose's construction: chance to stay, and where to go else."""
    kept = [mass * len(masses) for mass in masses]
    alias = list(range(len(masses)))
    small = [i for i, mass in enumerate(kept) if mass < 1]
    large = [i for i, mass in enumerate(kept) if mass >= 1]
    while small and large:
        poor, rich = small.pop(), large[-1]
        alias[poor] = rich
        kept[rich] -= 1 - kept[poor]
        if kept[rich] < 1:
            small.append(large.pop())
    for rest in (*small, *large):
        kept[rest] = 1.0
    return kept, alias


@corruption(
    family="noise",
    parameters=(Parameter("amount", (0.03, 0.06, 0.09, 0.17, 0.27), "of all values", "replaced", high=1),),
    aliases=("impulse", "salt_and_pepper"),
    source=_SOURCE,
    random=True,
)
def impulse_noise(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Salt and pepper: values replaced by 0 or 255, as by dead cells and bit errors."""
    draw = rng.uniform(*images.shape[1:])
    half = strength["amount"] / 2
    salt = (draw >= 1 - half).to(torch.uint8) * 255
    return images * (draw >= half) | salt


@corruption(
    family="noise",
    parameters=(Parameter("sigma", (0.15, 0.2, 0.35, 0.45, 0.6), "of the value", "standard deviation"),),
    aliases=("speckle",),
    source=_SOURCE,
    random=True,
)
def speckle_noise(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Multiplicative noise, as of coherent light and radar: x + x N(0, sigma)."""
    noise = rng.normal(*images.shape[1:])
    return to_uint8(noise.mul_(strength["sigma"]).add_(1).mul_(images))
