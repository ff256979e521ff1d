"""COCO jsons: found images, filled defaults, refused nonsense."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from robustbench_sgdm import datasets
from robustbench_sgdm.errors import DataError, UsageError


def test_genuine_coco(coco_json: Path) -> None:
    data = datasets.load(str(coco_json))
    assert len(data) == 128 and len(data.classes) == 80 and len(data.annotations) == 1134
    assert data.images[0].path.name == "000000000139.jpg" and data.images[0].path.is_file()


@pytest.mark.parametrize("place", ["images/val", "val", "images", "", "annotations/val"])
def test_images_are_found_in_the_usual_places(tiny_coco: Path, place: str) -> None:
    root = tiny_coco.parent.parent
    files = root / "found"
    (root / "images/val").rename(files)
    (root / "images").rmdir()
    for file in files.iterdir():
        (root / place).mkdir(parents=True, exist_ok=True)
        shutil.move(file, root / place / file.name)
    assert all(i.path.is_file() for i in datasets.load(str(tiny_coco)).images)


def test_images_elsewhere_need_to_be_named(tiny_coco: Path) -> None:
    root = tiny_coco.parent.parent
    (root / "images").rename(root / "pictures")
    with pytest.raises(DataError, match="--images"):
        datasets.load(str(tiny_coco))
    assert len(datasets.load(str(tiny_coco), root / "pictures/val")) == 4


def test_missing_area_and_iscrowd_get_their_defaults(tiny_coco: Path) -> None:
    content = json.loads(tiny_coco.read_text())
    for annotation in content["annotations"]:
        del annotation["area"], annotation["iscrowd"]
    tiny_coco.write_text(json.dumps(content))
    first = datasets.load(str(tiny_coco)).annotations[0]
    assert (first["area"], first["iscrowd"]) == (41 * 50, 0)


def changed(path: Path, **changes: Any) -> str:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return str(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": []}, "no annotations"),
        ({"images": []}, "no images"),
        ({"categories": "x"}, "no list 'categories'"),
        (
            {"images": [{"id": 1, "file_name": "../../etc/passwd", "width": 1, "height": 1}]},
            "usual places|leaves",
        ),
        ({"images": [{"id": "1", "file_name": "001.png", "width": 1, "height": 1}]}, "not an integer from 0"),
        (
            {"images": [{"id": -5, "file_name": "001.png", "width": 1, "height": 1}]},
            "id -5 is not an integer from 0",
        ),
        ({"categories": [{"id": -3, "name": "a"}]}, "category id -3 is not from 0"),
        (
            {"images": [{"id": 1, "file_name": "001.png", "width": 0, "height": 1}]},
            "both must lie between 1 and",
        ),
        ({"images": [{"id": 1}]}, "usual places|lacks"),
        ({"annotations": [{"image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1]}]}, "does not list"),
        ({"annotations": [{"image_id": 1, "category_id": 9, "bbox": [0, 0, 1, 1]}]}, "does not list"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, -1, 1]}]}, "must be finite"),
        (
            {"annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, float("nan"), 1]}]},
            "must be finite",
        ),
        ({"annotations": [{"image_id": 1, "category_id": 1}]}, "lacks a sound"),
        (
            {"annotations": 2 * [{"id": 7, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}]},
            "annotation id 7 twice",
        ),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "category id twice"),
        ({"categories": [{"id": 2**63, "name": "a"}]}, r"not from 0 to 2\^53 - 1"),
    ],
)
def test_unsound_content_is_refused(tiny_coco: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        datasets.load(changed(tiny_coco, **change))


def test_paths_do_not_leave_the_image_folder(tiny_coco: Path) -> None:
    outside = tiny_coco.parent.parent / "images/outside.png"
    shutil.copy(tiny_coco.parent.parent / "images/val/001.png", outside)
    content = json.loads(tiny_coco.read_text())
    content["images"][0]["file_name"] = "../outside.png"
    with pytest.raises(DataError, match="leaves its folder"):
        datasets.load(changed(tiny_coco, **content))


def test_absent_images_are_counted(tiny_coco: Path) -> None:
    (tiny_coco.parent.parent / "images/val/002.png").unlink()
    with pytest.raises(DataError, match=r"1 of 4 images.*002\.png"):
        datasets.load(str(tiny_coco))


def test_what_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "text.json").write_text("hello")
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(DataError, match="holds a list"):
        datasets.load(str(tmp_path / "list.json"))
    with pytest.raises(DataError, match="cannot be read as json"):
        datasets.load(str(tmp_path / "text.json"))
    with pytest.raises(UsageError, match="neither a COCO"):
        datasets.load(str(tmp_path / "a.txt"))
    with pytest.raises(UsageError, match="no data set 'scene'"):
        datasets.load("scene")


def test_fingerprint_follows_pixels_and_boxes(tiny_coco: Path, photographs: list[NDArray[np.uint8]]) -> None:
    before = datasets.load(str(tiny_coco)).fingerprint
    assert datasets.load(str(tiny_coco)).fingerprint == before
    image = tiny_coco.parent.parent / "images/val/001.png"
    image.write_bytes(image.read_bytes() + b"\0")
    after = datasets.load(str(tiny_coco)).fingerprint
    content = json.loads(tiny_coco.read_text())
    content["annotations"][0]["bbox"][0] += 1
    assert len({before, after, datasets.load(changed(tiny_coco, **content)).fingerprint}) == 3


def test_subsets_are_fixed_and_nested(coco_json: Path) -> None:
    data = datasets.load(str(coco_json))
    half, tenth = data.subset(0.5), data.subset(0.1)
    assert (len(half), len(tenth)) == (64, 13)
    assert {i.id for i in tenth.images} < {i.id for i in half.images}
    assert {a["image_id"] for a in tenth.annotations} <= {i.id for i in tenth.images}
    for bad in (0, 1.5, -1):
        with pytest.raises(UsageError, match=r"outside \(0, 1\]"):
            data.subset(bad)
