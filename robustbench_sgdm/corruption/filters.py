"""Filters that the corruptions share; pixels depend neither on the batch nor on the number of threads.

Fourier and convolution routines of torch choose their order of summation by batch and thread count, and
one rounding more or less moves a truncated pixel by a grey level. So images are filtered one at a time
and tap by tap, or in double precision.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.core.numba_utils import compiled
from robustbench_sgdm.core.transfer import to_device

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

TO_BYTE = np.float32(_SLACK - 0.5)
"""What a grey level in float32 is moved by before it is rounded to the nearest whole number, half to even."""

_COMPILED = True  # tests turn it off and so compare both forms of everything on the CPU


def is_on_cpu(images: Tensor) -> bool:
    """Whether OpenCV and compiled loops can reach the values; else tensor operations do the same."""
    return _COMPILED and images.device.type == "cpu"


def to_uint8(levels: Tensor) -> Tensor:
    """Clip grey levels to [0, 255] and truncate them to uint8, as COCO-C does; `levels` is overwritten."""
    if levels.dtype == torch.float64:
        return levels.add_(_SLACK_DOUBLE).clamp_(0, 255).to(torch.uint8)
    levels.clamp_(min=0)  # convertScaleAbs takes the absolute value
    if not is_on_cpu(levels) or not levels.is_contiguous():
        return levels.add_(float(TO_BYTE)).round_().clamp_(0, 255).to(torch.uint8)
    rows = levels.view(-1, levels.shape[-1])
    # The same in one pass: OpenCV rounds to the nearest and stops at 255.
    return torch.from_numpy(cv2.convertScaleAbs(rows.numpy(), alpha=1, beta=float(TO_BYTE))).view(
        levels.shape
    )


def transpose(planes: Tensor) -> Tensor:
    """Transpose (..., H, W) in memory; OpenCV does it four times as fast as torch."""
    if not is_on_cpu(planes):
        return planes.transpose(-1, -2).contiguous()
    out = torch.empty(*planes.shape[:-2], planes.shape[-1], planes.shape[-2], dtype=planes.dtype)
    stacks = (stack.reshape(-1, *stack.shape[-2:]).numpy() for stack in (planes, out))
    for plane, target in zip(*stacks, strict=True):
        cv2.transpose(plane, dst=target)
    return out


def apply_lut(images: Tensor, tables: Tensor) -> Tensor:
    """Replace each byte by what its channel's table says.

    Args:
        images: uint8 (B, C, H, W).
        tables: uint8 (B, C, 256).

    Returns:
        uint8 (B, C, H, W).
    """
    if not is_on_cpu(images):
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
    if is_on_cpu(images):
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
        to_device(_pad_indices(size, len(weights) // 2, border), images.device)
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
    out = torch.empty(image.shape, device=image.device)
    if is_on_cpu(image):
        _remap_loop(image.numpy(), down.numpy(), right.numpy(), out.numpy())
        return out
    (top, under), (left, beside) = (
        [_mirrored(place, size) for place in (whole, whole + 1)]
        for whole, size in (
            (down.floor().long() + torch.arange(height, device=image.device)[:, None], height),
            (right.floor().long() + torch.arange(width, device=image.device), width),
        )
    )
    part_down, part_right = down - down.floor(), right - right.floor()
    flat = image.flatten(1)
    corners = [
        flat.index_select(1, (row * width + column).flatten()).float().view(image.shape)
        for row in (top, under)
        for column in (left, beside)
    ]
    upper = (corners[1] - corners[0]).mul_(part_right).add_(corners[0])
    lower = (corners[3] - corners[2]).mul_(part_right).add_(corners[2])
    return (lower - upper).mul_(part_down).add_(upper)


def _mirrored(places: Tensor, size: int) -> Tensor:
    """The pixels of a side that lie at these places of the side and its mirror images."""
    places = places % (2 * size)
    return torch.minimum(places, 2 * size - 1 - places)


@compiled
def _remap_loop(
    image: NDArray[Any], down: NDArray[np.float32], right: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    channels, height, width = image.shape
    flat = image.reshape(channels, height * width)
    for y in range(height):
        for x in range(width):
            whole_down, whole_right = np.floor(down[y, x]), np.floor(right[y, x])
            part_down, part_right = down[y, x] - whole_down, right[y, x] - whole_right
            top, left = y + np.int64(whole_down), x + np.int64(whole_right)
            under, beside = top + 1, left + 1
            if top < 0 or under >= height or left < 0 or beside >= width:
                top, under = top % (2 * height), under % (2 * height)
                left, beside = left % (2 * width), beside % (2 * width)
                top, under = min(top, 2 * height - 1 - top), min(under, 2 * height - 1 - under)
                left, beside = min(left, 2 * width - 1 - left), min(beside, 2 * width - 1 - beside)
            # Without a sign an index is not looked at for whether it counts from the end.
            a, b = np.uintp(top * width + left), np.uintp(top * width + beside)
            c, d = np.uintp(under * width + left), np.uintp(under * width + beside)
            for channel in range(channels):
                plane = flat[channel]
                upper = (np.float32(plane[b]) - np.float32(plane[a])) * part_right + np.float32(plane[a])
                lower = (np.float32(plane[d]) - np.float32(plane[c])) * part_right + np.float32(plane[c])
                out[channel, y, x] = (lower - upper) * part_down + upper


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
        to_device(_dct_vectors(size, int(2 * cutoff * size) + 1), images.device) for size in images.shape[-2:]
    )
    return torch.stack([(rows.T @ ((rows @ image @ cols.T) @ cols)).float() for image in images.double()])


@lru_cache(maxsize=32)
def _dct_vectors(size: int, kept: int) -> NDArray[np.float64]:
    """The first `kept` orthonormal DCT-II vectors (min(kept, size), size)."""
    k = np.arange(min(kept, size))[:, None]
    waves = np.cos(np.pi * k * (np.arange(size) + 0.5) / size) * math.sqrt(2 / size)
    waves[0] /= math.sqrt(2)
    return np.asarray(waves, np.float64)
