"""What the dynamic convolutions that fit into SGDM have in common.

Shapes below: B samples, n channels, K kernels of k x k, maps of H x W.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustbench_sgdm.modules.checks import check_odd, check_positive


def per_sample_conv(y: Tensor, kernels: Tensor, bias: Tensor | None = None, sliced: bool = False) -> Tensor:
    """Convolve every sample y[b] (m, H, W) with its own kernels[b] (o, m, k, k), k odd, padding k // 2.

    With `sliced` as k * k shifted slices and one matrix product, which exports with a dynamic batch; else by
    convolutions, in the memory format of y: one map in another would turn all that it is joined with.
    Returns (B, o, H, W).
    """
    batch, out, _, size, _ = kernels.shape
    height, width = y.shape[-2:]
    kernels, bias = kernels.to(y.dtype), None if bias is None else bias.to(y.dtype)
    if not sliced:
        return _eager_conv(y, kernels, bias)
    padded = F.pad(y, [size // 2] * 4)
    taps = [padded[:, :, i : i + height, j : j + width] for i in range(size) for j in range(size)]
    product = torch.bmm(kernels.permute(0, 1, 3, 4, 2).flatten(2), torch.cat(taps, 1).flatten(2))
    result = product.reshape(batch, out, height, width)
    return result if bias is None else result + bias.view(-1, 1, 1)


def _eager_conv(y: Tensor, kernels: Tensor, bias: Tensor | None) -> Tensor:
    """One convolution with a group per sample, or one after the other where that saves more than it costs."""
    batch, out, channels, size, _ = kernels.shape
    last = y.stride(1) == 1 and channels > 1  # y, or what it is a part of, has its channels last
    if last and y.device.type == "cpu":  # stacking would copy y out of its format, and the result back
        each = zip(torch.split(y, 1), kernels.unbind(), strict=True)
        parts = [F.conv2d(one, _channels_last(kernel), bias, padding=size // 2) for one, kernel in each]
        return torch.cat(parts)
    grouped = kernels.reshape(batch * out, channels, size, size)
    tiled = None if bias is None else bias.repeat(batch)
    stacked = y.reshape(1, batch * channels, *y.shape[-2:])
    result = F.conv2d(stacked, grouped, tiled, padding=size // 2, groups=batch)
    result = result.reshape(batch, out, *y.shape[-2:])
    return _channels_last(result) if last else result


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def mix_kernels(weights: Tensor, bank: Tensor, guide: Tensor | None = None) -> Tensor:
    """Equation (2): sum_k weights[b, k] bank[k], of bank (K, o, i, k, k); float32 also under autocast.

    By equation (10), `guide` (o, i, k, k) multiplies the result. Returns (B, o, i, k, k).
    """
    with full_precision(bank):
        guided = bank.float() if guide is None else bank.float() * guide.float()
        return (weights.float() @ guided.flatten(1)).view(-1, *bank.shape[1:])


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """No autocast on the tensor's device; some, such as meta, have none to switch off."""
    kind = tensor.device.type
    available = torch.amp.is_autocast_available(kind)
    return torch.autocast(kind, enabled=False) if available else nullcontext()


def init_near_one_(bank: Tensor, total: float) -> None:
    """Initialise kernels that a guide multiplies, given the sum of the attention weights they start under.

    The guide is a sum of two Kaiming kernels, so a bank near 1 / sqrt(2) keeps unit gain. A Kaiming kernel
    in its place would make the product far too small, subnormal in half precision.
    """
    nn.init.normal_(bank, 1.0, 0.25).data.div_(math.sqrt(2) * total)


@torch.no_grad()
def fuse_affine_into_conv_(conv: nn.Conv2d, scale: Tensor, shift: Tensor) -> None:
    """Fold `* scale + shift`, both (channels out,), into a convolution without bias."""
    conv.weight.mul_(scale.view(-1, 1, 1, 1))
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype))


class DynamicConv(nn.Module):
    """A convolution that depends on its input, (B, n, H, W) -> (B, n, H, W), as SGDM's dynamic branch.

    Attributes:
        channels: n.
        export: use the form that exports with a dynamic batch. Not needed when traced, exported or compiled.
    """

    channels: int
    export: bool = False

    def branches(self, x: Tensor, guide: Tensor | None = None) -> list[Tensor]:
        """The parts of the output, apart so that the caller joins all its branches with one copy."""
        raise NotImplementedError

    def fuse_affine_(self, guide: Tensor, scale: Tensor, shift: Tensor) -> None:
        """Make `forward(x)` what `forward(x, guide) * scale + shift` was; scale and shift are (n,)."""
        raise NotImplementedError

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """Convolve x (B, n, H, W); `guide` (n, n, k, k) multiplies the kernels (equation (10))."""
        return torch.cat(self.branches(x, guide), 1)

    def _sliced(self) -> bool:
        # The group count is the batch, which no graph can keep dynamic.
        tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        return self.export or tracing or torch.onnx.is_in_onnx_export() or torch.compiler.is_compiling()


