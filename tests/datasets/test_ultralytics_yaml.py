"""Ultralytics dataset YAMLs."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from robustbench_sgdm import datasets
from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.scoring import Scorer
from robustbench_sgdm.sweep import map_classes


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
    data = datasets.load_dataset(str(dataset_yaml))
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
    assert [i.path.name for i in datasets.load_dataset(str(dataset_yaml)).images] == ["a.jpg"]


@pytest.mark.parametrize(
    ("rows", "fault"),
    [("2 .5 .5 .1 .1", "a class is above 1"), ("0 .5 .5 .1", "needs 5 columns"), ("0 .5 .5 30 .1", "not pixels"),
     ("x .5 .5 .1 .1", "not a number"), ("0 .5 .5 -.005 .1", "negative"), ("0.5 .5 .5 .1 .1", "not a whole number"),
     ("0 .5 .5 .1 .1 .9", "needs 5 columns"), ("0 .5 .5 .1 .1\n0 .1 .1 .3 .1 .3 .5", "mixes rows"),
     ("0 .5 .5 nan .1", "not pixels"), ("-1 .5 .5 .1 .1", "not a whole number")],
)  # fmt: skip
def test_an_image_with_a_bad_label_file_is_skipped_and_said(
    dataset_yaml: Path, rows: str, fault: str
) -> None:
    (dataset_yaml.parent / "labels/val/a.txt").write_text(rows)
    data = datasets.load_dataset(str(dataset_yaml))
    assert [image.path.name for image in data.images] == ["b.jpg", "c.jpg"]
    (note,) = data.notes
    assert note.startswith("1 of 3 images skipped") and fault in note and "labels/val/a.txt" in note


def test_labels_that_are_no_text(dataset_yaml: Path) -> None:
    (dataset_yaml.parent / "labels/val/a.txt").write_bytes(b"0 .5 .5 .1 .1 \xff\n")
    (note,) = datasets.load_dataset(str(dataset_yaml)).notes
    assert "1 of 3" in note and "not UTF-8" in note
    (dataset_yaml.parent / "val.txt").write_bytes(b"\xff\xfe")
    dataset_yaml.write_text("path: .\nval: val.txt\nnames: [dog, cat]\n")
    with pytest.raises(DataError, match=r"val\.txt cannot be read as a list"):
        datasets.load_dataset(str(dataset_yaml))
    dataset_yaml.write_text("path: .\nval: images/val/a.jpg\nnames: [dog, cat]\n")
    with pytest.raises(DataError, match="is an image; name its folder"):
        datasets.load_dataset(str(dataset_yaml))


@pytest.mark.parametrize(
    ("text", "message"),
    [("names: [a]", "no 'val' split"), ("val: x", "'names' is missing"), ("val: gone\nnames: [a]", "does not exist"),
     ("- a", "not an Ultralytics"), ("a: [", "cannot be read as YAML"), ("val: labels\nnames: [a]", "holds no image"),
     ("!!python/object/apply:os.system ['true']", "cannot be read as YAML"),
     ("test: images\ntrain: images\nnames: [a]", "--split train or --split test"),
     ("val: images\nnames: [a]\nnc: 2", "nc is 2, but 'names' holds 1"), ("val: images\nnc: 1.5", "nc 1.5"),
     ("val: images\nnc: 1000000000", "up to"), ("val: images\nnames: {1: a, 2: b}", "must be 0 to 1"),
     ("val: images\nnames: {a: 0}", "must be 0 to 0"), ("val: images\nnames: [[a]]", "is not a name"),
     ("val: images\nnames: [a]\nkpt_shape: 17", "kpt_shape 17"), ("val: {a: b}\nnames: [a]", "is not text"),
     ("path: [a]\nval: images\nnames: [a]", "is not text"), ("path: gone\nval: images\nnames: [a]", "is not a folder"),
     ("path: /\nval: images\nnames: [a]", "whole file system"),
     ("val: images/*.jpg\nnames: [a]", "patterns are not expanded"),
     ("val: 'D:\\data\\images'\nnames: [a]", "a Windows machine"),
     ("path: 'D:\\data'\nval: images\nnames: [a]", "a Windows machine")],
)  # fmt: skip
def test_bad_yaml(dataset_yaml: Path, text: str, message: str) -> None:
    dataset_yaml.write_text(text)
    with pytest.raises(DataError, match=message):
        datasets.load_dataset(str(dataset_yaml))


def test_a_split_that_no_yaml_has(dataset_yaml: Path) -> None:
    with pytest.raises(UsageError, match="Known: train, val, test"):
        datasets.load_dataset(str(dataset_yaml), split="valid")


@pytest.mark.parametrize("entry", ["../../other", "images/../../other", "/etc", "images/val/../../../other"])
def test_entries_stay_in_the_root(dataset_yaml: Path, entry: str) -> None:
    (dataset_yaml.parent.parent / "other").mkdir(exist_ok=True)
    dataset_yaml.write_text(f"path: .\nval: {entry}\nnames: [dog, cat]\n")
    with pytest.raises(DataError, match="lies outside"):
        datasets.load_dataset(str(dataset_yaml))
    (dataset_yaml.parent / "val.txt").write_text(f"{entry}/a.jpg\n")
    dataset_yaml.write_text("path: .\nval: val.txt\nnames: [dog, cat]\n")
    with pytest.raises(DataError, match="lies outside"):
        datasets.load_dataset(str(dataset_yaml))


@pytest.mark.parametrize("several", [False, True])
def test_what_to_write_for_entries_elsewhere_is_told_and_works(dataset_yaml: Path, several: bool) -> None:
    root, away = dataset_yaml.parent, dataset_yaml.parent / "configs/data.yaml"
    away.parent.mkdir()
    entry = f"[{root}/images/val, {root}/images]" if several else f"{root}/images/val"
    away.write_text(f"val: {entry}\nnames: [dog, cat]\n")
    with pytest.raises(DataError) as caught:
        datasets.load_dataset(str(away))
    told = re.match(r"write `(path: .*)` and `(val: .*)` in ", str(caught.value))
    assert told and told[1] == f"path: {root}"
    away.write_text(f"{told[1]}\n{told[2]}\nnames: [dog, cat]\n")
    assert len(datasets.load_dataset(str(away))) == (6 if several else 3)


def test_what_to_write_for_a_list_of_images_elsewhere(dataset_yaml: Path) -> None:
    lists = dataset_yaml.parent / "lists"
    lists.mkdir()
    (lists / "val.txt").write_text(f"{dataset_yaml.parent}/images/val/a.jpg\n../images/val/b.jpg\n")
    yaml = lists / "data.yaml"
    yaml.write_text("val: val.txt\nnames: [dog, cat]\n")
    with pytest.raises(DataError) as caught:
        datasets.load_dataset(str(yaml))
    told = re.match(r"write `(path: .*)` and `(val: .*)`: ", str(caught.value))
    assert told
    yaml.write_text(f"{told[1]}\n{told[2]}\nnames: [dog, cat]\n")
    assert [image.path.name for image in datasets.load_dataset(str(yaml)).images] == ["a.jpg", "b.jpg"]


def test_absolute_paths_inside_the_root(dataset_yaml: Path) -> None:
    root = dataset_yaml.parent
    (root / "val.txt").write_text(f"{root}/images/val/a.jpg\n")
    dataset_yaml.write_text(f"path: {root}\nval: [{root}/val.txt, images/val]\nnames: [dog, cat]\n")
    data = datasets.load_dataset(str(dataset_yaml))
    assert len(data) == 4 and "more than once" in data.notes[0] and ": 1 (first" in data.notes[0]


def test_a_path_of_two_meanings_is_said(
    dataset_yaml: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ultralytics takes the current folder's; no path at all is the file's folder."""
    here = tmp_path_factory.mktemp("here")
    (here / "images/val").mkdir(parents=True)
    shutil.copy(dataset_yaml.parent / "images/val/a.jpg", here / "images/val/x.jpg")
    (here / "labels/val").mkdir(parents=True)
    (here / "labels/val/x.txt").write_text("0 .5 .5 .1 .1")
    monkeypatch.chdir(here)
    data = datasets.load_dataset(str(dataset_yaml))
    assert [image.path.name for image in data.images] == ["x.jpg"]
    (note,) = data.notes
    assert str(here) in note and str(dataset_yaml.parent) in note
    dataset_yaml.write_text(dataset_yaml.read_text().replace("path: .", ""))
    assert len(datasets.load_dataset(str(dataset_yaml))) == 3


