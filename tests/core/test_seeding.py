"""Draws: known answers, both forms to the bit, their laws, and that nothing depends on anything else.

Levels: a chi-squared, Kolmogorov-Smirnov or normal test fails below a p-value of 1e-6; the seeds are fixed besides.
"""

import hashlib
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from robustbench_sgdm.core import philox, poisson
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.core.seeding import BatchRng, derive_seed

CPU = torch.device("cpu")
LEVEL = 1e-6


def test_the_words_are_those_of_random123() -> None:
    """Its file of known answers: philox 4x32 10, counter and key 0."""
    words = philox.host_words([0], 0, 4).view(np.uint32)[0]
    assert [f"{word:08x}" for word in words] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3), st.integers(0, 2**32 - 1), st.integers(1, 99)
)
def test_both_forms_give_the_same_words(keys: list[int], draw: int, count: int) -> None:
    by_tensors = philox.words_by_tensors(keys, draw, -(-count // 4), CPU)
    by_loop = philox.host_words(keys, draw, count)
    assert np.array_equal(by_tensors[:, :count].numpy(), by_loop)


@pytest.mark.slow
def test_both_forms_agree_on_a_hundred_million_words() -> None:
    for key in range(25):
        by_tensors = philox.words_by_tensors([key * 2**33 + 1], key, 10**6, CPU)
        assert np.array_equal(by_tensors.numpy(), philox.host_words([key * 2**33 + 1], key, 4 * 10**6))


def test_many_images_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(philox, "_AT_ONCE", 4)
    meta = philox.random_words([1, 2, 3], 0, 9, torch.device("meta"))
    assert meta.shape == (3, 9)


def test_counts_of_both_forms_agree() -> None:
    rates = torch.cat([torch.linspace(-1, 40, 4001), torch.logspace(0, 7, 999)])[None]
    words = BatchRng([5]).words(5000)
    table = torch.from_numpy(poisson.normal_quantiles())
    for _ in range(20):
        words = words.roll(77, 1)
        loop = poisson.poisson_counts(rates, words)
        assert torch.equal(loop, poisson.counts_by_tensors(rates, words, table))


@pytest.mark.parametrize("rate", [0, 0.01, 0.7, 3, 15.9, 16, 20, 55, 300, 4000])
def test_counts_have_poissons_law(rate: float) -> None:
    """Of the words' upper halves every one is tried, so that this is no sample: to 2e-5 of the distribution."""
    words = torch.arange(-(2**31), 2**31, 2**14, dtype=torch.int64).int()[None]
    counts = poisson.poisson_counts(torch.full(words.shape, float(rate)), words).numpy().astype(int)
    seen = np.cumsum(np.bincount(counts.ravel())) / counts.size
    assert abs(seen - stats.poisson(rate).cdf(np.arange(len(seen)))).max() < 3e-5


def test_the_table_of_quantiles_is_this_one() -> None:
    table = poisson.normal_quantiles()
    assert abs(table.astype(np.float64) - stats.norm.ppf((np.arange(2**16) + 0.5) / 2**16)).max() < 1e-4
    assert table.astype(np.float64).var() == pytest.approx(1, abs=1e-8)
    assert hashlib.sha256(table.tobytes()).hexdigest()[:16] == "8babbcaf96568f10"


@pytest.fixture(scope="module")
def streams() -> NDArray[np.float64]:
    """Uniform draws (16, 40,000): neighbouring images, severities, seeds and draws."""
    ids = [derive_seed(0, "fog", 3, image_id) for image_id in range(4)]
    severities = [derive_seed(0, "fog", severity, 9) for severity in (1, 2, 3.001, 3.002)]
    seeds = [derive_seed(seed, "fog", 3, 9) for seed in (0, 1, 2**31, 2**31 + 1)]
    rng = BatchRng([*ids, *severities, *seeds])
    first = rng.uniform(40_000)
    return torch.cat([first, rng.uniform(40_000)[:4]]).double().numpy()


def test_streams_are_uniform_and_white(streams: NDArray[np.float64]) -> None:
    for stream in streams:
        assert stats.kstest(stream, stats.uniform.cdf).pvalue > LEVEL
        counts = np.bincount((stream * 256).astype(int), minlength=256)
        assert stats.chisquare(counts).pvalue > LEVEL
        power = abs(np.fft.rfft(stream - 0.5)[1:-1]) ** 2 / (len(stream) / 12)  # exponential of mean 1
        assert stats.kstest(power, stats.expon.cdf).pvalue > LEVEL


def test_streams_do_not_depend_on_each_other(streams: NDArray[np.float64]) -> None:
    """The largest cross-correlation at any lag of any two: a maximum of 4.8 million normal numbers."""
    centred = np.fft.rfft((streams - 0.5) * np.sqrt(12))
    for one, other in combinations(centred, 2):
        lags = np.fft.irfft(one * other.conj()) / np.sqrt(streams.shape[1])
        assert abs(lags).max() < stats.norm.isf(LEVEL / (2 * streams.shape[1] * 120))


def test_channels_and_neighbours_do_not_depend_on_each_other() -> None:
    normal = BatchRng([3]).normal(3, 200, 201)[0].double().numpy()
    for shift in ((0, 1), (1, 0), (1, 1), (3, 7)):
        for one in normal:
            for other in normal:
                product = (one * np.roll(other, shift, (0, 1))).ravel()
                assert abs(product.sum()) < -stats.norm.ppf(LEVEL / 72) * np.sqrt(product.size)
    for one, other in combinations(normal, 2):
        assert abs((one * other).sum()) < -stats.norm.ppf(LEVEL) * np.sqrt(one.size)


def test_normal_draws_are_normal() -> None:
    draws = BatchRng([1, 2]).normal(100_000).double().numpy()
    for row in draws:
        assert stats.kstest(row, stats.norm.cdf).pvalue > LEVEL
        assert abs(row.mean()) < 5 / np.sqrt(row.size)
        assert abs(row.var() - 1) < 5 * np.sqrt(2 / row.size)
        assert abs((row**4).mean() - 3) < 5 * np.sqrt(96 / row.size)


def test_integers_are_alike_in_any_range() -> None:
    rng = BatchRng([1])
    assert stats.chisquare(np.bincount(rng.integers(-3, 4, 70_000).flatten() + 3)).pvalue > LEVEL
    wide = rng.integers(-5, 2**40, 50_000).double().numpy().ravel()
    assert stats.kstest(wide, stats.uniform(-5, 2.0**40).cdf).pvalue > LEVEL
    assert rng.integers(0, 2**63, 100).min() >= 0
    assert (rng.integers(7, 8, 5) == 7).all()
    for low, high in ((3, 3), (4, 2), (-(2**63), 2**63 - 1)):
        with pytest.raises(UsageError, match="cannot be drawn: give a range of 1 to 2"):
            rng.integers(low, high, 3)


def test_the_host_draws_what_the_device_draws() -> None:
    rng, host = BatchRng([4, 5]), BatchRng([4, 5])
    assert np.array_equal(rng.normal(3, 7).numpy(), host.host_normal(3, 7))
    # The host takes words as signed, so its halves of the range are the other way around; the device drops 8 bits.
    dropped = (host.host_uniform(9) + 0.5) % 1 - rng.uniform(9).double().numpy()
    assert (dropped >= 0).all() and (dropped < 2.0**-24).all()
    angles = BatchRng(range(4000)).host_uniform(1, -45, 45)
    assert stats.kstest(angles.ravel(), stats.uniform(-45, 90).cdf).pvalue > LEVEL


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5), (2, 3, 7)], ids=str)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_shapes(shape: tuple[int, ...], count: int) -> None:
    rng = BatchRng(range(count))
    for draw in (rng.words, rng.half_words, rng.normal, rng.uniform):
        assert draw(*shape).shape == (count, *shape)
    assert rng.integers(0, 5, *shape).shape == (count, *shape)
    assert rng.poisson(torch.ones(count, *shape)).shape == (count, *shape)


def test_an_image_draws_the_same_in_any_batch() -> None:
    together, alone = BatchRng([1, 2, 3]), BatchRng([2])
    for _ in range(3):
        assert torch.equal(together.normal(5, 7)[1:2], alone.normal(5, 7))
        assert torch.equal(together.integers(0, 9, 5)[1:2], alone.integers(0, 9, 5))
    assert not torch.equal(alone.normal(50), alone.normal(50))  # another draw, other numbers


def test_numpy_generators_are_the_images_own() -> None:
    one, other = BatchRng([1, 2]).numpy()
    assert one.random() != other.random()
    assert BatchRng([2]).numpy()[0].random() == BatchRng([1, 2]).numpy()[1].random()
