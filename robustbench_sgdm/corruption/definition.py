"""A corruption as plain data that points at its function, so that it travels to spawned workers."""

import ast
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import cast

from robustbench_sgdm.core import errors, resources
from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.core.versions import CORRUPTIONS
from robustbench_sgdm.corruption import imgaug_engine
from robustbench_sgdm.corruption.decorator import (
    MAX_SEVERITY,
    CorruptionFunction,
    Declaration,
    Parameter,
    find_declaration,
)


@dataclass(frozen=True)
class Corruption:
    """One entry of the registry; it pickles as (file, function), never as code.

    Attributes:
        name: unique; with the strength in brackets where that is fixed.
        family, parameters, aliases, random, source, version: as declared; see `corruption.decorator.corruption`.
        summary: the first line of its docstring.
        path: the file that declares it.
        qualname: its function in that file.
        explicit_parameters: the strength given in brackets, or None.
    """

    name: str
    family: str
    parameters: tuple[Parameter, ...]
    aliases: tuple[str, ...]
    random: bool
    source: str
    summary: str
    version: int
    path: Path
    qualname: str
    explicit_parameters: tuple[float, ...] | None = None

    @property
    def base_name(self) -> str:
        """The name without a strength in brackets."""
        return self.qualname

    @property
    def function(self) -> CorruptionFunction:
        """The declared function, loaded from its file."""
        return cast(CorruptionFunction, getattr(resources.import_file(self.path), self.qualname))

    def strength(self, severity: float) -> dict[str, float]:
        """Parameter values at a severity in [0, 5]; with a fixed strength, at 0 or 1 only.

        Raises:
            UsageError: the severity is not one of those.
        """
        self.check_severity(severity)
        if self.explicit_parameters is None or severity == 0:
            return {parameter.name: parameter.interpolate(severity) for parameter in self.parameters}
        return dict(
            zip((parameter.name for parameter in self.parameters), self.explicit_parameters, strict=True)
        )

    @property
    def units(self) -> dict[str, str]:
        """The unit of each parameter in `strength`."""
        return {parameter.name: parameter.unit for parameter in self.parameters}

    def check_severity(self, severity: float) -> None:
        """Refuse a severity that it does not have.

        Raises:
            UsageError: outside [0, 5], or other than 0 and 1 where the strength is fixed.
        """
        if not (math.isfinite(severity) and 0 <= severity <= MAX_SEVERITY):
            raise UsageError(f"severity {severity} is not in [0, {MAX_SEVERITY}]")
        if self.explicit_parameters is not None and severity not in (0, 1):
            raise UsageError(f"{self.name} has one strength: ask for severity 1 (or 0), not {severity:g}")

    def effective_severities(self, severities: Sequence[float]) -> list[float]:
        """The severities above clean that it runs at: 1 alone where the strength is fixed."""
        return [1.0] if self.explicit_parameters is not None else [s for s in severities if s > 0]

    def describe(self) -> str:
        """The parameters in words: name, five strengths, unit, meaning."""
        return "; ".join(parameter.describe() for parameter in self.parameters)

    def fingerprint(self, engine: str = "torch") -> str:
        """Sha256 of what decides its pixels, in hex: of our corruptions, their versions; of others, their code too.

        Wording, comments and formatting do not count.

        Raises:
            UsageError: there is no such engine.
        """
        parts: dict[str, Callable[[], list[str]]] = {"torch": self._torch_parts, "imgaug": _imgaug_parts}
        if engine not in parts:
            raise errors.unknown_name_error("engine", engine, parts)
        numbers = [(p.name, p.strengths, p.identity_value, p.scale) for p in self.parameters]
        return hashlib.sha256("\n".join([self.name, repr(numbers), *parts[engine]()]).encode()).hexdigest()

    def _torch_parts(self) -> list[str]:
        own = self.path.is_relative_to(resources.root().resolve() / "corruptions")
        return [
            f"version {self.version}, shared {CORRUPTIONS}",
            *([] if own else [normalized_code(self.path)]),
        ]

    def __reduce__(self) -> tuple[Callable[..., "Corruption"], tuple[object, ...]]:
        return from_reference, (_reference(self.path), self.qualname, self.name, self.explicit_parameters)


@cache
def _imgaug_parts() -> list[str]:
    return [f"imgaug, shared {CORRUPTIONS}", repr(imgaug_engine.library_versions())]


def declared_corruptions(module: ModuleType) -> list[Corruption]:
    """What a loaded file declares, in the file's order; what it only imports is left out.

    Raises:
        DataError: a declared function has no docstring, or does not stand at the file's top level.
    """
    corruptions = []
    for name, value in vars(module).items():
        declared = find_declaration(value)
        if declared is not None and getattr(value, "__module__", "") == module.__name__:
            qualname = str(getattr(value, "__qualname__", ""))
            if vars(module).get(qualname) is not value:
                raise DataError(f"{module.__file__}: {name} must be a function at the top level of the file")
            if name == qualname:
                corruptions.append(
                    _make_corruption(Path(str(module.__file__)), name, value.__doc__ or "", declared)
                )
    return corruptions


def _make_corruption(path: Path, name: str, doc: str, declared: Declaration) -> Corruption:
    summary = doc.strip().partition("\n")[0]
    if not summary:
        raise DataError(f"{path}: {name} needs a docstring, whose first line becomes its summary")
    about = (declared.family, declared.parameters, declared.aliases, declared.random, declared.source)
    return Corruption(name, *about, summary, declared.version, path, name)


def from_reference(
    reference: str, qualname: str, name: str, explicit_parameters: tuple[float, ...] | None
) -> Corruption:
    """Rebuild a corruption from its file and name, as unpickling does.

    Raises:
        DataError: the file does not declare it.
    """
    path = resources.root() / reference
    for corruption in declared_corruptions(resources.import_file(path)):
        if corruption.qualname == qualname:
            return replace(corruption, name=name, explicit_parameters=explicit_parameters)
    raise DataError(f"{path} declares no corruption {qualname}")


def _reference(path: Path) -> str:
    """Relative for our own files, since another machine may have them elsewhere; `/` keeps absolute ones."""
    root = resources.root().resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


@cache
def normalized_code(path: Path) -> str:
    """A file's code without docstrings, comments, formatting and the wording in `@corruption(...)`."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = [item for item in node.decorator_list if not _is_declaration(item)]
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            documented = ast.get_docstring(node) is not None
            node.body = (node.body[1:] or [ast.Pass()]) if documented else node.body
    return ast.unparse(tree)


def _is_declaration(decorator: ast.expr) -> bool:
    called = ast.unparse(decorator.func) if isinstance(decorator, ast.Call) else ""
    return called.rpartition(".")[2] == "corruption"
