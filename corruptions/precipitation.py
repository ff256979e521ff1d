"""Weather that falls: snow, and spatter of water or mud on the lens."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.core.transfer import to_device
from robustbench_sgdm.corruption import BatchRng, Parameter, corruption
from robustbench_sgdm.corruption.filters import (
    gaussian_kernel,
    motion_path,
    sum_shifted,
    to_uint8,
    upscale,
    zoom_sizes,
)

_SOURCE = "Hendrycks & Dietterich 2019 (arXiv:1903.12261), with COCO-C's constants (Michaelis et al. 2019)"
_WATER, _MUD = (175, 238, 238), (63, 42, 20)  # pale turquoise and brown, RGB
_RELIEF = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])


@corruption(
    family="weather",
    parameters=(
        Parameter("mean", (0.1, 0.2, 0.55, 0.55, 0.55), "of full scale", "of the random field"),
        Parameter("deviation", (0.3, 0.3, 0.3, 0.3, 0.3), "of full scale", "of the random field"),
        Parameter("size", (3, 2, 4, 4.5, 2.5), "px", "of a flake", identity_value=1, low=1),
        Parameter(
            "threshold", (0.5, 0.5, 0.9, 0.85, 0.85), "of full scale", "below it no flake", identity_value=0.5
        ),
        Parameter("radius", (10, 12, 12, 12, 12), "px", "half the length of a fall", identity_value=10),
        Parameter("sigma", (4, 4, 8, 8, 12), "px", "decay along it", identity_value=4, low=0.01),
        Parameter(
            "keep",
            (0.8, 0.7, 0.7, 0.65, 0.55),
            "of the image",
            "share not whitened",
            identity_value=1,
            high=1,
        ),
    ),
    source=_SOURCE,
    random=True,
    version=2,
)
def snow(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Snowfall: flakes of a thresholded random field, blurred along their fall, over a whitened image.

    The flakes y and their image turned by 180 degrees are added to keep x + (1 - keep) max(x, 1.5 g + 0.5),
    g the grey image.
    """
    return apply_snow(images, strength, *_draw_fall(images, strength, rng))


def _draw_fall(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> tuple[Tensor, list[float]]:
    """A standard normal field (B, h, w), no larger than what will be enlarged, and an angle per image."""
    angles: list[float] = rng.host_uniform(1, -135, -45)[:, 0].tolist()
    part = [zoom_sizes(side, strength["size"])[0] for side in images.shape[2:]]
    return rng.normal(*part), angles


def apply_snow(
    images: Tensor, strength: Mapping[str, float], fields: Tensor, angles: Sequence[float]
) -> Tensor:
    """`snow` of the given fields and angles; see `_draw_fall`."""
    done = []
    for image, field, angle in zip(images, fields, angles, strict=True):
        flakes = _flakes(field, strength, angle, image.shape[1:])
        levels = _whitened(image, strength["keep"]).add_(flakes).add_(flakes.rot90(2))
        done.append(to_uint8(levels))
    return torch.stack(done)


def _flakes(field: Tensor, strength: Mapping[str, float], angle: float, shape: Sequence[int]) -> Tensor:
    """Grey levels of an image of `shape` (H, W), whole numbers as in the reference."""
    layer = field * strength["deviation"] + strength["mean"]
    height, width = (zoom_sizes(side, strength["size"])[1] for side in shape)
    layer = upscale(layer[None], (height, width))
    layer = layer.mul_(layer >= strength["threshold"]).clamp_(0, 1)
    path = motion_path(strength["radius"], strength["sigma"], angle)
    return sum_shifted(layer, path)[0, : shape[0], : shape[1]].mul(255).round_()


def _whitened(image: Tensor, keep: float) -> Tensor:
    """keep x + (1 - keep) max(x, 1.5 g + 127.5) in grey levels, float32 (3, H, W)."""
    levels = image.float()
    red, green, blue = levels
    white = (0.299 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114).mul_(1.5).add_(127.5)
    for plane in levels:
        plane.add_((white - plane).clamp_(min=0), alpha=1 - keep)
    return levels


@corruption(
    family="weather",
    parameters=(
        Parameter(
            "mean",
            (0.65, 0.65, 0.65, 0.65, 0.67),
            "of full scale",
            "of the random field",
            identity_value=0.65,
        ),
        Parameter(
            "deviation", (0.3, 0.3, 0.3, 0.3, 0.4), "of full scale", "of the random field", identity_value=0.3
        ),
        Parameter("sigma", (4, 3, 2, 1, 1), "px", "smoothing of the field", identity_value=4, low=0.01),
        Parameter(
            "threshold",
            (0.69, 0.68, 0.68, 0.65, 0.65),
            "of full scale",
            "below it clear",
            identity_value=0.69,
        ),
        Parameter("amount", (0.6, 0.6, 0.5, 1.5, 1.5), "x or px", "brightness of water, softness of mud"),
        Parameter("mud", (0, 0, 0, 1, 1), "yes or no", "mud from 0.5 on, water below"),
    ),
    source=_SOURCE,
    random=True,
    version=2,
)
def spatter(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Drops of water (x + m water) or of mud ((1 - m) x + m mud) on the lens, m a mask of random blots."""
    return apply_spatter(images, strength, rng.host_normal(*images.shape[2:]))


def apply_spatter(images: Tensor, strength: Mapping[str, float], fields: NDArray[np.float32]) -> Tensor:
    """`fields` is standard normal (B, H, W). The masks are made on the CPU whatever the device, and sent at once."""
    muddy = strength["mud"] >= 0.5
    colour = to_device(np.array(_MUD if muddy else _WATER, np.float32), images.device)[:, None, None]
    masks = to_device(np.stack([_blots(field, strength, muddy) for field in fields]), images.device)
    done = []
    for image, mask in zip(images, masks, strict=True):
        levels = image.float().mul_(1 - mask) if muddy else image.float()
        done.append(to_uint8(levels.add_(mask * colour)))
    return torch.stack(done)


def _blots(field: NDArray[np.float32], strength: Mapping[str, float], muddy: bool) -> NDArray[np.float32]:
    """The mask of one image, (H, W) in [0, 1] for mud and [0, amount] for water."""
    liquid = _smooth(
        field * np.float32(strength["deviation"]) + np.float32(strength["mean"]), strength["sigma"]
    )
    if not muddy:
        return _water(liquid, strength["threshold"]) * np.float32(strength["amount"])
    mask = _smooth((liquid > np.float32(strength["threshold"])).astype(np.float32), strength["amount"])
    return mask * (mask >= np.float32(0.8))


def _smooth(plane: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    kernel = gaussian_kernel(sigma)
    smooth = cv2.sepFilter2D(plane, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(smooth, np.float32)


def _water(liquid: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Relief of drops lit from a corner, in [0, 1]."""
    layer = (liquid * (liquid >= np.float32(threshold)) * np.float32(255)).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(layer, 50, 150), cv2.DIST_L2, 5)
    near = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
    relief = cv2.filter2D(cv2.equalizeHist(near), cv2.CV_8U, _RELIEF)
    mask = layer * cv2.blur(relief, (3, 3)).astype(np.float32)
    return np.asarray(mask / max(mask.max(), 1), np.float32)
