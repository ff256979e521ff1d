"""What a dataset YAML means, held against Ultralytics itself on folders drawn by Hypothesis."""

import contextlib
import functools
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from ultralytics.data import utils as ultralytics_utils
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils import LOGGER

import robustbench_sgdm.detectors  # noqa: F401  imports Ultralytics so that it asks for no network
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.datasets import ultralytics_yaml, yolo_files

# Ultralytics leaves files open that it cannot read.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

Meaning = tuple[list[str], list[tuple[str, list[tuple[float, ...]]]]]
"""Class names, and each image's path with its sorted boxes (class, x, y, w, h in shares of the image)."""


@pytest.fixture(autouse=True)
def _ultralytics(monkeypatch: pytest.MonkeyPatch) -> None:
    """No font is fetched, nothing printed."""
    monkeypatch.setattr(ultralytics_utils, "check_font", lambda *_: None)
    monkeypatch.setattr(LOGGER, "disabled", True)


def theirs(path: Path, split: str = "val") -> Meaning:
    """Ultralytics' reading, in the task `detect`."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        data = ultralytics_utils.check_det_dataset(str(path), autodownload=False, split=split)
        dataset: Any = YOLODataset(
            data[split], imgsz=32, data=data, task="detect", augment=False, rect=False, prefix=""
        )
    images = [
        (str(Path(one["im_file"]).absolute()), rows(np.concatenate([one["cls"], one["bboxes"]], axis=1)))
        for one in dataset.labels
    ]
    return [data["names"][label] for label in range(data["nc"])], images


def ours(path: Path, split: str = "val") -> Meaning:
    """The same of this package."""
    data = ultralytics_yaml.load_ultralytics_yaml(path, split)
    boxes: dict[int, list[list[float]]] = {image.id: [] for image in data.images}
    sizes = {image.id: (image.width, image.height) for image in data.images}
    for one in data.annotations:
        (width, height), (x, y, w, h) = sizes[one["image_id"]], one["bbox"]
        boxes[one["image_id"]].append(
            [one["category_id"], (x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
        )
    assert [image.id for image in data.images] == list(range(1, len(data) + 1))
    images = [(str(image.path), rows(np.array(boxes[image.id]).reshape(-1, 5))) for image in data.images]
    return list(data.classes), images


def rows(boxes: Any) -> list[tuple[float, ...]]:
    """Sorted so that single and double precision come in the same order."""
    return sorted((tuple(map(float, row)) for row in boxes), key=lambda row: [round(v, 4) for v in row])


def assert_equal(path: Path, split: str = "val") -> Meaning:
    """Ours is theirs; it is returned."""
    mine, other = ours(path, split), theirs(path, split)  # theirs last: it rewrites some damaged files
    assert [image for image, _ in mine[1]] == [image for image, _ in other[1]]
    for (image, left), (_, right) in zip(mine[1], other[1], strict=True):
        assert np.array(left).shape == np.array(right).shape, image
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-6, err_msg=image)
    assert [name.rsplit(" (", 1)[0] for name in mine[0]] == other[0]  # a second name carries its number
    return mine


def boxes_are_misread(meaning: Meaning) -> bool:
    """Whether most boxes that Ultralytics reads leave their images."""
    boxes = np.array([box for _, found in meaning[1] for box in found])
    low, high = boxes[:, 1:3] - boxes[:, 3:] / 2, boxes[:, 1:3] + boxes[:, 3:] / 2
    return bool(((low < 0) | (high > 1)).any(1).mean() >= 0.2)


def picture(width: int, height: int, kind: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(width).integers(0, 255, (height, width, 3), np.uint8)
    Pillow.fromarray(pixels).save(buffer, kind, **how)
    return buffer.getvalue()


@functools.cache
def pictures() -> dict[str, bytes]:
    """Contents of files, by what they are."""
    turned = Pillow.Exif()
    turned[0x0112] = 6
    sound = {
        kind: picture(24, 16, kind) for kind in ("BMP", "JPEG", "MPO", "PNG", "TIFF", "WEBP", "JPEG2000")
    }
    return (
        sound
        | {
            "turned": picture(24, 16, "JPEG", exif=turned),
            "wide": picture(40, 10, "PNG"),
            "small": picture(9, 30, "PNG"),
            "gif": picture(24, 16, "GIF"),
            "ppm": picture(24, 16, "PPM"),
            "empty": b"",
            "text": b"<html>404</html>",
            "longer": picture(24, 16, "JPEG") + b"x",  # Ultralytics writes it anew
            "cut": picture(24, 16, "JPEG")[:-9],
            "cut PNG": picture(24, 16, "PNG")[:-9],
            "other PNG": picture(24, 16, "PNG").replace(b"IEND", b"IENE"),
        }
    )


SOUND = ("BMP", "JPEG", "MPO", "PNG", "TIFF", "WEBP", "JPEG2000", "turned", "wide", "longer")
UNSOUND = ("small", "gif", "ppm", "empty", "text", "cut", "cut PNG", "other PNG")
FILES = (
    "a.jpg", "B.JPG", "c.jpeg", "d.Png", "e.tif", "f.TIFF", "g.webp", "h.bmp", "i.jp2", "j.mpo", "k.avif", "l.heic",
    "m.dng", "n.gif", "o.jfif", "p.txt", "q", "r.b.jpg", "s t.png", "ü.png", ".u.jpg", "._v.png", "deep/w.png",
    "deep/er/images/x.png", ".ipynb_checkpoints/y.jpg", "dir.jpg/z.png", "a.png", "deep.d/q", "images/b.jpg", "Ä/a.jpg",
)  # fmt: skip

share = st.sampled_from(("0.5", ".25", "0.123456", "1", "0", "5e-1", "0.75", "1.0"))
odd_value = st.sampled_from(
    ("1.005", "1.02", "-0.005", "-0.02", "nan", "inf", "x", "1_0", "30", "-0", "1e-9", "0.5,")
)
category = st.sampled_from(("0", "1", "1.0", "2", "01"))
odd_category = st.sampled_from(("3", "80", "-1", "0.5", "-0.005", "x", "1e0", "nan"))


@st.composite
def label_row(draw: st.DrawFn) -> str:
    columns = draw(st.sampled_from((4, 4, 4, 4, 4, 4, 6, 8, 10, 6, 2, 3, 5, 7)))
    values = draw(st.lists(share, min_size=columns, max_size=columns))
    if draw(st.integers(0, 11)) == 0:
        values[draw(st.integers(0, columns - 1))] = draw(odd_value)
    first = draw(odd_category if draw(st.integers(0, 11)) == 0 else category)
    return draw(st.sampled_from((" ", " ", "\t", "  "))).join([first, *values])


@st.composite
def label_text(draw: st.DrawFn) -> bytes | None:
    """A label file, sound mostly: rows alike, then rows of any kind."""
    how = draw(
        st.sampled_from(("none", "empty", "boxes", "boxes", "boxes", "polygons", "poses", "any", "any"))
    )
    if how in ("none", "empty"):
        return None if how == "none" else draw(st.sampled_from((b"", b"\n \n", b"\xef\xbb\xbf")))
    columns = {
        "boxes": 4,
        "polygons": draw(st.sampled_from((6, 8))),
        "poses": draw(st.sampled_from((8, 10))),
    }.get(how)
    if columns is None:
        lines = draw(st.lists(label_row(), min_size=1, max_size=3))
    else:
        values = st.lists(share, min_size=columns, max_size=columns).map(" ".join)
        lines = draw(st.lists(st.builds("{} {}".format, category, values), min_size=1, max_size=4))
    if draw(st.booleans()):
        lines.append(lines[0])
    text = draw(st.sampled_from(("\n", "\r\n", "\n\n", "\n", "\x0c"))).join(lines)
    encoding = draw(st.sampled_from(("utf-8",) * 8 + ("utf-8-sig", "utf-16", "broken")))
    return text.encode() + b"\xff" if encoding == "broken" else text.encode(encoding)


@st.composite
def a_class_list(draw: st.DrawFn) -> dict[str, Any]:
    names: list[Any] = draw(
        st.sampled_from(
            (["dog", "cat", "owl"], ["dog", "cat", "dog"], [True, None, 1.5], ["0", "é", " x"], [1, 2, 3])
        )
    )
    how = draw(st.sampled_from(("list", "dict", "quoted", "both", "count", "float", "text")))
    forms: dict[str, dict[str, Any]] = {
        "list": {"names": names},
        "dict": {"names": dict(reversed(list(enumerate(names))))},
        "quoted": {"names": {str(n): name for n, name in enumerate(names)}},
        "both": {"names": names, "nc": 3},
        "count": {"nc": 3},
        "float": {"nc": 3.0, "names": None},
        "text": {"nc": "3"},
    }
    return forms[how]


LAYOUTS = ("images/val", "val/images", "val", "images/x/images/val", "v.1/images", "Images/val")


@st.composite
def a_folder(draw: st.DrawFn) -> dict[str, Any]:
    """What to write: see `write`."""
    count = draw(st.integers(1, 5))
    files = draw(st.lists(st.sampled_from(FILES), min_size=count, max_size=count, unique=True))
    kinds = st.sampled_from(SOUND * 3 + UNSOUND)
    return {
        "layout": draw(st.sampled_from(LAYOUTS)),
        "files": {name: (draw(kinds), draw(label_text())) for name in files}
        | ({"sound.jpg": ("JPEG", b"0 .5 .5 .25 .25")} if draw(st.integers(0, 3)) else {}),
        "link": draw(st.sampled_from(("", "", "file", "broken", "folder", "root"))),
        "entry": draw(
            st.sampled_from(
                ("plain", "slash", "dot", "roboflow", "absolute", "several", "twice", "list", "list", "lists")
            )
        ),
        "line": draw(st.sampled_from(("./{}", "{root}/{}", "./{}", "././{}", "root/{}"))),
        "end": draw(st.sampled_from(("\n", "\r\n", "\n\n", " \n", "\n# a comment\n"))),
        "mark": draw(st.sampled_from((b"", b"", b"\xef\xbb\xbf"))),
        "key": draw(st.sampled_from(("val", "val", "validation", "test", "train"))),
        "path": draw(st.sampled_from(("none", "empty", "absolute", "here", "datasets", "None"))),
        "classes": draw(a_class_list()),
        "pose": draw(st.sampled_from((None, None, [2, 2], [3, 2], [2, 3], [1, 3], [0, 0]))),
        "yaml": draw(st.sampled_from(("utf-8", "utf-8", "utf-8-sig", "gbk", "latin-1", "control"))),
    }


def write(root: Path, what: dict[str, Any]) -> tuple[Path, str]:
    """A folder as drawn; returns the YAML and the split. The current folder is `root/..`."""
    top = root / what["layout"]
    top.mkdir(parents=True)
    for name, (kind, text) in what["files"].items():
        file = top / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pictures()[kind])
        if text is not None:
            (label,) = ultralytics_utils.img2label_paths([str(file)])
            Path(label).parent.mkdir(parents=True, exist_ok=True)
            Path(label).write_bytes(text)
    away = root.parent / "away/images"
    away.mkdir(parents=True)
    (away / "away.jpg").write_bytes(pictures()["JPEG"])
    match what["link"]:
        case "file":
            (top / "link.jpg").symlink_to(away / "away.jpg")
        case "broken":
            (top / "link.jpg").symlink_to(away / "gone.jpg")
        case "folder":
            (top / "linked").symlink_to(away)
        case "root":
            (root.parent / "moved").mkdir()
            top.rename(root.parent / "moved" / top.name)
            top.symlink_to(root.parent / "moved" / top.name)
    entry: Any = what["layout"]
    lines = [what["line"].format(f"{entry}/{name}", root=root) for name in [*what["files"], "gone.jpg"]]
    (root / "val.txt").write_bytes(what["mark"] + what["end"].join([*lines, ""]).encode())
    (root / "more").mkdir()
    (root / "more/images.png").write_bytes(pictures()["PNG"])
    entry = {
        "plain": entry,
        "slash": f"{entry}/",
        "dot": f"./{entry}",
        "roboflow": f"../{entry}",
        "absolute": f"{root}/{entry}",
        "several": [entry, "more"],
        "twice": [entry, f"{entry}/"],
        "list": "val.txt",
        "lists": ["val.txt", "more"],
    }[what["entry"]]
    content = {"train": "more", "val": None, **what["classes"]} | {what["key"]: entry}
    if what["key"] == "validation":
        del content["val"]
    if what["pose"]:
        content["kpt_shape"] = what["pose"]
    named = {
        "absolute": str(root),
        "here": root.name,
        "datasets": f"sub/{root.name}",
        "empty": "",
        "None": "None",
    }
    if what["path"] in named:
        content["path"] = named[what["path"]]
    file = root / "data.yaml"
    text = yaml.safe_dump(content, allow_unicode=True)
    data = text.encode("utf-8-sig" if what["yaml"] == "utf-8-sig" else "utf-8")
    comments = {"gbk": "# 数据\n".encode("gbk"), "latin-1": b"# \xe9t\xe9\n", "control": b"# \x00 \x07\n"}
    file.write_bytes(comments.get(what["yaml"], b"") + data)
    if what["path"] == "datasets":
        (root.parent / "datasets/sub").mkdir(parents=True)
        (root.parent / "datasets/sub" / root.name).symlink_to(root)
    return file, "val" if what["key"] == "validation" else what["key"]


@contextlib.contextmanager
def somewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is the current one, with Ultralytics' folder `datasets` in it."""
    base = Path(os.path.realpath(tempfile.mkdtemp()))
    try:
        with monkeypatch.context() as patch:
            patch.chdir(base)
            patch.setattr(ultralytics_utils, "DATASETS_DIR", base / "datasets")
            patch.setattr(yolo_files, "datasets_dir", lambda: base / "datasets")
            yield base
    finally:
        shutil.rmtree(base)


