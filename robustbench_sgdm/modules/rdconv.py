"""RDConv: the razor dynamic convolution of SGDM (equations (5) to (7)).

Shapes below: B samples, n channels, m = razor x n intrinsic channels, K kernels of k x k, maps of H x W.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_sgdm.modules.checks import check_choice, check_odd, check_positive
from robustbench_sgdm.modules.dynamic import (
    BankedConv,
    full_precision,
    fuse_affine_into_conv_,
    init_near_one_,
    mix_kernels,
    per_sample_conv,
)
from robustbench_sgdm.modules.options import Cheap, RDConvOptions, Spatial, channel_count, module_signature


class Attention(NamedTuple):
    """What RDConv attends to, in float32.

    Attributes:
        kernel: (B, K), a weight in (0, 1) for each kernel of the bank.
        spatial: (B, k, k), or (B, m, k, k) if per channel: a factor in (0, 2) for each tap.
    """

    kernel: Tensor
    spatial: Tensor


def resize_guide(guide: Tensor, n: int, m: int) -> Tensor:
    """Shrink a guide (n, n, k, k) to (m, m, k, k): the mean over channel groups, times n / m.

    The factor keeps the standard deviation; n == m is the identity. A choice: the paper does not say how the
    widths meet. Where m does not divide n the groups share their border channels, by area.
    """
    ratio = n / m
    if n % m == 0:  # n is an argument because a traced shape is not a number to decide by
        grouped = guide.view(m, n // m, m, n // m, *guide.shape[2:])
        return guide if n == m else grouped.mean((1, 3)) * ratio
    edges = torch.arange(n, device=guide.device)
    starts = torch.arange(m, device=guide.device)[:, None] * ratio
    ends = torch.minimum(starts + ratio, edges + 1)
    groups = (ends - torch.maximum(starts, edges)).clamp(min=0) / ratio  # (m, n), rows sum to 1
    return (groups @ guide.permute(2, 3, 0, 1) @ groups.T).permute(2, 3, 0, 1) * ratio


class RDConv(BankedConv):
    """Razor dynamic convolution, (B, n, H, W) -> (B, n, H, W).

    Equations (5), (6): kernel attention `sigmoid(fc2(relu(fc1(GAP(x)))))` over a bank of K kernels, and a
    spatial attention from two strip convolutions on x averaged over its height and over its width. Equation
    (7): a 1x1 convolution razors x to m intrinsic channels, the only ones convolved dynamically; a cheap
    convolution of these generates the other n - m.

    Args:
        channels: n.
        values, options: those of `RDConvOptions`, in order or by name.
    """

    __signature__ = module_signature(RDConvOptions)

    def __init__(self, channels: int, *values: Any, **options: Any) -> None:
        super().__init__()
        chosen = RDConvOptions(*values, **options)
        kernels, strip, kernel_size = chosen.kernels, chosen.strip, chosen.kernel_size
        hidden = channels if chosen.hidden is None else chosen.hidden
        check_positive(channels=channels, kernels=kernels, hidden=hidden)
        check_odd(strip=strip, kernel_size=kernel_size)
        check_choice("spatial", chosen.spatial, get_args(Spatial))
        check_choice("cheap", chosen.cheap, get_args(Cheap))
        self.channels, self.kernel_size = channels, kernel_size
        self.intrinsic = m = _intrinsic(channels, chosen.razor)
        square = (kernel_size, kernel_size)
        per_map = () if chosen.spatial == "shared" else (m,)
        self.spatial_shape = (-1, *per_map, *square)
        maps = math.prod((*per_map, *square))
        self.fc1 = nn.Linear(channels, hidden, bias=False)
        self.fc2 = nn.Linear(hidden, kernels)
        self.strip_h = nn.Conv2d(channels, maps, (1, strip), padding=(0, strip // 2), bias=False)
        self.strip_w = nn.Conv2d(channels, maps, (strip, 1), padding=(strip // 2, 0), bias=False)
        self.razor = nn.Conv2d(channels, m, 1, bias=False)
        self._add_bank(kernels, m, kernel_size)
        self.register_parameter("bias", None)
        self.source: Tensor | None
        self.cheap = self._make_cheap(chosen.cheap)
        self._initialise(chosen.guided)

    def _make_cheap(self, kind: Cheap) -> nn.Conv2d | None:
        """The convolution of m intrinsic channels to the other n - m; None if razor is 1.

        Depthwise, output j reads intrinsic channel floor(j m / (n - m)), gathered where groups cannot say so.
        """
        m, rest = self.intrinsic, self.channels - self.intrinsic
        gather = kind == "depthwise" and rest % m != 0
        self.register_buffer("source", torch.arange(rest) * m // rest if gather else None, persistent=False)
        if rest == 0:
            return None
        if kind == "pointwise":
            return nn.Conv2d(m, rest, 1, bias=False)
        inputs, size = rest if gather else m, self.kernel_size
        return nn.Conv2d(inputs, rest, size, padding=size // 2, groups=inputs, bias=False)

    def _initialise(self, guided: bool) -> None:
        """Unit gain. Attention starts at one half for all K kernels, so the sum is scaled back by it."""
        for conv in filter(None, (self.razor, self.cheap)):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
        nn.init.zeros_(self.fc2.bias)
        kernels = self._bank_shape[0]
        if guided:
            init_near_one_(self.bank, total=kernels / 2)
        else:
            nn.init.normal_(self.bank, 0.0, 2 / math.sqrt(kernels * self.bank.shape[1]))

    def attention(self, x: Tensor) -> Attention:
        """Kernel and spatial attention of x (B, n, H, W), before the razor."""
        over_h, over_w = x.mean(2, keepdim=True), x.mean(3, keepdim=True)
        logits = self.fc2(F.relu(self.fc1(over_h.mean((2, 3)))))
        # SiLU before the mean: without it the mean of a convolution is only a weighted GAP.
        strips = [F.silu(z).mean((2, 3)).float() for z in (self.strip_h(over_h), self.strip_w(over_w))]
        spatial = 2 * torch.sigmoid(strips[0] + strips[1])
        return Attention(torch.sigmoid(logits.float()), spatial.view(self.spatial_shape))

    def dynamic_kernels(self, attention: Attention, guide: Tensor | None = None) -> Tensor:
        """Kernels (B, m, m, k, k), float32 also under autocast; `guide` (n, n, k, k) multiplies them (10)."""
        size = self.kernel_size
        with full_precision(self.bank):
            fitted = None if guide is None else resize_guide(guide.float(), self.channels, self.intrinsic)
            mixed = mix_kernels(attention.kernel, self.bank_kernels(), fitted)
            return mixed * attention.spatial.view(mixed.shape[0], 1, -1, size, size)

    def branches(self, x: Tensor, guide: Tensor | None = None) -> list[Tensor]:
        """As `DynamicConv.branches`: the dynamic channels, then the cheap ones."""
        y = self.razor(x)
        kernels = self.dynamic_kernels(self.attention(x), guide)
        parts = [per_sample_conv(y, kernels, self.bias, sliced=self._sliced())]
        if self.cheap is not None:
            parts.append(self.cheap(y if self.source is None else y[:, self.source]))
        return parts

    @torch.no_grad()
    def fuse_affine_(self, guide: Tensor, scale: Tensor, shift: Tensor) -> None:
        """As `DynamicConv.fuse_affine_`."""
        m = self.intrinsic
        self.bank_kernels().mul_(resize_guide(guide.float(), self.channels, m) * scale[:m].view(-1, 1, 1, 1))
        self.bias = nn.Parameter(shift[:m].to(self.bank.dtype))
        if self.cheap is not None:
            fuse_affine_into_conv_(self.cheap, scale[m:], shift[m:])


def _intrinsic(channels: int, razor: float) -> int:
    if not 0 < razor <= 1:
        raise ValueError(f"razor is {razor}: a share of channels, it must be in (0, 1]; the paper's is 0.5")
    if (width := channel_count(channels, razor)) < 1:
        raise ValueError(
            f"razor {razor} of a branch of width {channels} leaves no dynamic channel: "
            f"take razor >= {1 / channels:.4g} or a width of at least {math.ceil(1 / razor)}"
        )
    return width
