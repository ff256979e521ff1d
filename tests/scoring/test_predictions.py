"""Predictions made elsewhere: ids and names are read as they are meant, or refused where that cannot be known."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from robustbench_sgdm.config import CategoryIds, ImageIds
from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.datasets import Dataset, Image
from robustbench_sgdm.scoring import Predictions, Scorer, coco_rows
from robustbench_sgdm.scoring.category_ids import COCO_IDS
from robustbench_sgdm.sweep.corrupted_copies import copy_names

Entry = dict[str, Any]


def data(
    files: Sequence[str] = ("a.jpg", "b.jpg", "c.jpg"),
    ids: Sequence[int] | None = None,
    categories: Sequence[int] = (1, 2, 3),
    names: Sequence[str] | None = None,
    source: str = "val.json",
    boxed: Sequence[int] | None = None,
) -> Dataset:
    """Images of 100 x 100 px, each with one box of every category (of those in `boxed`)."""
    images = [
        Image(i, Path("root/val") / f, 100, 100) for i, f in zip(ids or range(1, 999), files, strict=False)
    ]
    found = [
        {"id": c, "name": n} for c, n in zip(categories, names or [f"n{c}" for c in categories], strict=True)
    ]
    annotations = [
        {
            "id": 1,
            "image_id": i.id,
            "category_id": c,
            "bbox": [9 * k, 9 * k, 20, 20],
            "area": 400,
            "iscrowd": 0,
        }
        for i in images
        for k, c in enumerate(categories if boxed is None else boxed)
    ]
    return Dataset("data", source, images, found, [a | {"id": n} for n, a in enumerate(annotations, 1)])


def entry(image: object, category: object = 1, **more: object) -> Entry:
    return {"image_id": image, "category_id": category, "bbox": [1, 2, 20, 20], "score": 0.5} | more


def read(
    path: Path,
    dataset: Dataset,
    entries: object,
    image_ids: ImageIds = "auto",
    category_ids: CategoryIds = "auto",
) -> tuple[list[int], list[int], list[str]]:
    """Image ids, category ids in the order of the images, and notes."""
    (path / "p.json").write_text(json.dumps(entries))
    found = Predictions([path / "p.json"], dataset, image_ids=image_ids, category_ids=category_ids)
    frame = found.read(path / "p.json")
    return frame["image_id"].tolist(), frame["category_id"].tolist(), found.notes


def written(files: Sequence[str], labels: Sequence[int], classes: int) -> list[Entry]:
    """What Ultralytics itself writes for these files, a box of every label in each."""
    from ultralytics.models.yolo.detect import DetectionValidator

    validator: Any = SimpleNamespace(jdict=[], class_map=list(range(1, classes + 1)))
    boxes = torch.tensor([[1.0, 2.0, 21.0, 22.0]]).repeat(len(labels), 1)
    found = {"bboxes": boxes, "conf": torch.full((len(labels),), 0.5), "cls": torch.tensor(labels)}
    for file in files:
        DetectionValidator.pred_to_json(validator, found, {"im_file": f"/data/images/{file}"})
    entries: list[Entry] = json.loads(json.dumps(validator.jdict))
    return entries


# --- images


def test_ultralytics_stems_are_not_ids(tmp_path: Path) -> None:
    """Frames numbered in the order of their names: 1, 10, 11, 2."""
    shuffled = data(["1.jpg", "10.jpg", "11.jpg", "2.jpg"])
    entries = written(["2.jpg", "10.jpg", "1.jpg"], [0, 1, 2], 3)
    images, categories, notes = read(tmp_path, shuffled, entries)
    assert images == [1] * 3 + [2] * 3 + [4] * 3 and categories == [1, 2, 3] * 3
    assert any("in 3 of 9 predictions" in note for note in notes)  # 2 is the id of 10.jpg


@pytest.mark.parametrize(
    "image",
    [7, 7.0, "7", "7.0", " 7", "007", "b", "b.jpg", "val/b.jpg", "x\\val\\b.jpg"],
)
def test_one_image_in_many_words(tmp_path: Path, image: object) -> None:
    assert read(tmp_path, data(ids=[5, 7, 6]), [entry(image)])[0] == [7]
    assert read(tmp_path, data(ids=[5, 7, 6]), [entry(image, 1.0, file_name="b.jpg")])[0] == [7]


@pytest.mark.parametrize(
    "name", ["b.jpg", "b.png", "b", "val/b.jpg", "/elsewhere/fog/3/images/b.png", "x\\b.jpg"]
)
def test_a_name_alone_is_enough(tmp_path: Path, name: str) -> None:
    """Of a copy by `robustbench corrupt` too, which keeps the stem."""
    bare = entry(None, file_name=name)
    assert read(tmp_path, data(), [bare])[0] == [2]
    del bare["image_id"]
    assert read(tmp_path, data(), [bare])[0] == [2]


def test_stems_that_several_files_have(tmp_path: Path) -> None:
    """Ultralytics writes 007 and 7 alike."""
    for files, image in ((("a.jpg", "a.png"), "a"), (("x/7.jpg", "x/007.jpg"), 7)):
        with pytest.raises(DataError, match="the stem of 2 images"):
            read(tmp_path, data(files), [entry(image)])
        named = [entry(image, file_name=Path(f).name) for f in files]
        assert read(tmp_path, data(files), named)[0] == [1, 2]


@pytest.mark.parametrize("stem", ["000139", "20240131235959123456789012", "١٢", "a.b", "1e5", "²"])
def test_whatever_ultralytics_makes_of_a_stem(tmp_path: Path, stem: str) -> None:
    if stem != "²":  # which it cannot write
        entries = written([f"{stem}.jpg"], [0, 2], 3)
        assert read(tmp_path, data(["b.jpg", f"{stem}.jpg"]), entries)[0] == [2, 2]
        bare = [{k: v for k, v in e.items() if k != "file_name"} for e in entries]
        assert read(tmp_path, data(["b.jpg", f"{stem}.jpg"]), bare)[0] == [2, 2]
    assert read(tmp_path, data(["b.jpg", f"{stem}.jpg"]), [entry(stem)])[0] == [2]


def test_unicode_forms_of_a_name(tmp_path: Path) -> None:
    assert read(tmp_path, data(["e\u0301.jpg", "f.jpg"]), [entry(None, file_name="\u00e9.jpg")])[0] == [1]


def test_copies_of_images_whose_names_repeat(tmp_path: Path) -> None:
    """`robustbench corrupt` calls them by their ids."""
    repeated = data(["x/1.jpg", "y/1.jpg", "y/2.jpg"], ids=[4, 5, 1])
    names = copy_names(repeated.images, "png")
    entries = [entry(int(Path(n).stem), file_name=n) for n in names]
    assert read(tmp_path, repeated, entries)[0] == [4, 5, 1]
    assert read(tmp_path, repeated, written(names, [0, 2], 3))[0] == [4, 4, 5, 5, 1, 1]


def test_folders_tell_equal_names_apart(tmp_path: Path) -> None:
    repeated = data(["x/a.jpg", "y/a.jpg", "y/b.jpg"])
    named = [entry(None, file_name="y/a.jpg"), entry(None, file_name="/z/x/a.jpg")]
    assert read(tmp_path, repeated, named)[0] == [1, 2]
    assert read(tmp_path, repeated, [entry(2, file_name="a.jpg")])[0] == [2]
    with pytest.raises(DataError, match=r"2 images of data are called.*x/a.jpg, root/val/y/a.jpg"):
        read(tmp_path, repeated, [entry("a", file_name="a.jpg")])
    with pytest.raises(DataError, match=r"x/b\.jpg"):  # y/b.jpg is another image
        read(tmp_path, repeated, [entry(None, file_name="x/b.jpg")])


def test_an_ultralytics_stem_does_not_choose_between_equal_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 images of data"):
        read(tmp_path, data(["x/1.jpg", "y/1.jpg"]), written(["1.jpg"], [0, 2], 3))


def test_name_and_id_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    entries = [entry(1, file_name="a.jpg"), entry(3, file_name="b.jpg"), entry(3, file_name="c.jpg")]
    with pytest.raises(DataError, match=r"prediction 2 .*'b.jpg'.*image 2.*id of root/val/c.jpg; 1 of 3"):
        read(tmp_path, data(), entries)
    assert read(tmp_path, data(), entries, "file-name")[0] == [1, 2, 3]
    assert read(tmp_path, data(), entries, "id")[0] == [1, 3, 3]
    with pytest.raises(DataError, match="neither its id nor its stem"):
        read(tmp_path, data(), [entry(77, file_name="b.jpg")])


def test_bare_ids_that_can_mean_two_images_are_refused(tmp_path: Path) -> None:
    numbers = data(["3.jpg", "1.jpg", "2.jpg"])
    entries = [entry(1), entry(2), entry(2)]
    with pytest.raises(
        DataError, match=r"image_id 1, the id of root/val/3.jpg and the name of root/val/1.jpg"
    ):
        read(tmp_path, numbers, entries)
    assert read(tmp_path, numbers, entries, "id")[0] == [1, 2, 2]
    assert read(tmp_path, numbers, entries, "file-name")[0] == [2, 3, 3]
    # One that has a name tells of the others.
    assert read(tmp_path, numbers, [*entries, entry(3, file_name="3.jpg")])[0] == [1, 2, 3, 3]
    assert read(tmp_path, numbers, [*entries, entry(1, file_name="3.jpg")])[0] == [1, 1, 2, 2]
    words = data(["x.jpg", "y.jpg"])
    assert read(tmp_path, words, [entry("x", file_name="x.jpg"), entry(2)])[0] == [1, 2]


def test_bare_ids_of_one_meaning_need_no_word(tmp_path: Path) -> None:
    coco = data(["000000000139.jpg", "000000000285.jpg"], ids=[139, 285])
    assert read(tmp_path, coco, [entry(285), entry(139)])[0] == [139, 285]
    shifted = data(["0.jpg", "1.jpg", "2.jpg"])
    images, _, notes = read(tmp_path, shifted, [entry(1), entry(3)])  # no file is called 3
    assert images == [1, 3] and any("1 of 2 predictions" in note for note in notes)
    images, _, notes = read(tmp_path, shifted, [entry(0), entry(2)])  # no id is 0
    assert images == [1, 3] and any("stem" in note for note in notes)


def test_the_id_of_one_of_two_images_with_the_same_file(tmp_path: Path) -> None:
    found = data(["7.jpg", "7.jpg", "8.jpg"], ids=[7, 9, 8])
    assert read(tmp_path, found, [entry(7), entry(8)])[0] == [7, 8]


def test_a_file_without_predictions_is_named(tmp_path: Path) -> None:
    assert any("has no prediction" in note for note in read(tmp_path, data(), [])[2])


def test_stems_that_are_words_need_no_word(tmp_path: Path) -> None:
    mixed = data(["a.jpg", "b.jpg", "9.jpg"])
    assert read(tmp_path, mixed, [entry("a"), entry(2), entry("b.jpg")])[0] == [1, 2, 2]
    assert read(tmp_path, mixed, [entry("a"), entry(9)])[0] == [1, 3]
    with pytest.raises(DataError, match="image 'a'"):
        read(tmp_path, mixed, [entry("a"), entry(2)], "id")
    with pytest.raises(DataError, match="image 'd', "):
        read(tmp_path, mixed, [entry("a"), entry("d")])


def test_unknown_images_are_counted(tmp_path: Path) -> None:
    entries = [entry(1), entry(8), entry(9), entry(9)]
    with pytest.raises(DataError, match=r"prediction 2 is of image 8,.*; 3 of 4 .* 2 such images \(8, 9\)"):
        read(tmp_path, data(), entries)
    renamed = [entry(1, file_name="fog_a.jpg")]
    with pytest.raises(DataError, match="--image-ids id"):
        read(tmp_path, data(), renamed)
    assert read(tmp_path, data(), renamed, "id")[0] == [1]


def test_two_files_are_not_one_image(tmp_path: Path) -> None:
    """Of more cameras than the data set has."""
    entries = [entry(None, file_name=f"{folder}/a.jpg") for folder in ("cam1", "cam2")]
    with pytest.raises(DataError, match="one such image"):
        read(tmp_path, data(), entries)
    assert read(tmp_path, data(), [*entries[:1], entry(None, file_name="a.jpg")])[0] == [1, 1]


# --- categories

YAML = {"categories": range(3), "source": "data.yaml"}


@pytest.mark.parametrize(
    ("labels", "expected"), [([0, 1, 2], [0, 1, 2]), ([2], [2]), ([0], [0]), ([1], [1]), ([0, 1], [0, 1])]
)
def test_ultralytics_predictions_of_its_yaml(tmp_path: Path, labels: list[int], expected: list[int]) -> None:
    own = data(["x_1.jpg", "x_10.jpg", "x_2.jpg"], **YAML)  # type: ignore[arg-type]
    images, categories, _ = read(tmp_path, own, written(["x_2.jpg", "x_10.jpg"], labels, 3))
    assert images == [2] * len(labels) + [3] * len(labels) and categories == expected * 2


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([0, 2], [0, 2]),
        ([1, 3], [0, 2]),
        ([1, 2], None),
        ([0, 3], "0 to 3"),
        ([1, 4], "category 4"),
        ([], []),
    ],
)
def test_labels_of_a_yaml_are_counted_by_evidence(tmp_path: Path, ids: list[int], expected: object) -> None:
    own = data(**YAML)  # type: ignore[arg-type]
    entries = [entry("a", i) for i in ids]
    if isinstance(expected, list):
        assert read(tmp_path, own, entries)[1] == expected
        return
    with pytest.raises(DataError, match=str(expected or "--category-ids from-0 or --category-ids from-1")):
        read(tmp_path, own, entries)
    if expected is None:
        assert read(tmp_path, own, entries, "auto", "from-0")[1] == [1, 2]
        assert read(tmp_path, own, entries, "auto", "from-1")[1] == [0, 1]


def test_evidence_of_one_file_holds_for_all(tmp_path: Path) -> None:
    own = data(**YAML)  # type: ignore[arg-type]
    paths = [tmp_path / name for name in ("clean.json", "fog.json")]
    for path, ids in zip(paths, ([1, 3], [2]), strict=True):
        path.write_text(json.dumps([entry("a", i) for i in ids]))
    assert Predictions(paths, own).read(paths[1])["category_id"].tolist() == [1]


def test_cocos_ids_are_those_of_ultralytics() -> None:
    from ultralytics.data.converter import coco80_to_coco91_class

    assert list(COCO_IDS) == coco80_to_coco91_class()


def test_a_yaml_of_cocos_classes(tmp_path: Path) -> None:
    names = ["person", *map(str, range(78)), "toothbrush"]
    own = data(categories=range(80), names=names, source="coco.yaml")
    for ids, expected in (([1, 90], [0, 79]), ([1, 12, 80], [0, 11, 79]), ([0, 12, 79], [0, 12, 79])):
        assert read(tmp_path, own, [entry("a", i) for i in ids])[1] == expected
    stems = [entry("a", i, file_name="a.jpg") for i in (1, 80)]
    with pytest.raises(DataError, match="--category-ids from-1 or --category-ids coco"):
        read(tmp_path, own, stems)
    assert read(tmp_path, own, stems, "auto", "coco")[1] == [0, 70]
    assert read(tmp_path, own, stems[:1])[1] == [0]  # either way
    assert read(tmp_path, data(["a.jpg"], **YAML), stems[:1])[1] == [0]  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="80 classes"):
        read(tmp_path, data(), stems, "auto", "coco")


@pytest.mark.parametrize(
    ("categories", "ids", "remedies"),
    [
        (COCO_IDS, [0, 1, 79], ["from-0"]),  # detectron2's
        (COCO_IDS, [1, 12, 80], ["from-1"]),
        (COCO_IDS, [1, 91], ["id"]),
        (range(1, 81), [1, 90], ["coco"]),
        (range(1, 4), [0, 2], ["from-0"]),
        (range(3), [1, 3], ["from-1"]),
        ([1, 3, 18], [1, 2, 3], ["from-1"]),
        ([7], [0], ["from-0"]),
    ],
)
def test_ids_that_a_json_lacks_are_refused_with_what_they_look_like(
    tmp_path: Path, categories: Sequence[int], ids: list[int], remedies: list[str]
) -> None:
    with pytest.raises(DataError, match="which data does not have") as caught:
        read(tmp_path, data(categories=categories), [entry(1, i) for i in ids])
    for remedy in ("from-0", "from-1", "coco", "id"):
        assert (f"--category-ids {remedy} " in str(caught.value)) == (remedy in remedies)
    if remedies != ["id"]:
        how: Any = remedies[0]
        found = read(tmp_path, data(categories=categories), [entry(1, i) for i in ids], "auto", how)[1]
        assert len(found) == len(ids) and set(found) <= set(categories)


def test_other_classes_are_left_out_on_request(tmp_path: Path) -> None:
    entries = [entry(1, 1), entry(1, 77), entry(1, 3)]
    images, categories, notes = read(tmp_path, data(), entries, "auto", "id")
    assert (images, categories) == ([1, 1], [1, 3]) and any(
        "1 of 3 predictions are left out" in n for n in notes
    )
    assert not any("repeat" in n for n in read(tmp_path, data(), [*entries, entry(1, 78)], "auto", "id")[2])
    with pytest.raises(DataError, match="category 77"):
        read(tmp_path, data(), entries[1:2], "auto", "id")


def test_ultralytics_labels_are_not_a_jsons_ids(tmp_path: Path) -> None:
    """It writes label + 1: for ids that begin with 0 another class, which shows only if the last one occurs."""
    zero = data(categories=range(3))
    with pytest.raises(DataError, match=r"category 3.*from-1"):
        read(tmp_path, zero, written(["a.jpg"], [0, 2], 3))
    with pytest.raises(DataError, match="--category-ids id or --category-ids from-1"):
        read(tmp_path, zero, written(["a.jpg"], [0, 1], 3))
    root = data(categories=range(4), boxed=[1, 2, 3])  # Roboflow's: 0 is no class
    assert read(tmp_path, root, written(["a.jpg"], [0, 2], 3))[1] == [1, 3]
    assert read(tmp_path, data(), written(["a.jpg"], [0, 1], 3))[1] == [1, 2]
    assert read(tmp_path, data(categories=COCO_IDS), [entry("a", 72, file_name="a.jpg")])[1] == [72]


def test_names_of_categories(tmp_path: Path) -> None:
    """SAHI writes its model's label beside the name."""
    named = data(names=["car", "traffic light", "dog"])
    entries = [
        entry(1, 0, category_name="traffic_light"),
        entry(1, 1, category_name="car"),
        entry(1, 2, category_name="tv"),
    ]
    _, categories, notes = read(tmp_path, named, entries)
    assert categories == [2, 1] and any("1 of 3" in n and "tv" in n for n in notes)
    assert read(tmp_path, named, [entry(1, "dog")])[1] == [3]
    assert read(tmp_path, named, [entry(1, "2")])[1] == [2]
    own = [entry(1, 1, category_name="car"), entry(1, 3, category_name="chien")]
    assert read(tmp_path, named, own)[1] == [1, 3]  # ids that are right; a name of another tongue
    with pytest.raises(DataError, match=r"prediction 2 calls category 1 'dog'.*'car'"):
        read(tmp_path, named, [entry(1, 1, category_name="car"), entry(1, 1, category_name="dog")])
    with pytest.raises(DataError, match="no class that a prediction names"):
        read(tmp_path, named, [entry(1, 1, category_name="sofa")])
    with pytest.raises(DataError, match="no category_name"):
        read(tmp_path, named, [entry(1, 1)], "auto", "name")