@settings(
    max_examples=300,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(what=a_folder())
def test_every_folder_means_what_it_means_to_ultralytics(
    monkeypatch: pytest.MonkeyPatch, what: dict[str, Any]
) -> None:
    with somewhere(monkeypatch) as base:
        path, split = write(base / "root", what)
        try:
            ours(path, split)
        except DataError as error:
            if "they fit as" in str(error):  # the one thing that Ultralytics takes and this package does not
                assert boxes_are_misread(theirs(path, split))
                return
            if "nothing to score against" not in str(error):
                with pytest.raises((RuntimeError, FileNotFoundError)):  # no image is left
                    theirs(path, split)
                return
            try:
                other = theirs(path, split)
            except RuntimeError:
                return
            assert not any(boxes for _, boxes in other[1])
            return
        assert_equal(path, split)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, two with a box each."""
    root = tmp_path.resolve() / "data"
    for name, text in (("a.jpg", "0 .5 .5 .25 .25"), ("b.png", "1 .5 .5 .125 .25"), ("c.jpg", None)):
        file = root / "images/val" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pictures()["PNG" if name.endswith("png") else "JPEG"])
        if text is not None:
            label = root / "labels/val" / f"{name[0]}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text)
    return root


def test_suffixes_are_ultralytics() -> None:
    assert yolo_files.SUFFIXES == ultralytics_utils.IMG_FORMATS


@pytest.mark.parametrize(
    "text",
    [
        b"train: x\nval: images/val\nnames: [a, b]\n",
        b"train:\timages\nval:\timages/val\nnames:\t[a,\tb]\n",
        b"train: &all images/\nval: *all\nnames: &n {0: a, 1: b}\nnc: 2\n",
        b"---\ntrain: x\nval: ./images//val/\nnames:\n- a\n- 'b: c'\n...\n",
        b"train: x\nval: .\nnames: [a, b]\n",
        b"train: x\nval: ['']\nnames: [a, b]\n",
        b"train: x\nval: [images/val/, ./images]\nnames: {'0': a, '01': b}\n",
        b"train: x\nvalidation: images/val\nnames: {1: b, 0: a}\n",
        b"path: None\ntrain: x\nval: images/val\ntest: None\nnames: [on, 12:30, 2020-01-01, ~, 1e3, 0x1F]\n",
        b"train: x\nval: images/val\nnc: '2.0'\n",
        b"path:\ntrain: x\nval: ../images/val\nnames:\nnc: 2\n",
        "train: x\nval: images/val # 数据\nnames: [a, b]\n".encode("gbk"),
        "train: x\nval: images/val\nnames: [éa, été]\n".encode("latin-1"),
        "train: x\nval: images/val\nnames: [é, 数据]\n".encode("utf-8-sig"),
        "train: x\r\nval: images/val\r\nnames: [a, b]\r\n".encode("utf-16"),
        b"train: x\nval: images/val\nnames: [a, b] # \x00\x1b\x7f\xff\n",
        b"train: x\nval: images/val\nnames: [a, b]\nkpt_shape: [17, 3]\nflip_idx: [0]\nextra: {a: [1]}\n",
    ],
)
def test_a_yaml_in_any_hand(folder: Path, text: bytes) -> None:
    (folder / "data.yaml").write_bytes(text)
    _, images = assert_equal(folder / "data.yaml")
    assert sum(len(boxes) for _, boxes in images) >= 2


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (None, "0 1.01 .5 .1 .1"), (None, "0 1.0101 .5 .1 .1"), (None, "0 1.0100000001 .5 .1 .1"),
        (None, "0 -0.01 .5 .1 .1"), (None, "0 -0.0100000001 .5 .1 .1"), (None, "0 -0.011 .5 .1 .1"),
        (None, "0 .5 .5 -1e-9 .1"), (None, "0 .5 .5 -0. .1"), (None, "-0 .5 .5 0 0"), (None, "0 -0.005 .5 .1 .1"),
        (None, "1.0 .5 .5 .1 .1\n1 .5 .5 .1 .1"), (None, "0 .5 .5 .1 .1\n0 .500000001 .5 .1 .1"),
        (None, "0 .5 .5 .1 .1\n1 .5 .5 .1 .1\n0 .5 .5 .1 .1\n0 .2 .2 .1 .1"),
        (None, "0 .1 .1 .3 .1 .3 .5"), (None, "0 .1 .1 .3 .1 .3 .5 .1 .5\n1 .1 .1 .3 .1 .3 .5"),
        (None, "0 .1 .1 .3 .1 .3 .5\n0 .1 .1 .3 .5 .1 .5"), (None, "0 .1 .1 .3 .1 .3 .5\n0 .1 .1 .3 .1 .3 .5"),
        (None, "0 .1 .1 1.02 .1 .3 .5"), (None, "0 -.1 -.1 1.2 .1 .3 .5"), (None, "0 -.1 .1 .3 .1 .3 .5"),
        (None, "0 .1 .1 .3 .1 .3 .5\n1 .4 .4"), (None, "0 .1 .1 .3 .1 .3 .5\n1"), (None, "1 .4 .4"),
        (None, "0 .1 .1 .3 .1 .3 .5\n1 .5 .5 .1 .1"), (None, "0 .1 .1 .3 .1 .3 .5\n1 .5 .5 .1 .1 .9"),
        (None, "0 .5 .5 .1 .1 .9"), (None, "0,.5,.5,.1,.1"), (None, "0 .5 .5 .1 1e999"), (None, "0 .5 .5 .1 inf"),
        (None, "2 .5 .5 .1 .1"), (None, "1e0 .5 .5 .1 .1"), (None, "0.5 .5 .5 .1 .1"), (None, "cat .5 .5 .1 .1"),
        (None, "0 1_0e-2 ５e-1 .1 .1"), (None, "0 .5 .5 .1 .1\x0b1 .2 .2 .1 .1\u20280 .3 .3 .1 .1\x851 .4 .4 .1 .1"),
        (None, "0 .5 .5 .1 .1 # car"), (None, "\ufeff0 .5 .5 .1 .1"), (None, "\u00a00\u00a0.5 .5 .1 .1"),
        ([3, 2], "0 .5 .5 .1 .1 .2 .2 .3 .3 .4 .4"), ([2, 3], "0 .5 .5 .1 .1 .2 .2 2 .3 .3 1"),
        ([2, 3], "0 .5 .5 .1 .1 -5 900 2 x nan 1"), ([2, 2], "0 .5 .5 .1 .1 .2 .2 .3 .3\n1 .5 .5 .1 .1"),
        ([2, 2], "0 .5 .5 .1 .1 .2 .2 .3 .3\n0 .5 .5 .1 .1 .4 .4 .3 .3"), ([1, 2], "0 .5 .5 .1 .1 .2 .2"),
        ([17, 3], "0 .5 .5 .1 .1" + " .5 .5 2" * 17), ([17, 3], "0 .5 .5 .1 .1" + " .5 .5" * 17),
        ([1, 1], "0 .5 .5 .1 .1 .9"), ([0, 3], "0 .1 .1 .3 .1 .3 .5"), ([4, 2], "0 .1 .1 .3 .1 .3 .5"),
    ],
)  # fmt: skip
def test_label_rows_of_every_kind(folder: Path, shape: list[int] | None, text: str) -> None:
    (folder / "labels/val/a.txt").write_bytes(text.encode())
    extra = f"kpt_shape: {shape}\n" if shape else ""
    (folder / "data.yaml").write_text(f"train: x\nval: images/val\nnames: [a, b]\n{extra}")
    assert_equal(folder / "data.yaml")


@pytest.mark.parametrize(
    "data", [b"0 .5 .5 .1 .1 \xff", "0 .5 .5 .1 .1".encode("utf-16"), b"0 .5 .5 .1 .1\0", b"\xef\xbb\xbf"]
)
def test_label_files_of_every_encoding(folder: Path, data: bytes) -> None:
    (folder / "labels/val/a.txt").write_bytes(data)
    (folder / "data.yaml").write_text("train: x\nval: images/val\nnames: [a, b]\n")
    assert_equal(folder / "data.yaml")
