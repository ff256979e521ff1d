"""Cells are complete or absent; run directories resume, refuse nonsense and read back alike."""

import errno
import gc
import json
import os
import re
import threading
import weakref
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
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.store import (
    MANIFEST,
    SCHEMA,
    Cell,
    CellStore,
    Manifest,
    Run,
    cell_key,
    list_runs,
    locks,
)
from robustbench_sgdm.store.locks import is_locked
from robustbench_sgdm.store.schema import FIRST_MANIFEST, CellScores
from tests.support.synthetic_runs import changed, make_manifest

SOUND: dict[str, Any] = {
    "schema": SCHEMA,
    "models": {"m": {"weights": "w"}},
    "data": {"name": "d", "images": 1, "fingerprint": "f"},
    "corruptions": {"c": {"family": "noise", "fingerprint": "f"}},
    "settings": {"engine": "torch", "seed": 0, "device": "cpu"},
    "cells": [],
}
CELL = {"model": "m", "corruption": "c", "severity": 1, "key": "k"}
SCORES: dict[str, float | None] = {m: 1.5 * i for i, m in enumerate(METRICS)} | {"AP_S": None}


def rows(ids: Sequence[int]) -> dict[str, Any]:
    n = len(ids)
    columns = {k: np.linspace(0, 1, n, dtype=np.float32) for k in ("score", "x1", "y1", "x2", "y2")}
    return {"image_id": np.array(ids, np.int64), "category_id": np.ones(n, np.int64), **columns}


def cell(severity: float = 0.0, key: str = "k" * 64, model: str = "m[x=1]", corruption: str = CLEAN) -> Cell:
    return Cell(model, corruption, severity, key)


def plan(*cells: Cell) -> Manifest:
    return make_manifest(cells)


def score_cell(store: CellStore, c: Cell) -> None:
    store.write_shard(c, 0, rows([1, 2]))
    store.merge_shards(c, 1)
    store.commit(c, SCORES, detections=2)


def test_a_cell_is_absent_until_its_scores_are_there(tmp_path: Path) -> None:
    store, c = CellStore(tmp_path), cell()
    store.write_shard(c, 1, rows([3]))
    store.write_shard(c, 0, rows([1, 2]))
    assert store.stored_shards(c) == {0, 1} and not store.is_complete(c)
    assert [shard["image_id"].tolist() for shard in store.read_shards(c, 2)] == [[1, 2], [3]]
    assert store.merge_shards(c, 2) == 3
    assert not store.is_complete(c)
    store.commit(c, SCORES, detections=2)
    assert store.read_detections(c)["image_id"].tolist() == [1, 2, 3]
    assert store.is_complete(c) and not store.stored_shards(c)
    assert sorted(p.name for p in store.folder(c).iterdir()) == ["detections.parquet", "scores.json"]
    pd.testing.assert_frame_equal(
        pd.read_parquet(store.folder(c) / "detections.parquet"), store.read_detections(c)
    )


def test_the_stored_file_does_not_show_how_it_was_cut(tmp_path: Path) -> None:
    one, two = CellStore(tmp_path / "one"), CellStore(tmp_path / "two")
    whole = rows(range(300_000))
    one.write_shard(cell(), 0, whole)
    cuts = [0, 1, 100_000, 150_000, 300_000]
    for number, (start, end) in enumerate(pairwise(cuts)):
        two.write_shard(cell(), number, {k: v[start:end] for k, v in whole.items()})
    for store, count in ((one, 1), (two, 4)):
        assert store.merge_shards(cell(), count) == 300_000
    files = [(s.folder(cell()) / "detections.parquet").read_bytes() for s in (one, two)]
    assert files[0] == files[1]
    pd.testing.assert_frame_equal(two.read_detections(cell()), pd.concat(one.read_shards(cell(), 1)))


def test_no_detection_at_all_is_a_cell(tmp_path: Path) -> None:
    store, c = CellStore(tmp_path), cell()
    store.write_shard(c, 0, rows([]))
    assert store.merge_shards(c, 1) == 0
    store.commit(c, SCORES, detections=2)
    assert store.is_complete(c) and len(store.read_detections(c)) == 0


