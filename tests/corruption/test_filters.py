"""The shared filters against direct computation."""

import numpy as np
import pytest
import torch
from scipy import fft, ndimage

from robustbench_sgdm.corruption.filters import (
    Border,
    apply_lut,
    correlate_separable,
    correlate_separable_torch,
    gaussian_kernel,
    low_pass,
    remap,
    sum_shifted,
    to_uint8,
    transpose,
    upscale,
    zoom_sizes,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 2), (40, 31)], ids=str)
@pytest.mark.parametrize(
    ("border", "scipy_mode"), [("replicate", "nearest"), ("reflect", "mirror"), ("symmetric", "reflect")]
)
def test_both_ways_to_filter_agree(size: tuple[int, int], border: Border, scipy_mode: str) -> None:
    images = torch.from_numpy(RNG.integers(0, 256, (2, 3, *size), dtype=np.uint8))
    terms = [(RNG.random(11, np.float32), RNG.random(7, np.float32)) for _ in range(2)]
    kernel = sum(np.outer(column, row) for column, row in terms)
    planes = images.flatten(0, 1).double().numpy()
    expected = np.stack([ndimage.correlate(plane, kernel, mode=scipy_mode) for plane in planes])
    for way in (correlate_separable, correlate_separable_torch):
        np.testing.assert_allclose(way(images, terms, border).flatten(0, 1).numpy(), expected, rtol=1e-5)


def test_shifts_repeat_the_edge() -> None:
    image = torch.arange(6.0).view(1, 2, 3)
    assert sum_shifted(image, [(0, 1, 1.0)]).tolist() == [[[0, 0, 1], [3, 3, 4]]]
    assert sum_shifted(image, [(-1, 0, 2.0), (0, 0, 1.0)]).tolist() == [[[6, 9, 12], [9, 12, 15]]]
    assert sum_shifted(image, [(0, -7, 1.0)]).tolist() == [[[2, 2, 2], [5, 5, 5]]]


def test_low_pass_removes_high_frequencies_and_keeps_low_ones() -> None:
    images = torch.from_numpy(RNG.integers(0, 256, (1, 3, 40, 60), dtype=np.uint8))
    spectrum = fft.dctn(low_pass(images, 0.2).double().numpy(), axes=(2, 3), norm="ortho")
    original = fft.dctn(images.double().numpy(), axes=(2, 3), norm="ortho")
    np.testing.assert_allclose(spectrum[..., :17, :25], original[..., :17, :25], atol=1e-3)
    assert np.abs(spectrum[..., 17:, :]).max() < 1e-3
    assert np.abs(spectrum[..., 25:]).max() < 1e-3
    torch.testing.assert_close(low_pass(images, 0.5), images.float())


def test_bytes_are_truncated_but_not_by_rounding_errors() -> None:
    levels = torch.tensor([-3, 0.9, 1.998, 254.9999, 300])
    assert to_uint8(levels).tolist() == [0, 0, 1, 255, 255]


def test_bytes_are_the_same_by_either_way() -> None:
    levels = torch.from_numpy(RNG.uniform(-50, 300, (2, 3, 50, 70)).astype(np.float32))
    expected = (levels + 1e-3).clamp(0, 255).to(torch.uint8)
    strided = levels.transpose(2, 3).contiguous().transpose(2, 3)  # what OpenCV is not given
    for given in (levels, strided):
        assert (to_uint8(given.clone(memory_format=torch.preserve_format)) != expected).sum() <= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (40, 31), (70, 20)], ids=str)
def test_displacement_reads_as_scipy_does(size: tuple[int, int]) -> None:
    image = torch.from_numpy(RNG.integers(0, 256, (2, *size), dtype=np.uint8))
    down, right = torch.from_numpy(RNG.uniform(-5, 5, (2, *size)).astype(np.float32))
    places = np.indices(size) + np.stack([down.numpy(), right.numpy()])
    expected = [
        ndimage.map_coordinates(p.astype(float), places, order=1, mode="reflect") for p in image.numpy()
    ]
    np.testing.assert_allclose(remap(image, down, right).numpy(), expected, atol=1e-3)


def test_displacement_may_be_given_for_rows_and_columns() -> None:
    image = torch.from_numpy(RNG.integers(0, 256, (3, 40, 30), dtype=np.uint8))
    down, right = torch.linspace(-2, 3, 40)[:, None], torch.linspace(-4, 1, 30)[None]
    full = remap(image, down.expand(40, 30).contiguous(), right.expand(40, 30).contiguous())
    assert torch.equal(remap(image, down, right), full)


@pytest.mark.parametrize("factor", [1, 1.11, 2.5, 4.5])
@pytest.mark.parametrize("size", [1, 2, 33, 480])
def test_zoomed_sides_cover_the_side_and_seldom_more(size: int, factor: float) -> None:
    part, enlarged = zoom_sizes(size, factor)
    assert part * factor >= size
    assert size <= enlarged <= size + factor
    planes = torch.from_numpy(RNG.random((1, part, 3), np.float32))
    larger = upscale(planes, (enlarged, 3))
    assert torch.equal(larger[:, 0], planes[:, 0])
    torch.testing.assert_close(larger[:, -1], planes[:, -1])


def test_tables_are_looked_up_by_image_and_channel() -> None:
    images = torch.from_numpy(RNG.integers(0, 256, (2, 3, 5, 7), dtype=np.uint8))
    tables = torch.from_numpy(RNG.integers(0, 256, (2, 3, 256), dtype=np.uint8))
    expected = tables.gather(2, images.flatten(2).long()).view(images.shape)
    assert torch.equal(apply_lut(images, tables), expected)


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (3, 4, 6), (2, 3, 7, 5)], ids=str)
def test_planes_are_turned(shape: tuple[int, ...]) -> None:
    planes = torch.from_numpy(RNG.random(shape, np.float32))
    assert torch.equal(transpose(planes), planes.transpose(-1, -2))
    assert transpose(planes).is_contiguous()


def test_gaussian_is_normalised_and_cut_off() -> None:
    assert gaussian_kernel(2.0).sum() == pytest.approx(1)
    assert len(gaussian_kernel(2.0)) == 17
    assert len(gaussian_kernel(2.0, truncate=3)) == 13
    assert gaussian_kernel(0.0).tolist() == [1]
