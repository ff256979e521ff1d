"""What a detector costs: parameters and operations, counted while its layers run small images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils.flop_counter import FlopCounterMode

from robustbench_sgdm.detectors.architecture import Config, Head, skeleton

_PAPER_SIDE = 32
_STEP = 64  # a multiple of every stride
_THOP_NORM = 4  # operations thop 0.1.1 counts for each element of an affine BatchNorm


@dataclass(frozen=True)
class Summary:
    """The cost of one image, 2 operations a multiply-add.

    Attributes:
        parameters: before BatchNorm is folded.
        gflops: every convolution and matrix product, computed kernels included, BatchNorm folded, at `imgsz`.
        gflops_thop: as thop 0.1.1 counts (layers only, BatchNorm not folded), at `imgsz`.
        gflops_paper: as the SGDM paper and older Ultralytics print: `gflops_thop` at 32 x 32, scaled by area.
            More than `gflops_thop` for a module that pools, whose cost grows with the side and not the area.
            Without meaning for attention in padded windows and for RT-DETR's fixed number of queries.
        source: where the architecture comes from.
    """

    parameters: int
    gflops: float
    gflops_thop: float
    gflops_paper: float
    source: str


def summarise(config: Config, imgsz: int = 640, source: str = "") -> Summary:
    """Count the model that `config` describes on one square image of `imgsz` pixels.

    Raises:
        UsageError: the config is refused, as by `architecture.check`.
    """
    model = skeleton(config).to_empty(device="cpu").eval()
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.detach().zero_()
    if isinstance(head := model[-1], Head):
        head.stride = torch.ones(head.nl)  # its value plays no part in the count
    (_, at_paper), (every, thop) = _at_sides(model, (_PAPER_SIDE, imgsz))
    return Summary(
        parameters=sum(p.numel() for p in model.parameters()),
        gflops=every / 1e9,
        gflops_thop=thop / 1e9,
        gflops_paper=at_paper * (imgsz / _PAPER_SIDE) ** 2 / 1e9,
        source=source,
    )


def _at_sides(model: nn.Sequential, sides: Sequence[int]) -> list[tuple[float, ...]]:
    """`_count` at each side: by the law that four small sides follow, else (attention) by running that side."""
    *probes, last = (_count(model, _STEP * i) for i in (1, 2, 3, 4))
    laws = _by_size(probes)
    if all(law(_STEP * 4) == count for law, count in zip(laws, last, strict=True)):
        return [tuple(law(side) for law in laws) for side in sides]
    return [_count(model, side) for side in sides]


def _by_size(counts: Sequence[tuple[int, ...]]) -> list[Callable[[int], float]]:
    """Counts as functions of the side, from those at 1, 2 and 3 steps.

    Exact for convolutions: each costs a constant (after global pooling), or grows with the side (after pooling
    one axis) or with the area, so the sum is a quadratic. Attention between all places, or in padded windows,
    follows another law.
    """

    def through(first: int, second: int, third: int) -> Callable[[int], float]:
        slope, curve = second - first, third - 2 * second + first
        return lambda side: first + (u := side / _STEP - 1) * slope + u * (u - 1) / 2 * curve

    return [through(*values) for values in zip(*counts, strict=True)]


def _count(model: nn.Sequential, imgsz: int) -> tuple[int, int]:
    """Operations on one image: all of them, and by the rule of thop 0.1.1."""
    with FlopCounterMode(display=False) as counter, _thop_rule(model) as macs:
        _run(model, imgsz)
    return counter.get_total_flops(), 2 * sum(macs)


@torch.no_grad()
def _run(model: nn.Sequential, imgsz: int) -> None:
    """Run the layers as Ultralytics does, each on the outputs its `f` names."""
    outputs: list[Any] = [torch.zeros(1, 3, imgsz, imgsz)]
    for layer in model:
        source: Any = layer.f
        inputs = [outputs[i if i < 0 else i + 1] for i in ([source] if isinstance(source, int) else source)]
        outputs.append(layer(inputs[0] if isinstance(source, int) else inputs))


@contextmanager
def _thop_rule(model: nn.Module) -> Iterator[list[int]]:
    """Collect multiply-adds by the rule of thop 0.1.1, which hooks layers and sees no functional call."""
    macs: list[int] = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(layer, _ConvNd):  # a transposed one by its output too, as thop does
            macs.append(output.numel() * inputs[0].shape[1] // layer.groups * prod(layer.kernel_size))
        elif isinstance(layer, _BatchNorm):
            macs.append(_THOP_NORM * output.numel())
        elif isinstance(layer, nn.Linear):
            macs.append(output.numel() * layer.in_features)
        elif isinstance(layer, nn.AdaptiveAvgPool2d):
            macs.append(inputs[0].numel() + output.numel())
        else:
            macs.append(output.numel())

    counted = (_ConvNd, _BatchNorm, nn.Linear, nn.Upsample, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
    hooks = [layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, counted)]
    try:
        yield macs
    finally:
        for hook in hooks:
            hook.remove()
