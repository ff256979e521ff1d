"""Run directories from strangers: whatever reads one reads it, or says what is wrong with it."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

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
    elif act < 0.6 and file.suffix in {".yaml", ".json"}:
        load, dump = (yaml.safe_load, yaml.safe_dump) if file.suffix == ".yaml" else (json.loads, json.dumps)
        file.write_text(dump(harness.damaged_tree(load(file.read_text()), rng)))
    else:
        file.write_bytes(harness.damaged_bytes(file.read_bytes(), rng))
