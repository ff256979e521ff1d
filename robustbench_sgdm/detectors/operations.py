"""The operations of a detector that is loaded, counted while it detects."""

from collections.abc import Callable

from torch.utils.flop_counter import FlopCounterMode


def count_gflops(detect: Callable[[], object]) -> float:
    """The operations of a call in units of 1e9: convolutions and matrix products, 2 for each multiply-add."""
    with FlopCounterMode(display=False) as counter:
        detect()
    return float(counter.get_total_flops() / 1e9)
