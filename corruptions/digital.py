"""Artefacts of storing and processing an image."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.core.transfer import to_device
from robustbench_sgdm.corruption import BatchRng, Parameter, corruption
from robustbench_sgdm.corruption.filters import (
    apply_lut,
    correlate_separable,
    gaussian_kernel,
    is_on_cpu,
    remap,
    to_uint8,
    transpose,
)

Runs = Sequence[tuple[int, NDArray[np.intp], NDArray[np.intp]]]

_SOURCE = "Hendrycks & Dietterich 2019 (arXiv:1903.12261), with COCO-C's constants (Michaelis et al. 2019)"


@corruption(
    family="digital",
    parameters=(
        Parameter("gain", (0.4, 0.3, 0.2, 0.1, 0.05), "x", "of the distance from the mean", identity_value=1),
    ),
    source=_SOURCE,
)
def contrast(images: Tensor, strength: Mapping[str, float], _rng: BatchRng) -> Tensor:
    """Low contrast: (x - m) gain + m, m the mean of each channel."""
    gain = strength["gain"]
    means = _sums(images) / images[0, 0].numel()
    levels = torch.arange(256, dtype=torch.float64, device=images.device) * gain
    return apply_lut(images, to_uint8(levels + (means * (1 - gain))[..., None]))


def _sums(images: Tensor) -> Tensor:
    """Sum of each channel, float64 (B, C), exact."""
    if not is_on_cpu(images):
        return images.flatten(2).sum(2, dtype=torch.int64).double()
    sums = [cv2.sumElems(plane) for plane in images.flatten(0, 1).numpy()]
    return torch.from_numpy(np.asarray(sums, np.float64)[:, 0]).view(-1, 3)


@corruption(
    family="digital",
    parameters=(
        Parameter("gain", (0.3, 0.1, 2, 5, 20), "x", "of the saturation", identity_value=1),
        Parameter("shift", (0, 0, 0, 0.1, 0.2), "of full scale", "added to the saturation", high=1),
    ),
    source=_SOURCE,
)
def saturate(images: Tensor, strength: Mapping[str, float], _rng: BatchRng) -> Tensor:
    """HSV saturation changed, s' = min(gain s + shift, 1), hue and value kept.

    Each channel's distance below the brightest one is multiplied by s' / s. Grey has no hue; as in the
    reference it counts as red.
    """
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue).float()[:, None]
    span = value - torch.minimum(torch.minimum(red, green), blue)[:, None]
    grey = span == 0
    wanted = (span * strength["gain"]).add_(value, alpha=strength["shift"]).minimum(value)  # s' v
    levels = images.float().neg_().add_(value).mul_(wanted / span.clamp_(min=1)).neg_().add_(value)
    if strength["shift"]:
        levels[:, 1:] -= wanted * grey
    return to_uint8(levels)


@corruption(
    family="digital",
    parameters=(
        Parameter(
            "size", (0.6, 0.5, 0.4, 0.3, 0.25), "of the size", "kept", identity_value=1, low=1e-3, high=1
        ),
    ),
    source=_SOURCE,
)
def pixelate(images: Tensor, strength: Mapping[str, float], _rng: BatchRng) -> Tensor:
    """Large pixels: means over boxes, each shown as a block.

    Rows are averaged and rounded to bytes first, columns after them, as Pillow does.
    """
    size = [max(1, int(side * strength["size"])) for side in images.shape[2:]]
    return (pixelated_bytes if is_on_cpu(images) else pixelated)(images, *size)


def pixelated_bytes(images: Tensor, high: int, wide: int) -> Tensor:
    """In sums of bytes, Pillow's values exactly; whole rows are worked on, turned for the columns."""
    height, width = images.shape[2:]
    rows, columns = _nearest(high, height), _nearest(wide, width)
    out = np.empty(images.shape, np.uint8)
    for image, done in zip(images.numpy(), out, strict=True):
        narrow = cv2.transpose(_box_means(cv2.transpose(image.reshape(-1, width)), _runs(width, wide)))
        for plane, target in zip(np.split(np.asarray(narrow, np.uint8), len(image)), done, strict=True):
            small = cv2.transpose(_box_means(plane, _runs(height, high)))
            np.take(cv2.transpose(small.take(columns, 0)), rows, 0, out=target, mode="clip")
    return torch.from_numpy(out)


def _box_means(rows: NDArray[np.uint8], runs: Runs) -> NDArray[np.uint8]:
    """Rounded means of runs of rows: uint8 (H, W) to (boxes, W)."""
    out = np.empty((sum(len(boxes) for _, boxes, _ in runs), rows.shape[1]), np.uint8)
    for length, boxes, first in runs:
        total = rows.take(first, 0).astype(np.float32)
        for further in range(1, length):
            cv2.accumulate(rows.take(first + further, 0), total)
        # A mean midway goes up, or down where Pillow's weight, a whole number over 2^22, is too small.
        exact = 2**22 / length
        midway = math.copysign(0.25 / length, int(exact + 0.5) - exact)
        out[boxes] = cv2.convertScaleAbs(total, alpha=1 / length, beta=midway)
    return out


