"""Pickles as data: what one names is written down as records, and nothing of it is imported, constructed or called.

A pickle is a program for a small stack machine that may call any function it names. This machine keeps the stack,
the plain values and the containers, and writes down every call as a `Record`.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.untrusted_input import short_repr

MAX_COPIED = 32 * 2**20
"""Bytes, about, that the calls of a pickle may copy: what is copied, a file may name without end."""

_MAX_INTEGER = 2**64  # larger ones serve no file, and their hashes can be made to collide


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


class Stateless:
    """What a reader makes of a call itself, in place of a `Record`; a state that is set on it is dropped."""

    __slots__ = ()


Functions = Mapping[str, Callable[..., Any]]
"""By `module.name`, what is made of a call in place of a `Record`."""


def read_records(
    file: BinaryIO,
    *,
    functions: Functions | None = None,
    persistent: Callable[[Any], Any] | None = None,
    max_operations: int | None = None,
    max_copied: int = MAX_COPIED,
    damaged: str = "not a pickle, or damaged; download or copy it again",
) -> Any:
    """The object that a pickle describes, of plain values, containers, `Global`s and `Record`s.

    Args:
        file: is read up to the pickle's end; more may follow.
        functions: of calls beside those of plain values, `PLAIN_FUNCTIONS`.
        persistent: gives what stands for a persistent id; where None, a pickle with one is refused.
        max_operations: operations that it may have; any number where None, as each takes a byte at least.
        max_copied: bytes, about, that `functions` may copy.
        damaged: what is said of a pickle that cannot be read.

    Raises:
        DataError: damaged, or beyond the bounds.
    """
    machine = _PickleMachine({**PLAIN_FUNCTIONS, **(functions or {})}, persistent, max_copied)
    try:
        return machine.run(file, max_operations)
    except DataError:
        raise
    except Exception as error:  # whatever the operations of a damaged file provoke
        raise DataError(f"{damaged} ({type(error).__name__}: {short_repr(str(error))})") from error


_MARK = object()


class _PickleMachine:
    """Runs a pickle's operations on a stack of plain values and records.

    A pickle is a program, so it is bounded like one: in operations, and in what its calls copy. A call may name the same
    large argument again and again, and each operation alone is small.
    """

    def __init__(
        self, functions: Functions, persistent: Callable[[Any], Any] | None, max_copied: int
    ) -> None:
        self._functions, self._persistent = functions, persistent
        self._may_copy = max_copied
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, file: BinaryIO, max_operations: int | None) -> Any:
        """As `read_records`."""
        read, number = file.read, 0
        while (code := read(1)) != b".":
            number += 1
            if max_operations is not None and number > max_operations:
                raise DataError(f"its pickle has more than {max_operations:,} operations")
            if code not in _OPERATIONS:
                raise ValueError(f"operation {code!r}" if code else "it ends early")
            argument_of, operate = _OPERATIONS[code]
            operate(self, None if argument_of is None else argument_of(file))
        return self._stack.pop()

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _push_literal(self, value: Any) -> None:
        if isinstance(value, int) and not -_MAX_INTEGER < value < _MAX_INTEGER:
            raise ValueError("an integer of more than 64 bits")
        self._stack.append(bytes(value) if isinstance(value, bytearray) else value)

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
        (whole.items if isinstance(whole, Record) else require_type(list, whole)).extend(values)

    def _additems(self, _: Any) -> None:
        values = self._above_mark()
        require_type(set, self._stack[-1]).update(map(_key, values))

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
            require_type(dict, whole).update((_key(key), value) for key, value in pairs)

    def _global(self, text: str) -> None:
        self._stack.append(_global(*text.split(" ", 1)))

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(_global(require_type(str, module), require_type(str, name)))

    def _reduce(self, _: Any) -> None:
        args, function = self._stack.pop(), self._stack.pop()
        path = function.path if isinstance(function, Global) else f"a call of {short_repr(function)}"
        args = require_type(tuple, args)
        if (rebuild := self._functions.get(path)) is None:
            self._stack.append(Record(path, args))
        else:
            self._count_copied(args)
            self._stack.append(rebuild(*args))

    def _count_copied(self, args: tuple[Any, ...]) -> None:
        """What a call copies of its arguments, 8 bytes for each part of a container."""
        self._may_copy -= 8 * len(args)
        for part in args if self._may_copy >= 0 else ():
            if isinstance(part, str | bytes | list | dict | set | frozenset):
                self._may_copy -= len(part) * (1 if isinstance(part, str | bytes) else 8)
        if self._may_copy < 0:
            raise DataError("its pickle copies more than any such file does")

    def _newobj(self, _: Any) -> None:
        args, cls = self._stack.pop(), self._stack.pop()
        self._stack.append(Record(require_type(Global, cls).path, args))

    def _newobj_ex(self, _: Any) -> None:
        named, args, cls = self._stack.pop(), self._stack.pop(), self._stack.pop()
        self._stack.append(Record(require_type(Global, cls).path, (args, named)))

    def _inst(self, text: str) -> None:
        self._stack.append(Record(_global(*text.split(" ", 1)).path, tuple(self._above_mark())))

    def _obj(self, _: Any) -> None:
        cls, *args = self._above_mark()
        self._stack.append(Record(require_type(Global, cls).path, tuple(args)))

    def _build(self, _: Any) -> None:
        state, whole = self._stack.pop(), self._stack[-1]
        if isinstance(whole, Record):
            whole.state = state
        elif not isinstance(whole, dict | Stateless):
            # A state dict's version numbers; a parameter's hooks.
            raise ValueError(f"a {type(whole).__name__} has no state")

    def _binpersid(self, _: Any) -> None:
        if self._persistent is None:
            raise ValueError("a persistent id")
        self._stack.append(self._persistent(self._stack.pop()))


_MAKE: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
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


def _operation(name: str) -> Callable[[_PickleMachine, Any], None] | None:
    """What an operation of pickletools does to a machine with its argument; None where no file needs it."""
    if name in _LITERALS:
        return _PickleMachine._push_literal
    if make := _MAKE.get(name):
        return lambda machine, _: machine._push(make())
    operate: Callable[[_PickleMachine, Any], None] | None = getattr(_PickleMachine, f"_{name.lower()}", None)
    return operate


_OPERATIONS: dict[bytes, tuple[Callable[[BinaryIO], Any] | None, Callable[[_PickleMachine, Any], None]]] = {
    operation.code.encode("latin-1"): (operation.arg.reader if operation.arg else None, operate)
    for operation in pickletools.opcodes
    if (operate := _operation(operation.name)) is not None
}
"""By its byte, what reads an operation's argument and what it does; looked up once, as a file has millions."""

