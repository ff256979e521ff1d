"""Files and names that others wrote: bounded, data only, inside their root."""

import os
from pathlib import Path

import pytest
import yaml

from robustbench_sgdm.core import untrusted_input
from robustbench_sgdm.core.errors import DataError

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
MERGED = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!python/object/apply:os.system ['true']", "python/object"),
        ("!!python/name:os.system", "python/name"),
        (LAUGHS, "more than 1,000,000"),
        (MERGED, "more than 1,000,000"),
        ("a: &a [*a]", "more than 1,000,000"),
        ("!!int ''", "cannot be read as YAML"),
        ("a: 0x" + "f" * 5000, "whole number of 5002 characters"),
        ("!!timestamp x", "cannot be read as YAML"),
        ("!!bool x", "cannot be read as YAML"),
        ("[" * 5000, "cannot be read as YAML"),
        ("#" * (untrusted_input.MAX_YAML_BYTES + 1), "bytes; the limit is"),
    ],
    ids=[
        "object",
        "name",
        "aliases",
        "merges",
        "itself",
        "int",
        "long",
        "timestamp",
        "bool",
        "deep",
        "large",
    ],
)
def test_yaml_that_is_more_than_data(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        untrusted_input.read_yaml(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def test_aliases_of_little_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &x [1, 2]\nb: *x\n")
    assert untrusted_input.read_yaml(path) == {"a": [1, 2], "b": [1, 2]}


def test_a_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (untrusted_input.read_json, untrusted_input.read_yaml):
        with pytest.raises(DataError, match="not a regular file"):
            read(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../x", "leaves its folder by"),
        ("a/../../x", "leaves its folder by"),
        ("a\\..\\..\\x", "leaves its folder by"),
        ("/etc/passwd", "an absolute path outside"),
        ("C:\\x.jpg", "an absolute Windows path"),
        ("\\\\host\\share\\x.jpg", "an absolute Windows path"),
        ("a\0b", "NUL"),
        ("a" * 256, "longer than"),
        ("a/" + "é" * 128, "longer than"),
    ],
)
def test_names_stay_inside(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        untrusted_input.safe_join(tmp_path, name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_of_any_unicode_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.json").write_bytes('{"é": [1]}'.encode(encoding))
    assert untrusted_input.read_json(tmp_path / "a.json") == {"é": [1]}


def test_json_that_is_none_says_why(tmp_path: Path) -> None:
    for content, reason in (
        (b"", "is empty"),
        (b'{"a": "\xe9"}', "not UTF-8"),
        (b"{", "cannot be read as json"),
    ):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(DataError, match=reason):
            untrusted_input.read_json(tmp_path / "a.json")


def test_names_that_are_inside(tmp_path: Path) -> None:
    assert untrusted_input.safe_join(tmp_path, "a/b.png") == tmp_path / "a/b.png"
    assert untrusted_input.safe_join(tmp_path, str(tmp_path / "b.png")) == tmp_path / "b.png"


def test_names_of_files_that_are_not_utf_8(tmp_path: Path) -> None:
    """As a plan holds them: Python escapes such bytes, and libyaml reads no such escape."""
    content = {"weights": "caf\udce9.pt", "tail": ["a", {"b": 1.5}]}
    path = tmp_path / "manifest.json"
    path.write_text(yaml.safe_dump(content, allow_unicode=True))
    assert untrusted_input.read_yaml(path) == content
    path.write_text(yaml.safe_dump({**content, "more": ["x"] * 2**19}, allow_unicode=True))
    with pytest.raises(DataError, match="cannot be read as YAML"):
        untrusted_input.read_yaml(path)
