"""Blur by a rough pane of glass."""

from collections.abc import Mapping

import torch
from torch import Tensor

from robustbench_sgdm.corruption import BatchRng, Parameter, corruption
from robustbench_sgdm.corruption.filters import correlate_separable, gaussian_kernel, to_uint8


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
)
def glass_blur(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Blur, a local shuffle of the pixels, and the same blur again, as through frosted glass.

    In random order of direction each pixel takes the value of one at most delta px away. It is a copy, not
    the swap that the reference's authors meant: on RGB arrays their swap writes through a view. The
    benchmark's numbers contain that, so it is kept.
    """
    return _apply_moves(images, strength, _draw_moves(images, strength, rng))


def _draw_moves(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Where each pixel is fetched from, (B, iterations, H - 2 delta, W - 2 delta) in [0, 4 delta^2).

    A move of (down, right), both in [-delta, delta), is (right + delta) 2 delta + (down + delta).
    """
    delta, iterations = round(strength["delta"]), round(strength["iterations"])
    size = [max(0, side - 2 * delta) for side in images.shape[-2:]]
    return rng.integers(0, max(1, 4 * delta**2), iterations, *size)


def _apply_moves(images: Tensor, strength: Mapping[str, float], moves: Tensor) -> Tensor:
    kernel = gaussian_kernel(strength["sigma"])
    terms = [(kernel, kernel)]
    out = to_uint8(correlate_separable(images, terms, "replicate"))
    delta = round(strength["delta"])
    if delta and moves.numel():
        height, width = images.shape[2:]
        done = torch.empty_like(out)
        for image, passes, shuffled in zip(out.flatten(2), moves, done.flatten(2), strict=True):
            sources = _sources(passes, height, width, delta)
            for plane, target in zip(image, shuffled, strict=True):
                torch.index_select(plane, 0, sources, out=target)
        out = done
    return to_uint8(correlate_separable(out, terms, "replicate"))


def _sources(moves: Tensor, height: int, width: int, delta: int) -> Tensor:
    """Index of the pixel that each pixel's value comes from, int32 (H W,).

    A pass goes through the pixels from the last to the first, so a pixel that takes from one behind it
    takes what that one has itself taken. Those chains are followed by pointer doubling.
    """
    count = height * width
    step = torch.arange(-delta, delta, dtype=torch.int32, device=moves.device)
    offsets = (step[:, None] + step * width).flatten()
    identity = torch.arange(count, dtype=torch.int32, device=moves.device)
    total = identity
    for once in moves:
        source = identity.clone()
        inner = source.view(height, width)[delta + 1 : height - delta + 1, delta + 1 : width - delta + 1]
        inner += offsets.index_select(0, once.flatten()).view(once.shape)
        taken = torch.maximum(source, identity)  # one behind it, where a pixel takes from such a one
        while delta > 1 and not torch.equal(further := taken.index_select(0, taken), taken):
            taken = further
        source = source.index_select(0, taken) if delta > 1 else source
        total = source if total is identity else total.index_select(0, source)
    return total
