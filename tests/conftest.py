"""Fixtures: real photographs, the COCO images and weights beside the checkout where they are, small data sets."""

import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray
from PIL import Image as Pillow

from robustbench_sgdm.core import resources
from robustbench_sgdm.core.constants import METRICS
from robustbench_sgdm.store import Cell, Run, cell_key
from tests.support.synthetic_runs import detection_frame, make_manifest, write_run

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # pytest runs a process per core; this is for those that tests start
torch.set_num_threads(1)

# The same examples in every run, however slow the machine: `--hypothesis-profile default` draws others.
settings.register_profile("suite", derandomize=True, deadline=None, database=None)
settings.load_profile("suite")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def _seed() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002, TID251 - tests may draw from the global state; none depends on those before
    torch.manual_seed(0)  # noqa: TID251


@pytest.fixture(scope="module", autouse=True)
def _seeded_for_fixtures() -> None:
    """What a module's own fixtures draw is the same in any order of the modules."""
    _seed()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Networks begin with the same weights in every run, whatever ran before."""
    _seed()


@pytest.fixture(autouse=True)
def _private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's cache; what is rendered is shared by all tests of a session."""
    own = tmp_path_factory.getbasetemp()
    session = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    monkeypatch.setenv("ROBUSTBENCH_CACHE", str(session / "cache"))


@pytest.fixture(scope="session")
def photographs() -> list[NDArray[np.uint8]]:
    """Photographs that scikit-image bundles, (H, W, 3) uint8 RGB."""
    from skimage import data

    return [getattr(data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")]


@pytest.fixture(scope="session")
def coco_json() -> Path:
    """128 genuine COCO val2017 images with their annotations."""
    return _shared("coco-val-mini/annotations/instances_val2017.json")


@pytest.fixture(scope="session")
def coco_weights() -> Path:
    """YOLOv8n for COCO, rebuilt from 8-bit exports."""
    return _shared("weights/yolov8n-int8deq.pt")


def _shared(relative: str) -> Path:
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    return path


@pytest.fixture
def tiny_coco(tmp_path: Path, photographs: list[NDArray[np.uint8]]) -> Path:
    """A COCO json over four photographs of two sizes, with two of the COCO classes."""
    return write_coco(tmp_path / "tiny", photographs)


@pytest.fixture
def coco_of() -> Callable[..., Path]:
    """`write_coco`, for pictures of a test's own."""
    return write_coco


def write_coco(root: Path, pictures: list[NDArray[np.uint8]], **changes: Any) -> Path:
    """Write pictures and a COCO json (annotations/val.json, images/val/*.png); `changes` replace its keys."""
    (root / "images/val").mkdir(parents=True)
    (root / "annotations").mkdir()
    images, annotations = [], []
    for number, picture in enumerate(pictures, start=1):
        small = np.asarray(Pillow.fromarray(picture).resize((96, 96) if number % 2 else (128, 80)))
        name = f"{number:03d}.png"
        Pillow.fromarray(small).save(root / "images/val" / name)
        height, width = small.shape[:2]
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1 + number % 2,
                "bbox": [10, 10, 40 + number, 50],
                "area": (40 + number) * 50,
                "iscrowd": 0,
            }
        )
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "cat"}]
    content = {"images": images, "annotations": annotations, "categories": categories} | changes
    path = root / "annotations/val.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def small_run(tmp_path: Path) -> Run:
    """A stored run of two models, clean and two severities, with scores entered as data; nothing small in it."""
    scores = {("base", 0): 40.0, ("base", 2): 30.0, ("base", 4): 20.0}
    scores |= {("base-module", 0): 40.0, ("base-module", 2): 31.5, ("base-module", 4): 20.0}
    cells = [Cell(m, "gaussian_noise" if s else "clean", float(s), f"{m}{s}" * 8) for m, s in scores]
    manifest = make_manifest(
        cells,
        command="robustbench run",
        models={"base": {"parameters": 1}, "base-module": {"baseline": "base", "parameters": 2}},
        data={"name": "<script>alert(1)</script>", "source": "x", "images": 4, "boxes": 4},
        corruptions={
            "gaussian_noise": {"summary": "Noise.", "source": "a paper", "strengths": {"2": "sigma=0.12"}}
        },
        versions={"python": "3"},
    )
    by_cell = dict(zip(cells, scores.values(), strict=True))
    return write_run(
        tmp_path,
        "small",
        manifest,
        None,
        lambda _: detection_frame([]),
        scores=lambda cell: {m: None if m in {"AP_S", "AR_S"} else by_cell[cell] for m in METRICS},
    )


def _boxes(rng: np.random.Generator, image_id: int) -> list[dict[str, Any]]:
    """A small, a medium and a large box in a picture of 160 x 120."""
    found = []
    for number, side in enumerate((12, 45, 100)):
        x, y = rng.uniform(0, 160 - side), rng.uniform(0, 120 - side)
        box = [round(float(v), 1) for v in (x, y, side, side)]
        found.append(
            {
                "id": 3 * image_id + number,
                "image_id": image_id,
                "category_id": 1 + (image_id + number) % 3,
                "bbox": box,
                "area": side * side,
                "iscrowd": 0,
            }
        )
    return found


