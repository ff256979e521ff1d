"""Cleaning removes what nothing will read again, and nothing else."""

import shutil
import sys
from pathlib import Path

import pytest

from robustbench_sgdm import cli
from robustbench_sgdm.cli import console
from robustbench_sgdm.core.errors import UnsafeFileError
from robustbench_sgdm.store import Cell, Run, find_stale_files, remove_stale_files
from robustbench_sgdm.store.garbage import OUTDATED, SHARDS, TEMPORARY
from tests.support.synthetic_runs import rewrite

HALF = f".scores.json.{'0123456789abcdef' * 2}"


@pytest.fixture
def littered(small_run: Run) -> tuple[Run, dict[Path, str]]:
    """A run of complete cells; the last is stale, the one before half done; the litter, and why it is that."""
    store, cells = small_run.store, small_run.cells
    shard: dict[str, list[float]] = {
        name: [] for name in ("image_id", "category_id", "score", "x1", "y1", "x2", "y2")
    }
    (store.folder(cells[-2]) / "scores.json").unlink()
    older = Cell(cells[-2].model, cells[-2].corruption, cells[-2].severity, "older" * 12)
    for cell in (cells[0], cells[-2], older):
        store.write_shard(cell, 0, shard)
    file = store.folder(cells[-1]) / "scores.json"
    file.write_text(file.read_text().replace(cells[-1].key, "older" * 12))
    for folder in (small_run.path, store.folder(cells[1])):
        (folder / HALF).write_bytes(b"{")
    expected = {small_run.path / HALF: TEMPORARY, store.folder(cells[1]) / HALF: TEMPORARY}
    expected |= dict.fromkeys((store.folder(cells[0]) / "shards").iterdir(), SHARDS)
    expected |= dict.fromkeys((store.folder(cells[-2]) / "shards").glob("older*"), SHARDS)
    expected |= {store.folder(cells[-1]) / n: OUTDATED for n in ("scores.json", "detections.parquet")}
    return small_run, expected


def everything(run: Run) -> set[Path]:
    return {p for p in run.path.rglob("*") if p.is_file() and p.name != ".lock"}


def test_only_litter_goes(littered: tuple[Run, dict[Path, str]]) -> None:
    run, expected = littered
    before, complete = everything(run), len(run.results())
    assert {one.path: one.kind for one in find_stale_files(run.path)} == expected
    assert {one.path for one in remove_stale_files(run.path, dry=True)} == set(expected)
    assert everything(run) == before
    remove_stale_files(run.path)
    assert everything(run) == before - set(expected)
    assert len(run.results()) == complete == 4 and run.store.verified_shards(run.cells[-2]) == {0}
    assert remove_stale_files(run.path) == []


def test_a_dry_listing_writes_nothing(
    littered: tuple[Run, dict[Path, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even a lock, and no folder's or file's time changes."""
    run, _ = littered
    (run.path / ".lock").unlink()

    def state() -> dict[Path, tuple[int, int]]:
        paths = [run.path.parent, *run.path.parent.rglob("*")]
        return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in paths}

    before = state()
    assert "add --yes" in robustbench(monkeypatch, capsys, "clean", "--project", str(run.path.parent))
    assert state() == before
    with run.lock():
        assert "another process works on" in robustbench(
            monkeypatch, capsys, "clean", "--project", str(run.path.parent)
        )


def test_nothing_outside_goes(littered: tuple[Run, dict[Path, str]], tmp_path: Path) -> None:
    run, _ = littered
    outside = tmp_path / "outside"
    run.store.folder(run.cells[-1]).rename(outside)
    run.store.folder(run.cells[-1]).symlink_to(outside)
    (outside / HALF).write_text("")
    with pytest.raises(UnsafeFileError, match="is a link"):
        remove_stale_files(run.path)
    assert {p.name for p in outside.iterdir()} >= {HALF, "scores.json", "detections.parquet"}


def test_a_run_with_a_link_does_not_hide_the_others(
    small_run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(small_run.path, small_run.path.with_name("sound"))
    (small_run.path / "cells/base").rename(tmp_path / "outside")
    (small_run.path / "cells/base").symlink_to(tmp_path / "outside")
    said = robustbench(monkeypatch, capsys, "list", "runs", "--project", str(small_run.path.parent))
    assert "cells/base is a link" in said and "sound" in said and "6 / 6" in said


def test_a_folder_that_is_no_run_keeps_everything(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / HALF).write_bytes(b"mine")
    assert find_stale_files(tmp_path) == find_stale_files(tmp_path / "photos") == []


def robustbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    monkeypatch.setattr(sys, "argv", ["robustbench", *words])
    monkeypatch.setattr(console.out, "width", 160)  # tables unfolded, whatever COLUMNS says
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    shown = capsys.readouterr()
    return shown.out + shown.err


def test_a_run_that_is_worked_on_is_left_alone(
    littered: tuple[Run, dict[Path, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, expected = littered
    before = everything(run)

    def clean(*more: str) -> str:
        return robustbench(monkeypatch, capsys, "clean", "--project", str(run.path.parent), *more)

    with run.lock():
        assert "another process works on" in clean("--yes")
    assert "add --yes" in clean() and everything(run) == before
    assert "removed" in clean("--yes", "--name", run.path.name) and everything(run) == before - set(expected)
    assert "nothing to remove" in clean()


def test_the_list_says_what_is_stale(
    littered: tuple[Run, dict[Path, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = littered
    words = ("list", "runs", "--project", str(run.path.parent))
    assert "partial, 1 cells outdated" in robustbench(monkeypatch, capsys, *words)
    rewrite(run, inference="0; torch 1.0")
    assert "partial, outdated: made by other versions" in robustbench(monkeypatch, capsys, *words)
