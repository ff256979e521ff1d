"""Values on their way to a device."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def upload(values: NDArray[Any] | Tensor, device: torch.device | str) -> Tensor:
    """A tensor on a device; on the CPU it shares memory with `values`.

    Nobody waits: the copy to a GPU is queued behind the work there. CUDA keeps what it still has to copy of memory that
    is not pinned, so `values` may change or go at once.
    """
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(values)
    return tensor.to(device, non_blocking=True)
