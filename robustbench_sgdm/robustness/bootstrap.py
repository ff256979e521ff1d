"""The paired bootstrap over images: the same resampled images for every cell and model of a run.

Each cell's metrics under every resample are kept in `statistics/` of the run directory, so that means over
any set of cells, and differences between any two models, have their distribution without resampling again.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.robustness.matching import match
from robustbench_sgdm.robustness.outcomes import ordered
from robustbench_sgdm.robustness.resampling import METRICS, Resampler
from robustbench_sgdm.store import Cell, Run
from robustbench_sgdm.store.checks import read_table, stamp

GROUPS = 200
"""Groups of images that the jackknife leaves out in turn; each image is one where there are fewer."""

RESAMPLES = 1000
"""Of an interval, where nothing else is said."""

_COLUMNS = pa.schema([("sample", pa.string()), *((metric, pa.float64()) for metric in METRICS)])
_VERSION = 1  # of what is kept; another one is computed again


@dataclass(frozen=True, eq=False)
class Draws:
    """Statistics (m,), percent, and their distribution; NaN where a sample holds no such object.

    Attributes:
        estimate: (m,) of the images themselves.
        resamples: (r, m) of each resample of the images; r is 0 where a cell has scores alone.
        jackknife: (g, m) with each group of images left out.
    """

    estimate: NDArray[np.float64]
    resamples: NDArray[np.float64]
    jackknife: NDArray[np.float64]

    @classmethod
    def map(cls, function: Callable[..., Any], *several: "Draws") -> Self:
        """A function of several cells' statistics, sample by sample; samples that one lacks are left out."""
        least = [
            min(len(part) for part in parts)
            for parts in zip(*((d.resamples, d.jackknife) for d in several), strict=True)
        ]
        parts = [(d.estimate, d.resamples[: least[0]], d.jackknife[: least[1]]) for d in several]
        return cls(*(function(*same) for same in zip(*parts, strict=True)))


def weights(images: int, resamples: int, seed: int) -> NDArray[np.uint16]:
    """How often each image, in order of id, is in each resample: (resamples, images).

    The first rows do not depend on how many are asked for.
    """
    rng = np.random.default_rng(seed)
    drawn = np.empty((resamples, images), np.uint16)
    for row in drawn:
        row[:] = np.bincount(rng.integers(images, size=images), minlength=images)
    return drawn


def left_out(images: int) -> NDArray[np.uint16]:
    """Weights that leave out each group of the jackknife: (groups, images)."""
    groups = min(GROUPS, images)
    rows: NDArray[np.uint16] = (np.arange(images) % groups != np.arange(groups)[:, None]).astype(np.uint16)
    return rows


def draw(resampler: Resampler, drawn: NDArray[np.uint16]) -> Draws:
    """A cell's metrics under (r, images) weights."""
    one = np.ones(resampler.images, np.uint16)
    every = [np.array([resampler.score(w) for w in rows]) for rows in (one[None], drawn, left_out(len(one)))]
    return Draws(every[0][0], every[1].reshape(-1, len(METRICS)), every[2])


