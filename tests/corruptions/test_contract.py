"""What every corruption of the registry keeps; a new one is tested without touching this file."""

import ctypes
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.corruption import Corruption, apply_corruption, load_corruptions

REGISTRY = load_corruptions()
SIZES = [(1, 1), (1, 7), (7, 1), (17, 33), (480, 640)]
each = pytest.mark.parametrize("corruption", REGISTRY.corruptions, ids=REGISTRY.names)
each_random = pytest.mark.parametrize("corruption", [c for c in REGISTRY if c.random], ids=lambda c: c.name)


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def tensor(*pictures: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


@pytest.fixture
def batch(photographs: list[NDArray[np.uint8]]) -> Tensor:
    """Four crops of different photographs (4, 3, 96, 128)."""
    return tensor(*(picture[100:196, 150:278] for picture in photographs))


@pytest.fixture
def large(photographs: list[NDArray[np.uint8]]) -> Tensor:
    """One photograph of 640 x 480 (1, 3, 480, 640)."""
    return tensor(np.pad(photographs[1], ((0, 80), (0, 40), (0, 0)), mode="symmetric"))


@each
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_shape_dtype_and_input_are_kept(corruption: Corruption, large: Tensor, size: tuple[int, int]) -> None:
    images = large[..., : size[0], : size[1]].contiguous()
    before = images.clone()
    for severity in (0.3, 5):
        out = apply_corruption(corruption, images, severity, seed=0, image_ids=[7])
        assert out.dtype == torch.uint8
        assert out.shape == images.shape
        assert torch.equal(images, before)


@each
def test_pixels_do_not_depend_on_the_batch(corruption: Corruption, batch: Tensor) -> None:
    ids = [11, 12, 13, 14]
    together = apply_corruption(corruption, batch, 3, seed=0, image_ids=ids)
    alone = [
        apply_corruption(corruption, batch[i : i + 1], 3, seed=0, image_ids=ids[i : i + 1]) for i in range(4)
    ]
    assert torch.equal(together, torch.cat(alone))
    turned = apply_corruption(corruption, batch.flip(0), 3, seed=0, image_ids=ids[::-1])
    assert torch.equal(together, turned.flip(0))
    beside = apply_corruption(
        corruption, torch.cat([255 - batch[1:], batch[:1]]), 3, seed=0, image_ids=[1, 2, 3, 11]
    )
    assert torch.equal(together[0], beside[3])


@each
def test_pixels_do_not_depend_on_threads_or_memory_layout(corruption: Corruption, large: Tensor) -> None:
    strided = large.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    for severity in (1, 5):
        with threads(1):
            one = apply_corruption(corruption, large, severity, seed=0, image_ids=[1])
        for count in (2, 3, 8):
            with threads(count):
                assert torch.equal(
                    one, apply_corruption(corruption, strided, severity, seed=0, image_ids=[1])
                )


@each
def test_severity_zero_is_the_identity_and_a_copy(corruption: Corruption, batch: Tensor) -> None:
    out = apply_corruption(corruption, batch, 0, seed=0, image_ids=range(4))
    assert torch.equal(out, batch)
    assert out.data_ptr() != batch.data_ptr()


@each
def test_severity_near_zero_is_near_the_identity(corruption: Corruption, batch: Tensor) -> None:
    out = apply_corruption(corruption, batch, 1e-4, seed=0, image_ids=range(4))
    assert (out.int() - batch.int()).abs().float().mean() < 3  # JPEG halves the chroma at any quality


@each
def test_damage_grows_with_severity(corruption: Corruption, photographs: list[NDArray[np.uint8]]) -> None:
    images = tensor(*[photographs[1][:256, 100:400]] * 8)
    severities = np.arange(0.5, 5.5, 0.5)
    damaged = [apply_corruption(corruption, images, float(s), seed=0, image_ids=range(8)) for s in severities]
    errors = [(out.double() - images).square().mean().item() for out in damaged]
    psnr = [10 * np.log10(255**2 / error) for error in errors]
    # 0.1 dB for the draws of eight images: snow's published strengths 2.5 and 3 do equal damage.
    assert all(a > b - 0.1 for a, b in pairwise(psnr)) and psnr[0] > psnr[-1] + 1, np.round(psnr, 2)


@each
def test_whole_severities_have_the_declared_strengths(corruption: Corruption) -> None:
    for parameter in corruption.parameters:
        assert corruption.strength(0)[parameter.name] == parameter.identity_value
        for severity, declared in enumerate(parameter.strengths, start=1):
            assert corruption.strength(severity)[parameter.name] == declared
        for severity in np.linspace(0.1, 4.9, 17):
            low, high = (parameter.interpolate(float(f(severity))) for f in (np.floor, np.ceil))
            assert min(low, high) <= corruption.strength(float(severity))[parameter.name] <= max(low, high)


@each_random
def test_seed_image_and_severity_give_other_pixels(corruption: Corruption, batch: Tensor) -> None:
    image = batch[:1]
    base = apply_corruption(corruption, image, 3, seed=0, image_ids=[1])
    assert torch.equal(base, apply_corruption(corruption, image, 3, seed=0, image_ids=[1]))
    assert not torch.equal(base, apply_corruption(corruption, image, 3, seed=1, image_ids=[1]))
    assert not torch.equal(base, apply_corruption(corruption, image, 3, seed=0, image_ids=[2]))
    assert not torch.equal(base, apply_corruption(corruption, image, 3.001, seed=0, image_ids=[1]))


@each
def test_only_those_that_say_so_are_random(corruption: Corruption, batch: Tensor) -> None:
    one, other = (apply_corruption(corruption, batch, 3, seed=seed, image_ids=range(4)) for seed in (0, 1))
    assert torch.equal(one, other) != corruption.random


@each
def test_global_random_state_is_not_used(corruption: Corruption, batch: Tensor) -> None:
    before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
    apply_corruption(corruption, batch, 3, seed=0, image_ids=range(4))
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state(legacy=False)["state"]["key"])  # noqa: NPY002


