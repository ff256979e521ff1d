"""COCO jsons: found images, filled defaults, refused nonsense."""

import json
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO

from robustbench_sgdm import datasets
from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.datasets import coco
from robustbench_sgdm.datasets.export import to_yolo


def test_genuine_coco(coco_json: Path) -> None:
    data = datasets.load_dataset(str(coco_json))
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
    assert all(i.path.is_file() for i in datasets.load_dataset(str(tiny_coco)).images)


def test_images_elsewhere_need_to_be_named(tiny_coco: Path) -> None:
    root = tiny_coco.parent.parent
    (root / "images").rename(root / "pictures")
    with pytest.raises(DataError, match="--images"):
        datasets.load_dataset(str(tiny_coco))
    assert len(datasets.load_dataset(str(tiny_coco), root / "pictures/val")) == 4


def test_missing_area_and_iscrowd_get_their_defaults(tiny_coco: Path) -> None:
    content = json.loads(tiny_coco.read_text())
    for annotation in content["annotations"]:
        del annotation["area"], annotation["iscrowd"]
    tiny_coco.write_text(json.dumps(content))
    first = datasets.load_dataset(str(tiny_coco)).annotations[0]
    assert (first["area"], first["iscrowd"]) == (41 * 50, 0)


def test_the_order_of_the_file_is_that_of_pycocotools(tiny_coco: Path) -> None:
    """By which mmdetection numbers labels, and images without ids: its `getCatIds` and `getImgIds`."""
    content = json.loads(tiny_coco.read_text())
    content["categories"] = [{"id": i, "name": n} for i, n in ((2, "cat"), (7, "root"), (1, "person"))]
    content["images"].reverse()
    tiny_coco.write_text(json.dumps(content))
    data = datasets.load_dataset(str(tiny_coco))
    theirs = COCO(str(tiny_coco))
    assert list(data.file_category_ids) == theirs.getCatIds(catNms=list(data.classes)) == [2, 7, 1]
    assert [image.id for image in data.images] == theirs.getImgIds() == [4, 3, 2, 1]


def changed(path: Path, **changes: Any) -> str:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return str(path)


