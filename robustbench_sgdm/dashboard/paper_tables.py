"""The paper's recomputed numbers: counted by another process, once, and kept until the code that counts them changes."""

import contextlib
import hashlib
import io
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pandas as pd

import robustbench_sgdm
from robustbench_sgdm.core import escaping
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.core.versions import installed_versions
from robustbench_sgdm.dashboard import jobs
from robustbench_sgdm.datasets.cache import cache_dir

COLUMNS = ("table", "row", "column", "quantity", "model", "printed", "value", "at_640", "verdict", "why")
"""Of the frames, among others."""

_COUNTING = ("paper", "modules", "detectors/ultralytics")  # folders of the package that decide the numbers
_TEXTS = ("row", "column", "quantity", "model", "verdict", "why")
_MAX_BYTES = 2**20
_POOL = ThreadPoolExecutor(1)  # building models takes a core and a gigabyte
_PENDING: dict[str, tuple[float, "Future[pd.DataFrame]"]] = {}
_RETRY_SECONDS = 30.0  # from the start of what failed, or what the disk did not keep
_LOCK = threading.Lock()


def recomputed(number: str) -> pd.DataFrame | None:
    """A table's numbers; None while they are counted for the first time.

    Raises:
        DataError: they cannot be counted; a call half a minute later tries again.
    """
    if (kept := _read(number)) is not None:
        return kept
    with _LOCK:
        started, future = _PENDING.get(number, (0.0, None))
        if future is None or (future.done() and time.monotonic() - started > _RETRY_SECONDS):
            started, future = _PENDING[number] = time.monotonic(), _POOL.submit(_count, number)
        return future.result() if future.done() else None


def _count(number: str) -> pd.DataFrame:
    done = jobs.run_command("paper", "--table", number, "--format", "csv")
    if done.returncode:
        raise DataError(f"table {number} cannot be recomputed: {done.stderr.strip()[-300:]}")
    frame = _parse(done.stdout)
    with contextlib.suppress(OSError):  # on a full disk it is counted again another time
        _folder().mkdir(parents=True, exist_ok=True)
        SafeDirectory(_folder()).write_text(_file(number), done.stdout)
    return frame


def _read(number: str) -> pd.DataFrame | None:
    try:
        return _parse(SafeDirectory(_folder()).read_bytes(_file(number), _MAX_BYTES).decode())
    except (OSError, ValueError, DataError):
        return None


def _parse(text: str) -> pd.DataFrame:
    """The frame of `robustbench paper --format csv`.

    Raises:
        DataError: something else.
    """
    frame = escaping.from_csv_frame(pd.read_csv(io.StringIO(text), dtype=dict.fromkeys(_TEXTS, str)))
    if not set(COLUMNS) <= set(frame):
        raise DataError("the table lacks columns")
    return frame


def _folder() -> Path:
    return cache_dir() / "paper"


def _file(number: str) -> str:
    return f"table-{number}-{_code_key()}.csv"


@cache
def _code_key() -> str:
    """What the numbers depend on: the code that counts, the printed tables, and the libraries."""
    package = Path(robustbench_sgdm.__file__).parent
    digest = hashlib.sha256(repr(sorted(installed_versions().items())).encode())
    for folder in _COUNTING:
        for file in sorted((package / folder).rglob("*")):
            if file.suffix in {".py", ".yaml"}:
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
