"""Files at paths that the user named, whole or absent whatever happens to the process.

Those of a run directory are written by its `safe_directory.SafeDirectory`, which follows no link below it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from robustbench_sgdm.core.safe_directory import SafeDirectory


def write(path: Path, fill: Callable[[BinaryIO], object], *, sync: bool = True) -> None:
    """Write a file atomically, as `SafeDirectory.write`; links on the way to its folder are followed."""
    SafeDirectory(path.parent).write(path.name, fill, sync=sync)


def write_bytes(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write bytes atomically."""
    SafeDirectory(path.parent).write_bytes(path.name, data, sync=sync)


def write_text(path: Path, text: str) -> None:
    """Write text atomically as UTF-8."""
    SafeDirectory(path.parent).write_text(path.name, text)
