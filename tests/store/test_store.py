"""Cells are complete or absent; run directories resume, refuse nonsense and read back alike."""

import errno
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from threading import Barrier
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pytest

from robustbench_sgdm.core import atomic_io
from robustbench_sgdm.core.constants import CLEAN, METRICS
from robustbench_sgdm.core.errors import DataError, RobustBenchError, UnsafeFileError, UsageError
from robustbench_sgdm.store import Cell, CellStore, Run, cell_key, list_runs, locks
from robustbench_sgdm.store.locks import held

SOUND = (
    "schema: 1\nmodels: {}\ndata: {name: d, images: 1}\ncorruptions: {}\nsettings: {engine: torch, seed: 0}\n"
)
SCORES = {
    "detections": 2,
    "metrics": {m: 1.5 * i for i, m in enumerate(METRICS)} | {"AP_S": None},
    "per_class": {},
}


def rows(ids: Sequence[int]) -> dict[str, Any]:
    n = len(ids)
    columns = {k: np.linspace(0, 1, n, dtype=np.float32) for k in ("score", "x1", "y1", "x2", "y2")}
    return {"image_id": np.array(ids, np.int64), "category_id": np.ones(n, np.int64), **columns}


def cell(severity: float = 0.0, key: str = "k" * 64, model: str = "m[x=1]", corruption: str = CLEAN) -> Cell:
    return Cell(model, corruption, severity, key)


def plan(*cells: Cell) -> dict[str, Any]:
    return {
        "models": {"m[x=1]": {"baseline": None}},
        "data": {"name": "d", "images": 2},
        "corruptions": {},
        "settings": {"engine": "torch", "seed": 0},
        "cells": [
            {"model": c.model, "corruption": c.corruption, "severity": c.severity, "key": c.key}
            for c in cells
        ],
    }


def score_cell(store: CellStore, c: Cell) -> None:
    store.write_shard(c, 0, rows([1, 2]))
    store.merge(c, 1)
    store.finish(c, SCORES)


def test_a_cell_is_absent_until_its_scores_are_there(tmp_path: Path) -> None:
    store, c = CellStore(tmp_path), cell()
    store.write_shard(c, 1, rows([3]))
    store.write_shard(c, 0, rows([1, 2]))
    assert store.shards(c) == {0, 1} and not store.complete(c)
    assert [shard["image_id"].tolist() for shard in store.read_shards(c, 2)] == [[1, 2], [3]]
    assert store.merge(c, 2) == 3
    assert not store.complete(c)
    store.finish(c, SCORES)
    assert store.detections(c)["image_id"].tolist() == [1, 2, 3]
    assert store.complete(c) and not store.shards(c)
    assert sorted(p.name for p in store.folder(c).iterdir()) == ["detections.parquet", "scores.json"]
    pd.testing.assert_frame_equal(
        pd.read_parquet(store.folder(c) / "detections.parquet"), store.detections(c)
    )


def test_the_stored_file_does_not_show_how_it_was_cut(tmp_path: Path) -> None:
    one, two = CellStore(tmp_path / "one"), CellStore(tmp_path / "two")
    whole = rows(range(300_000))
    one.write_shard(cell(), 0, whole)
    cuts = [0, 1, 100_000, 150_000, 300_000]
    for number, (start, end) in enumerate(pairwise(cuts)):
        two.write_shard(cell(), number, {k: v[start:end] for k, v in whole.items()})
    for store, count in ((one, 1), (two, 4)):
        assert store.merge(cell(), count) == 300_000
    files = [(s.folder(cell()) / "detections.parquet").read_bytes() for s in (one, two)]
    assert files[0] == files[1]
    pd.testing.assert_frame_equal(two.detections(cell()), pd.concat(one.read_shards(cell(), 1)))


def test_no_detection_at_all_is_a_cell(tmp_path: Path) -> None:
    store, c = CellStore(tmp_path), cell()
    store.write_shard(c, 0, rows([]))
    assert store.merge(c, 1) == 0
    store.finish(c, SCORES)
    assert store.complete(c) and len(store.detections(c)) == 0


def test_other_ingredients_are_another_cell(tmp_path: Path) -> None:
    store = CellStore(tmp_path)
    score_cell(store, cell())
    assert not store.complete(cell(key="other")) and not store.shards(cell(key="other"))
    assert cell_key(a=1, b=2) == cell_key(b=2, a=1) != cell_key(a=1, b=3)


