"""How a run scales: with workers, with images and cells, and what one driver and its disk can take.

Every measurement is made here and now, each in a process of its own so that its memory can be told. The last part
simulates more workers than there are from the durations just recorded: the driver's loop (`sweep/dealing.py`), its
storing threads and its workers as queues in virtual time. Nothing in it is measured beyond one machine.

    python benchmarks/scale.py [--images 48] [--imgsz 320]
"""

import argparse
import heapq
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch

from robustbench_sgdm import corruption, datasets
from robustbench_sgdm.datasets import Dataset
from robustbench_sgdm.detectors import line_up
from robustbench_sgdm.scoring import Scorer, rows
from robustbench_sgdm.store import Cell, CellStore
from robustbench_sgdm.sweep import Executor, Processes, Settings, Threads, make_plan, on_ray, sweep
from robustbench_sgdm.sweep.dealing import AHEAD, News, deal
from robustbench_sgdm.sweep.executor import Outcome
from robustbench_sgdm.sweep.local import cores
from robustbench_sgdm.sweep.plan import Unit, needed_units
from robustbench_sgdm.sweep.remote import Report
from robustbench_sgdm.sweep.work import Worker

SHARD, MODELS, SEVERITIES, CORRUPTIONS = 32, 10, 5, 19
BOXES = 100  # an image, at confidence 0.001
CELLS = MODELS * SEVERITIES  # of a unit


def main() -> None:
    options = _options()
    if options.one:
        print(json.dumps(_one(**json.loads(options.one))))
        return
    began = time.perf_counter()
    print(
        f"{cores()} cores, torch {torch.__version__}, yolov8n on the CPU; peak memory includes the libraries\n"
    )
    recorded = _throughput(options.images, options.imgsz)
    _growth()
    _simulated(_costs(), recorded)
    print(f"\n{time.perf_counter() - began:.0f} s in all")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=48, help="images of the throughput")
    parser.add_argument("--imgsz", type=int, default=320, help="network size of the throughput")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def _throughput(images: int, imgsz: int) -> float:
    """Print predictions a second by executor; returns seconds a prediction takes one worker."""
    how = {"images": images, "severities": 3, "imgsz": imgsz}
    kinds = [("this process, 1 thread", "threads", 1), ("this process, 2 threads", "threads", 2)]
    kinds += [("--workers 1", "processes", 1), ("--workers 2", "processes", 2)]
    kinds += [("--on ray --workers 2", "ray", 2)] if find_spec("ray") else []
    print(f"throughput, {images} images x 4 cells at {imgsz} px:")
    print(f"  {'':26s} predictions/s      to that of 1 thread   start (s)   peak memory (MB): run, worker")
    first = 0.0
    for name, on, workers in kinds:
        seen = _alone(on=on, workers=workers, **how)
        first = first or seen["rate"]
        memory = f"{seen['peak']:18.0f} {seen['child']:12.0f}"
        print(
            f"  {name:26s} {seen['rate']:13.1f} {seen['rate'] / first:17.2f} x {seen['start']:16.1f} {memory}"
        )
    return 1 / first


def _growth() -> None:
    print("\ncost of a prediction as a run grows, 1 thread, 64 px:")
    print("    images   cells   ms/prediction   ms/unit   unit of   end of the run (s)   peak memory (MB)")
    for images, severities in ((100, 0), (1_000, 0), (10_000, 0), (100, 9), (100, 99)):
        seen = _alone(on="threads", workers=1, images=images, severities=severities, imgsz=64)
        unit = seen["predictions"] / seen["units"]
        print(
            f"  {images:8,d} {severities + 1:7d} {1e3 / seen['rate']:15.2f} {1e3 * unit / seen['rate']:9.1f} "
            f"{unit:9.0f} {seen['end']:20.2f} {seen['peak']:18.0f}"
        )


