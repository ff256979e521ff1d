"""Data sets, predictions and pictures from strangers: read, or refused in one line."""

import io
import json
import pickle
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from robustbench_sgdm.core import resources

harness: Any = resources.import_file(Path(__file__).with_name("harness.py"))
readers: Any = resources.import_file(Path(__file__).with_name("readers.py"))
DATA = harness.BOUNDS["data sets, predictions"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with pictures and labels, beside which nothing may be touched."""
    made: Path = readers.folder(tmp_path / "root")
    return made


def written(path: Path, value: Any, rng: random.Random) -> Path:
    """A damaged json file: as a tree mostly, or as bytes."""
    if rng.random() < 0.02:
        path.write_text(rng.choice(("[", '{"a":', "1", '["x",')) * rng.choice((500, 5000, 100_000)))
    elif rng.random() < 0.2:
        path.write_bytes(harness.damaged_bytes(json.dumps(value).encode(), rng))
    elif rng.random() < 0.2:
        path.write_text(harness.odd_json(json.dumps(value), rng))
    else:
        path.write_text(json.dumps(harness.damaged_tree(harness.copied(value), rng)))
    return path


def test_dataset_jsons(root: Path) -> None:
    harness.fuzz(
        "dataset jsons",
        root,
        lambda rng: written(root / "val.json", readers.COCO, rng),
        readers.use_dataset,
        DATA,
    )


def test_dataset_yamls(root: Path) -> None:
    plain = {**readers.YOLO, "val": "images/val", "download": "https://x/y.zip"}
    samples = (plain, readers.YOLO, {**readers.YOLO, "path": str(root), "names": ["dog", "cat"]})
    for sample in samples:  # damage to what is refused anyway would show nothing
        (root / "data.yaml").write_bytes(readers.yaml_of(sample))
        readers.use_dataset(root / "data.yaml")
    beside = {name: (root / name).read_bytes() for name in ("val.txt", "labels/val/a.txt")}

    def damage(rng: random.Random) -> Path:
        for name, data in beside.items():
            (root / name).write_bytes(harness.damaged_bytes(data, rng) if rng.random() < 0.2 else data)
        sample = rng.choice(samples)
        if rng.random() < 0.6:
            sample = harness.damaged_tree(harness.copied(sample), rng)
        text = readers.yaml_of(sample)
        if rng.random() < 0.2:
            text = harness.odd_yaml(text.decode(), rng).encode()
        (root / "data.yaml").write_bytes(harness.damaged_bytes(text, rng) if rng.random() < 0.3 else text)
        return root / "data.yaml"

    harness.fuzz("dataset YAMLs", root, damage, readers.use_dataset, DATA)


def test_pixel_manifests(root: Path) -> None:
    sound = json.loads(readers.pixel_manifest(root))
    (root / "pixels.json").write_text(json.dumps(sound))
    readers.use_pixel_manifest(root / "pixels.json")
    harness.fuzz(
        "pixel manifests",
        root,
        lambda rng: written(root / "pixels.json", sound, rng),
        readers.use_pixel_manifest,
        harness.BOUNDS["pixel manifests"],
    )


def test_predictions(root: Path) -> None:
    uses = {
        "nested.json": (readers.NESTED, readers.use_nested),
        "p.json": (readers.FOUND, readers.use_predictions),
        "described.json": (readers.DESCRIBED, readers.use_predictions),
    }

    for name, (value, use) in uses.items():
        (root / name).write_text(json.dumps(value))
        use(root / name)

    def damage(rng: random.Random) -> Path:
        name = rng.choice(("nested.json", "p.json", "p.json", "described.json"))
        return written(root / name, uses[name][0], rng)

    harness.fuzz("predictions", root, damage, lambda path: uses[path.name][1](path), DATA)


def test_pickled_predictions(root: Path) -> None:
    uses = {
        "nested.pkl": (readers.NESTED_PICKLED, readers.use_nested),
        "lists.pkl": (readers.MMDETECTION_2, readers.use_predictions),
        "samples.pkl": (readers.MMDETECTION_3, readers.use_predictions),
    }
    for name, (value, use) in uses.items():
        (root / name).write_bytes(pickle.dumps(value))
        use(root / name)

    def damage(rng: random.Random) -> Path:
        name = rng.choice([*uses])
        value, protocol, act = uses[name][0], rng.randint(0, 5), rng.random()
        if act < 0.3:
            data = hostile_pickle(rng)
        elif act < 0.6:
            data = pickle.dumps(harness.damaged_tree(harness.copied(value), rng), protocol)
        else:
            data = harness.damaged_bytes(pickle.dumps(value, protocol), rng)
        (root / name).write_bytes(data)
        return root / name

    harness.fuzz("pickled predictions", root, damage, lambda path: uses[path.name][1](path), DATA)


def hostile_pickle(rng: random.Random) -> bytes:
    """A small file that claims much, or names a part many times."""
    act, many = rng.randint(0, 7), rng.choice((3, 300, 300_000))
    array, none = np.zeros((100, 5), np.float32), np.zeros((0, 5), np.float32)
    if act <= 1:  # containers and memos
        operation = rng.choice((b"]", b"}", b"\x8f", b")", b"(", b"2", b"]\x94", b")\x85", b"N0", b"h\0"))
        return b"\x80\x04]\x94" + operation * many + rng.choice((b".", b"t.", b"l.", b""))
    if act == 2:  # one array, of boxes or of none, in many places
        one = rng.choice((array, none))
        return pickle.dumps(rng.choice(([[one] * 2] * many, [[one] * many] * 3)))
    if act == 3:  # one tensor
        sample = readers.MMDETECTION_3[0]
        return pickle.dumps([sample] * many)
    if act == 4:  # cells
        shared = {n / many: {"bbox": {"AP": 0.5}} for n in range(min(many, 3000))}
        return pickle.dumps({str(n): shared for n in range(min(many, 3000))})
    if act == 5:  # calls
        call = rng.choice((b"cos\nsystem\n", b"cbuiltins\nlist\n", b"c_codecs\nencode\n", b"cnumpy\ndtype\n"))
        arguments = rng.choice((b"X\4\0\0\0lsls\x85", b"(" + b"N" * many + b"l\x85", b"X\1\0\0\0aN\x86"))
        return b"\x80\x02" + call + b"q\1" + arguments + b"q\2(" + b"h\1h\2R" * min(many, 100_000) + b"l."
    sound = pickle.dumps([[array, none]] * 3, rng.randint(2, 5))
    claimed = (b"Kd", b"J" + struct.pack("<i", rng.choice((-1, 2**31 - 1))))
    return (
        sound.replace(*claimed)
        if act == 6
        else sound.replace(b"f4", rng.choice((b"O8", b"f9", b"V4", b"S1")))
    )


def test_pictures(root: Path) -> None:
    samples = [make() for make in readers.PICTURES]

    def damage(rng: random.Random) -> Path:
        path = root / "images/val/d.png"
        data = rng.choice(samples)
        if rng.random() < 0.3:
            data = hostile_picture(rng)
        path.write_bytes(harness.damaged_bytes(data, rng) if rng.random() < 0.8 else data)
        return path

    harness.fuzz("images", root, damage, readers.use_picture, harness.BOUNDS["pictures"])


def hostile_picture(rng: random.Random) -> bytes:
    """A small file that claims much, or repeats a part many times."""
    act, many = rng.randint(0, 8), rng.choice((3, 300, 3000))
    picture = readers.picture
    if act == 0:  # compressed text that expands, in a PNG
        kind, text = rng.choice(((b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")))
        body = text + zlib.compress(bytes(rng.choice((10, 10**6, 10**7))))
        png = picture()
        return bytes(png[:33] + chunk(kind, body) * min(many, 300) + png[33:])
    if act == 1:  # scans of a progressive JPEG
        side = rng.choice((24, 1000, 4000))
        # Of one colour: a scan is short.
        jpeg = saved(Pillow.new("RGB", (side, side)), "JPEG", progressive=True)
        return jpeg[:-2] + jpeg[jpeg.rfind(b"\xff\xda") : -2] * min(many, 300) + jpeg[-2:]
    if act == 2:  # EXIF whose tags share their bytes
        png = picture()
        return bytes(png[:33] + chunk(b"eXIf", shared_tags(many)) + png[33:])
    if act == 3:
        return shared_tags(many)
    if act == 4:  # frames
        form = rng.choice(("GIF", "WEBP", "TIFF", "PNG"))
        frames = [Pillow.new("L", (24, 24), n) for n in range(min(many, 200))]
        return bytes(picture(kind=form, mode="L", save_all=True, append_images=frames))
    if act == 5:  # a WebP that claims a size before it has pixels
        canvas = rng.choice((23, 16382, 2**24 - 1)).to_bytes(3, "little") * 2
        return (
            b"RIFF"
            + struct.pack("<I", 100)
            + b"WEBPVP8X"
            + struct.pack("<I", 10)
            + bytes(4)
            + canvas
            + bytes(70)
        )
    if act == 6:  # sizes in place
        sized = bytearray(picture(kind=rng.choice(("PNG", "BMP", "JPEG2000", "GIF", "PPM", "TIFF"))))
        at = rng.randrange(min(len(sized) - 4, 120))
        sized[at : at + 4] = rng.choice((b"\0\0\x24\xb8", b"\xb8\x24\0\0", b"\xff\xff\xff\xff", b"\0\1\0\1"))
        return bytes(sized)
    if act == 7:
        return (
            b"P%d %d %d 255\n" % (rng.randint(1, 6), rng.choice((24, 9000)), rng.choice((24, 9000)))
            + b"1 " * many
        )
    mode = rng.choice(("1", "L", "I;16", "P", "RGBA"))
    return saved(Pillow.new(mode, (3000, 3000)), "PNG")  # large, and short when stored


def saved(image: Pillow.Image, kind: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def shared_tags(count: int) -> bytes:
    """A TIFF of 24 x 24 whose further tags all have the same 200 kB."""
    tags = [(256, 3, 1, 24), (257, 3, 1, 24), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    end = 8 + 2 + 12 * (len(tags) + count) + 4
    tags += [(1000 + n, 7, 200_000, end) for n in range(count)]
    rows = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + rows + bytes(4 + 200_000)
