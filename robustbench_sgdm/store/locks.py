"""A lock on a run directory that the system frees with its process, however that ends."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from robustbench_sgdm.errors import RobustBenchError

_REMEDY = (
    "give a --project that can be written, on a disk with file locks (of network file systems, NFS has them)"
)


def held(path: Path) -> bool:
    """Whether another process works in a directory, as far as can be told without changing it."""
    if not (path / ".lock").is_file():
        return False
    lock: BaseFileLock = FileLock(path / ".lock", timeout=0)
    try:
        with warnings.catch_warnings(action="ignore"):
            lock.acquire()
    except Timeout:
        return not isinstance(lock, SoftFileLock)  # which takes any file for a lock
    except (NotImplementedError, OSError):
        return False
    lock.release()
    return False


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Work in a directory alone; it is made as needed, and the empty file `.lock` stays in it.

    Raises:
        RobustBenchError: another process works in it, or its file system has no locks.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings(action="ignore"):  # filelock's, before it takes what is refused below
            lock: BaseFileLock = FileLock(path / ".lock", timeout=0)
            lock.acquire()
    except Timeout:
        raise RobustBenchError(
            f"another process works on {path}: wait for it, or run under another --name"
        ) from None
    except (NotImplementedError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RobustBenchError(f"cannot write {path} or lock it: {reason}; {_REMEDY}") from error
    try:
        if isinstance(lock, SoftFileLock):  # a file that a killed process would leave locked
            raise RobustBenchError(f"{path} is on a file system without locks; {_REMEDY}")
        yield
    finally:
        lock.release()
