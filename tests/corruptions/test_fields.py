"""Random corruptions against the reference: given its own random field, and drawing their own.

The reference seeds NumPy's global generator, so a `RandomState` of the same seed draws the field that it
draws. Given that, ours must be within a level on 99.9 % of the values. (Snow may be further off elsewhere:
a flake whose level lies within a rounding of the threshold is there or is not.)

The draws themselves are tested against the law that the reference states, and the squared errors of many
seeds against the reference's: of two samples of one law, the difference of the means over its standard
error is about standard normal, and 5 bounds it.
"""

from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import imagecorruptions.corruptions
import numpy as np
import pytest
import torch
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from robustbench_sgdm.core import resources
from robustbench_sgdm.core.constants import BENCHMARK, HOLDOUT
from robustbench_sgdm.core.seeding import BatchRng
from robustbench_sgdm.corruption import apply_corruption, filters, load_corruptions
from robustbench_sgdm.corruption.filters import zoom_sizes
from robustbench_sgdm.corruption.imgaug_engine import corrupt as reference

Picture = NDArray[np.uint8]
Strength = Mapping[str, float]
Applied = Callable[[Any, Tensor, Strength, RandomState], Tensor]
REGISTRY = load_corruptions()
severities = pytest.mark.parametrize("severity", range(1, 6))


def module(name: str) -> ModuleType:
    return resources.import_file(REGISTRY.get(name).path)


def tensor(picture: Picture) -> Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].contiguous()


def floats(field: NDArray[np.float64]) -> Tensor:
    """A field of one image as a batch."""
    return torch.from_numpy(field.astype(np.float32))[None]


class _Drawn(BatchRng):
    """Draws a given standard normal field."""

    def __init__(self, field: Tensor) -> None:
        super().__init__([0])
        self.field = field

    def normal(self, *shape: int) -> Tensor:
        assert self.field.shape[1:] == shape
        return self.field.clone()


def _noise(function: Any, images: Tensor, strength: Strength, state: RandomState) -> Tensor:
    channels, height, width = images.shape[1:]
    field = state.normal(size=(height, width, channels)).transpose(2, 0, 1)
    filters._COMPILED = (
        False  # the form that asks for normal draws; `test_devices.py` holds the other one to it
    )
    try:
        out: Tensor = function(images, strength, _Drawn(floats(field)))
    finally:
        filters._COMPILED = True
    return out


def gaussian_noise(ours: Any, images: Tensor, strength: Strength, state: RandomState) -> Tensor:
    return _noise(ours.gaussian_noise, images, strength, state)


def speckle_noise(ours: Any, images: Tensor, strength: Strength, state: RandomState) -> Tensor:
    return _noise(ours.speckle_noise, images, strength, state)


def elastic_transform(ours: Any, images: Tensor, strength: Strength, state: RandomState) -> Tensor:
    field: Tensor = ours.apply_field(images, strength, floats(state.uniform(-1, 1, (2, *images.shape[2:]))))
    return field


def fog(ours: Any, images: Tensor, strength: Strength, state: RandomState) -> Tensor:
    draws = floats(state.uniform(-1, 1, ours.map_side(images) ** 2 - 1))
    out: Tensor = ours.apply_fog(images, strength, draws)
    return out


def frost(ours: Any, images: Tensor, strength: Strength, state: RandomState) -> Tensor:
    height, width = images.shape[2:]
    number = state.randint(6)
    high, wide = ours.frost_size(number, height, width)
    cut = (number, state.randint(0, high - height), state.randint(0, wide - width))
    out: Tensor = ours.apply_frost(images, strength, [cut])
    return out


def glass_blur(ours: Any, images: Tensor, strength: Strength, state: RandomState) -> Tensor:
    delta, passes = int(strength["delta"]), int(strength["iterations"])
    size = [side - 2 * delta for side in images.shape[2:]]
    steps = state.randint(-delta, delta, size=(passes, *size, 2))[:, ::-1, ::-1] + delta  # it goes backwards
    moves = torch.from_numpy(steps[..., 0] * 2 * delta + steps[..., 1])[None]
    out: Tensor = ours.apply_moves(images, strength, moves)
    return out


def snow(ours: Any, images: Tensor, strength: Strength, state: RandomState) -> Tensor:
    height, width = images.shape[2:]
    field, angle = state.normal(size=(height, width)), state.uniform(-135, -45)
    high, wide = (zoom_sizes(side, strength["size"])[0] for side in (height, width))
    top, left = (height - high) // 2, (width - wide) // 2
    part = floats(field[top : top + high, left : left + wide])
    out: Tensor = ours.apply_snow(images, strength, part, [angle])
    return out


def spatter(ours: Any, images: Tensor, strength: Strength, state: RandomState) -> Tensor:
    out: Tensor = ours.apply_spatter(
        images, strength, state.normal(size=images.shape[2:]).astype(np.float32)[None]
    )
    return out


