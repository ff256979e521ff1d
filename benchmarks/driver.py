"""What one driver can schedule, and store where workers do not: its costs, measured, and many workers, simulated.

The processor's time hardly depends on who else uses the machine; the clock's does. The simulation models the loop
of `sweep/executors/scheduler.py`, its writer threads and its workers as queues in virtual time. Nothing in it is
measured beyond this machine.

    python benchmarks/driver.py [--prediction 0.02]
"""

import argparse
import heapq
import pickle
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_sgdm.datasets import Dataset, Image
from robustbench_sgdm.scoring import Scorer
from robustbench_sgdm.store import Cell, CellStore, Settings
from robustbench_sgdm.sweep import score_cell
from robustbench_sgdm.sweep.executors.base import Stored
from robustbench_sgdm.sweep.executors.scheduler import (
    PREFETCH_PER_WORKER,
    WRITER_THREADS,
    EventQueue,
    run_scheduled,
)
from robustbench_sgdm.sweep.executors.threads import available_cores
from robustbench_sgdm.sweep.executors.worker_process import UnitResult
from robustbench_sgdm.sweep.plan import Task, WorkUnit
from robustbench_sgdm.sweep.worker import Worker

SHARD, MODELS, SEVERITIES, CORRUPTIONS = 32, 10, 5, 19
BOXES = 100  # an image, at confidence 0.001
CELLS = MODELS * SEVERITIES  # of a unit


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prediction", type=float, default=0.02, help="seconds of a worker for one")
    _simulated(_costs(), parser.parse_args().prediction)


@dataclass(frozen=True)
class Costs:
    """What a unit costs (s).

    Attributes:
        deal: the driver, taking a unit's shards, in the one thread that has the interpreter.
        count: the driver, taking the news that a worker has stored them.
        write: a worker, writing its shards.
        store: the driver, writing its shards, in a storing thread; `threads` of them work at once.
        score: merging and scoring a cell, per image.
        threads: that store.
        size: bytes of its shards.
    """

    deal: float
    count: float
    write: float
    store: float
    score: float
    threads: int
    size: int


class _Answers:
    """A pool that has every answer before it is asked, as bytes, as it would come from another process."""

    workers, loss_errors = 8, (OSError,)

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def has_capacity(self) -> bool:
        return True

    def submit(self, _: Task) -> Future[UnitResult]:
        done: Future[UnitResult] = Future()
        done.set_result(pickle.loads(self._answer))
        return done


class _Nowhere:
    store = CellStore(Path("nowhere"))
    scorer: Any = None

    def should_run(self, _: WorkUnit) -> bool:
        return True

    def submit(self, *_: object) -> list[Cell]:
        return []

    def score(self, cell: Cell) -> None:
        pass


def _costs() -> Costs:
    """Measure the driver on units of 32 images, 10 models and 5 severities, 100 boxes an image."""
    draw = np.random.default_rng(0)
    images = _data(SHARD).images
    cells = [Cell(f"m{m}", "c", float(s), f"{m}{s}" * 32) for m in range(MODELS) for s in range(SEVERITIES)]
    units = [WorkUnit(number, images, None, cells) for number in range(200)]
    columns = {name: draw.random(SHARD * BOXES, np.float32) for name in ("score", "x1", "y1", "x2", "y2")}
    shard: dict[str, Any] = {
        "image_id": np.repeat(np.array([i.id for i in images], np.int64), BOXES),
        "category_id": draw.integers(1, 11, SHARD * BOXES),
        **columns,
    }
    answer = pickle.dumps(UnitResult({cell: {k: v.copy() for k, v in shard.items()} for cell in cells}, 4))
    worker = Worker({}, {}, Settings("cpu", "torch", 0, 4))
    events: EventQueue = SimpleQueue()
    dealt, counted = (
        _processor(partial(run_scheduled, units, _Answers(one), worker, _Nowhere(), events)) / len(units)
        for one in (answer, pickle.dumps(UnitResult(Stored(), 4)))
    )
    with tempfile.TemporaryDirectory() as folder:
        store = CellStore(Path(folder))
        written = _processor(lambda: _write(store, cells, shard, range(8))) / 8
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet")) // 8
        threads = {n: _in_threads(store, cells, shard, n) for n in sorted({1, WRITER_THREADS, 8})}
        scored = _score(store, 2_000)
    print("\nthe driver, a unit of 32 images x 50 cells x 100 boxes:")
    print(f"  deal and unpack           {1e3 * dealt:8.2f} ms of the processor ({len(answer) / 1e6:.1f} MB)")
    print(f"  count it, stored by a worker {1e3 * counted:5.2f} ms of the processor")
    print(f"  write its 50 shards       {1e3 * written:8.2f} ms of the processor ({size / 1e6:.1f} MB)")
    for count, took in threads.items():
        print(
            f"                            {1e3 * took:8.2f} ms on the clock, {count} threads writing units at once"
        )
    print(f"  merge and score a cell    {1e3 * scored:8.3f} ms of the processor an image")
    return Costs(
        dealt, counted, written, threads[WRITER_THREADS] * WRITER_THREADS, scored, WRITER_THREADS, size
    )