def _alone(**what: Any) -> dict[str, float]:
    """A run in a process of its own; see `_one`."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, "--one", json.dumps(what)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _one(on: str, workers: int, images: int, severities: int, imgsz: int) -> dict[str, float]:
    """Sweep clean images and gaussian noise at some severities.

    Returns:
        rate: predictions a second between the first unit's end and the last's.
        start: seconds to the first unit's end.
        end: seconds from the last unit's end to the run's, scoring included.
        peak, child: MB, of this process and of its largest child.
    """
    torch.set_num_threads(1)
    levels = [0.0, *(round(5 * (i + 1) / severities, 3) for i in range(severities))]
    entrants = line_up(["yolov8n"], lambda _: {}, imgsz=imgsz)
    chosen = corruption.load().select(["gaussian_noise"])
    plan = make_plan(entrants, _repeated(images), chosen, levels, Settings("cpu", "torch", 0, 4))
    moments: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        store = CellStore(Path(folder))
        units = needed_units(plan, store)
        began = time.perf_counter()
        with _executor(on, workers) as executor:
            sweep(
                plan,
                store,
                units=units,
                on=executor,
                progress=lambda n: moments.append((time.perf_counter(), n)),
            )
        ended = time.perf_counter()
    (first, some), last = moments[0], moments[-1][0]
    predictions = sum(n for _, n in moments)
    return {
        "rate": (predictions - some) / (last - first),
        "start": first - began,
        "end": ended - last,
        "units": len(units),
        "predictions": predictions,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "child": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def _executor(on: str, workers: int) -> AbstractContextManager[Executor]:
    if on == "ray":
        return on_ray(workers=workers)
    return nullcontext(Processes(workers) if on == "processes" else Threads(workers))


def _repeated(count: int) -> Dataset:
    """So many images: the embedded ones again and again, each time under new ids."""
    scenes = datasets.load("scenes")
    boxes: dict[int, list[Any]] = {}
    for one in scenes.annotations:
        boxes.setdefault(one["image_id"], []).append(one)
    images: list[datasets.Image] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        image = scenes.images[number % len(scenes)]
        images.append(replace(image, id=number + 1))
        annotations += [
            {**a, "id": len(annotations) + k + 1, "image_id": number + 1}
            for k, a in enumerate(boxes.get(image.id, []))
        ]
    return replace(scenes, name="repeated", images=images, annotations=annotations)


@dataclass(frozen=True)
class Costs:
    """What a unit costs the driver (s).

    Attributes:
        deal: taking a unit's report, in the one thread that has the interpreter.
        store: writing its shards, in a storing thread; `threads` of them work at once, one a core as in the driver.
        score: merging and scoring a cell, per image.
        threads: that store.
    """

    deal: float
    store: float
    score: float
    threads: int


class _Answers:
    """A crew that has every answer before it is asked, as bytes, as it would come from another process."""

    workers, losses = 8, (OSError,)

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def free(self) -> bool:
        return True

    def send(self, _: Unit) -> Future[Report]:
        done: Future[Report] = Future()
        done.set_result(pickle.loads(self._answer))
        return done


class _Nowhere:
    def wants(self, _: Unit) -> bool:
        return True

    def take(self, unit: Unit, outcome: Outcome) -> None:
        pass


def _costs() -> Costs:
    """Measure the driver on units of 32 images, 10 models and 5 severities, 100 boxes an image."""
    draw = np.random.default_rng(0)
    images = _repeated(SHARD).images
    cells = [Cell(f"m{m}", "c", float(s), f"{m}{s}" * 32) for m in range(MODELS) for s in range(SEVERITIES)]
    units = [Unit(number, images, None, cells) for number in range(200)]
    columns = {name: draw.random(SHARD * BOXES, np.float32) for name in ("score", "x1", "y1", "x2", "y2")}
    shard = {
        "image_id": np.repeat(np.array([i.id for i in images], np.int64), BOXES),
        "category_id": draw.integers(1, 11, SHARD * BOXES),
        **columns,
    }
    answer = pickle.dumps(Report(dict.fromkeys(cells, shard), 4))
    worker = Worker({}, {}, Settings("cpu", "torch", 0, 4))
    news: News = SimpleQueue()
    dealt = _seconds(lambda: deal(units, _Answers(answer), worker, _Nowhere(), news)) / len(units)
    with tempfile.TemporaryDirectory() as folder:
        store = CellStore(Path(folder))
        written = _seconds(lambda: _write(store, cells, shard, range(8)))
        threads = {n: _in_threads(store, cells, shard, n) for n in sorted({1, cores(), 4, 8})}
        scored = _score(store, 2_000)
    print("\nthe driver, a unit of 32 images x 50 cells x 100 boxes:")
    print(f"  deal and unpack             {1e3 * dealt:8.2f} ms   ({len(answer) / 1e6:.1f} MB)")
    print(f"  write its 50 shards         {1e3 * written / 8:8.2f} ms   alone")
    for count, took in threads.items():
        print(f"                              {1e3 * took:8.2f} ms   a unit, {count} threads writing at once")
    print(f"  merge and score a cell      {1e3 * scored:8.3f} ms   an image")
    return Costs(dealt, threads[cores()] * cores(), scored, cores())


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


def _score(store: CellStore, images: int) -> float:
    """Seconds an image takes when a cell of so many is merged and scored."""
    data, cell = _repeated(images), Cell("scored", "c", 1.0, "k" * 64)
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
    return _seconds(lambda: scorer.score(rows(store.merge(cell, count)))) / images


def _seconds(call: Any) -> float:
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
        "     images   workers       worker   predictions/s    time (h)   workers busy   driver busy   disk busy"
    )
    for images in (5_000, 1_000_000):
        for faster, name in ((1, "recorded"), (20, "20 x")):
            for workers in (1, 10, 100, 1_000):
                shards = -(-images // SHARD)
                took, busy = simulate(costs, unit / faster, shards, CORRUPTIONS, images, workers)
                rate = images * CORRUPTIONS * CELLS / took
                shares = "".join(f"{100 * b / took:13.0f} %" for b in busy)
                print(f"{images:11,d} {workers:9,d} {name:>12s} {rate:15,.0f} {took / 3600:11.2f}{shares}")


def simulate(
    costs: Costs, unit: float, shards: int, corruptions: int, images: int, workers: int
) -> tuple[float, tuple[float, float, float]]:
    """Deal `corruptions * shards` units to workers in virtual time.

    A worker goes on with its next unit at once, while fewer than three units a worker are held. A unit that is done goes
    to the driver, which takes one at a time; then to the storing thread that is free first, which scores the cells of
    a corruption with its last unit. Durations of units vary by a tenth. That all of the driver's threads share its
    cores is left out.

    Returns:
        seconds in all, and how long workers (on average), driver and storing threads (on average) worked.
    """
    draw = np.random.default_rng(0)
    durations = unit * np.clip(draw.normal(1, 0.1, corruptions * shards), 0.5, 1.5)
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
        work = costs.store + (CELLS * costs.score * images if number % shards == shards - 1 else 0)
        heapq.heappush(storing, begun + work)
        heapq.heappush(held, begun + work)
        disk, end = disk + work, max(end, begun + work)
        while held and held[0] <= now:
            heapq.heappop(held)
        if left:
            full = len(running) + len(held) >= (AHEAD + 1) * workers
            start = heapq.heappop(held) if full else now
            heapq.heappush(running, start + left.popleft())
    total = len(durations)
    return end, (float(durations.sum()) / workers, total * costs.deal, disk / costs.threads)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
