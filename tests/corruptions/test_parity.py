"""Our corruptions against the reference, `imagecorruptions`, on photographs.

Deterministic ones must agree within one grey level on 99.9 % of the values: the reference computes in
double precision and truncates, so that a rounding of 1e-14 already lowers some values by a level.

Random ones draw other numbers than the reference. Those that draw few (motion blur here, the others in
`test_fields.py`) are given the reference's own. Of noise, two independent samples of one law are compared.
With a and b the two results on an image of n values:

- mean: (a - b) has mean 0, so its mean divided by std(a - b) / sqrt(n) is standard normal; 5 bounds it.
- variance: the same for (a - x)^2 - (b - x)^2, with x the clean image.
- histogram of a channel over k bins: counts A and B are sums of independent draws, so A - B has at most
  the variance A + B, and sum (A - B)^2 / (A + B) is at most about chi-squared with k degrees: mean k,
  variance 2 k. k + 5 sqrt(2 k) bounds it.
- correlation of two channels: products of their a - b have mean 0 where they are independent; the same z.
- power spectrum: it is flat where a - b has no autocorrelation at any lag, whose z is the sum of products
  over the root of the sum of their squares. 6.5 bounds the largest of some 200,000.

Five standard deviations are passed by chance once in 1.7 million; the seeds are fixed besides.
"""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from imagecorruptions import corrupt as reference
from imagecorruptions.corruptions import _motion_blur
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from robustbench_sgdm.core import resources
from robustbench_sgdm.core.constants import BENCHMARK, HOLDOUT
from robustbench_sgdm.core.seeding import BatchRng
from robustbench_sgdm.corruption import Corruption, apply_corruption, load_corruptions
from robustbench_sgdm.corruption.imgaug_engine import corrupt as seeded_reference

Picture = NDArray[np.uint8]
REGISTRY = load_corruptions()
COCO_C = [c for c in REGISTRY if c.name in (*BENCHMARK, *HOLDOUT)]
NOISES = [c for c in COCO_C if c.family == "noise"]
severities = pytest.mark.parametrize("severity", range(1, 6))


def ours(corruption: Corruption, picture: Picture, severity: float, seed: int = 0) -> Picture:
    images = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None]
    out = apply_corruption(corruption, images, severity, seed=seed, image_ids=[1])
    return np.asarray(out[0].permute(1, 2, 0).numpy(), np.uint8)


@severities
@pytest.mark.parametrize("corruption", [c for c in COCO_C if not c.random], ids=lambda c: c.name)
def test_deterministic_ones_match(
    corruption: Corruption, severity: int, pictures: list[Picture], assert_parity: Callable[..., None]
) -> None:
    chosen = (pictures[1][:240, 200:500], pictures[2][:240, :300], *pictures[4:])
    pairs = [(ours(corruption, p, severity), reference(p, severity, corruption.name)) for p in chosen]
    assert_parity(corruption.name, severity, "pixels", pairs)


@severities
def test_motion_blur_matches_at_the_references_angle(
    severity: int, pictures: list[Picture], assert_parity: Callable[..., None]
) -> None:
    angle = np.random.RandomState(severity).uniform(-45, 45)  # the reference's first and only draw
    pairs = [
        (_moved(p, severity, angle), seeded_reference("motion_blur", p, severity, seed=severity))
        for p in (pictures[0], *pictures[4:])
    ]
    assert_parity("motion_blur", severity, "pixels, at its angle", pairs)


@pytest.mark.parametrize("angle", [-45, -20.5, 0, 13, 44.9])
def test_motion_blur_matches_at_any_angle(
    angle: float, photographs: list[Picture], assert_parity: Callable[..., None]
) -> None:
    expected = np.clip(_motion_blur(photographs[2], radius=20, sigma=15, angle=angle), 0, 255)
    pair = _moved(photographs[2], 5, angle), expected.astype(np.uint8)
    assert_parity("motion_blur", 5, f"at {angle} degrees", [pair])


def _moved(picture: Picture, severity: int, angle: float) -> Picture:
    blur = resources.import_file(REGISTRY.get("motion_blur").path)
    images = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None]
    function: Any = blur.apply_motion
    out = function(images, REGISTRY.get("motion_blur").strength(severity), [angle])
    return np.asarray(out[0].permute(1, 2, 0).numpy(), np.uint8)


SHARES = (1, 0.77, 0.6, 0.5, 0.4, 0.3, 0.25, 0.1, 0.03)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (33, 17), (240, 300), (199, 641)], ids=str)
def test_pixelate_is_pillows_on_every_device(size: tuple[int, int], photographs: list[Picture]) -> None:
    pixelate: Any = resources.import_file(REGISTRY.get("pixelate").path)
    picture = np.tile(photographs[1], (1, 2, 1))[: size[0], : size[1]]
    images = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].contiguous()
    for share in SHARES:
        small = [max(1, int(side * share)) for side in size]
        boxes = Image.fromarray(picture).resize(small[::-1], Image.Resampling.BOX)
        expected = np.array(boxes.resize(size[::-1], Image.Resampling.NEAREST))
        ours = pixelate.pixelated_bytes(images, *small)[0].permute(1, 2, 0).numpy()
        assert np.array_equal(ours, expected), share
        elsewhere = pixelate.pixelated(images, *small)[0].permute(1, 2, 0).numpy()
        # Pillow's weights are whole numbers over 2^22.
        assert abs(elsewhere.astype(int) - expected).max() <= 1


