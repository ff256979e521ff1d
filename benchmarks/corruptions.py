"""Time of each corruption over that of the reference, `imagecorruptions`, in one run on the same cores.

Each severity of each corruption is timed on one photograph of 640 x 480, ours and the reference in turn, so
that a busy machine disturbs both alike, and the fastest of several repeats counts.

    python benchmarks/corruptions.py [--noise NAMES] [--repeats 3] [--threads 0]
"""

import argparse
import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
import torch
from imagecorruptions import corrupt as reference
from numpy.typing import NDArray
from skimage import data

from robustbench_sgdm.corruption import Corruption, apply, load


def main() -> None:
    options = _options()
    if options.threads:
        torch.set_num_threads(options.threads)
        cv2.setNumThreads(options.threads)
    warnings.simplefilter("ignore")  # the reference's, on every call
    picture = _picture()
    chosen = load().select(options.noise)
    print(f"ms per 640 x 480 image, {torch.get_num_threads()} threads, mean of severities 1 to 5")
    print(f"{'':20s}{'reference':>10s}{'ours':>10s}{'ratio':>10s}")
    rows = {corruption.name: _row(corruption, picture, options.repeats) for corruption in chosen}
    _summary("benchmark", [rows[c.name] for c in chosen if c.benchmark])
    _summary("with the holdout ones", [rows[c.name] for c in chosen if c.benchmark or c.holdout])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--noise", nargs="+", default=["all"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="of torch and OpenCV; 0: as they come")
    return parser.parse_args()


def _picture() -> NDArray[np.uint8]:
    """A photograph of 640 x 480: the coffee cup, mirrored at its lower edge."""
    coffee = data.coffee()  # type: ignore[no-untyped-call]
    return np.ascontiguousarray(np.concatenate([coffee, coffee[: -480 + 399 : -1]])[:480, :640])


def _row(corruption: Corruption, picture: NDArray[np.uint8], repeats: int) -> tuple[float, float]:
    """Mean milliseconds of the reference (NaN where it has none) and of ours; prints them as a row."""
    images = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].contiguous()
    published = corruption.benchmark or corruption.holdout
    times = []
    for severity in range(1, 6):
        ours = partial(apply, corruption, images, severity, seed=0, image_ids=[0])
        theirs = partial(reference, picture, severity, corruption.name) if published else _nothing
        times.append(_fastest([theirs, ours], repeats))
    there, here = (1e3 * statistics.fmean(seconds) for seconds in zip(*times, strict=True))
    if published:
        print(f"{corruption.name:20s}{there:10.1f}{here:10.1f}{there / here:10.1f}", flush=True)
        return there, here
    print(f"{corruption.name:20s}{'–':>10s}{here:10.1f}{'–':>10s}", flush=True)
    return math.nan, here


def _nothing() -> None:
    """Stands for the reference where it has no such corruption."""


def _summary(title: str, rows: Sequence[tuple[float, float]]) -> None:
    if not rows:
        return
    there, here = (sum(column) for column in zip(*rows, strict=True))
    ratios = [a / b for a, b in rows]
    print(
        f"{title}: {there:.0f} / {here:.0f} ms = {there / here:.1f} in sum, "
        f"{statistics.geometric_mean(ratios):.1f} in geometric mean, {min(ratios):.2f} at least"
    )


def _fastest(calls: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Seconds of the fastest of several alternated runs of each, after one that does not count."""
    found = [math.inf] * len(calls)
    for repeat in range(repeats + 1):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            if repeat:
                found[i] = min(found[i], time.perf_counter() - start)
    return found


if __name__ == "__main__":
    main()
