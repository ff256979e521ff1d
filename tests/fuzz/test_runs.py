"""Run directories from strangers: whatever reads one reads it, or says what is wrong with it."""

import json
import os
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from robustbench_sgdm.core import resources
from robustbench_sgdm.store import LOSSES, group_logs, read_logs
from robustbench_sgdm.training import comparison

harness: Any = resources.import_file(Path(__file__).with_name("harness.py"))
readers: Any = resources.import_file(Path(__file__).with_name("readers.py"))
RUNS = harness.BOUNDS["run and training directories"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = readers.sound_run(tmp_path_factory.mktemp("sound"))
    return path


def test_run_directories(tmp_path: Path, sound: Path) -> None:
    root = tmp_path / "root"
    outside = tmp_path / "outside"
    (outside / "shards").mkdir(parents=True)
    (outside / "shards/mine").write_text("mine")
    files = sorted(str(p.relative_to(sound)) for p in sound.rglob("*") if p.is_file())

    def spoil(rng: random.Random) -> Path:
        shutil.rmtree(root, ignore_errors=True)
        for name in ("r", "sound"):
            shutil.copytree(sound, root / name)
        for file in sorted({"manifest.json" if rng.random() < 0.5 else rng.choice(files), rng.choice(files)}):
            damage(root / "r" / file, outside, rng)
        return root / "r"

    def use(path: Path) -> None:
        readers.use_runs(path)
        readers.use_run(path)

    root.mkdir()
    harness.fuzz("run directories", root, spoil, use, RUNS)
    assert [p.name for p in outside.rglob("*")] == ["shards", "mine"]


def damage(file: Path, outside: Path, rng: random.Random) -> None:
    if file.is_symlink() or not file.is_file():
        return
    act = rng.random()
    if act < 0.05:
        file.unlink()
    elif act < 0.1:
        shutil.rmtree(file.parent)
        file.parent.symlink_to(outside)
    elif act < 0.15:  # a pipe, at which a reader waits
        file.unlink()
        os.mkfifo(file)
    elif act < 0.25 and file.suffix in {".yaml", ".json", ".csv"}:
        odd = {".yaml": harness.odd_yaml, ".json": harness.odd_json, ".csv": odd_csv}[file.suffix]
        file.write_text(odd(file.read_text(), rng))
    elif act < 0.3 and file.suffix == ".parquet":
        write_otherwise(file, rng)
    elif act < 0.6 and file.suffix in {".yaml", ".json"}:
        load, dump = (yaml.safe_load, yaml.safe_dump) if file.suffix == ".yaml" else (json.loads, json.dumps)
        file.write_text(dump(harness.damaged_tree(load(file.read_text()), rng)))
    elif act < 0.6 and file.suffix == ".parquet":
        change_value(file, rng)
    else:
        file.write_bytes(harness.damaged_bytes(file.read_bytes(), rng))


def odd_csv(text: str, rng: random.Random) -> str:
    """Numbers in other forms, or a line of many columns, of a long text or of quotes."""
    act, many = rng.randint(0, 4), rng.choice((10, 1000, 300_000))
    if act <= 1:
        return re.sub(r"(?<=,)-?[\d.]+", lambda _: rng.choice(harness.NUMBERS), text, count=rng.randint(1, 3))
    if act == 2:
        return "a," * many + "\n" + text
    if act == 3:
        return text + ("1," * many if rng.random() < 0.5 else "'" * many + '"' * many)
    return text.replace(",", ',"' + "a\n" * many + '",', 1)


def write_otherwise(file: Path, rng: random.Random) -> None:
    """The same columns as parquet can also have them: small, and expanding to anything."""
    table = pq.read_table(file, partitioning=None)
    how: dict[str, Any] = {"compression": rng.choice(("snappy", "zstd", "gzip", "brotli", "none"))}
    act = rng.randint(0, 6)
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    if act == 0 and texts:  # one long text for all rows
        at = table.schema.get_field_index(texts[0])
        long = pa.array(["a" * rng.choice((10_000, 1_000_000))] * table.num_rows, pa.string())
        table = table.set_column(at, table.schema.field(at), long)
        how |= {"use_dictionary": rng.random() < 0.5}
        if not how["use_dictionary"]:
            how |= {
                "column_encoding": {texts[0]: rng.choice(("DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"))}
            }
    elif act == 1 and table.num_rows:  # a million equal rows
        table = pa.concat_tables([table.slice(0, 1)] * 3).take(pa.array([0] * rng.choice((1000, 1_000_000))))
    elif act == 2:
        how |= {"data_page_version": "2.0", "use_dictionary": False}
    elif act == 3:
        at = rng.randrange(table.num_columns)
        name = table.column_names[at]
        nested = rng.choice(
            (pa.list_(pa.int64()), pa.large_string(), pa.struct([("a", pa.int64())]), pa.null())
        )
        table = table.set_column(at, pa.field(name, nested), pa.array([None] * table.num_rows, nested))
    elif act == 4:
        more = {f"k{n}": "a" * 1000 for n in range(rng.choice((3, 300)))}
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **more})
    elif act == 5:
        how |= {"row_group_size": 1, "write_statistics": True}
    else:
        how |= {"data_page_size": 1, "dictionary_pagesize_limit": 1}
    pq.write_table(table, file, **how)