BOX = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5]}
PNG = {"id": 1, "file_name": "001.png", "width": 96, "height": 96}
ONE = {"images": [PNG], "annotations": [BOX], "categories": [{"id": 1, "name": "a"}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": []}, "no annotations"),
        ({"images": []}, "no images"),
        ({"categories": "x"}, "no list 'categories'"),
        ({"images": [PNG | {"file_name": "../../etc/passwd"}]}, r"leaves its folder by '\.\.'"),
        ({"images": [PNG | {"file_name": "..\\001.png"}]}, r"leaves its folder by '\.\.'"),
        ({"images": [PNG | {"file_name": None}]}, "image 1 has file_name None"),
        ({"images": [PNG | {"file_name": "/"}]}, "names no file"),
        ({"images": [PNG | {"id": "one"}]}, "id 'one', which is not an integer from 0"),
        ({"images": [PNG | {"id": 1.5}]}, "id 1.5, which is not an integer"),
        ({"images": [PNG | {"id": True}]}, "id True, which is not an integer"),
        ({"images": [PNG | {"id": None}]}, "id None, which is not an integer"),
        ({"images": [PNG | {"id": -5}]}, "id -5, which is not an integer"),
        ({"images": [PNG, PNG | {"file_name": "002.png"}]}, "image id 1 twice"),
        ({"images": [PNG | {"file_name": "\ud800.png"}]}, "surrogate"),
        ({"images": [PNG | {"file_name": "http://[x/1.png"}]}, "not a valid address"),
        ({"images": [PNG | {"file_name": "http://x/%2e%2e/%2e%2e/1.png"}]}, "leaves its folder"),
        ({"images": [7]}, "image 1 is 7, not an object"),
        ({"images": [PNG | {"width": 0}]}, "both must lie between 1 and"),
        ({"images": [PNG | {"width": "wide"}]}, "width or height 'wide'"),
        ({"images": [PNG | {"width": 100}]}, r"1 of 1 images .* 96 x 96 px but annotated as 100 x 96"),
        ({"annotations": [BOX | {"image_id": 9}]}, "no annotation is of an image that it lists"),
        ({"annotations": [BOX | {"category_id": 9}]}, "category_id 9, which the file does not list"),
        ({"annotations": [BOX | {"bbox": [0, 0, -1, 1]}]}, "1 of 1 boxes have a negative width"),
        ({"annotations": [BOX | {"bbox": [0, 0, float("nan"), 1]}]}, "must be finite"),
        ({"annotations": [BOX | {"bbox": [0, 0, float("inf"), 1]}]}, "must be finite"),
        ({"annotations": [BOX | {"bbox": [0, 0, 5, 5, 30]}]}, "5 values"),
        ({"annotations": [BOX | {"bbox": None}]}, "no bbox and no segmentation"),
        ({"annotations": [BOX | {"bbox": None, "segmentation": {"counts": "x"}}]}, "not a polygon"),
        ({"annotations": [BOX | {"area": -1}]}, r"area -1; it must be px\^2"),
        ({"annotations": [BOX | {"area": "big"}]}, "area 'big'"),
        ({"annotations": [BOX | {"iscrowd": "yes"}]}, "iscrowd 'yes'"),
        ({"annotations": ["x"]}, "annotation 1 is 'x', not an object"),
        ({"images": [PNG, PNG | {"file_name": "002.png"}]}, "image id 1 twice .*'001.png' and '002.png'"),
        ({"annotations": [BOX | {"segments_info": []}]}, "panoptic"),
        ({"categories": [{"id": -3, "name": "a"}]}, "id -3, which is not an integer from 0"),
        ({"categories": [{"id": 2**63, "name": "a"}]}, r"not an integer from 0 to 2\^53 - 1"),
        (
            {"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]},
            "category id 1 twice, as 'a' and as 'b'",
        ),
        ({"categories": [{"id": 1, "name": None}]}, "category 1 has no usable name"),
    ],
)
def test_unsound_content_is_refused_for_its_own_reason(
    tiny_coco: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        datasets.load_dataset(changed(tiny_coco, **{**ONE, **change}))


def test_numbers_as_text_and_null_for_defaults_mean_what_they_say(tiny_coco: Path) -> None:
    plain = datasets.load_dataset(str(tiny_coco))
    content = json.loads(tiny_coco.read_text())
    for image in content["images"]:
        image |= {"id": str(image["id"]), "width": None, "height": float(image["height"]), "license": None}
    del content["images"][1]["width"], content["images"][1]["height"]
    for n, a in enumerate(content["annotations"]):
        a |= {"id": None, "area": (None, float("nan"))[n % 2], "iscrowd": None, "segmentation": None}
        a |= {"image_id": float(a["image_id"]), "category_id": str(a["category_id"])}
        a["bbox"] = [str(v) for v in a["bbox"]]
    content["categories"] = [c | {"supercategory": None, "id": str(c["id"])} for c in content["categories"]]
    odd = datasets.load_dataset(changed(tiny_coco, **content))
    assert odd.fingerprint == plain.fingerprint and odd.images == plain.images and not odd.notes


def test_the_box_of_a_polygon_where_there_is_no_other(tiny_coco: Path) -> None:
    content = json.loads(tiny_coco.read_text())
    content["annotations"][0] |= {
        "bbox": None,
        "segmentation": [[10, 12, 30, 12, 20, 40], [5, 20, 6, 21, 7, 22]],
    }
    content["annotations"][1] |= {"bbox": [], "segmentation": [1, 2, 9, 2, 9, 8]}
    data = datasets.load_dataset(changed(tiny_coco, **content))
    assert [a["bbox"] for a in data.annotations[:2]] == [[5, 12, 25, 28], [1, 2, 8, 6]]
    assert any("polygons is taken: 2" in note for note in data.notes)


def test_what_repeats_itself_is_counted_and_nothing_depends_on_it(tiny_coco: Path) -> None:
    """Nothing here uses the ids of annotations; an image that stands twice is one image."""
    plain = datasets.load_dataset(str(tiny_coco))
    content = json.loads(tiny_coco.read_text())
    ids = [a["id"] for a in content["annotations"]]
    for a in content["annotations"]:
        a["id"] = 0
    content["images"].append(content["images"][0])
    odd = datasets.load_dataset(changed(tiny_coco, **content))
    assert odd.fingerprint == plain.fingerprint and odd.images == plain.images
    assert any(f"the id of another one, scored all the same (pycocotools would take the last for both): {len(ids) - 1} "
               in note for note in odd.notes)  # fmt: skip
    assert any("images listed twice, of which one is kept: 1 (first: id 1)" in note for note in odd.notes)
    content["annotations"].append(content["annotations"][2])
    notes = datasets.load_dataset(changed(tiny_coco, **content)).notes
    assert any(
        f"repeat another's box, scored as they are: 1 (first: annotation {len(ids) + 1})" in n for n in notes
    )


def test_most_annotations_are_crowds(tiny_coco: Path) -> None:
    """CVAT writes masks so, and AP is of nothing then."""
    content = json.loads(tiny_coco.read_text())
    for a in content["annotations"]:
        a["iscrowd"] = 1
    (note,) = datasets.load_dataset(changed(tiny_coco, **content)).notes
    assert "iscrowd 1, most of all" in note and f": {len(content['annotations'])} (first" in note


def test_areas_that_cannot_be_are_counted(tiny_coco: Path) -> None:
    content = json.loads(tiny_coco.read_text())
    content["annotations"][0]["area"], content["annotations"][2]["area"] = 0, 1e6
    (note,) = datasets.load_dataset(changed(tiny_coco, **content)).notes
    assert "area" in note and ": 2 (first: annotation 1)" in note


def test_boxes_are_held_against_their_images(tiny_coco: Path) -> None:
    content = json.loads(tiny_coco.read_text())
    content["annotations"][3]["bbox"] = [100, 10, 40, 50]
    (note,) = datasets.load_dataset(changed(tiny_coco, **content)).notes
    assert "1 of 4 boxes leave their image" in note and "annotation 4, of 004.png" in note
    for a in content["annotations"]:
        a["bbox"] = [v / 1000 for v in a["bbox"]]
    with pytest.raises(DataError, match="4 of 4 boxes look like shares"):
        datasets.load_dataset(changed(tiny_coco, **content))


ROOT = {"id": 0, "name": "person", "supercategory": "none"}


def test_a_root_that_no_box_has_may_be_called_like_a_class(tiny_coco: Path) -> None:
    plain = datasets.load_dataset(str(tiny_coco))
    content = json.loads(tiny_coco.read_text())
    data = datasets.load_dataset(changed(tiny_coco, categories=[ROOT, *content["categories"]]))
    assert data.fingerprint == plain.fingerprint
    (note,) = data.notes
    assert "'person', id 0" in note
    data = datasets.load_dataset(
        changed(tiny_coco, categories=[ROOT | {"name": "animals"}, *content["categories"]])
    )
    assert data.classes == ("animals", "person", "cat") and not data.notes


def test_two_classes_of_one_name_that_both_have_boxes_are_named(tiny_coco: Path) -> None:
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "person"}]
    with pytest.raises(DataError, match="categories 1 and 2 are both called"):
        datasets.load_dataset(changed(tiny_coco, categories=categories))
    names = ("cafe\u0301", "caf\u00e9")  # look alike, and are told apart by whoever wrote them
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    assert datasets.load_dataset(changed(tiny_coco, categories=categories)).classes == names


