"""The paired bootstrap over images, cached: the same resampled images for every cell and model of a run.

Each cell's metrics under every resample are stored in `statistics/` of the run directory, so that means over any set
of cells, and differences between any two models, need no resampling.
"""

import hashlib
import itertools
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.robustness.aggregates import CorruptionSet
from robustbench_sgdm.robustness.matching import SortedTruth, match_detections
from robustbench_sgdm.robustness.outcomes import sort_truth
from robustbench_sgdm.robustness.resampling import Resampler
from robustbench_sgdm.robustness.sizes import COCO_SIZES, Sizes
from robustbench_sgdm.store import Cell, Run
from robustbench_sgdm.store.parquet import read_stamp, read_table

JACKKNIFE_GROUPS = 200
"""Groups of images that the jackknife leaves out in turn; with fewer images, each image is a group."""

DEFAULT_RESAMPLES = 1000
"""The number of resamples behind an interval, by default."""

_MAX_RESAMPLES = 1_000_000
_LARGEST = (
    1e9  # percent, and false boxes of an image: nothing that is cached is infinite, or so large that sums are
)
_VERSION = 1  # of the cached files; those of another version are computed again
CLASS_FILE, CLASS_VERSION = "class_{}.parquet", 1
"""Cached files of a metric of each class, and the version of what they hold."""


@dataclass(frozen=True, eq=False)
class BootstrapSamples:
    """Statistics (m,), in percent, and their distribution; NaN where a sample has no such object.

    Attributes:
        estimate: (m,) on the images themselves.
        resamples: (r, m) on each resample of the images; r is 0 for a cell that has scores but no detections.
        jackknife: (g, m) with each group of images left out.
    """

    estimate: NDArray[np.float64]
    resamples: NDArray[np.float64]
    jackknife: NDArray[np.float64]

    @classmethod
    def map(cls, function: Callable[..., Any], *several: "BootstrapSamples") -> Self:
        """Apply a function to the statistics of several cells, sample by sample; those that one lacks are dropped."""
        counts = [
            min(len(part) for part in parts)
            for parts in zip(*((d.resamples, d.jackknife) for d in several), strict=True)
        ]
        parts = [(d.estimate, d.resamples[: counts[0]], d.jackknife[: counts[1]]) for d in several]
        return cls(*(function(*same) for same in zip(*parts, strict=True)))

    @classmethod
    def join(cls, several: Sequence["BootstrapSamples"]) -> Self:
        """The statistics of one cell side by side."""
        return cls.map(lambda *parts: np.concatenate(parts, axis=-1), *several)

    def split(self, counts: Sequence[int]) -> list[Self]:
        """The reverse: so many statistics each."""
        ends = list(itertools.accumulate(counts))
        parts = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        whole = (self.estimate, self.resamples, self.jackknife)
        return [type(self)(*(values[..., part] for values in whole)) for part in parts]


def bootstrap_weights(images: int, resamples: int, seed: int) -> NDArray[np.uint16]:
    """How often each image, in order of id, is in each resample: (resamples, images).

    The first rows do not depend on the number of resamples, so a larger one extends a smaller one.
    """
    rng = np.random.default_rng(seed)
    weights = np.empty((resamples, images), np.uint16)
    for row in weights:
        row[:] = np.bincount(rng.integers(images, size=images), minlength=images)
    return weights


def jackknife_weights(images: int) -> NDArray[np.uint16]:
    """Weights that leave out each group of the jackknife: (groups, images)."""
    groups = min(JACKKNIFE_GROUPS, images)
    rows: NDArray[np.uint16] = (np.arange(images) % groups != np.arange(groups)[:, None]).astype(np.uint16)
    return rows


def resample_cell(resampler: Resampler, weights: NDArray[np.uint16]) -> BootstrapSamples:
    """A cell's metrics under weights (r, images)."""
    return _sample_rows(resampler.score, resampler.images, weights)


def _sample_rows(
    score: Callable[[NDArray[np.uint16]], NDArray[np.float64]], images: int, weights: NDArray[np.uint16]
) -> BootstrapSamples:
    """`sample_images` of a function of one row of weights."""
    return sample_images(lambda rows: np.array([score(w) for w in rows]), images, weights)


def sample_images(
    score: Callable[[NDArray[np.uint16]], NDArray[np.float64]], images: int, weights: NDArray[np.uint16]
) -> BootstrapSamples:
    """The samples of a function of (r, images) weights that returns (r, m) statistics."""
    ones = np.ones((1, images), np.uint16)
    return BootstrapSamples(score(ones)[0], score(weights), score(jackknife_weights(images)))


