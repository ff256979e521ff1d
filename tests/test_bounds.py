"""Small files that once cost gigabytes or minutes, by kind; each within the bound that `SECURITY.md` states."""

import copy
import io
import json
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import yaml
from PIL import Image as Pillow

from robustbench_sgdm import datasets, listings
from robustbench_sgdm.core import resources, untrusted_input
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError, RobustBenchError, UsageError
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.datasets import Image, image_decoding, image_headers
from robustbench_sgdm.detectors.ultralytics import architecture
from robustbench_sgdm.robustness import BootstrapSamples, Intervals, matching, rank_networks
from robustbench_sgdm.store import GroundTruth, Run, list_runs, read_logs
from robustbench_sgdm.store.csv_files import parse_csv
from robustbench_sgdm.store.parquet import read_frame

readers: Any = resources.import_file(Path(__file__).parent / "fuzz/readers.py")
harness: Any = resources.import_file(Path(__file__).parent / "fuzz/harness.py")


@contextmanager
def within(megabytes: int, seconds: float) -> Iterator[None]:
    """Holds what happens inside to memory more than before, where the system can say it, and to time."""
    before, began = harness.fresh_peak(), time.process_time()  # other processes slow the clock
    yield
    assert time.process_time() - began < seconds
    assert (harness.status("VmHWM") - before) / 2**20 < megabytes


YAMLS = {
    "values": "[" + "1," * 600_000 + "1]",
    "rows": "- 1\n" * 500_000,
    "sexagesimals": "\n".join("- " + "1:" * 45 + "1" for _ in range(40_000)),
    "one sexagesimal": "a: " + "1:" * 200_000 + "1",
    "sexagesimal float": "a: " + "1:" * 200_000 + "1.0",
    "tags": "%YAML 1.1\n" + "".join(f"%TAG !{n}! x\n" for n in range(100_000)) + "--- a\n",
    "one hash": "{" + ",".join(f"{n * (2**61 - 1)}: 1" for n in range(1, 60_000)) + "}",
    "depth": "- " * 2_000_000,
    "keys within keys": "? " * 2_000_000,
    "empty values": "{" + ",".join(map(str, range(400_000))) + "}",
    "depth by names": "- &n0 {x: 1}\n" + "".join(f"- &n{n} {{x: *n{n - 1}}}\n" for n in range(1, 900)),
}


@pytest.mark.parametrize("text", YAMLS.values(), ids=list(YAMLS))
@pytest.mark.parametrize("errors", ["strict", "ignore"])
def test_yaml_is_counted_while_it_is_parsed(tmp_path: Path, text: str, errors: Any) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with within(250, 10), pytest.raises(DataError, match="cannot be read as YAML"):
        untrusted_input.read_yaml(tmp_path / "a.yaml", errors)


def test_yaml_holds_what_json_can(tmp_path: Path) -> None:
    """Dates stay text, as `names: [2001-12-14]` means; sets and bytes are refused."""
    (tmp_path / "a.yaml").write_text(
        "a: 2001-12-14\n2002-01-01: [0o7, 1_000, 1:30, .inf]\nseed: 18446744073709551615\n"
    )
    found = untrusted_input.read_yaml(tmp_path / "a.yaml")
    assert found == {"a": "2001-12-14", "2002-01-01": ["0o7", 1000, 90, float("inf")], "seed": 2**64 - 1}
    for text in ("!!set {a}", "!!binary aGk=", "!!timestamp 2001-12-14", "!!omap [a: 1]"):
        (tmp_path / "a.yaml").write_text(text)
        with pytest.raises(DataError, match="not a plain value"):
            untrusted_input.read_yaml(tmp_path / "a.yaml")


def test_yaml_reads_as_pyyaml_does(tmp_path: Path) -> None:
    plan = {
        "schema": 1,
        "models": {"a [x]": {"weights": "é.pt", "notes": ["- no", "yes", "1e3", "2001-12-14", "a: b"]}},
        "cells": [{"severity": 0.5 * n, "key": "a" * 64, "none": None, "ok": True} for n in range(20)],
    }
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(plan, allow_unicode=True), "utf-8")
    assert untrusted_input.read_yaml(tmp_path / "a.yaml") == plan


