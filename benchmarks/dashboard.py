"""The dashboard on a large stored run: first meaningful paint, the change of a control, memory.

Each is printed beside its bound and as a ratio to it. The run is synthetic: 19 corruptions at 5 severities, four
models, 5,000 images, with detections, scores and resamples of the usual sizes. Needs Debian's `chromium`.

    python benchmarks/dashboard.py [--images 5000] [--models 4] [--keep FOLDER]
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image as Pillow

from robustbench_sgdm import corruption
from robustbench_sgdm.store import Cell, GroundTruth, Run
from robustbench_sgdm.types import BENCHMARK, CLEAN, HOLDOUT, METRICS

BOUNDS = {"first meaningful paint": 3.0, "change": 0.5, "memory": 1.0}  # s, s, GB
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
)
CHROMIUM = Path("/usr/bin/chromium")
CLASSES = ("person", "cat", "dog", "car")
SIDE = 320, 240


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument(
        "--keep", type=Path, help="Make the run here and leave it; used again if it is there."
    )
    options = parser.parse_args()
    if not CHROMIUM.is_file():
        print("no chromium: apt-get install chromium")
        return
    with tempfile.TemporaryDirectory() as folder:
        project = options.keep or Path(folder)
        if not (project / "large/plan.yaml").is_file():
            models = [f"model{i}" if i else "base" for i in range(options.models)]
            corruptions = {c: [1, 2, 3, 4, 5] for c in (*BENCHMARK, *HOLDOUT)}
            known = {c.name: c.fingerprint() for c in corruption.load()}
            make_run(
                project,
                "large",
                models,
                corruptions,
                images=options.images,
                resamples=True,
                fingerprints=known,
            )
        measure(project)


def measure(project: Path) -> None:
    """Start the dashboard, look at it, print."""
    from playwright.sync_api import sync_playwright

    with Serving(project) as (address, process), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        start = time.perf_counter()
        page.goto(address)
        page.get_by_test_id("stDataFrame").first.wait_for(timeout=120_000)
        _say(
            "first meaningful paint", "cold, from the address to the leaderboard", time.perf_counter() - start
        )
        _settled(page)
        start = time.perf_counter()
        page.goto(address)
        page.get_by_test_id("stDataFrame").first.wait_for(timeout=120_000)
        _say("first meaningful paint", "a second visitor", time.perf_counter() - start)
        _settled(page)
        _changes(page, address)
        _say("memory", "of the server, GB", _memory(process.pid))
        browser.close()


def _changes(page: Any, address: str) -> None:
    """Turn one control of each page to and fro; the first time of each is not counted."""

    def alternate(name: str, choices: Sequence[Callable[[], None]]) -> None:
        took = []
        for turn in range(6):
            start = time.perf_counter()
            choices[turn % len(choices)]()
            _settled(page)
            took.append(time.perf_counter() - start)
        _say("change", name, statistics.median(took[2:]))

    def button(name: str) -> Callable[[], None]:
        return lambda: page.get_by_role("radio", name=name, exact=True).click()

    alternate("overview, filter by size", [button("small"), button("medium")])
    page.goto(f"{address}/curves")
    page.get_by_test_id("stVegaLiteChart").first.wait_for(timeout=120_000)
    _settled(page)
    toggle = page.get_by_text("95 % bands")
    alternate("curves of a family, bands on and off", [toggle.click, toggle.click])
    page.goto(f"{address}/images?order=as+in+the+data")
    page.get_by_role("button", name="Next image").wait_for(timeout=120_000)
    _settled(page)
    slider = page.get_by_role("slider", name="Severity")
    alternate("images, severity", [lambda: slider.press("ArrowRight"), lambda: slider.press("ArrowLeft")])
    following = page.get_by_role("button", name="Next image")
    alternate("images, next", [following.click])


def _settled(page: Any) -> None:
    """Until the script has run; it begins within the first moments after a change."""
    page.wait_for_timeout(60)
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=120_000)


def _say(bound: str, what: str, value: float) -> None:
    most = BOUNDS[bound]
    print(f"{bound:24} {what:44} {value:6.2f}  bound {most:g}  ratio {value / most:.2f}")


def _memory(pid: int) -> float:
    import psutil

    process = psutil.Process(pid)
    return float(sum(p.memory_info().rss for p in [process, *process.children(recursive=True)]) / 1e9)


class Serving:
    """The dashboard on a free port: its address and its process, stopped at the end."""

    def __init__(self, project: Path, *words: str, environment: Mapping[str, str] | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        self.address = f"http://localhost:{port}"
        command = [sys.executable, "-m", "robustbench_sgdm.cli", "dashboard", "--project", str(project)]
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self.process = subprocess.Popen(
            [*command, "--port", str(port), *words],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )

    def __enter__(self) -> tuple[str, "subprocess.Popen[bytes]"]:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.address}/_stcore/health", timeout=5).read()
                return self.address, self.process
            except OSError:
                time.sleep(0.2)
                if self.process.poll() is not None:
                    break
        raise RuntimeError(f"the dashboard did not start: {self.words()}")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.log.close()

    def words(self) -> str:
        """What it printed."""
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace")


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
        {"model": m, "corruption": c, "severity": float(s), "key": f"{m}|{c}|{s:g}|" + "0" * 40}
        for m in models
        for c, levels in {CLEAN: [0], **corruptions}.items()
        for s in levels
    ]
    run = Run.start(project, name, _plan(models, corruptions, truth, cells, fingerprints or {}), truth=truth)
    scorer = None if resamples else _scorer(truth)
    for cell in run.cells[: len(run.cells) - leave]:
        found = _detections(np.random.default_rng(len(cell.key) + hash_of(cell)), truth, cell, models)
        run.store.write_shard(cell, 0, {str(c): found[c].to_numpy() for c in found})
        run.store.merge(cell, 1)
        level = 45 - 6 * cell.severity + models.index(cell.model)
        metrics: Mapping[str, Any] = (
            {m: level + i / 10 for i, m in enumerate(METRICS)} if scorer is None else scorer(found)
        )
        run.store.finish(cell, {"detections": len(found), "metrics": metrics, "per_class": {}})
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
    from robustbench_sgdm.scoring import Scorer, rows

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
    return lambda frame: dict(scorer.score([rows(frame)]).metrics)


def _plan(
    models: Sequence[str],
    corruptions: Mapping[str, Sequence[float]],
    truth: GroundTruth,
    cells: Sequence[Mapping[str, Any]],
    fingerprints: Mapping[str, str],
) -> dict[str, Any]:
    families = ("noise",) * 3 + ("blur",) * 4 + ("weather",) * 4 + ("digital",) * 4
    family = dict(zip(BENCHMARK, families, strict=True)) | dict(
        zip(HOLDOUT, ("noise", "blur", "weather", "digital"), strict=True)
    )
    about = {
        m: {
            "baseline": None if i == 0 else models[0],
            "parameters": 3_000_000 + 200_000 * i,
            "weights": "none",
        }
        for i, m in enumerate(models)
    }
    return {
        "command": "robustbench run",
        "models": about,
        "data": {
            "name": "made",
            "source": "made",
            "images": len(truth.images),
            "boxes": len(truth.annotations),
            "fingerprint": "made",
        },
        "corruptions": {
            c: {
                "family": family.get(c, "edge"),
                "summary": c,
                "source": "made",
                "strengths": {},
                **({"fingerprint": fingerprints[c]} if c in fingerprints else {}),
            }
            for c in corruptions
        },
        "settings": {"engine": "torch", "seed": 0, "device": "cpu"},
        "versions": {"python": sys.version.partition(" ")[0]},
        "cells": list(cells),
    }


def _resampled(run: Run, cell: Cell, level: float) -> None:
    """Distributions of the bootstrap as `robustness.bootstrap` keeps them."""
    from robustbench_sgdm.robustness.bootstrap import GROUPS, Draws, _keep
    from robustbench_sgdm.robustness.resampling import METRICS as RESAMPLED

    rng = np.random.default_rng(hash_of(cell))
    estimate = np.array([level + METRICS.index(m) / 10 for m in RESAMPLED])
    noise = rng.normal(0, 0.6, (1000, len(estimate))), rng.normal(0, 0.02, (GROUPS, len(estimate)))
    _keep(run, cell, 0, Draws(estimate, estimate + noise[0], estimate + noise[1]))


if __name__ == "__main__":
    main()
