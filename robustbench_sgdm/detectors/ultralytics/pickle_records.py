"""A `.pt` file as data: its pickle is read as records, and nothing that it names is imported, constructed or called.

A pickle is a program for a small stack machine that may call any function it names. This machine keeps the stack,
the plain values and the containers, and writes down every call as a `Record`. Tensors become `TensorRecord`s that
know where their bytes lie; `TensorRecord.load` copies them out once their shape has been checked against the file.
"""

from __future__ import annotations

import io
import math
import os
import pickletools
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.untrusted_input import short_repr

MAX_OPERATIONS = 2_000_000
"""Pickle operations of a file. The largest detector that Ultralytics publishes takes a tenth of it."""

_MAX_PICKLE = 32 * 2**20  # bytes
_MAX_COPIED = 32 * 2**20  # bytes, about, that calls may copy: what is copied, a file may name without end
_MAX_DIMENSIONS = 64
_MAX_INTEGER = 2**64  # larger ones serve no checkpoint, and their hashes can be made to collide
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


@dataclass(frozen=True, slots=True)
class Global:
    """A class or function that a pickle names, `module.name`; never imported."""

    path: str


@dataclass(eq=False, slots=True)
class Record:
    """An object that a pickle would construct.

    Attributes:
        path: of the class or function, `module.name`.
        args: what it would be called with.
        state: what its `__setstate__` or `__dict__` would be given; None if nothing.
        items: entries that would be set or appended.
    """

    path: str
    args: Any = field(default=(), repr=False)  # a record can hold itself, and share parts without end
    state: Any = field(default=None, repr=False)
    items: list[Any] = field(default_factory=list, repr=False)

    @property
    def name(self) -> str:
        """The class's own name."""
        return self.path.rpartition(".")[2]

    def attributes(self) -> dict[str, Any]:
        """The instance's attributes by name; empty where the state is not such a dict."""
        state = self.state[0] if isinstance(self.state, tuple) and self.state else self.state
        return {k: v for k, v in state.items() if isinstance(k, str)} if isinstance(state, dict) else {}


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
class TensorRecord:
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
            raise DataError(f"its pickle has {entry.file_size:,} bytes, may have {most:,}")
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
            yield _PickleMachine(archive).run(archive.pickle)
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


_MARK = object()


