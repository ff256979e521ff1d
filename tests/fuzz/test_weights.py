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
import torchvision
from torch import nn

from robustbench_sgdm.core import resources
from robustbench_sgdm.detectors.ultralytics.architecture import tasks

harness: Any = resources.import_file(Path(__file__).with_name("harness.py"))
readers: Any = resources.import_file(Path(__file__).with_name("readers.py"))
WEIGHTS = harness.BOUNDS["model YAMLs, weights"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


def odd_row(config: Any, rng: random.Random) -> None:
    """Put a layer of some library into a model, with arguments that it may take, of any size; or a large setting."""
    if not isinstance(config, dict) or rng.random() < 0.1:
        config[rng.choice(("reg_max", "nc", "width_multiple", "depth_multiple", "channels"))] = rng.choice(
            SIZES
        )
        return
    arguments = [argument(rng) for _ in range(rng.randint(0, 6))]
    row = [rng.choice((-1, -1, -1, [-1, 0], 0)), rng.choice((1, 1, 3, 100)), rng.choice(KINDS), arguments]
    rows = config[rng.choice(("backbone", "head"))]
    at = rng.randrange(len(rows))
    if rng.random() < 0.5:
        rows.insert(at, row)
    else:
        rows[at] = row


def argument(rng: random.Random, depth: int = 0) -> Any:
    """A number of any size, mostly one that layers take; sometimes a word or a list."""
    if rng.random() < 0.1 and depth < 2:
        return [argument(rng, depth + 1) for _ in range(rng.choice((1, 2, 3, 50)))]
    return rng.choice(SIZES) if rng.random() < 0.9 else rng.choice(("nearest", "None", "nc", True, None, 0.5))


SIZES = (
    *(1, 1, 2, 3, 4, 8, 16, 16, 32, 32, 64),
    *(0, -1, 100, 500, 700, 1000, 4096, 9000, 99_999, 0.25, 1e-9),
)
KINDS = [name for name in dir(tasks) if isinstance(getattr(tasks, name), type)] + [
    f"{prefix}{name}"
    for prefix, module in (("nn.", nn), ("torchvision.ops.", torchvision.ops))
    for name in dir(module)
    if isinstance(getattr(module, name), type)
]


def other_type(sound: bytes, rng: random.Random) -> bytes:
    """A safetensors file with tensors of types that few read."""
    length = int.from_bytes(sound[:8], "little")
    header = json.loads(sound[8 : 8 + length])
    for name in rng.sample([key for key in header if key != "__metadata__"], rng.choice((1, 2))):
        first, last = header[name]["data_offsets"]
        kind, bits = rng.choice(TYPES)
        header[name] |= {
            "dtype": kind,
            "shape": rng.choice(([(last - first) * 8 // bits], header[name]["shape"])),
        }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + sound[8 + length :]


TYPES = (
    *(
        ("F4", 4),
        ("F6_E2M3", 6),
        ("F6_E3M2", 6),
        ("F8_E4M3", 8),
        ("F8_E5M2", 8),
        ("F8_E8M0", 8),
        ("BOOL", 8),
        ("I8", 8),
    ),
    *(
        ("U16", 16),
        ("BF16", 16),
        ("F16", 16),
        ("U32", 32),
        ("I32", 32),
        ("F64", 64),
        ("C64", 64),
        ("U64", 64),
    ),
)


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
        elif rng.random() < 0.1:
            path.write_bytes(other_type(sound, rng))
        elif rng.random() < 0.1:
            odd = harness.odd_json(json.dumps(header), rng)
            safetensors.torch.save_file(tensors, path, {"robustbench_sgdm": odd})
        else:
            damaged = harness.copied(header)
            damaged["config"] = harness.damaged_tree(damaged["config"], rng)
            if rng.random() < 0.3:
                damaged["config"] = harness.copied(header["config"])
                odd_row(damaged["config"], rng)
            if rng.random() < 0.1:
                damaged = harness.damaged_tree(damaged, rng)
            safetensors.torch.save_file(tensors, path, {"robustbench_sgdm": json.dumps(damaged)})
        return path

    harness.fuzz("model YAMLs", root, damage, readers.use_weights, WEIGHTS)


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

    harness.fuzz("checkpoints", root, damage, readers.use_weights, WEIGHTS)
