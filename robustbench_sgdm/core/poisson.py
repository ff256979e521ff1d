"""Poisson counts from random words, the same on every device: sums, products, divisions and roots alone."""

import math
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.core.numba_utils import compiled
from robustbench_sgdm.core.transfer import to_device

_LARGE = 16.0  # rate from which the quantile is an expansion
_LONGEST = 64  # steps of the search below it, where a count beyond has a chance of 1e-18
_HALVINGS = 10  # of the rate before its exponential, whose series then ends at rounding
_SERIES = np.array([1 / math.factorial(term) for term in range(8, -1, -1)])
_INVERSES = 1 / np.arange(1, _LONGEST)


@cache
def normal_quantiles() -> NDArray[np.float32]:
    """The middles of 65,536 equally likely parts of the standard normal law, scaled to a variance of 1."""
    from scipy.special import ndtri

    middles = ndtri((np.arange(2**16) + 0.5) / 2**16)
    return np.asarray(middles / middles.std(), np.float32)


def poisson_counts(rates: Tensor, words: Tensor) -> Tensor:
    """A Poisson count for each rate and random word.

    Below a rate of 16 the count is the quantile of the word, exact to 2^-32. Above, it is that of the normal quantile
    w of the word's upper half, by the expansion rate + s w + (2 + w^2) / 6 - (2 w + w^3) / (72 s) + (...) / rate with
    s the rate's root (Giles 2016, doi:10.1145/2699466), whose distribution function is within 2e-5 of Poisson's.

    Args:
        rates: of any shape; negative ones count as 0.
        words: int32, of the same shape.

    Returns:
        float32.
    """
    table = normal_quantiles()
    if rates.device.type != "cpu":
        return counts_by_tensors(rates, words, to_device(table, rates.device))
    out = np.empty(rates.shape, np.float32)
    flat = np.ascontiguousarray(rates.numpy(), np.float64).ravel()
    _fill(flat, np.ascontiguousarray(words.numpy()).view(np.uint32).ravel(), table, out.reshape(-1))
    return torch.from_numpy(out)


@compiled
def _fill(
    rates: NDArray[np.float64],
    words: NDArray[np.uint32],
    table: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    for i in range(rates.size):
        rate = max(rates[i], 0.0)
        if rate < _LARGE:
            share = (np.float64(words[i]) + 0.5) / 2.0**32
            part, total = rate * -(0.5**_HALVINGS), 0.0
            for term in _SERIES:
                total = total * part + term
            for _ in range(_HALVINGS):
                total = total * total
            count, mass, below = 0, total, total
            while share >= below and count < _LONGEST - 1:
                mass = mass * (rate * _INVERSES[count])
                below = below + mass
                count += 1
            out[i] = np.float32(count)
        else:
            w = np.float64(table[words[i] >> np.uint32(16)])
            square, root = w * w, np.sqrt(rate)
            value = rate + root * w + (square + 2.0) / 6.0
            value = value - (square + 2.0) * w / (root * 72.0)
            value = value + ((square * 3.0 + 7.0) * square - 16.0) / (rate * 810.0)
            out[i] = np.float32(max(np.floor(value), 0.0))


def counts_by_tensors(rates: Tensor, words: Tensor, table: Tensor) -> Tensor:
    """`poisson_counts` in tensor operations; both forms round at the same places."""
    rates = rates.double().clamp(min=0)
    small = rates.clamp(max=_LARGE)
    share = ((words.long() & 0xFFFFFFFF).double() + 0.5) / 2.0**32
    part, total = small * -(0.5**_HALVINGS), torch.zeros_like(small)
    for term in _SERIES.tolist():
        total = total * part + term
    for _ in range(_HALVINGS):
        total = total * total
    mass, below = total, total
    counts = (share >= below).float()
    for inverse in _INVERSES.tolist():
        mass = mass * (small * inverse)
        below = below + mass
        counts += share >= below
    w = table.index_select(0, (words >> 16 & 0xFFFF).flatten()).view(words.shape).double()
    square, root = w * w, rates.sqrt()
    value = rates + root * w + (square + 2.0) / 6.0
    value = value - (square + 2.0) * w / (root * 72.0)
    value = value + ((square * 3.0 + 7.0) * square - 16.0) / (rates * 810.0)
    return torch.where(rates < _LARGE, counts, value.floor().clamp(min=0).float())