FILES = pa.schema([("image_id", pa.int64()), ("file", pa.string())])
LONG = "a" * 1_000_000


def parquet(path: Path, files: list[str], **how: Any) -> Path:
    pq.write_table(pa.table({"image_id": range(len(files)), "file": files}, FILES), path, **how)
    return path


@pytest.mark.parametrize(
    ("files", "how", "message"),
    [
        ([LONG] * 300, {}, "stands for 300,000,000 bytes"),
        ([LONG] * 300, {"compression": "zstd"}, "compressed with 'ZSTD'"),
        (
            [LONG + str(n) for n in range(100)],
            {"use_dictionary": False, "column_encoding": {"file": "DELTA_BYTE_ARRAY"}},
            "encoding is 7",
        ),
    ],
    ids=["dictionary", "compressed", "prefixes"],
)
def test_text_in_parquet_does_not_multiply(tmp_path: Path, files: list[str], how: Any, message: str) -> None:
    path = parquet(tmp_path / "a.parquet", files, **how)
    assert path.stat().st_size < 100_000
    with within(100, 5), pytest.raises(DataError, match=message):
        read_frame(path, FILES, SafeDirectory(path.parent))


def test_pages_do_not_claim_what_no_compression_gives(tmp_path: Path) -> None:
    """Arrow makes room for what a page's header says."""
    numbers = pa.schema([pa.field("image_id", pa.int64(), nullable=False)])
    path = tmp_path / "a.parquet"
    table = pa.table({"image_id": np.zeros(1100 * 50, np.int64)}, numbers)
    pq.write_table(table, path, row_group_size=1100, use_dictionary=False)
    assert len(read_frame(path, numbers, SafeDirectory(tmp_path))) == len(table)
    sound, claim = (
        b"\x15\0\x15\xc0\x89\x01",
        b"\x15\0\x15\xfe\xff\x7f",
    )  # a page of 8,800 bytes, of a megabyte
    data = path.read_bytes()
    assert data.count(sound) == 50
    path.write_bytes(data.replace(sound, claim))
    with pytest.raises(DataError, match="pages claim more than 30 times"):
        read_frame(path, numbers, SafeDirectory(tmp_path))


def test_a_column_of_bits_may_have_more_rows_than_bytes(tmp_path: Path) -> None:
    """What each of a million objects became takes an eighth of a megabyte."""
    bits, rows = pa.schema([("found", pa.bool_())]), 1_000_000
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"found": np.zeros(rows, bool)}, bits), path, compression="none")
    assert len(read_frame(path, bits, SafeDirectory(tmp_path))) == rows > 4 * path.stat().st_size
    pq.write_table(pa.table({"found": np.zeros(rows, bool)}, bits), path)
    with pytest.raises(DataError, match="claims 1,000,000 rows"):
        read_frame(path, bits, SafeDirectory(tmp_path))


def test_groups_of_parquet_do_not_share_pages(tmp_path: Path) -> None:
    """Each of a thousand groups could be all of the file, whose headers were read a thousand times."""
    path = parquet(tmp_path / "a.parquet", ["a"] * 100, data_page_size=1, write_batch_size=1)
    data, footer = path.read_bytes(), io.BytesIO()
    claims, one = pq.read_metadata(path), pq.read_metadata(path)
    for _ in range(300):
        claims.append_row_groups(one)
    claims.write_metadata_file(footer)
    path.write_bytes(data[: -8 - int.from_bytes(data[-8:-4], "little")] + footer.getvalue()[4:])
    assert pq.ParquetFile(path).metadata.num_row_groups == 301
    with within(50, 5), pytest.raises(DataError, match="columns claim more"):
        read_frame(path, FILES, SafeDirectory(tmp_path))


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"compression": "none"},
        {"use_dictionary": False},
        {"data_page_version": "2.0"},
        {"row_group_size": 7},
    ],
)
def test_parquet_as_others_write_it_is_read(tmp_path: Path, how: Any) -> None:
    files = [f"/data/{n:06d}.jpg" for n in range(500)]
    frame = read_frame(
        parquet(tmp_path / "a.parquet", files, write_page_checksum=True, **how),
        FILES,
        SafeDirectory(tmp_path),
    )
    pd.testing.assert_frame_equal(frame, pd.DataFrame({"image_id": range(500), "file": files}))