def test_training_directories(tmp_path: Path) -> None:
    root = tmp_path / "root"
    folder = root / "comparison/yolov8n-seed0"
    folder.mkdir(parents=True)
    columns = ["epoch", "time", *(f"{split}/{loss}_loss" for split in ("train", "val") for loss in LOSSES)]
    rows = "\n".join(",".join([str(n)] + ["1.5"] * (len(columns) - 1)) for n in range(1, 9))
    record = {"model": "yolov8n", "arguments": {"seed": 0, "epochs": 8}, "versions": {"torch": "2"}}
    sound = {
        folder / "results.csv": ",".join(columns) + "\n" + rows + "\n",
        folder / "recipe.yaml": yaml.safe_dump(record),
        folder.parent / "recipe.yaml": yaml.safe_dump({"runs": {"yolov8n": [0]}, "versions": {"torch": "2"}}),
    }

    def use(path: Path) -> None:
        group_logs(read_logs([path]))
        comparison.unfinished_runs(path)
        comparison.read_recipe(path)

    def spoil(rng: random.Random) -> Path:
        for file, text in sound.items():
            file.write_text(text)
        file = rng.choice(list(sound))
        if rng.random() < 0.6:
            odd = odd_csv if file.suffix == ".csv" else harness.odd_yaml
            file.write_text(odd(sound[file], rng))
        elif rng.random() < 0.5 and file.suffix == ".yaml":
            file.write_text(yaml.safe_dump(harness.damaged_tree(yaml.safe_load(sound[file]), rng)))
        else:
            file.write_bytes(harness.damaged_bytes(sound[file].encode(), rng))
        return folder.parent

    for file, text in sound.items():
        file.write_text(text)
    use(folder.parent)
    harness.fuzz("training directories", root, spoil, use, RUNS)


def change_value(file: Path, rng: random.Random) -> None:
    """Put an odd value into a sound file of the same columns."""
    table = pq.read_table(file, partitioning=None)
    if not table.num_rows:
        return
    number, row = rng.randrange(table.num_columns), rng.randrange(table.num_rows)
    field, values = table.schema.field(number), table.column(number).to_pylist()
    values[row] = rng.choice([value for value in harness.WEIRD if fits(value, field.type)])
    pq.write_table(table.set_column(number, field, pa.array(values, field.type)), file)


def fits(value: object, kind: pa.DataType) -> bool:
    try:
        pa.array([value], kind)
    except (pa.ArrowException, OverflowError, UnicodeError, TypeError, ValueError):
        return False
    return value is not None
