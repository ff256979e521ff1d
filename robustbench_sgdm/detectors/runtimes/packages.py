"""Packages that only some runtimes need: imported when they are, named with the command that installs them."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from robustbench_sgdm.core.errors import UsageError


def require(module: str, extra: str) -> Any:
    """Import a module of an optional package.

    Raises:
        UsageError: it is not installed, or does not work here; says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]:
            raise UsageError(
                f'{module} is not installed; install it with: pip install "robustbench-sgdm[{extra}]"'
            ) from error
        raise UsageError(f"{module} cannot be imported: {error}") from error


def version(*distributions: str) -> str:
    """The version of the first of some distributions that is installed; `absent` if none is."""
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "absent"


def without_installing() -> AbstractContextManager[None]:
    """Let Ultralytics install nothing, whatever it misses and whatever the user's environment allows it."""
    return environment_variable("ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS", "true")


@contextmanager
def environment_variable(name: str, value: str) -> Iterator[None]:
    """Set a variable of this process, and put it back."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
