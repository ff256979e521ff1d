"""`robustbench corrupt`, and what `list corruptions --measure` prints."""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from robustbench_sgdm import cli, datasets
from robustbench_sgdm.core import resources
from robustbench_sgdm.core.constants import BENCHMARK, HOLDOUT
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.corruption import apply_corruption, load_corruptions
from robustbench_sgdm.datasets import image_decoding as decoding
from robustbench_sgdm.datasets.coco import describe_copy

FRAGILE = """
from robustbench_sgdm.corruption import Parameter, corruption

@corruption(family="digital", parameters=(Parameter("k", (1, 2, 3, 4, 5), "px"),), source="me")
def fragile(images, strength, rng):
    "Cannot do what is wide."
    if images.shape[3] > 100:
        raise ValueError("too wide")
    return images.clone()
"""


def robustbench(monkeypatch: pytest.MonkeyPatch, *words: str) -> object:
    monkeypatch.setattr(sys, "argv", ["robustbench", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def test_copies_are_data_sets_with_the_pixels_of_a_run(
    tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--noise", "gaussian,elastic", "--severity", "2,3.5", "--limit", "3", "--seed", "5")
    assert not robustbench(monkeypatch, "corrupt", "--data", str(tiny_coco), "--out", str(tmp_path), *words)
    clean = datasets.load_dataset(str(tiny_coco))
    for name in ("gaussian_noise", "elastic_transform"):
        for severity in (2, 3.5):
            copy = datasets.load_dataset(str(tmp_path / name / f"{severity:g}" / "annotations" / "val.json"))
            assert [image.id for image in copy.images] == [1, 2, 3]
            assert list(copy.annotations) == list(clean.annotations)[:3]
            for image, original in zip(copy.images, clean.images, strict=False):
                picture = torch.from_numpy(np.array(Image.open(original.path))).permute(2, 0, 1)[None]
                expected = apply_corruption(
                    load_corruptions().get(name), picture, severity, seed=5, image_ids=[image.id]
                )[0]
                assert np.array_equal(np.array(Image.open(image.path)), expected.permute(1, 2, 0))


FULL = {
    "info": {"description": "mine", "année": 2020},
    "licenses": [{"id": 3, "name": "CC"}],
    "made_by": {"tool": "x", "score": float("nan")},
}


def with_everything(path: Path) -> dict[str, Any]:
    """A json with fields that scores do not need, ids of its own, and things left to their defaults."""
    content: dict[str, Any] = json.loads(path.read_text())
    for image in content["images"]:
        image |= {"license": 3, "coco_url": f"http://x/{image['id']}", "attributes": {"scene": "é"}}
    for n, a in enumerate(content["annotations"]):
        a |= {
            "id": 900 - n,
            "segmentation": [[1, 1, 9, 1, 9, 9.5]],
            "attributes": {"occluded": True},
            "ignore": 0,
        }
    for category in content["categories"]:
        category |= {"supercategory": "thing", "keypoints": ["nose"], "color": "#fff"}
    content["categories"].insert(0, {"id": 0, "name": "person", "supercategory": "none"})
    content["annotations"][1] |= {"area": None, "bbox": None}
    del content["annotations"][2]["id"], content["annotations"][2]["iscrowd"]
    content["images"][3] |= {"width": None, "file_name": "images\\val\\004.png"}
    path.write_text(json.dumps(content | FULL))
    return content


@pytest.mark.parametrize("limit", [0, 2])
def test_a_copy_keeps_every_field_of_its_json(
    tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    content = with_everything(tiny_coco)
    words = ("--noise", "contrast", "--severity", "0,1", "--limit", str(limit), "--out", str(tmp_path / "o"))
    assert not robustbench(monkeypatch, "corrupt", "--data", str(tiny_coco), *words)
    path = tmp_path / "o/contrast/1/annotations/val.json"
    assert path.read_bytes() == (tmp_path / "o/contrast/0/annotations/val.json").read_bytes()
    copy = json.loads(path.read_text())
    count = limit or 4
    assert {k: copy[k] for k in ("info", "licenses")} == {k: FULL[k] for k in ("info", "licenses")}
    assert copy["made_by"]["tool"] == "x" and copy["categories"] == content["categories"]
    sizes = {"width": 128, "height": 80}
    content["images"][3] |= sizes | {"file_name": "004.png"}
    assert copy["images"] == content["images"][:count]
    content["annotations"][1] |= {"area": 64 + 4, "bbox": [1, 1, 8, 8.5]}
    content["annotations"][2] |= {"iscrowd": 0, "id": 901}
    assert copy["annotations"] == content["annotations"][:count]
    clean, again = datasets.load_dataset(str(tiny_coco)), datasets.load_dataset(str(path))
    assert list(again.annotations) == list(clean.annotations)[:count]
    assert again.categories == clean.categories
    assert [(i.id, i.width, i.height) for i in again.images] == [
        (i.id, i.width, i.height) for i in clean.images[:count]
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
    assert len(truth.anns) == count and truth.getCatIds(supNms=["thing"]) == [1, 2]


def test_copies_of_turned_pictures_are_upright_and_say_so(
    tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for file in (tiny_coco.parents[1] / "images/val").iterdir():
        with Image.open(file) as picture:
            picture.load()
        picture.rotate(90, expand=True).save(file, exif=exif)
    content = json.loads(tiny_coco.read_text())
    for image in content["images"]:
        image["width"], image["height"] = image["height"], image["width"]
    content["annotations"][1]["bbox"] = [60, 10, 60, 40]  # fits 128 x 80 alone
    tiny_coco.write_text(json.dumps(content))
    words = ("--noise", "contrast", "--severity", "0", "--out", str(tmp_path / "o"))
    assert not robustbench(monkeypatch, "corrupt", "--data", str(tiny_coco), *words)
    again = datasets.load_dataset(str(tmp_path / "o/contrast/0/annotations/val.json"))
    assert [(i.width, i.height) for i in again.images] == [(96, 96), (128, 80)] * 2 and not again.notes
    for image, original in zip(again.images, datasets.load_dataset(str(tiny_coco)).images, strict=True):
        np.testing.assert_array_equal(decoding.read_image(image), decoding.read_image(original))


def test_a_json_that_changes_meanwhile_describes_no_copy(tiny_coco: Path) -> None:
    data = datasets.load_dataset(str(tiny_coco))
    names = {image.id: f"{image.id}.png" for image in data.images}
    before = tiny_coco.read_text()
    for change in (("41", "42"), ('"cat"', '"dog"'), ('"id": 4', '"id": 5')):
        assert change[0] in before
        tiny_coco.write_text(before.replace(*change))
        with pytest.raises(DataError):
            describe_copy(data, names)
    tiny_coco.write_text(before)
    assert describe_copy(data, names)["images"][0]["file_name"] == "1.png"


def test_copies_of_other_sources_are_coco_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photographs: list[NDArray[np.uint8]]
) -> None:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    Image.fromarray(photographs[1][:60, :90]).save(tmp_path / "images/a.png")
    (tmp_path / "labels/a.txt").write_text("1 0.5 0.5 0.2 0.4\n")
    (tmp_path / "d.yaml").write_text("path: .\nval: images\nnames: [dog, cat]\n")
    words = ("--noise", "contrast", "--severity", "0", "--out", str(tmp_path / "o"))
    assert not robustbench(monkeypatch, "corrupt", "--data", str(tmp_path / "d.yaml"), *words)
    path = tmp_path / "o/contrast/0/annotations/d.json"
    original, again = datasets.load_dataset(str(tmp_path / "d.yaml")), datasets.load_dataset(str(path))
    assert again.categories == original.categories and list(again.annotations) == list(original.annotations)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
    assert [c["supercategory"] for c in truth.loadCats(truth.getCatIds())] == ["none", "none"]


def test_names_that_differ_in_case_alone_do_not_meet(
    tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads(tiny_coco.read_text())
    folder = tiny_coco.parents[1] / "images/val"
    for entry, name in zip(content["images"], ("a.png", "A.png"), strict=False):
        (folder / entry["file_name"]).rename(folder / name)
        entry["file_name"] = name
    tiny_coco.write_text(json.dumps(content))
    words = ("--out", str(tmp_path), "--severity", "1", "--noise", "contrast")
    assert not robustbench(monkeypatch, "corrupt", "--data", str(tiny_coco), *words)
    assert (tmp_path / "contrast/1/images/000000000002.png").is_file()


def test_jpeg_copies_have_the_stated_quality(
    tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = {}
    for quality in ("30", "95"):
        out = tmp_path / quality
        words = (
            "--format",
            "jpg",
            "--quality",
            quality,
            "--severity",
            "1",
            "--limit",
            "1",
            "--out",
            str(out),
        )
        assert not robustbench(monkeypatch, "corrupt", "--data", str(tiny_coco), "--noise", "fog", *words)
        file = out / "fog" / "1" / "images" / "001.jpg"
        size[quality] = file.stat().st_size
        with Image.open(file) as picture:
            assert picture.format == "JPEG"
    assert size["30"] < size["95"] / 2


def test_images_of_one_name_in_different_folders_do_not_meet(
    tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads(tiny_coco.read_text())
    folder = tiny_coco.parents[1] / "images/val"
    for entry in content["images"][:2]:
        (folder / str(entry["id"])).mkdir()
        (folder / entry["file_name"]).rename(folder / str(entry["id"]) / "same.png")
        entry["file_name"] = f"{entry['id']}/same.png"
    tiny_coco.write_text(json.dumps(content))
    words = ("--out", str(tmp_path), "--severity", "1", "--noise", "contrast")
    assert not robustbench(monkeypatch, "corrupt", "--data", str(tiny_coco), *words)
    names = sorted(path.name for path in (tmp_path / "contrast/1/images").iterdir())
    assert names == [f"{n:012d}.png" for n in range(1, 5)]


def test_the_sheet_has_a_row_per_corruption_and_a_column_per_severity(
    tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for noise, severity in (("gaussian", "1"), ("gaussian[sigma=0.1],contrast", "2-3")):
        sheet = tmp_path / f"{severity}.png"
        words = ("--out", str(tmp_path), "--limit", "1", "--noise", noise, "--severity", severity)
        assert not robustbench(
            monkeypatch, "corrupt", "--data", str(tiny_coco), *words, "--sheet", str(sheet)
        )
    one, six = (np.array(Image.open(tmp_path / f"{name}.png")) for name in ("1", "2-3"))
    assert np.subtract(six.shape, one.shape)[:2] == pytest.approx([100, 200], abs=2)  # clean, 1, 2, 3


def test_a_sheet_of_another_kind_is_refused_before_anything_is_made(
    tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--out", str(tmp_path / "out"), "--sheet", str(tmp_path / "sheet.gif"))
    assert robustbench(monkeypatch, "corrupt", "--data", str(tiny_coco), *words) == 2
    assert "must end in .svg" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_an_explicit_strength_is_one_copy(
    tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--out", str(tmp_path), "--limit", "1", "--noise", "gaussian[sigma=0.1]", "--severity", "0-5")
    assert not robustbench(monkeypatch, "corrupt", "--data", str(tiny_coco), *words)
    copies = tmp_path / "gaussian_noise[sigma=0.1]"
    assert sorted(path.name for path in copies.iterdir()) == ["0", "1"]


def test_a_corruption_that_fails_costs_the_others_nothing(
    tiny_coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/fragile.py").write_text(FRAGILE)
    words = ("--out", str(tmp_path), "--severity", "1", "--noise", "fragile,contrast")
    command = ("corrupt", "--data", str(tiny_coco), *words, "--corruptions", str(tmp_path / "mine"))
    stale = tmp_path / "fragile/1/annotations/val.json"
    stale.parent.mkdir(parents=True)
    stale.write_text("of an earlier copy")
    assert robustbench(monkeypatch, *command) == 1
    assert "fragile.py: fragile raised ValueError: too wide" in capsys.readouterr().err
    assert not stale.exists()
    assert len(datasets.load_dataset(str(tmp_path / "contrast/1/annotations/val.json"))) == 4


def test_damage_is_measured_on_a_data_set(
    tiny_coco: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("list", "corruptions", "--measure", "--data", str(tiny_coco), "--limit", "1")
    assert not robustbench(monkeypatch, *words)
    shown = capsys.readouterr().out
    assert all(name in shown for name in load_corruptions().names)
    assert "mean" in shown and "1 images of" in shown
    assert robustbench(monkeypatch, "list", "corruptions", "--data", str(tiny_coco)) == 2


def test_the_documented_tables_have_every_corruption() -> None:
    def documented(table: str) -> list[str]:
        frame = pd.read_csv(Path(__file__).parents[2] / "docs" / "data" / f"{table}.csv")
        return list(dict.fromkeys(frame["corruption"]))

    published = [one.name for one in load_corruptions() if one.name in (*BENCHMARK, *HOLDOUT)]
    assert documented("image_quality") == load_corruptions().names
    assert sorted(documented("pixel_parity")) == sorted(published)
    assert documented("detector_parity") == published


def test_draws_of_the_parity_are_added_to_those_of_the_same_version() -> None:
    parity = resources.import_file(resources.root() / "tools" / "detector_parity.py")
    columns = ["corruption", "engine", "seed", "AP", "fingerprint", "data", "model"]

    def frame(*rows: tuple[str, str, int, float, str]) -> pd.DataFrame:
        return pd.DataFrame([(*row, "d", "m") for row in rows], columns=columns)

    kept = frame(
        ("fog", "torch", 0, 1.0, "t"), ("fog", "imgaug", 0, 1.5, "i"), ("snow", "torch", 0, 2.0, "old")
    )
    found = frame(
        *(("fog", "torch", 0, 3.0, "t"), ("fog", "torch", 1, 4.0, "t"), ("fog", "imgaug", 1, 4.5, "i")),
        ("snow", "torch", 1, 5.0, "new"),
    )
    both = parity.merged(kept, found)
    assert list(both[["corruption", "engine", "seed", "AP"]].itertuples(index=False, name=None)) == [
        ("fog", "imgaug", 0, 1.5),
        ("fog", "torch", 0, 3.0),
        ("fog", "torch", 1, 4.0),
        ("fog", "imgaug", 1, 4.5),
        ("snow", "torch", 1, 5.0),
    ]
    assert parity.merged(pd.DataFrame(), found) is found
    with pytest.raises(SystemExit, match="not of this data"):
        parity.merged(kept.assign(data="other"), found)
