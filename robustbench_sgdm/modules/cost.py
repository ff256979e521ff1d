"""What one SGDM costs, in closed form from its layer shapes, without building it.

The closed form also prices sizes that cannot be built, such as table 6's razor 0.75: its split is 0.375, and
three branches of 0.375 do not fit into equation (8).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from robustbench_sgdm.modules.options import SGDMOptions, channel_count

CountingRule = Literal["paper", "full"]

# thop 0.1.1: subtract, divide, scale and shift, each one operation per element of an affine BatchNorm.
_NORM_OPERATIONS = 4


class ModuleCost(NamedTuple):
    """Parameters and multiply-accumulates (MACs) of a module for a whole batch, both plain counts."""

    params: int
    macs: int


def sgdm_cost(
    shape: tuple[int, int, int, int], options: SGDMOptions = SGDMOptions(), rule: CountingRule = "paper"
) -> ModuleCost:
    """Cost of one SGDM on a tensor of shape (batch, channels, height, width).

    `rule="paper"` is what thop 0.1.1 counts and the paper's table 6 prints (with split = razor / 2): only the
    layers that are modules, neither the kernel bank's parameters nor the convolution with computed kernels.
    `rule="full"` adds both, and the mixing of the bank: its parameters are those a module really holds. The
    guide, which depends on no input, is free.
    """
    batch, channels, height, width = shape
    strip, kernels, static = options.strip, options.kernels, options.static
    n = channel_count(channels, options.split)
    m = channel_count(n, options.razor)
    hidden = n if options.hidden is None else options.hidden
    maps = static if options.spatial == "shared" else static * m
    pixels = batch * height * width
    layers = (  # (weights, positions each weight is used at)
        (2 * static * n * n, pixels),
        (n * m, pixels),
        ((static if options.cheap == "depthwise" else m) * (n - m), pixels),
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
