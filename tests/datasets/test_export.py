"""What Ultralytics' trainer is given says the same as the COCO json."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.datasets import Dataset, coco
from robustbench_sgdm.datasets.cache import cache_dir
from robustbench_sgdm.datasets.export import to_yolo


def boxes_of(labels: Path, width: int, height: int) -> NDArray[np.float64]:
    """Rows of label, x, y, w, h (px, top left corner) from a label file."""
    rows = np.atleast_2d(np.loadtxt(labels))
    scale = np.array([width, height, width, height])
    boxes = rows[:, 1:] * scale
    boxes[:, :2] -= boxes[:, 2:] / 2
    return np.concatenate([rows[:, :1], boxes], 1)


def with_box(dataset: Dataset, box: list[float], **changes: int) -> Dataset:
    first, *rest = dataset.annotations
    return replace(dataset, annotations=[{**first, "bbox": box, **changes}, *rest])


def test_labels_and_images_are_those_of_the_json(tiny_coco: Path, tmp_path: Path) -> None:
    dataset = coco.load_coco(tiny_coco)
    images = to_yolo(dataset, tmp_path / "out")
    files = sorted(images.iterdir())
    assert [file.resolve() for file in files] == [image.path.resolve() for image in dataset.images]
    for file, image, annotation in zip(files, dataset.images, dataset.annotations, strict=True):
        found = boxes_of(tmp_path / "out/labels" / f"{file.stem}.txt", image.width, image.height)
        label = [c["id"] for c in dataset.categories].index(annotation["category_id"])
        np.testing.assert_allclose(found, [[label, *annotation["bbox"]]], atol=1e-5)


def test_every_box_of_genuine_coco_survives(coco_json: Path, tmp_path: Path) -> None:
    dataset = coco.load_coco(coco_json)
    to_yolo(dataset, tmp_path / "out")
    rows = [line for f in (tmp_path / "out/labels").iterdir() for line in f.read_text().splitlines()]
    assert len(rows) == sum(not a["iscrowd"] for a in dataset.annotations)


def test_classes_choose_and_order_the_labels(tiny_coco: Path, tmp_path: Path) -> None:
    to_yolo(coco.load_coco(tiny_coco), tmp_path / "out", ["cat"])
    rows = [f.read_text() for f in sorted((tmp_path / "out/labels").iterdir())]
    assert [row[:1] for row in rows] == ["0", "", "0", ""]


def test_nothing_is_written_beside_the_data(tiny_coco: Path, tmp_path: Path) -> None:
    root = tiny_coco.parent.parent
    before = sorted(root.rglob("*"))
    to_yolo(coco.load_coco(tiny_coco), tmp_path / "out")
    assert sorted(root.rglob("*")) == before


def test_a_second_export_leaves_nothing_of_the_first(tiny_coco: Path, tmp_path: Path) -> None:
    dataset = coco.load_coco(tiny_coco)
    to_yolo(dataset, tmp_path / "out")
    (tmp_path / "out/labels.cache").touch()
    images = to_yolo(dataset.subset(0.5), tmp_path / "out")
    assert len(list(images.iterdir())) == 2
    assert not (tmp_path / "out/labels.cache").exists()


def test_a_box_that_sticks_out_by_rounding_is_cut(tiny_coco: Path, tmp_path: Path) -> None:
    to_yolo(with_box(coco.load_coco(tiny_coco), [-0.5, 20, 50, 76.5]), tmp_path / "out")
    first = min((tmp_path / "out/labels").iterdir())
    np.testing.assert_allclose(boxes_of(first, 96, 96)[0, 1:], [0, 20, 49.5, 76], atol=1e-5)


@pytest.mark.parametrize("box", [[90, 10, 20, 20], [-5, 10, 20, 20], [10, 10, 20, 200]])
def test_a_box_outside_its_image_is_refused(tiny_coco: Path, tmp_path: Path, box: list[float]) -> None:
    with pytest.raises(DataError, match=r"annotation 1 has box .* outside image 1 \(001.png, 96 x 96\)"):
        to_yolo(with_box(coco.load_coco(tiny_coco), box), tmp_path / "out")


def test_crowds_and_boxes_without_area_are_left_out(tiny_coco: Path, tmp_path: Path) -> None:
    dataset = coco.load_coco(tiny_coco)
    for changed in (with_box(dataset, [5, 5, 0, 9]), with_box(dataset, [5, 5, 9, 9], iscrowd=1)):
        to_yolo(changed, tmp_path / "out")
        assert min((tmp_path / "out/labels").iterdir()).read_text() == ""


def test_an_empty_split_is_refused(tiny_coco: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no image"):
        to_yolo(replace(coco.load_coco(tiny_coco), images=[], annotations=[]), tmp_path / "out")


def test_an_unknown_class_is_refused_with_the_nearest(tiny_coco: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean person"):
        to_yolo(coco.load_coco(tiny_coco), tmp_path / "out", ["persn"])


def test_a_copy_takes_the_place_of_a_link_that_is_not_allowed(
    tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("not allowed")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    dataset = coco.load_coco(tiny_coco)
    first = min(to_yolo(dataset, tmp_path / "out").iterdir())
    assert not first.is_symlink()
    assert first.read_bytes() == dataset.images[0].path.read_bytes()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"ROBUSTBENCH_CACHE": "/a/b", "XDG_CACHE_HOME": "/x"}, lambda: Path("/a/b")),
        ({"XDG_CACHE_HOME": "/x"}, lambda: Path("/x/robustbench-sgdm")),
        ({"XDG_CACHE_HOME": "relative"}, lambda: Path.home() / ".cache/robustbench-sgdm"),
        ({}, lambda: Path.home() / ".cache/robustbench-sgdm"),
    ],
)
def test_the_cache_folder(
    variables: dict[str, str], expected: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ROBUSTBENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_dir() == expected()
