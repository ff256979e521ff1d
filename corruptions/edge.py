"""Artefacts at edges: of a limited band, over-sharpening, undersampling, a lens, and coarse coding.

Strengths are placed beside gaussian_noise by their PSNR in dB on photographs, as far as each can follow it:
mean of scikit-image's astronaut, coffee, cat and rocket, and the range over these four.

    severity                1             2             3             4             5
    gaussian_noise     22.3 (22-23)  19.0 (19-19)  15.8 (15-16)  13.0 (13-13)  10.6 (10-11)
    ringing            27.0 (25-30)  25.6 (23-28)  24.4 (21-27)  23.0 (19-25)  21.1 (17-24)
    halo               22.2 (21-23)  19.0 (18-20)  15.8 (15-17)  13.1 (12-15)  10.6 (10-12)
    aliasing           25.9 (24-29)  23.2 (20-26)  20.7 (17-23)  19.5 (15-23)  17.6 (14-21)
    chromatic_fringes  24.6 (21-29)  21.9 (18-25)  19.5 (15-23)  17.5 (13-22)  16.0 (11-20)
    block_edges        22.2 (22-23)  19.1 (18-20)  15.9 (14-16)  13.2 (11-15)  11.0 (9-12)

Ringing, aliasing and fringes only move content about, and that of a photograph is smooth: the flat image of
the mean colour, which is worse than any of them, has 10.2, 12.7, 17.5 and 17.9 dB.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from robustbench_sgdm.core.transfer import to_device
from robustbench_sgdm.corruption import BatchRng, Parameter, corruption
from robustbench_sgdm.corruption.filters import (
    correlate_separable,
    gaussian_kernel,
    low_pass,
    remap,
    to_uint8,
)

# Of the blur that over-sharpening subtracts: halos are then about 4 px wide on either side of an edge.
_HALO_WIDTH = 2.0


@corruption(
    family="edge",
    parameters=(
        Parameter(
            "cutoff",
            (0.10, 0.07, 0.05, 0.035, 0.02),
            "cycles/px",
            "highest frequency kept along each axis",
            identity_value=0.5,
            scale="reciprocal",
            high=0.5,
        ),
    ),
    aliases=("gibbs",),
    source="Gibbs 1899 (Nature 59:606); in images: Veraart et al. 2016 (doi:10.1002/mrm.25866)",
)
def ringing(images: Tensor, strength: Mapping[str, float], _rng: BatchRng) -> Tensor:
    """Gibbs ringing: ripples beside every edge, as after a reconstruction from a limited band.

    An ideal low-pass filter, |f_x| and |f_y| <= cutoff, on the image mirrored at its edges.
    """
    return to_uint8(low_pass(images, strength["cutoff"]))


@corruption(
    family="edge",
    parameters=(Parameter("amount", (2.3, 3.8, 7, 13, 30), "x", "of the detail added"),),
    aliases=("sharpening",),
    source="Schreiber 1970 (Pattern Recognition 2:117); halos: Trentacoste et al. 2012 "
    "(doi:10.1111/j.1467-8659.2012.03056.x)",
)
def halo(images: Tensor, strength: Mapping[str, float], _rng: BatchRng) -> Tensor:
    """Halos of over-sharpening: bright and dark bands beside edges, as of a camera's unsharp mask.

    x + amount (x - G x), G a Gaussian blur of 2 px.
    """
    kernel = gaussian_kernel(_HALO_WIDTH)
    blurred = correlate_separable(images, [(kernel, kernel)], "replicate")
    return to_uint8(blurred.mul_(-strength["amount"]).add_(images, alpha=1 + strength["amount"]))


@corruption(
    family="edge",
    parameters=(Parameter("pitch", (4, 8, 16, 24, 40), "px", "between samples", identity_value=1, low=1),),
    aliases=("undersampling",),
    source="Shannon 1949 (doi:10.1109/JRPROC.1949.232969); in detectors: Zhang 2019 (arXiv:1904.11486)",
)
def aliasing(images: Tensor, strength: Mapping[str, float], _rng: BatchRng) -> Tensor:
    """Aliasing: single pixels taken `pitch` px apart without a filter, joined by straight lines.

    Detail finer than 2 pitch returns as jagged edges and moiré. The samples lie on a grid through the middle
    pixel, rounded to whole pixels; the outermost ones are repeated to the image's edges.
    """
    levels = images.float()
    pitch = strength["pitch"]
    for axis in (2, 3):
        size = images.shape[axis]
        middle = size // 2
        first, last = -int(middle / pitch), int((size - 1 - middle) / pitch)
        nearest = (torch.arange(first, last + 1, dtype=torch.float64) * pitch).round().long() + middle
        place = (torch.arange(size, dtype=torch.float64) - middle) / pitch - first
        place = place.clamp(0, last - first)
        before = place.long()
        after = (before + 1).clamp(max=last - first)
        part = (place - before).float().view(-1, 1) if axis == 2 else (place - before).float()
        left, right = (
            levels.index_select(axis, to_device(nearest[i], levels.device)) for i in (before, after)
        )
        levels = left.lerp_(right, to_device(part, levels.device).expand_as(left))
    return to_uint8(levels)


@corruption(
    family="edge",
    parameters=(Parameter("spread", (1.5, 3, 6, 12, 24), "%", "magnification of blue over green", high=100),),
    aliases=("chromatic", "fringes"),
    source="Mallon & Whelan 2007 (doi:10.1016/j.patrec.2006.06.013); Kang 2007 (doi:10.1109/CVPR.2007.383214)",
    version=2,
)
def chromatic_fringes(images: Tensor, strength: Mapping[str, float], _rng: BatchRng) -> Tensor:
    """Lateral chromatic aberration: coloured fringes along edges that grow towards the corners.

    About the middle of the image red is read from (1 + spread / 100) times the distance and blue from
    (1 - spread / 100) times, so that red shrinks and blue grows; beyond the edge the image is mirrored.
    """
    down, right = (
        (torch.arange(size, device=images.device) - (size - 1) / 2) * (strength["spread"] / 100)
        for size in images.shape[2:]
    )
    out = images.clone()
    for image, done in zip(images, out, strict=True):
        for channel, sign in ((0, 1), (2, -1)):
            plane = remap(image[channel : channel + 1], sign * down[:, None], sign * right[None])
            done[channel] = to_uint8(plane)[0]
    return out


@corruption(
    family="edge",
    parameters=(Parameter("step", (70, 102, 146, 205, 265), "grey levels", "of quantisation", low=0.01),),
    aliases=("blocking",),
    source="Wallace 1992 (doi:10.1109/30.125072); seams: Reeve & Lim 1984 (Optical Engineering 23:34)",
)
def block_edges(images: Tensor, strength: Mapping[str, float], _rng: BatchRng) -> Tensor:
    """Seams between blocks of 8 x 8 px, as of a transform code whose mean term is quantised coarsely.

    A block's mean m becomes step round(m / step); what lies within the block is kept. Blocks begin at the
    top left corner and are cut off at the other edges; each channel is coded on its own.
    """
    # A block's sum is a whole number far below 2^24, so that its mean is the same in any order of summation.
    means = F.avg_pool2d(images.float(), 8, ceil_mode=True, count_include_pad=False)
    shift = (means / strength["step"]).round_().mul_(strength["step"]).sub_(means)
    shift = shift.repeat_interleave(8, 2)[:, :, : images.shape[2]]
    return to_uint8(shift.repeat_interleave(8, 3)[..., : images.shape[3]].add(images))
