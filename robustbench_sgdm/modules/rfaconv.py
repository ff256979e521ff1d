"""RFAConv: receptive-field attention convolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_sgdm.modules.checks import check_odd, check_positive


class RFAConv(nn.Module):
    """Receptive-field attention convolution (Zhang et al. 2023), (B, c, H, W) -> (B, c, H, W).

    Equation (4): F = softmax(g1x1(AvgPool(x))) * relu(BN(g3x3(x))), both c -> 9 c in groups of one channel, the
    softmax over the 9 taps of a receptive field. Laid out as a map of 3H x 3W, F goes through a 3x3
    convolution of stride 3, BatchNorm and ReLU. The authors' code gives that convolution a bias.

    A 3x3 convolution of stride 3 on that layout is a 1x1 convolution of the 9 c channels, with the same
    weights reshaped, and is written so: the large map is never made.

    Args:
        channels: c.
        kernel_size: 3 above, odd.
    """

    def __init__(self, channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        check_positive(channels=channels)
        check_odd(kernel_size=kernel_size)
        self.taps = taps = kernel_size**2
        half, wide = kernel_size // 2, channels * taps
        self.pool = nn.AvgPool2d(kernel_size, stride=1, padding=half)
        self.weigh = nn.Conv2d(channels, wide, 1, groups=channels, bias=False)
        self.unfold = nn.Conv2d(channels, wide, kernel_size, padding=half, groups=channels, bias=False)
        self.bn_unfold = nn.BatchNorm2d(wide)
        self.conv = nn.Conv2d(wide, channels, 1)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (B, c, H, W)."""
        logits = self.weigh(self.pool(x)).unflatten(1, (-1, self.taps))
        weights = torch.softmax(logits, 2).flatten(1, 2)
        fields = F.relu(self.bn_unfold(self.unfold(x)))
        return F.relu(self.bn(self.conv(weights * fields)))
