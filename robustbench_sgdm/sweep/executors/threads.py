"""The default executor: units as threads of this process."""

import os
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass

import torch

from robustbench_sgdm.sweep.executors.base import ResultSink, run_unit
from robustbench_sgdm.sweep.plan import WorkUnit
from robustbench_sgdm.sweep.worker import Worker


@dataclass(frozen=True)
class ThreadExecutor:
    """Threads, as many as `workers`.

    On the CPU each computes with one thread: independent workers do not waste the time that the threads of one
    convolution spend waiting for each other, and reading, corrupting, predicting and scoring overlap. On a GPU the
    workers share the device and overlap with it.
    """

    workers: int

    def run(self, units: Sequence[WorkUnit], worker: Worker, sink: ResultSink) -> None:
        """Run the units; the first failure stops the others and is raised."""

        def run(unit: WorkUnit) -> None:
            if sink.should_run(unit):
                for cell in sink.submit(unit, run_unit(worker, unit)):
                    sink.score(cell)

        on_cpu = worker.settings.device == "cpu"
        pool = ThreadPoolExecutor(self.workers, initializer=use_one_thread if on_cpu else None)
        try:
            futures = [pool.submit(run, unit) for unit in units]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        finally:  # after a failure or Ctrl-C: waiting units are dropped, running ones leave at the next batch
            worker.stop.set()
            pool.shutdown(cancel_futures=True)


def available_cores() -> int:
    """Cores that this process may use; in a container fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def use_one_thread() -> None:
    """Let torch compute with one thread in the calling thread."""
    torch.set_num_threads(1)
