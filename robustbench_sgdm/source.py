"""The part of the code that decides results, as text to hash."""

import ast
import hashlib
from functools import cache
from pathlib import Path

from robustbench_sgdm.versions import versions

_DECIDING = ("torch", "torchvision", "ultralytics", "opencv-python", "pillow")


@cache
def detecting() -> str:
    """Hash of what decides a detection beside weights and settings: our own code and the libraries' versions.

    A cell that older code made is not mistaken for one that this code would make.
    """
    package = Path(__file__).parent
    files = [
        *sorted((package / "modules").glob("*.py")),
        *sorted((package / "detectors").glob("*.py")),
        package / "datasets" / "classes.py",
        package / "datasets" / "images.py",
    ]
    libraries = {name: version for name, version in versions().items() if name in _DECIDING}
    parts = [str(sorted(libraries.items())), *map(code, files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@cache
def code(path: Path) -> str:
    """A file's code without docstrings, comments, formatting and the wording in `@corruption(...)`."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = [item for item in node.decorator_list if not _declares(item)]
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            documented = ast.get_docstring(node) is not None
            node.body = (node.body[1:] or [ast.Pass()]) if documented else node.body
    return ast.unparse(tree)


def _declares(decorator: ast.expr) -> bool:
    called = ast.unparse(decorator.func) if isinstance(decorator, ast.Call) else ""
    return called.rpartition(".")[2] == "corruption"
