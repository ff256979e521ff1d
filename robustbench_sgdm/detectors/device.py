"""Which device to run on, and whether its memory ran out."""

import torch

from robustbench_sgdm.core.errors import UsageError

# What torch says on a CPU, and CUDA and its libraries where they come before torch's own error.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out, on the device or beside it; an "illegal memory access" is another matter."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(words in str(error) for words in _NO_MEMORY)


def select_device(device: str | int | torch.device | None = None) -> str:
    """A device that works here, as torch names it.

    Args:
        device: "cpu", "cuda", "cuda:1", or "1" for that GPU; None for the first GPU, or the CPU without one.

    Raises:
        UsageError: torch cannot use it.
    """
    if device is None:
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    name = f"cuda:{device}" if str(device).isdigit() else str(device)
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise UsageError(f"device {str(device)!r} cannot be used; give cpu, cuda or cuda:1")
    try:
        selected = torch.device(name)
        torch.empty(0, device=selected)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"device {str(device)!r} cannot be used here: {reason}") from error
    return "cpu" if selected.type == "cpu" else f"cuda:{selected.index or 0}"
