"""Every figure of a run: a function in this package that `@figure(...)` declares. A new file adds one."""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from typing import TypeVar

from robustbench_sgdm.core import errors
from robustbench_sgdm.figures.drawn import Drawn
from robustbench_sgdm.figures.material import Material
from robustbench_sgdm.tables import identical_words

Function = Callable[[Material], Drawn]
Declared = TypeVar("Declared", bound=Function)

_TAG = "__figure__"


@dataclass(frozen=True)
class Declaration:
    """What a figure says of itself.

    Attributes:
        name: on the command line and of its files.
        description: what it shows, as in lists and in the report's contents.
        section: of the report.
        place: among the figures of its section.
        compares: whether it compares models, so that its caption names those that put out the same.
        draw: makes it.
    """

    name: str
    description: str
    section: str
    place: int
    compares: bool
    draw: Function


def figure(
    name: str, description: str, *, section: str, place: int = 9, compares: bool = True
) -> Callable[[Declared], Declared]:
    """Declare a function as a figure; arguments as `Declaration`'s."""

    def declare(function: Declared) -> Declared:
        setattr(function, _TAG, Declaration(name, description, section, place, compares, function))
        return function

    return declare


@cache
def figures() -> Mapping[str, Declaration]:
    """All declared figures by name, by section and place.

    Raises:
        ValueError: two have the same name.
    """
    package = import_module(__package__ or "")
    modules = [
        import_module(f"{package.__name__}.{one.name}") for one in pkgutil.iter_modules(package.__path__)
    ]
    found: list[Declaration] = [
        getattr(thing, _TAG)
        for module in modules
        for thing in vars(module).values()
        if hasattr(thing, _TAG) and thing.__module__ == module.__name__
    ]
    names = {one.name: one for one in sorted(found, key=lambda one: (one.section, one.place, one.name))}
    if len(names) < len(found):
        raise ValueError(f"two figures share a name among {sorted(one.name for one in found)}")
    return names


def draw(name: str, material: Material) -> Drawn:
    """Draw a run's figure; its caption names the pairs that put out the same.

    Raises:
        UsageError: there is no such figure.
        DataError: the run lacks what it needs.
    """
    if name not in figures():
        raise errors.unknown_name_error("figure", name, figures())
    declared = figures()[name]
    drawn = declared.draw(material)
    if not declared.compares:
        return drawn
    same = "".join(f" {identical_words(*pair, why)}." for pair, why in material.identical.items())
    return replace(drawn, caption=drawn.caption + same)
