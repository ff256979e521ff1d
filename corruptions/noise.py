"""Sensor noise: each value of each channel on its own, with COCO-C's strengths."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.core.numba_utils import compiled
from robustbench_sgdm.core.poisson import normal_quantiles
from robustbench_sgdm.core.transfer import to_device
from robustbench_sgdm.corruption import BatchRng, Parameter, corruption
from robustbench_sgdm.corruption.filters import TO_BYTE, is_on_cpu, to_uint8

_SOURCE = "Hendrycks & Dietterich 2019 (arXiv:1903.12261), with COCO-C's constants (Michaelis et al. 2019)"


@corruption(
    family="noise",
    parameters=(Parameter("sigma", (0.08, 0.12, 0.18, 0.26, 0.38), "of full scale", "standard deviation"),),
    aliases=("gaussian",),
    source=_SOURCE,
    random=True,
    version=2,
)
def gaussian_noise(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Additive Gaussian noise, as of a sensor in poor light: x + N(0, sigma)."""
    if is_on_cpu(images):
        return _loop(
            _gaussian, images, rng.half_words, normal_quantiles() * np.float32(255 * strength["sigma"])
        )
    return to_uint8(rng.normal(*images.shape[1:]).mul_(255 * strength["sigma"]).add_(images))


def _loop(
    kernel: Callable[..., None], images: Tensor, draw: Callable[..., Tensor], *tables: object
) -> Tensor:
    """What a compiled loop makes of each value and of one random word for it."""
    out = torch.empty(images.shape, dtype=torch.uint8)
    words = draw(images[0].numel())
    for image, drawn, done in zip(images, words, out, strict=True):
        kernel(image.flatten().numpy(), drawn.numpy(), *tables, done.flatten().numpy())
    return out


@compiled
def _to_uint8(level: np.float32) -> np.uint8:
    """`to_uint8` of one grey level."""
    nearest = np.rint(min(max(level + TO_BYTE, np.float32(0)), np.float32(255)))
    return np.uint8(np.int32(nearest))  # through int32, as processors convert several values at once


@compiled
def _gaussian(
    values: NDArray[np.uint8], words: NDArray[np.int16], table: NDArray[np.float32], out: NDArray[np.uint8]
) -> None:
    for i in range(values.size):
        out[i] = _to_uint8(np.float32(values[i]) + table[np.uint16(words[i])])


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
    version=2,
)
def shot_noise(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Photon-counting noise: Poisson(x c) / c for c photons at white.

    What becomes of a byte is one of at most 256 bytes, with known probabilities: a random word says which, by their
    distribution function, exact to 2^-32.
    """
    bounds, outcomes, first = _shot_tables(strength["photons"])
    if is_on_cpu(images):
        return _loop(_shot, images, rng.words, bounds, outcomes, first)
    # All bytes' bounds in one ascending row: what lies below a word in its byte's part lies below it in the row.
    row = to_device((bounds + (np.arange(256) << 32)[:, None]).ravel(), images.device)
    words = (rng.words(*images.shape[1:]).long() & 0xFFFFFFFF) + (images.long() << 32)
    place = torch.searchsorted(row, words, right=True) - images.long() * bounds.shape[1]
    return to_device(outcomes, images.device).index_select(0, place.flatten()).view(images.shape)


@compiled
def _shot(
    values: NDArray[np.uint8],
    words: NDArray[np.int32],
    bounds: NDArray[np.int64],
    outcomes: NDArray[np.uint8],
    first: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    for i in range(values.size):
        word = np.uint32(words[i])
        place = np.intp(first[values[i], word >> np.uint32(24)])
        while bounds[values[i], place] <= word:
            place += 1
        out[i] = outcomes[place]


@lru_cache(maxsize=32)
def _shot_tables(photons: float) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.uint8]]:
    """The distribution functions of what each of the 256 bytes becomes, one of K bytes.

    Returns:
        int64 (256, K), in units of 2^-32; uint8 (K,) the bytes that they are of; uint8 (256, 256) the first place
        that a word with these upper 8 bits can have.
    """
    least = torch.tensor([_least_count(byte, photons) for byte in range(1, 256)], dtype=torch.float64)
    rates = torch.arange(256, dtype=torch.float64)[:, None] / 255 * photons
    below = torch.special.gammaincc(least, rates)  # P(count < least) of a Poisson count
    chances = torch.cat([below, torch.ones(256, 1)], 1).numpy()
    bounds = np.rint(chances * 2**32).astype(np.int64)
    reached = np.flatnonzero((np.diff(bounds, axis=1, prepend=0) > 0).any(0))
    bounds = np.ascontiguousarray(bounds[:, reached])
    heads = np.arange(256) << 24
    first = np.stack([np.searchsorted(row, heads, side="right") for row in bounds]).astype(np.uint8)
    return bounds, reached.astype(np.uint8), first


def _least_count(byte: int, photons: float) -> int:
    """The least photon count that is shown as `byte` or more, under the reference's own rounding."""
    count = math.ceil(byte / 255 * photons)
    while min(count / photons, 1) * 255 < byte:
        count += 1
    while count > 0 and min((count - 1) / photons, 1) * 255 >= byte:
        count -= 1
    return count


@corruption(
    family="noise",
    parameters=(Parameter("amount", (0.03, 0.06, 0.09, 0.17, 0.27), "of all values", "replaced", high=1),),
    aliases=("impulse", "salt_and_pepper"),
    source=_SOURCE,
    random=True,
    version=2,
)
def impulse_noise(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Salt and pepper: values replaced by 0 or 255, as by dead cells and bit errors."""
    share = round(strength["amount"] / 2 * 2**32)
    low, high = share - 2**31, 2**31 - share  # words below and from which on a value is replaced
    if is_on_cpu(images):
        return _loop(_impulse, images, rng.words, low, high)
    words = rng.words(*images.shape[1:]).long()
    return images * (words >= low) | (words >= high).to(torch.uint8) * 255


@compiled
def _impulse(
    values: NDArray[np.uint8], words: NDArray[np.int32], low: int, high: int, out: NDArray[np.uint8]
) -> None:
    for i in range(values.size):
        kept = np.uint8(0) if words[i] < low else values[i]
        out[i] = np.uint8(255) if words[i] >= high else kept


@corruption(
    family="noise",
    parameters=(Parameter("sigma", (0.15, 0.2, 0.35, 0.45, 0.6), "of the value", "standard deviation"),),
    aliases=("speckle",),
    source=_SOURCE,
    random=True,
    version=2,
)
def speckle_noise(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Multiplicative noise, as of coherent light and radar: x + x N(0, sigma)."""
    if is_on_cpu(images):
        gains = normal_quantiles() * np.float32(strength["sigma"]) + np.float32(1)
        return _loop(_speckle, images, rng.half_words, gains)
    return to_uint8(rng.normal(*images.shape[1:]).mul_(strength["sigma"]).add_(1).mul_(images))


@compiled
def _speckle(
    values: NDArray[np.uint8], words: NDArray[np.int16], table: NDArray[np.float32], out: NDArray[np.uint8]
) -> None:
    for i in range(values.size):
        out[i] = _to_uint8(np.float32(values[i]) * table[np.uint16(words[i])])
