"""The suite's own assertions: none is true whatever the code does."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ITERATORS = {"map", "filter", "zip", "iter", "reversed", "enumerate", "range"}
"""What these return is true, also where nothing is in it (but an empty range)."""


def is_always_true(node: ast.expr) -> bool:
    """Whether an expression, or a part of it that an `and` or `or` joins, is true whatever the code does."""
    match node:
        case ast.BoolOp(values=parts):
            return any(map(is_always_true, parts))
        case ast.IfExp(body=first, orelse=second):
            return is_always_true(first) or is_always_true(second)
        case ast.UnaryOp(op=ast.Not(), operand=ast.Constant()):
            return True
        case ast.Constant() | ast.JoinedStr() | ast.Lambda() | ast.GeneratorExp():
            return True
        case ast.Tuple() | ast.List() | ast.Set() | ast.Dict():
            return True  # an empty one is always false, which no assertion means either
        case ast.Call(func=ast.Name(id=name)):
            return name in ITERATORS
        case ast.Compare(
            left=ast.Call(func=ast.Name(id="len")), ops=[ast.GtE()], comparators=[ast.Constant(0)]
        ):
            return True
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            same = ast.dump(left) == ast.dump(right) and isinstance(
                left, ast.Name | ast.Constant | ast.Attribute
            )
            return same and isinstance(op, ast.Eq | ast.Is | ast.LtE | ast.GtE)
    return False


def hollow_assertions(source: str) -> Iterator[int]:
    """The lines of assertions of which a part is true whatever the code does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assert) and is_always_true(node.test):
            yield node.lineno


@pytest.mark.parametrize(
    "line",
    [
        'assert "a" in text or "b"',
        'assert (text, "words")',
        'assert f"{text}"',
        'assert text and ("a" in text or "b")',
        "assert (x for x in text)",
        "assert map(str.isupper, text)",
        "assert len(text) >= 0",
        "assert text == text",
        'assert "a" in text if text else "b"',
        "assert not None",
    ],
)
def test_a_hollow_assertion_is_found(line: str) -> None:
    assert list(hollow_assertions(line)) == [1]


@pytest.mark.parametrize(
    "line",
    [
        'assert "a" in text or "b" in text',
        "assert text, 'words'",
        "assert all(x for x in text)",
        "assert not text",
    ],
)
def test_others_are_not(line: str) -> None:
    assert not list(hollow_assertions(line))


def test_no_assertion_of_the_suite_is_hollow() -> None:
    files = sorted(TESTS.rglob("*.py"))
    hollow = [
        f"{path.relative_to(TESTS)}:{line}"
        for path in files
        for line in hollow_assertions(path.read_text("utf-8"))
    ]
    assert len(files) > 100 and not hollow
