"""Filters that the corruptions share; pixels depend neither on the batch nor on the number of threads.

Fourier and convolution routines of torch choose their order of summation by batch and thread count, and
one rounding more or less moves a truncated pixel by a grey level. So images are filtered one at a time
and tap by tap, or in double precision.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.core.seeding import BatchRng

Border = Literal["replicate", "reflect", "symmetric"]
Kernel1d = NDArray[np.float32]
Terms = Sequence[tuple[Kernel1d, Kernel1d]]
Tap = tuple[int, int, float]

_CV_BORDER = {
    "replicate": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT_101,
    "symmetric": cv2.BORDER_REFLECT,
}

# Above the rounding of a sum of weights (1e-4 grey levels in float32), far below one level: an exact 255 that
# was summed to 254.9999 must not be truncated to 254.
_SLACK = 1e-3
_SLACK_DOUBLE = 1e-9


def to_uint8(levels: Tensor) -> Tensor:
    """Clip grey levels to [0, 255] and truncate them to uint8, as COCO-C does; `levels` is overwritten."""
    if levels.device.type != "cpu" or levels.dtype != torch.float32 or not levels.is_contiguous():
        slack = _SLACK_DOUBLE if levels.dtype == torch.float64 else _SLACK
        return levels.add_(slack).clamp_(0, 255).to(torch.uint8)
    # The same in one pass: convertScaleAbs rounds to the nearest and saturates at 255, so truncation is rounding of
    # half a level less. It takes the absolute value first, hence the clamp at 0.
    rows = levels.clamp_(min=0).view(-1, levels.shape[-1])
    return torch.from_numpy(cv2.convertScaleAbs(rows.numpy(), alpha=1, beta=_SLACK - 0.5)).view(levels.shape)


def transpose(planes: Tensor) -> Tensor:
    """Transpose (..., H, W) in memory; OpenCV does it four times as fast as torch."""
    if planes.device.type != "cpu":
        return planes.transpose(-1, -2).contiguous()
    out = torch.empty(*planes.shape[:-2], planes.shape[-1], planes.shape[-2], dtype=planes.dtype)
    stacks = (stack.reshape(-1, *stack.shape[-2:]).numpy() for stack in (planes, out))
    for plane, target in zip(*stacks, strict=True):
        cv2.transpose(plane, dst=target)
    return out


def uniform_draws(rng: BatchRng, *shape: int) -> Tensor:
    """Uniform draws in [-1, 1) in steps of 2^-15, float32 (B, *shape): four for the price of one."""
    count = math.prod(shape)
    # A draw of 64 bits costs as much as one of 16, so each is read as four int16. Their range is [-2^15, 2^15), and
    # dividing by a power of two is exact: the same floats on every device.
    words = rng.integers(-(2**63), 2**63 - 1, -(-count // 4))
    return words.view(torch.int16)[:, :count].float().div_(2**15).view(len(rng), *shape)


def apply_lut(images: Tensor, tables: Tensor) -> Tensor:
    """Replace each byte by what its channel's table says.

    Args:
        images: uint8 (B, C, H, W).
        tables: uint8 (B, C, 256).

    Returns:
        uint8 (B, C, H, W).
    """
    if images.device.type != "cpu":
        return tables.gather(2, images.flatten(2).long()).view(images.shape)
    out = np.empty(images.shape, np.uint8)
    for image, table, target in zip(images.numpy(), tables.numpy(), out, strict=True):
        for channel, plane in enumerate(image):
            cv2.LUT(plane, table[channel], dst=target[channel])
    return torch.from_numpy(out)


@lru_cache(maxsize=64)
def gaussian_kernel(sigma: float, truncate: float = 4.0) -> Kernel1d:
    """Gaussian weights that sum to 1, `sigma` px wide and cut off at `truncate` sigma."""
    radius = int(truncate * sigma + 0.5)
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * max(sigma, 1e-9) ** 2))
    return np.asarray(weights / weights.sum(), np.float32)


def correlate_separable(images: Tensor, terms: Terms, border: Border) -> Tensor:
    """Correlate with a sum of separable kernels.

    Args:
        images: uint8 or float32 (B, C, H, W).
        terms: (vertical, horizontal) weights of each summand, of odd lengths that the summands share.
        border: what lies beyond the edge: its pixel, or the mirror image without it or with it.

    Returns:
        float32 (B, C, H, W) in the images' units.
    """
    if images.device.type == "cpu":
        return _correlate_separable_cv2(images, terms, border)
    return correlate_separable_torch(images, terms, border)


def _correlate_separable_cv2(images: Tensor, terms: Terms, border: Border) -> Tensor:
    planes, edge = images.flatten(0, 1).numpy(), _CV_BORDER[border]
    out = np.empty(planes.shape, np.float32)
    part = np.empty(planes.shape[1:], np.float32)  # allocated once: fresh memory costs as much as a filter
    (column, row), *others = terms
    for plane, total in zip(planes, out, strict=True):
        cv2.sepFilter2D(plane, cv2.CV_32F, row, column, dst=total, borderType=edge)
        for further, beside in others:
            cv2.sepFilter2D(plane, cv2.CV_32F, beside, further, dst=part, borderType=edge)
            cv2.add(total, part, dst=total)
    return torch.from_numpy(out).view(images.shape)


def correlate_separable_torch(images: Tensor, terms: Terms, border: Border) -> Tensor:
    """`correlate_separable` in torch alone, for devices that OpenCV cannot reach."""
    rows, cols = (
        _pad_indices(size, len(weights) // 2, border).to(images.device)
        for size, weights in zip(images.shape[-2:], terms[0], strict=True)
    )
    padded = images.float()[..., rows, :]
    total = torch.zeros_like(images, dtype=torch.float32)
    for column, row in terms:
        total += _correlate_axis(_correlate_axis(padded, column, -2)[..., cols], row, -1)
    return total


def _pad_indices(size: int, radius: int, border: Border) -> Tensor:
    """The indices of `size` pixels with `radius` more on either side, for any size."""
    index = torch.arange(-radius, size + radius)
    # By remainders, since F.pad reflects no border wider than the image, and small images under wide kernels have one.
    if border == "reflect" and size > 1:
        index = index.abs() % (2 * size - 2)
        return (size - 1) - (size - 1 - index).abs()
    if border == "symmetric":
        index = index % (2 * size)
        return torch.minimum(index, 2 * size - 1 - index)
    return index.clamp(0, size - 1)


def _correlate_axis(padded: Tensor, weights: Kernel1d, axis: int) -> Tensor:
    size = padded.shape[axis] - len(weights) + 1
    # Tap by tap, in the order of the weights: the sum is then rounded alike for every batch and thread count.
    total = torch.zeros_like(padded.narrow(axis, 0, size))
    for start, weight in enumerate(weights.tolist()):
        total.add_(padded.narrow(axis, start, size), alpha=weight)
    return total


def sum_shifted(image: Tensor, taps: Sequence[Tap]) -> Tensor:
    """Sum of weight * image moved by (dy, dx) whole pixels, edge pixels repeated.

    Args:
        image: (C, H, W).
        taps: (dy, dx, weight): down and right are positive.

    Returns:
        float32 (C, H, W) in the image's units.
    """
    height, width = image.shape[-2:]
    top, bottom = max(0, *(dy for dy, _, _ in taps)), max(0, *(-dy for dy, _, _ in taps))
    left, right = max(0, *(dx for _, dx, _ in taps)), max(0, *(-dx for _, dx, _ in taps))
    padded = F.pad(image.float()[None], (left, right, top, bottom), mode="replicate")[0]
    total = torch.zeros_like(image, dtype=torch.float32)
    for dy, dx, weight in taps:
        total.add_(padded[:, top - dy :, left - dx :][:, :height, :width], alpha=weight)
    return total


def motion_path(radius: float, sigma: float, angle: float) -> list[Tap]:
    """One-sided Gaussian weights on the whole pixels of a straight path of 2 radius + 1 steps.

    The reference drops the part of a path that is longer than the image and so darkens images under
    41 px; here the weights sum to 1 always.

    Args:
        radius: half the length of the path in px.
        sigma: decay along it in px.
        angle: of the path in degrees from the horizontal.
    """
    steps = np.arange(2 * round(radius) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    turn = math.radians(angle)
    down, right = (-np.ceil(steps * part - 0.5).astype(int) for part in (math.sin(turn), math.cos(turn)))
    return list(zip(down.tolist(), right.tolist(), (weights / weights.sum()).tolist(), strict=True))


def zoom_sizes(size: int, factor: float) -> tuple[int, int]:
    """Pixels of the part of a side to enlarge by `factor`, and of that part when enlarged.

    By the reference's rounding it may then be a pixel longer than the side.
    """
    part = math.ceil(size / factor)
    return part, round(part * factor)


def upscale(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear enlargement of float32 (C, h, w) to (C, *size), the corner pixels kept in the corners."""
    # A batch of single planes: with three channels torch picks its kernel, and so its rounding, by threads.
    return F.interpolate(planes[:, None], size, mode="bilinear", align_corners=True)[:, 0]