def test_a_file_with_images_and_categories_of_its_own(tmp_path: Path) -> None:
    named = data(names=["car", "cat", "dog"])
    content = {
        "images": [{"id": 0, "file_name": "b.jpg"}, {"id": 1, "file_name": "a.jpg"}],
        "categories": [{"id": 0, "name": "dog"}, {"id": 1, "name": "car"}],
        "annotations": [entry(0, 1), entry(1, 0), entry(0, 0)],
    }
    assert read(tmp_path, named, content)[:2] == ([1, 2, 2], [3, 1, 3])
    content["annotations"] = [entry(7, 1)]
    with pytest.raises(DataError, match="of its own"):
        read(tmp_path, named, content)
    truth = named.to_coco()
    with pytest.raises(DataError, match="score"):
        read(tmp_path, named, truth)


# --- values


def test_what_pycocotools_scores_is_scored_alike(tmp_path: Path) -> None:
    """Detections there twice, whole numbers as floats, ties, boxes without extent, images without a detection."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(0)
    dataset = data([f"{n}.jpg" for n in "abcdefgh"])
    entries = [
        entry(
            float(i),
            float(c),
            bbox=[*rng.uniform(0, 12, 2), *rng.uniform(15, 25, 2)],
            score=rng.integers(9) / 9,
        )
        for i in (1, 2, 3, 5, 6)
        for c in (1, 2, 3)
        for _ in range(4)
    ]
    entries += [entries[0], entries[7], entry(1, 2, bbox=[5, 5, 0, 9]), entry(1, 2, bbox=[25, 5, -20, 9])]
    truth, evaluation = COCO(), None
    truth.dataset = copy.deepcopy(dataset.to_coco())
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(entries)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    (tmp_path / "p.json").write_text(json.dumps(entries))
    found = Predictions([tmp_path / "p.json"], dataset)
    scores = Scorer(dataset).score([coco_rows(found.read(tmp_path / "p.json"))])
    assert scores.metrics["AP"] == pytest.approx(100 * evaluation.stats[0], abs=1e-9)
    assert 0 < evaluation.stats[0] < 1
    notes = "; ".join(found.notes)
    assert "2 of 64 predictions repeat" in notes and "3 of 8 images have no prediction" in notes


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.5, 98.2, 71.0], "percent"),
        ([-3.1, 2.0, 0.1], "logits"),
        ([float("nan"), 0.1, 0.2], "must be finite"),
        ([None, 0.1, 0.2], "has no valid image_id"),
        (["high", 0.1, 0.2], "has no valid image_id"),
    ],
)
def test_scores_that_are_no_confidences(tmp_path: Path, scores: list[Any], expected: str) -> None:
    with pytest.raises(DataError, match=expected) as caught:
        read(tmp_path, data(), [entry(1, score=s) for s in scores])
    assert "p.json: prediction " in str(caught.value)


def test_a_score_rounded_past_one_is_one(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps([entry(1, score=float(np.float32(1) + np.float32(1e-7)))]))
    assert Predictions([tmp_path / "p.json"], data()).read(tmp_path / "p.json")["score"].tolist() == [1.0]


def test_a_confidence_threshold_is_noticed(tmp_path: Path) -> None:
    spread = [entry(1 + n % 3, 1 + n % 3, score=0.3 + n / 100) for n in range(30)]
    assert any("below 0.3" in note for note in read(tmp_path, data(), spread)[2])
    assert read(tmp_path, data(), [*spread, entry(1, score=0.002, bbox=[70, 70, 20, 20])])[2] == []


def test_corners_instead_of_sizes_are_refused(tmp_path: Path) -> None:
    boxes = np.random.default_rng(0).uniform([0, 0, 10, 10], [60, 60, 39, 39], (40, 4))
    right = [entry(1 + n % 3, 1 + n % 3, bbox=box.tolist(), score=0.01) for n, box in enumerate(boxes)]
    assert read(tmp_path, data(), right)[2] == []
    wrong = [
        e | {"bbox": [x, y, x + w, y + h]} for e, (x, y, w, h) in zip(right, boxes.tolist(), strict=True)
    ]
    with pytest.raises(DataError, match="fit as corners"):
        read(tmp_path, data(), wrong)


def test_classes_that_are_never_predicted_are_named(tmp_path: Path) -> None:
    (note,) = read(tmp_path, data(boxed=[1, 2]), [entry(i) for i in (1, 2, 3)])[2]
    assert "1 of the 2 classes" in note and note.endswith(": n2")


def test_equal_bytes_may_mean_something_else(tmp_path: Path) -> None:
    """The key of a cell depends on it."""
    path, own = tmp_path / "p.json", data(**YAML)  # type: ignore[arg-type]
    path.write_text(json.dumps([entry("a", 1)]))
    keys = {Predictions([path], own, category_ids=how).reference_digest(path) for how in ("from-0", "from-1")}
    assert len(keys) == 2


def test_a_large_file_is_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from robustbench_sgdm.scoring import predictions

    path = tmp_path / "p.json"
    path.write_text(json.dumps([entry(3), entry(1), entry(2)]))
    once = Predictions([path], data()).read(path)
    monkeypatch.setattr(predictions, "_KEPT", 2)
    again = Predictions([path], data())
    assert again.read(path).equals(once) and once["image_id"].tolist() == [1, 2, 3]
    path.write_text(json.dumps([entry(3, 2)]))
    with pytest.raises(DataError, match="changed"):
        again.read(path)


def _street(categories: Sequence[int] = (1, 2, 3), source: str = "val.json") -> tuple[Dataset, list[Entry]]:
    """Images with apart objects of every class, and predictions that find all of them."""
    images = [Image(10 + n, Path(f"root/val/img{n}.jpg"), 640, 480) for n in range(10)]
    drawn = np.random.default_rng(0).integers(5, 90, (len(images), len(categories), 4)).tolist()
    annotations: list[Entry] = [
        {"image_id": i.id, "category_id": c, "bbox": [200 * k + x, 3 * y, 20 + w, 20 + h], "iscrowd": 0}
        for i, each in zip(images, drawn, strict=True)
        for k, (c, (x, y, w, h)) in enumerate(zip(categories, each, strict=True))
    ]
    found = [{"id": c, "name": f"n{c}"} for c in categories]
    truth = [{"id": n, "area": a["bbox"][2] * a["bbox"][3], **a} for n, a in enumerate(annotations, 1)]
    entries = [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "bbox": a["bbox"],
            "score": 0.01 + n / 99,
        }
        for n, a in enumerate(annotations)
    ]
    return Dataset("street", source, images, found, truth), entries


@pytest.mark.parametrize(
    ("categories", "shift", "remedy"),
    [
        ((1, 2, 3), -1, "--category-ids from-0"),  # labels from 0, and no prediction of class 0
        ((0, 1, 2), 1, "--category-ids from-1"),
        ((0, 5, 6, 7), -1, "add 1 to every category_id"),  # labels of a detector without Roboflow's root
    ],
)
def test_ids_that_exist_but_mean_other_classes_are_refused(
    tmp_path: Path, categories: Sequence[int], shift: int, remedy: str
) -> None:
    dataset, entries = _street(categories)
    assert not read(tmp_path, dataset, entries)[2][1:], "only the lowest score is worth a note"
    shifted = [e | {"category_id": e["category_id"] + shift} for e in entries]
    shifted = [e for e in shifted if e["category_id"] in categories]
    with pytest.raises(DataError, match=remedy):
        read(tmp_path, dataset, shifted)
    assert any("have its class" in note for note in read(tmp_path, dataset, shifted, "auto", "id")[2])


def test_labels_that_ultralytics_would_not_have_written_are_refused(tmp_path: Path) -> None:
    dataset, entries = _street((0, 1, 2), "data.yaml")
    written = [
        e | {"image_id": f"img{e['image_id'] - 10}", "file_name": f"img{e['image_id'] - 10}.jpg"}
        for e in entries
    ]
    written = [e for e in written if e["category_id"]]  # 1 and 2: from 0 or from 1
    with pytest.raises(DataError, match="--category-ids from-0"):
        read(tmp_path, dataset, [e for e in written if e["category_id"] == 1] * 2)
    assert set(read(tmp_path, dataset, written, "auto", "from-0")[1]) == {1, 2}


@pytest.mark.parametrize("fault", ["another image", "another size"])
def test_predictions_that_lie_on_nothing_are_warned_of(tmp_path: Path, fault: str) -> None:
    dataset, entries = _street()
    for e in entries:
        if fault == "another image":
            e["image_id"] = 10 + (e["image_id"] - 7) % 10
        else:
            e["bbox"] = [v / 2 for v in e["bbox"]]
    assert any("overlap an object" in note for note in read(tmp_path, dataset, entries)[2])


def test_few_or_scattered_predictions_say_nothing_of_classes(tmp_path: Path) -> None:
    dataset, entries = _street()
    wrong = [e | {"category_id": 1 + e["category_id"] % 3} for e in entries]
    assert not any(
        "class" in note for note in read(tmp_path, dataset, wrong[:15])[2] if "have boxes" not in note
    )
    confused = [e if n % 3 else w for n, (e, w) in enumerate(zip(entries, wrong, strict=True))]
    assert not any("have its class" in note for note in read(tmp_path, dataset, confused)[2])


def test_an_empty_file_is_said(tmp_path: Path) -> None:
    assert any("no prediction" in note for note in read(tmp_path, data(), [])[2])


def test_what_labels_are_taken_for_is_said(tmp_path: Path) -> None:
    note = " ".join(read(tmp_path, data(categories=(7, 9)), [entry(1, 1)], "auto", "from-1")[2])
    assert "1 is n7" in note


def test_a_few_boxes_that_are_inside_out_are_said_and_scored_as_by_pycocotools(tmp_path: Path) -> None:
    dataset, entries = _street()
    bent = [e | {"bbox": [5, 5, -2, 30]} if n == 7 else e for n, e in enumerate(entries)]
    notes = read(tmp_path, dataset, bent)[2]
    assert any("1 of 30 boxes have a negative width" in note for note in notes)
    frame = Predictions([tmp_path / "p.json"], dataset).read(tmp_path / "p.json")
    assert len(frame) == len(entries) and ((frame["x2"] - frame["x1"]) < 0).sum() == 1
    with pytest.raises(DataError, match="negative width"):
        read(tmp_path, dataset, [e | {"bbox": [5, 5, -2, 30]} if n % 3 else e for n, e in enumerate(entries)])
