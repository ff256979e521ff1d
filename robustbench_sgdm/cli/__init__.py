"""The command `robustbench`: thin; each command imports what it needs, so that `--help` is quick."""

import errno
import io
import logging
import signal
import sys
import threading
from typing import Annotated

import typer

from robustbench_sgdm import __version__
from robustbench_sgdm.cli import (
    checks,
    clean,
    compare,
    corrupt,
    curves,
    dashboard,
    export,
    figure,
    leaderboard,
    lists,
    paper,
    results,
    run,
    score,
    train,
)
from robustbench_sgdm.core.errors import RobustBenchError, StoppedError

app = typer.Typer(
    name="robustbench",
    help="Measure how well object detectors survive corruption, and compare them on identical pixels.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"robustbench-sgdm {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None: ...


app.command("run")(run.run)
app.command("results")(results.results)
app.command("compare")(compare.compare)
app.command("score")(score.score)
app.command("train")(train.train)
app.command("export")(export.export)
app.command("curves")(curves.curves)
app.command("figure")(figure.figure)
app.command("report")(figure.report)
app.command("leaderboard")(leaderboard.leaderboard)
app.add_typer(lists.app, name="list")
app.command("paper")(paper.paper)
app.command("corrupt")(corrupt.corrupt)
app.command("dashboard")(dashboard.dashboard)
app.command("clean")(clean.clean)
app.command("checks")(checks.checks)


class _Notes(logging.Handler):
    """Prints log records to the current standard error, above progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        from robustbench_sgdm.cli.console import warn

        warn(f"{'warning: ' * (record.levelno == logging.WARNING)}{self.format(record)}")


def main() -> None:
    """Run the command line: exit code 2 for bad usage, 1 for failure, no traceback for either."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a narrow encoding must not cost a finished run its tables
    log = logging.getLogger("robustbench_sgdm")
    log.setLevel(logging.INFO)
    log.handlers = [_Notes()]
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler stops as Ctrl-C does
    try:
        app()
    except RobustBenchError as error:
        _fail(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # before the command itself could begin
        sys.exit(StoppedError.exit_code)
    except OSError as error:  # a file or folder that no more specific message covers
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "; free some space and run the same command again to resume" if full else ""
        _fail(f"{error}{remedy}")
        sys.exit(1)


def _fail(text: str) -> None:
    from robustbench_sgdm.core.escaping import terminal

    print(f"error: {terminal(text)}", file=sys.stderr)
