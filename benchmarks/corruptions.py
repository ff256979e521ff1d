"""Time of each corruption over that of the reference, `imagecorruptions`, in one run on the same cores.

Each severity of each corruption is timed on one photograph of 640 x 480, ours and the reference in turn, so
that a busy machine disturbs both alike, and the fastest of several repeats counts. The last column is its
share of one forward pass of YOLOv8n at 640 px. On CUDA ours has batches of 32, as the detector has, which
then computes in half precision; the reference has no such engine.

    python benchmarks/corruptions.py [--noise NAMES] [--repeats 3] [--threads 0] [--device cpu]
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
from torch import Tensor

from robustbench_sgdm import detectors
from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.constants import BENCHMARK, HOLDOUT
from robustbench_sgdm.corruption import Corruption, apply_corruption, load_corruptions
from robustbench_sgdm.detectors import select_device

PUBLISHED = (*BENCHMARK, *HOLDOUT)
"""What the reference has."""


def main() -> None:
    options = _options()
    if options.threads:
        torch.set_num_threads(options.threads)
        cv2.setNumThreads(options.threads)
    warnings.simplefilter("ignore")  # the reference's, on every call
    device = select_device(options.device)
    chosen, picture = load_corruptions().select(options.noise), _picture()
    images = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].contiguous()
    images = images.repeat(1 if device == "cpu" else 32, 1, 1, 1).to(device)
    forward = _forward(len(images), device, options.repeats)
    where = f"{torch.get_num_threads()} threads" if device == "cpu" else torch.cuda.get_device_name(device)
    print(f"ms per 640 x 480 image on {where}, mean of severities 1 to 5; YOLOv8n forward: {forward:.1f} ms")
    print(f"{'':20s}{'reference':>10s}{'ours':>10s}{'ratio':>10s}{'ours / s':>10s}{'share':>10s}")
    rows = {}
    for corruption in chosen:
        rows[corruption.name] = _row(corruption, picture, images, options.repeats)
        _print(corruption.name, *rows[corruption.name], forward)
    _summary("benchmark", [rows[c.name] for c in chosen if c.base_name in BENCHMARK], forward)
    published = [rows[c.name] for c in chosen if c.base_name in PUBLISHED]
    _summary("with the holdout ones", published, forward)
    _summary("all", list(rows.values()), forward)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--noise", nargs="+", default=["all"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="of torch and OpenCV; 0: as they come")
    return parser.parse_args()


def _picture() -> NDArray[np.uint8]:
    """A photograph of 640 x 480: the coffee cup, mirrored at its lower and right edges."""
    coffee = data.coffee()  # type: ignore[no-untyped-call]
    return np.pad(coffee, ((0, 80), (0, 40), (0, 0)), mode="symmetric")


def _forward(batch: int, device: str, repeats: int) -> float:
    """Milliseconds of YOLOv8n's forward pass for one image of a batch."""
    detector = detectors.load_detector(
        "yolov8n", InferenceConfig(imgsz=640, device=device, half=device != "cpu")
    )
    squares = torch.full((batch, 3, 640, 640), 114, dtype=torch.uint8, device=device)
    return 1e3 * _fastest([lambda: detector.forward(squares)], repeats)[0] / batch


def _row(
    corruption: Corruption, picture: NDArray[np.uint8], images: Tensor, repeats: int
) -> tuple[float, float]:
    """Mean milliseconds an image of the reference, NaN where it is not timed, and of ours."""
    compared = images.device.type == "cpu" and corruption.base_name in PUBLISHED
    times = []
    for severity in range(1, 6):
        ours = partial(apply_corruption, corruption, images, severity, seed=0, image_ids=range(len(images)))
        theirs = partial(reference, picture, severity, corruption.name) if compared else _nothing
        times.append(_fastest([theirs, ours], repeats))
    there, here = (1e3 * statistics.fmean(seconds) for seconds in zip(*times, strict=True))
    return there if compared else math.nan, here / len(images)


def _print(name: str, there: float, here: float, forward: float) -> None:
    compared = "".join(f"{'–' if math.isnan(v) else f'{v:.1f}':>10s}" for v in (there, here, there / here))
    print(f"{name:20s}{compared}{1e3 / here:10.0f}{100 * here / forward:9.1f}%", flush=True)


def _nothing() -> None:
    """Stands for the reference where it has no such corruption."""


def _summary(title: str, rows: Sequence[tuple[float, float]], forward: float) -> None:
    if not rows:
        return
    share = f"{100 * statistics.fmean(here for _, here in rows) / forward:.1f} % of a forward pass on average"
    there, here = (sum(column) for column in zip(*rows, strict=True))
    if math.isnan(there):
        print(f"{title}: {share}")
        return
    ratios = [a / b for a, b in rows]
    print(
        f"{title}: {there:.0f} / {here:.0f} ms = {there / here:.1f} in sum, "
        f"{statistics.geometric_mean(ratios):.1f} in geometric mean, {min(ratios):.2f} at least; {share}"
    )


def _fastest(calls: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Seconds of the fastest of several alternated runs of each, after one that does not count."""
    found = [math.inf] * len(calls)
    for repeat in range(repeats + 1):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat:
                found[i] = min(found[i], time.perf_counter() - start)
    return found


if __name__ == "__main__":
    main()
