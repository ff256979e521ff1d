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
from robustbench_sgdm.corruption.composition import MAX_PARTS, Part, compose, split_parts
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
        for corruption in self.corruptions:
            for name in (corruption.name, *corruption.aliases):
                if name in (CLEAN, *GROUPS):
                    raise DataError(f"{_where(corruption)}: {name!r} is reserved; choose another name")
                if name in seen:
                    both = f"{_where(seen[name])} and {_where(corruption)}"
                    raise DataError(f"{name!r} is declared twice, in {both}")
                seen[name] = corruption

    def __iter__(self) -> Iterator[Corruption]:
        return iter(self.corruptions)

    def __len__(self) -> int:
        return len(self.corruptions)

    @property
    def names(self) -> list[str]:
        """Every corruption's name."""
        return [corruption.name for corruption in self]

    def group(self, name: str) -> list[Corruption]:
        """The members of `all`, `benchmark`, `holdout` or a family."""
        if name not in GROUPS:
            raise errors.unknown_name_error("group", name, GROUPS)
        if name == "all":
            return list(self)
        if name in FAMILIES:
            return [corruption for corruption in self if corruption.family == name]
        return [
            corruption
            for corruption in self
            if corruption.base_name in (BENCHMARK if name == "benchmark" else HOLDOUT)
        ]

    def get(self, name: str) -> Corruption:
        """One corruption by name, alias, or either with a strength: `gaussian_noise[sigma=0.15]`.

        Several of them joined by `+`, each with a severity of its own or without, are a composition:
        `fog+gaussian_noise`, `fog@2+gaussian_noise@4`.

        Raises:
            UsageError: there is none of that name, or the strength or the severity does not fit it.
        """
        for corruption in self:
            if name in (corruption.name, *corruption.aliases):
                return corruption
        if name in GROUPS:
            members = self.group(name)
            raise UsageError(
                f"{name} is a group of {len(members)} corruptions; name one, such as {members[0].name}"
            )
        parts = split_parts(name)
        if len(parts) > MAX_PARTS:
            raise UsageError(f"{name[:80]} has {len(parts)} parts; a composition has 2 to {MAX_PARTS}")
        if len(parts) > 1:
            return compose([self._part(part) for part in parts])
        bracketed = _BRACKETS.fullmatch(name)
        if bracketed:
            return _with_parameters(self.get(bracketed["name"]), bracketed["strength"])
        if "@" in name:
            raise UsageError(
                f"{name!r}: only parts of a composition have a severity of their own, as in fog@2+gaussian_noise@4; "
                "give --severity"
            )
        aliases = [alias for corruption in self for alias in corruption.aliases]
        raise errors.unknown_name_error("corruption", name, [*self.names, *aliases, *GROUPS])

    def _part(self, text: str) -> Part:
        """`name`, or `name@severity`, of a composition."""
        name, at, severity = text.rpartition("@")
        name = (name if at else text).strip()
        if not name:
            raise UsageError("a composition lacks a corruption before or after '+'; write fog+gaussian_noise")
        if name in GROUPS:
            raise UsageError(f"{name} is a group; a composition names single corruptions")
        try:
            return Part(self.get(name), float(severity) if at else None)
        except ValueError:
            raise UsageError(f"{text}: the severity of a part must be a number, not {severity!r}") from None

    def select(self, names: Sequence[str]) -> list[Corruption]:
        """The union of names, aliases, groups, strengths and compositions, each once, in the registry's order.

        Raises:
            UsageError: a name is not known.
        """
        chosen: dict[str, Corruption] = {}
        for name in names:
            members = self.group(name) if name in GROUPS else [self.get(name)]
            chosen.update({corruption.name: corruption for corruption in members})
        places = {name: place for place, name in enumerate(self.names)}
        return sorted(chosen.values(), key=lambda one: places.get(one.base_name, len(places)))


