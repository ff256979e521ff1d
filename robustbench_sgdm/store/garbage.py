"""Files of a run directory that nothing will read again."""

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.store.cells import CellStore
from robustbench_sgdm.store.locks import check_unlocked, exclusive_lock
from robustbench_sgdm.store.runs import Run
from robustbench_sgdm.store.schema import FIRST_MANIFEST, MANIFEST, Cell

TEMPORARY, SHARDS, OUTDATED = (
    "temporary files",
    "shards of finished or older cells",
    "cells of older versions or data",
)
"""Kinds of stale files."""

_HALF_WRITTEN = re.compile(r"\..+\.[0-9a-f]{32}")  # `SafeDirectory.write` names them so


@dataclass(frozen=True)
class StaleFile:
    """A file that can go, and why."""

    kind: str
    path: Path
    size: int


def find_stale_files(path: Path) -> list[StaleFile]:
    """What can be removed: what a killed process left, and what the manifest's own cells will replace.

    Complete cells stay, those of other runs in the same directory too, and so do shards that a run will resume from.
    Of a run whose manifest cannot be read only half-written files can go: nothing says what else is needed.
    Nothing outside the directory is ever named, and nothing in one that is no run's.

    Raises:
        UnsafeFileError: a link or no regular file lies where a cell belongs.
    """
    files = SafeDirectory(path)
    if not _is_run(files):
        return []
    stale = [
        StaleFile(TEMPORARY, path, info.st_size)
        for path, info in files.walk()
        if _HALF_WRITTEN.fullmatch(path.name) and stat.S_ISREG(info.st_mode)
    ]
    try:
        run = Run.open(path)
    except DataError:
        return stale
    for cell in run.cells:
        stale += _of_cell(run.store, cell)
    return stale


def remove_stale_files(path: Path, *, dry: bool = False) -> list[StaleFile]:
    """Remove them and give what they were; with `dry` only find them, and write nothing.

    Raises:
        RobustBenchError: a process works on the run.
    """
    if dry:
        check_unlocked(path)
        return find_stale_files(path)
    if not find_stale_files(path):
        return []
    with exclusive_lock(path):
        # Again: the run may have finished before the lock was ours.
        files, stale = SafeDirectory(path), find_stale_files(path)
        for file in stale:
            files.unlink(file.path)
        for folder in {file.path.parent for file in stale if file.path.parent.name == "shards"}:
            files.remove_folder(folder, empty=True)
    return stale


def _is_run(files: SafeDirectory) -> bool:
    """Whether a directory is a run's, if only one that was killed before it had written its manifest."""
    is_run = (MANIFEST, FIRST_MANIFEST, "cells")
    return any(name in is_run or name.startswith(f".{MANIFEST}.") for name in files.names())


def _of_cell(store: CellStore, cell: Cell) -> Iterator[StaleFile]:
    folder = store.folder(cell)
    done = store.is_complete(cell)
    for name in store.files.names(folder / "shards"):
        ours = name.startswith(f"{cell.key[:16]}-")
        if name.endswith(".parquet") and not name.startswith(".") and (done or not ours):
            yield from _stale_file(store.files, SHARDS, folder / "shards" / name)
    if store.is_outdated(cell):
        for name in ("scores.json", "detections.parquet"):
            yield from _stale_file(store.files, OUTDATED, folder / name)


def _stale_file(files: SafeDirectory, kind: str, path: Path) -> Iterator[StaleFile]:
    if info := files.stat(path):  # else a process at work has renamed it
        yield StaleFile(kind, path, info.st_size)
