"""Runs `robustbench` in forks of a process that has imported everything: a genuine run without the wait.

Reads a json object a line: {"run": arguments, "log": file, "environment": more of it} starts one and answers its
process id; {"wait": pid} answers how it ended, as `subprocess` counts. Nothing here computes before it forks, so that
no thread is lost.
"""

import json
import os
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

# The rest is imported below: worker processes import this file too, and are to leave early if their run is killed.
EVERYTHING = (
    "robustbench_sgdm.sweep",
    "robustbench_sgdm.report",
    "robustbench_sgdm.figures",
    "robustbench_sgdm.detectors",
    "hotcoco",
    "plutoprint",
    "pypdf",
)


def main() -> None:
    for module in EVERYTHING:
        import_module(module)
    import_module("robustbench_sgdm.corruption").load_corruptions()
    # Ignored where a shell started this in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for line in sys.stdin:
        wanted = json.loads(line)
        if "run" in wanted:
            os.environ.update(wanted["environment"])
            print(_start(wanted["run"], Path(wanted["log"])), flush=True)
        else:
            _, status = os.waitpid(wanted["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)


def _start(arguments: list[str], log: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code: Any = 1
    try:
        with log.open("ab") as file, Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        cli = import_module("robustbench_sgdm.cli")
        sys.argv = ["robustbench", *arguments]
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:  # noqa: BLE001 - a traceback is what the tests look for
            traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    main()
