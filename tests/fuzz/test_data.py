"""Data sets, predictions and pictures from strangers: read, or refused in one line."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from robustbench_sgdm import content

harness: Any = content.load_file(Path(__file__).with_name("harness.py"))
readers: Any = content.load_file(Path(__file__).with_name("readers.py"))


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
    else:
        path.write_text(json.dumps(harness.damaged_tree(harness.copied(value), rng)))
    return path


def test_dataset_jsons(root: Path) -> None:
    harness.fuzz(
        "dataset jsons",
        root,
        lambda rng: written(root / "val.json", readers.COCO, rng),
        readers.use_dataset,
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
        (root / "data.yaml").write_bytes(harness.damaged_bytes(text, rng) if rng.random() < 0.3 else text)
        return root / "data.yaml"

    harness.fuzz("dataset YAMLs", root, damage, readers.use_dataset)


def test_predictions(root: Path) -> None:
    uses = {
        "nested.json": (readers.NESTED, readers.use_nested),
        "p.json": (readers.FOUND, readers.use_predictions),
        "described.json": (readers.DESCRIBED, readers.use_predictions),
    }

    def damage(rng: random.Random) -> Path:
        name = rng.choice(("nested.json", "p.json", "p.json", "described.json"))
        return written(root / name, uses[name][0], rng)

    harness.fuzz("predictions", root, damage, lambda path: uses[path.name][1](path))


def test_pictures(root: Path) -> None:
    samples = [make() for make in readers.PICTURES]

    def damage(rng: random.Random) -> Path:
        path = root / "images/val/d.png"
        path.write_bytes(harness.damaged_bytes(rng.choice(samples), rng))
        return path

    harness.fuzz("images", root, damage, readers.use_picture)
