"""How much a corruption damages an image: PSNR and SSIM against the clean one."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from robustbench_sgdm.corruption.declare import MAX_SEVERITY
from robustbench_sgdm.corruption.engine import apply
from robustbench_sgdm.corruption.entry import Corruption
from robustbench_sgdm.corruption.filters import gaussian, separable
from robustbench_sgdm.errors import DataError

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")
"""Those of scikit-image's that it brings along; everybody has the same."""


def damage(corruption: Corruption, pictures: Sequence[Tensor], *, seed: int = 0) -> list[tuple[float, float]]:
    """(PSNR in dB, SSIM) at severities 1 to 5, each the mean over `pictures`, uint8 (3, H, W)."""
    found = []
    for severity in range(1, MAX_SEVERITY + 1):
        scores = []
        for image_id, picture in enumerate(pictures):
            noisy = apply(corruption, picture[None], severity, seed=seed, image_ids=[image_id])[0]
            scores.append((psnr(picture, noisy), ssim(picture, noisy)))
        both = np.mean(scores, axis=0)
        found.append((float(both[0]), float(both[1])))
    return found


def psnr(clean: Tensor, noisy: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of uint8 images: 10 log10(255^2 / mean squared error)."""
    error = float((clean.double() - noisy.double()).square().mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def ssim(clean: Tensor, noisy: Tensor) -> float:
    """Structural similarity (Wang et al. 2004) of uint8 images (C, H, W), mean over channels.

    Their Gaussian window of 1.5 px, 11 px wide, without the pixels whose window the image's edge cuts;
    images under 11 px a side have none but those.
    """
    x, y = clean[None].float(), noisy[None].float()
    window = gaussian(1.5, truncate=3.5)
    smooth = [separable(z, [(window, window)], "symmetric").double() for z in (x, y, x * x, y * y, x * y)]
    mean_x, mean_y = smooth[:2]
    var_x, var_y, covariance = (
        square - product
        for square, product in zip(smooth[2:], (mean_x**2, mean_y**2, mean_x * mean_y), strict=True)
    )
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similar = above / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    edge = len(window) // 2
    inner = similar[..., edge:-edge, edge:-edge]
    return float((inner if inner.numel() else similar).mean())


def photographs() -> list[Tensor]:
    """The photographs, uint8 (3, H, W).

    Raises:
        DataError: scikit-image is not installed.
    """
    try:
        from skimage import data
    except ImportError as error:
        raise DataError("the photographs come with scikit-image; install it, or give --data") from error
    pictures = (getattr(data, name)() for name in PHOTOGRAPHS)
    return [torch.from_numpy(picture.transpose(2, 0, 1).copy()) for picture in pictures]