def test_of_what_is_not_used_little_is_asked(tiny_coco: Path) -> None:
    content = json.loads(tiny_coco.read_text())
    spare = [
        {"id": 8, "name": None},
        {"id": 9, "name": "x"},
        {"id": 10, "name": "x"},
        content["categories"][0],
    ]
    data = datasets.load_dataset(changed(tiny_coco, categories=content["categories"] + spare))
    assert [(c["id"], c["name"]) for c in data.categories] == [(1, "person"), (2, "cat"), (10, "x")]
    assert len(data.notes) == 3


@pytest.mark.parametrize(
    "write",
    [
        lambda name: f"images\\val\\{name}",
        lambda name: f".\\{name}",
        lambda name: f"C:\\data\\images\\{name}",
        lambda name: f"\\\\host\\share\\{name}",
        lambda name: f"/home/me/data/{name}",
        lambda name: f"https://images.example.org/val/{name}?token=1",
        lambda name: f"s3://bucket/val/{name}",
        lambda name: f"/data/local-files/?d=images/{name}",
        lambda name: f"images/{name}",
        str.upper,
        lambda name: f"IMAGES/VAL/{name}",
    ],
)
@pytest.mark.parametrize("given", [False, True])
def test_paths_of_other_systems_find_their_files(
    tiny_coco: Path, write: Callable[[str], str], given: bool
) -> None:
    plain = datasets.load_dataset(str(tiny_coco))
    content = json.loads(tiny_coco.read_text())
    for image in content["images"]:
        image["file_name"] = write(image["file_name"])
    folder = tiny_coco.parents[1] / "images/val" if given else None
    data = datasets.load_dataset(changed(tiny_coco, **content), folder)
    assert data.images == plain.images
    assert len(data.notes) <= 1 and all("4 of 4 images were found" in note for note in data.notes)


def test_addresses_alone_do_where_the_files_are_there(tiny_coco: Path) -> None:
    content = json.loads(tiny_coco.read_text())
    for image in content["images"]:
        image["coco_url"] = f"http://images.example.org/val2017/{image.pop('file_name')}"
    assert len(datasets.load_dataset(changed(tiny_coco, **content))) == 4


