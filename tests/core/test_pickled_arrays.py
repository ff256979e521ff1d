"""Arrays in pickles are made of their bytes once what they claim was checked; nothing that a pickle names runs."""

import os
import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustbench_sgdm.core import pickled_arrays
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.pickled_arrays import ArrayReader, read_pickle
from robustbench_sgdm.core.pickles import Record

PROTOCOLS = range(2, 6)
whole = np.arange(24, dtype=np.float32).reshape(4, 6)
ARRAYS: dict[str, Any] = {
    "boxes": whole[:, :5].copy(),
    "none": np.zeros((0, 5), np.float32),
    "by columns": np.asfortranarray(whole),
    "view": whole[::2, 1:4],
    "of none": np.array(2.5),
    "big-endian": np.arange(5, dtype=">i4"),
    "half": np.arange(3, dtype=np.float16),
    "double": np.array([0.1, np.nan, np.inf]),
    "labels": np.array([3, 255], np.uint8),
    "scalar": np.float64(0.364),
    "small scalar": np.float32(0.364),
    "whole scalar": np.int64(7),
}
tensor = torch.arange(20.0).view(4, 5)
TENSORS: dict[str, Any] = {
    "boxes": tensor[:, :4],
    "scores": tensor[:, 4],
    "labels": torch.tensor([3, 1, 2]),
    "none": torch.zeros(0, 4),
    "turned": tensor.T,
    "half": tensor.half(),
    "small": torch.tensor([1, 2], dtype=torch.uint8),
    "one": tensor[1, 2],
}


def write(path: Path, content: bytes) -> Any:
    """What a file of these bytes holds, and its reader."""
    path.write_bytes(content)
    return read_pickle(path), ArrayReader(len(content))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("values", [ARRAYS, TENSORS], ids=["numpy", "torch"])
def test_arrays_are_read_as_they_were_written(tmp_path: Path, protocol: int, values: dict[str, Any]) -> None:
    content, reader = write(tmp_path / "a.pkl", pickle.dumps(values, protocol))
    for name, value in values.items():
        expected, array = np.asarray(value), reader.read(content[name])
        assert array.dtype == expected.dtype and array.shape == expected.shape, name
        assert array.tobytes() == expected.tobytes(), name


def test_numbers_are_plain(tmp_path: Path) -> None:
    values = [np.float64(0.364), np.array([7]), "0.364", 3, None]
    content, reader = write(tmp_path / "a.pkl", pickle.dumps(values))
    assert [reader.read_plain(one) for one in content] == [0.364, 7, "0.364", 3, None]
    with pytest.raises(ValueError, match=r"shape \(2,\) in the place of a number"):
        reader.read_plain(write(tmp_path / "a.pkl", pickle.dumps(np.zeros(2)))[0])


def test_nothing_that_a_pickle_names_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    watched, events = True, []
    sys.addaudithook(lambda event, _: events.append(event) if watched else None)
    content, reader = write(tmp_path / "a.pkl", pickle.dumps([Evil(), ARRAYS["boxes"]]))
    with pytest.raises(ValueError, match=r"holds a '\w+\.system' in the place of an array"):
        reader.read(content[0])
    reader.read(content[1])
    watched = False
    assert isinstance(content[0], Record) and not (tmp_path / "ran").exists()
    assert not {"import", "pickle.find_class", "exec", "compile", "os.system"} & set(events)


def state(shape: Any = (2, 5), dtype: Any = "f4", content: Any = b"\0" * 40, order: Any = False) -> bytes:
    """A pickle of an array with a state of one's own."""
    array: Any = np.zeros((2, 5), np.float32)
    reconstruct, args, (version, *_) = array.__reduce__()

    class Own:
        def __reduce__(self) -> Any:
            return reconstruct, args, (version, shape, np.dtype(dtype), order, content)

    return pickle.dumps(Own())


class OfClass(np.ndarray[Any, Any]):
    """An array that another class reads."""


