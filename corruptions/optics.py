"""What a camera's lens and its motion do: aberrations, hand shake, a rolling shutter.

Strengths are placed as those of `sensor.py`. What only moves content about ends above gaussian_noise, as the edge
family's ringing does: the flat image of the mean colour is worse than any of them.

    severity        1             2             3             4             5
    gaussian_noise  22.3 (22-23)  18.9 (19-19)  15.8 (15-16)  13.1 (13-13)  10.6 (10-11)
    lens_aberration 27.9 (26-31)  25.5 (22-28)  24.2 (21-26)  22.6 (18-25)  21.9 (18-25)
    hand_shake      25.1 (22-28)  20.8 (16-24)  20.6 (16-25)  19.0 (15-23)  17.6 (15-22)
    rolling_shutter 22.5 (20-26)  18.9 (15-22)  16.1 (12-19)  14.6 (10-18)  13.7 (9-18)

One path of the hand for each photograph decides much: over twelve, hand_shake has 24.9, 22.1, 20.4, 18.6 and 17.5.
"""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.core.transfer import to_device
from robustbench_sgdm.corruption import BatchRng, Parameter, corruption
from robustbench_sgdm.corruption.filters import Tap, remap, sum_shifted, to_uint8

_WAVELENGTHS = (0.62, 0.54, 0.46)  # um, of red, green and blue
_F_NUMBER, _PIXEL = 2.8, 2.0  # and um
_PUPIL, _SAMPLES = 96, 3  # samples across the pupil, and across a pixel
_REACH = 20  # px, half a point-spread function
_STEPS = 64  # of a hand's path during the exposure