def test_either_form_of_unicode_finds_the_file(tiny_coco: Path) -> None:
    forms = [unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD")]
    folder = tiny_coco.parents[1] / "images/val"
    (folder / "001.png").rename(folder / forms[0])
    (folder / "002.png").rename(folder / ("x" + forms[1]))
    content = json.loads(tiny_coco.read_text())
    content["images"][0]["file_name"], content["images"][1]["file_name"] = forms[1], "x" + forms[0]
    data = datasets.load_dataset(changed(tiny_coco, **content))
    assert [i.path.is_file() for i in data.images] == 4 * [True] and "2 of 4 images" in data.notes[0]


def test_what_could_be_two_files_is_not_guessed(tiny_coco: Path) -> None:
    folder = tiny_coco.parents[1] / "images/val"
    (folder / "002.png").rename(folder / "A.png")
    (folder / "003.png").rename(folder / "a.PNG")
    content = json.loads(tiny_coco.read_text())
    content["images"] = [
        i | {"file_name": n}
        for i, n in zip(content["images"], ("001.png", "A.PNG", "a.PNG", "004.png"), strict=True)
    ]
    with pytest.raises(DataError, match=r"1 of 4 images .*A\.PNG"):
        datasets.load_dataset(changed(tiny_coco, **content))
    content["images"][1]["file_name"], content["images"][2]["file_name"] = "x/A.png", "y/A.png"
    with pytest.raises(DataError, match=r"both lead to .*A\.png"):
        datasets.load_dataset(changed(tiny_coco, **content))


def test_a_file_that_two_images_name_is_counted(tiny_coco: Path) -> None:
    content = json.loads(tiny_coco.read_text())
    content["images"][2]["file_name"] = "001.png"
    (note,) = datasets.load_dataset(changed(tiny_coco, **content)).notes
    assert "1 (first: image 3, 001.png)" in note


def test_absent_files_say_what_is_near(tiny_coco: Path) -> None:
    content = json.loads(tiny_coco.read_text())
    content["images"][0]["file_name"] = "001.jpg"
    content["images"][1]["file_name"] = "images/3f2a1b9c-002.png"
    with pytest.raises(DataError, match=r"2 of 4 images.*001\.jpg.*but 001\.png in"):
        datasets.load_dataset(changed(tiny_coco, **content))
    for number, image in enumerate(content["images"], 1):
        image["file_name"] = f"images/3f2a1b9c-00{number}.png"
    with pytest.raises(DataError, match=r"usual places.*but 001\.png in"):
        datasets.load_dataset(changed(tiny_coco, **content))
    content["images"] = [i | {"file_name": f"00{n}.png"} for n, i in enumerate(content["images"], 1)]
    content["images"][0]["file_name"] = "C:\\x\\y.jpg"
    with pytest.raises(DataError, match=r"an absolute Windows path, or y\.jpg.*--images"):
        datasets.load_dataset(changed(tiny_coco, **content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}], "robustbench score"),
        ([{"data": {"image": "a.jpg"}, "annotations": []}], "Label Studio"),
        ([{"image": "a.jpg", "annotations": []}], "CreateML"),
        ({"shapes": [], "imagePath": "a.jpg"}, "LabelMe"),
        ({"a.jpg1": {"filename": "a.jpg", "regions": []}}, "VGG Image Annotator"),
        ({"images": [PNG], "annotations": [{"image_id": 1, "caption": "A cat."}]}, "captions"),
        ({"images": [PNG], "categories": [ROOT]}, "names images only"),
        (7, "it holds a int"),
    ],
)
def test_other_jsons_are_called_what_they_are(tmp_path: Path, content: Any, message: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"not COCO ground truth: .*{message}"):
        datasets.load_dataset(str(tmp_path / "a.json"))


def test_paths_do_not_leave_the_image_folder(tiny_coco: Path) -> None:
    outside = tiny_coco.parent.parent / "images/outside.png"
    shutil.copy(tiny_coco.parent.parent / "images/val/001.png", outside)
    content = json.loads(tiny_coco.read_text())
    content["images"][0]["file_name"] = "../outside.png"
    with pytest.raises(DataError, match="leaves its folder"):
        datasets.load_dataset(changed(tiny_coco, **content))


def test_absent_images_are_counted(tiny_coco: Path) -> None:
    (tiny_coco.parent.parent / "images/val/002.png").unlink()
    with pytest.raises(DataError, match=r"1 of 4 images.*002\.png"):
        datasets.load_dataset(str(tiny_coco))


