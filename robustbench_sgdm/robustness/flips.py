"""Flips: objects that two models find on clean images, and that only one of them still finds under corruption.

Where a run has no clean images, every object that only one of them finds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from robustbench_sgdm.core import errors
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.robustness.matching import finders
from robustbench_sgdm.robustness.outcomes import CONFIDENCE, ordered
from robustbench_sgdm.robustness.statistics import decide
from robustbench_sgdm.store import Cell, Run
from robustbench_sgdm.store.checks import read_table

_VERSION = b"1"  # of what is kept; another one is computed again
_FOUND = pa.schema([("found", pa.bool_())])
_OBJECT = ["image_id", "annotation", "category_id", "keeper"]


@dataclass(frozen=True, eq=False)
class Flips:
    """What noise takes from one of two models and leaves the other.

    Attributes:
        counts: a row per corrupted cell that both models have: corruption, severity; `both`, the objects that both
            find on clean images, or all objects where the run has none (`clean` says which); `kept`, those of
            them that only the model still finds; `lost`, those that only the baseline does; `p`, of McNemar's
            exact test; `p_holm` and `significant`, of the one rule over the rows.
        images: corruption, severity, image_id, file, kept, lost, net (kept - lost); images without a flip are
            left out; best for the model first.
        objects: corruption, severity, image_id, annotation (row of the ground truth's table), category_id, keeper
            (`model` or `baseline`).
    """

    counts: pd.DataFrame
    images: pd.DataFrame
    objects: pd.DataFrame

    @classmethod
    def of(
        cls,
        cells: list[tuple[Cell, int, pd.DataFrame]],
        files: pd.Series,
        *,
        clean: bool = True,
        level: float = 0.95,
    ) -> Self:
        """From each cell's number of common objects and its flipped ones."""
        rows, parts = [], []
        for cell, both, flipped in cells:
            kept = int((flipped["keeper"] == "model").sum())
            lost = len(flipped) - kept
            rows.append((cell.corruption, cell.severity, both, kept, lost, mcnemar(kept, lost)))
            parts.append(flipped.assign(corruption=cell.corruption, severity=cell.severity))
        counts = pd.DataFrame(rows, columns=["corruption", "severity", "both", "kept", "lost", "p"])
        counts = decide(counts.assign(clean=clean), ["flips"] * len(counts), level)
        where = ["corruption", "severity"]
        objects = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*where, *_OBJECT])
        objects = objects[[*where, *_OBJECT]]
        by = objects.assign(kept=objects["keeper"] == "model", lost=objects["keeper"] == "baseline")
        images = (
            by.groupby([*where, "image_id"], sort=False)[["kept", "lost"]].sum().astype(int).reset_index()
        )
        images.insert(3, "file", images["image_id"].map(files))
        images["net"] = images["kept"] - images["lost"]
        order = images.sort_values(["net", "kept", "image_id"], ascending=[False, False, True], kind="stable")
        return cls(counts, order.reset_index(drop=True), objects)


def flips(
    run: Run,
    baseline: str,
    model: str,
    *,
    confidence: float = CONFIDENCE,
    only: tuple[str, float] | None = None,
    level: float = 0.95,
    progress: Callable[[int], None] = lambda _: None,
) -> Flips:
    """The flips of every corruption and severity that both models have, made once and kept.

    Args:
        run: whose detections are looked at.
        baseline: one model.
        model: the other.
        confidence: least score of a box that counts as found.
        only: this (corruption, severity), where the others are not asked about.
        level: flips are significant where p is below 1 - level.
        progress: called with the number of cells just done.

    Raises:
        UsageError: a model that is not in the run, or the same twice.
    """
    for name in (baseline, model):
        if name not in run.plan["models"]:
            raise errors.unknown_name_error("model", name, run.plan["models"])
    if baseline == model:
        raise errors.UsageError(f"{model} cannot be compared with itself; name two models of the run")
    have = {
        (c.model, c.corruption, c.severity): c
        for c in run.cells
        if run.store.complete(c) and run.store.has_detections(c)
    }
    found = _Found(run, confidence)
    cells = []
    planned = any(c.corruption == CLEAN and c.model in (baseline, model) for c in run.cells)
    clean = [have[name, CLEAN, 0.0] for name in (baseline, model) if (name, CLEAN, 0.0) in have]
    if planned and len(clean) < 2:
        have = {}  # what is asked about is not known yet
    for (name, corruption, severity), cell in have.items():
        other = have.get((baseline, corruption, severity))
        if name != model or corruption == CLEAN or other is None:
            continue
        if only is not None and (corruption, severity) != only:
            continue
        cells.append((cell, *_flipped(found, clean, (other, cell))))
        progress(1)
    return Flips.of(cells, found.truth.images.set_index("image_id")["file"], clean=planned, level=level)


