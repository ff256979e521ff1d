"""Flips: objects that two models find on clean images and only one of them still finds under corruption.

In a run without clean images, every object that only one of them finds.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustbench_sgdm.core import errors
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.robustness.found_objects import FoundObjects
from robustbench_sgdm.robustness.outcomes import CONFIDENCE
from robustbench_sgdm.robustness.significance import mark_significant
from robustbench_sgdm.store import Cell, Run

_OBJECT_COLUMNS = ["image_id", "annotation", "category_id", "keeper"]


@dataclass(frozen=True, eq=False)
class Flips:
    """The flips between two models.

    Attributes:
        counts: a row per corrupted cell that both models have: corruption, severity; `both`, the objects that both find
            on clean images, or all objects of a run without clean images (`clean` says which); `kept`, those that only
            the model still finds; `lost`, those that only the baseline still finds; `p` of McNemar's exact test;
            `p_holm` and `significant` over the rows.
        images: corruption, severity, image_id, file, kept, lost, net (kept - lost); images without a flip are
            left out; best for the model first.
        objects: corruption, severity, image_id, annotation (row of the ground truth's table), category_id, keeper
            (`model` or `baseline`).
    """

    counts: pd.DataFrame
    images: pd.DataFrame
    objects: pd.DataFrame

    @classmethod
    def from_cells(
        cls,
        cells: list[tuple[Cell, int, pd.DataFrame]],
        files: pd.Series,
        *,
        clean: bool = True,
        level: float = 0.95,
    ) -> Self:
        """From each cell's number of common objects and its flipped ones."""
        rows, flipped_objects = [], []
        for cell, both, flipped in cells:
            kept = int((flipped["keeper"] == "model").sum())
            lost = len(flipped) - kept
            rows.append((cell.corruption, cell.severity, both, kept, lost, mcnemar_p_value(kept, lost)))
            flipped_objects.append(flipped.assign(corruption=cell.corruption, severity=cell.severity))
        counts = pd.DataFrame(rows, columns=["corruption", "severity", "both", "kept", "lost", "p"])
        counts = mark_significant(counts.assign(clean=clean), ["flips"] * len(counts), level)
        where = ["corruption", "severity"]
        columns = [*where, *_OBJECT_COLUMNS]
        objects = pd.DataFrame(columns=columns)
        if flipped_objects:
            objects = pd.concat(flipped_objects, ignore_index=True)[columns]
        by = objects.assign(kept=objects["keeper"] == "model", lost=objects["keeper"] == "baseline")
        images = (
            by.groupby([*where, "image_id"], sort=False)[["kept", "lost"]].sum().astype(int).reset_index()
        )
        images.insert(3, "file", images["image_id"].map(files))
        images["net"] = images["kept"] - images["lost"]
        order = images.sort_values(["net", "kept", "image_id"], ascending=[False, False, True], kind="stable")
        return cls(counts, order.reset_index(drop=True), objects)

    def examples(
        self, most: int, cells: Collection[tuple[str, float]] | None = None
    ) -> dict[str, pd.DataFrame]:
        """Images with most flips, in both directions: rows of `images`, each image once.

        Args:
            most: images for each direction.
            cells: of these (corruption, severity) instead of all.

        Returns:
            Under `model` where the model finds more, under `baseline` where the baseline does; most flips first.
        """
        images = self.images
        if cells is not None:
            own = pd.MultiIndex.from_frame(images[["corruption", "severity"]])
            images = images[own.isin(list(cells))]
        used: set[int] = set()
        chosen = {}
        for keeper, sign in (("model", 1), ("baseline", -1)):
            net, flipped = sign * images["net"], images[["kept", "lost"]].max(axis=1)
            ranked = images.assign(_net=net, _most=flipped)[net > 0].sort_values(
                ["_net", "_most", "severity", "corruption", "image_id"],
                ascending=[False, False, True, True, True],
            )
            ranked = ranked[~ranked["image_id"].isin(used)].drop_duplicates("image_id").head(most)
            used |= set(ranked["image_id"])
            chosen[keeper] = ranked[images.columns].reset_index(drop=True)
        return chosen


def find_flips(
    run: Run,
    baseline: str,
    model: str,
    *,
    confidence: float = CONFIDENCE,
    only: Collection[tuple[str, float]] | None = None,
    level: float = 0.95,
    progress: Callable[[int], None] = lambda _: None,
) -> Flips:
    """The flips of every corruption and severity that both models have; found objects are cached.

    Args:
        run: of both models.
        baseline: one model.
        model: the other.
        confidence: lowest score of a box that counts.
        only: these (corruption, severity) instead of all.
        level: flips are significant if p is below 1 - level.
        progress: called with the number of cells just done.

    Raises:
        UsageError: a model that is not in the run, or twice the same model.
    """
    for name in (baseline, model):
        if name not in run.manifest.models:
            raise errors.unknown_name_error("model", name, run.manifest.models)
    if baseline == model:
        raise errors.UsageError(f"{model} cannot be compared with itself; name two models of the run")
    stored = {
        (c.model, c.corruption, c.severity): c
        for c in run.cells
        if c.model in (baseline, model)
        and (only is None or c.corruption == CLEAN or (c.corruption, c.severity) in only)
        if run.store.is_complete(c) and run.store.has_detections(c)
    }
    found = FoundObjects(run, confidence)
    cells = []
    has_clean = any(c.corruption == CLEAN and c.model in (baseline, model) for c in run.cells)
    clean = [stored[name, CLEAN, 0.0] for name in (baseline, model) if (name, CLEAN, 0.0) in stored]
    if has_clean and len(clean) < 2:
        stored = {}  # which objects both models find is not known yet
    for (name, corruption, severity), cell in stored.items():
        other = stored.get((baseline, corruption, severity))
        if name != model or corruption == CLEAN or other is None:
            continue
        cells.append((cell, *_flipped(found, clean, (other, cell))))
        progress(1)
    return Flips.from_cells(
        cells, found.truth.images.set_index("image_id")["file"], clean=has_clean, level=level
    )


def mcnemar_p_value(kept: int, lost: int) -> float:
    """p of McNemar's exact test, two-sided: flips in both directions are equally likely (Fagerland et al. 2013).

    >>> mcnemar_p_value(0, 0), mcnemar_p_value(5, 0), mcnemar_p_value(3, 3)
    (1.0, 0.0625, 1.0)
    """
    number, fewer = kept + lost, min(kept, lost)
    # Integers, each binomial coefficient from the last one: exact, and fast for thousands of flips.
    tail = term = 1
    for k in range(fewer):
        term = term * (number - k) // (k + 1)
        tail += term
    return min(1.0, tail / 2 ** (number - 1)) if number else 1.0


def _flipped(
    found: FoundObjects, clean: Sequence[Cell], noisy: tuple[Cell, Cell]
) -> tuple[int, pd.DataFrame]:
    """How many objects can flip, and those that do.

    Args:
        found: by cell.
        clean: cells of the baseline and the model, which must both find an object; without them, every object counts.
        noisy: cells of the baseline and the model.
    """
    can_flip: NDArray[np.bool_] = (found.truth.annotations["iscrowd"] == 0).to_numpy()
    for cell in clean:
        can_flip = can_flip & found(cell)
    baseline, model = map(found, noisy)
    at = np.flatnonzero(can_flip & (baseline != model))
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
    return int(can_flip.sum()), flipped