def test_parquet_of_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for column in (
        pa.array([[1]], pa.list_(pa.int64())),
        pa.array([b"a"]),
        pa.array(["a"], pa.large_string()),
    ):
        pq.write_table(pa.table({"image_id": pa.array([1], pa.int64()), "file": column}), path)
        with pytest.raises(DataError, match="no column file of string"):
            read_frame(path, FILES, SafeDirectory(path.parent))


def test_a_footer_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"image_id": [1], "file": ["a"]}, FILES)
    pq.write_table(table.replace_schema_metadata({f"k{n}": "a" * 10_000 for n in range(300)}), path)
    with pytest.raises(DataError, match="footer claims"):
        read_frame(path, FILES, SafeDirectory(path.parent))


def test_ids_do_not_share_a_hash(tmp_path: Path) -> None:
    """Tables of pandas took a minute for a megabyte of these ids."""
    ids = np.arange(30_000, dtype=np.uint64)
    low = (ids ^ (ids << np.uint64(11)) ^ (ids << np.uint64(22))) & np.uint64(0xFFFFFFFF)
    ids = ((ids << np.uint64(33)) | low).astype(np.int64)
    truth = GroundTruth(
        pd.DataFrame({"image_id": ids, "file": "a", "width": 1, "height": 1}),
        pd.DataFrame(columns=["image_id", "category_id", "x", "y", "w", "h", "area", "iscrowd"]).astype(
            float
        ),
        pd.DataFrame({"category_id": [1], "name": ["a"]}),
    )
    truth.write(tmp_path, "data")
    with within(100, 5), pytest.raises(DataError, match="ids of images"):
        GroundTruth.read(tmp_path, "data")


@pytest.mark.parametrize("key", ["image_id", "category_id"])
def test_ids_of_predictions_do_not_share_a_hash(tmp_path: Path, key: str) -> None:
    one = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], "score": 0.5}
    (tmp_path / "p.json").write_text(json.dumps([one | {key: n * (2**61 - 1)} for n in range(10_000)]))
    readers.folder(tmp_path)
    with within(100, 5), pytest.raises(DataError, match="share one hash"):
        readers.use_predictions(tmp_path / "p.json")


def test_products_of_rows_are_bounded() -> None:
    """Images times classes, and boxes times objects, fill the memory where neither does."""
    none = pd.DataFrame(
        {name: [] for name in ("image_id", "category_id", "x", "y", "w", "h", "area", "iscrowd")}
    )
    with within(100, 5), pytest.raises(DataError, match=r"20,000 images times 20,000 categories"):
        matching.SortedTruth.build(np.arange(20_000), np.arange(20_000), none)
    with within(100, 5), pytest.raises(DataError, match="image 7 has 90,000 boxes and 90,000 objects"):
        matching.check_pair_count(np.full(90_000, 7), np.full(90_000, 7))


@pytest.mark.parametrize("classes", [2000, 20_001])
def test_classes_cost_what_their_scores_take(tmp_path: Path, classes: int) -> None:
    """Tables of precision took 375 kB for each class."""
    root = readers.folder(tmp_path / "data")
    categories = [{"id": n, "name": str(n)} for n in range(1, classes + 1)]
    (root / "val.json").write_text(json.dumps(readers.COCO | {"categories": categories}))
    with within(650, 30):
        if classes > 20_000:
            with pytest.raises(DataError, match="20,001 categories; the limit is 20,000"):
                readers.use_dataset(root / "val.json")
        else:
            readers.use_dataset(root / "val.json")