def load_corruptions(extra: Sequence[Path] = ()) -> CorruptionRegistry:
    """Collect our corruptions, those of installed packages, and those of the `extra` folders.

    A package names a module of corruptions as an entry point of the group `robustbench_sgdm.corruptions`. One that
    cannot be loaded is logged and left out.

    Raises:
        DataError: a folder is missing or declares nothing, a file cannot be loaded, or a name is taken.
    """
    folders = [folder.resolve() for folder in (resources.root() / "corruptions", *extra)]
    corruptions = [corruption for folder in dict.fromkeys(folders) for corruption in _from_folder(folder)]
    corruptions += _from_packages(
        {name for corruption in corruptions for name in (corruption.name, *corruption.aliases)}
    )
    order = {name: place for place, name in enumerate((*BENCHMARK, *HOLDOUT))}
    return CorruptionRegistry(
        tuple(sorted(corruptions, key=lambda corruption: order.get(corruption.name, len(order))))
    )


def _from_packages(taken: Collection[str]) -> list[Corruption]:
    """The corruptions of installed packages, but those whose name is taken."""
    corruptions: list[Corruption] = []
    taken = {*taken, CLEAN, *GROUPS}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        try:
            declared = declared_corruptions(point.load())
            if not declared:
                raise DataError("declares no corruption; decorate a function there with @corruption(...)")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the other package does
            _LOG.warning("corruptions of %s left out: %s", point.value, errors.describe_plugin_error(error))
            continue
        for corruption in declared:
            names = {corruption.name, *corruption.aliases}
            if conflicts := sorted(names & taken):
                _LOG.warning("%s left out: the name %s is already used", _where(corruption), conflicts[0])
            else:
                corruptions.append(corruption)
                taken |= names
    return corruptions


def _from_folder(folder: Path) -> list[Corruption]:
    corruptions = [
        corruption
        for module in resources.import_folder(folder)
        for corruption in declared_corruptions(module)
    ]
    if not corruptions:
        raise DataError(f"{folder} declares no corruption; decorate a function there with @corruption(...)")
    return corruptions


def _with_parameters(corruption: Corruption, text: str) -> Corruption:
    """`corruption` at the strength that `text`, such as "sigma=0.15", says."""
    values = _parse_parameters(corruption, text)
    for parameter in corruption.parameters:
        if parameter.name not in values:
            raise UsageError(f"{corruption.name}[{text}] lacks {parameter.name}: {corruption.describe()}")
        if not parameter.low <= values[parameter.name] <= parameter.high:
            bounds = f"[{parameter.low:g}, {parameter.high:g}] {parameter.unit}"
            raise UsageError(f"{corruption.name}[{text}]: {parameter.name} must lie in {bounds}")
    ordered = {parameter.name: values[parameter.name] for parameter in corruption.parameters}
    inside = ",".join(f"{name}={value:.12g}" for name, value in ordered.items())
    return replace(
        corruption, name=f"{corruption.name}[{inside}]", explicit_parameters=tuple(ordered.values())
    )


def _parse_parameters(corruption: Corruption, text: str) -> dict[str, float]:
    """The `name=value` pairs of a strength, checked against the corruption's parameters."""
    known = [parameter.name for parameter in corruption.parameters]
    values: dict[str, float] = {}
    for pair in text.split(","):
        name, _, value = (part.strip() for part in pair.partition("="))
        if name not in known:
            raise errors.unknown_name_error(f"parameter of {corruption.name}", name, known)
        if name in values:
            raise UsageError(f"{corruption.name}[{text}] gives {name} twice")
        try:
            values[name] = float(f"{float(value):.12g}")  # as the name will say
        except ValueError:
            values[name] = math.nan
        if not math.isfinite(values[name]):
            raise UsageError(f"{corruption.name}[{text}]: {name} must be a number, not {value!r}")
    return values


def _where(corruption: Corruption) -> str:
    return f"{corruption.path} ({corruption.qualname})"