def test_a_path_in_ultralytics_folder_for_data_sets(
    dataset_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its settings file says, without an import of it."""
    (tmp_path / "Ultralytics").mkdir()
    settings = {"datasets_dir": str(dataset_yaml.parent.parent)}
    (tmp_path / "Ultralytics/settings.json").write_text(json.dumps(settings))
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    away = tmp_path / "away/data.yaml"
    away.parent.mkdir()
    away.write_text(f"path: {dataset_yaml.parent.name}\nval: images/val\nnames: [dog, cat]\n")
    assert len(datasets.load_dataset(str(away))) == 3
    (tmp_path / "Ultralytics/settings.json").write_text("[]")
    with pytest.raises(DataError, match="is not a folder"):
        datasets.load_dataset(str(away))


def test_what_is_passed_over_is_counted(dataset_yaml: Path) -> None:
    folder = dataset_yaml.parent / "images/val"
    (folder / ".ipynb_checkpoints").mkdir()
    shutil.copy(folder / "a.jpg", folder / ".ipynb_checkpoints/a-checkpoint.jpg")
    (folder / "._a.jpg").write_bytes(b"Mac OS X")
    (folder / ".DS_Store").write_bytes(b"")
    (folder / "loop").symlink_to(folder)
    (folder / "d.jfif").write_bytes((folder / "a.jpg").read_bytes())
    (folder / "e.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0heic")
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "folder.jpg").mkdir()
    Pillow.new("RGB", (9, 40)).save(folder / "small.png")
    Pillow.new("RGB", (20, 20)).save(folder / "gif.jpg", "GIF")
    data = datasets.load_dataset(str(dataset_yaml))
    assert [image.path.name for image in data.images] == ["a.jpg", "b.jpg", "c.jpg"]
    told = "\n".join(data.notes)
    for part in (
        "hidden files or folders skipped, as in Ultralytics: 2 (first",
        "lead back into a folder above them: 1 (first",
        "reads no such files (convert them to PNG or JPEG): 1 (first",
        "1 of 8 images skipped: .heic cannot be decoded here; convert",
        "1 of 8 images skipped: the file does not exist",
        "1 of 8 images skipped: the file cannot be read as an image",
        "1 of 8 images skipped: the image is under 10 px",
        "1 of 8 images skipped: the file holds a GIF",
    ):
        assert part in told, told
    assert len(data.notes) == 8 and ".DS_Store" not in told


def test_many_links_between_folders_end(dataset_yaml: Path) -> None:
    """Each path is walked once through every folder; Ultralytics' glob would go round forty times."""
    folder = dataset_yaml.parent / "images/val"
    for name in "wxyz":
        (folder / name).mkdir()
        for other in "wxyz":
            (folder / name / other).symlink_to(folder / other)
    assert len(datasets.load_dataset(str(dataset_yaml))) == 3


def test_lists_of_any_hand(dataset_yaml: Path) -> None:
    root = dataset_yaml.parent
    lines = (
        "./images/val/c.jpg",
        "",
        "images\\val\\b.jpg",
        ".\\images\\val\\a.jpg",
        "images/val/a.jpg ",
        "# c",
        "",
    )
    (root / "val.txt").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    dataset_yaml.write_text("val: val.txt\nnames: [dog, cat]\n")
    data = datasets.load_dataset(str(dataset_yaml))
    assert [image.path.name for image in data.images] == ["a.jpg", "b.jpg", "c.jpg"] and len(
        data.annotations
    ) == 2
    (note,) = data.notes
    assert "do not end in the suffix of an image: 1 (first: 'images/val/a.jpg ')" in note


def test_a_json_is_no_list(dataset_yaml: Path) -> None:
    (dataset_yaml.parent / "val.json").write_text(json.dumps({"images": []}))
    dataset_yaml.write_text("path: .\nval: val.json\nnames: [dog, cat]\n")
    with pytest.raises(DataError, match=r"val\.json .*--data"):
        datasets.load_dataset(str(dataset_yaml))


def test_long_lines_are_cut_in_messages(dataset_yaml: Path) -> None:
    (dataset_yaml.parent / "val.txt").write_text("x" * 100_000)
    dataset_yaml.write_text("path: .\nval: val.txt\nnames: [dog, cat]\n")
    with pytest.raises(DataError, match="suffix of an image") as caught:
        datasets.load_dataset(str(dataset_yaml))
    assert len(str(caught.value)) < 2000


def test_a_list_of_another_machine_is_named_as_such(dataset_yaml: Path) -> None:
    (dataset_yaml.parent / "val.txt").write_text("D:\\data\\images\\a.jpg\nD:/data/images/b.jpg\n")
    dataset_yaml.write_text("val: val.txt\nnames: [dog, cat]\n")
    with pytest.raises(DataError, match=r"holds no image; .* paths of a Windows machine .*: 2 \(first: D:"):
        datasets.load_dataset(str(dataset_yaml))


def test_backslashes_in_the_yaml(dataset_yaml: Path) -> None:
    dataset_yaml.write_text("val: images\\val\nnames: [dog, cat]\n")
    assert len(datasets.load_dataset(str(dataset_yaml))) == 3
    dataset_yaml.write_text("val: ..\\images\\val\nnames: [dog, cat]\n")
    assert len(datasets.load_dataset(str(dataset_yaml))) == 3


def test_rows_that_repeat_count_once_and_are_said(dataset_yaml: Path) -> None:
    (dataset_yaml.parent / "labels/val/a.txt").write_text("1 .5 .5 .2 .4\n1 .5 .5 .2 .4\n1 0.50 .5 .2 .4\n")
    data = datasets.load_dataset(str(dataset_yaml))
    assert len(data.annotations) == 2 and "repeat another" in data.notes[0] and ": 2 (first" in data.notes[0]


def test_a_folder_without_labels_is_said(dataset_yaml: Path) -> None:
    more = dataset_yaml.parent / "more"
    more.mkdir()
    shutil.copy(dataset_yaml.parent / "images/val/a.jpg", more / "x.jpg")
    dataset_yaml.write_text("val: [images/val, more]\nnames: [dog, cat]\n")
    data = datasets.load_dataset(str(dataset_yaml))
    (note,) = data.notes
    assert len(data) == 4 and str(more) in note and note.endswith(": 1")
    dataset_yaml.write_text("val: more\nnames: [dog, cat]\n")
    with pytest.raises(DataError, match=f"nothing to score against.*{more}"):
        datasets.load_dataset(str(dataset_yaml))


def test_two_classes_of_one_name_stay_two(dataset_yaml: Path) -> None:
    dataset_yaml.write_text("val: images/val\nnames: [dog, dog]\n")
    data = datasets.load_dataset(str(dataset_yaml))
    assert data.classes == ("dog", "dog (1)") and [a["category_id"] for a in data.annotations] == [1, 0]
    assert "more than once" in data.notes[0]
    detector: Any = SimpleNamespace(name="of the same names", classes=("dog", "dog"))
    assert map_classes(detector, data).tolist() == [0, 1]
    rows = [[a["image_id"], *a["bbox"], 0.9, a["category_id"]] for a in data.annotations]
    assert Scorer(data).score([np.array(rows)]).per_class == pytest.approx({"dog": 100, "dog (1)": 100})


def test_names_that_yaml_takes_for_something_else(dataset_yaml: Path) -> None:
    dataset_yaml.write_text("val: images/val\nnames: [1, no]\n")
    data = datasets.load_dataset(str(dataset_yaml))
    assert data.classes == ("1", "False") and "class 1" in data.notes[0] and "quotes" in data.notes[0]
    dataset_yaml.write_bytes("val: images/val\nnames: [a, 数据]\n".encode("gbk"))
    data = datasets.load_dataset(str(dataset_yaml))
    assert "not UTF-8" in data.notes[0]


def test_a_key_that_is_not_followed_is_said(dataset_yaml: Path) -> None:
    dataset_yaml.write_text("val: images/val\nnames: [dog, cat]\nchannels: 1\n")
    assert "channels" in datasets.load_dataset(str(dataset_yaml)).notes[0]


def test_a_sound_data_set_has_no_note(dataset_yaml: Path) -> None:
    assert datasets.load_dataset(str(dataset_yaml)).notes == []


def test_a_pipe_keeps_nobody_waiting(dataset_yaml: Path) -> None:
    for name in ("labels/val/c.txt", "images/val/d.jpg", "pipe"):
        os.mkfifo(dataset_yaml.parent / name)
    data = datasets.load_dataset(str(dataset_yaml))
    assert len(data) == 3 and "1 of 4" in data.notes[0]
    dataset_yaml.write_text("val: pipe\nnames: [dog, cat]\n")
    with pytest.raises(DataError, match="neither a folder nor a regular file"):
        datasets.load_dataset(str(dataset_yaml))


def test_nothing_is_downloaded_or_run(dataset_yaml: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    script = f"download: \"open({str(mark)!r}, 'w').close()\"\n"
    for text in ("path: nowhere\nval: images\n", "val: nowhere\n"):
        dataset_yaml.write_text(text + "names: [dog, cat]\n" + script)
        with pytest.raises(DataError, match="`download` key is not run"):
            datasets.load_dataset(str(dataset_yaml))
    assert not mark.exists()


def test_a_split_of_what_has_one(dataset_yaml: Path, coco_of: Callable[..., Path]) -> None:
    json_file = coco_of(dataset_yaml.parent / "coco", [np.zeros((96, 96, 3), np.uint8)])
    with pytest.raises(UsageError, match="--split test is for an Ultralytics dataset YAML"):
        datasets.load_dataset(str(json_file), split="test")


def test_relative_lines_find_their_labels_from_any_folder(
    dataset_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the current folder Ultralytics would look for `images/val/a.txt`: to it, no folder stands before `images`."""
    (dataset_yaml.parent / "val.txt").write_text("images/val/a.jpg\n")
    dataset_yaml.write_text("val: val.txt\nnames: [dog, cat]\n")
    for folder in (dataset_yaml.parent, dataset_yaml.parent.parent):
        monkeypatch.chdir(folder)
        assert len(datasets.load_dataset(str(dataset_yaml)).annotations) == 1


def test_rows_are_held_against_their_images(dataset_yaml: Path) -> None:
    labels = dataset_yaml.parent / "labels/val"
    corners = [(0.7 + 0.01 * n, 0.7, 0.9 + 0.01 * n, 0.9) for n in range(10)]
    (labels / "a.txt").write_text("".join(f"0 {a} {b} {c} {d}\n" for a, b, c, d in corners))
    (labels / "b.txt").unlink()
    with pytest.raises(DataError, match=r"10 of 10 boxes leave.*they fit as corners"):
        datasets.load_dataset(str(dataset_yaml))
    as_centres = [((a + c) / 2, (b + d) / 2, c - a, d - b) for a, b, c, d in corners]
    rows = [" ".join(map(str, (0, *box))) for box in [*as_centres, (0.95, 0.5, 0.4, 0.4)]]
    (labels / "a.txt").write_text("\n".join(rows))
    data = datasets.load_dataset(str(dataset_yaml))
    assert len(data.annotations) == 11
    assert any("1 of 11 boxes leave" in note and "a.txt" in note for note in data.notes)