def test_an_image_that_is_named_again_costs_little(tmp_path: Path) -> None:
    """However it is written: 60 kB of lines stood for 100 million boxes, or decoded one picture a thousand times."""
    root = readers.folder(tmp_path)
    (root / "labels/val/a.txt").write_text("".join(f"0 .5 .5 .{n} .1\n" for n in range(10_000, 14_000)))
    (root / "a.yaml").write_text(yaml.safe_dump({"path": ".", "val": "list.txt", "names": ["a", "b"]}))
    lines = [f"./images/{'./' * (n % 7)}val/a.png\n" for n in range(4000)]
    (root / "list.txt").write_text("".join(lines[:20]))
    assert len(datasets.load_dataset(str(root / "a.yaml")).annotations) == 80_000
    (root / "list.txt").write_text("".join(lines))
    with within(1000, 20), pytest.raises(DataError, match="name each image once"):
        datasets.load_dataset(str(root / "a.yaml"))
    (root / "labels/val/a.txt").write_text("0 .5 .5 .1 .1\n" * 20_000)
    with within(100, 20):
        data = datasets.load_dataset(str(root / "a.yaml"))
    assert len(data.images) == len(data.annotations) == 4000


CSVS = {
    "columns": "a," * 500_000 + "\n" + "1," * 500_000,
    "fields": "epoch\n" + "1," * 500_000,
    "quoted lines": ",".join(['"a\n"'] * 300_000),
    "a long field": 'epoch\n"' + "a" * 4_000_000,
    "short rows": ",".join(f"a{n}" for n in range(1000)) + "\n" + "1\n" * 400_000,
}


@pytest.mark.parametrize("text", CSVS.values(), ids=list(CSVS))
def test_csv_is_bounded(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.csv").write_text(text)
    with within(200, 5), pytest.raises(DataError, match="cannot be read as csv"):
        parse_csv(tmp_path / "results.csv")
    with pytest.raises(RobustBenchError):
        read_logs([tmp_path])


def inserted(*rows: list[Any], **settings: Any) -> dict[str, Any]:
    config: dict[str, Any] = copy.deepcopy(readers.MINI) | settings
    config["backbone"][1:1] = rows
    return config


NETWORKS = {
    "lazy layers": (inserted([-1, 1, "nn.LazyInstanceNorm2d", []]), "not a layer that a file may ask for"),
    "a transformer": (
        inserted([-1, 1, "nn.Transformer", [512, 8, 60, 60]]),
        "not a layer that a file may ask for",
    ),
    "bins of a box": (inserted(reg_max=1000), "reg_max is 1000"),
    "attention over pixels": (inserted([-1, 1, "AIFI", [64, 8]]), r"computes \(8, 16384, 16384\) values"),
    "padding": (inserted([-1, 1, "nn.ZeroPad2d", [4000]]), "ZeroPad2d .* values"),
    "a scale": (inserted([-1, 1, "nn.Upsample", ["None", 700, "nearest"]]), "Upsample .* values"),
    "a kernel": (inserted([-1, 1, "nn.Conv2d", [8, 8, 1001, 1, 500]]), r"Conv2d .* 2e\+12 operations"),
    "maps without end": (inserted([-1, 1, "SPPF", [64, 5, 90_000]]), "SPPF .* values"),
    "a layer that does not fit": (inserted([-1, 1, "nn.BatchNorm2d", [3]]), "does not fit its input"),
    "buffers": (
        inserted(*[[-1, 100, "torchvision.ops.FrozenBatchNorm2d", [100_000]]] * 30),
        "parameters; the limit is",
    ),
    "queries": (
        {**readers.MINI, "head": [[[3, 4], 1, "RTDETRDecoder", ["nc", 512, 99_999, 100, 64, 50]]]},
        "parameters; the limit is",
    ),
}


@pytest.mark.parametrize(("config", "why"), NETWORKS.values(), ids=list(NETWORKS))
def test_model_yamls_are_counted_before_they_are_built(
    tmp_path: Path, config: dict[str, Any], why: str
) -> None:
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(config))
    with within(300, 20), pytest.raises(UsageError, match=why):
        architecture.read_config(tmp_path / "m.yaml")


