"""Run directories from strangers: whatever reads one reads it, or says what is wrong with it."""

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from robustbench_sgdm import content

harness: Any = content.load_file(Path(__file__).with_name("harness.py"))
readers: Any = content.load_file(Path(__file__).with_name("readers.py"))


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
        shutil.copytree(sound, root / "r")
        for file in sorted({"plan.yaml" if rng.random() < 0.5 else rng.choice(files), rng.choice(files)}):
            damage(root / "r" / file, outside, rng)
        return root / "r"

    root.mkdir()
    harness.fuzz("run directories", root, spoil, readers.use_run)
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
    elif act < 0.6 and file.suffix in {".yaml", ".json"}:
        load, dump = (yaml.safe_load, yaml.safe_dump) if file.suffix == ".yaml" else (json.loads, json.dumps)
        file.write_text(dump(harness.damaged_tree(load(file.read_text()), rng)))
    elif act < 0.6 and file.suffix == ".parquet":
        change_value(file, rng)
    else:
        file.write_bytes(harness.damaged_bytes(file.read_bytes(), rng))


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