def _write(store: CellStore, cells: Sequence[Cell], shard: dict[str, Any], numbers: Sequence[int]) -> None:
    for number in numbers:
        for cell in cells:
            store.write_shard(cell, number, shard)


def _in_threads(store: CellStore, cells: Sequence[Cell], shard: dict[str, Any], count: int) -> float:
    """Seconds a unit takes while so many threads write one each."""
    with ThreadPoolExecutor(count) as pool:
        numbers = [range(100 * n, 100 * n + 3) for n in range(count)]
        took = _seconds(lambda: list(pool.map(lambda some: _write(store, cells, shard, some), numbers)))
    return took / (3 * count)


def _data(count: int) -> Dataset:
    """So many images, which nobody reads, with seven objects of ten classes each, as COCO has."""
    draw = np.random.default_rng(2)
    images = [Image(number + 1, Path("unread.png"), 640, 480) for number in range(count)]
    boxes = [[*draw.uniform(0, 300, 2), *draw.uniform(10, 180, 2)] for _ in range(7 * count)]
    annotations = [
        {
            "id": number + 1,
            "image_id": number // 7 + 1,
            "category_id": number % 10 + 1,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
        }
        for number, box in enumerate(boxes)
    ]
    return Dataset("made", "made", images, [{"id": i, "name": f"c{i}"} for i in range(1, 11)], annotations)


