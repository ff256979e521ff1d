"""Attention blocks that SGDM is compared with: CBAM in two forms, and coordinate attention.

Shapes below: B samples, c channels, maps of H x W. All return their input, scaled.
"""

from __future__ import annotations

import torch
from timm.layers.cbam import CbamModule
from timm.layers.coord_attn import CoordAttn
from torch import Tensor, nn

from robustbench_sgdm.modules.checks import check_odd, check_positive


class WooCBAM(CbamModule):
    """CBAM as published (Woo et al. 2018), timm's `CbamModule`; (B, c, H, W) -> (B, c, H, W).

    Equations (1), (2): channel attention sigmoid(MLP(GAP(x)) + MLP(GMP(x))), with c / ratio channels inside
    and no bias; then spatial attention sigmoid(BN(conv k x k)) of the mean and the maximum over channels.

    Args:
        channels: c.
        ratio: reduction in the MLP.
        kernel_size: k, odd.
    """

    def __init__(self, channels: int, ratio: int = 16, kernel_size: int = 7) -> None:
        check_positive(channels=channels, ratio=ratio)
        check_odd(kernel_size=kernel_size)
        super().__init__(channels, rd_ratio=1 / ratio, spatial_kernel_size=kernel_size)


class UltralyticsCBAM(nn.Module):
    """Ultralytics' own CBAM, (B, c, H, W) -> (B, c, H, W); it fits the SGDM paper's table 2 where Woo's does not.

    It differs from Woo's: the channel attention has no maximum, and one c x c layer with bias for the MLP; the
    spatial attention has no BatchNorm. Written out because only detectors may import ultralytics.

    Args:
        channels: c.
        kernel_size: k, odd.
    """

    def __init__(self, channels: int, kernel_size: int = 7) -> None:
        super().__init__()
        check_positive(channels=channels)
        check_odd(kernel_size=kernel_size)
        self.fc = nn.Conv2d(channels, channels, 1)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels, then the places, of x (B, c, H, W)."""
        x = x * torch.sigmoid(self.fc(x.mean((2, 3), keepdim=True)))
        pooled = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)
        return x * torch.sigmoid(self.conv(pooled))


class CoordinateAttention(CoordAttn):
    """Coordinate attention, CA (Hou et al. 2021), timm's `CoordAttn`; (B, c, H, W) -> (B, c, H, W).

    Equations (4) to (8): the means over rows and over columns, joined, go through one 1x1 convolution with
    BatchNorm and h-swish to max(8, c / reduction) channels, then each through its own and a sigmoid.

    Args:
        channels: c.
        reduction: of the channels inside.
    """

    def __init__(self, channels: int, reduction: int = 32) -> None:
        check_positive(channels=channels, reduction=reduction)
        super().__init__(channels, rd_channels=max(8, channels // reduction), bias=True)
