"""Blur by a rough pane of glass."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.core.numba_utils import compiled
from robustbench_sgdm.core.transfer import to_device
from robustbench_sgdm.corruption import BatchRng, Parameter, corruption
from robustbench_sgdm.corruption.filters import correlate_separable, gaussian_kernel, is_on_cpu, to_uint8


@corruption(
    family="blur",
    parameters=(
        Parameter("sigma", (0.7, 0.9, 1, 1.1, 1.5), "px", "of the blur before and after"),
        Parameter("delta", (1, 2, 2, 3, 4), "px", "farthest that a pixel is fetched from, rounded", high=100),
        Parameter("iterations", (2, 1, 3, 2, 2), "times", "pixels are moved, rounded", high=100),
    ),
    aliases=("glass",),
    source="Hendrycks & Dietterich 2019 (arXiv:1903.12261), with COCO-C's constants (Michaelis et al. 2019)",
    random=True,
    version=2,
)
def glass_blur(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Blur, a local shuffle of the pixels, and the same blur again, as through frosted glass.

    In random order of direction each pixel takes the value of one at most delta px away. It is a copy, not
    the swap that the reference's authors meant: on RGB arrays their swap writes through a view. The
    benchmark's numbers contain that, so it is kept.
    """
    return apply_moves(images, strength, _draw_moves(images, strength, rng))


def _draw_moves(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Where each pixel is fetched from, (B, iterations, H - 2 delta, W - 2 delta) in [0, 4 delta^2).

    A move of (down, right), both in [-delta, delta), is (right + delta) 2 delta + (down + delta).
    """
    delta, iterations = round(strength["delta"]), round(strength["iterations"])
    size = [max(0, side - 2 * delta) for side in images.shape[-2:]]
    return rng.integers(0, max(1, 4 * delta**2), iterations, *size)


def apply_moves(images: Tensor, strength: Mapping[str, float], moves: Tensor) -> Tensor:
    """`glass_blur` by the given moves; see `_draw_moves`."""
    kernel = gaussian_kernel(strength["sigma"])
    terms = [(kernel, kernel)]
    out = to_uint8(correlate_separable(images, terms, "replicate"))
    delta = round(strength["delta"])
    if delta and moves.numel():
        for image, passes in zip(out, moves, strict=True):
            if is_on_cpu(out):
                _shuffle(image.numpy(), passes.numpy(), _offsets(delta, image.shape[2]), delta)
            else:
                sources = _sources(passes, image.shape[1], image.shape[2], delta)
                image.copy_(image.flatten(1).index_select(1, sources).view(image.shape))
    return to_uint8(correlate_separable(out, terms, "replicate"))


@compiled
def _shuffle(
    image: NDArray[np.uint8], moves: NDArray[np.int64], offsets: NDArray[np.int32], delta: int
) -> None:
    """Move the pixels of (C, H, W) in place, from the last to the first; `offsets` says where each move fetches."""
    channels, height, width = image.shape
    flat = image.reshape(channels, height * width)
    for once in moves:
        for y in range(height - delta, delta, -1):
            for x in range(width - delta, delta, -1):
                target = y * width + x
                source = np.uintp(target + offsets[np.uintp(once[y - delta - 1, x - delta - 1])])
                for c in range(channels):
                    flat[c, np.uintp(target)] = flat[c, source]


def _offsets(delta: int, width: int) -> NDArray[np.int32]:
    """How far each of the moves fetches from, in a plane whose rows follow each other."""
    step = np.arange(-delta, delta, dtype=np.int32)
    return (step[:, None] + step * np.int32(width)).ravel()


def _sources(moves: Tensor, height: int, width: int, delta: int) -> Tensor:
    """Index of the pixel that each pixel's value comes from, int32 (H W,): `_shuffle` in tensor operations.

    A pixel that takes from one behind it takes what that one has itself taken. Those chains are followed by pointer
    doubling, as often as the longest possible one needs: to look whether all have ended would make a GPU wait.
    """
    count = height * width
    offsets = to_device(_offsets(delta, width), moves.device)
    identity = torch.arange(count, dtype=torch.int32, device=moves.device)
    total = identity
    for once in moves:
        source = identity.clone()
        inner = source.view(height, width)[delta + 1 : height - delta + 1, delta + 1 : width - delta + 1]
        inner += offsets.index_select(0, once.flatten()).view(once.shape)
        taken = torch.maximum(source, identity)  # one behind it, where a pixel takes from such a one
        for _ in range(count.bit_length() if delta > 1 else 0):
            taken = taken.index_select(0, taken)
        total = total.index_select(0, source.index_select(0, taken))
    return total