@dataclass(frozen=True)
class Statistic:
    """What is resampled of a cell, and cached.

    Attributes:
        columns: names of the statistics.
        file: name of the cached file in the cell's folder of statistics.
        compute: the samples of a cell under weights (r, images).
        without_detections: the statistics (m,) of a cell that has scores only, NaN where they are not known.
        key: what the numbers depend on beside the cell, the seed and the number of groups of the jackknife.
        also: other statistics of a run, whose columns `compute` gives after its own; cached with them.
    """

    columns: tuple[str, ...]
    file: str
    compute: Callable[[Run, Cell, SortedTruth, NDArray[np.uint16]], BootstrapSamples]
    without_detections: Callable[[Run, Cell], NDArray[np.float64]]
    key: Callable[[Cell], list[Any]] = lambda _: []
    also: Callable[[Run], Sequence["Statistic"]] = lambda _: ()


def average_precision(sizes: Sizes = COCO_SIZES) -> Statistic:
    """COCO's average precision, of all objects and of each size; the estimates are the stored scores.

    The curves of every class are computed on the way, so AP by class is cached too.
    """

    def compute(run: Run, cell: Cell, truth: SortedTruth, weights: NDArray[np.uint16]) -> BootstrapSamples:
        matches = match_detections(truth, run.store.read_detections(cell), areas=sizes.areas)
        samples = _sample_rows(Resampler(truth, matches, sizes.areas).score_all, len(truth.images), weights)
        _check_scores(run, cell, dict(zip(sizes.metrics, samples.estimate.tolist(), strict=False)))
        return samples

    def stored(run: Run, cell: Cell) -> NDArray[np.float64]:
        scores = run.store.read_scores(cell).metrics
        return np.array([scores.get(m, np.nan) for m in sizes.metrics], float)

    return Statistic(
        sizes.metrics,
        sizes.file_name("bootstrap"),
        compute,
        stored,
        also=lambda run: [average_precision_by_class(run)],
    )


def average_precision_by_class(run: Run) -> Statistic:
    """AP of each class of a run's data; the columns are the category ids as text, ascending."""
    ids = tuple(str(i) for i in sorted(run.ground_truth().categories["category_id"]))
    areas = COCO_SIZES.areas[:1]  # sizes of objects: all

    def compute(run: Run, cell: Cell, truth: SortedTruth, weights: NDArray[np.uint16]) -> BootstrapSamples:
        matches = match_detections(truth, run.store.read_detections(cell), areas=areas)
        return _sample_rows(Resampler(truth, matches, areas).score_classes, len(truth.images), weights)

    def stored(run: Run, cell: Cell) -> NDArray[np.float64]:
        names = run.ground_truth().categories.set_index("category_id")["name"]
        scores = run.store.read_scores(cell).per_class
        return np.array([scores.get(names[int(i)], np.nan) for i in ids], float)

    return Statistic(ids, CLASS_FILE.format("AP"), compute, stored, lambda _: [CLASS_VERSION, repr(None)])


def load_samples(
    runs: Sequence[Run],
    statistics: Sequence[Statistic],
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
    workers: int | None = None,
    only: Callable[[Cell], bool] = lambda _: True,
    progress: Callable[[int], None] = lambda _: None,
) -> list[dict[Cell, BootstrapSamples]]:
    """For each run the samples of its complete cells, all over the same resampled images; computed once and cached.

    Args:
        statistics: one for each run, with the same columns.
        resamples: how many.
        seed: of the resampled images.
        workers: threads; one per core if None.
        only: which cells.
        progress: called with the number of cells just done, from any thread.

    Raises:
        UsageError: fewer than 2 resamples, or too many to hold.
        DataError: runs that cannot be compared, or a cell whose detections do not give its scores.
    """
    if resamples < 2:
        raise UsageError(f"resamples {resamples} is too few for an interval; use 1000 or more")
    if resamples > _MAX_RESAMPLES:
        raise UsageError(
            f"resamples is {resamples:,}; the limit is {_MAX_RESAMPLES:,}: 1000 are enough for 95 % intervals"
        )
    check_comparable(runs)
    by_run = [
        {
            c: _load_or_none(run, c, statistic, resamples, seed)
            for c in run.cells
            if only(c) and run.store.is_complete(c)
        }
        for run, statistic in zip(runs, statistics, strict=True)
    ]
    missing = [
        (i, cell) for i, cells in enumerate(by_run) for cell, cached in cells.items() if cached is None
    ]
    progress(sum(map(len, by_run)) - len(missing))
    if missing:
        truth = sort_truth(runs[0].ground_truth())
        weights = bootstrap_weights(len(truth.images), resamples, seed)
        also = {statistic.file: statistic.also(runs[0]) for statistic in statistics}

        def compute(which: tuple[int, Cell]) -> None:
            run, statistic, cell = runs[which[0]], statistics[which[0]], which[1]
            several = [statistic, *also[statistic.file]]
            samples = statistic.compute(run, cell, truth, weights).split([len(s.columns) for s in several])
            for one, own in zip(several, samples, strict=True):
                save_samples(run, cell, one, seed, own)
            by_run[which[0]][cell] = samples[0]
            progress(1)

        # Threads: the loops release Python's lock.
        with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
            list(pool.map(compute, missing))
    return [{cell: samples for cell, samples in cells.items() if samples is not None} for cells in by_run]


