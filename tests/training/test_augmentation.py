"""Noise as augmentation: drawn from the seed alone, half of the images, recorded."""

import pytest
import torch
from torch import Tensor

from robustbench_sgdm import corruption
from robustbench_sgdm.training.augmentation import CorruptionAugmentation


@pytest.fixture
def pictures() -> Tensor:
    return torch.randint(
        0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def noise(*names: str) -> CorruptionAugmentation:
    return CorruptionAugmentation(tuple(corruption.load_corruptions().select(names or ("noise",))))


def touched(before: Tensor, after: Tensor) -> list[bool]:
    return [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]


def test_about_half_of_the_images_change_and_the_input_does_not(pictures: Tensor) -> None:
    before = pictures.clone()
    after = noise()(pictures, seed=0, epoch=0, batch=0)
    assert torch.equal(pictures, before)
    assert (after.shape, after.dtype) == (pictures.shape, torch.uint8)
    assert 20 <= sum(touched(pictures, after)) <= 44  # 64 draws of one half: three standard deviations


def test_draws_follow_from_seed_epoch_batch_and_rank_alone(pictures: Tensor) -> None:
    place = {"seed": 1, "epoch": 2, "batch": 3, "rank": 0}
    torch.rand(5)
    first, again = (noise()(pictures, **place) for _ in range(2))
    assert torch.equal(first, again)
    for key in place:
        assert not torch.equal(first, noise()(pictures, **{**place, key: place[key] + 1}))


def test_every_corruption_takes_its_turn_at_many_severities(pictures: Tensor) -> None:
    grey = torch.full_like(pictures, 128)
    out = noise("brightness")(grey, seed=0, epoch=0, batch=0).float().mean((1, 2, 3))
    assert len({round(float(value), 1) for value in out if value > 128.5}) > 10
    assert len(noise().metadata()["corruptions"]) == len(noise().corruptions) > 1


def test_a_fixed_strength_is_used_as_it_is(pictures: Tensor) -> None:
    fixed = noise("gaussian_noise[sigma=0.2]")
    after = fixed(torch.full_like(pictures, 128), seed=0, epoch=0, batch=0).float() / 255
    spread = [float(image.std()) for image in after if image.std() > 0]
    assert all(value == pytest.approx(0.2, rel=0.1) for value in spread) and spread
