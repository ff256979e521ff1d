"""Randomness that depends on (seed, corruption, severity, image id) and on nothing else.

Batch size, neighbours, order, threads, resumption and the kind of device cannot change a draw: it is a function of the
image's seed, the number of the draw and the place in it (`philox`).
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.core.philox import host_words, random_words
from robustbench_sgdm.core.poisson import normal_quantiles, poisson_counts
from robustbench_sgdm.core.transfer import to_device


def derive_seed(seed: int, corruption: str, severity: float, image_id: int) -> int:
    """A 63-bit seed for one image of one cell.

    >>> derive_seed(0, "gaussian_noise", 3, 139) == derive_seed(0, "gaussian_noise", 3.0, 139)
    True
    """
    text = f"{seed}|{corruption}|{float(severity)!r}|{image_id}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


class BatchRng:
    """One independent random stream per image of a batch, the same on every device.

    Every draw returns a tensor whose first axis is the batch: `rng.normal(3, H, W)` is (B, 3, H, W). Each call is a
    draw of its own, so the same calls in the same order give the same numbers.

    Args:
        seeds: one integer of at most 64 bits per image, from `derive_seed`.
        device: where draws are made and land.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.seeds = tuple(seeds)
        self.device = torch.device(device)
        self._draws = 0

    def __len__(self) -> int:
        return len(self.seeds)

    def words(self, *shape: int) -> Tensor:
        """Random 32-bit words, int32 (B, *shape)."""
        words = random_words(self.seeds, self._next(), math.prod(shape), self.device)
        return words.reshape(len(self), *shape)

    def half_words(self, *shape: int) -> Tensor:
        """Random 16-bit words, int16 (B, *shape): two for the price of one."""
        count = math.prod(shape)
        words = self.words(-(-count // 2))
        if not words.numel():  # an empty tensor has strides that cannot be viewed
            return words.new_empty(len(self), *shape, dtype=torch.int16)
        return words.view(torch.int16)[:, :count].reshape(len(self), *shape)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal float32 draws, (B, *shape), in 65,536 equally likely steps within 4.4 deviations."""
        table = to_device(normal_quantiles(), self.device)
        places = self.half_words(*shape).int().bitwise_and_(0xFFFF)
        return table.index_select(0, places.flatten()).view(places.shape)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform float32 draws in [low, high), (B, *shape), in 2^24 steps."""
        steps = self.words(*shape).bitwise_right_shift_(8).bitwise_and_(2**24 - 1)
        return steps.float().mul_((high - low) / 2**24).add_(low)

    def host_uniform(self, count: int, low: float = 0.0, high: float = 1.0) -> NDArray[np.float64]:
        """Uniform draws (B, count) in [low, high) on the host, for what must not wait for a GPU."""
        shares = (host_words(self.seeds, self._next(), count) + 2.0**31) / 2**32
        return np.asarray(low + (high - low) * shares, np.float64)

    def host_normal(self, *shape: int) -> NDArray[np.float32]:
        """`normal` on the host."""
        count = math.prod(shape)
        halves = host_words(self.seeds, self._next(), -(-count // 2)).view(np.uint16)[:, :count]
        return normal_quantiles()[halves].reshape(len(self), *shape)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Uniform int64 draws in [low, high), (B, *shape), to 2^-32 of a value's share (2^-63 x the range's width).

        Raises:
            UsageError: the range is empty, or wider than 2^63.
        """
        width = high - low
        if not 0 < width <= 2**63:
            raise UsageError(f"integers in [{low}, {high}) cannot be drawn: give a range of 1 to 2^63 values")
        words = self.words(*shape).long() & 0xFFFFFFFF
        if width <= 2**31:
            return (words * width >> 32).add_(low)
        words = words << 31 ^ self.words(*shape).long() & 0x7FFFFFFF
        return (words if width == 2**63 else words % width).add_(low)

    def poisson(self, rates: Tensor) -> Tensor:
        """Poisson draws for rates (B, ...), same shape, float32; see `poisson_counts` for how exact they are."""
        return poisson_counts(rates, self.words(*rates.shape[1:]))

    def numpy(self) -> list[np.random.Generator]:
        """A NumPy generator per image, for libraries that want one; the same at every call."""
        return [np.random.Generator(np.random.PCG64(s)) for s in self.seeds]

    def _next(self) -> int:
        self._draws += 1
        return self._draws - 1