def mean_samples(
    corruption_set: CorruptionSet, cells: Mapping[tuple[str, float], BootstrapSamples]
) -> BootstrapSamples:
    """The samples of the mean over a set, from those of its cells."""
    return BootstrapSamples.map(
        lambda *values: corruption_set.mean(dict(zip(corruption_set.cells, values, strict=True))),
        *(cells[cell] for cell in corruption_set.cells),
    )


def load_means(
    run: Run,
    corruption_set: CorruptionSet | None,
    *,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, BootstrapSamples]:
    """Average precision of each model on clean images, then as the mean over a set; cached, so a second call is instant.

    Args:
        corruption_set: None if only clean images were run.
        resamples, seed, progress: as in `load_samples`.

    Returns:
        By model, those of the columns of `average_precision` twice, P and mPC. Models that lack a cell are left out;
        without clean images P is NaN.

    Raises:
        UsageError, DataError: as `load_samples`.
    """
    wanted = {*(corruption_set.cells if corruption_set else ()), (CLEAN, 0.0)}
    cells: dict[str, dict[tuple[str, float], Cell]] = {model: {} for model in run.manifest.models}
    for cell in run.cells:
        if (cell.corruption, cell.severity) in wanted:
            cells[cell.model][cell.corruption, cell.severity] = cell
    single = average_precision()
    statistic = replace(
        single,
        columns=tuple(f"{mean} {name}" for mean in ("P", "mPC") for name in single.columns),
        file="means.parquet",
        key=lambda cell: sorted(one.key for one in cells[cell.model].values()),
    )
    needed = [at for at in wanted if at != (CLEAN, 0.0)] or [(CLEAN, 0.0)]
    planned = {model: own for model, own in cells.items() if all(at in own for at in needed)}
    first = {model: next(iter(own.values())) for model, own in planned.items()}
    found = {model: _load(run, cell, statistic, resamples, seed) for model, cell in first.items()}
    todo = {cell for model, one in found.items() if one is None for cell in planned[model].values()}
    samples: dict[Cell, BootstrapSamples] = {}
    if todo:
        (samples,) = load_samples(
            [run], [single], resamples=resamples, seed=seed, only=todo.__contains__, progress=progress
        )
    for model in [model for model, one in found.items() if one is None]:
        own = {at: samples[cell] for at, cell in planned[model].items() if cell in samples}
        if len(own) < len(planned[model]):
            continue
        some = next(iter(own.values()))
        clean = own.get((CLEAN, 0.0), BootstrapSamples.map(lambda values: np.full_like(values, np.nan), some))
        mean = clean
        if corruption_set:
            mean = mean_samples(corruption_set, own)
        found[model] = both = BootstrapSamples.join([clean, mean])
        if len(both.resamples):
            save_samples(run, first[model], statistic, seed, both)
    return {model: one for model, one in found.items() if one is not None}


def _load_or_none(
    run: Run, cell: Cell, statistic: Statistic, resamples: int, seed: int
) -> BootstrapSamples | None:
    """The cached samples; for a cell with scores but no detections, what is known without a distribution."""
    if run.store.has_detections(cell):
        return _load(run, cell, statistic, resamples, seed)
    empty = np.empty((0, len(statistic.columns)))
    return BootstrapSamples(statistic.without_detections(run, cell), empty, empty)


def has_cached_samples(run: Run, statistic: Statistic | None = None, *, seed: int = 0) -> bool:
    """Whether a statistic of all complete cells is cached; by default AP's, so that `bootstrap_intervals` is instant."""
    statistic = statistic or average_precision()
    return all(
        read_stamp(_file(run, cell, statistic), "stamp", run.files) == _stamp(cell, statistic, seed)
        for cell in run.cells
        if run.store.is_complete(cell) and run.store.has_detections(cell)
    )