class BankedConv(DynamicConv):
    """A dynamic convolution that mixes a bank of K kernels (o, i, k, k).

    The bank is stored as a matrix (K o, i k k). A tensor of five axes has no channels-last format, into which Ultralytics
    turns whole networks, and Muon takes a parameter of four axes or two only. Files of earlier versions hold five axes;
    they load to the same bank.

    Attributes:
        bank: (K o, i k k).
    """

    bank: nn.Parameter
    _bank_shape: tuple[int, ...]

    def _add_bank(self, kernels: int, channels: int, size: int) -> None:
        """Register a bank of kernels (channels, channels, size, size), not initialised."""
        self._bank_shape = (kernels, channels, channels, size, size)
        self.bank = nn.Parameter(torch.empty(kernels * channels, channels * size * size))

    def bank_kernels(self) -> Tensor:
        """The bank as (K, o, i, k, k), a view."""
        return self.bank.view(self._bank_shape)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        held = state_dict.get(key := f"{prefix}bank")
        if isinstance(held, Tensor) and held.shape == self._bank_shape:  # of an earlier version
            state_dict[key] = held.reshape(self.bank.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if (held := self.bank).ndim == 5:  # unpickled, from an earlier version
            self._bank_shape = tuple(held.shape)
            matrix = held.detach().flatten(2).flatten(0, 1)
            self.bank = nn.Parameter(matrix, requires_grad=held.requires_grad)


class MixtureConv(BankedConv):
    """A dynamic convolution whose kernel is a mixture of a bank of K kernels (equation (2)), without bias.

    Args:
        channels: n.
        kernels: K.
        kernel_size: k, odd.
        total: sum of the weights that the attention gives the bank at first.
    """

    def __init__(self, channels: int, kernels: int, kernel_size: int, total: float) -> None:
        super().__init__()
        check_positive(channels=channels, kernels=kernels)
        check_odd(kernel_size=kernel_size)
        self.channels = channels
        self._add_bank(kernels, channels, kernel_size)
        self.register_parameter("bias", None)
        init_near_one_(self.bank, total)

    def attention(self, x: Tensor) -> Any:
        """The weights (B, K) of the bank's kernels for x (B, n, H, W), in float32."""
        raise NotImplementedError

    def dynamic_kernels(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """The kernels (B, n, n, k, k) of x (B, n, H, W), in float32."""
        return mix_kernels(self.attention(x), self.bank_kernels(), guide)

    def branches(self, x: Tensor, guide: Tensor | None = None) -> list[Tensor]:
        """As `DynamicConv.branches`: one part."""
        return [per_sample_conv(x, self.dynamic_kernels(x, guide), self.bias, self._sliced())]

    @torch.no_grad()
    def fuse_affine_(self, guide: Tensor, scale: Tensor, shift: Tensor) -> None:
        """As `DynamicConv.fuse_affine_`: the mixture is linear in the bank."""
        self.bank_kernels().mul_(guide * scale.view(-1, 1, 1, 1))
        self.bias = nn.Parameter(shift.to(self.bank.dtype))


class TemperatureMixin:
    """A module whose attention is divided by a temperature before the softmax.

    The buffer `temperature` is saved with the weights, since these were trained for it. It is 1 unless
    `set_temperature` is called: without annealing a high temperature would keep the attention uniform.
    """

    temperature: Tensor


@torch.no_grad()
def set_temperature(model: nn.Module, epoch: float, epochs: float = 10, start: float = 30.0) -> float:
    """Anneal the attention in `model`: linearly from `start` at epoch 0 to 1 at `epochs`, and 1 from then on.

    For a trainer to call before each epoch (or step, with fractions), on the model and on its moving average.
    The defaults are those of DyConv and ODConv.

    Returns:
        The temperature that was set.
    """
    temperature = 1 + (start - 1) * max(0.0, 1 - epoch / epochs)
    for part in model.modules():
        if isinstance(part, TemperatureMixin):
            part.temperature.fill_(temperature)
    return temperature