def test_motion_blur_draws_its_angle_as_the_reference_does() -> None:
    blur = resources.import_file(REGISTRY.get("motion_blur").path)
    angles = blur.draw_angles(BatchRng(range(2000)))
    assert stats.kstest(angles, stats.uniform(-45, 90).cdf).pvalue > 1e-6


@severities
@pytest.mark.parametrize("corruption", NOISES, ids=lambda c: c.name)
def test_noise_has_the_references_law(
    corruption: Corruption, severity: int, pictures: list[Picture], record_parity: Callable[..., None]
) -> None:
    clean = pictures[severity % len(pictures)][:300, :450]
    a = ours(corruption, clean, severity)
    b = seeded_reference(corruption.name, clean, severity, seed=severity)
    x, y, z = (picture.astype(float) for picture in (a, b, clean))
    found = {
        "mean": _z(x - y),
        "variance": _z((x - z) ** 2 - (y - z) ** 2),
        "histogram": max(0.0, *(_histograms_apart(a[..., c], b[..., c]) for c in range(3))),
        "channels": max(
            (_z((x - y)[..., i] * (x - y)[..., j]) for i, j in combinations(range(3), 2)), key=abs
        ),
        "spectrum": max(_largest_lag((x - y)[..., c]) for c in range(3)),
    }
    text = ", ".join(f"{abs(value):.1f}" for value in found.values())
    record_parity(corruption.name, severity, "law", text)
    assert all(abs(value) < (6.5 if key == "spectrum" else 5) for key, value in found.items()), found


def _histograms_apart(a: Picture, b: Picture) -> float:
    """Squared distance of two histograms, in its standard deviations above its mean."""
    counts = [np.bincount(picture.ravel(), minlength=256) for picture in (a, b)]
    both = counts[0] + counts[1]
    met = both > 0
    distance = ((counts[0] - counts[1])[met] ** 2 / both[met]).sum()
    return float((distance - met.sum()) / np.sqrt(2 * met.sum()))


def _largest_lag(differences: NDArray[np.float64]) -> float:
    """The largest z of an autocorrelation at any lag but 0, around the edges."""
    products, squares = (
        np.fft.irfft2(abs(np.fft.rfft2(plane)) ** 2, plane.shape) for plane in (differences, differences**2)
    )
    z = abs(products) / np.sqrt(np.maximum(squares, 1))
    return float(z.ravel()[1:].max())


def _z(differences: NDArray[np.float64]) -> float:
    return float(differences.mean() / (differences.std() / np.sqrt(differences.size)))


@pytest.mark.parametrize("severity", [0.2, 1, 2.5, 3, 5])
@pytest.mark.parametrize("level", [0, 3, 77, 128, 255])
def test_shot_noise_is_poisson(severity: float, level: int) -> None:
    """Counts of shown bytes against the Poisson law: chi-squared over bytes expected 10 times or more."""
    shot = REGISTRY.get("shot_noise")
    photons = shot.strength(severity)["photons"]
    shown = ours(shot, np.full((200, 200, 3), level, np.uint8), severity)
    counts = np.arange(0, 3 * int(photons) + 60)
    bytes_of = (np.minimum(counts / photons, 1) * 255).astype(int)
    mass = np.bincount(bytes_of, stats.poisson(level / 255 * photons).pmf(counts), minlength=256)
    expected, seen = mass * shown.size, np.bincount(shown.ravel(), minlength=256)
    assert not seen[expected < 1e-9].any()
    often = expected >= 10
    distance = ((seen - expected)[often] ** 2 / expected[often]).sum()
    assert distance < often.sum() + 5 * np.sqrt(2 * often.sum())


@pytest.mark.parametrize("severity", [1, 3.5, 5])
def test_impulse_noise_is_half_salt_half_pepper(severity: float) -> None:
    impulse = REGISTRY.get("impulse_noise")
    amount = impulse.strength(severity)["amount"]
    noisy = ours(impulse, np.full((300, 300, 3), 100, np.uint8), severity)
    for value in (0, 255):
        deviation = np.sqrt(amount / 2 * (1 - amount / 2) / noisy.size)
        assert abs((noisy == value).mean() - amount / 2) < 5 * deviation
    assert set(np.unique(noisy)) == {0, 100, 255}


def test_the_imgaug_engine_is_the_reference(photographs: list[Picture]) -> None:
    picture = photographs[2]
    for name in ("gaussian_blur", "defocus_blur", "jpeg_compression", "pixelate", "contrast"):
        assert np.array_equal(seeded_reference(name, picture, 2, seed=0), reference(picture, 2, name))
