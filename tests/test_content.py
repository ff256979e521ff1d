"""Content folders are found by path and never confused with somebody else's."""

from pathlib import Path

import pytest

from robustbench_sgdm import content
from robustbench_sgdm.errors import DataError


def test_content_is_ours() -> None:
    assert (content.root() / "corruptions/noise.py").is_file()
    assert (content.root() / "reports/report.html.j2").is_file()


def test_somebody_elses_folders_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "robustbench_sgdm"
    package.mkdir()
    (tmp_path / "corruptions").mkdir()
    monkeypatch.setattr(content, "_PACKAGE", package)
    with pytest.raises(DataError, match="install it again"):
        content.root()
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    with pytest.raises(DataError, match="install it again"):
        content.root()
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'robustbench-sgdm'\n")
    assert content.root() == tmp_path
    (package / "_content").mkdir()
    assert content.root() == package / "_content"


def test_files_load_once_and_broken_ones_say_why(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("value = 1\n")
    (tmp_path / "_private.py").write_text("raise RuntimeError\n")
    (module,) = content.load_folder(tmp_path)
    assert module.value == 1 and content.load_file(tmp_path / "good.py") is module
    (tmp_path / "bad.py").write_text("1 / 0\n")
    with pytest.raises(DataError, match=r"bad\.py cannot be loaded: ZeroDivisionError"):
        content.load_folder(tmp_path)
    with pytest.raises(DataError, match="not a folder"):
        content.load_folder(tmp_path / "absent")
