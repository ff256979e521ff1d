"""Holds arguments from Python against their annotations, so that a wrong one is named where it is given."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, get_args, get_origin

from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.core.untrusted_input import short_repr

P = ParamSpec("P")
R = TypeVar("R")

_IN_WORDS: dict[Any, tuple[str, str]] = {
    bool: ("True or False", "booleans"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    Path: ("a path", "paths"),
    NoneType: ("None", "None"),
    Mapping: ("a dict", "dicts"),
    Callable: ("a function", "functions"),
}
"""What a message calls one of a kind, and several."""


def check_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function check its arguments before it runs; see `check_argument`.

    Quoted annotations name classes that are not imported yet: the function itself checks such an argument.
    """
    named = signature(function)
    checked = {name: one.annotation for name, one in named.parameters.items() if _is_checkable(one)}

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = named.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{function.__name__}() {error}") from None
        for name in bound.arguments.keys() & checked.keys():
            bound.arguments[name] = check_argument(name, bound.arguments[name], checked[name])
        return function(*bound.args, **bound.kwargs)

    return call


def _is_checkable(parameter: Parameter) -> bool:
    kind = parameter.annotation
    is_named = parameter.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return is_named and kind is not Parameter.empty and not isinstance(kind, str | TypeVar)


def check_argument(name: str, value: Any, annotation: Any) -> Any:
    """An argument in the type of its annotation.

    Numbers and arrays of NumPy become Python's, a path may be a text and a text a path, and a single item stands
    for a list of one. Quoted annotations name classes that are not imported yet: what takes such a value checks it.

    >>> check_argument("project", "runs", Path), check_argument("seeds", 3, Sequence[int])
    (PosixPath('runs'), (3,))

    Raises:
        UsageError: it is something else.
    """
    try:
        return _convert(value, annotation)
    except OverflowError:
        raise UsageError(f"{name} is {short_repr(value)}, which takes more than 64 bits") from None
    except TypeError:
        raise UsageError(f"{name} is {short_repr(value)}, must be {_in_words(annotation)}") from None


def _convert(value: Any, annotation: Any) -> Any:
    """The value as its annotation says.

    Raises:
        TypeError: it is something else.
        OverflowError: a whole number that no manifest can hold.
    """
    value = value.tolist() if hasattr(value, "tolist") else value  # of NumPy
    kind = get_origin(annotation) or annotation
    if kind is UnionType:
        own = Path if isinstance(value, Path) else type(value)  # tried first: a path may become a text too
        for one in sorted(get_args(annotation), key=lambda one: one is not own):
            with suppress(TypeError):
                return _convert(value, one)
    elif kind is Sequence:
        (inner,) = get_args(annotation)
        is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return tuple(_convert(item, inner) for item in (value if is_list else [value]))
    elif kind is Mapping:
        if isinstance(value, Mapping):
            key_kind, value_kind = get_args(annotation)
            return {_convert(k, key_kind): _convert(v, value_kind) for k, v in value.items()}
    elif kind is Callable:
        if callable(value):
            return value
    elif kind is tuple and get_args(annotation)[-1] is Ellipsis:
        is_several = isinstance(value, Iterable) and not isinstance(value, str | bytes | Path | Mapping)
        return tuple(_convert(item, get_args(annotation)[0]) for item in (value if is_several else [value]))
    elif kind is tuple:
        parts = get_args(annotation)
        if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == len(parts):
            return tuple(_convert(item, one) for item, one in zip(value, parts, strict=True))
    elif kind is Path:
        return Path(os.fspath(value))
    elif kind is str and isinstance(value, Path):
        return str(value)
    elif kind is int:
        if isinstance(value, int) and not isinstance(value, bool):  # True is an int to Python
            if not -(2**63) <= value < 2**63:
                raise OverflowError
            return value
    elif kind is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
    elif kind is Any or isinstance(kind, str) or isinstance(value, str if kind is Literal else kind):
        return value
    raise TypeError


def _in_words(annotation: Any, number: int = 0) -> str:
    """One of a kind, or with `number` 1 several."""
    kind = get_origin(annotation) or annotation
    if kind is UnionType:
        return " or ".join(_in_words(one, number) for one in get_args(annotation))
    if kind is Sequence or get_args(annotation)[1:] == (Ellipsis,):
        return f"a list of {_in_words(get_args(annotation)[0], 1)}"
    if kind is tuple:
        return f"({', '.join(_in_words(one) for one in get_args(annotation))})"
    words = _IN_WORDS.get(str if kind is Literal else kind)
    return words[number] if words else str(kind.__name__)
