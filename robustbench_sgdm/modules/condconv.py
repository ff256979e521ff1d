"""CondConv, and SGDM with it in RDConv's place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustbench_sgdm.modules.dynamic import MixtureConv
from robustbench_sgdm.modules.sgdm import StaticGuidedMixture


class CondConv(MixtureConv):
    """Conditionally parameterised convolution (Yang et al. 2019), (B, n, H, W) -> (B, n, H, W).

    Equations (1), (2): the kernel is sum_k r_k W_k with the routing weights r = sigmoid(Linear(GAP(x))).
    The convolution is timm's `CondConv2d`, which has no guide and no dynamic batch when exported.

    Args:
        channels: n.
        kernels: K; 8 in its paper, 4 in SGDM's table 3.
        kernel_size: k, odd.
    """

    def __init__(self, channels: int, kernels: int = 4, kernel_size: int = 3) -> None:
        super().__init__(channels, kernels, kernel_size, total=kernels / 2)
        self.fc = nn.Linear(channels, kernels)

    def attention(self, x: Tensor) -> Tensor:
        """Routing weights (B, K) in (0, 1)."""
        return torch.sigmoid(self.fc(x.mean((2, 3))).float())


class SGDMCondConv(StaticGuidedMixture):
    """SGDM with CondConv in RDConv's place (table 3), (B, c, H, W) -> (B, c, H, W)."""

    dynamic_conv = CondConv
