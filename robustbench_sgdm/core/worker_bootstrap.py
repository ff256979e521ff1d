"""The start of a worker process: what it inherits, and how it ends with the process that started it.

Nothing heavy is imported here. A spawned worker unpickles its target first of all; until torch is loaded (seconds) it
would else not notice that its parent is gone, and orphans would pile up.
"""

import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

WORKER_NAME = "robustbench-worker"
"""What `multiprocessing` calls worker processes."""

MAIN_WAS_RUN_AGAIN = 88
"""The exit code of a worker whose start ran the user's script from its beginning; see `stop_second_run`."""


@dataclass(frozen=True)
class InheritedFile:
    """An open file that a process inherits when it starts, so that it has no name to leave behind.

    `multiprocessing` sends its own arguments through a pipe: beyond the pipe's buffer (64 KiB) the parent would wait for
    ever for a worker that died before it read them. A file without a name needs no cleaning up either.
    """

    fd: int

    def read(self) -> bytes:
        """The whole content, whatever offset other processes have reached in the shared handle."""
        size, content = os.fstat(self.fd).st_size, bytearray()
        while len(content) < size:  # Linux reads at most 2 GiB at a time
            part = os.pread(self.fd, size - len(content), len(content))
            if not part:
                raise EOFError(f"the file ended after {len(content)} of {size} bytes")
            content += part
        return bytes(content)

    def __reduce__(self) -> tuple[Any, ...]:
        return _inherited, (reduction.DupFd(self.fd),)


def _inherited(duplicate: Any) -> InheritedFile:
    return InheritedFile(duplicate.detach())


def stop_second_run() -> None:
    """End this process if it is a worker that is still starting.

    A spawned process first runs the user's script, so that what is defined there can be unpickled. A script without
    `if __name__ == "__main__":` would do all its work again in every worker, and start workers of its own.
    """
    process = multiprocessing.current_process()
    # `multiprocessing` knows by this attribute too that a process is starting.
    if process.name == WORKER_NAME and getattr(process, "_inheriting", False):
        sys.exit(MAIN_WAS_RUN_AGAIN)


def worker_main(link: Connection, file: InheritedFile, install: bytes) -> None:
    """Answer every message of a connection until its other end closes, which it does when its process ends.

    A thread reads from the very start, while the main thread still imports: when the connection closes, this process
    ends at once whatever it is doing, and the other end never blocks on a full pipe.

    Args:
        link: its end here.
        file: for `install`.
        install: a pickled function of the file's content; it gives the function of a message that answers it.
    """
    messages: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_receive, args=(link, messages), daemon=True).start()
    answer = pickle.loads(install)(file.read())
    while True:
        reply = answer(messages.get())
        with suppress(OSError):  # the other end is gone; the thread sees it too, and ends the process
            link.send_bytes(reply)


def _receive(link: Connection, messages: "SimpleQueue[bytes]") -> None:
    with suppress(EOFError, OSError):
        while True:
            messages.put(link.recv_bytes())
    os._exit(0)  # not sys.exit, which would end this thread alone


@contextmanager
def without_cwd_imports() -> Iterator[None]:
    """Python processes started meanwhile do not look for modules in the current folder."""
    with override_environ(PYTHONSAFEPATH="1"):
        yield


_ENVIRONMENT = threading.RLock()


@contextmanager
def override_environ(**variables: str) -> Iterator[None]:
    """The process's environment with these variables, for a while; one thread at a time."""
    with _ENVIRONMENT:  # two at once would put back each other's
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
