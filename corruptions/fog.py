"""Fog, as clouds of every size."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from robustbench_sgdm.corruption import BatchRng, Parameter, corruption
from robustbench_sgdm.corruption.filters import to_uint8, upscale

# Midpoints of a map this wide lie 11 halvings deep and are moved by under 0.2 grey levels.
_WIDEST_MAP = 2048


@corruption(
    family="weather",
    parameters=(
        Parameter("amount", (1.5, 2, 2.5, 2.5, 3), "of full scale", "thickness where the fog is thickest"),
        Parameter(
            "decay", (2, 2, 1.7, 1.5, 1.4), "x", "per halving of the cloud's size", identity_value=2, low=1.01
        ),
    ),
    source="Hendrycks & Dietterich 2019 (arXiv:1903.12261), with COCO-C's constants (Michaelis et al. 2019)",
    random=True,
    version=2,
)
def fog(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Fog as a plasma fractal in [0, 1]: (x + amount plasma) m / (m + amount), m the image's maximum."""
    return apply_fog(images, strength, rng.uniform(map_side(images) ** 2 - 1, low=-1, high=1))


def map_side(images: Tensor) -> int:
    """The power of 2 that the plasma's map is wide: at least the image's longer side and 3, its channels."""
    return min(1 << (max(images.shape[1:]) - 1).bit_length(), _WIDEST_MAP)


def apply_fog(images: Tensor, strength: Mapping[str, float], draws: Tensor) -> Tensor:
    """`fog` of the given draws in [-1, 1), (B, map_side^2 - 1)."""
    amount = strength["amount"]
    done = []
    for image, drawn in zip(images, draws, strict=True):
        cloud = cut_plasma(drawn, strength["decay"], *image.shape[1:])
        most = image.amax().double() / 255
        thin = (most / (most + amount).clamp(min=1e-9)).float()
        done.append(to_uint8(image.float().mul_(thin).add_(cloud.mul_(255 * amount * thin))))
    return torch.stack(done)


def cut_plasma(draws: Tensor, decay: float, height: int, width: int) -> Tensor:
    """The map's first pixels (height, width), enlarged where the image is wider than the widest map."""
    side = math.isqrt(len(draws) + 1)
    times = -(-max(height, width) // side)
    if times == 1:
        return _plasma(draws, decay, height, width)
    cloud = _plasma(draws, decay, side, side)
    rows, cols = (torch.arange(-(-size // times) + 1, device=draws.device) % side for size in (height, width))
    part = cloud.index_select(0, rows).index_select(1, cols)
    return upscale(part[None], ((len(rows) - 1) * times + 1, (len(cols) - 1) * times + 1))[0, :height, :width]


def _plasma(draws: Tensor, decay: float, height: int, width: int) -> Tensor:
    """The first (height, width) of a map (n, n) in [0, 1], by midpoint displacement (diamond-square).

    The map repeats at its edges: `grid` has one row and column more, its first ones again.

    Args:
        draws: uniform in [-1, 1), (n^2 - 1,), in the reference's order: of each halving the middles of the
            squares, then of their upper, then of their left edges.
        decay: the square root of what the displacement is divided by at each halving.
    """
    grid = draws.new_zeros(2, 2)
    used, size, reach = 0, 1, 1e4
    while True:
        middles, upper, left = _midpoints(grid, draws[used : used + 3 * size**2].view(3, size, size), reach)
        used += 3 * size**2
        parts = (grid[:-1, :-1], upper, left, middles)
        if used == len(draws):
            break
        grid = draws.new_empty(2 * size + 1, 2 * size + 1)
        _interleave(parts, grid[:-1, :-1])
        grid[-1], grid[:, -1] = grid[0], grid[:, 0]
        size, reach = 2 * size, reach / decay**2
    low = torch.stack([part.amin() for part in parts]).amin()
    high = torch.stack([part.amax() for part in parts]).amax()
    cloud = draws.new_empty(height, width)
    _interleave(parts, cloud)
    return cloud.sub_(low).div_(high - low)


def _midpoints(grid: Tensor, offsets: Tensor, reach: float) -> tuple[Tensor, Tensor, Tensor]:
    """Displaced means of the four corners of each square, and of the four neighbours of its two edges."""
    edges = grid[:-1] + grid[1:]
    middles = (edges[:, :-1] + edges[:, 1:]).mul_(0.25).add_(offsets[0], alpha=reach)
    upper = (grid[:-1, :-1] + grid[:-1, 1:]).add_(middles)
    upper[1:] += middles[:-1]
    upper[0] += middles[-1]
    left = edges[:, :-1].add_(middles)
    left[:, 1:] += middles[:, :-1]
    left[:, 0] += middles[:, -1]
    upper.mul_(0.25).add_(offsets[1], alpha=reach)
    left.mul_(0.25).add_(offsets[2], alpha=reach)
    return middles, upper, left


def _interleave(parts: Sequence[Tensor], out: Tensor) -> None:
    """Fill `out` with every second pixel from one of four parts: upper left, right, lower left, right."""
    for place, part in enumerate(parts):
        target = out[place // 2 :: 2, place % 2 :: 2]
        target.copy_(part[: target.shape[0], : target.shape[1]])
