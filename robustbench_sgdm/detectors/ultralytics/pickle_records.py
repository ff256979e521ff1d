"""A `.pt` file as data: its pickle is read as records, and nothing that it names is imported, constructed or called.

`core.pickles` reads the pickle. Tensors become `TensorRecord`s that know where their bytes lie;
`TensorRecord.load` copies them out once their shape has been checked against the file.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.pickles import Functions, Global, Stateless, read_records, require_type
from robustbench_sgdm.core.untrusted_input import short_repr

MAX_OPERATIONS = 2_000_000
"""Pickle operations of a file. The largest detector that Ultralytics publishes takes a tenth of it."""

_MAX_PICKLE = 32 * 2**20  # bytes
_MAX_DIMENSIONS = 64
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_NOT_A_CHECKPOINT = "not a PyTorch checkpoint, or damaged; download or copy it again"
_TORCHSCRIPT = "a TorchScript archive, which runs code when loaded; give the .pt that it was exported from"
_OLD_FORMAT = (
    "in PyTorch's format from before version 1.6, which is not read here; where you trust the file, save it again: "
    "torch.save(torch.load('old.pt', weights_only=False), 'new.pt')"
)


@dataclass(frozen=True, eq=False, slots=True)
class Storage:
    """A flat array of bytes in the archive."""

    archive: Archive = field(repr=False)
    key: str
    dtype: torch.dtype | None
    count: int

    def load(self) -> Tensor:
        """Its bytes, as uint8; read once."""
        return self.archive.storage(self.key)


@dataclass(frozen=True, eq=False, slots=True)
class TensorRecord(Stateless):
    """A tensor that a pickle would rebuild: a strided view of a storage. Nothing in it is checked before `load`."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its values, each counted once for every place that the shape gives it."""
        return math.prod(self.size) * self.dtype.itemsize

    def load(self) -> Tensor:
        """The tensor, on the CPU.

        Raises:
            ValueError: its shape is not one that its storage can have.
        """
        content = self.storage.load()
        values = content[: len(content) // self.dtype.itemsize * self.dtype.itemsize].view(self.dtype)
        numbers = (self.offset, *self.size, *self.stride)
        if len(self.size) != len(self.stride) or min(numbers) < 0:
            raise ValueError(f"its shape {short_repr(self.size)} is damaged")
        last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        count = math.prod(self.size)
        if count and (last >= len(values) or count > len(values)):
            raise ValueError(f"claims a shape of {short_repr(self.size)}, more than the file holds")
        if not count:
            return torch.empty(self.size, dtype=self.dtype)
        return values.as_strided(self.size, self.stride, self.offset)


class Archive:
    """The zip file that `torch.save` writes: a pickle and the storages that it refers to.

    Raises:
        DataError: not such a file, compressed, or larger inside than outside; without the path.
    """

    def __init__(self, file: zipfile.ZipFile, size: int) -> None:
        self._file = file
        self._loaded: dict[str, Tensor] = {}
        entries = file.infolist()
        names = {entry.filename for entry in entries}
        script = any("/code/" in name for name in names)
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise DataError(
                _TORCHSCRIPT
                if script
                else "holds compressed entries, which torch.save does not write; save it again with torch"
            )
        if script:
            raise DataError(_TORCHSCRIPT)
        pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if (
            len(pickles) != 1
            or len(names) != len(entries)
            or sum(entry.file_size for entry in entries) > size
        ):
            raise DataError(_NOT_A_CHECKPOINT)
        self._root = pickles[0].partition("/")[0]
        if f"{self._root}/byteorder" in names and self._read("byteorder") != b"little":
            raise DataError(
                "written on a big-endian machine, which is not read here; save it again elsewhere"
            )
        self.pickle = self._read("data.pkl", _MAX_PICKLE)

    def storage(self, key: str) -> Tensor:
        """The bytes of a storage, as uint8; every tensor that views it shares them.

        Raises:
            ValueError: the archive has none of that name.
        """
        if key not in self._loaded:
            try:
                content = bytearray(self._read(f"data/{key}"))
            except KeyError:
                raise ValueError(f"its storage {short_repr(key)} is missing from the file") from None
            self._loaded[key] = (
                torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
            )
        return self._loaded[key]

    def _read(self, name: str, most: int | None = None) -> bytes:
        entry = self._file.getinfo(f"{self._root}/{name}")
        if most is not None and entry.file_size > most:
            raise DataError(f"its pickle has {entry.file_size:,} bytes; the limit is {most:,}")
        return self._file.read(entry)


@contextmanager
def open_checkpoint(path: Path | BinaryIO) -> Iterator[Any]:
    """What a file of `torch.save`, or an open one, holds: plain values, `Global`s, `Record`s and `TensorRecord`s.

    Tensors can be loaded until the context ends.

    Raises:
        DataError: missing, damaged, of another format, or beyond the bounds above; without the path.
    """
    try:
        size = _size(path)
        if not zipfile.is_zipfile(path):
            raise DataError(_format_of(path))
        with zipfile.ZipFile(path) as file:
            archive = Archive(file, size)
            yield read_records(
                io.BytesIO(archive.pickle),
                functions=_FUNCTIONS,
                persistent=partial(_storage_of, archive),
                max_operations=MAX_OPERATIONS,
                damaged=_NOT_A_CHECKPOINT,
            )
    except DataError:
        raise
    except (OSError, zipfile.BadZipFile, RuntimeError, EOFError, NotImplementedError) as error:
        raise DataError(_NOT_A_CHECKPOINT) from error


def read_plain(path: Path | BinaryIO) -> Any:
    """A file, or an open one, of plain containers and tensors, with every tensor loaded.

    Raises:
        DataError: as `open_checkpoint`, or it holds anything else.
    """
    with open_checkpoint(path) as content:
        budget = 2 * _size(path)
        try:
            return _plain(content, [budget], 0)
        except ValueError as error:
            raise DataError(str(error)) from error


def _plain(value: Any, budget: list[int], depth: int) -> Any:
    if depth > 50:
        raise ValueError("its values are nested deeper than 50")
    if isinstance(value, TensorRecord):
        budget[0] -= value.nbytes
        if budget[0] < 0:
            raise ValueError("its tensors claim more than the file holds")
        return value.load().clone()
    if isinstance(value, dict):
        return {_plain(key, budget, depth): _plain(one, budget, depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        parts = [_plain(one, budget, depth + 1) for one in value]
        return parts if isinstance(value, list) else tuple(parts)
    if value is None or isinstance(value, str | int | float | bytes):
        return value
    raise ValueError(f"holds {short_repr(value)}, which is not a plain value")


def _size(path: Path | BinaryIO) -> int:
    return (path.stat() if isinstance(path, Path) else os.fstat(path.fileno())).st_size


def _format_of(path: Path | BinaryIO) -> str:
    """Why a file that is not a zip is not read."""
    if isinstance(path, Path):
        with path.open("rb") as file:
            return _format_of(file)
    path.seek(0)
    head = path.read(16)
    if head == b"version https://":
        return "a pointer of Git LFS, not the file; fetch it with `git lfs pull`"
    # A pickled long, the magic number of torch's old format.
    return _OLD_FORMAT if head[2:14] == b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19" else _NOT_A_CHECKPOINT


def _storage_of(archive: Archive, persistent_id: Any) -> Storage:
    kind, cls, key, _location, count = persistent_id
    if kind != "storage":
        raise ValueError(f"{short_repr(kind)} in the place of a storage")
    dtype = _DTYPES.get(require_type(Global, cls).path.rpartition(".")[2])
    return Storage(archive, require_type(str, key), dtype, require_type(int, count))


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any, dtype: Any = None) -> TensorRecord:
    """As `torch._utils._rebuild_tensor_v2`."""
    storage = require_type(Storage, storage)
    kind = dtype or storage.dtype
    if kind is None:
        raise ValueError("a tensor without a type")
    if max(len(require_type(tuple, size)), len(require_type(tuple, stride))) > _MAX_DIMENSIONS:
        raise ValueError(f"a tensor of more than {_MAX_DIMENSIONS} dimensions")
    shape = [tuple(require_type(int, n) for n in part) for part in (size, stride)]
    return TensorRecord(storage, kind, require_type(int, offset), shape[0], shape[1])


def _typed_tensor(*args: Any) -> TensorRecord:
    """As `torch._utils._rebuild_tensor_v3`: the storage is untyped, and the type is an argument of its own."""
    storage, offset, size, stride, _grad, _hooks, dtype, *_ = args
    kind = getattr(torch, require_type(Global, dtype).path.removeprefix("torch."), None)
    return _tensor(storage, offset, size, stride, dtype=require_type(torch.dtype, kind))


def _subclass_tensor(function: Any, _cls: Any, args: Any, _state: Any) -> Any:
    """As `torch._tensor._rebuild_from_type_v2`: a tensor of a subclass, or with attributes of its own."""
    path = require_type(Global, function).path
    if path not in _TENSORS:
        raise ValueError(f"a tensor made by {short_repr(path)}")
    return _FUNCTIONS[path](*require_type(tuple, args)[:_MAX_DIMENSIONS])


_TENSORS = frozenset(
    f"torch._utils._rebuild_{name}"
    for name in ("tensor", "tensor_v2", "tensor_v3", "parameter", "parameter_with_state")
)
_FUNCTIONS: Functions = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "torch._tensor._rebuild_from_type_v2": _subclass_tensor,
    "torch.Size": lambda sizes: require_type(tuple, sizes),
}