@lru_cache(maxsize=32)
def _runs(side: int, size: int) -> Runs:
    """A side cut into `size` boxes: for each length of a box, which have it, and the first pixel of each."""
    places, inside = _cut(side, size)
    lengths, first = inside.sum(1), places[np.arange(size), inside.argmax(1)]
    found = ((int(n), np.flatnonzero(lengths == n)) for n in np.unique(lengths))
    return [(n, boxes, first[boxes]) for n, boxes in found]


def pixelated(images: Tensor, high: int, wide: int) -> Tensor:
    """The same in torch alone, for devices that Pillow cannot reach."""
    height, width = images.shape[2:]
    down, across = _boxes(height, high, images.device), _boxes(width, wide, images.device)
    rows, columns = (to_device(_nearest(*side), images.device) for side in ((high, height), (wide, width)))
    small = transpose(_means(transpose(_means(transpose(images.flatten(0, 1)), across)), down))
    return transpose(small.index_select(1, columns)).index_select(1, rows).view(images.shape)


def _boxes(side: int, size: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """A side cut into `size` boxes: the first pixel of each with its weight, then the second, and so on."""
    places, inside = _cut(side, size)
    weights = (inside / inside.sum(1, keepdims=True)).astype(np.float32)
    return [
        (to_device(place, device), to_device(weight[:, None], device))
        for place, weight in zip(np.ascontiguousarray(places.clip(max=side - 1).T), weights.T, strict=True)
    ]


def _cut(side: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Pixels around each of `size` boxes of a side, (size, n), and whether they lie in it."""
    scale = side / size
    middle = (np.arange(size) + 0.5) * scale
    first = (middle - scale / 2 + 0.5).astype(np.int64)
    end = (middle + scale / 2 + 0.5).astype(np.int64).clip(max=side)
    places = first[:, None] + np.arange((end - first).max())
    # Pillow's own steps: their rounding decides which box a pixel on the seam of two belongs to.
    apart = (places - middle[:, None] + 0.5) * (1 / scale)
    return places, (places < end[:, None]) & (apart > -0.5) & (apart <= 0.5)


def _means(planes: Tensor, boxes: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Weighted sums of rows, rounded, halves up: uint8 (N, H, W) to (N, size, W)."""
    (first, weight), *others = boxes
    total = planes.index_select(1, first).float().mul_(weight)
    for rows, weight in others:
        total.addcmul_(planes.index_select(1, rows).float(), weight)
    return to_uint8(total.add_(0.5))


@lru_cache(maxsize=32)
def _nearest(size: int, side: int) -> NDArray[np.int32]:
    """The one of `size` boxes that each of `side` pixels shows, int32 (side,)."""
    # Summed step by step as Pillow does, whose rounding decides where a place is a whole number.
    return np.cumsum([size / side / 2, *[size / side] * (side - 1)]).astype(np.int32)


@corruption(
    family="digital",
    parameters=(
        Parameter(
            "alpha", (12.5, 16.25, 21.25, 25, 30), "x", "stretch of the smoothed random field", high=300
        ),
    ),
    aliases=("elastic",),
    source=_SOURCE,
    random=True,
    version=2,
)
def elastic_transform(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Pixels displaced by a smooth random field, alpha G(u), u uniform within 0.005 H px.

    G is a Gaussian of 0.01 H px down and 0.01 W px across. Boxes are not moved along.
    """
    return apply_field(images, strength, rng.uniform(2, *images.shape[2:], low=-1, high=1))


def apply_field(images: Tensor, strength: Mapping[str, float], field: Tensor) -> Tensor:
    """`field` is uniform in [-1, 1), (B, 2, H, W): displacement to the right, then down."""
    height, width = images.shape[2:]
    kernels = gaussian_kernel(0.01 * height, 3), gaussian_kernel(0.01 * width, 3)
    moved = correlate_separable(field, [kernels], "symmetric").mul_(0.005 * height * strength["alpha"])
    return torch.stack(
        [to_uint8(remap(image, down, right)) for image, (right, down) in zip(images, moved, strict=True)]
    )


@corruption(
    family="digital",
    parameters=(
        Parameter(
            "quality", (25, 18, 15, 10, 7), "of 100", "libjpeg's scale", identity_value=100, low=1, high=100
        ),
    ),
    aliases=("jpeg",),
    source=_SOURCE,
)
def jpeg_compression(images: Tensor, strength: Mapping[str, float], _rng: BatchRng) -> Tensor:
    """JPEG at low quality with 4:2:0 subsampling, on the CPU whatever the images' device."""
    # A run on the CPU has a thread for each batch already; a GPU waits for the whole batch.
    threads = 1 if images.device.type == "cpu" else torch.get_num_threads()
    return to_device(_recompressed(images.cpu(), round(strength["quality"]), threads), images.device)


def _recompressed(images: Tensor, quality: int, threads: int) -> Tensor:
    """Written to JPEG and read again; OpenCV does not hold Python's lock."""
    out = np.empty(images.shape, np.uint8)

    def recompress(image: NDArray[np.uint8], done: NDArray[np.uint8]) -> None:
        # OpenCV counts from blue to red.
        _, file = cv2.imencode(".jpg", cv2.merge(list(image[::-1])), [cv2.IMWRITE_JPEG_QUALITY, quality])
        cv2.split(np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR)), list(done[::-1]))

    with ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool:
        deque((pool.map if pool else map)(recompress, images.numpy(), out), maxlen=0)
    return torch.from_numpy(out)
