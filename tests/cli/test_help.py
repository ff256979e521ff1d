"""Everything on the command line is documented, and asking for help loads nothing heavy."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from robustbench_sgdm.cli import app


def commands(command: Any = None, path: str = "robustbench") -> Iterator[tuple[str, Any]]:
    command = command or typer.main.get_command(app)
    children = getattr(command, "commands", {})
    if not children:
        yield path, command
    for name, child in children.items():
        yield from commands(child, f"{path} {name}")


@pytest.mark.parametrize(("path", "command"), list(commands()))
def test_every_command_and_option_says_what_it_does(path: str, command: Any) -> None:
    assert command.help and command.help.strip()
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{path} {parameter.name} has no help"


def test_help_loads_nothing_heavy() -> None:
    heavy = ("torch", "pandas", "matplotlib")
    script = f"import sys; from robustbench_sgdm import cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0 and done.output == f"robustbench-sgdm {metadata.version('robustbench-sgdm')}\n"