def check_comparable(runs: Sequence[Run]) -> None:
    """Reject runs that cannot be compared: other images, seeds, engines or corruptions.

    Raises:
        DataError: names what differs.
    """
    first, *others = runs
    digest = _ground_truth_digest(first) if others else ""
    for other in others:
        ours, theirs = first.manifest, other.manifest
        _check_same(first, other, "data set", ours.data.fingerprint, theirs.data.fingerprint)
        if digest and (
            their_digest := _ground_truth_digest(other)
        ):  # the fingerprint is what a manifest says
            _check_same(first, other, "digest of the ground truth", digest, their_digest)
        _check_same(first, other, "seed of the corruptions", ours.settings.seed, theirs.settings.seed)
        _check_same(first, other, "corruption engine", ours.settings.engine, theirs.settings.engine)
        for name in ours.corruptions.keys() & theirs.corruptions.keys():
            prints = [manifest.corruptions[name].fingerprint for manifest in (ours, theirs)]
            _check_same(first, other, f"definition of {name}", *prints)


def _ground_truth_digest(run: Run) -> str:
    """Empty for a run without ground truth, whose scores have no intervals."""
    try:
        return run.ground_truth().digest
    except DataError:
        return ""


def _check_same(first: Run, other: Run, what: str, one: Any, two: Any) -> None:
    if one != two:
        short = [str(v)[:12] for v in (one, two)]
        raise DataError(
            f"{first.path} and {other.path} cannot be compared: the {what} is {short[0]} in one and {short[1]} in the "
            "other; run one of them again with the settings of the other"
        )


def _check_scores(run: Run, cell: Cell, estimates: Mapping[str, float]) -> None:
    stored: Mapping[str, float | None] = run.store.read_scores(cell).metrics
    for name in estimates.keys() & stored.keys():
        ours, theirs = estimates[name], stored[name]
        if (theirs is None) != math.isnan(ours) or abs((theirs or 0) - np.nan_to_num(ours)) > 1e-6:
            raise DataError(
                f"{cell} of {run.path}: its detections give {name} {ours:.4f}, but its stored score is {theirs}; "
                f"delete {run.store.folder(cell)} and run the same command again"
            )


def _file(run: Run, cell: Cell, statistic: Statistic) -> Path:
    return run.statistics_folder(cell) / statistic.file


def _stamp(cell: Cell, statistic: Statistic, seed: int) -> str:
    parts = [_VERSION, cell.key, seed, JACKKNIFE_GROUPS, statistic.columns, *statistic.key(cell)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _schema(statistic: Statistic) -> pa.Schema:
    return pa.schema([("sample", pa.string()), *((name, pa.float64()) for name in statistic.columns)])


def save_samples(run: Run, cell: Cell, statistic: Statistic, seed: int, samples: BootstrapSamples) -> None:
    """One row per sample: `sample` (estimate, resample or jackknife) and the statistics."""
    parts = {
        "estimate": samples.estimate[None],
        "resample": samples.resamples,
        "jackknife": samples.jackknife,
    }
    frame = pd.DataFrame(np.concatenate(list(parts.values())), columns=list(statistic.columns))
    frame.insert(0, "sample", [name for name, rows in parts.items() for _ in rows])
    table = pa.Table.from_pandas(frame, _schema(statistic), preserve_index=False)
    stamp = {"stamp": _stamp(cell, statistic, seed)}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **stamp})
    file = _file(run, cell, statistic)
    run.files.write(file, lambda new: pq.write_table(table, new), sync=False)


def _load(run: Run, cell: Cell, statistic: Statistic, resamples: int, seed: int) -> BootstrapSamples | None:
    """The cached samples, if they are of this cell and version and enough."""
    try:
        table = read_table(_file(run, cell, statistic), _schema(statistic), run.files, gaps=True)
        stamp = (table.schema.metadata or {}).get(b"stamp", b"")
        if stamp != _stamp(cell, statistic, seed).encode():
            return None
        sample = np.array(table["sample"].to_pylist())
        values = np.stack([table[m].to_numpy().astype(np.float64) for m in statistic.columns], axis=1)
        stored = values[sample == "resample"][:resamples]
        if len(stored) < resamples or (np.abs(values) > _LARGEST).any():
            return None
        return BootstrapSamples(values[sample == "estimate"][0], stored, values[sample == "jackknife"])
    except (DataError, LookupError, ValueError):
        return None
