"""A stored run of any size, made up: benchmarks and tests read it as one that was measured."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image as Pillow

from robustbench_sgdm.core import resources
from robustbench_sgdm.core.constants import BENCHMARK, CLEAN, HOLDOUT, METRICS
from robustbench_sgdm.store import Cell, GroundTruth, Manifest, Run

manifests = resources.import_file(Path(__file__).with_name("manifests.py"))

CLASSES = ("person", "cat", "dog", "car")
SIDE = 320, 240


def make_run(
    project: Path,
    name: str,
    models: Sequence[str],
    corruptions: Mapping[str, Sequence[float]],
    *,
    images: int,
    pictures: Sequence[NDArray[np.uint8]] = (),
    resamples: bool = False,
    fingerprints: Mapping[str, str] | None = None,
    leave: int = 0,
) -> Run:
    """A stored run that looks like one: boxes scatter and scores fall with severity; the first model is the baseline.

    Args:
        corruptions: and their severities.
        pictures: shown in turns; by default a few of noise.
        resamples: also the distributions of the bootstrap, scores being made up; else scores are COCO's.
        fingerprints: of the corruptions, so that their pixels can be made again.
        leave: so many cells at the end are not made.
    """
    rng = np.random.default_rng(0)
    files = _files(
        project / f"{name}-images", pictures or [rng.integers(0, 255, (SIDE[1], SIDE[0], 3), np.uint8)]
    )
    truth = _truth(rng, images, files)
    cells = [
        Cell(m, c, float(s), f"{m}|{c}|{s:g}|" + "0" * 40)
        for m in models
        for c, levels in {CLEAN: [0], **corruptions}.items()
        for s in levels
    ]
    manifest = _manifest(models, corruptions, truth, cells, fingerprints or {})
    run = Run.create_or_resume(project, name, manifest, ground_truth=truth)
    scorer = None if resamples else _scorer(truth)
    for cell in run.cells[: len(run.cells) - leave]:
        found = _detections(np.random.default_rng(len(cell.key) + hash_of(cell)), truth, cell, models)
        run.store.write_shard(cell, 0, {str(c): found[c].to_numpy() for c in found})
        run.store.merge_shards(cell, 1)
        level = 45 - 6 * cell.severity + models.index(cell.model)
        metrics: Mapping[str, Any] = (
            {m: level + i / 10 for i, m in enumerate(METRICS)} if scorer is None else scorer(found)
        )
        run.store.commit(cell, metrics, detections=len(found))
        if resamples:
            _resampled(run, cell, level)
    run.write_results()
    return run


def hash_of(cell: Cell) -> int:
    """A number for a cell that does not change between processes."""
    return sum(i * ord(letter) for i, letter in enumerate(str(cell), 1))


def _files(folder: Path, pictures: Sequence[NDArray[np.uint8]]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        Pillow.fromarray(picture).resize(SIDE).save(folder / f"{number:03d}.png")
    return sorted(folder.glob("*.png"))


def _truth(rng: np.random.Generator, images: int, files: Sequence[Path]) -> GroundTruth:
    ids = np.arange(1, images + 1)
    each = rng.integers(2, 8, images)
    owner = np.repeat(ids, each)
    size = rng.uniform(20, 110, (len(owner), 2))
    corner = rng.uniform(0, 1, (len(owner), 2)) * (np.array(SIDE) - size)
    boxes = pd.DataFrame(np.concatenate([corner, size], axis=1), columns=["x", "y", "w", "h"])
    return GroundTruth(
        pd.DataFrame(
            {
                "image_id": ids,
                "file": [str(files[i % len(files)]) for i in range(images)],
                "width": SIDE[0],
                "height": SIDE[1],
            }
        ),
        boxes.assign(
            image_id=owner,
            category_id=rng.integers(1, len(CLASSES) + 1, len(owner)),
            area=boxes["w"] * boxes["h"],
            iscrowd=0,
        ),
        pd.DataFrame({"category_id": range(1, len(CLASSES) + 1), "name": CLASSES}),
    )


def _detections(
    rng: np.random.Generator, truth: GroundTruth, cell: Cell, models: Sequence[str]
) -> pd.DataFrame:
    """One box near each object, whose score falls with severity, and as many stray ones of low scores."""
    objects = truth.annotations
    damage = cell.severity / 5
    spread = 2 + 14 * damage
    first = objects[["x", "y"]].to_numpy() + rng.normal(0, spread, (len(objects), 2))
    last = first + objects[["w", "h"]].to_numpy() * rng.uniform(0.9, 1.1, (len(objects), 2))
    score = np.clip(rng.beta(6, 2, len(objects)) * (1 - 0.7 * damage) + 0.02 * models.index(cell.model), 0, 1)
    stray = rng.permutation(len(objects))
    found = pd.DataFrame(
        {
            "image_id": np.concatenate([objects["image_id"], objects["image_id"]]),
            "category_id": np.concatenate([objects["category_id"], objects["category_id"].to_numpy()[stray]]),
            "score": np.concatenate([score, rng.beta(1, 9, len(objects))]).astype(np.float32),
        }
    )
    corners = np.concatenate([first, first[stray]]), np.concatenate([last, last[stray]])
    for side, (values, axis) in zip(
        ("x1", "y1", "x2", "y2"),
        ((corners[0], 0), (corners[0], 1), (corners[1], 0), (corners[1], 1)),
        strict=True,
    ):
        found[side] = np.clip(values[:, axis], 0, SIDE[axis]).astype(np.float32)
    return found.sort_values("image_id", kind="stable", ignore_index=True)


def _scorer(truth: GroundTruth) -> Callable[[pd.DataFrame], Mapping[str, Any]]:
    from robustbench_sgdm.datasets import Dataset, Image
    from robustbench_sgdm.scoring import Scorer, coco_rows

    boxes = truth.annotations[["x", "y", "w", "h"]].to_numpy().tolist()
    rest: list[Any] = truth.annotations[["image_id", "category_id", "area", "iscrowd"]].to_dict("records")
    annotations = [{"id": i, "bbox": b, **r} for i, (b, r) in enumerate(zip(boxes, rest, strict=True), 1)]
    files: list[Any] = list(truth.images.itertuples())
    listed = [Image(f.image_id, Path(f.file), f.width, f.height) for f in files]
    categories = [
        {"id": i, "name": n}
        for i, n in zip(truth.categories["category_id"], truth.categories["name"], strict=True)
    ]
    scorer = Scorer(Dataset("made", "made", listed, categories, annotations))
    return lambda frame: dict(scorer.score([coco_rows(frame)]).metrics)


def _manifest(
    models: Sequence[str],
    corruptions: Mapping[str, Sequence[float]],
    truth: GroundTruth,
    cells: Sequence[Cell],
    fingerprints: Mapping[str, str],
) -> Manifest:
    families = ("noise",) * 3 + ("blur",) * 4 + ("weather",) * 4 + ("digital",) * 4
    family = dict(zip(BENCHMARK, families, strict=True)) | dict(
        zip(HOLDOUT, ("noise", "blur", "weather", "digital"), strict=True)
    )
    manifest: Manifest = manifests.make_manifest(
        cells,
        command="robustbench run",
        models={
            m: {"baseline": models[0] if i else None, "parameters": 3_000_000 + 200_000 * i}
            for i, m in enumerate(models)
        },
        data={
            "name": "made",
            "source": "made",
            "images": len(truth.images),
            "boxes": len(truth.annotations),
            "fingerprint": "made",
        },
        corruptions={
            c: {
                "family": family.get(c, "edge"),
                "summary": c,
                "source": "made",
                "fingerprint": fingerprints.get(c, "made"),
            }
            for c in corruptions
        },
        versions={"python": sys.version.partition(" ")[0]},
    )
    return manifest


def _resampled(run: Run, cell: Cell, level: float) -> None:
    """Distributions of the bootstrap as `robustness.bootstrap` keeps them."""
    from robustbench_sgdm.robustness.resample_cache import JACKKNIFE_GROUPS, BootstrapSamples, _save
    from robustbench_sgdm.robustness.resampling import METRICS as RESAMPLED

    rng = np.random.default_rng(hash_of(cell))
    estimate = np.array([level + METRICS.index(m) / 10 for m in RESAMPLED])
    noise = rng.normal(0, 0.6, (1000, len(estimate))), rng.normal(0, 0.02, (JACKKNIFE_GROUPS, len(estimate)))
    _save(run, cell, 0, BootstrapSamples(estimate, estimate + noise[0], estimate + noise[1]))
