"""What the worker processes of test_processes.py do: quick to import, so that many can be killed."""

import os
import pickle
import signal
import time
from collections.abc import Callable
from typing import Any


def doing(payload: bytes) -> Callable[[bytes], bytes]:
    """Answers a unit with itself; strings say what to do instead. `payload` is how long to start and to work (s)."""
    start, work = pickle.loads(payload)
    time.sleep(start)

    def answer(message: bytes) -> bytes:
        unit: Any = pickle.loads(message)
        time.sleep(work)
        if unit == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if unit == "leave":
            os._exit(7)
        if unit == "fail":
            return pickle.dumps(ValueError("as told"))
        if unit == "pid":
            return pickle.dumps(os.getpid())
        return pickle.dumps(unit if unit != "large" else bytes(50_000_000))

    return answer


def never(payload: bytes) -> Callable[[bytes], bytes]:
    """Cannot start."""
    os._exit(3)
