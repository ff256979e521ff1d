"""Files of `pickle.dump` as data: containers and plain values as they are, arrays of numpy and torch from their bytes.

`core.pickles` writes calls down as records. What the records of arrays claim is checked against the bytes that they hold
before an array is made of them; no code of numpy's or torch's unpickling runs.
"""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.pickles import MAX_COPIED, Global, Record, read_records, require_type
from robustbench_sgdm.core.untrusted_input import read_bytes, short_repr

_SPARE = 1_000_000  # of a budget: what sharing in small files may cost, microseconds each
_MAX_DIMENSIONS = 32
_DTYPES = frozenset(
    {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)} | {f"f{size}" for size in (2, 4, 8)}
)
_STORAGES = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "<i1",
    "torch.ByteStorage": "<u1",
}
# A pickled whole number, with which torch's format from before version 1.6 begins; of 77 bits, so that it is not read.
_TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def read_pickle(path: Path) -> Any:
    """What a pickle holds: plain values, containers, `Global`s and `Record`s, which `ArrayReader` makes arrays of.

    Raises:
        DataError: the file is missing, damaged or no pickle.
    """
    content = read_bytes(path)
    try:
        # Protocol 2 writes bytes as calls that decode text, at most as long as the file.
        return read_records(io.BytesIO(content), max_copied=MAX_COPIED + 2 * len(content))
    except DataError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


class ArrayReader:
    """Makes arrays of the records of one pickle.

    A file may name one array again and again: what is read is counted each time, and must be about as much as the file
    holds.

    Args:
        size: of the file, bytes.
    """

    def __init__(self, size: int) -> None:
        self._left = size + _SPARE
        self._storages: dict[int, tuple[Record, NDArray[Any]]] = {}  # by the record's identity

    def read(self, value: Any) -> NDArray[Any]:
        """An array of numpy, or a tensor of torch as one; of plain numbers.

        Raises:
            ValueError: something else, of another type, with a shape that its bytes cannot have, or more than the file
                holds; in words for a message.
        """
        try:
            array = self._array(value)
        except (TypeError, OverflowError) as error:
            raise ValueError(f"an array is damaged ({error})") from error
        self._left -= 1 + array.nbytes
        if self._left < 0:
            raise ValueError("its arrays repeat each other, and are more than the file holds")
        return array

    def read_plain(self, value: Any) -> Any:
        """The number that an array of one or a numpy scalar is; any other value as it is."""
        if not isinstance(value, Record):
            return value
        if (array := self.read(value)).size != 1:
            raise ValueError(f"holds an array of shape {short_repr(array.shape)} in the place of a number")
        return array.item()

    def _array(self, value: Any) -> NDArray[Any]:
        path = value.path.replace("numpy._core.", "numpy.core.") if isinstance(value, Record) else None
        if path == "numpy.core.multiarray._reconstruct":
            cls = require_type(Global, *_parts(value.args, 1)).path
            if cls != "numpy.ndarray":
                raise ValueError(f"holds an array of the class {short_repr(cls)}, which is not read")
            _version, shape, dtype, by_columns, content = _parts(value.state, 5)
            return _from_bytes(content, dtype, shape, "F" if by_columns else "C")
        if path == "numpy.core.numeric._frombuffer":
            content, dtype, shape, order = _parts(value.args, 4)
            return _from_bytes(content, dtype, shape, order)
        if path == "numpy.core.multiarray.scalar":
            dtype, content = _parts(value.args, 2)
            return _from_bytes(content, dtype, (), "C")
        if path == "torch._utils._rebuild_tensor_v2":
            return self._tensor(*_parts(value.args, 4))
        what = f"a {short_repr(value.path)}" if isinstance(value, Record) else short_repr(value)
        raise ValueError(f"holds {what} in the place of an array")

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any) -> NDArray[Any]:
        """As `torch._utils._rebuild_tensor_v2`: a view of a storage."""
        if require_type(Record, storage).path != "torch.storage._load_from_bytes":
            raise ValueError(f"holds a tensor of {short_repr(storage.path)}, which is not read")
        if id(storage) not in self._storages:
            self._storages[id(storage)] = storage, _read_storage(*_parts(storage.args, 1))
        values = self._storages[id(storage)][1]
        shape, steps = _whole_numbers(size), _whole_numbers(stride)
        if len(shape) != len(steps):
            raise ValueError("a tensor is damaged")
        last = require_type(int, offset) + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
        if not (count := math.prod(shape)):
            return np.empty(shape, values.dtype)
        if offset < 0 or last >= len(values) or count > len(values):
            raise ValueError(f"claims a tensor of shape {short_repr(shape)}, more than the file holds")
        strides = [step * values.itemsize for step in steps]
        return np.lib.stride_tricks.as_strided(values[offset:], shape, strides, writeable=False)


