"""Builds stored runs for tests and benchmarks: manifests, synthetic detections and scores, bootstrap samples.

Tests import this module; benchmarks load it as a file, so that they need not be started from the repository's root.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image as Pillow

from robustbench_sgdm.core.constants import BENCHMARK, CLEAN, HOLDOUT, METRICS
from robustbench_sgdm.store import MANIFEST, Cell, GroundTruth, Manifest, Run

if TYPE_CHECKING:
    from robustbench_sgdm.datasets import Dataset

CLASSES = ("person", "cat", "dog", "car")
SIDE = 320, 240
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "models": {"weights": "none"},
    "data": {"name": "d", "images": 2, "fingerprint": "f"},
    "corruptions": {"family": "noise", "fingerprint": "f"},
    "settings": {"engine": "torch", "seed": 0, "device": "cpu"},
}


def make_manifest(cells: Iterable[Cell] = (), **parts: Any) -> Manifest:
    """A manifest of these cells.

    Args:
        cells: of models and corruptions that need no description.
        parts: of the manifest, by name; an entry that lacks a field gets one.
    """
    cells = tuple(cells)
    models: dict[str, Any] = {cell.model: {} for cell in cells}
    models |= parts.pop("models", {})
    corruptions: dict[str, Any] = {cell.corruption: {} for cell in cells if cell.corruption != CLEAN}
    corruptions |= parts.pop("corruptions", {})
    fields = {
        "models": {name: {**_DEFAULTS["models"], **about} for name, about in models.items()},
        "data": {**_DEFAULTS["data"], **parts.pop("data", {})},
        "corruptions": {name: {**_DEFAULTS["corruptions"], **about} for name, about in corruptions.items()},
        "settings": {**_DEFAULTS["settings"], **parts.pop("settings", {})},
        "cells": cells,
        **parts,
    }
    return Manifest.make(fields, "a synthetic manifest")


def changed(manifest: Manifest, **parts: Any) -> Manifest:
    """The manifest with other parts; of a mapping, the entries that are given, at any depth."""
    fields = {name: value for name, value in manifest.content().items() if name != "schema"}
    return Manifest.make(_merged(fields, parts), "a synthetic manifest")


def rewrite(run: Run, **parts: Any) -> Run:
    """The run with a `changed` manifest in its directory."""
    changed(run.manifest, **parts).write(MANIFEST, run.files)
    return Run.open(run.path)


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return old | {name: _merged(old.get(name), value) for name, value in new.items()}


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
    classes: Sequence[str] = CLASSES,
) -> Run:
    """A stored run that looks like one: boxes scatter and scores fall with severity; the first model is the baseline.

    Args:
        corruptions: and their severities.
        pictures: shown in turns; by default a few of noise.
        resamples: also the distributions of the bootstrap, scores being made up; else scores are COCO's.
        fingerprints: of the corruptions, so that their pixels can be made again.
        leave: so many cells at the end are not made.
        classes: of the objects, in equal shares.
    """
    rng = np.random.default_rng(0)
    files = _files(
        project / f"{name}-images", pictures or [rng.integers(0, 255, (SIDE[1], SIDE[0], 3), np.uint8)]
    )
    truth = _truth(rng, images, files, classes)
    cells = [
        Cell(m, c, float(s), f"{m}|{c}|{s:g}|" + "0" * 40)
        for m in models
        for c, levels in {CLEAN: [0], **corruptions}.items()
        for s in levels
    ]
    manifest = _manifest(models, corruptions, truth, cells, fingerprints or {})

    def score(cell: Cell) -> float:
        return 45 - 6 * cell.severity + models.index(cell.model)

    def detect(cell: Cell) -> pd.DataFrame:
        return _detections(np.random.default_rng(len(cell.key) + _hash(cell)), truth, cell, models)

    run = write_run(
        project,
        name,
        manifest,
        truth,
        detect,
        scores=(lambda cell: {m: score(cell) + i / 10 for i, m in enumerate(METRICS)}) if resamples else None,
        skip=cells[len(cells) - leave :],
    )
    for cell in run.cells[: len(cells) - leave] if resamples else ():
        write_samples(run, cell, score(cell))
    run.write_results()
    return run


def write_run(
    project: Path,
    name: str,
    manifest: Manifest,
    truth: GroundTruth | None,
    detections: Callable[[Cell], pd.DataFrame],
    *,
    scores: Callable[[Cell], Mapping[str, float | None]] | None = None,
    skip: Sequence[Cell] = (),
) -> Run:
    """Write a run directory.

    Args:
        project: folder for it.
        name: of the directory.
        manifest: its cells are written.
        truth: of the images; None for a run without.
        detections: of each cell; columns image_id, category_id, score, x1, y1, x2, y2.
        scores: of each cell, in percent; COCO's scores of the detections if None.
        skip: cells that stay missing.
    """
    run = Run.create_or_resume(project, name, manifest, ground_truth=truth)
    if scores is None:
        from robustbench_sgdm.scoring import Scorer
        from robustbench_sgdm.sweep import score_cell

        assert truth is not None
        scorer = Scorer(to_dataset(truth))
    for cell in (cell for cell in run.cells if cell not in skip):
        frame = detections(cell)
        run.store.write_shard(cell, 0, {str(c): frame[c].to_numpy() for c in frame})
        if scores is None:
            score_cell(run.store, cell, 1, scorer)
        else:
            run.store.merge_shards(cell, 1)
            run.store.commit(cell, scores(cell), detections=len(frame))
    return run


def detection_frame(rows: Sequence[tuple[float, ...]]) -> pd.DataFrame:
    """Detections of (image_id, category_id, score, x1, y1, x2, y2)."""
    columns = ["image_id", "category_id", "score", "x1", "y1", "x2", "y2"]
    types = dict.fromkeys(columns[:2], np.int64) | dict.fromkeys(columns[2:], np.float32)
    return pd.DataFrame(rows, columns=columns).astype(types)


def to_dataset(truth: GroundTruth) -> "Dataset":
    """The data set of a ground truth."""
    from robustbench_sgdm.datasets import Dataset, Image

    boxes = truth.annotations[["x", "y", "w", "h"]].to_numpy().tolist()
    others: list[Any] = truth.annotations[["image_id", "category_id", "area", "iscrowd"]].to_dict("records")
    annotations: list[Any] = [
        {"id": i, "bbox": box, **other} for i, (box, other) in enumerate(zip(boxes, others, strict=True), 1)
    ]
    rows: list[Any] = list(truth.images.itertuples())
    images = [Image(int(row.image_id), Path(row.file), row.width, row.height) for row in rows]
    categories: list[Any] = truth.categories.rename(columns={"category_id": "id"}).to_dict("records")
    return Dataset("synthetic", "synthetic", images, categories, annotations)


def _hash(cell: Cell) -> int:
    """A number for a cell that does not change between processes."""
    return sum(i * ord(letter) for i, letter in enumerate(str(cell), 1))


def _files(folder: Path, pictures: Sequence[NDArray[np.uint8]]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        Pillow.fromarray(picture).resize(SIDE).save(folder / f"{number:03d}.png")
    return sorted(folder.glob("*.png"))


def _truth(
    rng: np.random.Generator, images: int, files: Sequence[Path], classes: Sequence[str]
) -> GroundTruth:
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
            category_id=rng.integers(1, len(classes) + 1, len(owner)),
            area=boxes["w"] * boxes["h"],
            iscrowd=0,
        ),
        pd.DataFrame({"category_id": range(1, len(classes) + 1), "name": classes}),
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
    return make_manifest(
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


def write_samples(run: Run, cell: Cell, level: float) -> None:
    """Write made-up bootstrap samples of a cell about a score, as `robustness` caches them."""
    from robustbench_sgdm.robustness.resample_cache import (
        JACKKNIFE_GROUPS,
        BootstrapSamples,
        average_precision,
        save_samples,
    )
    from robustbench_sgdm.robustness.resampling import METRICS as RESAMPLED

    rng = np.random.default_rng(_hash(cell))
    estimate = np.array([level + METRICS.index(m) / 10 for m in RESAMPLED])
    noise = rng.normal(0, 0.6, (1000, len(estimate))), rng.normal(0, 0.02, (JACKKNIFE_GROUPS, len(estimate)))
    save_samples(
        run,
        cell,
        average_precision(),
        0,
        BootstrapSamples(estimate, estimate + noise[0], estimate + noise[1]),
    )
