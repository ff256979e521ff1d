"""Which runs, trainings and input files the dashboard may read."""

import argparse
import itertools
import os
import sys
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.core.parsing import find_path
from robustbench_sgdm.core.untrusted_input import escape_control_chars


@dataclass(frozen=True)
class Sources:
    """The folders that pages read. Outside them, only images and weights that a run names are read, after a click.

    Attributes:
        runs: run directories to show; if there are none, those in `project`.
        project: folder of run directories; the page Start creates new ones in it.
        training: folders of training runs.
        inputs: folders of weights and data sets that the page Start may use.
    """

    runs: tuple[Path, ...]
    project: Path
    training: tuple[Path, ...]
    inputs: tuple[Path, ...]

    def to_arguments(self) -> list[str]:
        """Command-line arguments of `main.py`, which `sources` parses."""
        folders = [("--training", self.training), ("--inputs", self.inputs)]
        words = [word for option, paths in folders for path in paths for word in (option, str(path))]
        return ["--project", str(self.project), *words, "--", *map(str, self.runs)]


def sources() -> Sources:
    """What `robustbench dashboard` passed on this process's command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--project", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--training", type=Path, action="append", default=[])
    parser.add_argument("--inputs", type=Path, action="append", default=[])
    options = parser.parse_args(sys.argv[1:])
    inputs = tuple(options.inputs) or (Path(),)
    return Sources(tuple(options.runs), options.project, tuple(options.training), inputs)


def check_input_path(name: str) -> None:
    """Reject a file outside the folders that the page Start may use; plain names pass.

    Raises:
        UsageError: the path lies outside, or a link leads outside.
    """
    path, folders = find_path(name), sources().inputs
    if path is None and not {"/", "\\"} & set(name):
        return
    try:
        real = (path or Path(name)).resolve()
    except (OSError, ValueError):  # not a possible file name
        real = None
    if real is None or not any(real.is_relative_to(folder.resolve()) for folder in folders):
        raise UsageError(
            f"{name} lies outside the folders whose files this page may use ({', '.join(map(str, folders))}); "
            "start the dashboard with --inputs FOLDER, or the run in a terminal"
        )


WEIGHTS = (".pt", ".safetensors", ".onnx", "_openvino_model")
"""Endings of files that are models."""
DATA = (".yaml", ".yml", ".json")
"""Endings of files that describe data."""

_DEEPEST, _MOST_ENTRIES, _MOST_FILES = 4, 5000, 200  # of a search for input files


def input_files(endings: Sequence[str]) -> list[str]:
    """Files in the folders that the page Start may use; a search of bounded depth and length, through no link."""
    found: list[str] = []
    folders, looked_at = [(folder, 0) for folder in sources().inputs], 0
    while folders and looked_at < _MOST_ENTRIES and len(found) < _MOST_FILES:
        folder, depth = folders.pop(0)
        try:
            with os.scandir(folder) as scan:
                entries = sorted(itertools.islice(scan, _MOST_ENTRIES), key=lambda entry: entry.name)
        except OSError:
            continue
        looked_at += len(entries)
        for entry in entries:
            if entry.name.startswith(".") or entry.is_symlink() or not entry.name.isprintable():
                continue
            if entry.name.lower().endswith(tuple(endings)):
                found.append(str(Path(folder) / entry.name))
            elif entry.is_dir(follow_symlinks=False) and depth < _DEEPEST:
                folders.append((Path(entry.path), depth + 1))
    return found[:_MOST_FILES]


def available_runs() -> dict[str, Path]:
    """The runs that may be shown, newest first, by unique name."""
    from robustbench_sgdm.store import list_runs  # slow to import for the command that only starts the server

    given = sources()
    paths = list(dict.fromkeys([*given.runs, *added_runs()])) or list_runs(given.project)[::-1]
    names: dict[str, Path] = {}
    for path in paths:
        names[unique_name(escape_control_chars(path.name or str(path)), names)] = path
    return names


def unique_name(name: str, taken: Container[str]) -> str:
    """A name that is not taken.

    >>> unique_name("a", []), unique_name("a", ["a", "a (2)"])
    ('a', 'a (3)')
    """
    numbered = (f"{name} ({number})" for number in itertools.count(2))
    return next(free for free in itertools.chain([name], numbered) if free not in taken)


_ADDED: list[Path] = []  # for all visitors, as long as the server lives


def added_runs() -> list[Path]:
    """Runs that this server created, newest first; only needed where runs were named, as `project` has them anyway."""
    return list(_ADDED) if sources().runs else []


def add_run(path: Path) -> None:
    """Show a run directory that the page Start has created."""
    if path not in _ADDED:
        _ADDED.insert(0, path)
