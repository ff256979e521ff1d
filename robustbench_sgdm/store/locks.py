"""A lock on a run directory that the system frees with its process, however that ends.

A file whose existence is the lock would stay behind when a process is killed, and somebody would have to decide whether
its owner still works.
"""

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

_PATIENCE = 0.2  # seconds; `is_locked` takes the lock for a moment, and must not make another process give up
_LOCKED = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK)  # the last by Windows


def is_locked(path: Path) -> bool:
    """Whether another process works in a directory, as far as can be told without changing it.

    Raises:
        UnsafeFileError: its lock is a link or no regular file.
    """
    try:
        with SafeDirectory(path).open(".lock", "r+b") as file:
            return not try_lock(file)
    except OSError:
        return False


def check_unlocked(path: Path) -> None:
    """Refuse a directory that another process works in, and change nothing.

    Raises:
        RobustBenchError: one does.
        UnsafeFileError: see `is_locked`.
    """
    if is_locked(path):
        raise _in_use(path)


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Work in a directory alone; it is made as needed, and the empty file `.lock` stays in it.

    Raises:
        RobustBenchError: another process works in it, or its file system has no locks.
        UnsafeFileError: see `is_locked`.
    """
    try:
        file = SafeDirectory(path).open(".lock", "a+b")
    except OSError as error:
        raise _no_lock(path, error) from error
    with file:
        until = time.monotonic() + _PATIENCE
        try:
            while not try_lock(file):
                if time.monotonic() > until:
                    raise _in_use(path)
                time.sleep(0.02)
        except OSError as error:
            raise _no_lock(path, error) from error
        _OPEN.add(file)
        try:
            yield
        finally:
            _OPEN.discard(file)


def _in_use(path: Path) -> RobustBenchError:
    return RobustBenchError(
        f"another process works on {path}: wait for it to finish, or run under another --name"
    )


def _no_lock(path: Path, error: OSError) -> RobustBenchError:
    return RobustBenchError(f"cannot write {path} or lock it: {error.strerror or error}; {_REMEDY}")


def try_lock(file: BinaryIO) -> bool:
    """Lock an open file until it is closed, unless another process has; whether it is ours now.

    `flock` and not `fcntl.lockf`, whose lock is lost as soon as this process closes any other handle of the file.
    """
    try:
        _system_lock()(file.fileno())
    except OSError as error:
        if error.errno in _LOCKED:
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


_OPEN: set[BinaryIO] = set()


def _release() -> None:
    """A forked process shares its parent's open files, and with them the lock: it may outlive its parent."""
    while _OPEN:
        _OPEN.pop().close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release)