def _score(store: CellStore, images: int) -> float:
    """Seconds an image takes when a cell of so many is merged and scored."""
    data, cell = _data(images), Cell("scored", "c", 1.0, "k" * 64)
    draw, scorer = np.random.default_rng(1), Scorer(data)
    ids = [c["id"] for c in data.categories]
    count = -(-images // SHARD)
    for number in range(count):
        some = data.images[number * SHARD : (number + 1) * SHARD]
        low = draw.uniform(0, 200, (len(some) * BOXES, 2)).astype(np.float32)
        high = low + draw.uniform(5, 100, low.shape).astype(np.float32)
        shard = {
            "image_id": np.repeat(np.array([i.id for i in some], np.int64), BOXES),
            "category_id": draw.choice(ids, len(low)),
            "score": draw.random(len(low), np.float32),
            **{
                n: np.ascontiguousarray(c)
                for n, c in zip(("x1", "y1", "x2", "y2"), (*low.T, *high.T), strict=True)
            },
        }
        store.write_shard(cell, number, shard)
    return _processor(lambda: score_cell(store, cell, count, scorer)) / images


def _processor(call: Callable[[], object]) -> float:
    """Seconds of this process's threads."""
    began = time.process_time()
    call()
    return time.process_time() - began


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _simulated(costs: Costs, prediction: float) -> None:
    unit = prediction * SHARD * CELLS
    print(
        f"\nsimulated: {MODELS} models x {CORRUPTIONS} corruptions x {SEVERITIES} severities, {SHARD} images a unit;"
    )
    print(f"a worker takes {unit:.1f} s a unit, as recorded above, or a twentieth of it (what if: a GPU)")
    print(
        "  stored by    images   workers       worker   predictions/s    time (h)   workers busy   driver busy"
        "   storing threads busy   MB/s to the disk"
    )
    for stores in ("worker", "driver"):
        for images in (5_000, 1_000_000):
            for faster, name in ((1, "recorded"), (20, "20 x")):
                for workers in (1, 10, 100, 1_000):
                    shards = -(-images // SHARD)
                    took, busy = simulate(
                        costs, unit / faster, shards, images, workers, by_workers=stores == "worker"
                    )
                    rate = images * CORRUPTIONS * CELLS / took
                    shares = "".join(f"{100 * b / took:13.0f} %" for b in busy)
                    disk = 2 * CORRUPTIONS * shards * costs.size / took / 1e6  # as shards, and merged
                    print(
                        f"{stores:>11s} {images:9,d} {workers:9,d} {name:>12s} {rate:15,.0f} {took / 3600:11.2f}"
                        f"{shares}{disk:19,.0f}"
                    )


def simulate(
    costs: Costs, unit: float, shards: int, images: int, workers: int, *, by_workers: bool
) -> tuple[float, tuple[float, float, float]]:
    """Deal the units of all corruptions to workers in virtual time.

    A worker goes on with its next unit at once, while fewer than three units a worker are held. A unit that is done goes
    to the driver, which takes one at a time. `by_workers`: it is stored by then, and with the last unit of a corruption
    its cells go to the workers that are free first, to be scored. Else the unit goes to the storing thread that is free
    first, which scores the cells. Durations of units vary by a tenth. That all of the driver's threads share its cores
    counts for scoring alone; that workers share a disk does not count.

    Returns:
        seconds in all, and how long workers (on average), driver and storing threads (on average) worked.
    """
    draw = np.random.default_rng(0)
    durations = unit * np.clip(draw.normal(1, 0.1, CORRUPTIONS * shards), 0.5, 1.5)
    if by_workers:
        return _by_workers(costs, durations + costs.write, shards, costs.score * images, workers)
    # Threads that score share the cores.
    score = costs.score * images * CELLS * costs.threads / min(costs.threads, available_cores())
    left = deque(durations.tolist())
    running = [left.popleft() for _ in range(min(workers, len(left)))]  # when each unit at work is done
    heapq.heapify(running)
    storing, held = (
        [0.0] * costs.threads,
        list[float](),
    )  # when each thread is free; when each unit held is stored
    driver = end = disk = 0.0
    for number in range(len(durations)):
        now = heapq.heappop(running)
        driver = max(driver, now) + costs.deal
        begun = max(heapq.heappop(storing), driver)
        work = costs.store + (score if number % shards == shards - 1 else 0)
        heapq.heappush(storing, begun + work)
        heapq.heappush(held, begun + work)
        disk, end = disk + work, max(end, begun + work)
        while held and held[0] <= now:
            heapq.heappop(held)
        if left:
            full = len(running) + len(held) >= (PREFETCH_PER_WORKER + 1) * workers
            start = heapq.heappop(held) if full else now
            heapq.heappush(running, start + left.popleft())
    total = len(durations)
    return end, (float(durations.sum()) / workers, total * costs.deal, disk / costs.threads)


def _by_workers(
    costs: Costs, durations: NDArray[np.float64], shards: int, score: float, workers: int
) -> tuple[float, tuple[float, float, float]]:
    """See `simulate`; `score` is that of a cell (s)."""
    free = [0.0] * workers  # when each is
    end = work = 0.0
    cells = 0  # that wait for a worker
    for number, duration in enumerate(durations.tolist()):
        for _ in range(cells):
            heapq.heappush(free, max(heapq.heappop(free), end) + score)
        work, cells = work + cells * score + duration, 0
        done = heapq.heappop(free) + duration
        heapq.heappush(free, done)
        end = max(end, done)  # the last of the units so far: only then has a cell all its shards
        if number % shards == shards - 1:
            cells = CELLS
    for _ in range(cells):
        heapq.heappush(free, max(heapq.heappop(free), end) + score)
    driver = (len(durations) + CORRUPTIONS * CELLS) * costs.count
    return max(*free, driver), ((work + cells * score) / workers, driver, 0.0)


if __name__ == "__main__":
    main()
