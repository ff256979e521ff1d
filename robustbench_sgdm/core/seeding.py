"""Randomness that depends on (seed, corruption, severity, image id) and on nothing else.

Batch size, neighbours, order, threads and resumption cannot change a pixel, because every image of a
batch draws from a generator of its own. Streams differ between kinds of device (a CUDA generator is
not a CPU one), never within one kind.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def derive_seed(seed: int, corruption: str, severity: float, image_id: int) -> int:
    """A 63-bit seed for one image of one cell.

    >>> derive_seed(0, "gaussian_noise", 3, 139) == derive_seed(0, "gaussian_noise", 3.0, 139)
    True
    """
    text = f"{seed}|{corruption}|{float(severity)!r}|{image_id}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


class BatchRng:
    """One independent random stream per image of a batch.

    Every draw returns a tensor whose first axis is the batch: `rng.normal(3, H, W)` is (B, 3, H, W).

    Args:
        seeds: one integer per image, from `derive_seed`.
        device: where draws are made and land.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.seeds = tuple(seeds)
        self.device = torch.device(device)
        self._streams = [torch.Generator(self.device).manual_seed(s) for s in self.seeds]

    def __len__(self) -> int:
        return len(self.seeds)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal float32 draws, (B, *shape)."""
        out = torch.empty(len(self), *shape, device=self.device)
        for row, stream in zip(out, self._streams, strict=True):
            row.normal_(generator=stream)
        return out

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform float32 draws in [low, high), (B, *shape)."""
        out = torch.empty(len(self), *shape, device=self.device)
        for row, stream in zip(out, self._streams, strict=True):
            row.uniform_(low, high, generator=stream)
        return out

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Uniform int64 draws in [low, high), (B, *shape)."""
        out = torch.empty(len(self), *shape, dtype=torch.int64, device=self.device)
        for row, stream in zip(out, self._streams, strict=True):
            row.random_(low, high, generator=stream)
        return out

    def poisson(self, rates: Tensor) -> Tensor:
        """Poisson draws for non-negative rates (B, ...), same shape, float32."""
        return torch.stack([torch.poisson(r, generator=s) for r, s in zip(rates, self._streams, strict=True)])

    def numpy(self) -> list[np.random.Generator]:
        """A NumPy generator per image, for libraries that want one."""
        return [np.random.Generator(np.random.PCG64(s)) for s in self.seeds]
