"""What a camera's sensor adds, in linear raw: noise of photons and of reading, rows, quantisation.

A byte is taken back through the tone curve and white balance to what a sensor with Bayer's pattern measured there; its
noise is made there and goes forward through demosaicing, white balance and the tone curve (Brooks et al. 2019,
arXiv:1811.11127). The image itself is not demosaiced again: it was once, and demosaicing is linear up to clipping.

Strengths are placed beside gaussian_noise by their PSNR in dB on photographs, as far as each can follow it: mean of
scikit-image's astronaut, coffee, cat and rocket, and the range over these four. See `optics.py` for the other three.

    severity        1             2             3             4             5
    gaussian_noise  22.3 (22-23)  18.9 (19-19)  15.8 (15-16)  13.1 (13-13)  10.6 (10-11)
    sensor_noise    22.2 (21-23)  19.0 (18-20)  15.8 (15-16)  13.0 (13-13)  10.7 (10-11)
    low_light       22.8 (22-24)  18.4 (17-20)  15.1 (14-17)  12.5 (11-15)  10.5 (9-13)
    banding         22.1 (21-23)  19.0 (18-20)  16.3 (15-17)  13.1 (13-14)  10.9 (11-11)
    bit_depth       22.2 (19-24)  18.8 (16-21)  15.9 (14-18)  13.0 (11-15)  10.5 (8-12)
"""

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.core.transfer import to_device
from robustbench_sgdm.corruption import BatchRng, Parameter, corruption
from robustbench_sgdm.corruption.filters import apply_lut

# White balance of red, green and blue in daylight: the middle of Brooks et al.'s ranges.
_GAINS = (2.0, 1.0, 1.7)
_WHITE = 8000.0  # electrons at white and ISO 100, of a telephone's pixel of 1.4 um
_READ = 3.0  # electrons, standard deviation
_STEPS = 2**16 - 1  # of linear light, before the tone curve


