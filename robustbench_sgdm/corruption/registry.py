"""Collects the declared corruptions of our folder and of users', and finds them by name."""

import logging
import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path

from robustbench_sgdm.core import errors, resources
from robustbench_sgdm.core.constants import BENCHMARK, CLEAN, HOLDOUT
from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.corruption.decorator import FAMILIES
from robustbench_sgdm.corruption.definition import Corruption, declared_corruptions

_LOG = logging.getLogger(__name__)
GROUP = "robustbench_sgdm.corruptions"
"""Of the entry points by which packages bring corruptions."""

GROUPS = ("all", "benchmark", "holdout", *FAMILIES)
_BRACKETS = re.compile(r"(?P<name>[^\[\]]+)\[(?P<strength>[^\[\]]*)\]")


@dataclass(frozen=True)
class CorruptionRegistry:
    """The known corruptions: COCO-C's in its order, then the others in the order they were found."""

    corruptions: tuple[Corruption, ...]

    def __post_init__(self) -> None:
        """Refuse a name that means two things.

        Raises:
            DataError: two corruptions share a name or an alias, or one is called as a group or the clean cell is.
        """
        seen: dict[str, Corruption] = {}
        for found in self.corruptions:
            for name in (found.name, *found.aliases):
                if name in (CLEAN, *GROUPS):
                    raise DataError(f"{_where(found)}: {name!r} is reserved; choose another name")
                if name in seen:
                    both = f"{_where(seen[name])} and {_where(found)}"
                    raise DataError(f"{name!r} is declared twice, in {both}")
                seen[name] = found

    def __iter__(self) -> Iterator[Corruption]:
        return iter(self.corruptions)

    def __len__(self) -> int:
        return len(self.corruptions)

    @property
    def names(self) -> list[str]:
        """Every corruption's name."""
        return [found.name for found in self]

    def group(self, name: str) -> list[Corruption]:
        """The members of `all`, `benchmark`, `holdout` or a family."""
        if name not in GROUPS:
            raise errors.unknown_name_error("group", name, GROUPS)
        if name == "all":
            return list(self)
        if name in FAMILIES:
            return [found for found in self if found.family == name]
        return [found for found in self if found.base in (BENCHMARK if name == "benchmark" else HOLDOUT)]

    def get(self, name: str) -> Corruption:
        """One corruption by name, alias, or either with a strength: `gaussian_noise[sigma=0.15]`.

        Raises:
            UsageError: there is none of that name, or the strength does not fit it.
        """
        bracketed = _BRACKETS.fullmatch(name)
        if bracketed:
            return _with_parameters(self.get(bracketed["name"]), bracketed["strength"])
        for found in self:
            if name in (found.name, *found.aliases):
                return found
        aliases = [alias for found in self for alias in found.aliases]
        raise errors.unknown_name_error("corruption", name, [*self.names, *aliases, *GROUPS])

    def select(self, names: Sequence[str]) -> list[Corruption]:
        """The union of names, aliases, groups and bracketed strengths, each once, in the registry's order.

        Raises:
            UsageError: a name is not known.
        """
        chosen: dict[str, Corruption] = {}
        for name in names:
            members = self.group(name) if name in GROUPS else [self.get(name)]
            chosen.update({found.name: found for found in members})
        return sorted(chosen.values(), key=lambda found: self.names.index(found.base))


def load_corruptions(extra: Sequence[Path] = ()) -> CorruptionRegistry:
    """Collect our corruptions, those of installed packages, and those of the `extra` folders.

    A package names a module of corruptions as an entry point of the group `robustbench_sgdm.corruptions`. One that
    cannot be loaded is logged and left out.

    Raises:
        DataError: a folder is missing or declares nothing, a file cannot be loaded, or a name is taken.
    """
    folders = [folder.resolve() for folder in (resources.root() / "corruptions", *extra)]
    found = [one for folder in dict.fromkeys(folders) for one in _from_folder(folder)]
    found += _from_packages({name for one in found for name in (one.name, *one.aliases)})
    order = {name: place for place, name in enumerate((*BENCHMARK, *HOLDOUT))}
    return CorruptionRegistry(tuple(sorted(found, key=lambda one: order.get(one.name, len(order)))))


def _from_packages(taken: Collection[str]) -> list[Corruption]:
    """The corruptions of installed packages, but those whose name is taken."""
    found: list[Corruption] = []
    for point in sorted(entry_points(group=GROUP), key=lambda one: (one.name, one.value)):
        try:
            declared = declared_corruptions(point.load())
            if not declared:
                raise DataError("declares no corruption; tag a function there with @corruption(...)")
        except Exception as error:  # noqa: BLE001 - whatever the other package does
            _LOG.warning("corruptions of %s left out: %s: %s", point.value, type(error).__name__, error)
            continue
        for one in declared:
            names = {one.name, *one.aliases} & {
                *taken,
                CLEAN,
                *GROUPS,
                *(n for f in found for n in (f.name, *f.aliases)),
            }
            if names:
                _LOG.warning("%s left out: the name %s is taken", _where(one), sorted(names)[0])
            else:
                found.append(one)
    return found


def _from_folder(folder: Path) -> list[Corruption]:
    found = [
        corruption
        for module in resources.import_folder(folder)
        for corruption in declared_corruptions(module)
    ]
    if not found:
        raise DataError(f"{folder} declares no corruption; tag a function there with @corruption(...)")
    return found


def _with_parameters(corruption: Corruption, text: str) -> Corruption:
    """`corruption` at the strength that `text`, such as "sigma=0.15", says."""
    given = _parse_parameters(corruption, text)
    for parameter in corruption.parameters:
        if parameter.name not in given:
            raise UsageError(f"{corruption.name}[{text}] lacks {parameter.name}: {corruption.describe()}")
        if not parameter.low <= given[parameter.name] <= parameter.high:
            bounds = f"[{parameter.low:g}, {parameter.high:g}] {parameter.unit}"
            raise UsageError(f"{corruption.name}[{text}]: {parameter.name} must lie in {bounds}")
    ordered = {parameter.name: given[parameter.name] for parameter in corruption.parameters}
    inside = ",".join(f"{name}={value:.12g}" for name, value in ordered.items())
    return replace(
        corruption, name=f"{corruption.name}[{inside}]", explicit_parameters=tuple(ordered.values())
    )


def _parse_parameters(corruption: Corruption, text: str) -> dict[str, float]:
    """The `name=value` pairs of a strength, checked against the corruption's parameters."""
    known = [parameter.name for parameter in corruption.parameters]
    given: dict[str, float] = {}
    for pair in text.split(","):
        name, _, value = (part.strip() for part in pair.partition("="))
        if name not in known:
            raise errors.unknown_name_error(f"parameter of {corruption.name}", name, known)
        if name in given:
            raise UsageError(f"{corruption.name}[{text}] gives {name} twice")
        try:
            given[name] = float(f"{float(value):.12g}")  # as the name will say
        except ValueError:
            given[name] = math.nan
        if not math.isfinite(given[name]):
            raise UsageError(f"{corruption.name}[{text}]: {name} must be a number, not {value!r}")
    return given


def _where(corruption: Corruption) -> str:
    return f"{corruption.path} ({corruption.qualname})"