@corruption(
    family="camera",
    parameters=(
        Parameter(
            "rms", (0.3, 0.5, 0.8, 1.2, 1.6), "waves", "wavefront error at 550 nm, root mean square", high=3
        ),
    ),
    aliases=("aberration", "zernike"),
    source="Noll 1976 (doi:10.1364/JOSA.66.000207); Mueller et al. 2023 (OpticsBench, arXiv:2308.15499) and 2025 "
    "(LensCorruptions, arXiv:2504.18510)",
    random=True,
)
def lens_aberration(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Blur by a lens of f/2.8 with astigmatism, coma, trefoil and spherical aberration over pixels of 2 um.

    The wavefront is a random mixture of Zernike polynomials. Its point-spread functions in red, green and blue light
    follow by Fraunhofer diffraction, so that edges become coloured; the image is mirrored at its edges.
    """
    out = []
    for image, mixture in zip(images, rng.host_normal(len(aberration_modes())), strict=True):
        wavefront = strength["rms"] * np.tensordot(mixture / np.linalg.norm(mixture), aberration_modes(), 1)
        spreads = np.stack([point_spread(wavefront, wavelength) for wavelength in _WAVELENGTHS])
        out.append(to_uint8(convolve(image, to_device(spreads, image.device))))
    return torch.stack(out)


def convolve(image: Tensor, kernels: Tensor) -> Tensor:
    """Each plane of (3, H, W) with its kernel (3, 2 r + 1, 2 r + 1), float64; mirrored beyond the edge."""
    rows, columns = (to_device(mirrored_indices(size), image.device) for size in image.shape[1:])
    padded = image.index_select(1, rows).index_select(2, columns).double()
    size = padded.shape[1:]
    spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(kernels, size)
    out: Tensor = torch.fft.irfft2(spectrum, size)[:, 2 * _REACH :, 2 * _REACH :].contiguous()
    return out


def mirrored_indices(size: int) -> NDArray[np.int64]:
    """The pixels of a side with those beyond it."""
    places = np.arange(-_REACH, size + _REACH) % (2 * size)
    return np.asarray(np.minimum(places, 2 * size - 1 - places), np.int64)


@lru_cache(maxsize=1)
def aberration_modes() -> NDArray[np.float64]:
    """Noll's Zernike polynomials 5 to 11, of variance 1 over the pupil, (7, n, n)."""
    x, y = _pupil()
    r = np.hypot(x, y)
    modes = [
        *(6**0.5 * 2 * x * y, 6**0.5 * (x * x - y * y)),
        *(8**0.5 * (3 * r * r - 2) * y, 8**0.5 * (3 * r * r - 2) * x),
        *(8**0.5 * (3 * x * x - y * y) * y, 8**0.5 * (x * x - 3 * y * y) * x),
        5**0.5 * (6 * r**4 - 6 * r * r + 1),
    ]
    return np.stack(modes)


def _pupil() -> list[NDArray[np.float64]]:
    """Coordinates x and y of the samples, (n, n), the pupil being the unit disk."""
    axis = (np.arange(_PUPIL) + 0.5) / (_PUPIL / 2) - 1
    return list(np.meshgrid(axis, axis))


@lru_cache(maxsize=1)
def open_pupil() -> NDArray[np.bool_]:
    """Which samples lie in the pupil, (n, n)."""
    return np.asarray(np.hypot(*_pupil()) <= 1)


def point_spread(wavefront: NDArray[np.float64], wavelength: float) -> NDArray[np.float64]:
    """The point-spread function in pixels (2 reach + 1)^2, sum 1, of a wavefront (n, n) in waves of 550 nm."""
    size, waves = 2 * _REACH + 1, _waves(wavelength)
    pupil = np.exp(2j * np.pi * wavefront * (0.55 / wavelength)) * open_pupil()
    spread = (abs(waves @ pupil @ waves.T) ** 2).reshape(size, _SAMPLES, size, _SAMPLES).sum((1, 3))
    return np.asarray(spread / spread.sum(), np.float64)


@lru_cache(maxsize=len(_WAVELENGTHS))
def _waves(wavelength: float) -> NDArray[np.complex128]:
    """The Fourier transform along one axis, from the pupil to samples of the pixels, as a matrix."""
    size = 2 * _REACH + 1
    places = ((np.arange(size * _SAMPLES) + 0.5) / _SAMPLES - size / 2) * _PIXEL / (wavelength * _F_NUMBER)
    waves = np.exp(-2j * np.pi * np.outer(places, (np.arange(_PUPIL) + 0.5) / _PUPIL - 0.5))
    return np.asarray(waves, np.complex128)


@corruption(
    family="camera",
    parameters=(Parameter("length", (20, 40, 75, 130, 220), "px", "of the path", high=1000),),
    aliases=("shake",),
    source="Boracchi & Foi 2012 (doi:10.1109/TIP.2012.2192126)",
    random=True,
)
def hand_shake(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Blur along the path of a shaking hand: a random walk of the velocity; the image's edge is repeated."""
    paths = [shake_path(steps, strength["length"]) for steps in rng.host_normal(_STEPS, 2)]
    return torch.stack(
        [to_uint8(sum_shifted(image, path)) for image, path in zip(images, paths, strict=True)]
    )


def shake_path(steps: NDArray[np.float32], length: float) -> list[Tap]:
    """The whole pixels that a path of this length goes through, about its middle, and how long it stays in each."""
    velocity = np.zeros(2)
    velocities = [velocity := 0.9 * velocity + step for step in steps.astype(np.float64)]
    places = np.cumsum(velocities, 0)
    places *= length / np.hypot(*np.diff(places, axis=0).T).sum()
    pixels, counts = np.unique(np.rint(places - places.mean(0)).astype(int), axis=0, return_counts=True)
    return [
        (down, right, count / len(steps))
        for (down, right), count in zip(pixels.tolist(), counts.tolist(), strict=True)
    ]


@corruption(
    family="camera",
    parameters=(
        Parameter(
            "sway", (0.75, 1.8, 4.5, 9, 16), "% of the width", "of the camera, to either side", high=100
        ),
    ),
    aliases=("jello",),
    source="Liang et al. 2008 (doi:10.1109/TIP.2008.925384)",
    random=True,
)
def rolling_shutter(images: Tensor, strength: Mapping[str, float], rng: BatchRng) -> Tensor:
    """Rows read one after the other while the camera sways: the image leans and wobbles. Boxes are not moved along.

    The camera sways as a sine of half to two periods while the image is read, beginning anywhere in it.
    """
    height, width = images.shape[2:]
    rows = np.arange(height)[:, None] / height
    out = []
    for image, (begin, turns) in zip(images, rng.host_uniform(2).tolist(), strict=True):
        sway = np.sin(2 * np.pi * (begin + (0.5 + 1.5 * turns) * rows)) * (strength["sway"] / 100 * width)
        right = to_device(sway.astype(np.float32), image.device)
        out.append(to_uint8(remap(image, torch.zeros_like(right), right)))
    return torch.stack(out)
