"""SGDM: the static-guided dynamic module (equations (8) to (10)).

Shapes below: B samples, c channels, n = split x c in each of three branches, maps of H x W, k * k = static.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from robustbench_sgdm.modules.dynamic import DynamicConv, fuse_affine_into_conv_
from robustbench_sgdm.modules.options import SGDMOptions, channel_count, module_signature
from robustbench_sgdm.modules.rdconv import Attention, RDConv


def strip_to_square(weight: Tensor) -> Tensor:
    """Equation (10)'s psi: a strip kernel (o, i, k * k, 1) or (o, i, 1, k * k) as (o, i, k, k), row-major."""
    size = math.isqrt(weight[0, 0].numel())
    return weight.reshape(*weight.shape[:2], size, size)


class StaticGuided(nn.Module):
    """Two static strip convolutions that guide a dynamic one, (B, c, H, W) -> (B, c, H, W).

    Equation (8) splits the channels into four branches: dynamic, static k*k x 1, static 1 x k*k, identity.
    Equation (9) joins them; BatchNorm (a choice, which fits the paper's tables) and the residual of section
    4.4 follow. By equation (10) the two static kernels, reshaped and summed, multiply the dynamic ones. The
    static branches are plain convolutions: a BatchNorm folded into them would change the guide too.

    Equation (10) is applied to every dynamic convolution that takes RDConv's place (a choice: table 3 does
    not say, and the guide has no parameters that a count could show).

    Args:
        channels: c.
        dynamic: the dynamic convolution of n <= c / 3 channels.
        static: length k * k of the static strip kernels, the square of an odd k.
        gamma: first BatchNorm weight.
    """

    keep_scale: Tensor
    keep_shift: Tensor

    def __init__(self, channels: int, dynamic: DynamicConv, static: int, gamma: float) -> None:
        super().__init__()
        n = dynamic.channels
        self.sections = [width for width in (n, n, n, channels - 3 * n) if width]
        self.folded = False
        self.rd = dynamic
        self.conv_h = nn.Conv2d(n, n, (static, 1), padding=(static // 2, 0), bias=False)
        self.conv_w = nn.Conv2d(n, n, (1, static), padding=(0, static // 2), bias=False)
        self.bn = nn.BatchNorm2d(channels)
        for conv in (self.conv_h, self.conv_w):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
        nn.init.constant_(self.bn.weight, gamma)

    def guide(self) -> Tensor:
        """psi(W_h) + psi(W_w) of equation (10), (n, n, k, k) in float32; gradients reach both kernels."""
        return strip_to_square(self.conv_h.weight.float()) + strip_to_square(self.conv_w.weight.float())

    def forward(self, x: Tensor) -> Tensor:
        """x + BatchNorm(the four branches), (B, c, H, W)."""
        if self.folded:
            return self._forward_folded(x)
        rd, h, w, *keep = torch.split(x, self.sections, 1)
        dynamic = self.rd.branches(rd, self.guide())
        normed: Tensor = self.bn(torch.cat((*dynamic, self.conv_h(h), self.conv_w(w), *keep), 1))
        return x + normed

    def _forward_folded(self, x: Tensor) -> Tensor:
        """BatchNorm is in the weights, and so is the residual, but for the dynamic branch's."""
        rd, h, w, *keep = torch.split(x, self.sections, 1)
        parts = self.rd.branches(rd)
        links = torch.split(rd, [part.shape[1] for part in parts], 1)
        dynamic = [part + link for part, link in zip(parts, links, strict=True)]
        kept = [torch.addcmul(self.keep_shift, part, self.keep_scale) for part in keep]
        return torch.cat((*dynamic, self.conv_h(h), self.conv_w(w), *kept), 1)

    @torch.no_grad()
    def fold_(self) -> Self:
        """Turn into the inference-only form: guide in the bank, BatchNorm and residual in the convolutions.

        In place; does nothing the second time; leaves the module in evaluation mode. `train()` refuses
        afterwards, and the state dictionary no longer fits an unfolded module.
        """
        if self.folded:
            return self
        self.eval()
        scale, shift = _affine(self.bn)
        parts = list(zip(torch.split(scale, self.sections), torch.split(shift, self.sections), strict=True))
        self.rd.fuse_affine_(self.guide(), *parts[0])
        for conv, (factor, offset) in zip((self.conv_h, self.conv_w), parts[1:3], strict=True):
            fuse_affine_into_conv_(conv, factor, offset)
            height, width = conv.kernel_size
            conv.weight[:, :, height // 2, width // 2].diagonal().add_(1)
        for factor, offset in parts[3:]:
            self.register_buffer("keep_scale", (factor + 1).view(-1, 1, 1).to(self.bn.weight.dtype))
            self.register_buffer("keep_shift", offset.view(-1, 1, 1).to(self.bn.weight.dtype))
        del self.bn
        self.folded = True
        return self

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`; refuses for a folded module, whose guide is no longer tied to its strips."""
        if mode and self.folded:
            raise RuntimeError("a folded SGDM cannot be trained: load its weights from before into a new one")
        super().train(mode)
        return self


class StaticGuidedMixture(StaticGuided):
    """SGDM with another dynamic convolution in RDConv's place (table 3), (B, c, H, W) -> (B, c, H, W).

    Args:
        channels: c.
        split: share of c in each of three branches.
        kernels: K.
        static: length of the static strip kernels, the square of an odd number.
        gamma: first BatchNorm weight.

    Attributes:
        dynamic_conv: makes the convolution from its channels, K, and the side of its kernels.
    """

    dynamic_conv: ClassVar[type[DynamicConv]]

    def __init__(
        self, channels: int, split: float = 0.25, kernels: int = 4, static: int = 9, gamma: float = 1.0
    ) -> None:
        conv = self.dynamic_conv(branch_width(channels, split), kernels, square_side(static))
        super().__init__(channels, conv, static, gamma)


class SGDM(StaticGuided):
    """Static-guided dynamic module, (B, c, H, W) -> (B, c, H, W): `StaticGuided` with RDConv.

    Args:
        channels: c, already scaled by the detector's width factor.
        values, options: those of `SGDMOptions`, in order or by name.
    """

    __signature__ = module_signature(SGDMOptions)
    rd: RDConv

    def __init__(self, channels: int, *values: Any, **options: Any) -> None:
        chosen = SGDMOptions(*values, **options)
        n, size = branch_width(channels, chosen.split), square_side(chosen.static)
        kernels = (chosen.razor, chosen.kernels, chosen.strip, chosen.hidden, size)
        conv = RDConv(n, *kernels, chosen.spatial, chosen.cheap, guided=True)
        super().__init__(channels, conv, chosen.static, chosen.gamma)

    def attention(self, x: Tensor) -> Attention:
        """The attention that x (B, c, H, W) would meet, for monitoring; `forward` stores nothing."""
        return self.rd.attention(x[:, : self.rd.channels])


def _affine(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """BatchNorm in evaluation mode as (scale, shift), both (c,) in float32."""
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError("a BatchNorm without running statistics cannot be folded: train with them first")
    scale = bn.weight.float() * (bn.running_var.float() + bn.eps).rsqrt()
    return scale, bn.bias.float() - bn.running_mean.float() * scale


def branch_width(channels: int, split: float) -> int:
    """Channels n of each of the three convolved branches; ValueError if impossible."""
    if not 0 < split <= 1 / 3 + 1e-9:
        raise ValueError(f"split is {split}: three branches need 3 x split <= 1, so it must be in (0, 1/3]")
    if (width := channel_count(channels, split)) < 1:
        raise ValueError(
            f"channels is {channels}: split {split} of it leaves no channel for a branch; "
            f"take at least {math.ceil(1 / split)} channels or a larger split, up to 1/3"
        )
    return width


def square_side(static: int) -> int:
    """The odd k of `static` = k * k; ValueError if there is none."""
    side = math.isqrt(max(static, 0))
    if side**2 != static or side % 2 == 0:
        raise ValueError(f"static is {static}: it is reshaped to a square of odd side; take 9, 25 or 49")
    return side
