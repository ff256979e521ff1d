"""The start of a worker process, with nothing heavy to import: it leaves with the process that started it."""

import os
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any


@dataclass(frozen=True)
class Handle:
    """An open file that a process inherits when it starts, so that it has no name to leave behind.

    What `multiprocessing` itself passes on must be small: it would wait for ever for a process that died early.
    """

    fd: int

    def read(self) -> bytes:
        """All of it; where others are in it does not matter."""
        size, content = os.fstat(self.fd).st_size, bytearray()
        while len(content) < size:  # Linux gives 2 GiB at a time
            part = os.pread(self.fd, size - len(content), len(content))
            if not part:
                raise EOFError(f"the file ended after {len(content)} of {size} bytes")
            content += part
        return bytes(content)

    def __reduce__(self) -> tuple[Any, ...]:
        return _inherited, (reduction.DupFd(self.fd),)


def _inherited(duplicate: Any) -> Handle:
    return Handle(duplicate.detach())


def begin(lifeline: Connection, file: Handle, install: bytes) -> None:
    """Watch the lifeline, whose other end closes when the process that holds it ends; only then import the rest.

    Args:
        lifeline: its end here; nothing is ever sent.
        file: for `install`.
        install: a pickled function of the file's content.
    """
    threading.Thread(target=_leave_with, args=(lifeline,), daemon=True).start()
    pickle.loads(install)(file.read())


def _leave_with(lifeline: Connection) -> None:
    with suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(0)


@contextmanager
def safe_path() -> Iterator[None]:
    """Python processes started meanwhile do not look for modules in the current folder."""
    with environment(PYTHONSAFEPATH="1"):
        yield


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """The process's environment with these variables, for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