def test_other_ingredients_are_another_cell(tmp_path: Path) -> None:
    store = CellStore(tmp_path)
    score_cell(store, cell())
    assert not store.is_complete(cell(key="other")) and not store.stored_shards(cell(key="other"))
    assert cell_key(a=1, b=2) == cell_key(b=2, a=1) != cell_key(a=1, b=3)


def test_a_missing_shard_is_never_scored_over(tmp_path: Path) -> None:
    store, c = CellStore(tmp_path), cell()
    store.write_shard(c, 1, rows([3]))
    with pytest.raises(DataError, match="shard 0 of 2 is missing"):
        store.merge_shards(c, 2)
    assert not store.is_complete(c)


def test_new_detections_never_meet_old_scores(tmp_path: Path) -> None:
    """Stopped between the merge of another plan's cell and its scores, the first plan's cell is not complete."""
    store, first, second = CellStore(tmp_path), cell(), cell(key="other" * 10)
    score_cell(store, first)
    store.write_shard(second, 0, rows([9]))
    store.merge_shards(second, 1)
    assert not store.is_complete(first) and not store.is_complete(second)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    run = Run.create_or_resume(tmp_path, "r", plan(cell()))
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

    run = Run.create_or_resume(tmp_path, "r", plan(cell()))
    monkeypatch.setattr(fcntl, "flock", flock)
    for _ in range(2):
        with (
            pytest.raises(RobustBenchError, match="lock it: Function not implemented; give a --project"),
            run.lock(),
        ):
            pass
        assert not is_locked(run.path)


