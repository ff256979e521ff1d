"""The camera family against the physics that it states."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from robustbench_sgdm.core import resources
from robustbench_sgdm.core.seeding import BatchRng
from robustbench_sgdm.corruption import apply_corruption, load_corruptions

REGISTRY = load_corruptions()
SENSOR: Any = resources.import_file(REGISTRY.get("sensor_noise").path)
OPTICS: Any = resources.import_file(REGISTRY.get("hand_shake").path)


def grey(level: int, size: int = 200) -> torch.Tensor:
    return torch.full((1, 3, size, size), level, dtype=torch.uint8)


def light_of(images: torch.Tensor) -> NDArray[np.float64]:
    return np.asarray(SENSOR.linear_light()[images[0].numpy()], np.float64)


def test_bytes_survive_the_way_to_light_and_back() -> None:
    light = SENSOR.linear_light()
    assert (np.diff(light) > 0).all()
    assert (light[0], light[255]) == (0, 1)
    assert np.array_equal(SENSOR.tone_curve()[np.rint(light * (2**16 - 1)).astype(int)], np.arange(256))


@pytest.mark.parametrize("level", [60, 128, 190])
@pytest.mark.parametrize("iso", [800, 6400])
def test_noise_has_the_variance_of_photons_and_reading(level: int, iso: float) -> None:
    """Measured in raw: the mean is kept, and the variance is (raw n + 3^2) / n^2 for n electrons at white."""
    raw = torch.full((1, 300, 300), float(SENSOR.linear_light()[level]))
    noisy = SENSOR.expose(raw, iso, BatchRng([1])).double()
    white = 800_000 / iso
    expected = (raw[0, 0, 0].item() * white + 9) / white**2
    assert abs(noisy.mean().item() - raw[0, 0, 0].item()) < 5 * (expected / raw.numel()) ** 0.5
    assert noisy.var().item() == pytest.approx(expected, rel=5 * (3 / raw.numel()) ** 0.5)


def test_demosaicing_keeps_what_is_flat_and_what_is_measured() -> None:
    raw = torch.rand(2, 7, 10)
    for channel in range(3):
        assert torch.allclose(SENSOR.demosaic(torch.ones(1, 7, 10), channel), torch.ones(1, 7, 10))
        for one, rows, columns in SENSOR._PATTERN:
            if one == channel:
                assert torch.equal(SENSOR.demosaic(raw, channel)[:, rows, columns], raw[:, rows, columns])


def test_noise_is_coarse_and_strongest_where_the_white_balance_amplifies() -> None:
    out = apply_corruption(REGISTRY.get("sensor_noise"), grey(128), 2, seed=0, image_ids=[1])
    error = light_of(out) - SENSOR.linear_light()[128]
    red, green, blue = (plane.std() for plane in error)
    assert red > blue > green
    beside = [(plane[:, 1:] * plane[:, :-1]).mean() / plane.var() for plane in error]
    assert min(beside) > 0.2  # demosaiced: neighbours share their noise


def test_missing_light_is_in_stops() -> None:
    out = apply_corruption(REGISTRY.get("low_light[stops=2,iso=400]"), grey(190), 1, seed=0, image_ids=[1])
    assert light_of(out).mean((1, 2)) == pytest.approx([SENSOR.linear_light()[190] / 4] * 3, rel=0.01)


def test_bands_are_rows() -> None:
    out = apply_corruption(REGISTRY.get("banding"), grey(128), 3, seed=0, image_ids=[1]).float()
    assert out[0, 1, :, ::2].std(1).max() == 0  # within a row each kind of pixel is as bright
    assert out[0, 1].mean(1).std() > 5


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_bits_leave_as_many_levels(bits: int) -> None:
    ramp = torch.arange(256, dtype=torch.uint8).expand(1, 3, 4, 256).contiguous()
    out = apply_corruption(REGISTRY.get(f"bit_depth[bits={bits}]"), ramp, 1, seed=0, image_ids=[1])
    assert len(np.unique(out[0, 1].numpy())) == 2**bits  # green, which the white balance leaves as it is


def test_zernike_modes_are_orthonormal_over_the_pupil() -> None:
    modes = OPTICS.aberration_modes()[:, OPTICS.open_pupil()]
    gram = modes @ modes.T / modes.shape[1]
    assert abs(gram - np.eye(len(gram))).max() < 0.02


def test_a_spread_is_airys_disk_and_falls_by_marechals_law() -> None:
    modes = OPTICS.aberration_modes()
    ideal = OPTICS.point_spread(0 * modes[0], 0.55)
    assert ideal.sum() == pytest.approx(1)
    assert ideal.argmax() == ideal.size // 2
    for mode in modes:
        peak = OPTICS.point_spread(0.05 * mode, 0.55).max() / ideal.max()
        assert peak == pytest.approx(np.exp(-((2 * np.pi * 0.05) ** 2)), abs=0.04)


def test_convolution_is_direct_convolution() -> None:
    image = torch.randint(0, 256, (3, 9, 12), dtype=torch.uint8)
    kernels = torch.rand(3, 41, 41, dtype=torch.float64)
    out = OPTICS.convolve(image, kernels)
    rows, columns = OPTICS.mirrored_indices(9), OPTICS.mirrored_indices(12)
    padded = image[:, rows][:, :, columns].double()
    flipped = kernels.flip(1, 2)
    expected = [(padded[c, 4:45, 7:48] * flipped[c]).sum().item() for c in range(3)]
    assert out[:, 4, 7].tolist() == pytest.approx(expected)
    assert out.shape == image.shape


@pytest.mark.parametrize("length", [1, 40, 220])
def test_a_hands_path_is_as_long_as_it_says(length: float) -> None:
    taps = OPTICS.shake_path(BatchRng([7]).host_normal(64, 2)[0], length)
    assert sum(weight for _, _, weight in taps) == pytest.approx(1)
    places = np.array([(down, right) for down, right, _ in taps])
    assert np.hypot(*np.ptp(places, axis=0)) <= length + 1
    if length > 30:
        assert len(taps) > 10


def test_rows_of_a_rolling_shutter_move_as_a_whole() -> None:
    columns = torch.arange(200, dtype=torch.uint8).expand(1, 3, 64, 200).contiguous()
    out = apply_corruption(REGISTRY.get("rolling_shutter[sway=5]"), columns, 1, seed=0, image_ids=[3])
    moved = (out.int() - columns.int())[0, 0, :, 40:160]
    assert (moved.amax(1) - moved.amin(1)).max() <= 1
    assert 5 < moved.abs().max() <= 10  # px: 5 % of the width
