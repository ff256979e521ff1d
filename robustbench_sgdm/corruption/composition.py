"""Corruptions one after the other: `fog+gaussian_noise`, or each at a severity of its own, `fog@2+gaussian_noise@4`."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.corruption.decorator import MAX_SEVERITY
from robustbench_sgdm.corruption.definition import Corruption

MAX_PARTS = 8
_MAX_NAME = 200  # characters, of a folder's name
FAMILY = "composition"
_PLUS = re.compile(r"\+(?![^\[]*\])")  # but not in brackets, as of 1e+3


def split_parts(name: str) -> list[str]:
    """The names of the parts.

    >>> split_parts("fog@2+gaussian_noise[sigma=1e+0]")
    ['fog@2', 'gaussian_noise[sigma=1e+0]']
    """
    return _PLUS.split(name)


@dataclass(frozen=True)
class Part:
    """One corruption of a composition.

    Attributes:
        corruption: the part.
        severity: its own; None for the composition's.
    """

    corruption: Corruption
    severity: float | None = None

    @property
    def name(self) -> str:
        """As in the composition's name."""
        pinned = "" if self.severity is None else f"@{self.severity:g}"
        return self.corruption.name + pinned

    @property
    def is_fixed(self) -> bool:
        """Whether it is as strong at every severity of the composition."""
        return self.severity is not None or self.corruption.explicit_parameters is not None

    def effective_severity(self, severity: float) -> float:
        """What the part is applied at where the composition is at `severity`."""
        if severity == 0:
            return 0.0
        if self.corruption.explicit_parameters is not None:
            return 1.0
        return severity if self.severity is None else self.severity


@dataclass(frozen=True, kw_only=True)
class Composition(Corruption):
    """Several corruptions, each applied to what the one before it left.

    Each part draws what it draws alone, so that a composition equals its parts applied one by one. Where all are of
    fixed strength there is one severity, 1.
    """

    parts: tuple[Part, ...]

    def strength(self, severity: float) -> dict[str, float]:
        """The parts' strengths, as `part.parameter`."""
        self.check_severity(severity)
        return {
            f"{part.corruption.name}.{name}": value
            for part in self.parts
            for name, value in part.corruption.strength(part.effective_severity(severity)).items()
        }

    @property
    def units(self) -> dict[str, str]:
        """Of the parts' parameters, as `part.parameter`."""
        return {
            f"{part.corruption.name}.{name}": unit
            for part in self.parts
            for name, unit in part.corruption.units.items()
        }

    def describe(self) -> str:
        """The parts' parameters in words."""
        return "; ".join(f"{part.name}: {part.corruption.describe()}" for part in self.parts)

    def fingerprint(self, engine: str = "torch") -> str:
        """Of the name, which says the severities, and of the parts."""
        parts = [part.corruption.fingerprint(engine) for part in self.parts]
        return hashlib.sha256("\n".join([self.name, *parts]).encode()).hexdigest()

    def __reduce__(self) -> tuple[Callable[..., Corruption], tuple[object, ...]]:
        return compose, (self.parts,)


def compose(parts: Sequence[Part]) -> Composition:
    """The composition of some parts, in their order.

    Raises:
        UsageError: there are fewer than 2 or more than 8, a corruption is there twice, or a severity does not fit.
    """
    name, corruptions = "+".join(part.name for part in parts), [part.corruption for part in parts]
    if not 2 <= len(parts) <= MAX_PARTS:
        raise UsageError(f"{name} has {len(parts)} parts; a composition has 2 to {MAX_PARTS}")
    for i, one in enumerate(corruptions):
        if one.base_name in [other.base_name for other in corruptions[:i]]:
            raise UsageError(f"{name} names {one.base_name} twice; a composition names each corruption once")
    for part in parts:
        if part.severity is not None and part.corruption.explicit_parameters is not None:
            raise UsageError(f"{part.name} gives both a strength and a severity; give one of them")
        if part.severity is not None and not 0 < part.severity <= MAX_SEVERITY:
            raise UsageError(f"{part.name}: a part's severity must lie above 0 and not above {MAX_SEVERITY}")
        if part.severity is not None and round(part.severity, 3) != part.severity:
            raise UsageError(f"{part.corruption.name}@{part.severity} has more than three decimals; round it")
    if len(name) > _MAX_NAME:
        raise UsageError(
            f"{name} is {len(name)} characters long; the limit is {_MAX_NAME}: name fewer corruptions"
        )
    return Composition(
        name=name,
        family=FAMILY,
        parameters=(),
        aliases=(),
        random=any(one.random for one in corruptions),
        source="; ".join(dict.fromkeys(one.source for one in corruptions)),
        summary=", then ".join(part.name for part in parts) + ".",
        version=1,
        path=corruptions[0].path,
        qualname=name,
        explicit_parameters=() if all(part.is_fixed for part in parts) else None,
        parts=tuple(parts),
    )
