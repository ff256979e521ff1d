"""A checkpoint's pickle is read without constructing, importing or calling anything that it names."""

import collections
import struct
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import torch
from torch import nn
from ultralytics.nn.modules.conv import Index
from ultralytics.nn.tasks import DetectionModel

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.pickles import Global, Record
from robustbench_sgdm.detectors.ultralytics import pickle_records, weights, zoo
from robustbench_sgdm.detectors.ultralytics.pickle_records import Storage, TensorRecord, open_checkpoint

PLAIN = (dict, list, tuple, set, frozenset, str, int, float, bool, bytes, type(None))
INERT = (Record, Global, Storage, TensorRecord)


@pytest.fixture(scope="module")
def model() -> DetectionModel:
    return zoo.build_model("yolov5n", 2, ["cat", "dog"]).eval()


def parts(value: Any) -> list[Any]:
    """Every object that is reached from a value."""
    found: dict[int, Any] = {}
    stack = [value]
    while stack:
        one = stack.pop()
        if id(one) in found:
            continue
        found[id(one)] = one
        if isinstance(one, dict):
            stack += [*one, *one.values()]
        elif isinstance(one, list | tuple | set | frozenset):
            stack += one
        elif isinstance(one, Record):
            stack += [one.args, one.state, one.items]
    return list(found.values())


def test_nothing_but_plain_values_and_records_is_made(
    model: DetectionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.pt"
    torch.save({"model": model, "when": PurePosixPath("a/b"), "kept": collections.OrderedDict(a=1)}, path)
    made: list[type] = []
    initialise = nn.Module.__init__

    def count(self: nn.Module, *args: Any, **options: Any) -> None:
        made.append(type(self))
        initialise(self, *args, **options)

    monkeypatch.setattr(nn.Module, "__init__", count)
    watched, events = True, []
    sys.addaudithook(lambda event, _: events.append(event) if watched else None)
    with open_checkpoint(path) as content:
        found = parts(content)
    watched = False
    assert not made and not [e for e in events if e in {"import", "pickle.find_class", "exec", "compile"}]
    assert {type(one) for one in found} <= {*PLAIN, *INERT}
    assert sum(isinstance(one, Record) for one in found) > 100
    assert sum(isinstance(one, TensorRecord) for one in found) >= len(model.state_dict())
    assert content["when"] == "a/b" and content["kept"] == {"a": 1}


def test_reading_weights_constructs_only_the_network_of_the_yaml(
    model: DetectionModel, tmp_path: Path
) -> None:
    torch.save({"model": model}, tmp_path / "m.pt")
    watched, events = True, []
    sys.addaudithook(lambda event, _: events.append(event) if watched else None)
    weights.read_weights(tmp_path / "m.pt")
    watched = False
    assert "pickle.find_class" not in events


DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16]
DTYPES += [torch.int8, torch.uint8, torch.bool, torch.float8_e4m3fn]


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_are_read_as_torch_reads_them(dtype: torch.dtype, tmp_path: Path) -> None:
    whole = (torch.arange(24) % 2).to(dtype).view(2, 3, 4)
    saved = {
        "whole": whole,
        "view": whole[:, 1:, ::2],
        "turned": whole.permute(2, 0, 1),
        "none": whole[:0],
        "one": whole[0, 0, 1],
        "same": whole[0],
        "expanded": whole[0, 0].expand(5, 4),
        "parameter": nn.Parameter(whole.float(), requires_grad=False),
    }
    torch.save(saved, tmp_path / "t.pt")
    found = pickle_records.read_plain(tmp_path / "t.pt")
    for name, tensor in torch.load(tmp_path / "t.pt", weights_only=False).items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name].float(), tensor.float())


