"""RDConv's parts against explicit loops: both convolution forms, the guide's fit, cheap branch, attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from robustbench_sgdm.modules import RDConv
from robustbench_sgdm.modules.dynamic import per_sample_conv
from robustbench_sgdm.modules.rdconv import resize_guide

SMALLEST_NORMAL_HALF = 2.0**-14


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 4),
    widths=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    side=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.sampled_from([1, 3, 5]),
    biased=st.booleans(),
)
def test_both_forms_convolve_each_sample_with_its_own_kernels(
    batch: int, widths: tuple[int, int], side: tuple[int, int], size: int, biased: bool
) -> None:
    y, kernels = normal(batch, widths[0], *side), normal(batch, widths[1], widths[0], size, size, seed=1)
    bias = normal(widths[1], seed=2) if biased else None
    expected = torch.cat(
        [F.conv2d(one[None], kernel, bias, padding="same") for one, kernel in zip(y, kernels, strict=True)]
    )
    for sliced in (False, True):
        torch.testing.assert_close(per_sample_conv(y, kernels, bias, sliced), expected, atol=1e-5, rtol=1e-5)
    turned = per_sample_conv(y.contiguous(memory_format=torch.channels_last), kernels, bias)
    if widths[0] > 1:  # of a single channel there is no telling
        assert turned.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(turned, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("n", "m"), [(4, 4), (4, 2), (8, 2), (6, 1)])
def test_guide_is_the_mean_over_channel_groups_times_q(n: int, m: int) -> None:
    guide, q = normal(n, n, 3, 3), n // m
    fitted = resize_guide(guide, n, m)
    assert fitted.shape == (m, m, 3, 3)
    for a in range(m):
        for b in range(m):
            for u in range(3):
                for v in range(3):
                    group = [guide[a * q + i, b * q + j, u, v].item() for i in range(q) for j in range(q)]
                    assert fitted[a, b, u, v].item() == pytest.approx(q * sum(group) / q**2, abs=1e-6)


def test_guide_keeps_its_standard_deviation() -> None:
    guide = normal(96, 96, 3, 3)
    for m in (96, 48, 32, 12):
        assert resize_guide(guide, 96, m).std().item() == pytest.approx(guide.std().item(), rel=0.05)


def test_guide_groups_share_border_channels_by_area() -> None:
    guide = normal(3, 3, 1, 1)
    weights = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]]) / 1.5
    expected = 1.5 * weights @ guide[:, :, 0, 0] @ weights.T
    torch.testing.assert_close(resize_guide(guide, 3, 2)[:, :, 0, 0], expected)


@pytest.mark.parametrize("razor", [0.25, 0.4, 0.5, 0.75])
def test_cheap_output_j_reads_intrinsic_channel_floor_j_m_over_rest(razor: float) -> None:
    conv = RDConv(12, razor)
    m, rest = conv.intrinsic, 12 - conv.intrinsic
    x = normal(1, 12, 5, 5)
    intrinsic = conv.razor(x)
    for j in range(rest):
        output = conv(x)[:, m + j]
        read = intrinsic[:, j * m // rest][:, None]
        assert conv.cheap is not None
        torch.testing.assert_close(output, F.conv2d(read, conv.cheap.weight[j][None], padding=1)[:, 0])


@pytest.mark.parametrize("razor", [0.3, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("cheap", ["depthwise", "pointwise"])
@pytest.mark.parametrize("spatial", ["shared", "channel"])
def test_every_option_keeps_the_shape_and_both_forms_agree(razor: float, cheap: Any, spatial: Any) -> None:
    conv = RDConv(10, razor, kernels=3, strip=7, hidden=6, kernel_size=5, spatial=spatial, cheap=cheap)
    x = normal(2, 10, 7, 13)
    eager = conv(x)
    assert eager.shape == x.shape
    conv.export = True
    torch.testing.assert_close(conv(x), eager, atol=1e-5, rtol=1e-5)


def test_channel_spatial_attention_differs_between_intrinsic_channels() -> None:
    conv = RDConv(8, spatial="channel")
    spatial = conv.attention(normal(2, 8, 6, 6)).spatial
    assert spatial.shape == (2, 4, 3, 3)
    assert (spatial[:, 0] != spatial[:, 1]).any()


def test_attention_has_its_shapes_and_ranges_and_float32() -> None:
    conv = RDConv(8).to(torch.bfloat16)
    kernel, spatial = conv.attention(normal(3, 8, 6, 9).to(torch.bfloat16))
    assert (kernel.shape, spatial.shape) == ((3, 4), (3, 3, 3))
    assert kernel.dtype == spatial.dtype == torch.float32
    assert kernel.min() > 0 and kernel.max() < 1
    assert spatial.min() > 0 and spatial.max() < 2


def test_spatial_attention_sees_more_than_the_global_mean() -> None:
    conv = RDConv(8)
    x = 5 * normal(1, 8, 8, 8)
    shuffled = x.flatten(2)[:, :, torch.randperm(64, generator=torch.Generator().manual_seed(3))].view_as(x)
    before, after = conv.attention(x), conv.attention(shuffled)
    torch.testing.assert_close(before.kernel, after.kernel)
    assert (before.spatial - after.spatial).abs().max() > 1e-3


def test_forward_keeps_no_state() -> None:
    conv = RDConv(10, 0.4)
    before = {name: value.clone() for name, value in conv.named_buffers()}
    keys = set(vars(conv))
    conv(normal(2, 10, 5, 5))
    assert set(vars(conv)) == keys
    assert all(torch.equal(value, before[name]) for name, value in conv.named_buffers())


def test_kernels_are_built_in_float32_under_autocast() -> None:
    conv = RDConv(8, guided=True)
    attention, guide = conv.attention(normal(2, 8, 5, 5)), normal(8, 8, 3, 3)
    plain = conv.dynamic_kernels(attention, guide)
    with torch.autocast("cpu", torch.bfloat16):
        cast = conv.dynamic_kernels(attention, guide)
    assert cast.dtype == torch.float32
    assert torch.equal(cast, plain)


@pytest.mark.parametrize("guided", [False, True])
def test_initial_kernels_have_unit_gain_and_no_half_precision_subnormals(guided: bool) -> None:
    conv = RDConv(64, guided=guided)
    guide = normal(64, 64, 3, 3) * (2 / (64 * 9)) ** 0.5 if guided else None
    kernels = conv.dynamic_kernels(conv.attention(normal(2, 64, 8, 8)), guide)
    fan_in = 64 * 9 if guided else 32 * 9
    assert kernels.std().item() == pytest.approx(fan_in**-0.5, rel=0.25)
    assert (kernels.abs() < SMALLEST_NORMAL_HALF).float().mean() < 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels is 0: it must be at least 1"),
        ({"razor": 0}, r"razor is 0: .* \(0, 1\]"),
        ({"razor": 1.5}, r"razor is 1.5: .* \(0, 1\]"),
        ({"razor": 0.05}, "razor 0.05 .* width 8 .* take razor >= 0.125 or a width of at least 20"),
        ({"kernels": 0}, "kernels is 0: it must be at least 1"),
        ({"hidden": -2}, "hidden is -2: it must be at least 1"),
        ({"strip": 14}, "strip is 14: it must be odd and positive; take 15"),
        ({"strip": -3}, "strip is -3: .* take 1"),
        ({"kernel_size": 4}, "kernel_size is 4: it must be odd"),
        ({"spatial": "row"}, "spatial is 'row': it must be one of 'shared', 'channel'"),
        ({"cheap": "free"}, "cheap is 'free': it must be one of 'depthwise', 'pointwise'"),
    ],
)
def test_bad_options_name_value_bound_and_remedy(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RDConv(**{"channels": 8, **options})
