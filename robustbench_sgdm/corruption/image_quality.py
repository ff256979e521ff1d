"""The quality of a corrupted image: PSNR and SSIM against the clean one."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.corruption.decorator import MAX_SEVERITY
from robustbench_sgdm.corruption.definition import Corruption
from robustbench_sgdm.corruption.engine import apply_corruption
from robustbench_sgdm.corruption.filters import correlate_separable, gaussian_kernel

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")
"""Those of scikit-image's that it brings along; everybody has the same."""


def measure_image_quality(
    corruption: Corruption,
    images: Sequence[Tensor],
    severities: Sequence[float] = range(1, MAX_SEVERITY + 1),
    *,
    seed: int = 0,
    image_ids: Sequence[int] | None = None,
    engine: str = "torch",
) -> list[tuple[float, float]]:
    """(PSNR in dB, SSIM) at each severity, means over images.

    Args:
        corruption: to measure.
        images: uint8 (3, H, W) each, of any sizes.
        severities: in [0, 5].
        seed, engine: see `apply_corruption`.
        image_ids: one per image; their places if None.
    """
    ids = range(len(images)) if image_ids is None else image_ids
    qualities = []
    for severity in severities:
        scores = []
        for image_id, image in zip(ids, images, strict=True):
            noisy = apply_corruption(
                corruption, image[None], severity, seed=seed, image_ids=[image_id], engine=engine
            )
            scores.append((psnr(image, noisy[0]), ssim(image, noisy[0])))
        mean = np.mean(scores, axis=0)
        qualities.append((float(mean[0]), float(mean[1])))
    return qualities


def psnr(clean: Tensor, noisy: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of uint8 images: 10 log10(255^2 / mean squared error)."""
    one, other = (image.cpu().contiguous().flatten(0, -2).numpy() for image in (clean, noisy))
    error = cv2.norm(one, other, cv2.NORM_L2SQR) / clean.numel()
    return 10 * math.log10(255**2 / error) if error else math.inf


def ssim(clean: Tensor, noisy: Tensor) -> float:
    """Structural similarity (Wang et al. 2004) of uint8 images (C, H, W), mean over channels.

    Their Gaussian window of 1.5 px, 11 px wide, without the pixels whose window the image's edge cuts;
    images under 11 px a side have none but those.
    """
    x, y = clean[None].float(), noisy[None].float()
    window = gaussian_kernel(1.5, truncate=3.5)
    mean_x, mean_y, squares, products = (
        correlate_separable(z, [(window, window)], "symmetric") for z in (x, y, x * x + y * y, x * y)
    )
    means, product = mean_x.square().add_(mean_y.square()), mean_x.mul_(mean_y)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    above = products.sub_(product).mul_(2).add_(c2).mul_(product.mul_(2).add_(c1))
    similar = above.div_(squares.sub_(means).add_(c2)).div_(means.add_(c1))
    edge = len(window) // 2
    inner = similar[..., edge:-edge, edge:-edge]
    return float((inner if inner.numel() else similar).mean(dtype=torch.float64))


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