@pytest.mark.parametrize(("kind", "bits"), [("F4", 4), ("F8_E8M0", 8), ("C64", 64), ("U32", 32)])
def test_types_that_few_read_are_refused(tmp_path: Path, kind: str, bits: int) -> None:
    header = {"config": readers.MINI, "classes": readers.CLASSES, "meta": {}, "layers": readers.layers()}
    tensors = dict(readers.mini().state_dict())
    sound = safetensors.torch.save(tensors, {"robustbench_sgdm": json.dumps(header)})
    length = int.from_bytes(sound[:8], "little")
    entries = json.loads(sound[8 : 8 + length])
    first, last = entries["model.0.bn.bias"]["data_offsets"]
    entries["model.0.bn.bias"] |= {"dtype": kind, "shape": [(last - first) * 8 // bits]}
    text = json.dumps(entries).encode()
    (tmp_path / "m.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + sound[8 + length :])
    with pytest.raises(DataError, match=r"model\.0\.bn\.bias"):
        readers.use_weights(tmp_path / "m.safetensors")


def encoded(picture: Pillow.Image, kind: str, **how: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **how)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["I;16", "L", "P", "RGBA"])
def test_a_large_plain_picture_takes_what_its_pixels_do(tmp_path: Path, mode: str) -> None:
    """A grey one of 16 bits took 20 bytes a pixel."""
    side = 6000
    (tmp_path / "a.png").write_bytes(encoded(Pillow.new(mode, (side, side)), "PNG", compress_level=1))
    with within(10 * side * side // 2**20, 30):
        assert image_decoding.read_image(Image(1, tmp_path / "a.png", side, side)).shape == (side, side, 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16", "P", "RGBA", "LA", "1", "CMYK"])
def test_bands_are_converted_as_the_whole(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (50, 37, 3), np.uint8)
    grey = Pillow.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    picture = grey if mode == "I;16" else Pillow.fromarray(pixels).convert(mode)
    data = encoded(picture, "TIFF")
    whole = image_decoding.decode_image(data)
    monkeypatch.setattr(image_decoding, "_BAND", 37 * 7)
    np.testing.assert_array_equal(image_decoding.decode_image(data), whole)


def progressive(size: int, scans: int) -> bytes:
    data = encoded(Pillow.new("RGB", (size, size)), "JPEG", progressive=True)
    return data[:-2] + data[data.rfind(b"\xff\xda") : -2] * scans + data[-2:]


def test_what_no_decoder_draws_is_no_scan() -> None:
    """Phones put a film behind a photograph, and a small picture into its tags."""
    film = b"\xff\xda\xff\xd9" * 1000
    picture = Pillow.new("RGB", (3000, 2000))
    for progressive in (False, True):
        plain = encoded(picture, "JPEG", progressive=progressive)
        data = encoded(picture, "JPEG", progressive=progressive, comment=film) + film
        assert image_headers.jpeg_scans(data) == image_headers.jpeg_scans(plain)
        assert image_decoding.decode_image(data).shape == (2000, 3000, 3)


def test_scans_are_counted_as_a_decoder_meets_them() -> None:
    noise = Pillow.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    for how, scans in (({}, 1), ({"restart_marker_blocks": 1}, 1), ({"progressive": True}, 10)):
        data = encoded(noise, "JPEG", quality=100, **how)
        assert image_headers.jpeg_scans(data) == scans
        at = data.rfind(b"\xff\xda")
        for hidden in (
            b"\xff\xff",
            b"\xff\x01",
            b"\xff\xd0",
            b"\xff\xe0\0\2",
            b"\xff\xfe\0\4\xff\xd9",
            b"\0\0",
        ):
            more = data[:at] + hidden + data[at:]
            assert image_headers.jpeg_scans(more) == scans, hidden
            if scans > 1:  # before the first one Pillow reads, which passes less than the decoder does
                np.testing.assert_array_equal(
                    image_decoding.decode_image(more), image_decoding.decode_image(data)
                )


def shared_tags(count: int) -> bytes:
    """A TIFF all of whose further tags have the same megabyte."""
    tags = [(256, 3, 1, 24), (257, 3, 1, 24), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    end = 8 + 2 + 12 * (len(tags) + count) + 4
    rows = b"".join(
        struct.pack("<HHII", *t) for t in [*tags, *((1000 + n, 7, 10**6, end) for n in range(count))]
    )
    return b"II*\0" + struct.pack("<IH", 8, len(tags) + count) + rows + bytes(4 + 10**6)


def png_with(kind: bytes, body: bytes) -> bytes:
    data = encoded(Pillow.new("L", (24, 24)), "PNG")
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data[:33] + chunk + data[33:]


def split_exif(parts: int) -> bytes:
    data = encoded(Pillow.new("RGB", (24, 24)), "JPEG")
    return data[:2] + b"\xff\xe1\x00\x12Exif\0\0".ljust(20, b"a") * parts + data[2:]


def large_tile(side: int) -> bytes:
    """A TIFF of 24 x 24 px whose only tile is larger."""
    packed = zlib.compress(bytes(side * side), 1)
    tags = [
        (256, 24),
        (257, 24),
        (258, 8),
        (259, 8),
        (262, 1),
        (277, 1),
        (322, side),
        (323, side),
        (324, 134),
    ]
    tags.append((325, len(packed)))
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + rows + bytes(4) + packed


CANVAS = b"RIFF" + struct.pack("<I", 100) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\xfe\x3f\0" * 2
PICTURES: dict[str, tuple[Callable[[], bytes], str]] = {
    "scans": (lambda: progressive(8000, 2000), "scans"),
    "a canvas": (lambda: CANVAS + bytes(70), "pixels"),
    "tags": (lambda: shared_tags(2000), "tags claim"),
    "text": (lambda: png_with(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8))), "too large"),
    "a profile": (lambda: png_with(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8))), "too large"),
    "EXIF": (lambda: png_with(b"eXIf", shared_tags(2000)), ""),
    "EXIF in some parts": (lambda: split_exif(3), ""),
    "EXIF in many parts": (lambda: split_exif(400_000), "EXIF lies in more than"),
    "a tile": (lambda: large_tile(256), ""),
    "a large tile": (lambda: large_tile(16_384), "tiles have 16384 x 16384"),
}


@pytest.mark.parametrize(("make", "message"), PICTURES.values(), ids=list(PICTURES))
def test_pictures_claim_what_they_are(make: Callable[[], bytes], message: str) -> None:
    data = make()
    with within(200, 10):
        if message:
            with pytest.raises(DataError, match=message):
                image_decoding.decode_image(data)
        else:
            assert image_decoding.decode_image(data).shape == (24, 24, 3)


def test_a_jpeg_2000_holds_the_size_of_its_header() -> None:
    data = bytearray(encoded(Pillow.new("RGB", (24, 24)), "JPEG2000"))
    assert image_decoding.decode_image(bytes(data)).shape == (24, 24, 3)
    at = data.index(b"\xff\x4f\xff\x51") + 8
    data[at : at + 4] = (60_000).to_bytes(4, "big")
    with pytest.raises(DataError):
        image_decoding.decode_image(bytes(data))


def test_no_jpeg_2000_hides_its_size() -> None:
    """Behind bytes that look like the begin of another one, within which its own lies."""
    data = encoded(Pillow.new("RGB", (24, 24)), "JPEG2000")
    begin = data.index(b"\xff\x4f\xff\x51")
    decoy = b"\xff\x4f\xff\x51\0\x2f\0\0" + struct.pack(">4I", 24, 24, 0, 0)
    large = data[begin : begin + 8] + struct.pack(">I", 60_000) + data[begin + 12 :]
    image_headers.check_pixels(io.BytesIO(data), "JPEG2000", (24, 24))
    with pytest.raises(ValueError, match="60000 x 24"):
        image_headers.check_pixels(io.BytesIO(data[:begin] + decoy + large), "JPEG2000", (24, 24))


def test_exif_orientation_is_pillows() -> None:
    for order, kind in (("<", 3), (">", 3), ("<", 4), (">", 4), ("<", 2)):
        for turn in (0, 1, 6, 8, 9):
            value = struct.pack(f"{order}{'I' if kind == 4 else 'H'}", turn).ljust(4, b"\0")
            head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 1)
            data = b"Exif\0\0" + head + struct.pack(f"{order}HHI", 0x0112, kind, 1) + value + bytes(4)
            exif = Pillow.Exif()
            exif.load(data)
            said = exif.get(0x0112)
            ours = image_headers.exif_orientation(data)
            assert (ours if 2 <= ours <= 8 else 1) == (said if said in range(2, 9) else 1)


