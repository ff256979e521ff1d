"""ODConv, and SGDM with it in RDConv's place."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_sgdm.modules.dynamic import MixtureConv, TemperatureMixin, mix_kernels
from robustbench_sgdm.modules.sgdm import StaticGuidedMixture


class OmniAttention(NamedTuple):
    """What ODConv attends to, in float32: factors in (0, 1), and kernel weights that sum to 1.

    Attributes:
        channel: (B, n), for each input channel.
        filter: (B, n), for each output channel.
        spatial: (B, k, k), for each tap.
        kernel: (B, K), for each kernel of the bank.
    """

    channel: Tensor
    filter: Tensor
    spatial: Tensor
    kernel: Tensor


class ODConv(MixtureConv, TemperatureMixin):
    """Omni-dimensional dynamic convolution (Li et al. 2022), (B, n, H, W) -> (B, n, H, W).

    Equation (2): the kernel is sum_k a_wk (a_f a_c a_s W_k), with four attentions from one
    relu(BN(fc(GAP(x)))): over input channels, filters and taps by sigmoid, over kernels by softmax. As in
    the authors' code the three factors are common to the K kernels, and the temperature, which falls from
    30 to 1 in training (`set_temperature`), divides all four logits.

    All factors go into the kernel: at most widths that is less work than scaling the maps before and after.

    Args:
        channels: n.
        kernels: K.
        kernel_size: k, odd.
        reduction: n / width of the common layer, which is at least 16.
    """

    def __init__(self, channels: int, kernels: int = 4, kernel_size: int = 3, reduction: int = 16) -> None:
        super().__init__(channels, kernels, kernel_size, total=1 / 8)  # three factors of one half
        hidden = max(channels // reduction, 16)
        self.fc = nn.Linear(channels, hidden, bias=False)
        self.bn = PooledNorm(hidden)
        self.fc_channel = nn.Linear(hidden, channels)
        self.fc_filter = nn.Linear(hidden, channels)
        self.fc_spatial = nn.Linear(hidden, kernel_size**2)
        self.fc_kernel = nn.Linear(hidden, kernels)
        self.register_buffer("temperature", torch.tensor(1.0))
        for layer in (self.fc, self.fc_channel, self.fc_filter, self.fc_spatial, self.fc_kernel):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def attention(self, x: Tensor) -> OmniAttention:
        """The four attentions of x (B, n, H, W)."""
        common = F.relu(self.bn(self.fc(x.mean((2, 3)))))
        layers = (self.fc_channel, self.fc_filter, self.fc_spatial, self.fc_kernel)
        *sigmoids, kernel = (layer(common).float() / self.temperature.float() for layer in layers)
        channel, filters, spatial = (torch.sigmoid(logits) for logits in sigmoids)
        size = self._bank_shape[-1]
        return OmniAttention(channel, filters, spatial.view(-1, size, size), torch.softmax(kernel, 1))

    def dynamic_kernels(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """As `MixtureConv.dynamic_kernels`, with a factor for each output and input channel and for each tap."""
        channel, filters, spatial, kernel = self.attention(x)
        mixed = mix_kernels(kernel, self.bank_kernels(), guide)
        pairs = filters[:, :, None] * channel[:, None]  # (B, n, n)
        return mixed * pairs[..., None, None] * spatial[:, None, None]


class PooledNorm(nn.BatchNorm1d):
    """BatchNorm of pooled features (B, n), by its running statistics where one sample has no variance."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, n); only a training batch of one sample differs from BatchNorm."""
        if not self.training or len(x) > 1:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class SGDMODConv(StaticGuidedMixture):
    """SGDM with ODConv in RDConv's place (table 3), (B, c, H, W) -> (B, c, H, W)."""

    dynamic_conv = ODConv
