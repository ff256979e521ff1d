"""`SECURITY.md`: every promise has its tests, and they are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text("utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)


def test_every_threat_names_a_test() -> None:
    promises = TEXT.partition("## What a small file may cost")[0].splitlines()
    rows = [line for line in promises if line.startswith("| ") and not line.startswith("| threat")]
    assert len(rows) > 15 and all("::test_" in row.split("|")[3] for row in rows)


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_named_test_is_there_and_runs(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    (found,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    assert not any("skip" in ast.unparse(d) or "slow" in ast.unparse(d) for d in found.decorator_list)