@pytest.mark.parametrize(
    ("models", "corruptions", "message"),
    [
        (1, 5000, "corruptions .* must have 1,000 entries at most, not 5,001"),
        (5000, 1, "models .* must have 1,000 entries at most, not 5,002"),
        (200, 200, "202 models and 201 corruptions"),
        (1, 900, ""),
    ],
)
def test_a_manifest_names_what_tables_can_hold(
    tmp_path: Path, models: int, corruptions: int, message: str
) -> None:
    """Tables have a row for every model, set of corruptions and metric, whatever is stored."""
    run = readers.sound_run(tmp_path)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["models"] |= {f"m{n}": {"weights": "w"} for n in range(models)} if models > 1 else {}
    manifest["corruptions"] |= {f"c{n}": {"family": "", "fingerprint": ""} for n in range(corruptions)}
    manifest["cells"] += [
        {"model": "base", "corruption": f"c{n}", "severity": 1, "key": "k"} for n in range(corruptions)
    ]
    (run / "manifest.json").write_text(json.dumps(manifest))
    with within(500, 30):
        if message:
            with pytest.raises(DataError, match=message):
                Run.open(run)
        else:
            readers.use_run(run)


def test_a_thousand_networks_are_ranked() -> None:
    """Of which there are half a million pairs."""
    rng = np.random.default_rng(0)
    cells = {}
    for n, score in enumerate(rng.uniform(20, 40, 1000)):
        resamples, jackknife = (
            score + rng.normal(0, scale, (count, 1)) for scale, count in ((1, 200), (0.1, 50))
        )
        cells[f"m{n}"] = {(CLEAN, 0.0): BootstrapSamples(np.array([score]), resamples, jackknife)}
    made = Intervals(cells, {}, [], {name: [name] for name in cells}, metrics=["AP"])
    with within(500, 30):
        ranks = rank_networks(made, "AP", None)
    assert len(ranks) == 1000 and ranks["first"].max() > 1


