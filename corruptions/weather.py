"""Weather: bright light, and frost on the lens."""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.transfer import to_device
from robustbench_sgdm.corruption import BatchRng, Parameter, corruption
from robustbench_sgdm.corruption.filters import to_uint8

_SOURCE = "Hendrycks & Dietterich 2019 (arXiv:1903.12261), with COCO-C's constants (Michaelis et al. 2019)"
_MAX_KEPT = 4_000_000  # px of an enlarged texture that is kept for the next image of that size
_TEXTURES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg", "frost6.jpg")


@corruption(
    family="weather",
    parameters=(Parameter("lift", (0.1, 0.2, 0.3, 0.4, 0.5), "of full scale", "added to the value", high=1),),
    aliases=("bright",),
    source=_SOURCE,
)
def brightness(images: Tensor, strength: Mapping[str, float], _rng: BatchRng) -> Tensor:
    """Bright daylight: HSV value raised, v' = min(v + lift, 1), hue and saturation kept.

    Each channel is then multiplied by v' / v; black becomes grey.
    """
    lift = 255 * strength["lift"]
    values = torch.arange(256, dtype=torch.float64)
    raised = (values + lift).clamp(max=255)
    gain = to_device((raised / values.clamp(min=1)).float(), images.device)
    brightest = torch.maximum(torch.maximum(images[:, 0], images[:, 1]), images[:, 2])
    gains = gain.index_select(0, brightest.int().flatten()).view_as(brightest)
    levels = images.float().mul_(gains[:, None])
    return to_uint8(levels.add_((brightest == 0)[:, None], alpha=lift))


@corruption(
    family="weather",
    parameters=(
        Parameter(
            "keep", (1, 0.8, 0.7, 0.65, 0.6), "of the image", "share that shines through", identity_value=1
        ),
        Parameter("frost", (0.4, 0.6, 0.7, 0.7, 0.75), "of the texture", "share that is added"),
    ),
    source=_SOURCE,
    random=True,
    version=2,
)
def frost(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Frost on the lens: keep x + frost y, y cut at random from one of the reference's six photographs."""
    return apply_frost(images, strength, draw_cuts(images, rng))


def draw_cuts(images: Tensor, rng: BatchRng) -> list[tuple[int, int, int]]:
    """Per image a texture's number, and the row and column at which its cut begins."""
    cuts = []
    for which, down, right in rng.host_uniform(3).tolist():
        number = int(which * len(_TEXTURES))
        high, wide = (frost_size(number, *images.shape[2:])[i] - images.shape[2 + i] for i in (0, 1))
        cuts.append((number, int(down * high), int(right * wide)))
    return cuts


def apply_frost(
    images: Tensor, strength: Mapping[str, float], cuts: Sequence[tuple[int, int, int]]
) -> Tensor:
    """`frost` of the given cuts; see `draw_cuts`."""
    textures = to_device(np.stack([_cut_texture(cut, *images.shape[2:]) for cut in cuts]), images.device)
    done = []
    for image, texture in zip(images, textures, strict=True):
        done.append(to_uint8((image * strength["keep"]).add_(texture * strength["frost"])))
    return torch.stack(done)


def _cut_texture(cut: tuple[int, int, int], height: int, width: int) -> NDArray[np.uint8]:
    """The part of a texture that covers an image, (3, H, W)."""
    number, top, left = cut
    size = frost_size(number, height, width)
    photograph = (_kept if math.prod(size) <= _MAX_KEPT else _enlarged)(number, size)
    return np.stack(cv2.split(photograph[top : top + height, left : left + width]))


def frost_size(number: int, height: int, width: int) -> tuple[int, int]:
    """(height, width) of a texture, made a tenth larger than what covers the image."""
    high, wide = _texture(number).shape[:2]
    scale = max(1, height / high, width / wide) * 1.1
    return math.ceil(high * scale), math.ceil(wide * scale)


def _enlarged(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    pixels = cv2.resize(_texture(number), size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(pixels, np.uint8)


_kept = lru_cache(maxsize=len(_TEXTURES))(_enlarged)


@lru_cache(maxsize=len(_TEXTURES))
def _texture(number: int) -> NDArray[np.uint8]:
    """A photograph of frost as `imagecorruptions` has it beside its code (H, W, 3), RGB.

    Raises:
        DataError: the package or the file is not installed.
    """
    found = importlib.util.find_spec("imagecorruptions")
    folder = Path(found.origin).parent if found is not None and found.origin else Path("imagecorruptions")
    path = folder / "frost" / _TEXTURES[number]
    pixels = cv2.imread(str(path))
    if pixels is None:
        raise DataError(f"the frost texture {path} is missing; install imagecorruptions-imaug again")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
