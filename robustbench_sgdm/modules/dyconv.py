"""DyConv, and SGDM with it in RDConv's place."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_sgdm.modules.dynamic import MixtureConv, TemperatureMixin
from robustbench_sgdm.modules.sgdm import StaticGuidedMixture


class DyConv(MixtureConv, TemperatureMixin):
    """Dynamic convolution by attention over kernels (Chen et al. 2020), (B, n, H, W) -> (B, n, H, W).

    Equations (2), (3): the kernel is sum_k pi_k W_k with pi = softmax(fc2(relu(fc1(GAP(x)))) / T). The
    temperature T falls from 30 to 1 in training, see `set_temperature`. The kernels' own biases are left
    out: a BatchNorm follows. Biases of fc1 and fc2: a choice, the paper does not say.

    Args:
        channels: n.
        kernels: K.
        kernel_size: k, odd.
        reduction: n / width between fc1 and fc2.
    """

    def __init__(self, channels: int, kernels: int = 4, kernel_size: int = 3, reduction: int = 4) -> None:
        super().__init__(channels, kernels, kernel_size, total=1.0)
        hidden = max(1, channels // reduction)
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, kernels)
        self.register_buffer("temperature", torch.tensor(1.0))

    def attention(self, x: Tensor) -> Tensor:
        """Kernel weights (B, K), positive, summing to 1."""
        logits = self.fc2(F.relu(self.fc1(x.mean((2, 3)))))
        return torch.softmax(logits.float() / self.temperature.float(), 1)


class SGDMDyConv(StaticGuidedMixture):
    """SGDM with DyConv in RDConv's place (table 3), (B, c, H, W) -> (B, c, H, W)."""

    dynamic_conv = DyConv
