"""Time and memory of every measure beyond COCO's AP, with intervals: 15 corruptions x 5 severities x 2 models.

Recall, precision, F1, false boxes, D-ECE, LaECE and LRP; AP by class; first failures: 1,000 resamples on 5,000 images
with COCO's counts (as in `bootstrap.py`). AP's own bootstrap, which every run has, comes first and is timed apart: AP by
class is computed on its way. Clean images and one corruption are measured with nothing
cached, reading and writing included; the times of all 75 noisy cells and the clean one follow from theirs. They are of
the processor, which other load changes little, and are divided by the cores, which cells fill evenly.

    python benchmarks/measures.py [--images 5000] [--resamples 1000]
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from robustbench_sgdm.core import resources
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.robustness import (
    MEASURES,
    Intervals,
    bootstrap_intervals,
    class_intervals,
    first_failures,
)
from robustbench_sgdm.store import Cell, Run, cell_key
from robustbench_sgdm.sweep.executors.threads import available_cores

RUNS = resources.import_file(resources.root() / "tests/support/synthetic_runs.py")
SYNTHETIC = resources.import_file(Path(__file__).with_name("bootstrap.py"))
MODELS = {"first": None, "second": "first"}
SEVERITIES = (1.0, 2.0, 3.0, 4.0, 5.0)
CORRUPTIONS = 15
AP = "AP itself"
SECONDS, GIGABYTES = 60.0, 4.0  # bounds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--resamples", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(made(Path(folder), "small", 50), 2)  # compiles
        times = measure(made(Path(folder), "large", given.images), given.resamples)
    cores = available_cores()
    print(
        f"{given.images} images, {SYNTHETIC.DETECTIONS * given.images} detections a cell, {given.resamples} resamples "
        f"(and 200 of the jackknife), {cores} cores\n\nprocessor time for two models, reading included:"
    )
    seconds = 0.0
    for name, used in times.items():
        # First failures are of a corruption, the others of each cell.
        cells = len(SEVERITIES) + (name != "first failures")
        all_cells = CORRUPTIONS * len(SEVERITIES) + (name != "first failures")
        print(
            f"  {name:15s} {used / cells:6.2f} s a cell, {all_cells} cells {used / cells * all_cells:6.1f} s"
        )
        seconds += used / cells * all_cells / cores * (name != AP)
    print(f"\nall beyond AP itself: {seconds:.0f} s, bound {SECONDS:g} s, ratio {seconds / SECONDS:.2f}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"memory at most: {memory:.2f} GB, bound {GIGABYTES:g} GB, ratio {memory / GIGABYTES:.2f}")


def made(folder: Path, name: str, images: int) -> Run:
    """A run of clean images and one corruption."""
    rng = np.random.default_rng(0)
    truth = SYNTHETIC.truth_of(images, rng)
    cells = [
        Cell(model, corruption, severity, cell_key(model=model, corruption=corruption, severity=severity))
        for model in MODELS
        for corruption, severity in [(CLEAN, 0.0), *(("gaussian_noise", s) for s in SEVERITIES)]
    ]
    manifest = RUNS.make_manifest(
        cells, models={m: {"baseline": b} for m, b in MODELS.items()}, data={"images": images}
    )
    run: Run = RUNS.write_run(
        folder,
        name,
        manifest,
        truth,
        lambda _: SYNTHETIC.detections_of(truth, rng),
    )
    return run


def measure(run: Run, resamples: int) -> dict[str, float]:
    """Processor seconds of each part."""
    intervals: list[Intervals] = []
    parts: dict[str, Callable[[], object]] = {
        AP: lambda: bootstrap_intervals(run, resamples=resamples),
        "measures": lambda: intervals.append(
            bootstrap_intervals(run, metrics=tuple(MEASURES), resamples=resamples)
        ),
        "AP by class": lambda: class_intervals(intervals[0], "AP", resamples=resamples),
        "first failures": lambda: first_failures(intervals[0], resamples=resamples),
    }
    times = {}
    for name, part in parts.items():
        began = time.process_time()
        part()
        times[name] = time.process_time() - began
    return times


if __name__ == "__main__":
    main()