FIELDS: dict[str, Applied] = {
    function.__name__: function
    for function in (
        *(gaussian_noise, glass_blur, snow, frost, fog),
        *(elastic_transform, speckle_noise, spatter),
    )
}
each = pytest.mark.parametrize("name", FIELDS)


def test_every_random_corruption_of_coco_c_is_compared() -> None:
    # Ours take a byte's outcome from one number, where the reference counts photons or draws a mask and a coin:
    # no field of its serves ours. Their laws are known exactly and tested in `test_parity.py`, as is motion blur.
    elsewhere = {"shot_noise", "impulse_noise", "motion_blur"}
    published = {c.name for c in REGISTRY if c.random and c.name in (*BENCHMARK, *HOLDOUT)}
    assert published == elsewhere | set(FIELDS)


@pytest.fixture
def _plain_glass(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the reference's compiled loop run as Python, where NumPy's generator serves it."""
    compiled = imagecorruptions.corruptions._shuffle_pixels_njit_glass_blur
    monkeypatch.setattr(imagecorruptions.corruptions, "_shuffle_pixels_njit_glass_blur", compiled.py_func)
    yield


@each
@severities
@pytest.mark.usefixtures("_plain_glass")
def test_the_references_field_gives_the_references_pixels(
    name: str, severity: int, pictures: list[Picture], assert_parity: Callable[..., None]
) -> None:
    corner = (slice(40, 120), slice(60, 160)) if name == "glass_blur" else (slice(280), slice(400))
    seed, pairs = 10 * severity, []
    for picture in (pictures[severity % 4][corner], *(p[corner] for p in pictures[4:])):
        strength, state = REGISTRY.get(name).strength(severity), RandomState(seed)
        out = FIELDS[name](module(name), tensor(picture), strength, state)
        pairs.append((out[0].permute(1, 2, 0).numpy(), reference(name, picture, severity, seed)))
    assert_parity(name, severity, "pixels, from its field", pairs)


@each
@pytest.mark.parametrize("severity", [2, 5])
def test_own_draws_do_as_much_damage(name: str, severity: int, photographs: list[Picture]) -> None:
    clean = photographs[1][100:196, 150:278].astype(float)
    picture = clean.astype(np.uint8)
    ours = apply_corruption(
        REGISTRY.get(name), tensor(picture).repeat(24, 1, 1, 1), severity, seed=0, image_ids=range(24)
    )
    theirs = [reference(name, picture, severity, seed) for seed in range(24)]
    a, b = (
        np.array([((noisy - clean) ** 2).mean() for noisy in pictures])
        for pictures in (ours.permute(0, 2, 3, 1).double().numpy(), theirs)
    )
    assert abs(a.mean() - b.mean()) < 5 * np.sqrt((a.var() + b.var()) / len(a)), (a.mean(), b.mean())


def test_glass_blur_draws_every_move_alike() -> None:
    strength = REGISTRY.get("glass_blur").strength(5)
    images = torch.zeros(2, 3, 108, 128, dtype=torch.uint8)
    moves = module("glass_blur")._draw_moves(images, strength, BatchRng([1, 2]))
    assert moves.shape == (2, 2, 100, 120)
    assert stats.chisquare(np.bincount(moves.flatten().numpy(), minlength=64)).pvalue > 1e-6


def test_frost_draws_every_texture_and_place_alike() -> None:
    weather: Any = module("frost")
    cuts = weather.draw_cuts(torch.zeros(1, 3, 200, 300, dtype=torch.uint8), BatchRng(range(3000)))
    numbers = np.array([number for number, _, _ in cuts])
    assert stats.chisquare(np.bincount(numbers, minlength=6)).pvalue > 1e-6
    for axis, side in ((1, 200), (2, 300)):
        places = [cut[axis] / (weather.frost_size(cut[0], 200, 300)[axis - 1] - side) for cut in cuts]
        assert stats.kstest(places, stats.uniform(0, 1).cdf).pvalue > 1e-6


def test_snow_falls_as_the_references() -> None:
    images = torch.zeros(1, 3, 40, 40, dtype=torch.uint8)
    strength = REGISTRY.get("snow").strength(3)
    fields, angles = module("snow")._draw_fall(images, strength, BatchRng(range(1000)))
    assert fields.shape == (1000, 10, 10)
    assert stats.kstest(angles, stats.uniform(-135, 90).cdf).pvalue > 1e-6
    assert stats.kstest(fields.flatten().numpy(), stats.norm.cdf).pvalue > 1e-6


def test_fog_wider_than_its_map_is_the_map_enlarged() -> None:
    ours: Any = module("fog")
    draws = BatchRng([1]).uniform(64**2 - 1, low=-1, high=1)[0]
    small, large = ours.cut_plasma(draws, 2.0, 25, 64), ours.cut_plasma(draws, 2.0, 99, 256)
    assert large.shape == (99, 256)
    torch.testing.assert_close(large[::4, ::4], small)
    assert large.min() >= 0
    assert large.max() <= 1
    assert ours.map_side(torch.empty(1, 3, 5, 10_000)) == 2048