def test_a_spawned_process_gives_the_same_pixels(batch: Tensor) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = [
            pool.submit(apply_corruption, c, batch, 2.5, seed=3, image_ids=[4, 5, 6, 7]) for c in REGISTRY
        ]
        for corruption, future in zip(REGISTRY, there, strict=True):
            here = apply_corruption(corruption, batch, 2.5, seed=3, image_ids=[4, 5, 6, 7])
            assert torch.equal(here, future.result(timeout=600)), corruption.name


@each
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's account of memory")
def test_memory_is_bounded_by_the_batch(corruption: Corruption, large: Tensor) -> None:
    images = large.repeat(4, 1, 1, 1)
    for severity in (1, 5):
        # Fills what is kept for every batch.
        apply_corruption(corruption, large, severity, seed=0, image_ids=[0])
        ctypes.CDLL(None).malloc_trim(0)  # freed memory that is taken again would not count
        before = _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # begins the peak, VmHWM, anew
        apply_corruption(corruption, images, severity, seed=0, image_ids=range(4))
        assert _memory("VmHWM") - before < 12 * images.numel() * 4


def _memory(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


@each
@pytest.mark.parametrize("size", [(1, 10_000), (48, 10_000)], ids=str)
def test_panoramas_and_single_rows(corruption: Corruption, large: Tensor, size: tuple[int, int]) -> None:
    images = large[..., : size[0], :].repeat(1, 1, 1, 16)[..., : size[1]].contiguous()
    assert apply_corruption(corruption, images, 4, seed=0, image_ids=[7]).shape == images.shape


@each
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_keeps_the_contract(corruption: Corruption, batch: Tensor) -> None:
    there = batch.cuda()
    out = apply_corruption(corruption, there, 3, seed=0, image_ids=range(4))
    assert out.device == there.device
    alone = apply_corruption(corruption, there[1:2], 3, seed=0, image_ids=[1])
    assert torch.equal(out[1:2], alone)
    here = apply_corruption(corruption, batch, 3, seed=0, image_ids=range(4))
    apart = (out.cpu().int() - here.int()).abs()
    assert apart.max() <= 1 and (apart > 0).double().mean() <= 0.001