class _PickleMachine:
    """Runs a pickle's operations on a stack of plain values and records.

    A pickle is a program, so it is bounded like one: in operations, and in what its calls copy. A call may name the same
    large argument again and again, and each operation alone is small.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._copied = 0

    def run(self, content: bytes) -> Any:
        """The object that the pickle describes.

        Raises:
            DataError: damaged, or more than `MAX_OPERATIONS`.
        """
        try:
            for number, (operation, argument, _) in enumerate(pickletools.genops(io.BytesIO(content))):
                if number > MAX_OPERATIONS:
                    raise DataError(f"its pickle has more than {MAX_OPERATIONS:,} operations")
                if operation.name == "STOP":
                    return self._stack.pop()
                if operation.name in _LITERALS:
                    self._stack.append(_literal(argument))
                elif operation.name in _MAKE:
                    self._stack.append(_MAKE[operation.name]())
                else:
                    getattr(self, f"_{operation.name.lower()}")(argument)
        except DataError:
            raise
        except Exception as error:  # whatever the operations of a damaged file provoke
            raise DataError(
                f"{_NOT_A_CHECKPOINT} ({type(error).__name__}: {short_repr(str(error))})"
            ) from error
        raise DataError(_NOT_A_CHECKPOINT)

    def _above_mark(self) -> list[Any]:
        at = len(self._stack) - 1
        while self._stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("no mark")
        values = self._stack[at + 1 :]
        del self._stack[at:]
        return values

    # What follows is named for the operations of pickletools.

    def _proto(self, _: Any) -> None: ...

    def _frame(self, _: Any) -> None: ...

    def _mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def _pop(self, _: Any) -> None:
        self._stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._above_mark()

    def _dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    _binput = _long_binput = _put

    def _get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    _binget = _long_binget = _get

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._above_mark()))

    def _list(self, _: Any) -> None:
        self._stack.append(self._above_mark())

    def _dict(self, _: Any) -> None:
        values = self._above_mark()
        self._stack.append({})
        self._set_items(values)

    def _frozenset(self, _: Any) -> None:
        self._stack.append(frozenset(map(_key, self._above_mark())))

    def _tuple1(self, _: Any) -> None:
        self._join(1)

    def _tuple2(self, _: Any) -> None:
        self._join(2)

    def _tuple3(self, _: Any) -> None:
        self._join(3)

    def _join(self, count: int) -> None:
        values = tuple(self._stack[-count:])
        if len(values) < count or _MARK in values:
            raise ValueError("stack too short")
        self._stack[-count:] = [values]

    def _append(self, _: Any) -> None:
        self._extend([self._stack.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._above_mark())

    def _extend(self, values: list[Any]) -> None:
        whole = self._stack[-1]
        (whole.items if isinstance(whole, Record) else _of(list, whole)).extend(values)

    def _additems(self, _: Any) -> None:
        values = self._above_mark()
        _of(set, self._stack[-1]).update(map(_key, values))

    def _setitem(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_items([key, value])

    def _setitems(self, _: Any) -> None:
        self._set_items(self._above_mark())

    def _set_items(self, values: list[Any]) -> None:
        whole = self._stack[-1]
        pairs = zip(values[::2], values[1::2], strict=True)
        if isinstance(whole, Record):
            whole.items.extend(pairs)
        else:
            _of(dict, whole).update((_key(key), value) for key, value in pairs)

    def _global(self, text: str) -> None:
        self._stack.append(_global(*text.split(" ", 1)))

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(_global(_of(str, module), _of(str, name)))

    def _reduce(self, _: Any) -> None:
        args, function = self._stack.pop(), self._stack.pop()
        path = function.path if isinstance(function, Global) else f"a call of {short_repr(function)}"
        args = _of(tuple, args)
        if path in _REBUILD:
            self._count_copied(args)
        self._stack.append(_REBUILD[path](*args) if path in _REBUILD else Record(path, args))

    def _count_copied(self, args: tuple[Any, ...]) -> None:
        """What a call copies of its arguments, 8 bytes for each part of a container."""
        self._copied += 8 * len(args)
        for part in args if self._copied <= _MAX_COPIED else ():
            if isinstance(part, str | bytes | list | dict | set | frozenset):
                self._copied += len(part) * (1 if isinstance(part, str | bytes) else 8)
        if self._copied > _MAX_COPIED:
            raise DataError("its pickle copies more than any checkpoint does")

    def _newobj(self, _: Any) -> None:
        args, cls = self._stack.pop(), self._stack.pop()
        self._stack.append(Record(_of(Global, cls).path, args))

    def _newobj_ex(self, _: Any) -> None:
        named, args, cls = self._stack.pop(), self._stack.pop(), self._stack.pop()
        self._stack.append(Record(_of(Global, cls).path, (args, named)))

    def _inst(self, text: str) -> None:
        self._stack.append(Record(_global(*text.split(" ", 1)).path, tuple(self._above_mark())))

    def _obj(self, _: Any) -> None:
        cls, *args = self._above_mark()
        self._stack.append(Record(_of(Global, cls).path, tuple(args)))

    def _build(self, _: Any) -> None:
        state, whole = self._stack.pop(), self._stack[-1]
        if isinstance(whole, Record):
            whole.state = state
        elif not isinstance(whole, dict | TensorRecord):
            # A state dict's version numbers; a parameter's hooks.
            raise ValueError(f"a {type(whole).__name__} has no state")

    def _binpersid(self, _: Any) -> None:
        kind, cls, key, _location, count = self._stack.pop()
        if kind != "storage":
            raise ValueError(f"{short_repr(kind)} in the place of a storage")
        dtype = _DTYPES.get(_of(Global, cls).path.rpartition(".")[2])
        self._stack.append(Storage(self._archive, _of(str, key), dtype, _of(int, count)))


_MAKE: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_LITERALS = frozenset(
    {
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
    }
    | {"SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
    | {"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
)


def _global(module: str, name: str) -> Global:
    """Under the module's name in Python 3; torch.save writes Python 2's, as pickle does in protocol 2."""
    return Global(f"{_PYTHON_2.get(module, module)}.{name}")


def _literal(value: Any) -> Any:
    if isinstance(value, int) and not -_MAX_INTEGER < value < _MAX_INTEGER:
        raise ValueError("an integer of more than 64 bits")
    return bytes(value) if isinstance(value, bytearray) else value


def _of(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} in the place of a {kind.__name__}")
    return value


def _key(value: Any) -> Any:
    """A value that can be hashed at a bounded cost; another, such as a tuple, inside a record."""
    plain = value is None or isinstance(value, str | int | float | bytes | Global | Record)
    return value if plain else Record(f"{type(value).__module__}.{type(value).__qualname__}", (value,))


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any, dtype: Any = None) -> TensorRecord:
    """As `torch._utils._rebuild_tensor_v2`."""
    storage = _of(Storage, storage)
    kind = dtype or storage.dtype
    if kind is None:
        raise ValueError("a tensor without a type")
    if max(len(_of(tuple, size)), len(_of(tuple, stride))) > _MAX_DIMENSIONS:
        raise ValueError(f"a tensor of more than {_MAX_DIMENSIONS} dimensions")
    shape = [tuple(_of(int, n) for n in part) for part in (size, stride)]
    return TensorRecord(storage, kind, _of(int, offset), shape[0], shape[1])


def _typed_tensor(*args: Any) -> TensorRecord:
    """As `torch._utils._rebuild_tensor_v3`: the storage is untyped, and the type is an argument of its own."""
    storage, offset, size, stride, _grad, _hooks, dtype, *_ = args
    kind = getattr(torch, _of(Global, dtype).path.removeprefix("torch."), None)
    return _tensor(storage, offset, size, stride, dtype=_of(torch.dtype, kind))


def _of_type(function: Any, _cls: Any, args: Any, _state: Any) -> Any:
    """As `torch._tensor._rebuild_from_type_v2`: a tensor of a subclass, or with attributes of its own."""
    path = _of(Global, function).path
    if path not in _TENSORS:
        raise ValueError(f"a tensor made by {short_repr(path)}")
    return _REBUILD[path](*_of(tuple, args)[:_MAX_DIMENSIONS])


def _pairs(items: Any = (), *_: Any) -> dict[Any, Any]:
    return {_key(key): value for key, value in (items.items() if isinstance(items, dict) else items)}


def _path(*parts: Any) -> str:
    return "/".join(_of(str, part).rstrip("/\\") for part in parts)


_TENSORS = frozenset(
    f"torch._utils._rebuild_{name}"
    for name in ("tensor", "tensor_v2", "tensor_v3", "parameter", "parameter_with_state")
)
_REBUILD: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch.Size": lambda sizes: _of(tuple, sizes),
    "collections.OrderedDict": _pairs,
    "_codecs.encode": lambda text, _: _of(str, text).encode("latin1"),
    "builtins.bytes": lambda: b"",
    "builtins.set": lambda values=(): set(map(_key, values)),
    "builtins.frozenset": lambda values=(): frozenset(map(_key, values)),
    "builtins.dict": _pairs,
    "collections.defaultdict": lambda *_: {},
    "builtins.list": lambda values=(): list(_of(list, values)),
    "copyreg._reconstructor": lambda cls, *_: Record(_of(Global, cls).path),
    **{f"{home}.{name}": _path for home in ("pathlib", "pathlib._local") for name in (
        "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath",
    )},
}  # fmt: skip