_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def _global(module: str, name: str) -> Global:
    """Under the module's name in Python 3; torch.save writes Python 2's, as pickle does in protocol 2."""
    return Global(f"{_PYTHON_2.get(module, module)}.{name}")


def require_type(kind: type, value: Any) -> Any:
    """The value itself, where it is of a kind.

    Raises:
        TypeError: it is of another one.
    """
    if not isinstance(value, kind):
        name = short_repr(value.path) if isinstance(value, Record) else type(value).__name__
        raise TypeError(f"a {name} in the place of a {kind.__name__}")
    return value


def _key(value: Any) -> Any:
    """A value that can be hashed at a bounded cost; another, such as a tuple, inside a record."""
    plain = value is None or isinstance(value, str | int | float | bytes | Global | Record)
    return value if plain else Record(f"{type(value).__module__}.{type(value).__qualname__}", (value,))


def _pairs(items: Any = (), *_: Any) -> dict[Any, Any]:
    return {_key(key): value for key, value in (items.items() if isinstance(items, dict) else items)}


def _path(*parts: Any) -> str:
    return "/".join(require_type(str, part).rstrip("/\\") for part in parts)


PLAIN_FUNCTIONS: Functions = {
    "collections.OrderedDict": _pairs,
    "_codecs.encode": lambda text, _: require_type(str, text).encode("latin1"),
    "builtins.bytes": lambda: b"",
    "builtins.set": lambda values=(): set(map(_key, values)),
    "builtins.frozenset": lambda values=(): frozenset(map(_key, values)),
    "builtins.dict": _pairs,
    "collections.defaultdict": lambda *_: {},
    "builtins.list": lambda values=(): list(require_type(list, values)),
    "copyreg._reconstructor": lambda cls, *_: Record(require_type(Global, cls).path),
    **{f"{home}.{name}": _path for home in ("pathlib", "pathlib._local") for name in (
        "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath",
    )},
}  # fmt: skip
"""Of plain values, as pickle writes them."""