def distributions(
    runs: Sequence[Run],
    *,
    resamples: int = 1000,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> list[dict[Cell, Draws]]:
    """For each run its complete cells' distributions, all over the same resampled images; made once and kept.

    Args:
        resamples: how many.
        seed: of the resampled images.
        workers: threads; the cores where None.
        progress: called with the number of cells just done, from any thread.

    Raises:
        UsageError: fewer than 2 resamples.
        DataError: runs that do not compare, or a cell whose detections do not give its scores.
    """
    if resamples < 2:
        raise UsageError(f"resamples {resamples} is too few for an interval; give 1000 or more")
    comparable(runs)
    found = [{c: _have(run, c, resamples, seed) for c in run.cells if run.store.complete(c)} for run in runs]
    todo = [(i, cell) for i, cells in enumerate(found) for cell, have in cells.items() if have is None]
    progress(sum(map(len, found)) - len(todo))
    if todo:
        truth = ordered(runs[0].truth())
        drawn = weights(len(truth.images), resamples, seed)

        def work(which: tuple[int, Cell]) -> None:
            run, cell = runs[which[0]], which[1]
            made = draw(Resampler(truth, match(truth, run.store.detections(cell))), drawn)
            _agree(run, cell, made)
            _keep(run, cell, seed, made)
            found[which[0]][cell] = made
            progress(1)

        with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
            list(pool.map(work, todo))
    return [{cell: draws for cell, draws in cells.items() if draws is not None} for cells in found]


def _have(run: Run, cell: Cell, resamples: int, seed: int) -> Draws | None:
    """What need not be drawn: it was kept, or the cell has scores alone and therefore no distribution."""
    if run.store.has_detections(cell):
        return _load(run, cell, resamples, seed)
    scores = run.store.scores(cell)["metrics"]
    none = np.empty((0, len(METRICS)))
    return Draws(np.array([scores[m] for m in METRICS], float), none, none)


def kept(run: Run, *, seed: int = 0) -> bool:
    """Whether the distributions of all complete cells are there already, so that `bootstrap` is instant."""
    return all(
        stamp(_file(run, cell), "stamp", run.files) == _stamp(cell, seed)
        for cell in run.cells
        if run.store.complete(cell) and run.store.has_detections(cell)
    )


def comparable(runs: Sequence[Run]) -> None:
    """Refuse runs whose cells do not compare: other images, seeds, engines, devices or corruptions.

    Raises:
        DataError: says what differs, and where.
    """
    first, *others = runs
    for other in others:
        for what, name in (
            (("data", "fingerprint"), "data set"),
            (("settings", "seed"), "seed of the corruptions"),
            (("settings", "engine"), "corruption engine"),
        ):
            _same(first, other, name, *(r.plan[what[0]].get(what[1]) for r in (first, other)))
        kinds = [str(r.plan["settings"].get("device", "")).partition(":")[0] for r in (first, other)]
        _same(first, other, "kind of device that drew the noise", *kinds)
        for name in set(first.plan["corruptions"]) & set(other.plan["corruptions"]):
            prints = [r.plan["corruptions"][name].get("fingerprint") for r in (first, other)]
            _same(first, other, f"definition of {name}", *prints)


def _same(first: Run, other: Run, what: str, one: Any, two: Any) -> None:
    if one != two:
        short = [str(v)[:12] for v in (one, two)]
        raise DataError(
            f"{first.path} and {other.path} do not compare: the {what} is {short[0]} in one and {short[1]} in the "
            "other; run one of them again with the settings of the other"
        )


def _agree(run: Run, cell: Cell, draws: Draws) -> None:
    stored: Mapping[str, float | None] = run.store.scores(cell)["metrics"]
    for name, ours in zip(METRICS, draws.estimate, strict=True):
        theirs = stored[name]
        if (theirs is None) != bool(np.isnan(ours)) or abs((theirs or 0) - np.nan_to_num(ours)) > 1e-6:
            raise DataError(
                f"{cell} of {run.path}: its detections give {name} {ours:.4f}, but it was scored {theirs}; "
                f"delete {run.store.folder(cell)} and run again"
            )


def _file(run: Run, cell: Cell) -> Path:
    return run.statistics(cell) / "bootstrap.parquet"


def _stamp(cell: Cell, seed: int) -> str:
    text = json.dumps([_VERSION, cell.key, seed, GROUPS, METRICS])
    return hashlib.sha256(text.encode()).hexdigest()


def _keep(run: Run, cell: Cell, seed: int, draws: Draws) -> None:
    """One row per sample: `sample` (estimate, resample or jackknife) and the metrics in percent."""
    parts = {"estimate": draws.estimate[None], "resample": draws.resamples, "jackknife": draws.jackknife}
    frame = pd.DataFrame(np.concatenate(list(parts.values())), columns=list(METRICS))
    frame.insert(0, "sample", [name for name, rows in parts.items() for _ in rows])
    table = pa.Table.from_pandas(frame, _COLUMNS, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), "stamp": _stamp(cell, seed)})
    run.files.write(_file(run, cell), lambda file: pq.write_table(table, file), sync=False)


def _load(run: Run, cell: Cell, resamples: int, seed: int) -> Draws | None:
    """What was kept, if it was made from this cell in this way and holds enough resamples."""
    try:
        table = read_table(_file(run, cell), _COLUMNS, run.files, gaps=True)
        if (table.schema.metadata or {}).get(b"stamp", b"") != _stamp(cell, seed).encode():
            return None
        sample = np.array(table["sample"].to_pylist())
        values = np.stack([table[m].to_numpy().astype(np.float64) for m in METRICS], axis=1)
        drawn = values[sample == "resample"][:resamples]
        if len(drawn) < resamples:
            return None
        return Draws(values[sample == "estimate"][0], drawn, values[sample == "jackknife"])
    except (DataError, LookupError, ValueError):
        return None
