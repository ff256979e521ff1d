"""Weights from strangers: a model YAML in a header, a checkpoint as a pickle."""

import io
import json
import pickletools
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from robustbench_sgdm import content

harness: Any = content.load_file(Path(__file__).with_name("harness.py"))
readers: Any = content.load_file(Path(__file__).with_name("readers.py"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


def test_model_yamls(root: Path) -> None:
    path, tensors = root / "m.safetensors", dict(readers.mini().state_dict())
    header = {
        "config": readers.MINI,
        "classes": readers.CLASSES,
        "meta": {"imgsz": "64"},
        "layers": readers.layers(),
    }
    safetensors.torch.save_file(tensors, path, {"robustbench_sgdm": json.dumps(header)})
    readers.use_weights(path)
    sound = path.read_bytes()

    def damage(rng: random.Random) -> Path:
        if rng.random() < 0.1:
            path.write_bytes(harness.damaged_bytes(sound, rng))
        else:
            damaged = harness.copied(header)
            damaged["config"] = harness.damaged_tree(damaged["config"], rng)
            if rng.random() < 0.1:
                damaged = harness.damaged_tree(damaged, rng)
            safetensors.torch.save_file(tensors, path, {"robustbench_sgdm": json.dumps(damaged)})
        return path

    harness.fuzz("model YAMLs", root, damage, readers.use_weights)


GLOBALS = (
    *(
        "os\nsystem",
        "builtins\neval",
        "builtins\ngetattr",
        "builtins\nexec",
        "posix\nsystem",
        "subprocess\nPopen",
    ),
    *(
        "torch.nn.modules.linear\nLinear",
        "ultralytics.nn.tasks\nSegmentationModel",
        "torch\nload",
        "numpy\ndtype",
    ),
    *("torch._utils\n_rebuild_tensor_v2", "collections\nOrderedDict", "pathlib\nPosixPath", "no.such\nThing"),
    *(
        "ultralytics.nn.tasks\nguess_model_task",
        "ultralytics.utils.downloads\nsafe_download",
        "torch\ndevice",
    ),
)


def damaged_pickle(data: bytes, rng: random.Random) -> bytes:
    """A pickle with some of its operations replaced, removed or doubled: most still end, few make sense."""
    operations = [(op, argument, at) for op, argument, at in pickletools.genops(data)]
    ends = [at or 0 for *_, at in operations[1:]] + [len(data)]
    parts = [data[at or 0 : end] for (*_, at), end in zip(operations, ends, strict=True)]
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(1, len(parts) - 2)
        act = rng.randint(0, 4)
        name = operations[at][0].name if at < len(operations) else ""
        if name == "GLOBAL" or act == 0:
            parts[at] = b"c" + rng.choice(GLOBALS).encode() + b"\n"
        elif act == 1:
            parts[at] = rng.choice(parts[1:-1])
        elif act == 2:
            parts[at] = b""
        elif act == 3:
            parts[at] = rng.choice(
                (
                    b"N",
                    b"]",
                    b"}",
                    b")",
                    b"K\x00",
                    b"K\xff",
                    b"J\xff\xff\xff\x7f",
                    b"X\x01\0\0\0x",
                    b"R",
                    b"b",
                    b"Q",
                )
            )
        else:
            parts[at] = harness.damaged_bytes(parts[at], rng)
    return b"".join(parts)


def test_checkpoints(root: Path) -> None:
    path = root / "m.pt"
    sound = readers.checkpoint()
    path.write_bytes(sound)
    readers.use_weights(path)
    with zipfile.ZipFile(io.BytesIO(sound)) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    (pickled,) = (name for name in entries if name.endswith("data.pkl"))

    def damage(rng: random.Random) -> Path:
        if rng.random() < 0.3:
            path.write_bytes(harness.damaged_bytes(sound, rng))
        else:
            with zipfile.ZipFile(path, "w") as archive:
                for name, data in entries.items():
                    archive.writestr(name, damaged_pickle(data, rng) if name == pickled else data)
        return path

    harness.fuzz("checkpoints", root, damage, readers.use_weights)
