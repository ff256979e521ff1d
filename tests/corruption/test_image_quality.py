"""PSNR and SSIM against scikit-image's."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import metrics

from robustbench_sgdm.corruption import PHOTOGRAPHS, load_corruptions, measure_image_quality, photographs
from robustbench_sgdm.corruption.image_quality import psnr, ssim


@pytest.mark.parametrize("strength", [3, 20, 80])
def test_scores_are_scikit_images(strength: float, photographs: list[NDArray[np.uint8]]) -> None:
    clean = photographs[1][:97, :130]
    noise = np.random.default_rng(0).normal(0, strength, clean.shape)
    noisy = np.clip(clean + noise, 0, 255).astype(np.uint8)
    ours = [torch.from_numpy(picture).permute(2, 0, 1) for picture in (clean, noisy)]
    theirs: Any = metrics  # which has no types
    assert psnr(*ours) == pytest.approx(theirs.peak_signal_noise_ratio(clean, noisy))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    expected = theirs.structural_similarity(clean, noisy, channel_axis=-1, **options)
    assert ssim(*ours) == pytest.approx(expected, abs=1e-4)


def test_an_unchanged_image_is_perfect() -> None:
    for size in (5, 40):
        image = torch.full((3, size, size), 7, dtype=torch.uint8)
        assert psnr(image, image) == math.inf
        assert ssim(image, image) == pytest.approx(1)


def test_damage_is_the_mean_at_each_severity() -> None:
    pictures = [picture[:, :64, :64] for picture in photographs()[:2]]
    assert len(photographs()) == len(PHOTOGRAPHS)
    blur = load_corruptions().get("gaussian_blur")
    both, *single = (measure_image_quality(blur, chosen) for chosen in (pictures, pictures[:1], pictures[1:]))
    assert len(both) == 5
    np.testing.assert_allclose(both, np.mean(single, axis=0))
    assert both[0][0] > both[4][0]
    assert both[0][1] > both[4][1]
