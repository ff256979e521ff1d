"""How a run scales: with workers, with images and cells, and (`driver.py`) what one driver and its disk can take.

Every run is made here and now, in a process of its own so that its memory can be told.

    python benchmarks/scale.py [--images 48] [--imgsz 320]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from robustbench_sgdm import corruption, datasets
from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.datasets import Dataset
from robustbench_sgdm.detectors import load_detectors
from robustbench_sgdm.store import CellStore, Settings
from robustbench_sgdm.sweep import (
    Executor,
    ProcessExecutor,
    ThreadExecutor,
    make_plan,
    ray_executor,
    run_sweep,
)
from robustbench_sgdm.sweep.executors.threads import available_cores
from robustbench_sgdm.sweep.plan import pending_units


def main() -> None:
    options = _options()
    if options.one:
        print(json.dumps(_one(**json.loads(options.one))))
        return
    began = time.perf_counter()
    print(
        f"{available_cores()} cores, torch {torch.__version__}, yolov8n on the CPU; peak memory includes the libraries\n"
    )
    recorded = _throughput(options.images, options.imgsz)
    _growth()
    driver = Path(__file__).with_name("driver.py")
    subprocess.run([sys.executable, "-W", "ignore", str(driver), "--prediction", str(recorded)], check=True)
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
    kinds += [("--executor ray --workers 2", "ray", 2)] if find_spec("ray") else []
    print(f"throughput, {images} images x 4 cells at {imgsz} px:")
    print(f"  {'':29s} predictions/s      to that of 1 thread   start (s)   peak memory (MB): run, worker")
    first = 0.0
    for name, on, workers in kinds:
        seen = _alone(on=on, workers=workers, **how)
        first = first or seen["rate"]
        child = f"{seen['child']:.0f}" if on == "processes" else "–"  # Ray's are not its children
        memory = f"{seen['peak']:18.0f} {child:>12s}"
        print(
            f"  {name:29s} {seen['rate']:13.1f} {seen['rate'] / first:17.2f} x {seen['start']:16.1f} {memory}"
        )
    return 1 / first


def _growth() -> None:
    print("\ncost of a prediction as a run grows, 1 thread, 64 px:")
    print(
        "    images   cells   CPU ms/prediction   CPU ms/unit   unit of   start, end (CPU s)   peak memory (MB)"
    )
    for images, severities in ((100, 0), (1_000, 0), (10_000, 0), (100, 9), (100, 99)):
        seen = _alone(on="threads", workers=1, images=images, severities=severities, imgsz=64)
        unit = seen["predictions"] / seen["units"]
        print(
            f"  {images:8,d} {severities + 1:7d} {seen['cpu']:19.2f} {unit * seen['cpu']:13.1f} {unit:9.0f} "
            f"{seen['before']:9.1f}, {seen['after']:7.2f} {seen['peak']:18.0f}"
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
        cpu: milliseconds of the processor for a prediction, all but the first unit and the run's end.
        before, after: seconds of the processor to the first unit's end, and from the last unit's to the run's.
        peak, child: MB, of this process and of its largest child.
    """
    torch.set_num_threads(1)
    levels = [0.0, *(round(5 * (i + 1) / severities, 3) for i in range(severities))]
    entries = load_detectors(["yolov8n"], InferenceConfig(imgsz=imgsz))
    chosen = corruption.load_corruptions().select(["gaussian_noise"])
    plan = make_plan(entries, _repeated(images), chosen, levels, Settings("cpu", "torch", 0, 4))
    moments: list[tuple[float, float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        store = CellStore(Path(folder))
        units = pending_units(plan, store)

        def note(count: int) -> None:
            moments.append((time.perf_counter(), time.process_time(), count))

        began = time.perf_counter()
        with _executor(on, workers) as executor:
            run_sweep(plan, store, units=units, executor=executor, progress=note)
            ended = time.process_time()
    (first, cpu, some), (last, used, _) = moments[0], moments[-1]
    predictions = sum(count for _, _, count in moments)
    return {
        "rate": (predictions - some) / (last - first),
        "start": first - began,
        "cpu": 1e3 * (used - cpu) / (predictions - some),
        "before": cpu,
        "after": ended - used,
        "units": len(units),
        "predictions": predictions,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "child": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def _executor(on: str, workers: int) -> AbstractContextManager[Executor]:
    if on == "ray":
        return ray_executor(workers=workers)
    return nullcontext(ProcessExecutor(workers) if on == "processes" else ThreadExecutor(workers))


def _repeated(count: int) -> Dataset:
    """So many images: the embedded ones again and again, each time under new ids."""
    scenes = datasets.load_dataset("scenes")
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


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
