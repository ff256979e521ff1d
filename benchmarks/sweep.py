"""Wall time of a run over the time its detector alone would need, in each runtime.

The denominator is the bare detector in the same runtime, forward and NMS, on the very images of the run (corrupted,
already letterboxed, in memory) in the fastest of several forms. What the ratio leaves over one is reading, corrupting,
letterboxing, storing and scoring.

    python benchmarks/sweep.py [--data DATA] [--weights FILE] [--imgsz 640] [--images 32] [--runtimes pytorch onnx]
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from robustbench_sgdm import corruption, datasets
from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.datasets import image_decoding as decoding
from robustbench_sgdm.detectors import DetectorEntry, load_detector, select_device
from robustbench_sgdm.detectors.letterbox import letterbox
from robustbench_sgdm.detectors.runtimes import convert
from robustbench_sgdm.detectors.ultralytics.square import SquareDetector
from robustbench_sgdm.store import CellStore, Settings
from robustbench_sgdm.sweep import Plan, ThreadExecutor, make_plan, run_sweep


def main() -> None:
    options = _options()
    device, cores = select_device(None), os.cpu_count() or 1
    detector = load_detector(
        options.model, InferenceConfig(imgsz=options.imgsz, device=device), weights=options.weights
    )
    data = datasets.load_dataset(options.data)
    data = data.subset(min(1.0, options.images / len(data)))
    chosen = corruption.load_corruptions().select(options.noise)
    settings = Settings(device=device, engine="torch", seed=0, batch=4 if device == "cpu" else 32)
    plans = {}
    for runtime in options.runtimes:
        entry = DetectorEntry(convert(detector, runtime), "benchmark")
        plans[runtime] = make_plan({detector.name: entry}, data, chosen, range(6), settings)
    plan = next(iter(plans.values()))
    squares = _squares(plan, options.imgsz)
    count = len(plan.cells) * len(data)
    print(
        f"{detector.name} at {options.imgsz} px on {device}, {cores} cores: {len(plan.cells)} cells x {len(data)} images"
    )
    forms = {
        runtime: _forms(cast(SquareDetector, one.models[detector.name].detector), squares, device, cores)
        for runtime, one in plans.items()
    }
    bare = {runtime: {name: list[float]() for name in each} for runtime, each in forms.items()}
    runs = {runtime: list[float]() for runtime in plans}
    for _ in range(options.repeats):  # alternated, so that a busy machine disturbs all alike
        for runtime, one in plans.items():
            for name, form in forms[runtime].items():
                bare[runtime][name].append(_seconds(form))
            runs[runtime].append(_seconds(lambda one=one: _run(one, cores)))  # type: ignore[misc]
    for runtime in plans:
        _report(runtime, bare[runtime], runs[runtime], count)
    _left_over(plan, options.imgsz)


def _report(runtime: str, bare: dict[str, list[float]], runs: list[float], count: int) -> None:
    """A runtime's bare detector in each form, the run, and their ratio."""
    for name, seconds in bare.items():
        print(f"  {runtime:9s} bare, {name:28s} {1e3 * statistics.median(seconds) / count:7.1f} ms an image")
    best = min(statistics.median(s) for s in bare.values())
    ratios = sorted(r / min(s[i] for s in bare.values()) for i, r in enumerate(runs))
    print(f"  {runtime:9s} {'run':34s} {1e3 * statistics.median(runs) / count:7.1f} ms an image")
    print(
        f"  {runtime:9s} ratio: {statistics.median(runs) / best:.3f} "
        f"(of single repeats: {ratios[0]:.3f} to {ratios[-1]:.3f}; aim: 1.15 or less)"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="scenes")
    parser.add_argument("--model", default="yolov8n")
    parser.add_argument("--weights")
    parser.add_argument("--noise", nargs="+", default=["gaussian"])
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--runtimes", nargs="+", default=["pytorch", "onnx", "openvino"])
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def _squares(plan: Plan, imgsz: int) -> list[Tensor]:
    """Every (cell, image) of the plan as the network's input, uint8 (3, imgsz, imgsz)."""
    found = []
    for image in plan.dataset.images:
        array = torch.from_numpy(decoding.read_image(image).transpose(2, 0, 1).copy()).to(
            plan.settings.device
        )
        for cell in plan.cells:
            seen = array
            if cell.corruption != CLEAN:
                how = plan.corruptions[cell.corruption]
                seen = corruption.apply_corruption(
                    how, array[None], cell.severity, seed=0, image_ids=[image.id]
                )[0]
            found.append(letterbox(seen, imgsz)[0])
    return found


def _forms(
    detector: SquareDetector, squares: Sequence[Tensor], device: str, cores: int
) -> dict[str, Callable[[], None]]:
    if device != "cpu":
        return {f"batch {b}": lambda b=b: _stream(detector, squares, b) for b in (8, 32)}  # type: ignore[misc]
    forms: dict[str, Callable[[], None]] = {}
    for batch in (1, 4):
        forms[f"{cores} threads, batch {batch}"] = lambda b=batch: _stream(detector, squares, b)  # type: ignore[misc]
        forms[f"{cores} x 1 thread, batch {batch}"] = lambda b=batch: _streams(detector, squares, b, cores)  # type: ignore[misc]
    return forms


def _stream(detector: SquareDetector, squares: Sequence[Tensor], batch: int) -> None:
    for i in range(0, len(squares), batch):
        detector.predict_rows(torch.stack(list(squares[i : i + batch])))


def _streams(detector: SquareDetector, squares: Sequence[Tensor], batch: int, count: int) -> None:
    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(lambda k: _stream(detector, squares[k::count], batch), range(count)))


def _run(plan: Plan, workers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run_sweep(plan, CellStore(Path(folder)), executor=ThreadExecutor(workers))


def _left_over(plan: Plan, imgsz: int) -> None:
    """Each part that is not the detector, in one thread, on the first images."""
    torch.set_num_threads(1)
    images = plan.dataset.images[:8]
    arrays = [torch.from_numpy(decoding.read_image(i).transpose(2, 0, 1).copy()) for i in images]
    parts = {"read (once for all cells)": _seconds(lambda: [decoding.read_image(i) for i in images])}
    for name, how in plan.corruptions.items():
        parts[name] = _seconds(
            lambda how=how: [  # type: ignore[misc]
                corruption.apply_corruption(how, a[None], 3, seed=0, image_ids=[0]) for a in arrays
            ]
        )
    parts["letterbox"] = _seconds(lambda: [letterbox(a, imgsz) for a in arrays])
    for name, seconds in parts.items():
        print(f"  {name:42s} {1e3 * seconds / len(images):7.1f} ms an image, one thread")


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
