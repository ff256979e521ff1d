"""Time of the paired bootstrap against hotcoco's own, on synthetic detections with COCO's counts.

1,000 resamples of AP, AP50 and the three sizes for two models on one cell of 5,000 images (80 classes, about
36,000 boxes, 100 detections an image). hotcoco resamples fewer images and fewer times; its time grows with
both, so the ratio is taken per resample on the same data. It is one of processor time, the least of several runs, which
other load on the machine changes little.
"""

import argparse
import time

import numpy as np
import pandas as pd

from robustbench_sgdm.robustness.matching import SortedTruth, match_detections
from robustbench_sgdm.robustness.outcomes import evaluate_with_hotcoco, to_hotcoco
from robustbench_sgdm.robustness.resample_cache import bootstrap_weights, resample_cell
from robustbench_sgdm.robustness.resampling import Resampler
from robustbench_sgdm.store import GroundTruth

CLASSES, BOXES, DETECTIONS = 80, 7.3, 100


def truth_of(images: int, rng: np.random.Generator) -> GroundTruth:
    """Boxes whose classes are as unequal and whose sizes as spread as COCO's."""
    count = round(BOXES * images)
    share = 1 / np.arange(1, CLASSES + 1)
    size = np.exp(rng.normal(4.0, 1.0, (count, 2))).clip(4, 400)
    boxes = pd.DataFrame(np.concatenate([rng.uniform(0, 240, (count, 2)), size], 1), columns=list("xywh"))
    boxes["image_id"] = rng.integers(1, images + 1, count)
    boxes["category_id"] = rng.choice(CLASSES, count, p=share / share.sum()) + 1
    boxes["area"] = boxes["w"] * boxes["h"] * 0.6
    boxes["iscrowd"] = (rng.random(count) < 0.01).astype(int)
    pictures = pd.DataFrame({"image_id": np.arange(1, images + 1), "file": "", "width": 640, "height": 640})
    names = pd.DataFrame({"category_id": np.arange(1, CLASSES + 1)})
    return GroundTruth(pictures, boxes, names.assign(name=names["category_id"].astype(str)))


def detections_of(truth: GroundTruth, rng: np.random.Generator) -> pd.DataFrame:
    """Most boxes found, loosely; the rest of the hundred an image false and unsure, as below a confidence of 0.001."""
    found = truth.annotations.sample(frac=0.85, random_state=int(rng.integers(2**31)))
    xy = found[["x", "y"]].to_numpy() + rng.normal(0, 5, (len(found), 2))
    size = found[["w", "h"]].to_numpy() * np.exp(rng.normal(0, 0.1, (len(found), 2)))
    columns = ["x1", "y1", "x2", "y2"]
    good = pd.DataFrame(np.concatenate([xy, xy + size], 1), columns=columns)
    good["image_id"], good["category_id"] = found["image_id"].to_numpy(), found["category_id"].to_numpy()
    good["score"] = rng.beta(3, 2, len(good))
    count = DETECTIONS * len(truth.images) - len(good)
    corner, size = rng.uniform(0, 500, (count, 2)), np.exp(rng.normal(4.0, 1.0, (count, 2)))
    bad = pd.DataFrame(np.concatenate([corner, corner + size], 1), columns=columns)
    bad["image_id"] = rng.integers(1, len(truth.images) + 1, count)
    bad["category_id"] = rng.choice(truth.annotations["category_id"].to_numpy(), count)
    bad["score"] = rng.beta(1, 8, count)
    return pd.concat([good, bad], ignore_index=True).astype(dict.fromkeys([*columns, "score"], np.float32))


def ours(truth: GroundTruth, models: list[pd.DataFrame], resamples: int) -> float:
    """Processor seconds, matching included, on the machine's cores as `bootstrap_intervals` uses them."""
    from concurrent.futures import ThreadPoolExecutor

    start = time.process_time()
    ordered = SortedTruth.build(truth.images["image_id"], truth.categories["category_id"], truth.annotations)
    drawn = bootstrap_weights(len(truth.images), resamples, 0)
    with ThreadPoolExecutor() as pool:
        list(
            pool.map(lambda m: resample_cell(Resampler(ordered, match_detections(ordered, m)), drawn), models)
        )
    return time.process_time() - start


def theirs(truth: GroundTruth, models: list[pd.DataFrame], resamples: int) -> float:
    """Processor seconds of `hotcoco.compare`, matching included."""
    import hotcoco

    start = time.process_time()
    index = to_hotcoco(truth)
    first, second = (evaluate_with_hotcoco(index, m) for m in models)
    hotcoco.compare(first, second, n_bootstrap=resamples, seed=0)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000, help="of ours")
    parser.add_argument("--resamples", type=int, default=1000, help="of ours")
    parser.add_argument("--peer-images", type=int, default=2000, help="of both in the comparison")
    parser.add_argument("--peer-resamples", type=int, default=100, help="of both in the comparison")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    small = truth_of(50, rng)
    ours(small, [detections_of(small, rng)], 2)  # compiles

    truth = truth_of(given.images, rng)
    models = [detections_of(truth, rng) for _ in range(2)]
    start = time.perf_counter()
    used = ours(truth, models, given.resamples)
    seconds = time.perf_counter() - start
    print(
        f"{given.images} images, {len(truth.annotations)} boxes, {len(models[0])} detections, 2 models, "
        f"{given.resamples} resamples (and 200 of the jackknife): {seconds:.1f} s ({used:.1f} s of processors), "
        f"bound 20 s, ratio {seconds / 20:.2f}"
    )
    truth = truth_of(given.peer_images, rng)
    models = [detections_of(truth, rng) for _ in range(2)]
    counts = (2, 2 + given.peer_resamples)
    few, many = (min(ours(truth, models, n) for _ in range(5)) for n in counts)
    few_theirs, many_theirs = (min(theirs(truth, models, n) for _ in range(3)) for n in counts)
    each, each_theirs = ((b - a) / given.peer_resamples for a, b in ((few, many), (few_theirs, many_theirs)))
    print(
        f"{given.peer_images} images, processor time of a resample of two models: {1000 * each:.2f} ms, "
        f"hotcoco.compare {1000 * each_theirs:.1f} ms, ratio {each_theirs / each:.1f} (aim: 25)"
    )


if __name__ == "__main__":
    main()
