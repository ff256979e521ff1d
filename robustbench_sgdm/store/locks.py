"""A lock on a run directory that the system frees with its process, however that ends."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.core.safe_directory import SafeDirectory

_REMEDY = (
    "give a --project that can be written, on a disk with file locks (of network file systems, NFS has them)"
)

_LOOKED_AT = 0.2  # seconds; `held` takes the lock for a moment
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK)  # the last by Windows


def held(path: Path) -> bool:
    """Whether another process works in a directory, as far as can be told without changing it.

    Raises:
        UnsafeFileError: its lock is a link or no regular file.
    """
    try:
        with SafeDirectory(path).open(".lock", "r+b") as file:
            return not _lock(file)
    except OSError:
        return False


def check_free(path: Path) -> None:
    """Refuse a directory that another process works in, and change nothing.

    Raises:
        RobustBenchError: one does.
        UnsafeFileError: see `held`.
    """
    if held(path):
        raise _worked_on(path)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Work in a directory alone; it is made as needed, and the empty file `.lock` stays in it.

    Raises:
        RobustBenchError: another process works in it, or its file system has no locks.
        UnsafeFileError: see `held`.
    """
    try:
        file = SafeDirectory(path).open(".lock", "a+b")
    except OSError as error:
        raise _cannot(path, error) from error
    with file:
        until = time.monotonic() + _LOOKED_AT
        try:
            while not _lock(file):
                if time.monotonic() > until:
                    raise _worked_on(path)
                time.sleep(0.02)
        except OSError as error:
            raise _cannot(path, error) from error
        _HELD.add(file)
        try:
            yield
        finally:
            _HELD.discard(file)


def _worked_on(path: Path) -> RobustBenchError:
    return RobustBenchError(f"another process works on {path}: wait for it, or run under another --name")


def _cannot(path: Path, error: OSError) -> RobustBenchError:
    return RobustBenchError(f"cannot write {path} or lock it: {error.strerror or error}; {_REMEDY}")


def _lock(file: BinaryIO) -> bool:
    """Lock an open file until it is closed, unless another process has; whether it did."""
    try:
        _system_lock()(file.fileno())
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True


def _system_lock() -> Callable[[int], None]:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        return lambda handle: msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    return lambda handle: fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


_HELD: set[BinaryIO] = set()


def _let_go() -> None:
    """A forked process must not keep its parent's lock: it may outlive it."""
    while _HELD:
        _HELD.pop().close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