def test_what_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "text.json").write_text("hello")
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(DataError, match="holds a list"):
        datasets.load_dataset(str(tmp_path / "list.json"))
    with pytest.raises(DataError, match="cannot be read as json"):
        datasets.load_dataset(str(tmp_path / "text.json"))
    with pytest.raises(UsageError, match="is not a COCO json or"):
        datasets.load_dataset(str(tmp_path / "a.txt"))
    with pytest.raises(UsageError, match="no data set 'scene'"):
        datasets.load_dataset("scene")


def test_fingerprint_follows_pixels_and_boxes(tiny_coco: Path, photographs: list[NDArray[np.uint8]]) -> None:
    before = datasets.load_dataset(str(tiny_coco)).fingerprint
    assert datasets.load_dataset(str(tiny_coco)).fingerprint == before
    image = tiny_coco.parent.parent / "images/val/001.png"
    image.write_bytes(image.read_bytes() + b"\0")
    after = datasets.load_dataset(str(tiny_coco)).fingerprint
    content = json.loads(tiny_coco.read_text())
    content["annotations"][0]["bbox"][0] += 1
    assert len({before, after, datasets.load_dataset(changed(tiny_coco, **content)).fingerprint}) == 3


def test_subsets_are_fixed_and_nested(coco_json: Path) -> None:
    data = datasets.load_dataset(str(coco_json))
    half, tenth = data.subset(0.5), data.subset(0.1)
    assert (len(half), len(tenth)) == (64, 13)
    assert {i.id for i in tenth.images} < {i.id for i in half.images}
    assert {a["image_id"] for a in tenth.annotations} <= {i.id for i in tenth.images}
    for bad in (0, 1.5, -1):
        with pytest.raises(UsageError, match=r"outside \(0, 1\]"):
            data.subset(bad)


def test_repeated_annotations_are_counted(tiny_coco: Path) -> None:
    content = json.loads(tiny_coco.read_text())
    again = [a | {"id": 1000 + n} for n, a in enumerate(content["annotations"])]
    data = datasets.load_dataset(changed(tiny_coco, annotations=content["annotations"] + again))
    assert len(data.annotations) == 2 * len(again)
    assert any("repeat" in note and f": {len(again)} " in note for note in data.notes)


@pytest.mark.parametrize("start", ["file:///C:/data/images/", "file:///home/me/", "https://host/a/"])
def test_addresses_of_files_are_found_by_their_end(tiny_coco: Path, start: str) -> None:
    content = json.loads(tiny_coco.read_text())
    names = [image["file_name"] for image in content["images"]]
    for image in content["images"]:
        image["file_name"] = start + image["file_name"]
    data = datasets.load_dataset(changed(tiny_coco, images=content["images"]))
    assert [image.path.name for image in data.images] == [Path(name).name for name in names]


def test_annotations_of_images_that_are_not_listed_are_left_out_and_said(tiny_coco: Path) -> None:
    """As pycocotools does; a json of a part of the images often keeps all annotations."""
    content = json.loads(tiny_coco.read_text())
    plain = datasets.load_dataset(str(tiny_coco))
    first = content["annotations"][0]
    content["annotations"] = [
        {**first, "id": 900, "image_id": 77},
        *content["annotations"],
        {**first, "id": 901, "image_id": 78},
    ]
    data = datasets.load_dataset(changed(tiny_coco, annotations=content["annotations"]))
    assert data.fingerprint == plain.fingerprint
    assert any("not list: 2 (first: image_id 77)" in note for note in data.notes)
    names = {image.id: image.path.name for image in data.images}
    assert len(coco.describe_copy(data, names)["annotations"]) == len(plain.annotations)


def test_what_counts_and_sizes_go_by_is_said_for_each_route(tiny_coco: Path, tmp_path: Path) -> None:
    """The same images as a json with a crowd and areas of objects, and as the YOLO labels that are made of it."""
    content = json.loads(tiny_coco.read_text())
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][1]["area"] = 700
    tiny_coco.write_text(json.dumps(content))
    loaded = coco.load_coco(tiny_coco)
    assert loaded.ground_truth_summary == (
        "4 boxes, 1 of them crowds, which AP leaves out; AP_S, AP_M and AP_L go by the areas in the data"
    )
    assert (loaded.count_objects(), loaded.count_objects({"cat"}), loaded.count_objects(set())) == (3, 1, 0)
    to_yolo(loaded, tmp_path / "yolo")
    (tmp_path / "yolo" / "data.yaml").write_text("val: images\ntrain: images\nnames: [person, cat]\n")
    labels = datasets.load_dataset(str(tmp_path / "yolo" / "data.yaml"))
    assert labels.ground_truth_summary.startswith(
        "3 boxes, none a crowd; AP_S, AP_M and AP_L go by the area of each box"
    )
