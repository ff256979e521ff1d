"""DCD (dynamic convolution decomposition), and SGDM with it in RDConv's place."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_sgdm.modules.checks import check_odd, check_positive
from robustbench_sgdm.modules.dynamic import (
    DynamicConv,
    fuse_affine_into_conv_,
    init_near_one_,
    per_sample_conv,
)
from robustbench_sgdm.modules.sgdm import StaticGuided, branch_width, square_side


class DCD(DynamicConv):
    """Dynamic convolution by matrix decomposition (Li et al. 2021), (B, n, H, W) -> (B, n, H, W).

    W(x) = Lambda(x) W_0 + P Phi(x) Q^T: a static k x k kernel with a dynamic factor for each output channel,
    and dynamic fusion of L = floor(sqrt(n)) latent channels at the kernel's centre. As in the authors' code,
    z = BN(Q^T x) is fused to z + BN(Phi z), and Lambda, Phi come from s = max(n, L^2) / 16 = n / 16 numbers,
    y = u h(V u) with u = U GAP(x): Phi = F_phi y and Lambda = h(F_lambda y), where h(t) = relu6(t + 3) / 3 is
    an h-sigmoid in [0, 2]. Nothing here needs a kernel for each sample but Phi.

    The guide multiplies W_0 (a choice): the fusion has one tap, and BatchNorms that are no part of a kernel.

    Args:
        channels: n.
        kernel_size: k, odd.
    """

    def __init__(self, channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        check_positive(channels=channels)
        check_odd(kernel_size=kernel_size)
        self.channels = channels
        self.latent = latent = math.isqrt(channels)
        squeeze = max(1, channels // 16)  # the authors' own would be 0 below 16 channels
        self.conv = GuidedConv2d(channels, channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.q = nn.Conv2d(channels, latent, 1, bias=False)
        self.p = nn.Conv2d(latent, channels, 1, bias=False)
        self.bn_q = nn.BatchNorm2d(latent)
        self.bn_phi = nn.BatchNorm2d(latent)
        self.fc = nn.Linear(channels, squeeze, bias=False)
        self.fc_gate = nn.Linear(squeeze, squeeze, bias=False)
        self.fc_phi = nn.Linear(squeeze, latent**2, bias=False)
        self.fc_scale = nn.Linear(squeeze, channels, bias=False)
        init_near_one_(self.conv.weight, total=1.0)
        for conv in (self.q, self.p):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Lambda (B, n, 1, 1) in [0, 2] and Phi (B, L, L)."""
        u = self.fc(x.mean((2, 3)))
        y = u * _h_sigmoid(self.fc_gate(u))
        scale, phi = _h_sigmoid(self.fc_scale(y)), self.fc_phi(y)
        return scale[..., None, None], phi.view(-1, self.latent, self.latent)

    def branches(self, x: Tensor, guide: Tensor | None = None) -> list[Tensor]:
        """As `DynamicConv.branches`: one part."""
        scale, phi = self.attention(x)
        z = self.bn_q(self.q(x))
        fused = self.bn_phi(per_sample_conv(z, phi[..., None, None], sliced=self._sliced())) + z
        return [self.conv(x, guide) * scale + self.p(fused)]

    @torch.no_grad()
    def fuse_affine_(self, guide: Tensor, scale: Tensor, shift: Tensor) -> None:
        """As `DynamicConv.fuse_affine_`."""
        self.conv.weight.mul_(guide * scale.view(-1, 1, 1, 1))
        fuse_affine_into_conv_(self.p, scale, shift)


class GuidedConv2d(nn.Conv2d):
    """A convolution whose kernel a guide multiplies; a layer, so that counters which watch layers see it."""

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """Convolve x (B, n, H, W); `guide` is of the weight's shape."""
        weight = self.weight if guide is None else (self.weight.float() * guide).to(self.weight.dtype)
        convolved: Tensor = self._conv_forward(x, weight, self.bias)
        return convolved


def _h_sigmoid(x: Tensor) -> Tensor:
    return F.relu6(x + 3) / 3


class SGDMDCD(StaticGuided):
    """SGDM with DCD in RDConv's place (table 3), (B, c, H, W) -> (B, c, H, W).

    Args:
        channels: c.
        split: share of c in each of three branches.
        static: length of the static strip kernels, the square of an odd number.
        gamma: first BatchNorm weight.
    """

    def __init__(self, channels: int, split: float = 0.25, static: int = 9, gamma: float = 1.0) -> None:
        conv = DCD(branch_width(channels, split), square_side(static))
        super().__init__(channels, conv, static, gamma)