def _found(rng: np.random.Generator, annotations: list[dict[str, Any]], shift: float) -> pd.DataFrame:
    """The boxes, moved by about `shift` per cent of their size, weaker the more they are, and a few false ones."""
    rows = []
    for one in annotations:
        x, y, w, h = one["bbox"]
        move = rng.normal(0, shift / 100, 4) * w
        score = float(np.clip(rng.beta(4, 2) - shift / 120, 0.01, 1))
        rows.append(
            (
                one["image_id"],
                one["category_id"],
                score,
                x + move[0],
                y + move[1],
                x + w + move[2],
                y + h + move[3],
            )
        )
        if rng.random() < 0.2:
            rows.append((one["image_id"], 1 + int(rng.integers(3)), float(rng.beta(2, 3)), 5, 5, 40, 60))
    return detection_frame(rows)


@pytest.fixture(scope="session")
def complete_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A complete run over photographs that are there, of odd names, with made-up boxes scored by the real scorer.

    Two corruptions of different families at three severities; the model loses less than its baseline.
    """
    from skimage import data

    from robustbench_sgdm import corruption, datasets
    from robustbench_sgdm.core.versions import installed_versions
    from robustbench_sgdm.sweep.metadata import corruption_info, dataset_info, ground_truth
    from robustbench_sgdm.sweep.plan import hardware

    rng, root = np.random.default_rng(7), tmp_path_factory.mktemp("told")
    (root / "images").mkdir()
    pictures = [getattr(data, name)() for name in ("astronaut", "coffee", "chelsea")]
    images, annotations = [], []
    for image_id in range(1, 25):
        picture = pictures[image_id % 3]
        top, left = (int(rng.integers(side - 120 * 2)) for side in picture.shape[:2])
        crop = Pillow.fromarray(picture[top : top + 240, left : left + 320]).resize((160, 120))
        crop.save(root / "images" / f"{image_id}.png")
        images.append({"id": image_id, "file_name": f"{image_id}.png", "width": 160, "height": 120})
        annotations += _boxes(rng, image_id)
    names = ['<b>bold</b> & "quoted" $\\frac{$', "person", "fire hydrant"]
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    (root / "<i>odd & data.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    dataset = datasets.load_dataset(str(root / "<i>odd & data.json"), root / "images")
    models = {"base": None, "base-sgdm[razor=0.25,a<b]": "base"}
    chosen = {c.name: c for c in corruption.load_corruptions().select(["gaussian_noise", "fog"])}
    severities = {"clean": [0.0], "gaussian_noise": [1.0, 3.0, 5.0], "fog": [1.0, 3.0, 5.0]}
    cells = [
        Cell(m, c, s, cell_key(model=m, corruption=c, severity=s))
        for m in models
        for c, levels in severities.items()
        for s in levels
    ]
    about: dict[str, dict[str, Any]] = {
        m: {"baseline": b, "weights": "w.pt", "parameters": 3, "imgsz": 160} for m, b in models.items()
    }
    about["base"] |= {
        "unmatched": ["<u>zebra", "dog"],
        "unfound": ["fire hydrant"],
        "notes": ["read <so>"],
    }
    manifest = make_manifest(
        cells,
        command="robustbench run <x>",
        models=about,
        data=dict(dataset_info(dataset)),
        corruptions={
            name: dict(corruption_info(one, severities[name], one.fingerprint()))
            for name, one in chosen.items()
        },
        hardware=hardware("cpu"),
        versions=installed_versions(),
    )

    def detect(cell: Cell) -> pd.DataFrame:
        worse = 4.0 + cell.severity * (5.0 if cell.model == "base" else 3.5)
        rng = np.random.default_rng([int(cell.severity), list(models).index(cell.model)])
        return _found(rng, annotations, worse)

    run = write_run(root, "told", manifest, ground_truth(dataset), detect)
    run.write_results()
    return run


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium, driven by playwright, once a process: it does not start twice.

    Without it these tests are skipped, or fail where ROBUSTBENCH_BROWSER=required.
    """
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("ROBUSTBENCH_BROWSER") == "required":
            pytest.fail("no Chromium on this machine: apt-get install chromium")
        pytest.skip("no Chromium on this machine; on Debian: apt-get install chromium")
    sync = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    flags = resources.import_file(resources.root() / "benchmarks/support/serving.py").FLAGS
    with sync.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=list(flags))
        yield chromium
        chromium.close()


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Calls the command line in an empty folder and gives what it says, both streams; tables are not folded."""
    from robustbench_sgdm import cli
    from robustbench_sgdm.cli import console

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console.out, "width", 300)

    def call(*words: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["robustbench", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        shown = capsys.readouterr()
        assert int(stop.value.code or 0) == code, shown.err
        return shown.out + shown.err

    return call
