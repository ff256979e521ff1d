"""What of a run directory nothing will read again."""

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.store.cells import Cell, CellStore
from robustbench_sgdm.store.locks import alone, check_free
from robustbench_sgdm.store.runs import Run

TEMPORARY, SHARDS, STALE = (
    "temporary files",
    "shards of finished or older cells",
    "cells of older code or data",
)
"""Kinds of litter."""

_HALF_WRITTEN = re.compile(r"\..+\.[0-9a-f]{32}")  # `SafeDirectory.write` names them so


@dataclass(frozen=True)
class Litter:
    """A file that can go, and why."""

    kind: str
    path: Path
    size: int


def find_litter(path: Path) -> list[Litter]:
    """What can go from a run directory: what a killed process left, and what the plan's own cells will replace.

    Complete cells stay, those of other plans in the same directory too, and so do shards that a run will go on from.
    Of a run whose plan cannot be read only half-written files can go: nothing says what else is needed.
    Nothing outside the directory is ever named, and nothing in one that is no run's.

    Raises:
        UnsafeFileError: a link or no regular file lies where a cell belongs.
    """
    files = SafeDirectory(path)
    if not _is_run(files):
        return []
    found = [
        Litter(TEMPORARY, p, about.st_size)
        for p, about in files.walk()
        if _HALF_WRITTEN.fullmatch(p.name) and stat.S_ISREG(about.st_mode)
    ]
    try:
        run = Run.open(path)
    except DataError:
        return found
    for cell in run.cells:
        found += _of_cell(run.store, cell)
    return found


def remove_litter(path: Path, *, dry: bool = False) -> list[Litter]:
    """Remove it and give what it was; with `dry` only say what it is, and write nothing.

    Raises:
        RobustBenchError: a process works on the run.
    """
    if dry:
        check_free(path)
        return find_litter(path)
    if not find_litter(path):
        return []
    with alone(path):
        files, found = SafeDirectory(path), find_litter(path)
        for one in found:
            files.unlink(one.path)
        for folder in {one.path.parent for one in found if one.path.parent.name == "shards"}:
            files.remove_folder(folder, empty=True)
    return found


def _is_run(files: SafeDirectory) -> bool:
    """Whether a directory is a run's, if only one that was killed before it had written its plan."""
    return any(name in ("plan.yaml", "cells") or name.startswith(".plan.yaml.") for name in files.names())


def _of_cell(store: CellStore, cell: Cell) -> Iterator[Litter]:
    folder = store.folder(cell)
    done = store.complete(cell)
    for name in store.files.names(folder / "shards"):
        ours = name.startswith(f"{cell.key[:16]}-")
        if name.endswith(".parquet") and not name.startswith(".") and (done or not ours):
            yield from _litter(store.files, SHARDS, folder / "shards" / name)
    if store.stale(cell):
        for name in ("scores.json", "detections.parquet"):
            yield from _litter(store.files, STALE, folder / name)


def _litter(files: SafeDirectory, kind: str, path: Path) -> Iterator[Litter]:
    if about := files.stat(path):  # else a process at work has renamed it
        yield Litter(kind, path, about.st_size)
