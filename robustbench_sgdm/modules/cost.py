"""What one SGDM costs, in closed form from its layer shapes, without building it.

The closed form also prices sizes that cannot be built, such as table 6's razor 0.75: its split is 0.375, and
three branches of 0.375 do not fit into equation (8).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

CountingRule = Literal["paper", "full"]
Spatial = Literal["shared", "channel"]
Cheap = Literal["depthwise", "pointwise"]

# thop 0.1.1: subtract, divide, scale and shift, each one operation per element of an affine BatchNorm.
_NORM_OPERATIONS = 4


class ModuleCost(NamedTuple):
    """Parameters and multiply-accumulates (MACs) of a module for a whole batch, both plain counts."""

    params: int
    macs: int


def channel_count(channels: int, ratio: float) -> int:
    """Whole channels in `ratio` of `channels`, rounded down so that three shares of a third always fit."""
    return int(channels * ratio + 1e-9)


def sgdm_cost(
    channels: int,
    height: int,
    width: int,
    batch: int = 1,
    split: float = 0.25,
    razor: float = 0.5,
    *,
    strip: int = 15,
    kernels: int = 4,
    static: int = 9,
    hidden: int | None = None,
    spatial: Spatial = "shared",
    cheap: Cheap = "depthwise",
    rule: CountingRule = "paper",
) -> ModuleCost:
    """Cost of one SGDM on a (batch, channels, height, width) tensor; the options are those of `SGDM`.

    `rule="paper"` is what thop 0.1.1 counts and the paper's table 6 prints (with split = razor / 2): only the
    layers that are modules, neither the kernel bank's parameters nor the convolution with computed kernels.
    `rule="full"` adds both, and the mixing of the bank: its parameters are those a module really holds. The
    guide, which depends on no input, is free.
    """
    n = channel_count(channels, split)
    m = channel_count(n, razor)
    hidden = n if hidden is None else hidden
    maps = static if spatial == "shared" else static * m
    pixels = batch * height * width
    layers = (  # (weights, positions each weight is used at)
        (2 * static * n * n, pixels),
        (n * m, pixels),
        ((static if cheap == "depthwise" else m) * (n - m), pixels),
        (strip * n * maps, batch * width),
        (strip * n * maps, batch * height),
        (n * hidden + hidden * kernels, batch),
    )
    params = sum(weights for weights, _ in layers) + kernels + 2 * channels
    macs = sum(weights * positions for weights, positions in layers) + _NORM_OPERATIONS * channels * pixels
    if rule == "full":
        kernel = static * m * m
        params += kernels * kernel
        macs += kernel * pixels + batch * kernels * kernel
    return ModuleCost(params, macs)
