"""What of a run directory nothing will read again."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from robustbench_sgdm.errors import DataError
from robustbench_sgdm.store.cells import Cell, CellStore
from robustbench_sgdm.store.locks import alone, check_free
from robustbench_sgdm.store.runs import Run

TEMPORARY, SHARDS, STALE = (
    "temporary files",
    "shards of finished or older cells",
    "cells of older code or data",
)
"""Kinds of litter."""

_HALF_WRITTEN = re.compile(r"\..+\.[0-9a-f]{32}")  # `atomic.write` names them so


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
    """
    if not _is_run(path):
        return []
    found = [Litter(TEMPORARY, p, _size(p)) for p in path.rglob(".*") if _HALF_WRITTEN.fullmatch(p.name)]
    try:
        run = Run.open(path)
    except DataError:
        return _inside(path, found)
    for cell in run.cells:
        found += _of_cell(run.store, cell)
    return _inside(path, found)


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
        found = find_litter(path)
        for one in found:
            one.path.unlink(missing_ok=True)
        for folder in {one.path.parent for one in found}:
            if folder.name == "shards" and not any(folder.iterdir()):
                folder.rmdir()
    return found


def _is_run(path: Path) -> bool:
    """Whether a directory is a run's, if only one that was killed before it had written its plan."""
    return any((path / name).exists() for name in ("plan.yaml", "cells")) or any(path.glob(".plan.yaml.*"))


def _of_cell(store: CellStore, cell: Cell) -> Iterator[Litter]:
    folder = store.folder(cell)
    done = store.complete(cell)
    for shard in sorted((folder / "shards").glob("[!.]*.parquet")):
        if done or not shard.name.startswith(f"{cell.key[:16]}-"):
            yield Litter(SHARDS, shard, _size(shard))
    if store.stale(cell):
        for path in (folder / "scores.json", folder / "detections.parquet"):
            if path.is_file():
                yield Litter(STALE, path, _size(path))


def _inside(root: Path, found: list[Litter]) -> list[Litter]:
    whole = root.resolve()
    return [one for one in found if one.path.is_file() and one.path.parent.resolve().is_relative_to(whole)]


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:  # renamed by a process at work
        return 0
