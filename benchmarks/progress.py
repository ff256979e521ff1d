"""How right the remaining time is that `robustbench run` prints: read off its bar on a terminal, for a real run.

Prints, at each tenth of the time that the run took, the estimate of the whole (elapsed plus left) and its error.
The aim: at most 30 % after the first tenth, on a machine whose load does not change; the load is printed too.

    python benchmarks/progress.py [--fraction 0.25] [--noise gaussian] [--severity 1,3,5]
"""

import argparse
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from pathlib import Path

_BAR = re.compile(r"elapsed ([\d:]+) left ([\d:]+)")
_CODE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours and moves of a terminal
_STAGE = re.compile(r"([A-Za-z][A-Za-z ]+[a-z]) +[━╸╺ ]+")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fraction", default="0.25")
    parser.add_argument("--noise", default="gaussian")
    parser.add_argument("--severity", default="1,3,5")
    options = parser.parse_args()
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "robustbench_sgdm.cli", "run", "--model", "yolov8n-sgdm"),
            *("--noise", options.noise, "--severity", options.severity, "--fraction", options.fraction),
            *("--project", str(Path(folder) / "runs"), "--name", "progress", "--yes"),
        ]
        estimates, whole = record(command)
    print(
        f"{len(estimates)} estimates in {whole:.0f} s; load {before:.1f} before, {os.getloadavg()[0]:.1f} after"
    )
    for tenth in range(1, 10):
        at = min(estimates, key=lambda one: abs(one[0] - tenth / 10 * whole), default=None)
        if at is not None:
            elapsed, left, stage = at
            print(
                f"  {tenth * 10} %: {elapsed:4.0f} + {left:4.0f} s, off by {(elapsed + left) / whole - 1:+.0%} ({stage})"
            )


def record(command: Sequence[str]) -> tuple[list[tuple[float, float, str]], float]:
    """Run a command on a terminal of 120 columns.

    Returns:
        (seconds elapsed, seconds left, stage) of each line of its bar, and the seconds that it took in all.
    """
    driver, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    start, estimates, text = time.monotonic(), list[tuple[float, float, str]](), ""
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, stdin=subprocess.DEVNULL) as process:
        os.close(terminal)
        while True:
            try:
                data = os.read(driver, 65536)
            except OSError:  # the terminal's last user has gone
                break
            if not data:
                break
            text = _CODE.sub("", text + data.decode(errors="replace"))[-4000:]
            if found := list(_BAR.finditer(text)):
                stage = list(_STAGE.finditer(text[: found[-1].start()]))
                name = stage[-1][1] if stage else ""
                estimates.append((time.monotonic() - start, _seconds(found[-1][2]), name))
                text = text[found[-1].end() :]
    os.close(driver)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {text[-500:]}")
    return estimates, time.monotonic() - start


def _seconds(clock: str) -> float:
    """Of h:mm:ss or m:ss.

    >>> _seconds("1:02:03"), _seconds("0:07")
    (3723.0, 7.0)
    """
    total = 0
    for part in clock.split(":"):
        total = 60 * total + int(part)
    return float(total)


if __name__ == "__main__":
    main()
