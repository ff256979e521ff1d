"""Workers that see the run directory store and score themselves; the others send, and the files are the same."""

import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from robustbench_sgdm import datasets
from robustbench_sgdm.core.constants import METRICS
from robustbench_sgdm.core.errors import RobustBenchError
from robustbench_sgdm.store import (
    CellStore,
    Run,
    TakenOverError,
    find_stale_files,
    revoke_workers,
    shard_count,
    share_store,
)
from robustbench_sgdm.sweep import map_classes, pending_units, run_sweep
from robustbench_sgdm.sweep.cell_scoring import CellScorer
from robustbench_sgdm.sweep.executors.base import ResultSink, Stored
from robustbench_sgdm.sweep.executors.scheduler import run_scheduled
from robustbench_sgdm.sweep.executors.worker_process import (
    UnitResult,
    WorkerPayload,
    WorkerRuntime,
    make_payload,
)
from robustbench_sgdm.sweep.plan import Plan, ScoringTask, Task, WorkUnit
from robustbench_sgdm.sweep.worker import Worker
from tests.sweep.test_sweep import PixelDetector, forty, plan, run, stored

__all__ = ["forty"]

COLUMNS = ("image_id", "category_id", "score", "x1", "y1", "x2", "y2")

Change = Callable[[WorkerPayload], WorkerPayload]


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    """Workers set the level of their process, which here is this one."""
    log = logging.getLogger("robustbench_sgdm")
    before = log.level
    yield
    log.setLevel(before)


class Lost(Exception):
    """A worker was lost."""


class WorkersHere:
    """An executor whose worker processes are objects of this one, made of pickled payloads, so that it is quick.

    Args:
        changes: what each worker's payload says otherwise.
        lose: whether the worker is lost after it has done a task, before it answers.
    """

    workers = 1

    def __init__(self, changes: Sequence[Change], lose: Callable[[Task], bool] = lambda _: False) -> None:
        self.changes, self.lose = changes, lose
        self.outcomes: list[tuple[Task, Any]] = []
        self.runtimes: list[WorkerRuntime] = []

    def run(self, units: Sequence[WorkUnit], worker: Worker, sink: ResultSink) -> None:
        with share_store(sink.store) as shared:
            payload = pickle.dumps(make_payload(units, worker, shared, sink.scorer))
            self.runtimes = [WorkerRuntime(change(pickle.loads(payload))) for change in self.changes]
            logging.getLogger("robustbench_sgdm").setLevel(logging.INFO)  # a worker logs errors alone
            run_scheduled(units, _Pool(self, self.runtimes), worker, sink, SimpleQueue())


class _Pool:
    loss_errors = (Lost,)

    def __init__(self, executor: WorkersHere, runtimes: list[WorkerRuntime]) -> None:
        self.executor, self.runtimes, self.workers = executor, runtimes, len(runtimes)

    def has_capacity(self) -> bool:
        return True

    def submit(self, task: Task) -> Future[UnitResult]:
        done: Future[UnitResult] = Future()
        self.runtimes.append(self.runtimes.pop(0))
        result = pickle.loads(pickle.dumps(self.runtimes[0].run(pickle.loads(pickle.dumps(task)))))
        self.executor.outcomes.append((task, result.outcome))
        done.set_exception(Lost()) if self.executor.lose(task) else done.set_result(result)
        return done


def sees(payload: WorkerPayload) -> WorkerPayload:
    """The run directory, as the process of the run does."""
    return payload


def sees_another(payload: WorkerPayload) -> WorkerPayload:
    """Another directory under the same path: what the driver wrote is not there."""
    return replace(payload, shared=replace(payload.shared, token=b"of another driver"))


