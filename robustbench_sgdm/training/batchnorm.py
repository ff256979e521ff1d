"""BatchNorm statistics for weights that were published with BatchNorm folded away."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def restore_statistics(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Give every BatchNorm the statistics of its input, and weights that leave what it computes unchanged.

    A folded BatchNorm is read back as the identity (mean 0, variance 1). In training it would normalise by
    the batch's own statistics and so change the network at the first step; after this it hardly does.

    Args:
        model: changed in place; left in evaluation mode.
        batches: float (B, 3, H, W) in [0, 1], some dozens of images in all.

    Returns:
        How many BatchNorms there are.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    sums = {m: torch.zeros(3, m.num_features, dtype=torch.float64) for m in layers}

    def watch(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].double()
        total = sums[layer]  # type: ignore[index]
        total += torch.stack(
            [x.sum((0, 2, 3)), x.square().sum((0, 2, 3)), torch.full_like(total[0], x[:, 0].numel())]
        )

    hooks = [m.register_forward_pre_hook(watch) for m in layers]
    model.eval()
    try:
        for batch in batches:
            model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    for layer in layers:
        _set_statistics(layer, sums[layer])
    return len(layers)


def _set_statistics(layer: nn.BatchNorm2d, sums: Tensor) -> None:
    total, squares, count = sums
    if not count[0] or layer.running_mean is None or layer.running_var is None:
        return
    mean = total / count
    variance = (squares / count - mean.square()).clamp(min=0)
    scale = layer.weight.double() / (layer.running_var.double() + layer.eps).sqrt()
    shift = layer.bias.double() - layer.running_mean.double() * scale
    layer.weight.copy_(scale * (variance + layer.eps).sqrt())
    layer.bias.copy_(shift + mean * scale)
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance)