def remap(image: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Read each pixel from a place beside it, bilinearly; the image is mirrored at its edges.

    OpenCV's `remap` rounds places to 1/32 px, which is several grey levels at an edge.

    Args:
        image: (C, H, W).
        down: float32 (H, W) or (H, 1), how far down to read, in px.
        right: float32 (H, W) or (1, W), how far right.

    Returns:
        float32 (C, H, W) in the image's units.
    """
    height, width = image.shape[-2:]
    down, right = down.expand(height, width), right.expand(height, width)
    reach = 2 + int(max(by.abs().max() for by in (down, right)))
    rows, cols = (_pad_indices(size, reach, "symmetric").to(image.device) for size in (height, width))
    padded = image.index_select(1, rows).index_select(2, cols)
    out = torch.empty(image.shape, device=image.device)
    # On the CPU a band of rows at a time, whose intermediate results stay in the cache.
    band = 32 if image.device.type == "cpu" else height
    for start in range(0, height, band):
        part = slice(start, start + band)
        _remap_rows(padded[:, start:], down[part], right[part], reach, out[:, part])
    return out


def _remap_rows(padded: Tensor, down: Tensor, right: Tensor, reach: int, out: Tensor) -> None:
    """Fill `out` (C, h, w) with what lies (down, right) of each pixel; `padded` has `reach` more around it."""
    height, width = down.shape
    across = padded.shape[2]
    top, left = down.floor(), right.floor()
    part_down, part_right = down - top, right - left
    rows, cols = (
        torch.arange(reach, reach + size, dtype=torch.int32, device=out.device) for size in (height, width)
    )
    # Flat index of the upper left of four neighbours; the others are 1, `across` and `across + 1` further on.
    # `grid_sample` takes places in [-1, 1], which would round them.
    places = top.int().add_(rows[:, None]).mul_(across).add_(left.int().add_(cols)).flatten()
    for plane, target in zip(padded.flatten(1), out, strict=True):
        corners = [
            plane[start:].index_select(0, places).float().view(height, width)
            for start in (0, 1, across, across + 1)
        ]
        above, under = corners[0].lerp_(corners[1], part_right), corners[2].lerp_(corners[3], part_right)
        torch.lerp(above, under, part_down, out=target)


def low_pass(images: Tensor, cutoff: float) -> Tensor:
    """Ideal low-pass filter: frequencies above `cutoff` cycles/pixel along either axis are removed.

    The discrete cosine transform is the Fourier transform of the image mirrored at its edges, so that
    nothing wraps around. Its coefficient k has the frequency k / (2 size).

    Args:
        images: uint8 (B, C, H, W).
        cutoff: 0 to 0.5, where nothing is removed.

    Returns:
        float32 (B, C, H, W) in grey levels.
    """
    # As products with a truncated DCT basis in double precision: an FFT chooses its order of summation by size and
    # threads, and only the low frequencies are wanted.
    rows, cols = (
        _dct_vectors(size, int(2 * cutoff * size) + 1).to(images.device) for size in images.shape[-2:]
    )
    return torch.stack([(rows.T @ ((rows @ image @ cols.T) @ cols)).float() for image in images.double()])


@lru_cache(maxsize=32)
def _dct_vectors(size: int, kept: int) -> Tensor:
    """The first `kept` orthonormal DCT-II vectors (min(kept, size), size), float64."""
    k = torch.arange(min(kept, size), dtype=torch.float64)[:, None]
    waves = torch.cos(torch.pi * k * (torch.arange(size) + 0.5) / size) * math.sqrt(2 / size)
    waves[0] /= math.sqrt(2)
    return waves
