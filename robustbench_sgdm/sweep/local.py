"""The local executor: units as threads of this process."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import torch

from robustbench_sgdm.sweep.plan import Unit


def run_local(
    units: Sequence[Unit],
    work: Callable[[Unit], None],
    stop: threading.Event,
    *,
    workers: int,
    one_thread_each: bool,
) -> None:
    """Work through the units; the first failure sets `stop`, at which the others give up, and is raised.

    On the CPU each worker computes with one thread: several independent workers waste none of the
    time that the threads of one convolution spend waiting for each other, and reading, corrupting,
    predicting and scoring overlap by themselves. On a GPU workers share the device and overlap with it.
    """
    pool = ThreadPoolExecutor(workers, initializer=one_thread if one_thread_each else None)
    futures = [pool.submit(work, unit) for unit in units]
    try:
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
    finally:  # after a failure or Ctrl-C: what waits is dropped, what runs leaves its unit
        stop.set()
        pool.shutdown(cancel_futures=True)


def cores() -> int:
    """Cores that this process may use, which in a container can be fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def one_thread() -> None:
    """Let the calling thread compute alone."""
    torch.set_num_threads(1)
