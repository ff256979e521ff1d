"""Checks of the options that modules take; each error gives the value, the bound and the remedy."""

from __future__ import annotations


def check_positive(**values: int) -> None:
    """Refuse what is not at least 1."""
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} is {value}: it must be at least 1")


def check_odd(**values: int) -> None:
    """Refuse the size of a kernel that has no centre."""
    for name, value in values.items():
        if value < 1 or value % 2 == 0:
            raise ValueError(f"{name} is {value}: it must be odd and positive; take {max(value + 1, 1)}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is none of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: it must be one of {', '.join(map(repr, choices))}")
