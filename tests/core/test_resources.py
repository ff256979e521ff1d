"""Content folders are found by path and never confused with somebody else's."""

import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from robustbench_sgdm.core import resources
from robustbench_sgdm.core.errors import DataError


def test_content_is_ours() -> None:
    assert (resources.root() / "corruptions/noise.py").is_file()
    assert (resources.root() / "reports/report.html.j2").is_file()


def test_somebody_elses_folders_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "robustbench_sgdm"
    package.mkdir()
    (tmp_path / "corruptions").mkdir()
    monkeypatch.setattr(resources, "_PACKAGE", package)
    with pytest.raises(DataError, match="install it again"):
        resources.root()
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    with pytest.raises(DataError, match="install it again"):
        resources.root()
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'robustbench-sgdm'\n")
    assert resources.root() == tmp_path
    (package / "_content").mkdir()
    assert resources.root() == package / "_content"


def test_files_load_once_and_broken_ones_say_why(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("value = 1\n")
    (tmp_path / "_private.py").write_text("raise RuntimeError\n")
    (module,) = resources.import_folder(tmp_path)
    assert module.value == 1 and resources.import_file(tmp_path / "good.py") is module
    (tmp_path / "bad.py").write_text("1 / 0\n")
    with pytest.raises(DataError, match=r"bad\.py cannot be loaded: ZeroDivisionError"):
        resources.import_folder(tmp_path)
    with pytest.raises(DataError, match="not a folder"):
        resources.import_folder(tmp_path / "absent")


def test_a_module_is_seen_by_others_when_it_is_whole(tmp_path: Path) -> None:
    """Eight threads load a file that takes a while: it runs once, and nobody gets half of it."""
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(0.2)\nRUNS = [1]\n")
    together = threading.Barrier(8)

    def load(_: int) -> object:
        together.wait()
        return resources.import_file(tmp_path / "slow.py").RUNS

    with ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(load, range(8))
    assert first == [1] and all(one is first for one in others)


def test_a_file_that_failed_leaves_nothing_and_is_tried_again(tmp_path: Path) -> None:
    file, known = tmp_path / "late.py", set(sys.modules)
    file.write_text("half = 1\nimport time\ntime.sleep(0.1)\nraise SystemExit('not yet')\n")
    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(resources.import_file, file) for _ in range(4)]:
            with pytest.raises(DataError, match=r"late\.py cannot be loaded: SystemExit: not yet"):
                future.result()
    assert not {name for name in set(sys.modules) - known if "late" in name}
    file.write_text("half = 2\n")
    assert resources.import_file(file).half == 2


def test_files_may_load_each_other(tmp_path: Path) -> None:
    text = "from pathlib import Path\nfrom robustbench_sgdm.core import resources\n"
    for name, other in ("one", "two"), ("two", "one"):
        file = (
            f"{text}mine = '{name}'\nother = resources.import_file(Path({str(tmp_path / other)!r} + '.py'))\n"
        )
        (tmp_path / f"{name}.py").write_text(file)
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(resources.import_file, [tmp_path / "one.py", tmp_path / "two.py"])
    assert one.other is two and two.other is one and (one.mine, two.mine) == ("one", "two")


def test_what_a_file_defines_can_be_pickled(tmp_path: Path) -> None:
    (tmp_path / "holder.py").write_text("class Thing:\n    pass\n")
    thing = resources.import_file(tmp_path / "holder.py").Thing
    assert pickle.loads(pickle.dumps(thing)) is thing


def test_what_is_no_python_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="is not a Python file"):
        resources.import_file(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="FileNotFoundError"):
        resources.import_file(tmp_path / "absent.py")
