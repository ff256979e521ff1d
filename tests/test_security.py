"""`SECURITY.md`: every promise has its tests, and they are there."""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text("utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)

ALLOWED: Mapping[str, str] = {
    "no Chromium on this machine; on Debian: apt-get install chromium": "it fails where ROBUSTBENCH_BROWSER=required",
    "playwright.sync_api": "the extra [dev] has it",
    "atheris": "the extra [dev] has it, on Linux",
    "transformers": "the extra [dev] has it",
    "only root makes devices": "one of seven kinds of files; the others run",
    "Ray (the extra [ray]) is not installed": "the extra [dev] has it",
}
"""What may turn a named test off, and why it runs in continuous integration."""


def test_every_threat_names_a_test() -> None:
    promises = TEXT.partition("## What a small file may cost")[0].splitlines()
    rows = [line for line in promises if line.startswith("| ") and not line.startswith("| threat")]
    assert len(rows) > 15 and all("::test_" in row.split("|")[3] for row in rows)


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_named_test_is_there_and_runs(file: str, name: str) -> None:
    assert name in functions(ROOT / file)
    assert sorted(set(switches(ROOT / file, name)) - set(ALLOWED)) == []


@pytest.mark.parametrize(
    ("module", "found"),
    [
        ("def test_a(): pass", []),
        ("pytestmark = [pytest.mark.slow]\ndef test_a(): pass", ["pytest.mark.slow"]),
        ("@pytest.mark.xfail\ndef test_a(): pass", ["pytest.mark.xfail"]),
        ("numpy = pytest.importorskip('numpy')\ndef test_a(): pass", ["numpy"]),
        ("def test_a():\n if x: pytest.skip('reason')", ["reason"]),
        (
            "@pytest.fixture\ndef b(c): pass\ndef c(): d()\ndef d(): pytest.skip(f'{e}')\ndef test_a(b): pass",
            ["f'{e}'"],
        ),
        ("def test_b(): pytest.skip('reason')\ndef test_a(): pass", []),
    ],
)
def test_what_turns_a_test_off_is_found(tmp_path: Path, module: str, found: list[str]) -> None:
    (tmp_path / "test_x.py").write_text(module)
    assert list(switches(tmp_path / "test_x.py", "test_a")) == found


def switches(file: Path, name: str) -> Iterator[str]:
    """Why a test may not run: its marks and its module's, and skips in it and in the fixtures and functions it uses."""
    for node in _parse(file).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield from _skips(node)
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
                yield from _marks(node.value)
    yield from _switches(file, name, set())


def _switches(file: Path, name: str, seen: set[tuple[Path, str]]) -> Iterator[str]:
    found = next((place for place in (file, *_conftests(file)) if name in functions(place)), None)
    if found is None or (found, name) in seen:
        return
    seen.add((found, name))
    function = functions(found)[name]
    for decorator in function.decorator_list:
        yield from _marks(decorator)
    yield from _skips(function)
    used = [one.arg for one in function.args.args]
    used += [
        node.func.id
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    for one in used:
        yield from _switches(file if one in functions(file) else found, one, seen)


def _marks(node: ast.AST) -> Iterator[str]:
    for mark in ast.walk(node):
        if isinstance(mark, ast.Attribute) and mark.attr in ("skip", "skipif", "slow", "xfail"):
            yield ast.unparse(mark)


def _skips(node: ast.AST) -> Iterator[str]:
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("pytest.skip", "pytest.importorskip"):
            why = call.args[0]
            yield str(why.value) if isinstance(why, ast.Constant) else ast.unparse(why)


def _conftests(file: Path) -> list[Path]:
    """Those that pytest reads for a file, the nearest first."""
    return [path for folder in file.parents if (path := folder / "conftest.py").is_file()]


@cache
def functions(file: Path) -> dict[str, ast.FunctionDef]:
    """The functions of a module, by name."""
    return {node.name: node for node in _parse(file).body if isinstance(node, ast.FunctionDef)}


@cache
def _parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))
