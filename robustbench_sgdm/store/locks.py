"""A lock on a run directory that the system frees with its process, however that ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from robustbench_sgdm.errors import RobustBenchError

_REMEDY = (
    "give a --project that can be written, on a disk with file locks (of network file systems, NFS has them)"
)

_LOOKED_AT = 0.2  # seconds; `held` takes the lock for a moment


def held(path: Path) -> bool:
    """Whether another process works in a directory, as far as can be told without changing it."""
    if not (path / ".lock").is_file():
        return False
    try:
        with _lock(path):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def check_free(path: Path) -> None:
    """Refuse a directory that another process works in, and change nothing.

    Raises:
        RobustBenchError: one does.
    """
    if held(path):
        raise _worked_on(path)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Work in a directory alone; it is made as needed, and the empty file `.lock` stays in it.

    Raises:
        RobustBenchError: another process works in it, or its file system has no locks.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = _lock(path, _LOOKED_AT)
        lock.acquire()
    except Timeout:
        raise _worked_on(path) from None
    except OSError as error:
        raise RobustBenchError(
            f"cannot write {path} or lock it: {error.strerror or error}; {_REMEDY}"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _worked_on(path: Path) -> RobustBenchError:
    return RobustBenchError(f"another process works on {path}: wait for it, or run under another --name")


def _lock(path: Path, patience: float = 0) -> FileLock:
    """Without a file in the lock's place where the system has none: a process that is killed would leave it."""
    return FileLock(path / ".lock", timeout=patience, fallback_to_soft=False)
