"""Fields of configurations that take more kinds of values than they hold: a path as text, one value for several."""

from collections.abc import Callable, Iterable
from functools import wraps
from inspect import Signature, signature
from numbers import Integral
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, cast, get_args, get_origin, overload

from robustbench_sgdm.core.errors import UsageError

P = ParamSpec("P")
C = TypeVar("C")
R = TypeVar("R")
Given = TypeVar("Given")
Kept = TypeVar("Kept")


def takes(config: Callable[P, C]) -> Callable[[Callable[[C], R]], Callable[P, R]]:
    """Let a function of a configuration take the configuration's arguments instead.

    So every setting is named, typed, documented and validated in one place, the configuration.
    """

    def decorate(function: Callable[[C], R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return function(config(*args, **kwargs))

        call.__signature__ = _signature(config)  # type: ignore[attr-defined]
        return call

    return decorate


def _signature(config: Callable[..., Any]) -> Signature:
    """What the configuration takes, each field by the kinds of values that may be given."""
    own = signature(config)
    return own.replace(
        parameters=[
            one.replace(annotation=get_args(one.annotation)[0])
            if get_origin(one.annotation) is Converted
            else one
            for one in own.parameters.values()
        ]
    )


class Converted(Generic[Given, Kept]):
    """Such a field; dataclasses call it descriptor-typed.

    Args:
        convert: what is given to what is held; raises `UsageError` for what cannot be.
        default: as it would be given.
    """

    def __init__(self, convert: Callable[[Given], Kept], default: Given) -> None:
        self._convert, self._default = convert, default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Given: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Kept: ...

    def __get__(self, instance: object, owner: type) -> Given | Kept:
        return self._default if instance is None else cast(Kept, instance.__dict__[self._name])

    def __set__(self, instance: object, value: Given) -> None:
        instance.__dict__[self._name] = self._convert(value)


def to_tuple(value: Any) -> tuple[Any, ...]:
    """One value or several, as a tuple."""
    is_one = isinstance(value, str | Path) or not isinstance(value, Iterable)
    return (value,) if is_one else tuple(value)


def to_optional_path(value: str | Path | None) -> Path | None:
    """A path, or None."""
    return None if value is None else Path(value)


def to_paths(value: str | Path | Iterable[str | Path]) -> tuple[Path, ...]:
    """One path or several."""
    return tuple(map(Path, to_tuple(value)))


def to_seeds(value: int | Iterable[int]) -> tuple[int, ...]:
    """One seed or several.

    Raises:
        UsageError: none, or one is no whole number from 0 to 2147483647.
    """
    given = to_tuple(value)
    if not given:
        raise UsageError("no seed to train with; give at least one, such as 0")
    bad = [seed for seed in given if not isinstance(seed, Integral) or not 0 <= int(seed) < 2**31]
    if bad:
        raise UsageError(f"seed {bad[0]!r} is not a whole number from 0 to 2147483647")
    return tuple(map(int, given))


def to_texts(value: str | Path | Iterable[str | Path]) -> tuple[str, ...]:
    """One text or several; a path counts as text."""
    return tuple(map(str, to_tuple(value)))


def to_optional_texts(value: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """As `to_texts`, or None."""
    return None if value is None else to_texts(value)


PathField = Converted[str | Path, Path]
OptionalPathField = Converted[str | Path | None, Path | None]
PathsField = Converted[str | Path | Iterable[str | Path], tuple[Path, ...]]
TextsField = Converted[str | Path | Iterable[str | Path], tuple[str, ...]]
SeedsField = Converted[int | Iterable[int], tuple[int, ...]]
