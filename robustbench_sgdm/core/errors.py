"""Errors a user can act on: the value, the bound and the remedy in one line.

The command line prints them without a traceback and exits with their code.
"""

import difflib
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustbench_sgdm import api, store
    from robustbench_sgdm.training import TrainedRun


class RobustBenchError(Exception):
    """Something failed for a reason the user can see and fix (exit code 1)."""

    exit_code = 1


class UsageError(RobustBenchError):
    """The command or a call was wrong: an unknown name, an impossible value (exit code 2)."""

    exit_code = 2


class DataError(RobustBenchError):
    """A file is missing, damaged or not what it claims to be (exit code 1)."""


class UnsafeFileError(RobustBenchError):
    """A file or folder of a run directory is a link, a hard link, a pipe or a device, and is not opened (exit code 1).

    Not a `DataError`: damaged files are often computed again, but a file that may lead outside is the user's to check.
    """


class CorruptionError(DataError):
    """A corruption's own function failed; the other corruptions are not affected."""


class DeviceError(RobustBenchError):
    """The device failed a unit of work; the other units are not affected."""


class IncompleteError(RobustBenchError):
    """A run ended with cells missing; the others are stored.

    Attributes:
        directory: of the run, with the cells that are stored.
        run: the same as a `Run`, if `evaluate` raised the error.
    """

    run: "api.Run"

    def __init__(self, directory: "store.Run", reasons: "Sequence[RobustBenchError]") -> None:
        missing = directory.missing_cells()
        named = "; ".join(map(str, missing[:5])) + ("; ..." if len(missing) > 5 else "")
        super().__init__(
            f"{'; '.join(map(str, reasons))}; {len(missing)} of {len(directory.cells)} cells are missing ({named}): "
            "fix it and run the same command again to compute them"
        )
        self.directory = directory


class TrainingFailedError(RobustBenchError):
    """Some trainings of a comparison failed; the others are finished.

    Attributes:
        runs: the finished ones.
    """

    def __init__(self, failed: Mapping[str, str], runs: "Sequence[TrainedRun]") -> None:
        super().__init__("; ".join(f"{name}: {why}" for name, why in failed.items()))
        self.runs = list(runs)


class StoppedError(RobustBenchError):
    """The user or the system (SIGTERM) stopped a run; what is finished is kept (exit code 130, as in shells)."""

    exit_code = 130


def unknown_name_error(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not known, with the nearest ones that are.

    >>> str(unknown_name_error("corruption", "gausian", ["gaussian_noise", "shot_noise"]))
    "unknown corruption 'gausian'; did you mean gaussian_noise? Known: gaussian_noise, shot_noise"
    """
    choices = list(known)
    near = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    return UsageError(f"unknown {kind} {name!r}{hint} Known: {', '.join(choices)}")


def describe_plugin_error(error: BaseException) -> str:
    """What code of another package raised, and where: its author sees no traceback."""
    if isinstance(error, RobustBenchError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith("<")]  # importlib's are frozen
    where = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {error}{where}"