REFUSED = {
    "a huge shape": (state((2**40, 5)), r"claims an array of shape \(1099511627776, 5\)"),
    "a product beyond any number": (state((2**63,) * 30), "claims an array of shape"),
    "no values of a huge shape": (state((0, 2**63), content=b""), "Maximum allowed|claims"),
    "a shape below zero": (state((-2, -5)), r"claims a shape of \(-2, -5\)"),
    "more bytes": (
        state(content=b"\0" * 44),
        "claims an array of shape .2, 5. of float32, and holds 44 bytes",
    ),
    "too many dimensions": (state((1,) * 33 + (10,)), "claims a shape"),
    "a shape that is a text": (state("2, 5"), "claims a shape"),
    "a shape of truths": (state((True, True)), "claims a shape"),
    "a number as bytes": (state(content=40), "in the place of a bytes"),
    "objects": (pickle.dumps(np.array([None, "a"], object)), "of type 'O8'; only plain numbers"),
    "objects of bytes": (state(dtype=object), "of type 'O8'; only plain numbers"),
    "fields": (pickle.dumps(np.zeros(2, [("a", "f4")])), "of type 'V4'; only plain numbers"),
    "dates": (pickle.dumps(np.zeros(2, "M8[s]")), "of type 'M8'; only plain numbers"),
    "complex numbers": (pickle.dumps(np.zeros(2, complex)), "of type 'c16'; only plain numbers"),
    "another class": (pickle.dumps(np.zeros(2).view(OfClass)), "array of the class"),
    "a masked array": (pickle.dumps(np.ma.ones(2)), r"ma\.core\._mareconstruct'? in the place"),
    "a list": (pickle.dumps([1, 2]), r"holds \[1, 2\] in the place of an array"),
    "bfloat16": (
        pickle.dumps(torch.zeros(2).bfloat16()),
        r"tensor of type 'torch\.BFloat16Storage'; save it",
    ),
    "an expanded tensor": (pickle.dumps(torch.zeros(1).expand(10**9)), "claims a tensor of shape"),
    "a sparse tensor": (pickle.dumps(torch.zeros(2).to_sparse()), "in the place of an array"),
    "a parameter": (pickle.dumps(torch.nn.Parameter(torch.zeros(2))), "_rebuild_parameter"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_arrays_are_refused_in_words(tmp_path: Path, kind: str) -> None:
    content, reader = write(tmp_path / "a.pkl", REFUSED[kind][0])
    with pytest.raises(ValueError, match=REFUSED[kind][1]) as caught:
        reader.read(content)
    assert len(str(caught.value)) < 400


def test_what_a_storage_of_torch_claims_is_checked(tmp_path: Path) -> None:
    sound = pickle.dumps(torch.arange(4.0), 5)
    at = sound.index(struct.pack("<q", 4) + struct.pack("<f", 0))
    for old, new in (
        (sound[at : at + 8], struct.pack("<q", 2**40)),
        (b"K\x04Nt", b"K\x07Nt"),
        (b"little_endianq\x02\x88", b"little_endianq\x02\x89"),
        (b"M\xe9\x03.", b"M\xea\x03."),
        (pickled_arrays._TORCH_MAGIC, b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x18."),
        (b"FloatStorage", b"EvilsStorage"),
    ):
        assert sound.count(old) == 1
        content, reader = write(tmp_path / "a.pkl", sound.replace(old, new))
        with pytest.raises(ValueError, match=r"tensor (in a format|of type)|values, and holds"):
            reader.read(content)


def test_arrays_that_repeat_do_not_multiply(tmp_path: Path) -> None:
    array = np.zeros((10_000, 5), np.float32)
    content, reader = write(tmp_path / "a.pkl", pickle.dumps([array] * 1000))
    with pytest.raises(ValueError, match="repeat each other"):
        for one in content:
            reader.read(one)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02]",
        b"[1, 2]",
        b"\x80\x04\x8e" + struct.pack("<Q", 10**12) + b"x.",
        b"\x80\x02\x82\x01.",
        b"\x80\x05\x97.",
        b"\x80\x02X\x01\0\0\0aQ.",
        pickle.dumps(torch.zeros(2), 2)[:-9],
    ],
)
def test_what_is_no_pickle_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.pkl cannot be read: not a pickle, or damaged"):
        read_pickle(tmp_path / "a.pkl")


def test_a_deep_pickle_is_read_and_freed(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02)" + b"\x85" * 10**5 + b".")
    content = read_pickle(tmp_path / "a.pkl")
    with pytest.raises(ValueError, match="in the place of an array"):
        ArrayReader(10**5).read(content)


def test_a_call_does_not_copy_without_end(tmp_path: Path) -> None:
    text = b"X" + struct.pack("<I", 2**20) + b"a" * 2**20
    call = b"c_codecs\nencode\nq\x01" + text + b"N\x86q\x02(" + b"h\x01h\x02R" * 10_000 + b"l."
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02" + call)
    with pytest.raises(DataError, match="copies more than any such file does"):
        read_pickle(tmp_path / "a.pkl")
