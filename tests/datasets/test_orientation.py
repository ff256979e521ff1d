"""Which way up a picture is meant: the boxes decide, and where they cannot, a note says what was done."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps

from robustbench_sgdm import datasets
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.datasets import Dataset, image_decoding
from robustbench_sgdm.datasets.export import to_yolo
from robustbench_sgdm.store import GroundTruth
from robustbench_sgdm.sweep.metadata import ground_truth

WIDE, HIGH = (40, 30, 90, 25), (20, 100, 30, 45)  # x, y, w, h: inside 160 x 120 alone, inside 120 x 160 alone
SMALL = (10, 20, 30, 40)  # inside either
Photographs = list[NDArray[np.uint8]]


def written(
    root: Path,
    photographs: Photographs,
    orientations: Sequence[int],
    boxes: Sequence[Sequence[int]],
    size: tuple[int, int] | None = (160, 120),
    shape: tuple[int, int] = (160, 120),
    suffix: str = ".jpg",
) -> Path:
    """A COCO json of pictures stored as `shape`, all annotated with `size` and with these boxes."""
    (root / "images").mkdir(parents=True)
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    for number, orientation in enumerate(orientations, 1):
        exif = Pillow.Exif()
        exif[0x0112] = orientation
        picture = Pillow.fromarray(photographs[number % len(photographs)]).resize(shape)
        picture.save(root / "images" / f"{number}{suffix}", exif=exif)
        wide, high = size or (None, None)
        content["images"].append(
            {"id": number, "file_name": f"{number}{suffix}", "width": wide, "height": high}
        )
        content["annotations"] += [{"image_id": number, "category_id": 1, "bbox": list(box)} for box in boxes]
    (root / "val.json").write_text(json.dumps(content))
    return root / "val.json"


def is_upright(data: Dataset) -> list[bool]:
    """Which pictures are decoded as Pillow turns them, rather than as stored; they differ."""
    found = []
    for image in data.images:
        with Pillow.open(image.path) as file:
            upright = np.asarray(ImageOps.exif_transpose(file))
        pixels = image_decoding.read_image(image)
        assert pixels.shape[:2] == (image.height, image.width)
        found.append(np.array_equal(pixels, upright))
    return found


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("size", [(160, 120), None])
def test_boxes_that_fit_the_picture_turned_turn_it(
    tmp_path: Path, photographs: Photographs, orientation: int, size: tuple[int, int] | None, suffix: str
) -> None:
    path = written(tmp_path, photographs, [orientation] * 2 + [1], [HIGH], size, suffix=suffix)
    content = json.loads(path.read_text())
    content["annotations"].pop()  # the third picture has no orientation
    path.write_text(json.dumps(content))
    data = datasets.load_dataset(str(path))
    assert is_upright(data) == [True] * 3
    assert [(i.width, i.height) for i in data.images] == [(120, 160)] * 2 + [(160, 120)]
    assert (
        len(data.notes) == 1
        and "2 of 3 images" in data.notes[0]
        and "fit only the picture turned" in data.notes[0]
    )


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("size", [(160, 120), (120, 160), None])
def test_boxes_that_fit_the_picture_as_stored_keep_it(
    tmp_path: Path, photographs: Photographs, size: tuple[int, int] | None, suffix: str
) -> None:
    data = datasets.load_dataset(
        str(written(tmp_path, photographs, [6, 8], [WIDE, SMALL], size, suffix=suffix))
    )
    assert is_upright(data) == [False, False]
    assert {(i.width, i.height) for i in data.images} == {(160, 120)}
    assert len(data.notes) == 1 and "as stored" in data.notes[0]


def test_size_and_boxes_as_displayed_need_no_word(tmp_path: Path, photographs: Photographs) -> None:
    data = datasets.load_dataset(str(written(tmp_path, photographs, [6, 8], [HIGH, SMALL], (120, 160))))
    assert is_upright(data) == [True, True] and not data.notes


def test_where_nothing_tells_pictures_are_upright_and_a_note_says_so(
    tmp_path: Path, photographs: Photographs
) -> None:
    for number, (orientations, shape) in enumerate(
        [([6, 1], (160, 120)), ([3, 2, 4], (160, 120)), ([6], (120, 120))]
    ):
        data = datasets.load_dataset(
            str(written(tmp_path / str(number), photographs, orientations, [SMALL], shape, shape))
        )
        assert all(is_upright(data))
        (note,) = data.notes
        assert (
            "upright" in note and f"{sum(o > 1 for o in orientations)} of {len(orientations)} image" in note
        )


def test_pictures_that_cannot_tell_go_with_those_that_can(tmp_path: Path, photographs: Photographs) -> None:
    data = datasets.load_dataset(str(written(tmp_path / "a", photographs, [6, 3, 4], [WIDE], (160, 120))))
    assert is_upright(data) == [False] * 3
    other = written(tmp_path / "b", photographs, [6, 3], [HIGH], (160, 120))
    content = json.loads(other.read_text())
    content["annotations"][1]["bbox"] = list(SMALL)
    other.write_text(json.dumps(content))
    assert is_upright(datasets.load_dataset(str(other))) == [True, True]


def test_a_few_sloppy_boxes_do_not_turn_the_verdict(tmp_path: Path, photographs: Photographs) -> None:
    boxes = [HIGH] * 19 + [WIDE]
    data = datasets.load_dataset(str(written(tmp_path, photographs, [6], boxes)))
    assert is_upright(data) == [True]
    assert any("1 of 20 boxes leave" in note for note in data.notes)


def test_boxes_that_contradict_each_other_are_refused(tmp_path: Path, photographs: Photographs) -> None:
    with pytest.raises(
        DataError, match="2 of their boxes fit only the picture turned by it, 2 only the picture as stored"
    ):
        datasets.load_dataset(str(written(tmp_path, photographs, [6, 8], [HIGH, WIDE])))


def test_a_verdict_against_exif_is_part_of_the_fingerprint(tmp_path: Path, photographs: Photographs) -> None:
    path = written(tmp_path, photographs, [6], [WIDE])
    stored = datasets.load_dataset(str(path)).fingerprint
    assert stored == datasets.load_dataset(str(path)).fingerprint
    images_as = [
        i.__class__(i.id, i.path, i.width, i.height) for i in datasets.load_dataset(str(path)).images
    ]
    data = datasets.load_dataset(str(path))
    assert Dataset(data.name, data.source, images_as, data.categories, data.annotations).fingerprint != stored


def test_width_and_height_in_the_wrong_order(tmp_path: Path, photographs: Photographs) -> None:
    data = datasets.load_dataset(str(written(tmp_path / "a", photographs, [1, 1], [WIDE, SMALL], (120, 160))))
    assert {(i.width, i.height) for i in data.images} == {(160, 120)} and "swapped" in data.notes[0]
    for number, boxes in enumerate(([HIGH], [SMALL])):
        with pytest.raises(DataError, match="2 of 2 images have another size than annotated"):
            datasets.load_dataset(
                str(written(tmp_path / str(number), photographs, [1, 1], boxes, (120, 160)))
            )


def test_images_of_another_size_are_counted(tmp_path: Path, photographs: Photographs) -> None:
    with pytest.raises(
        DataError, match=r"3 of 3 images have another size .* 160 x 120 px but annotated as 320 x 240"
    ):
        datasets.load_dataset(str(written(tmp_path, photographs, [1, 1, 6], [SMALL], (320, 240))))


def test_a_run_remembers_which_pictures_are_not_upright(tmp_path: Path, photographs: Photographs) -> None:
    data = datasets.load_dataset(str(written(tmp_path / "a", photographs, [6, 3], [WIDE])))
    plain = datasets.load_dataset(str(written(tmp_path / "b", photographs, [1, 1], [WIDE])))
    for one, columns in ((data, 5), (plain, 4)):
        truth = ground_truth(one)
        truth.write(tmp_path / one.fingerprint, one.fingerprint)
        again = GroundTruth.read(tmp_path / one.fingerprint, one.fingerprint).images
        pd.testing.assert_frame_equal(again, truth.images)
        assert len(again.columns) == columns
    assert ground_truth(data).images["upright"].tolist() == [False, False]


def test_training_reads_the_picture_that_the_boxes_are_of(tmp_path: Path, photographs: Photographs) -> None:
    """Ultralytics reads with OpenCV, which would turn a picture whose boxes fit it as stored."""
    data = datasets.load_dataset(str(written(tmp_path, photographs, [6, 3, 1], [WIDE])))
    assert [image.upright for image in data.images] == [False, False, True]
    files = sorted(to_yolo(data, tmp_path / "out").iterdir())
    for file, image in zip(files, data.images, strict=True):
        pixels: Any = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
        assert pixels.shape[:2] == (image.height, image.width)
        if not image.upright:
            np.testing.assert_array_equal(pixels, image_decoding.read_image(image))