def test_a_missing_shard_is_never_scored_over(tmp_path: Path) -> None:
    store, c = CellStore(tmp_path), cell()
    store.write_shard(c, 1, rows([3]))
    with pytest.raises(DataError, match="shard 0 of 2 is missing"):
        store.merge(c, 2)
    assert not store.complete(c)


def test_new_detections_never_meet_old_scores(tmp_path: Path) -> None:
    """Stopped between the merge of another plan's cell and its scores, the first plan's cell is not complete."""
    store, first, second = CellStore(tmp_path), cell(), cell(key="other" * 10)
    score_cell(store, first)
    store.write_shard(second, 0, rows([9]))
    store.merge(second, 1)
    assert not store.complete(first) and not store.complete(second)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    run = Run.start(tmp_path, "r", plan(cell()))
    with (
        run.lock(),
        pytest.raises(RobustBenchError, match="another process works on"),
        Run.open(run.path).lock(),
    ):
        pass
    with run.lock():
        pass


def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file stands in for the lock: a killed process would leave it locked."""
    fcntl = pytest.importorskip("fcntl")

    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    run = Run.start(tmp_path, "r", plan(cell()))
    monkeypatch.setattr(fcntl, "flock", flock)
    for _ in range(2):
        with (
            pytest.raises(RobustBenchError, match="lock it: Function not implemented; give a --project"),
            run.lock(),
        ):
            pass
        assert not held(run.path)


def test_a_pipe_in_the_place_of_a_plan_keeps_nobody_waiting(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    os.mkfifo(tmp_path / "r/plan.yaml")
    with pytest.raises(UnsafeFileError, match="is a pipe, not a regular file"):
        Run.open(tmp_path / "r")
    with pytest.raises(UnsafeFileError, match="is a pipe, not a regular file"):
        Run.start(tmp_path, "r", plan(cell()))


def test_one_that_only_looks_refuses_nobody(tmp_path: Path) -> None:
    run = Run.start(tmp_path, "r", plan(cell()))
    with run.lock():
        pass
    looking = run.files.open(".lock", "r+b")
    assert locks._lock(looking)
    threading.Timer(0.05, looking.close).start()
    with run.lock():
        assert held(run.path)


def tear(path: Path, how: str) -> None:
    """What a disk may do to a file that was not synced before the power went, or years later."""
    whole = path.read_bytes()
    third, flipped = len(whole) // 3, bytearray(whole)
    flipped[third] ^= 1
    hole = whole[:third] + bytes(third) + whole[2 * third :]
    path.write_bytes({"empty": b"", "cut": whole[:-20], "hole": hole, "bit": bytes(flipped)}[how])


@pytest.mark.parametrize("how", ["empty", "cut", "hole", "bit"])
def test_a_torn_shard_is_no_shard(tmp_path: Path, how: str) -> None:
    store, c = CellStore(tmp_path), cell()
    for number in (0, 1):
        store.write_shard(c, number, rows([number] * 500))
    tear(sorted((store.folder(c) / "shards").iterdir())[1], how)
    assert store.sound_shards(c) == {0} and (how in ("hole", "bit") or store.shards(c) == {0})
    with pytest.raises(DataError, match="shard 1 of 2 is missing or damaged; start again"):
        store.merge(c, 2)
    store.write_shard(c, 1, rows([1] * 500))
    assert store.merge(c, 2) == 1000


@pytest.mark.parametrize("how", ["empty", "cut", "hole"])
@pytest.mark.parametrize("name", ["scores.json", "detections.parquet"])
def test_a_torn_cell_is_not_sound(tmp_path: Path, how: str, name: str) -> None:
    store, c = CellStore(tmp_path), cell()
    store.write_shard(c, 0, rows([1] * 500))
    store.merge(c, 1)
    store.finish(c, SCORES)
    assert store.sound(c)
    tear(store.folder(c) / name, how)
    assert not store.sound(c)


def test_a_cell_with_a_flipped_bit_is_not_sound(tmp_path: Path) -> None:
    store, c = CellStore(tmp_path), cell()
    score_cell(store, c)
    tear(store.folder(c) / "detections.parquet", "bit")
    assert store.complete(c) and not store.sound(c)
    with pytest.raises(DataError, match="cannot be read"):
        store.detections(c)


@pytest.mark.parametrize(
    "text", ["", "schema: 1\ncells:\n- {mod", "schema: 1\nname: r\nmodels: {}\n", "schema: 1\0\0\0"]
)
def test_a_torn_plan_is_written_again(tmp_path: Path, text: str) -> None:
    run = Run.start(tmp_path, "r", plan(cell()))
    score_cell(run.store, cell())
    (run.path / "plan.yaml").write_text(text)
    again = Run.start(tmp_path, "r", plan(cell()))
    assert again.path == run.path and not again.missing()
    (run.path / "plan.yaml").write_text(text)
    other = Run.start(tmp_path, "r", plan(cell(key="other")))
    assert other.path.name == "r2", "cells of another plan would be lost"


def test_stopped_before_the_plan_was_written(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r/.plan.yaml.0123456789abcdef").write_text("schema")
    assert Run.start(tmp_path, "r", plan(cell())).path.name == "r"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("not a run")
    assert Run.start(tmp_path, "mine", plan(cell())).path.name == "mine2"


def test_stale_cells_are_those_of_another_key(tmp_path: Path) -> None:
    store = CellStore(tmp_path)
    assert not store.stale(cell())
    score_cell(store, cell())
    assert store.stale(cell(key="other")) and not store.stale(cell())


def test_a_damaged_cell_is_absent(tmp_path: Path) -> None:
    store, c = CellStore(tmp_path), cell()
    score_cell(store, c)
    (store.folder(c) / "scores.json").write_text("{")
    assert not store.complete(c)


def test_the_same_plan_goes_on_and_another_gets_its_own_directory(tmp_path: Path) -> None:
    first = Run.start(tmp_path, "r", plan(cell()))
    assert Run.start(tmp_path, "r", plan(cell())).path == first.path
    other = plan(cell(), cell(3, corruption="gaussian_noise"))
    assert Run.start(tmp_path, "r", other).path.name == "r2"
    assert Run.start(tmp_path, "r", other).path.name == "r2"
    score_cell(first.store, cell())
    grown = Run.start(tmp_path, "r", other, exist_ok=True)
    assert grown.path == first.path and grown.missing() == [cell(3, corruption="gaussian_noise")]
    assert [p.name for p in list_runs(tmp_path)] == ["r2", "r"]


def test_results_hold_complete_cells_only_and_read_back_exactly(tmp_path: Path) -> None:
    run = Run.start(tmp_path, "r", plan(cell(), cell(3, corruption="gaussian_noise")))
    assert run.results().empty
    score_cell(run.store, cell())
    frame = run.results()
    assert frame["severity"].tolist() == [0.0] and np.isnan(frame["AP_S"][0]) and frame["AP50"][0] == 1.5
    read = pd.read_csv(run.write_results())
    np.testing.assert_array_equal(read[list(METRICS)].to_numpy(), frame[list(METRICS)].to_numpy())


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden"])
def test_a_run_name_is_a_plain_folder_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="plain folder name"):
        Run.start(tmp_path, name, plan(cell()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "cannot be read"),
        ("- 1", "schema None"),
        ("schema: 99\ncells: []", "schema 99"),
        ("schema: 1\ncells: []", "'models' is no dict"),
        (f"{SOUND}cells: [{{model: m}}]", "damaged cell"),
        (f"{SOUND}cells: [{{model: ../m, corruption: c, severity: 1, key: k}}]", "no plain folder name"),
        (f"{SOUND}cells: [{{model: m, corruption: '..', severity: 1, key: k}}]", "no plain folder name"),
        (f"{SOUND}cells: [{{model: 'a\\0', corruption: c, severity: 1, key: k}}]", "no plain folder name"),
        (f"{SOUND}cells: [{{model: m, corruption: c, severity: .nan, key: k}}]", "outside"),
        (f"{SOUND}cells: [{{model: m, corruption: c, severity: 1, key: ../../x}}]", "no hash"),
        (
            f"{SOUND}cells: [{{model: m, corruption: c, severity: 1, key: k}}]",
            "cell of 'm', which it does not",
        ),
        (
            f"{SOUND}cells: [&c {{model: m, corruption: c, severity: 1, key: k}}, *c]".replace(
                "models: {}", "models: {m: {}}"
            ),
            "twice",
        ),
        (f"{SOUND}cells: []".replace("name: d", "name: [d]"), "'name' of data"),
        (f"{SOUND}cells: []".replace("seed: 0", "seed: {}"), "'seed' of settings"),
        (f"{SOUND}cells: []".replace("models: {}", "models: {m: 1}"), "not described"),
        (f"{SOUND}cells: []".replace("models: {}", "models: {m: {baseline: 1}}"), "'baseline' of models"),
        (f"{SOUND}cells: []".replace("corruptions: {}", "corruptions: {m: {strengths: 1}}"), "'strengths'"),
    ],
)
def test_foreign_and_damaged_run_directories(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match="not a run directory"):
        Run.open(tmp_path)
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        Run.open(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic_io.write_text(path, "old")

    def full(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(RobustBenchError, match="No space left on device; free space"):
        atomic_io.write(path, full)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_where_a_folder_must_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RobustBenchError, match="--project"):
        Run.start(tmp_path / "file", "r", plan(cell()))


@pytest.mark.parametrize("part", ["cells", "figures", "statistics/m[x=1]", "cells/m[x=1]/clean/0/shards"])
def test_links_do_not_lead_out_of_a_run(tmp_path: Path, part: str) -> None:
    """Shards are removed once merged: through a link, somebody else's."""
    run = Run.start(tmp_path / "runs", "r", plan(cell()))
    (tmp_path / "outside").mkdir()
    (run.path / part).parent.mkdir(parents=True, exist_ok=True)
    (run.path / part).symlink_to(tmp_path / "outside")
    with pytest.raises(UnsafeFileError, match="is a link, and links within a run directory are not followed"):
        score_cell(run.store, cell())
        run.files.write_text(f"{part}/x", "x")
    assert not [*(tmp_path / "outside").iterdir()]
    (tmp_path / "linked").symlink_to(run.path)  # the run itself may be one
    (run.path / part).unlink()
    linked = Run.open(tmp_path / "linked")
    score_cell(linked.store, cell())
    assert not linked.missing() and not run.missing()


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": {}},
        {"metrics": [1]},
        {"metrics": dict.fromkeys(METRICS, "x")},
        {"per_class": {"a": []}},
        {"detections": "2"},
    ],
)
def test_scores_that_are_none(tmp_path: Path, change: dict[str, Any]) -> None:
    store = CellStore(tmp_path)
    score_cell(store, cell())
    store.finish(cell(), SCORES | change)
    assert not store.complete(cell())
    with pytest.raises(DataError, match="does not hold the scores"):
        store.scores(cell())