def damaged(path: Path, content: bytes) -> Path:
    """A file of torch.save with another pickle in it."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", content)
        archive.writestr("m/version", b"3\n")
    return path


def chain(depth: int) -> bytes:
    return b"\x80\x02" + b")" + b"\x85" * depth + b"."


def named(name: str) -> bytes:
    module, _, leaf = name.rpartition(".")
    return f"c{module}\n{leaf}\n".encode()


def text(content: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(content)) + content


def repeated(function: str, arguments: bytes, times: int = 100_000) -> bytes:
    """A list of as many results of one call, whose arguments are in the file once."""
    memo = arguments + b"q\x010" + named(function) + b"q\x020"
    return b"\x80\x02" + memo + b"(" + b"h\x02h\x01R" * times + b"l."


def nested(name: bytes, depth: int = 150) -> bytes:
    """Layers in layers, all of one name."""
    layer = named("torch.nn.Sequential") + b")\x81}"
    layers = (layer + text(b"_modules") + b"}h\x00") * depth + layer + b"b" + b"ssb" * depth
    model = (
        named("ultralytics.nn.tasks.DetectionModel") + b")\x81}" + text(b"_modules") + b"}" + text(b"model")
    )
    return b"\x80\x02" + text(name) + b"q\x000}" + text(b"model") + model + layers + b"ssbs."


def colliding(count: int) -> bytes:
    """Tuples as keys whose hashes take a time that grows with the file's square."""
    whole = b"(" + b"K\x01" * count + b"tq\x010"
    return b"\x80\x02" + whole + b"(" + b"h\x01N" * count + b"d."


BOMBS = {
    "a list copied without end": repeated("builtins.list", b"(" + b"N" * 100_000 + b"l\x85"),
    "a dict copied without end": repeated(
        "collections.OrderedDict",
        b"(" + b"".join(b"J" + struct.pack("<i", n) + b"N" for n in range(50_000)) + b"d\x85",
    ),
    "a text copied without end": repeated("_codecs.encode", text(b"a" * 2**20) + b"N\x86"),
    "a path of one folder without end": repeated(
        "pathlib.PosixPath", b"(" + text(b"a" * 2**20) + b"q\x00" + b"h\x00" * 1000 + b"t"
    ),
    "tuples as keys that take long to hash": colliding(100_000),
    "a layer's name repeated at every depth": nested(b"n" * 2**22),
    "memo at an index of 2^31": b"\x80\x02]r\xff\xff\xff\x7f.",
    "a million million bytes claimed": b"\x80\x04\x8e" + struct.pack("<Q", 10**12) + b"x.",
    "more operations than allowed": b"\x80\x02" + b"N0" * (pickle_records.MAX_OPERATIONS // 2 + 2) + b"N.",
    "an integer of a megabyte": b"\x80\x02\x8b" + struct.pack("<i", 2**20) + b"\x7f" * 2**20 + b".",
    "keys that collide": b"\x80\x02}("
    + b"".join(b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"N" for k in range(8, 60_000))
    + b"u.",
    "tuples nested a million deep as a key": b"\x80\x02}" + b")" + b"\x85" * 10**6 + b"Ns.",
    "an extension": b"\x80\x02\x82\x01.",
    "a persistent id that is no storage": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "no end": b"\x80\x02]",
    "an empty stack": b"\x80\x020.",
}


MEASURE = """
import resource, sys, time
from pathlib import Path
from robustbench_sgdm.detectors.ultralytics import weights
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.pickles import Global, Record
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
for path in sorted(Path(sys.argv[1]).glob("*.pt")):
    before, start = peak(), time.process_time()
    try:
        weights.read_weights(path)
        answer = "read"
    except DataError as error:
        answer = str(error)
    print(f"{peak() - before:.0f}", f"{time.process_time() - start:.1f}", answer, sep="\\t")
"""


def test_small_files_cost_little(tmp_path: Path) -> None:
    """In a process of its own: the peak of this one may lie above what they would take."""
    for kind, content in BOMBS.items():
        damaged(tmp_path / f"{kind}.pt", content)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True
    )
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(rows) == len(BOMBS)
    for (mebibytes, seconds, answer), kind in zip(rows, sorted(BOMBS), strict=True):
        assert f"{kind}.pt" in answer, (kind, answer)
        assert float(mebibytes) < 500 and float(seconds) < 30, (kind, mebibytes, seconds)


