"""COCO's archives: what arrives is the file that is meant, or it is not unpacked."""

import hashlib
import json
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import ultralytics.cfg
import yaml

from robustbench_sgdm import cli, datasets
from robustbench_sgdm.core.errors import DataError, RobustBenchError, UsageError
from robustbench_sgdm.datasets import coco_2017
from robustbench_sgdm.scoring.category_ids import COCO_IDS
from robustbench_sgdm.store import Run
from robustbench_sgdm.training import load_training_data


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The address of an archive on this machine, and its MD5."""
    (tmp_path / "served").mkdir()
    archive = tmp_path / "served/a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("annotations/instances_val2017.json", "x" * 2000)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(archive.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/a.zip", hashlib.md5(archive.read_bytes()).hexdigest()
    server.shutdown()
    server.server_close()


def test_the_published_archive_is_unpacked(served: tuple[str, str], tmp_path: Path) -> None:
    coco_2017._download(*served, tmp_path / "coco")
    assert [p.name for p in (tmp_path / "coco").rglob("*") if p.is_file()] == ["instances_val2017.json"]


def test_another_archive_is_not_unpacked(served: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(RobustBenchError, match="it is not unpacked"):
        coco_2017._download(served[0], "0" * 32, tmp_path / "coco")
    assert not [p for p in (tmp_path / "coco").rglob("*") if p.is_file()]


@pytest.fixture
def laid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coco_of: Callable[..., Path]
) -> Callable[[str], Path]:
    """Lays a split of COCO into Ultralytics' datasets folder: two images, and nothing to download from."""
    settings = tmp_path / "config/Ultralytics/settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"datasets_dir": str(tmp_path / "datasets")}))
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setattr(coco_2017, "_download", lambda address, *_: pytest.fail(f"{address} is fetched"))
    root = tmp_path / "datasets/coco"

    def lay(split: str) -> Path:
        pictures = [np.full((96, 96, 3), 60 + 9 * n + len(split), np.uint8) for n in range(2)]
        classes = [
            {"id": 1, "name": "ball"},
            {"id": 2, "name": "book"},
        ]  # of `scenes`, which embedded weights know
        made = coco_of(tmp_path / split, pictures, categories=classes)
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        (root / "images").mkdir(exist_ok=True)
        made.rename(root / f"annotations/instances_{split}2017.json")
        (tmp_path / split / "images/val").rename(root / f"images/{split}2017")
        return root

    return lay


def test_every_command_takes_it(
    laid: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    laid("val")
    monkeypatch.chdir(tmp_path)
    Path("p.json").write_text('[{"image_id": 2, "category_id": 1, "bbox": [10, 10, 42, 50], "score": 0.5}]')
    for words in (
        "run --model yolov8n --severity 0 --estimate",
        "score clean=p.json --model m --name n",
        "corrupt --severity 1 --limit 1 --out copies",
        "list corruptions --measure --limit 1",
    ):
        monkeypatch.setattr(sys, "argv", ["robustbench", *words.split(), "--data", "coco"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code, capsys.readouterr().err
    assert Run.open(Path("runs/robustness/n")).results()["AP"].tolist() == [pytest.approx(50)]
    assert len(list(Path("copies").rglob("*.png"))) == 1


def test_training_takes_both_splits(laid: Callable[[str], Path]) -> None:
    root = laid("val")
    with pytest.raises(DataError, match="train2017 is not on this machine"):
        load_training_data("coco")
    laid("train")
    found = load_training_data("coco")
    assert found.name == "coco" and len(found.train) == len(found.val) == 2
    assert found.train.source == str(root / "annotations/instances_train2017.json")
    assert (
        datasets.load_dataset("coco", split="train").fingerprint
        == found.train.fingerprint
        != found.val.fingerprint
    )
    with pytest.raises(UsageError, match="Known: val, train"):
        datasets.load_dataset("coco", split="test")


def test_training_takes_what_ultralytics_downloads(laid: Callable[[str], Path]) -> None:
    """Lists and label files of the training split; a json of the other one alone."""
    root = laid("val")
    laid("train")
    (root / "annotations/instances_train2017.json").unlink()
    (root / "labels/train2017").mkdir(parents=True)
    (root / "labels/train2017/001.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (root / "train2017.txt").write_text("./images/train2017/001.png\n")
    with pytest.raises(UsageError, match="differ in classes"):  # the small json here has two
        load_training_data("coco")
    path = root / "annotations/instances_val2017.json"
    names = yaml.safe_load((Path(ultralytics.cfg.__file__).parent / "datasets/coco.yaml").read_text())[
        "names"
    ]
    content = json.loads(path.read_text())
    content["categories"] = [{"id": i, "name": names[n]} for n, i in enumerate(COCO_IDS)]
    path.write_text(json.dumps(content))
    found = load_training_data("coco")
    assert [len(found.train.annotations), len(found.val)] == [1, 2] and found.val.classes[79] == "toothbrush"


def test_what_is_half_unpacked_is_fetched(
    laid: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = laid("val")
    next((root / "images/val2017").glob("*.png")).unlink()
    fetched: list[str] = []
    monkeypatch.setattr(coco_2017, "_download", lambda address, *_: fetched.append(address))
    coco_2017.download_coco_val()
    assert [address.rpartition("/")[2] for address in fetched] == ["val2017.zip"]
