"""The registry of figures: every function in this package with the decorator `@figure(...)`. A new file adds one."""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from typing import TypeVar

from robustbench_sgdm.core import errors
from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.run_analysis import RunAnalysis
from robustbench_sgdm.tables import identical_sentence

Function = Callable[[RunAnalysis], FigureResult]
Declared = TypeVar("Declared", bound=Function)

_TAG = "__figure__"


@dataclass(frozen=True)
class FigureEntry:
    """A figure and its description.

    Attributes:
        name: on the command line, and of its files.
        description: what it shows, for lists and the report's contents.
        section: of the report.
        place: its order within the section.
        compares: whether it compares models; its caption then names pairs with the same outputs.
        draw: the function.
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
    """Register a function as a figure; the arguments are those of `FigureEntry`."""

    def register(function: Declared) -> Declared:
        setattr(function, _TAG, FigureEntry(name, description, section, place, compares, function))
        return function

    return register


@cache
def all_figures() -> Mapping[str, FigureEntry]:
    """All figures by name, sorted by section and place.

    Raises:
        ValueError: two have the same name.
    """
    package = import_module(__package__ or "")
    modules = [
        import_module(f"{package.__name__}.{one.name}") for one in pkgutil.iter_modules(package.__path__)
    ]
    entries: list[FigureEntry] = [
        getattr(thing, _TAG)
        for module in modules
        for thing in vars(module).values()
        if hasattr(thing, _TAG) and thing.__module__ == module.__name__
    ]
    by_name = {one.name: one for one in sorted(entries, key=lambda one: (one.section, one.place, one.name))}
    if len(by_name) < len(entries):
        raise ValueError(f"two figures share a name among {sorted(one.name for one in entries)}")
    return by_name


def draw(name: str, analysis: RunAnalysis) -> FigureResult:
    """Draw a figure of a run; its caption names the pairs with the same outputs.

    Raises:
        UsageError: there is no such figure.
        DataError: the run lacks what it needs.
    """
    if name not in all_figures():
        raise errors.unknown_name_error("figure", name, all_figures())
    entry = all_figures()[name]
    result = entry.draw(analysis)
    if not entry.compares:
        return result
    same = "".join(f" {identical_sentence(*pair, why)}." for pair, why in analysis.identical.items())
    return replace(result, caption=result.caption + same)