def test_a_deep_value_is_refused_and_freed(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        weights.read_weights(damaged(tmp_path / "m.pt", chain(10**6)))


class Call:
    """Pickled, asks to call a function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def test_any_value_may_be_a_key(tmp_path: Path) -> None:
    torch.save({"model": {(1, (2, 3)): 4, frozenset({5}): 6}}, tmp_path / "m.pt")
    with open_checkpoint(tmp_path / "m.pt") as content:
        assert [key.args for key in content["model"]] == [((1, (2, 3)),), (frozenset({5}),)]
    with pytest.raises(DataError, match="Record"):
        pickle_records.read_plain(tmp_path / "m.pt")


def test_of_two_pickles_none_is_chosen(tmp_path: Path) -> None:
    path = damaged(tmp_path / "m.pt", b"\x80\x02}.")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("m/data.pkl", b"\x80\x02].")
    with pytest.raises(DataError, match="damaged"), open_checkpoint(path):
        pass


def test_layers_are_not_constructed_from_a_file(
    model: DetectionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Linear(25000, 25000)` would take 2.5 GB, `TorchVision(...)` and a distilled model's teacher the network."""
    from ultralytics.nn.modules.block import TorchVision

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("constructed")

    calls = [Call(nn.Linear, 25_000, 25_000), Call(TorchVision, "resnet18", "DEFAULT")]
    for number, call in enumerate(calls):
        path = tmp_path / f"{number}.pt"
        torch.save({"model": call, "more": call}, path)
        with monkeypatch.context() as patch:
            patch.setattr(nn.Linear, "__init__", refuse)
            patch.setattr(TorchVision, "__init__", refuse)
            with pytest.raises(DataError, match=r"Linear|TorchVision"):
                weights.read_weights(path)


def test_hooks_of_a_state_dict_do_not_run(model: DetectionModel, tmp_path: Path) -> None:
    """Code made of permitted layers alone: a state dict's hook that makes Ultralytics evaluate an activation."""
    mark = tmp_path / "ran"
    evil = {
        "nc": 1,
        "activation": f"open({str(mark)!r}, 'w')",
        "backbone": [[-1, 1, "Conv", [8, 3, 2]]],
        "head": [],
    }
    hook: Any = nn.Sequential()
    vars(hook)["_forward_pre_hooks"] = collections.OrderedDict({0: Call(getattr, Index, "forward")})
    vars(hook)["_modules"] = {"0": Index("version"), "1": DetectionModel}  # type: ignore[no-untyped-call]
    carrier: Any = DetectionModel.__new__(DetectionModel)
    nn.Module.__init__(carrier)
    vars(carrier).update(_version=evil, yaml=model.yaml, names={0: "a"})
    vars(carrier)["_state_dict_hooks"] = collections.OrderedDict({0: hook})
    torch.save({"model": carrier}, tmp_path / "evil.pt")
    with pytest.raises(DataError):
        weights.read_weights(tmp_path / "evil.pt")
    assert not mark.exists()


def test_tensors_that_share_storage_do_not_multiply(tmp_path: Path) -> None:
    """A megabyte seen as a thousand tensors is a gigabyte once each is copied."""
    shared = torch.zeros(2**18)
    layer = nn.Module()
    for number in range(1000):
        layer.register_buffer(f"b{number}", shared)
    evil: Any = zoo.build_model("yolov5n", 2, ["a", "b"])
    evil.model[0].add_module("more", layer)
    torch.save({"model": evil}, tmp_path / "m.pt")
    with pytest.raises(DataError, match="share storage"):
        weights.read_weights(tmp_path / "m.pt")


def test_old_formats_are_named(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(DataError, match=r"format from before version 1\.6"):
        weights.read_weights(tmp_path / "old.pt")


def test_an_archive_that_claims_more_than_it_is(tmp_path: Path) -> None:
    path = damaged(tmp_path / "m.pt", b"\x80\x02N.")
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 20 : at + 28] = struct.pack("<II", 2**31, 2**31)  # sizes in the directory
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a PyTorch checkpoint"):
        weights.read_weights(path)
