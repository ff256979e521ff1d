"""Ultralytics dataset YAMLs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from robustbench_sgdm import datasets
from robustbench_sgdm.errors import DataError


@pytest.fixture
def dataset_yaml(tmp_path: Path) -> Path:
    (tmp_path / "images/val").mkdir(parents=True)
    (tmp_path / "labels/val").mkdir(parents=True)
    for name in ("a", "b", "c"):
        Pillow.fromarray(np.zeros((50, 100, 3), np.uint8)).save(tmp_path / f"images/val/{name}.jpg")
    (tmp_path / "labels/val/a.txt").write_text("1 0.5 0.5 0.2 0.4\n")
    (tmp_path / "labels/val/b.txt").write_text("0 0.1 0.1 0.3 0.1 0.3 0.5 0.1 0.5\n\n")
    path = tmp_path / "data.yaml"
    path.write_text("path: .\nval: images/val\nnames: {0: dog, 1: cat}\n")
    return path


def test_boxes_and_polygons(dataset_yaml: Path) -> None:
    data = datasets.load(str(dataset_yaml))
    assert data.classes == ("dog", "cat") and len(data) == 3
    box, polygon = data.annotations
    assert (
        box["bbox"] == pytest.approx([40, 15, 20, 20])
        and box["category_id"] == 1
        and box["area"] == pytest.approx(400)
    )
    assert polygon["bbox"] == pytest.approx([10, 5, 20, 20]) and polygon["image_id"] == 2


def test_a_list_of_images(dataset_yaml: Path) -> None:
    (dataset_yaml.parent / "val.txt").write_text("./images/val/a.jpg\n")
    dataset_yaml.write_text("path: .\nval: val.txt\nnames: [dog, cat]\n")
    assert [i.path.name for i in datasets.load(str(dataset_yaml)).images] == ["a.jpg"]


@pytest.mark.parametrize(
    ("row", "message"),
    [("2 .5 .5 .1 .1", "outside 0 to 1"), ("0 .5 .5 .1", "after the class"), ("0 .5 .5 30 .1", "shares of the image"),
     ("x", "not a label row"), ("0 .5 .5 -.005 .1", "shares of the image")],
)  # fmt: skip
def test_bad_labels(dataset_yaml: Path, row: str, message: str) -> None:
    (dataset_yaml.parent / "labels/val/a.txt").write_text(row)
    with pytest.raises(DataError, match=message):
        datasets.load(str(dataset_yaml))


def test_what_is_no_text_is_named(dataset_yaml: Path) -> None:
    bad = dataset_yaml.parent / "labels/val/a.txt"
    bad.write_bytes(b"0 .5 .5 .1 .1 \xff\n")
    with pytest.raises(DataError, match=r"a\.txt cannot be read as text.*UTF-8"):
        datasets.load(str(dataset_yaml))
    (dataset_yaml.parent / "val.txt").write_bytes(b"\xff\xfe")
    dataset_yaml.write_text("path: .\nval: val.txt\nnames: [dog, cat]\n")
    with pytest.raises(DataError, match=r"val\.txt cannot be read as text"):
        datasets.load(str(dataset_yaml))


@pytest.mark.parametrize(
    ("text", "message"),
    [("names: [a]", "no 'val' split"), ("val: x", "'names' is missing"), ("val: gone\nnames: [a]", "neither a folder"),
     ("- a", "not an Ultralytics"), ("a: [", "cannot be read as YAML"), ("val: labels\nnames: [a]", "holds no image"),
     ("!!python/object/apply:os.system ['true']", "cannot be read as YAML")],
)  # fmt: skip
def test_bad_yaml(dataset_yaml: Path, text: str, message: str) -> None:
    dataset_yaml.write_text(text)
    with pytest.raises(DataError, match=message):
        datasets.load(str(dataset_yaml))


@pytest.mark.parametrize("entry", ["../../other", "images/../../other", "/etc", "images/val/../../../other"])
def test_entries_stay_in_the_root(dataset_yaml: Path, entry: str) -> None:
    (dataset_yaml.parent.parent / "other").mkdir(exist_ok=True)
    dataset_yaml.write_text(f"path: .\nval: {entry}\nnames: [dog, cat]\n")
    with pytest.raises(DataError, match="leaves its folder"):
        datasets.load(str(dataset_yaml))
    (dataset_yaml.parent / "val.txt").write_text(f"{entry}/a.jpg\n")
    dataset_yaml.write_text("path: .\nval: val.txt\nnames: [dog, cat]\n")
    with pytest.raises(DataError, match="leaves its folder"):
        datasets.load(str(dataset_yaml))


def test_absolute_paths_inside_the_root(dataset_yaml: Path) -> None:
    root = dataset_yaml.parent
    (root / "val.txt").write_text(f"{root}/images/val/a.jpg\n")
    dataset_yaml.write_text(f"path: {root}\nval: [{root}/val.txt, images/val]\nnames: [dog, cat]\n")
    assert len(datasets.load(str(dataset_yaml))) == 4


def test_roboflow_writes_entries_beside_the_file_as_above_it(dataset_yaml: Path) -> None:
    dataset_yaml.write_text("val: ../images/val\nnames: [dog, cat]\n")
    assert len(datasets.load(str(dataset_yaml))) == 3


def test_text_that_is_none(dataset_yaml: Path) -> None:
    (dataset_yaml.parent / "labels/val/a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot be read as text"):
        datasets.load(str(dataset_yaml))
    (dataset_yaml.parent / "val.txt").write_bytes(b"\xff\xfe")
    dataset_yaml.write_text("val: val.txt\nnames: [dog, cat]\n")
    with pytest.raises(DataError, match="cannot be read as text"):
        datasets.load(str(dataset_yaml))


def test_nothing_is_downloaded_or_run(dataset_yaml: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    dataset_yaml.write_text(
        f"path: nowhere\nval: images\nnames: [dog, cat]\ndownload: \"open({str(mark)!r}, 'w').close()\"\n"
    )
    with pytest.raises(DataError, match="`download` key is not run"):
        datasets.load(str(dataset_yaml))
    assert not mark.exists()
