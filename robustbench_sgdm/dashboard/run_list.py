"""What the start page says of each run: read in the background, one at a time, and kept until the run changes."""

import itertools
import math
import queue
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from robustbench_sgdm import robustness
from robustbench_sgdm.store import MANIFEST, Run, describe_state, is_locked
from robustbench_sgdm.tables import describe_set, format_number, judged_pairs, ranking_verdict, verdicts

MOST_RUNS = 1000
"""Runs that the page lists, the newest ones."""

_AGE_PARTIAL, _AGE_COMPLETE = (
    5.0,
    300.0,
)  # s after which a run is looked at again though its manifest is the same
_MAX_REASON = 300  # characters of an error
_NO_INTERVALS = "no intervals yet"


@dataclass(frozen=True)
class RunSummary:
    """A row of the list.

    Attributes:
        path: of the run directory.
        modified: of its manifest, s since 1970.
        data: name of the data set.
        images: how many.
        models: names of the networks.
        corruptions: how many.
        done: complete cells.
        cells: planned ones.
        state: complete, partial, running, or what is wrong.
        verdict: what the run says, in words; empty while it is not known.
        is_pending: whether more is being read.
    """

    path: Path
    modified: float = 0.0
    data: str = ""
    images: int = 0
    models: tuple[str, ...] = ()
    corruptions: int = 0
    done: int = 0
    cells: int = 0
    state: str = ""
    verdict: str = ""
    is_pending: bool = True


class _Reader:
    """Reads runs in a thread, what is quick of all of them before the verdict of any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[object, float, RunSummary]] = {}  # stamp, when read, what
        self._queued: set[Path] = set()
        self._queue: queue.PriorityQueue[tuple[int, float, int, Path]] = queue.PriorityQueue()
        self._number = itertools.count()
        self._thread: threading.Thread | None = None

    def summaries(self, paths: Iterable[Path]) -> list[RunSummary]:
        """What is known now, in order; what is not is read from here on."""
        rows = [self._look_up(path) for path in itertools.islice(paths, MOST_RUNS)]
        with self._lock:
            kept = {row.path for row in rows}
            for path in self._known.keys() - kept:
                del self._known[path]
            if self._queued and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()
        return rows

    def _look_up(self, path: Path) -> RunSummary:
        stamp, modified = _stamp(path)
        with self._lock:
            known = self._known.get(path)
            row = replace(known[2], modified=modified) if known else RunSummary(path, modified)
            is_final = row.state == "complete" and row.verdict != _NO_INTERVALS
            age = _AGE_COMPLETE if is_final else _AGE_PARTIAL
            has_changed = known is None or known[0] != stamp
            if path not in self._queued and (
                has_changed or (known is not None and time.monotonic() - known[1] > age)
            ):
                self._queued.add(path)
                self._queue.put((0, -modified, next(self._number), path))
        return replace(row, is_pending=True) if has_changed else row

    def _work(self) -> None:
        while True:
            try:
                step, order, _, path = self._queue.get(timeout=5)
            except queue.Empty:
                return
            stamp, modified = _stamp(path)
            with self._lock:
                known = self._known.get(path)
            if step == 0:
                row, run = _describe(path, modified)
                is_same = known is not None and known[0] == stamp and known[2].done == row.done
                if known is not None and is_same and known[2].verdict not in ("", _NO_INTERVALS):
                    self._keep(path, stamp, replace(row, verdict=known[2].verdict, is_pending=False))
                elif run is None:
                    self._keep(path, stamp, row)
                else:
                    self._keep(path, stamp, row, is_done=False)
                    self._queue.put((1, order, next(self._number), path))
            elif known is None:  # no longer listed
                with self._lock:
                    self._queued.discard(path)
            else:
                self._keep(path, known[0], replace(known[2], verdict=_verdict(path), is_pending=False))

    def _keep(self, path: Path, stamp: object, row: RunSummary, *, is_done: bool = True) -> None:
        with self._lock:
            self._known[path] = (stamp, time.monotonic(), row)
            if is_done:
                self._queued.discard(path)


summaries = _Reader().summaries
"""What is known of runs now; call it again while a row `is_pending`."""


def _stamp(path: Path) -> tuple[object, float]:
    """What changes with a run, and when its manifest was written."""
    times = []
    for name in (MANIFEST, "results.csv", "statistics"):
        try:
            times.append((path / name).lstat().st_mtime_ns)
        except OSError:
            times.append(0)
    return tuple(times), times[0] / 1e9


def _describe(path: Path, modified: float) -> tuple[RunSummary, Run | None]:
    """All but the verdict."""
    try:
        run = Run.open(path)
        state, done = describe_state(run)
        data = run.manifest.data
        if state.startswith("partial") and is_locked(path):
            state = "running"
    except Exception as error:  # noqa: BLE001 - whatever one run raises must not end the reading of the others
        why = str(error)[:_MAX_REASON]
        return RunSummary(path, modified, state="cannot be read", verdict=why, is_pending=False), None
    cells, corruptions = len(run.cells), len(run.manifest.corruptions)
    return RunSummary(
        path, modified, data.name, data.images, tuple(run.groups), corruptions, done, cells, state
    ), run


def _verdict(path: Path) -> str:
    """A run's verdict over its widest set of corruptions, or why there is none."""
    try:
        run = Run.open(path)
        sets = list(robustness.corruption_sets(run))[:1]
        if not run.baseline_pairs:
            return _single(run, sets)
        if not robustness.has_cached_samples(run):
            return _NO_INTERVALS
        metric = robustness.primary_metric(run)
        intervals, widest = robustness.bootstrap_intervals(run), next(iter(sets), None)
        same = robustness.find_identical_pairs(run)
        table = intervals.table([metric], sets=sets)
        told = [v.headline for v in verdicts(table, judged_pairs(run), metric, widest, same)]
        if len(run.groups) > 2:
            told.insert(
                0, ranking_verdict(robustness.rank_networks(intervals, metric, widest), metric, widest)
            )
        first, *others = told
    except Exception as error:  # noqa: BLE001 - as above
        return f"no verdict: {str(error)[:_MAX_REASON]}"
    return first + (f"; {len(others)} more comparison{'s' * (len(others) > 1)}" if others else "")


def _single(run: Run, sets: "list[robustness.CorruptionSet]") -> str:
    """What the only network of a run scores under corruption."""
    metric = robustness.primary_metric(run)
    rows = robustness.summary(run, metrics=[metric])
    for one in sets:
        values = rows.loc[rows["over"] == one.name, "mPC"]
        if len(values) and not math.isnan(values.iloc[0]):
            return f"{metric} {format_number(values.iloc[0])} under {describe_set(one)}"
    return "no mean under corruption yet"
