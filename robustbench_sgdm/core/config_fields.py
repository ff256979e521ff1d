"""Fields of configurations that take more kinds of values than they hold: a path as text, one value for several."""

from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, cast, get_args, get_origin, overload

from robustbench_sgdm.core.arguments import check_argument

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


def check_fields(instance: Any) -> None:
    """Hold the fields of a frozen dataclass against their annotations; see `check_argument`.

    Quoted annotations name classes that are not imported yet: what takes such a field checks it.

    Raises:
        UsageError: a field has something else; names it.
    """
    for one in fields(instance):
        if not isinstance(one.type, str) and get_origin(one.type) is not Converted:  # which has checked it
            checked = check_argument(one.name, getattr(instance, one.name), one.type)
            object.__setattr__(instance, one.name, checked)


class Converted(Generic[Given, Kept]):
    """A field that takes more kinds of values than it holds; dataclasses call it descriptor-typed.

    A type checker knows both kinds, as no plain annotation could say; `check_argument` makes one of the other.
    """

    def __init__(self, default: Given) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name, (_, self._kept) = name, get_args(owner.__annotations__[name])

    @overload
    def __get__(self, instance: None, owner: type) -> Given: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Kept: ...

    def __get__(self, instance: object, owner: type) -> Given | Kept:
        return self._default if instance is None else cast(Kept, instance.__dict__[self._name])

    def __set__(self, instance: object, value: Given) -> None:
        instance.__dict__[self._name] = check_argument(self._name, value, self._kept)


PathField = Converted[str | Path, Path]
OptionalPathField = Converted[str | Path | None, Path | None]
PathsField = Converted[str | Path | Iterable[str | Path], tuple[Path, ...]]
TextsField = Converted[str | Path | Iterable[str | Path], tuple[str, ...]]
OptionalTextsField = Converted[str | Iterable[str] | None, tuple[str, ...] | None]
NumbersField = Converted[float | Iterable[float], tuple[float, ...]]
SeedsField = Converted[int | Iterable[int], tuple[int, ...]]