@corruption(
    family="camera",
    parameters=(
        Parameter(
            "iso", (6400, 11000, 19000, 32000, 51200), "ISO", "sensitivity; 100 has 8000 electrons at white"
        ),
    ),
    aliases=("raw_noise",),
    source="Foi et al. 2008 (doi:10.1109/TIP.2008.2001399); Brooks et al. 2019 (arXiv:1811.11127); for detectors: "
    "Yoshimura et al. 2022 (arXiv:2210.16046)",
    random=True,
)
def sensor_noise(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Noise of photons and of reading at a high ISO, in raw, then demosaiced: strong in shadows, in soft grains.

    Electrons are Poisson(x n) + N(0, 3), n = 800000 / ISO at white, red and blue amplified by the white balance.
    """
    return _develop(images, 1.0, lambda raw: expose(raw, strength["iso"], rng))


@corruption(
    family="camera",
    parameters=(
        Parameter("stops", (0.35, 0.6, 0.9, 1.3, 2), "EV", "of light that are missing"),
        Parameter(
            "iso", (1600, 3200, 6400, 12800, 25600), "ISO", "sensitivity; 100 has 8000 electrons at white"
        ),
    ),
    aliases=("dark",),
    source="Chen et al. 2018 (arXiv:1805.01934); noise as of sensor_noise",
    random=True,
)
def low_light(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Too little light: the image underexposed by some stops, with the noise of the ISO that did not suffice."""
    return _develop(images, 0.5 ** strength["stops"], lambda raw: expose(raw, strength["iso"], rng))


@corruption(
    family="camera",
    parameters=(
        Parameter("sigma", (0.031, 0.046, 0.07, 0.11, 0.18), "of raw white", "deviation of a row's offset"),
    ),
    aliases=("row_noise",),
    source="Wei et al. 2020 (ELD, arXiv:2003.12751), its row noise",
    random=True,
)
def banding(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Horizontal bands: the amplifier adds an offset to each row of the raw image; coloured by the Bayer pattern."""
    offsets = rng.normal(images.shape[2]).mul_(strength["sigma"])[:, :, None]
    return _develop(images, 1.0, lambda raw: raw + offsets)


@corruption(
    family="camera",
    parameters=(
        Parameter(
            "bits",
            (3.7, 3.2, 2.7, 2.25, 1.9),
            "bits",
            "effective, of each raw value",
            identity_value=16,
            low=1,
            high=16,
        ),
    ),
    aliases=("quantization",),
    source="Widrow & Kollar 2008 (Quantization Noise, Cambridge); in linear raw as of sensor_noise",
)
def bit_depth(images: Tensor, strength: Mapping[str, float], _rng: BatchRng) -> Tensor:
    """Few bits in raw: linear light in 2^bits levels, so that shadows, where the tone curve is steep, fall apart."""
    levels = 2 ** strength["bits"] - 1
    light = linear_light()[:, None] / np.array(_GAINS, np.float32)
    light = np.rint(light * levels) / levels * np.array(_GAINS)
    table = tone_curve()[np.rint(light.clip(0, 1) * _STEPS).astype(np.int64)].T
    tables = to_device(np.ascontiguousarray(table), images.device)
    return apply_lut(images, tables.expand(len(images), 3, 256))


def expose(raw: Tensor, iso: float, rng: BatchRng) -> Tensor:
    """Raw values (B, H, W), 1 at white, as a sensor counts and reads them."""
    white = _WHITE * 100 / iso
    return (rng.poisson(raw * white) + rng.normal(*raw.shape[1:]) * _READ) / white


def _develop(images: Tensor, exposure: float, measure: Callable[[Tensor], Tensor]) -> Tensor:
    """Images at an exposure, with what `measure` (raw (B, H, W) to the same) makes of the raw values."""
    light = to_device(linear_light(), images.device).index_select(0, images.int().flatten())
    light = light.view(images.shape).mul_(exposure)
    raw = torch.zeros_like(light[:, 0])
    for channel, rows, columns in _PATTERN:
        raw[:, rows, columns] = light[:, channel, rows, columns] / _GAINS[channel]
    error = measure(raw).clamp_(0, 1).sub_(raw)
    for channel, gain in enumerate(_GAINS):
        light[:, channel] += demosaic(error, channel) * gain
    places = light.clamp_(0, 1).mul_(_STEPS).round_().int()
    tones = to_device(tone_curve(), images.device)
    return tones.index_select(0, places.flatten()).view(images.shape)


_EVEN, _ODD = slice(0, None, 2), slice(1, None, 2)
_PATTERN = ((0, _EVEN, _EVEN), (1, _EVEN, _ODD), (1, _ODD, _EVEN), (2, _ODD, _ODD))
"""Bayer's: the channel that is measured in each pixel of a square of four."""


def demosaic(raw: Tensor, channel: int) -> Tensor:
    """A channel of (B, H, W) where it is measured, and the mean of its nearest neighbours elsewhere."""
    measured = torch.zeros_like(raw)
    for one, rows, columns in _PATTERN:
        if one == channel:
            measured[:, rows, columns] = raw[:, rows, columns]
    if channel == 1:
        return measured + (_beside(measured, 1) + _beside(measured, 2)) / 4
    measured = measured + _beside(measured, 1) / 2
    return measured + _beside(measured, 2) / 2


def _beside(values: Tensor, axis: int) -> Tensor:
    """The sum of the two neighbours along an axis, mirrored at the edge, which keeps Bayer's pattern."""
    size = values.shape[axis]
    places = np.arange(size)
    before, after = abs(places - 1), np.where(places + 1 < size, places + 1, max(size - 2, 0))
    indices = (to_device(one.clip(max=size - 1), values.device) for one in (before, after))
    one, other = (values.index_select(axis, index) for index in indices)
    return one + other


@lru_cache(maxsize=1)
def linear_light() -> NDArray[np.float32]:
    """Linear light in [0, 1] of each byte: the S-shaped tone curve of Brooks et al. and sRGB's, both inverted."""
    tone = 0.5 - np.sin(np.arcsin(1 - 2 * np.arange(256) / 255) / 3)
    light = np.where(tone <= 0.04045, tone / 12.92, ((tone + 0.055) / 1.055) ** 2.4)
    return np.asarray(light.round(9), np.float32)


@lru_cache(maxsize=1)
def tone_curve() -> NDArray[np.uint8]:
    """The byte of each step of linear light: the one whose own light is nearest in the tone curve."""
    light = np.arange(_STEPS + 1) / _STEPS
    tone = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(255 * tone**2 * (3 - 2 * tone)), np.uint8)
