"""A run directory that worker processes write too, where they see it: on the same machine, or on a shared disk."""

import os
import re
import secrets
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.store.cells import CellStore

# Named as half-written files are, so that `robustbench clean` finds what a killed process leaves.
_TOKEN = re.compile(r"\.workers\.[0-9a-f]{32}")


class TakenOverError(RobustBenchError):
    """The run directory no longer belongs to the process that started this worker (exit code 1)."""


@dataclass(frozen=True)
class SharedStore:
    """A store as worker processes may find it; pickled to them.

    A worker sees the same directory if the file `name` in it, which the driver wrote, holds `token`. The file is gone
    as soon as the driver has finished or another process has taken the run over: from then on nothing more is written.

    Attributes:
        path: the run directory, absolute.
        cells: the folder of its cells.
        name: of the file.
        token: its content.
    """

    path: Path
    cells: Path
    name: str
    token: bytes

    def find(self) -> CellStore | None:
        """The store for a worker process to write; None where it sees another directory, or may not write."""
        files = _SharedDirectory(self.path, self.check)
        probe = f".{self.name}.{uuid.uuid4().hex}"
        try:
            self.check()
            files.write_bytes(probe, b"", sync=False)
            files.unlink(probe)
        except (OSError, RobustBenchError):
            return None
        return CellStore(self.cells, files)

    def check(self) -> None:
        """Refuse a directory that is not the driver's, or no longer.

        Raises:
            TakenOverError: another directory lies there, or the run was taken over.
            RobustBenchError: the file cannot be read.
        """
        try:
            content = SafeDirectory(self.path).read_bytes(self.name, len(self.token) + 1)
        except FileNotFoundError:
            content = b""
        except OSError as error:
            raise RobustBenchError(
                f"cannot read {self.path / self.name}: {error.strerror or error}"
            ) from error
        if content != self.token:
            raise TakenOverError(
                f"{self.path} is not, or no longer, the directory of the process that started this worker; nothing is "
                "written. Run the same command again to resume"
            )


class _SharedDirectory(SafeDirectory):
    """Checks before each rename and each removal that the directory is still the driver's."""

    def __init__(self, path: Path, check: Callable[[], None]) -> None:
        super().__init__(path)
        self._check = check

    def write(self, path: Path | str, fill: Callable[[BinaryIO], object], *, sync: bool = True) -> None:
        """See `SafeDirectory.write`."""

        def fill_and_check(file: BinaryIO) -> None:
            fill(file)
            if sync:  # here, so that hardly any time lies between the check and the rename
                file.flush()
                os.fsync(file.fileno())
            self._check()

        super().write(path, fill_and_check, sync=False)

    def unlink(self, path: Path | str) -> None:
        """See `SafeDirectory.unlink`."""
        self._check()
        super().unlink(path)

    def remove_folder(self, path: Path | str, *, empty: bool = False) -> None:
        """See `SafeDirectory.remove_folder`."""
        self._check()
        super().remove_folder(path, empty=empty)


@contextmanager
def share_store(store: CellStore) -> Iterator[SharedStore]:
    """Let worker processes write a store for as long as the context lasts."""
    path = store.files.path.absolute()
    shared = SharedStore(path, store.root.absolute(), f".workers.{uuid.uuid4().hex}", secrets.token_bytes(32))
    store.files.write_bytes(shared.name, shared.token)
    try:
        yield shared
    finally:
        store.files.unlink(shared.name)


def revoke_workers(store: CellStore) -> None:
    """Stop workers of a process that is gone from writing a store. Call it locked."""
    for name in store.files.names():
        if _TOKEN.fullmatch(name):
            store.files.unlink(name)
