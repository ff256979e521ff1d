"""How a corruption is declared: a decorator that tags a function and fills no registry."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from torch import Tensor

from robustbench_sgdm.core import errors
from robustbench_sgdm.core.seeding import BatchRng

CorruptionFunction = Callable[[Tensor, Mapping[str, float], BatchRng], Tensor]
Tagged = TypeVar("Tagged", bound=CorruptionFunction)

FAMILIES = ("noise", "blur", "weather", "digital", "edge", "camera")
MAX_SEVERITY = 5

_TAG = "__corruption__"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number that says how strong a corruption is.

    Args:
        name: as the function finds it in its `strength`.
        strengths: the published values at severity 1 to 5.
        unit: what the number counts, such as "px".
        meaning: what the number is, in a few words.
        identity_value: its value where nothing happens, at severity 0; may be infinite on the reciprocal scale.
        scale: severities between two published ones interpolate the value, or its reciprocal.
        low: the least value that makes sense.
        high: the greatest.
    """

    name: str
    strengths: tuple[float, float, float, float, float]
    unit: str
    meaning: str = ""
    identity_value: float = 0.0
    scale: Literal["linear", "reciprocal"] = "linear"
    low: float = 0.0
    high: float = math.inf

    def __post_init__(self) -> None:
        """Refuse numbers that no severity can have.

        Raises:
            UsageError: not five finite strengths, or one that `scale` cannot interpolate.
        """
        if len(self.strengths) != MAX_SEVERITY or not all(map(math.isfinite, self.strengths)):
            raise errors.UsageError(
                f"parameter {self.name} needs {MAX_SEVERITY} finite strengths, not {self.strengths}"
            )
        if self.scale == "reciprocal" and 0 in (self.identity_value, *self.strengths):
            raise errors.UsageError(f"parameter {self.name} has the reciprocal scale, so no value may be 0")
        if math.isnan(self.identity_value) or (self.scale == "linear" and math.isinf(self.identity_value)):
            raise errors.UsageError(
                f"parameter {self.name} needs a finite identity_value, not {self.identity_value}"
            )

    def interpolate(self, severity: float) -> float:
        """The value at a real severity in [0, 5]; at whole ones exactly the declared one.

        >>> photons = Parameter("photons", (60, 25, 12, 5, 3), "photons", identity_value=math.inf, scale="reciprocal")
        >>> photons.interpolate(0.5)
        120.0
        """
        knots = (self.identity_value, *self.strengths)
        whole = math.floor(severity)
        part = severity - whole
        if part == 0:
            return float(knots[whole])
        below, above = knots[whole], knots[whole + 1]
        if self.scale == "linear":
            return below + part * (above - below)
        return 1 / ((1 - part) / below + part / above)

    def describe(self) -> str:
        """One line: name, the five strengths, unit and meaning.

        >>> Parameter("sigma", (1, 2, 3, 4, 6), "px", meaning="width of the kernel").describe()
        'sigma 1 2 3 4 6 px (width of the kernel)'
        """
        values = " ".join(f"{value:g}" for value in self.strengths)
        return f"{self.name} {values} {self.unit}" + (f" ({self.meaning})" if self.meaning else "")


@dataclass(frozen=True, slots=True)
class Declaration:
    """What `@corruption` says about a function; found on it by `find_declaration`."""

    family: str
    parameters: tuple[Parameter, ...]
    aliases: tuple[str, ...]
    source: str
    random: bool
    version: int


def corruption(
    *,
    family: str,
    parameters: tuple[Parameter, ...],
    source: str,
    aliases: tuple[str, ...] = (),
    random: bool = False,
    version: int = 1,
) -> Callable[[Tagged], Tagged]:
    """Declare a function `(images, strength, rng) -> images` to be a corruption named as the function is.

    The function gets uint8 RGB (B, 3, H, W) on any device and returns the same, its argument untouched.
    Its docstring's first line is its summary.

    Args:
        family: one of noise, blur, weather, digital, edge, camera.
        parameters: what `strength` holds, in order.
        source: the paper or the measurement that the strengths come from.
        aliases: other names a user may give.
        random: it draws from `rng`.
        version: raised whenever its pixels change, so that stored results are not taken for those of this code.
    """
    if family not in FAMILIES:
        raise errors.unknown_name_error("family", family, FAMILIES)
    names = [parameter.name for parameter in parameters]
    if not names or len(set(names)) < len(names):
        raise errors.UsageError(f"a corruption needs parameters of different names, not {names}")
    declared = Declaration(family, parameters, aliases, source, random, version)

    def tag(function: Tagged) -> Tagged:
        setattr(function, _TAG, declared)
        return function

    return tag


def find_declaration(function: object) -> Declaration | None:
    """What was declared about a function, or None where nothing was."""
    tag = getattr(function, _TAG, None)
    return tag if isinstance(tag, Declaration) else None
