"""Files that are whole or absent, whatever happens to the process."""

import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from robustbench_sgdm.errors import RobustBenchError


def write(path: Path, fill: Callable[[Path], object], *, sync: bool = True) -> None:
    """Write a file atomically: `fill` writes a temporary neighbour, which is synced and renamed.

    A reader sees the old file or the new one, never a part. Folders are made as needed. Without `sync` a
    power cut, not a crash of the program, may leave the file empty: for what can be made again.

    Raises:
        RobustBenchError: no permission, no space, or a file where a folder must be.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            fill(temporary)
            if sync:
                with temporary.open("rb+") as file:  # Windows syncs only what is open for writing
                    os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise RobustBenchError(
            f"cannot write {path}: {error.strerror or error}; free space, or choose another place (--project; for the "
            "cache ROBUSTBENCH_CACHE). What is written is kept: start again with the same command to go on"
        ) from error


def write_bytes(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write bytes atomically."""
    write(path, lambda p: p.write_bytes(data), sync=sync)


def write_json(path: Path, content: Any) -> None:
    """Write json atomically, keys in the order given."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write(path, lambda p: p.write_text(text, "utf-8"))


def write_text(path: Path, text: str) -> None:
    """Write text atomically as UTF-8."""
    write(path, lambda p: p.write_text(text, "utf-8"))
