"""A disk that fills, files that it tears, two processes on one run: nothing is lost and the end is the same."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from robustbench_sgdm.store import Run
from tests.faults.harness import IMAGES, Runs, Undisturbed, predictions, results


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 100 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.getuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("a file system cannot be mounted here; root can")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk(runs: Runs, expected: Undisturbed, small_disk: Path) -> None:
    ended = runs.whole(small_disk)
    assert ended.code == 1 and "No space left on device" in ended.said and "Traceback" not in ended.said
    there = predictions(small_disk)
    assert 0 < there < 2 * IMAGES and not (small_disk / "r/results.csv").exists()
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    again = runs.whole(small_disk)
    assert again.code == 0 and again.stored is not None and again.stored >= there
    assert results(small_disk) == expected.files


def test_two_at_once(runs: Runs, expected: Undisturbed, tmp_path: Path) -> None:
    pids = [runs.start(tmp_path) for _ in range(2)]
    first, second = sorted((runs.end(pid) for pid in pids), key=lambda ended: ended.code)
    assert (first.code, second.code) == (0, 1), second.said
    assert "another process works on" in second.said and "Traceback" not in second.said
    assert [p.name for p in tmp_path.iterdir()] == ["r"] and results(tmp_path) == expected.files


def test_torn_files(runs: Runs, expected: Undisturbed, tmp_path: Path) -> None:
    """A disk that loses what was renamed: one cell's scores, another's detections, the plan, every table."""
    assert runs.whole(tmp_path).code == 0
    run = tmp_path / "r"
    one, other = sorted(run.glob("cells/*/*/*"))
    cut(one / "scores.json")
    hole(other / "detections.parquet")
    for name in ("manifest.json", "results.csv", "image_quality.csv", "latency.csv"):
        cut(run / name)
    hole(run / "ground_truth/annotations.parquet")
    shutil.copy(other / "detections.parquet", run / "ground_truth/images.parquet")
    again = runs.whole(tmp_path)
    assert again.code == 0, again.said
    assert len(Run.open(run).ground_truth().images) == IMAGES and len(Run.open(run).read_image_quality()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["r"] and results(tmp_path) == expected.files


def cut(path: Path) -> None:
    """Lose the second half."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def hole(path: Path) -> None:
    """Lose the middle."""
    content, third = path.read_bytes(), path.stat().st_size // 3
    path.write_bytes(content[:third] + bytes(third) + content[2 * third :])
