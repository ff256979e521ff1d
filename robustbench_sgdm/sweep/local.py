"""The executor without other processes: units as threads of this one."""

import os
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass

import torch

from robustbench_sgdm.sweep.executor import Sink, attempt
from robustbench_sgdm.sweep.plan import Unit
from robustbench_sgdm.sweep.work import Worker


@dataclass(frozen=True)
class Threads:
    """Threads, as many as `workers`.

    On the CPU each computes with one thread: several independent workers waste none of the time that
    the threads of one convolution spend waiting for each other, and reading, corrupting, predicting and
    scoring overlap by themselves. On a GPU workers share the device and overlap with it.
    """

    workers: int

    def run(self, units: Sequence[Unit], worker: Worker, sink: Sink) -> None:
        """Work through the units; at the first failure the others give up, and it is raised."""

        def work(unit: Unit) -> None:
            if sink.wants(unit):
                sink.take(unit, attempt(worker, unit))

        alone = worker.settings.device == "cpu"
        pool = ThreadPoolExecutor(self.workers, initializer=one_thread if alone else None)
        try:
            futures = [pool.submit(work, unit) for unit in units]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        finally:  # after a failure or Ctrl-C: what waits is dropped, what runs leaves its unit
            worker.stop.set()
            pool.shutdown(cancel_futures=True)


def cores() -> int:
    """Cores that this process may use, which in a container can be fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def one_thread() -> None:
    """Let the calling thread compute alone."""
    torch.set_num_threads(1)