def _from_bytes(content: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    if isinstance(content, str):  # bytes of Python 2
        content = content.encode("latin1")
    kind, shape = _dtype(dtype), _whole_numbers(shape)
    if math.prod(shape) * kind.itemsize != len(require_type(bytes, content)):
        raise ValueError(
            f"claims an array of shape {short_repr(shape)} of {kind.name}, and holds {len(content):,} bytes"
        )
    if order not in {"C", "F"}:
        raise ValueError(f"an array is damaged (order {short_repr(order)})")
    return np.frombuffer(content, kind).reshape(shape, order=order) if content else np.empty(shape, kind)


def _dtype(record: Any) -> np.dtype[Any]:
    """As `numpy.dtype`'s unpickling, of plain numbers alone."""
    if require_type(Record, record).path != "numpy.dtype":
        raise ValueError(f"holds an array of type {short_repr(record.path)}, which is not read")
    (code,) = _parts(record.args, 1)
    if not isinstance(code, str) or code not in _DTYPES:
        raise ValueError(f"holds an array of type {short_repr(code)}; only plain numbers are read")
    order = record.state[1] if isinstance(record.state, tuple) and len(record.state) > 1 else "="
    return np.dtype((order if order in {"<", ">"} else "=") + code)


def _parts(values: Any, count: int) -> tuple[Any, ...]:
    """The first of a call's arguments, or of a state."""
    if not isinstance(values, tuple) or len(values) < count:
        raise ValueError("an array is damaged")
    return values[:count]


def _whole_numbers(values: Any) -> tuple[int, ...]:
    """A shape or strides."""
    if not isinstance(values, tuple) or len(values) > _MAX_DIMENSIONS:
        raise ValueError(f"claims a shape of {short_repr(values)}")
    if any(type(n) is not int or n < 0 for n in values):
        raise ValueError(f"claims a shape of {short_repr(values)}")
    return values


def _read_storage(content: Any) -> NDArray[Any]:
    """A storage that torch pickled: its format from before version 1.6, with four small pickles before the bytes."""
    other = ValueError("has a tensor in a format that torch does not write")
    if not require_type(bytes, content).startswith(_TORCH_MAGIC):
        raise other
    file = io.BytesIO(content)
    file.seek(len(_TORCH_MAGIC))
    try:
        version, system, storage, keys = (read_records(file, persistent=lambda it: it) for _ in range(4))
    except DataError as error:
        raise ValueError(f"holds a damaged tensor ({error})") from error
    kind, cls, key, _location, count, view = _parts(storage, 6)
    little = isinstance(system, dict) and system.get("little_endian") is True
    if version != 1001 or not little or kind != "storage" or view is not None or keys != [key]:
        raise other
    if (name := require_type(Global, cls).path) not in _STORAGES:
        raise ValueError(f"holds a tensor of type {short_repr(name)}; save it as float32: tensor.float()")
    dtype, stated = np.dtype(_STORAGES[name]), int.from_bytes(file.read(8), "little")
    if stated != count or len(content) - file.tell() != stated * dtype.itemsize:
        raise ValueError(
            f"claims a tensor of {short_repr(count)} values, and holds {len(content) - file.tell():,} bytes"
        )
    return np.frombuffer(content, dtype, offset=file.tell()) if count else np.empty(0, dtype)
