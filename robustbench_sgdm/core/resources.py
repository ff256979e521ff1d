"""Finds and loads the content folders `app/`, `corruptions/` and `reports/`, and users' own, by path.

In a wheel they lie in `robustbench_sgdm/_content/`; in a checkout beside the package. A folder beside
the package counts only where it holds our own `pyproject.toml`, so that somebody else's `app/` never
shadows ours.
"""

import hashlib
import importlib.util
import sys
import threading
import tomllib
from pathlib import Path
from types import ModuleType

from robustbench_sgdm.core.errors import DataError

_PACKAGE = Path(__file__).parent.parent
_DISTRIBUTION = "robustbench-sgdm"


def root() -> Path:
    """The folder that holds the content folders.

    Raises:
        DataError: neither the wheel's nor a checkout's content is there.
    """
    packed = _PACKAGE / "_content"
    if packed.is_dir():
        return packed
    checkout = _PACKAGE.parent
    project = checkout / "pyproject.toml"
    if (
        project.is_file()
        and tomllib.loads(project.read_text("utf-8")).get("project", {}).get("name") == _DISTRIBUTION
    ):
        return checkout
    raise DataError(f"{_DISTRIBUTION}'s content folders are missing beside {_PACKAGE}; install it again")


_LOADED: dict[str, ModuleType] = {}
# One for all: with one each, two files that load each other could wait for each other.
_LOADING = threading.RLock()


def import_file(path: Path) -> ModuleType:
    """Import one Python file by path, once per process, under a private name; threads may ask for it at once.

    The name is a function of the path, so that a spawned worker that loads the same file gets the
    same module name and can unpickle what it holds. Other threads get the module when it is whole; only a file
    that it loads in turn sees it before, as with any import.

    Raises:
        DataError: the file cannot be imported; the message names it and the reason.
    """
    path = path.resolve()
    name = f"_robustbench_content_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in _LOADED:
        return _LOADED[name]
    with _LOADING:
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise DataError(f"{path} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look for it there
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[name]
            if not isinstance(error, Exception | SystemExit):
                raise
            raise DataError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
        _LOADED[name] = module
    return module


def import_folder(folder: Path) -> list[ModuleType]:
    """Load every `*.py` of a folder in name order; files that start with `_` are passed over.

    Raises:
        DataError: the folder does not exist, or a file cannot be imported.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    return [import_file(path) for path in sorted(folder.glob("*.py")) if not path.name.startswith("_")]
