"""How images and tables get to a device."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def to_device(values: NDArray[Any] | Tensor, device: torch.device | str) -> Tensor:
    """A tensor on a device; on the CPU it shares memory with `values`.

    Nothing is synchronized: the copy to a GPU is queued behind the work there. `values` may change at once, since CUDA
    stages memory that is not pinned (it may wait for that); pinned values must stay as they are until the copy is done.
    """
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(values)
    return tensor.to(device, non_blocking=True)