def test_a_pipe_in_the_place_of_a_plan_keeps_nobody_waiting(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    os.mkfifo(tmp_path / "r/manifest.json")
    with pytest.raises(UnsafeFileError, match="is a pipe, not a regular file"):
        Run.open(tmp_path / "r")
    with pytest.raises(UnsafeFileError, match="is a pipe, not a regular file"):
        Run.create_or_resume(tmp_path, "r", plan(cell()))


def test_one_that_only_looks_refuses_nobody(tmp_path: Path) -> None:
    run = Run.create_or_resume(tmp_path, "r", plan(cell()))
    with run.lock():
        pass
    looking = run.files.open(".lock", "r+b")
    assert locks.try_lock(looking)
    threading.Timer(0.05, looking.close).start()
    with run.lock():
        assert is_locked(run.path)


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
    assert store.verified_shards(c) == {0} and (how in ("hole", "bit") or store.stored_shards(c) == {0})
    with pytest.raises(DataError, match="shard 1 of 2 is missing or damaged; run the same"):
        store.merge_shards(c, 2)
    store.write_shard(c, 1, rows([1] * 500))
    assert store.merge_shards(c, 2) == 1000


@pytest.mark.parametrize("how", ["empty", "cut", "hole"])
@pytest.mark.parametrize("name", ["scores.json", "detections.parquet"])
def test_a_torn_cell_is_not_sound(tmp_path: Path, how: str, name: str) -> None:
    store, c = CellStore(tmp_path), cell()
    store.write_shard(c, 0, rows([1] * 500))
    store.merge_shards(c, 1)
    store.commit(c, SCORES, detections=2)
    assert store.verify(c)
    tear(store.folder(c) / name, how)
    assert not store.verify(c)


def test_a_cell_with_a_flipped_bit_is_not_sound(tmp_path: Path) -> None:
    store, c = CellStore(tmp_path), cell()
    score_cell(store, c)
    tear(store.folder(c) / "detections.parquet", "bit")
    assert store.is_complete(c) and not store.verify(c)
    with pytest.raises(DataError, match="cannot be read"):
        store.read_detections(c)


@pytest.mark.parametrize("text", ["", '{"schema": 2, "cells": [{"mod', '{"schema": 2\0\0\0}', "\0"])
def test_a_torn_plan_is_written_again(tmp_path: Path, text: str) -> None:
    run = Run.create_or_resume(tmp_path, "r", plan(cell()))
    score_cell(run.store, cell())
    (run.path / "manifest.json").write_text(text)
    again = Run.create_or_resume(tmp_path, "r", plan(cell()))
    assert again.path == run.path and not again.missing_cells()
    (run.path / "manifest.json").write_text(text)
    other = Run.create_or_resume(tmp_path, "r", plan(cell(key="other")))
    assert other.path.name == "r2", "cells of another plan would be lost"


def test_stopped_before_the_plan_was_written(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r/.manifest.json.0123456789abcdef").write_text("{")
    assert Run.create_or_resume(tmp_path, "r", plan(cell())).path.name == "r"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("not a run")
    assert Run.create_or_resume(tmp_path, "mine", plan(cell())).path.name == "mine2"


def test_stale_cells_are_those_of_another_key(tmp_path: Path) -> None:
    store = CellStore(tmp_path)
    assert not store.is_outdated(cell())
    score_cell(store, cell())
    assert store.is_outdated(cell(key="other")) and not store.is_outdated(cell())


def test_a_damaged_cell_is_absent(tmp_path: Path) -> None:
    store, c = CellStore(tmp_path), cell()
    score_cell(store, c)
    (store.folder(c) / "scores.json").write_text("{")
    assert not store.is_complete(c)


def test_the_same_plan_goes_on_and_another_gets_its_own_directory(tmp_path: Path) -> None:
    first = Run.create_or_resume(tmp_path, "r", plan(cell()))
    assert Run.create_or_resume(tmp_path, "r", plan(cell())).path == first.path
    other = plan(cell(), cell(3, corruption="gaussian_noise"))
    assert Run.create_or_resume(tmp_path, "r", other).path.name == "r2"
    assert Run.create_or_resume(tmp_path, "r", other).path.name == "r2"
    score_cell(first.store, cell())
    grown = Run.create_or_resume(tmp_path, "r", other, exist_ok=True)
    assert grown.path == first.path and grown.missing_cells() == [cell(3, corruption="gaussian_noise")]
    assert [p.name for p in list_runs(tmp_path)] == ["r2", "r"]


def test_results_hold_complete_cells_only_and_read_back_exactly(tmp_path: Path) -> None:
    run = Run.create_or_resume(tmp_path, "r", plan(cell(), cell(3, corruption="gaussian_noise")))
    assert run.results().empty
    score_cell(run.store, cell())
    frame = run.results()
    assert frame["severity"].tolist() == [0.0] and np.isnan(frame["AP_S"][0]) and frame["AP50"][0] == 1.5
    read = pd.read_csv(run.write_results())
    np.testing.assert_array_equal(read[list(METRICS)].to_numpy(), frame[list(METRICS)].to_numpy())


def test_a_report_is_outdated_once_results_or_manifest_are_newer(tmp_path: Path) -> None:
    run = Run.create_or_resume(tmp_path, "r", plan(cell(), cell(3, corruption="gaussian_noise")))
    score_cell(run.store, cell())
    assert not run.is_outdated("report.html")  # there is none
    report, sources = run.path / "report.html", (run.write_results(), run.path / "manifest.json")
    report.touch()
    for source in sources:
        for one in sources:
            os.utime(one, (100, 100))
        os.utime(report, (200, 200))
        assert not run.is_outdated("report.html")
        os.utime(source, (300, 300))
        assert run.is_outdated("report.html")
    results = sources[0]
    os.utime(results, (100, 100))
    run.write_results()
    assert results.stat().st_mtime == 100  # equal, so it stays
    score_cell(run.store, cell(3, corruption="gaussian_noise"))
    run.write_results()
    assert results.stat().st_mtime > 300


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden"])
def test_a_run_name_is_a_plain_folder_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="plain folder name"):
        Run.create_or_resume(tmp_path, name, plan(cell()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": [1]}, r"models is \[1\], must be an object"),
        ({"cells": None}, "cells is None, must be a list"),
        ({"cells": [{"model": "m"}]}, r"lacks cells\[0\]\.corruption"),
        ({"cells": [CELL | {"model": "../m"}]}, r"cells\[0\]\.model is '../m', must be a plain folder name"),
        ({"cells": [CELL | {"corruption": ".."}]}, "must be a plain folder name"),
        ({"cells": [CELL | {"model": "a\0"}]}, "must be a plain folder name"),
        ({"cells": [CELL | {"severity": float("nan")}]}, "numbers must be finite"),
        ({"cells": [CELL | {"severity": 7}]}, r"cells\[0\]\.severity is 7, must be less than or equal to 5"),
        ({"cells": [CELL | {"severity": True}]}, "severity is True, must be a number"),
        ({"cells": [CELL | {"key": "../../x"}]}, "must be a hash"),
        ({"cells": [CELL | {"model": "n"}]}, "cell of 'n', which it does not describe"),
        ({"cells": [CELL | {"corruption": "n"}]}, "cell under 'n', which it does not describe"),
        ({"cells": [CELL, CELL]}, "twice"),
        ({"data": {"name": ["d"], "images": 1, "fingerprint": "f"}}, r"data\.name is \['d'\], must be text"),
        ({"data": {"name": "d", "images": 1}}, r"lacks data\.fingerprint"),
        ({"data": {"name": "\ud800", "images": 1, "fingerprint": "f"}}, "half a surrogate pair"),
        (
            {"settings": {"engine": "torch", "seed": {}, "device": "cpu"}},
            r"settings\.seed is {}, must be a whole",
        ),
        ({"models": {"m": 1}}, r"models\.m is 1, must be an object"),
        (
            {"models": {"m\x1b": {"weights": "w"}}},
            r"models\.'m\\x1b' is 'm\\x1b', must be a plain folder name",
        ),
        ({"models": {"m": {"weights": "w", "baseline": 1}}}, r"models\.m\.baseline is 1, must be text"),
        ({"models": {"m": {"weights": "w", "half": 1}}}, "half is 1, must be true or false"),
        (
            {"corruptions": {"c": {"family": "", "fingerprint": "", "strengths": 1}}},
            "strengths is 1, must be an obj",
        ),
        ({"config": json.loads("[" * 60 + "]" * 60)}, "nested deeper than 50"),
        ({"schema": None}, "has schema None, and this version reads 2"),
        ({"schema": "x\x1b"}, r"has schema 'x\\x1b', and this version reads 2"),
        ({"schema": 99}, "has schema 99, and this version reads 2: update robustbench-sgdm"),
    ],
)
def test_what_is_not_valid_in_a_manifest_is_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """In one line of plain text, with the field and what it holds."""
    (tmp_path / "manifest.json").write_text(json.dumps(SOUND | change))
    with pytest.raises(DataError, match=message) as refused:
        Run.open(tmp_path)
    text = str(refused.value)
    assert str(tmp_path / "manifest.json") in text and len(text) < 600
    assert text.isprintable() and not re.search(r"pydantic|Input should|validation error|type=", text)


def test_foreign_directories(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not a run directory: it has no manifest\.json"):
        Run.open(tmp_path)
    for text, message in (("[", "cannot be read as json"), ("[1]", r"holds \[1\], must hold an object")):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(DataError, match=message):
            Run.open(tmp_path)


def test_fields_of_a_later_version_are_kept(tmp_path: Path) -> None:
    """When its baseline changes the manifest is written again."""
    run = Run.create_or_resume(tmp_path, "r", plan(cell(), cell(model="n")))
    content = json.loads((run.path / MANIFEST).read_text())
    content["models"]["n"]["later"] = content["later"] = {"a": [1]}
    (run.path / MANIFEST).write_text(json.dumps(content))
    again = Run.create_or_resume(tmp_path, "r", changed(run.manifest, models={"n": {"baseline": "m[x=1]"}}))
    assert again.baseline_pairs == [("m[x=1]", "n")]
    written = json.loads((run.path / MANIFEST).read_text())
    assert written["later"] == written["models"]["n"]["later"] == {"a": [1]}


def test_names_of_files_that_are_not_utf_8(tmp_path: Path) -> None:
    manifest = make_manifest([cell()], models={"m[x=1]": {"weights": "caf\udce9.pt"}})
    run = Run.create_or_resume(tmp_path, "r", manifest)
    assert Run.open(run.path).manifest.models["m[x=1]"].weights == "caf\udce9.pt"


def test_a_run_of_the_first_edition(tmp_path: Path) -> None:
    """One line says so; its cells can be kept, since their keys are the same."""
    old = tmp_path / "r"
    old.mkdir()
    (old / FIRST_MANIFEST).write_text("schema: 1\nname: r\ncommand: x\nmodels: {}\n")
    message = r"was written by an earlier version \(schema 1; this one reads 2\): run it again .*--exist-ok"
    with pytest.raises(DataError, match=message):
        Run.open(old)
    assert list_runs(tmp_path) == [old]
    score_cell(CellStore(old / "cells"), cell())
    assert Run.create_or_resume(tmp_path, "r", plan(cell())).path.name == "r2"
    kept = Run.create_or_resume(tmp_path, "r", plan(cell()), exist_ok=True)
    assert kept.path == old and not kept.missing_cells()


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
        Run.create_or_resume(tmp_path / "file", "r", plan(cell()))


@pytest.mark.parametrize("part", ["cells", "figures", "statistics/m[x=1]", "cells/m[x=1]/clean/0/shards"])
def test_links_do_not_lead_out_of_a_run(tmp_path: Path, part: str) -> None:
    """Shards are removed once merged: through a link, somebody else's."""
    run = Run.create_or_resume(tmp_path / "runs", "r", plan(cell()))
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
    assert not linked.missing_cells() and not run.missing_cells()


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
    file = store.folder(cell()) / "scores.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert not store.is_complete(cell())
    with pytest.raises(DataError, match=r"scores\.json is not valid: (metrics|per_class|detections)"):
        store.read_scores(cell())


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
            store.read_detections(cell())


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
        store.read_detections(cell())


def test_a_run_that_was_given_another_plan_is_not_worked_on(tmp_path: Path) -> None:
    run = Run.create_or_resume(tmp_path, "r", plan(cell()))
    Run.create_or_resume(tmp_path, "r", plan(cell(key="other" * 10)), exist_ok=True)
    with pytest.raises(RobustBenchError, match="other cells meanwhile"), run.lock():
        pass


def test_plans_started_at_once_get_a_directory_each(tmp_path: Path) -> None:
    together = Barrier(6)

    def start(number: int) -> tuple[str, str]:
        together.wait()
        run = Run.create_or_resume(tmp_path, "r", plan(cell(key=f"{number}" * 40)))
        return run.path.name, run.manifest.cells[0].key

    with ThreadPoolExecutor(6) as pool:
        names = dict(pool.map(start, range(6)))
    assert sorted(names) == ["r", "r2", "r3", "r4", "r5", "r6"]
    assert sorted(names.values()) == [f"{number}" * 40 for number in range(6)]


def test_scores_are_read_once_and_again_when_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By all stores of one run; nothing of a run that is gone stays in memory."""
    run = Run.create_or_resume(tmp_path, "r", plan(cell()))
    score_cell(run.store, cell())
    read, reads = CellScores.read, list[Path]()

    def count(path: Path, files: SafeDirectory) -> CellScores:
        reads.append(path)
        return read(path, files)

    monkeypatch.setattr(CellScores, "read", count)
    opened = Run.open(run.path)
    assert opened.store.read_scores(cell()) is opened.store.read_scores(cell()) and len(reads) == 1
    run.store.commit(cell(), {**SCORES, "AP": 2.0}, detections=2)
    assert opened.store.read_scores(cell()).metrics["AP"] == 2.0 and len(reads) == 2
    scores = weakref.ref(opened.store.read_scores(cell()))
    assert scores() is not None
    del opened
    gc.collect()
    assert scores() is None