def mcnemar(kept: int, lost: int) -> float:
    """McNemar's exact test, two-sided: the flips went either way with equal chance (Fagerland et al. 2013).

    >>> mcnemar(0, 0), mcnemar(5, 0), mcnemar(3, 3)
    (1.0, 0.0625, 1.0)
    """
    number, fewer = kept + lost, min(kept, lost)
    tail = term = 1  # whole numbers, each binomial from the last: exact, and quick for thousands of flips
    for k in range(fewer):
        term = term * (number - k) // (k + 1)
        tail += term
    return min(1.0, tail / 2 ** (number - 1)) if number else 1.0


class _Found:
    """Which objects each cell finds, kept in the run directory."""

    def __init__(self, run: Run, confidence: float) -> None:
        self.run = run
        self.confidence = confidence
        self.truth = run.truth()
        self._ordered = ordered(self.truth)
        self._known: dict[Cell, NDArray[np.bool_]] = {}

    def __call__(self, cell: Cell) -> NDArray[np.bool_]:
        """(g,) for the objects in order of annotation; never a crowd."""
        if cell not in self._known:
            self._known[cell] = self._load(cell)
        return self._known[cell]

    def _load(self, cell: Cell) -> NDArray[np.bool_]:
        file = self.run.statistics(cell) / f"found-{self.confidence:g}.parquet"
        stamp = {b"key": cell.key.encode(), b"version": _VERSION}
        kept = _kept(self.run, file, stamp)
        if kept is not None and len(kept) == len(self.truth.annotations):
            return kept
        values = self._of(cell)
        made = pa.table({"found": values}, _FOUND.with_metadata(stamp))
        self.run.files.write(file, lambda new: pq.write_table(made, new, compression="none"), sync=False)
        return values

    def _of(self, cell: Cell) -> NDArray[np.bool_]:
        boxes = self.run.store.detections(cell)
        found = finders(self._ordered, boxes[boxes["score"] >= self.confidence])
        objects = np.zeros(len(self.truth.annotations), bool)
        objects[found[found >= 0]] = True
        return objects & (self.truth.annotations["iscrowd"] == 0).to_numpy()


def _kept(run: Run, path: Path, stamp: Mapping[bytes, bytes]) -> NDArray[np.bool_] | None:
    """What was kept, if it was made from this."""
    try:
        table = read_table(path, _FOUND, run.files)
    except errors.DataError:
        return None
    values: NDArray[np.bool_] = table["found"].to_numpy()
    return values if {k: (table.schema.metadata or {}).get(k) for k in stamp} == stamp else None


def _flipped(found: _Found, clean: Sequence[Cell], noisy: tuple[Cell, Cell]) -> tuple[int, pd.DataFrame]:
    """How many objects are asked about, and those of them that one keeps.

    Args:
        clean: of the baseline and the model, which must both find an object; none: every object but crowds.
        noisy: of the baseline and the model.
    """
    asked: NDArray[np.bool_] = (found.truth.annotations["iscrowd"] == 0).to_numpy()
    for cell in clean:
        asked = asked & found(cell)
    baseline, model = map(found, noisy)
    at = np.flatnonzero(asked & (baseline != model))
    rows = found.truth.annotations.iloc[at]
    keeper = np.where(model[at], "model", "baseline")
    flipped = pd.DataFrame(
        {
            "image_id": rows["image_id"].to_numpy(),
            "annotation": at,
            "category_id": rows["category_id"].to_numpy(),
            "keeper": keeper,
        }
    )
    return int(asked.sum()), flipped