def test_one_broken_run_hides_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    readers.sound_run(tmp_path)
    breaks = {
        "hex": '{"schema": 0x' + "f" * 20_000,
        "json": '{"schema": ' + "9" * 20_000 + "}",
        "empty": "",
        "deep": "[" * 5000,
        "binary": "\0\1\2",
    }
    for name, text in breaks.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(text)
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop/manifest.json").symlink_to(tmp_path / "loop/manifest.json")
    (tmp_path / "folder/manifest.json").mkdir(parents=True)
    os.utime(tmp_path / "r/manifest.json", (1, 1))  # the oldest: listed first
    assert list_runs(tmp_path)[0].name == "r"
    assert listings.list_runs(tmp_path)["name"].tolist() == ["r"]
    for name in [*breaks, "folder"]:
        assert f"{tmp_path / name}" in caplog.text


def test_what_nobody_thought_of_hides_no_run_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    readers.sound_run(tmp_path)
    (tmp_path / "new").mkdir()
    (tmp_path / "new/manifest.json").write_text("")
    opened = Run.open
    monkeypatch.setattr(Run, "open", lambda path: opened(path) if path.name == "r" else [][1])
    assert listings.list_runs(tmp_path)["name"].tolist() == ["r"]
    assert f"{tmp_path / 'new'} cannot be read (IndexError" in caplog.text


def test_the_stated_bounds_are_the_fuzzers() -> None:
    text = (resources.root() / "SECURITY.md").read_text("utf-8")
    for kind, bound in harness.BOUNDS.items():
        assert f"| {kind} | {bound.megabytes:,} MB | {bound.seconds:g} s |" in text