@pytest.mark.parametrize(
    "changes", [[sees], [sees_another], [sees, sees_another]], ids=["all", "none", "one of two"]
)
def test_the_files_are_the_same_to_the_byte(
    tmp_path: Path, forty: datasets.Dataset, changes: list[Change], caplog: pytest.LogCaptureFixture
) -> None:
    reference = stored(run(tmp_path / "threads", plan(forty)))
    executor = WorkersHere(changes)
    assert stored(run(tmp_path / "workers", plan(forty), executor=executor)) == reference
    by_workers = [isinstance(outcome, Stored) for _, outcome in executor.outcomes]
    assert all(by_workers) == (changes == [sees]) and any(by_workers) == (sees in changes)
    assert sum("does not see" in record.message for record in caplog.records) == (sees_another in changes)


def test_where_workers_store_the_driver_writes_and_scores_nothing(
    tmp_path: Path, forty: datasets.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, writers = plan(forty), set[Path]()
    opened = Run.create_or_resume(tmp_path, "r", made.to_manifest())
    store = opened.store
    write = CellStore.write_shard

    def note(self: CellStore, *rest: Any) -> None:
        assert self is not store
        writers.add(self.files.path)
        write(self, *rest)

    monkeypatch.setattr(CellStore, "write_shard", note)
    executor = WorkersHere([sees])
    units = pending_units(made, store)
    run_sweep(made, store, units=units, executor=executor)
    scored = [task.cell for task, _ in executor.outcomes if isinstance(task, ScoringTask)]
    assert writers == {opened.path} and sorted(map(str, scored)) == sorted(map(str, made.cells))
    assert not opened.missing_cells() and not [n for n in opened.files.names() if n.startswith(".workers")]


@pytest.mark.parametrize("kind", [WorkUnit, ScoringTask])
def test_a_worker_lost_after_its_work_costs_nothing(
    tmp_path: Path, forty: datasets.Dataset, kind: type[Any]
) -> None:
    """The next one finds shards that are stored, or a cell that is complete."""
    lost = set[str]()

    def lose(task: Task) -> bool:
        is_first = isinstance(task, kind) and repr(task) not in lost
        lost.add(repr(task))
        return is_first

    reference = stored(run(tmp_path / "threads", plan(forty)))
    assert stored(run(tmp_path / "workers", plan(forty), executor=WorkersHere([sees], lose))) == reference


@pytest.fixture
def working(tmp_path: Path, forty: datasets.Dataset) -> Iterator[tuple[Plan, Run, WorkerRuntime]]:
    """A worker at work."""
    made = plan(forty)
    opened = Run.create_or_resume(tmp_path, "r", made.to_manifest())
    with share_store(opened.store) as shared:
        detector = PixelDetector()
        worker = Worker({"pixels": detector}, {"pixels": map_classes(detector, forty)}, made.settings)
        units = pending_units(made, opened.store)
        yield made, opened, WorkerRuntime(make_payload(units, worker, shared, CellScorer(forty)))


def test_a_worker_whose_driver_is_gone_writes_nothing_more(
    working: tuple[Plan, Run, WorkerRuntime],
) -> None:
    """The driver was killed, so that its file is still there; whoever takes the run over removes it first."""
    made, opened, runtime = working
    first, second, *_ = pending_units(made, opened.store)
    assert isinstance(runtime.run(first).outcome, Stored)
    assert any(stale.path.name.startswith(".workers.") for stale in find_stale_files(opened.path))
    before = stored(opened)
    revoke_workers(opened.store)
    outcome = runtime.run(second).outcome
    assert isinstance(outcome, RobustBenchError) and "no longer" in str(outcome) and "\n" not in str(outcome)
    after = stored(opened)
    assert after == {name: data for name, data in before.items() if not name.startswith(".workers.")}
    outcome = runtime.run(ScoringTask(made.cells[0])).outcome
    assert isinstance(outcome, RobustBenchError) and stored(opened) == after


def test_a_worker_whose_driver_is_gone_removes_nothing(working: tuple[Plan, Run, WorkerRuntime]) -> None:
    """It stalls before it merges, and meanwhile the next run completes the cell with other weights."""
    made, opened, runtime = working
    for unit in pending_units(made, opened.store):
        runtime.run(unit)
    ours = made.cells[0]
    theirs = replace(ours, key="0" * 64)
    revoke_workers(opened.store)
    opened.store.commit(theirs, dict.fromkeys(METRICS, 0.0), detections=None)
    for number in range(shard_count(40)):  # so that there is something to merge
        opened.store.write_shard(ours, number, {name: [] for name in COLUMNS})
    before = stored(opened)
    assert isinstance(runtime.run(ScoringTask(ours)).outcome, TakenOverError)
    assert runtime._store is not None
    with pytest.raises(TakenOverError, match="no longer"):
        runtime._store.drop_shards(ours)
    assert stored(opened) == before and opened.store.is_complete(theirs)


def test_a_worker_whose_disk_fails_sends_from_then_on(
    tmp_path: Path, forty: datasets.Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    """Its mount of the run directory is lost after it has stored a unit; the driver's is there."""
    mount = tmp_path / "mount"

    def mounted(payload: WorkerPayload) -> WorkerPayload:
        mount.symlink_to(payload.shared.path)
        return replace(payload, shared=replace(payload.shared, path=mount, cells=mount / "cells"))

    def lose_mount(_: Task) -> bool:
        mount.unlink(missing_ok=True)
        mount.touch()
        return False

    reference = stored(run(tmp_path / "threads", plan(forty)))
    executor = WorkersHere([mounted], lose_mount)
    assert stored(run(tmp_path / "workers", plan(forty), executor=executor)) == reference
    assert [isinstance(outcome, Stored) for _, outcome in executor.outcomes[:3]] == [True, False, False]
    (message,) = [r.message for r in caplog.records if "stores the shards of a worker" in r.message]
    assert "cannot write" in message and "does not see" not in caplog.text


def test_why_workers_do_not_score_is_logged_once(
    tmp_path: Path, forty: datasets.Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that expects other shards, as on a disk that shows them late, finds some missing in every cell."""

    def misses_shards(payload: WorkerPayload) -> WorkerPayload:
        return replace(payload, scorer=pickle.dumps(CellScorer(forty.subset(0.8))))

    reference = stored(run(tmp_path / "threads", plan(forty)))
    assert stored(run(tmp_path / "workers", plan(forty), executor=WorkersHere([misses_shards]))) == reference
    (message,) = [r.message for r in caplog.records if "could not score" in r.message]
    assert "shard 14 of 16 is missing" in message


@pytest.mark.parametrize("change", [sees, sees_another])
def test_a_worker_keeps_no_pickled_ground_truth(
    tmp_path: Path, forty: datasets.Dataset, change: Change
) -> None:
    """Neither when it has scored nor where it never will."""
    executor = WorkersHere([change])
    run(tmp_path, plan(forty), executor=executor)
    assert not any(value and isinstance(value, bytes) for value in vars(executor.runtimes[0]).values())


def test_a_directory_that_cannot_be_read_is_not_another(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        share_store(CellStore(tmp_path)) as shared,
        pytest.raises(RobustBenchError, match=r"cannot read .*: Not a directory"),
    ):
        replace(shared, path=tmp_path / "file").check()


def test_shards_that_come_late_are_removed(tmp_path: Path, forty: datasets.Dataset) -> None:
    """A worker that was given up, cut off from the network, may write after its successor's cell was scored."""
    made = plan(forty)
    reference = stored(run(tmp_path / "threads", made))
    late = CellStore(tmp_path / "workers" / "r" / "cells")

    def write_late(task: Task) -> bool:
        if isinstance(task, ScoringTask) and task.cell == made.cells[0]:
            late.write_shard(task.cell, 0, {name: [] for name in COLUMNS})
        return False

    assert stored(run(tmp_path / "workers", made, executor=WorkersHere([sees], write_late))) == reference