def test_detections_with_gaps_or_nan_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    store = CellStore(tmp_path)
    score_cell(store, cell())
    file = store.folder(cell()) / "detections.parquet"
    whole = pq.read_table(file)
    for value, message in ((None, "gaps"), (float("nan"), "not finite")):
        pq.write_table(whole.set_column(2, "score", pa.array([value, 1.0], pa.float32())), file)
        with pytest.raises(DataError, match=message):
            store.detections(cell())


def test_a_few_bytes_of_parquet_do_not_fill_the_memory(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    store = CellStore(tmp_path)
    score_cell(store, cell())
    file = store.folder(cell()) / "detections.parquet"
    schema = pq.read_schema(file)
    column = {f.name: pa.array(np.zeros(2_000_000), pa.float64()).cast(f.type) for f in schema}
    pq.write_table(pa.table(column), file)
    assert file.stat().st_size < 100_000
    with pytest.raises(DataError, match="claims 2,000,000 rows"):
        store.detections(cell())


def test_a_run_that_was_given_another_plan_is_not_worked_on(tmp_path: Path) -> None:
    run = Run.start(tmp_path, "r", plan(cell()))
    Run.start(tmp_path, "r", plan(cell(key="other" * 10)), exist_ok=True)
    with pytest.raises(RobustBenchError, match="another plan meanwhile"), run.lock():
        pass


def test_plans_started_at_once_get_a_directory_each(tmp_path: Path) -> None:
    together = Barrier(6)

    def start(number: int) -> tuple[str, str]:
        together.wait()
        run = Run.start(tmp_path, "r", plan(cell(key=f"{number}" * 40)))
        return run.path.name, run.plan["cells"][0]["key"]

    with ThreadPoolExecutor(6) as pool:
        names = dict(pool.map(start, range(6)))
    assert sorted(names) == ["r", "r2", "r3", "r4", "r5", "r6"]
    assert sorted(names.values()) == [f"{number}" * 40 for number in range(6)]
