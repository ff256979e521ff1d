"""What a detector costs: parameters and operations, counted while its layers run shapes without values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils.flop_counter import FlopCounterMode

from robustbench_sgdm.detectors.ultralytics.architecture import Head, ModelConfig, build_meta

_PAPER_SIDE = 32
_THOP_NORM = 4  # operations thop 0.1.1 counts for each element of an affine BatchNorm


@dataclass(frozen=True)
class ModelCost:
    """The cost of one image, 2 operations a multiply-add.

    Attributes:
        parameters: before BatchNorm is folded.
        gflops: every convolution and matrix product, computed kernels included, BatchNorm folded, at `imgsz`.
        gflops_thop: as thop 0.1.1 counts (layers only, BatchNorm not folded), at `imgsz`.
        gflops_paper: as the SGDM paper and older Ultralytics print: `gflops_thop` at 32 x 32 (or the stride, where
            that is more), scaled by area.
            More than `gflops_thop` for a module that pools, whose cost grows with the side and not the area.
            Without meaning for attention in padded windows and for RT-DETR's fixed number of queries.
    """

    parameters: int
    gflops: float
    gflops_thop: float
    gflops_paper: float


def count_cost(config: ModelConfig, imgsz: int = 640) -> ModelCost:
    """Count the model that `config` describes on one square image of `imgsz` pixels.

    Raises:
        UsageError: the config is refused, as by `architecture.check_config`.
    """
    model = build_meta(config).eval()
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):  # its rule reads the shape alone, and its own work on it is slow
            vars(layer)["forward"] = _identity
    if isinstance(head := model[-1], Head):
        head.stride = torch.ones(head.nl)  # its value plays no part in the count
    with FlopCounterMode(display=False) as every:
        thop, stride = _count_thop(model, imgsz)
    side = max(_PAPER_SIDE, stride)
    return ModelCost(
        parameters=sum(p.numel() for p in model.parameters()),
        gflops=every.get_total_flops() / 1e9,
        gflops_thop=thop / 1e9,
        gflops_paper=_count_thop(model, side)[0] * (imgsz / side) ** 2 / 1e9,
    )


def _identity(x: Tensor) -> Tensor:
    return x


@torch.no_grad()
def _count_thop(model: nn.Sequential, imgsz: int) -> tuple[int, int]:
    """Operations on one image by the rule of thop 0.1.1, and the stride of the last map.

    Runs the layers as Ultralytics does, each on the outputs its `f` names.
    """
    outputs: list[Any] = [torch.empty(1, 3, imgsz, imgsz, device="meta")]
    with count_by_thop_rule(model) as macs:
        for layer in model:
            source: Any = layer.f
            inputs = [
                outputs[i if i < 0 else i + 1] for i in ([source] if isinstance(source, int) else source)
            ]
            outputs.append(layer(inputs[0] if isinstance(source, int) else inputs))
    return 2 * sum(macs), imgsz // inputs[-1].shape[-1]


@contextmanager
def count_by_thop_rule(model: nn.Module) -> Iterator[list[int]]:
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
