"""Small data sets with everything that decides a score: crowds, sizes, ties, empty images, absent classes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from robustbench_sgdm.core.constants import CLEAN, METRICS
from robustbench_sgdm.robustness.matching import SortedTruth, match_detections
from robustbench_sgdm.robustness.resampling import Resampler
from robustbench_sgdm.store import Cell, GroundTruth, Run, cell_key
from tests.support.synthetic_runs import make_manifest, write_run

CATEGORIES = [1, 5, 90]  # nothing is ever annotated as 90


def ground_truth(seed: int, images: int = 30) -> GroundTruth:
    """Boxes of every size, some of them crowds, in all but the last image."""
    rng = np.random.default_rng(seed)
    count = 3 * images
    size = np.exp(rng.uniform(np.log(8), np.log(250), (count, 2)))
    size[:3] = 32, 32  # on the border of small and medium
    corner = rng.uniform(0, 200, (count, 2)).round(2)
    annotations = pd.DataFrame(np.concatenate([corner, size], axis=1), columns=["x", "y", "w", "h"])
    annotations["category_id"] = rng.choice(CATEGORIES[:2], count)
    annotations["image_id"] = 7 * rng.integers(1, max(images, 2), count)
    annotations["area"] = annotations["w"] * annotations["h"] * np.where(rng.random(count) < 0.3, 0.6, 1)
    annotations["iscrowd"] = (rng.random(count) < 0.1).astype(int)
    ids = 7 * np.arange(1, images + 1)
    pictures = pd.DataFrame({"image_id": ids, "file": "x.png", "width": 640, "height": 480})
    names = pd.DataFrame({"category_id": CATEGORIES, "name": [f"c{i}" for i in CATEGORIES]})
    return GroundTruth(pictures, annotations, names)


def detections(truth: GroundTruth, seed: int, *, ties: bool = True, shift: float = 3.0) -> pd.DataFrame:
    """The boxes, moved a little, some twice, and as many false ones; with `ties`, few different scores."""
    rng = np.random.default_rng(seed)
    found = truth.annotations.sample(frac=1.4, replace=True, random_state=seed)
    xy = found[["x", "y"]].to_numpy() + rng.normal(0, shift, (len(found), 2))
    size = found[["w", "h"]].to_numpy() * np.exp(rng.normal(0, 0.03 * shift, (len(found), 2)))
    near = pd.DataFrame(np.concatenate([xy, xy + size], axis=1), columns=["x1", "y1", "x2", "y2"])
    near.insert(0, "category_id", found["category_id"].to_numpy())
    near.insert(0, "image_id", found["image_id"].to_numpy())
    wrong = near.assign(
        image_id=rng.choice(truth.images["image_id"], len(near)),
        category_id=rng.choice(CATEGORIES, len(near)),
    )
    every = pd.concat([near, wrong], ignore_index=True)
    score = np.concatenate([rng.beta(3, 2, len(near)), rng.beta(2, 3, len(near))])
    every["score"] = score.round(1) if ties else score
    return every.astype(dict.fromkeys(["score", "x1", "y1", "x2", "y2"], np.float32))


def resampler(given: GroundTruth, found: pd.DataFrame) -> Resampler:
    truth = SortedTruth.build(given.images["image_id"], given.categories["category_id"], given.annotations)
    return Resampler(truth, match_detections(truth, found))


class Made:
    """The functions above, for tests, which cannot import from here."""

    categories = CATEGORIES
    truth = staticmethod(ground_truth)
    detections = staticmethod(detections)
    resampler = staticmethod(resampler)


@pytest.fixture(scope="session")
def made() -> type[Made]:
    return Made


MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A stored run of models on made-up detections that get worse with severity, scored by the real scorer."""

    def make(
        models: dict[str, str | None],
        corruptions: dict[str, list[float]],
        *,
        name: str = "r",
        images: int = 30,
        truth_seed: int = 0,
        worse: float = 1.0,
        settings: dict[str, object] | None = None,
        leave: tuple[tuple[str, str, float], ...] = (),
        hopeless: bool = False,
    ) -> Run:
        truth = ground_truth(truth_seed, images)
        planned = [
            (m, c, s) for m in models for c, levels in ({CLEAN: [0.0]} | corruptions).items() for s in levels
        ]
        used = {"engine": "torch", "seed": 0, "device": "cpu", **(settings or {})}
        print_ = f"data{truth_seed}-{images}"
        cells = [Cell(m, c, s, cell_key(model=m, c=c, s=s, data=print_, **used)) for m, c, s in planned]
        manifest = make_manifest(
            cells,
            models={m: {"baseline": b} for m, b in models.items()},
            data={"name": "d", "images": images, "fingerprint": print_},
            corruptions={c: {"family": "noise" if "noise" in c else "weather"} for c in corruptions},
            settings=used,
        )

        def detect(cell: Cell) -> pd.DataFrame:
            order = list(models).index(cell.model)
            made = detections(truth, 10 + order, shift=2 + worse * order + 2 * cell.severity)
            return made[:0] if hopeless else made  # a detector without any box

        skip = [cell for cell in cells if (cell.model, cell.corruption, cell.severity) in leave]
        run = write_run(tmp_path, name, manifest, truth, detect, skip=skip)
        assert set(METRICS) == set(run.store.read_scores(run.cells[0]).metrics)
        return run

    return make
