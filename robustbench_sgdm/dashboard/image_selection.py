"""Which images a page shows, and in which order: by what models find, miss and invent in them.

Everything is counted at the standard confidence, from stored detections.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from robustbench_sgdm import robustness
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.dashboard import image_viewer, run_data
from robustbench_sgdm.dashboard.run_data import BY_FILES, RunView
from robustbench_sgdm.store import Cell

LISTED = "images: listed before"
"""Key of the session for the ids that Images listed when it was last drawn; without it a missing image is told."""

ANY = "any"
FLIP = "flip"
KINDS = ("matched", "missed", "false")
OUTCOMES = (ANY, *KINDS, FLIP)
"""What an image can be asked for; a flip is an object that only one of the first two models finds."""

SIZES: Mapping[str, int] = {"all": 0, "small": 1, "medium": 2, "large": 3}
"""Ranges of areas, as rows of COCO's."""

MAX_DIFFERENT = "most different"
RIGHT_FINDS_MORE = "right finds more"
LEFT_FINDS_MORE = "left finds more"
MOST_MISSED = "most missed"
MOST_FALSE = "most false positives"
AS_IN_THE_DATA = "as in the data"
_COMPARING = {
    MAX_DIFFERENT: "only one of the two models",
    RIGHT_FINDS_MORE: "the right model",
    LEFT_FINDS_MORE: "the left model",
}
_COUNTING = {MOST_MISSED: "missed", MOST_FALSE: "false"}


def orders(models: int) -> list[str]:
    """The orders of images that so many models allow, the usual one first."""
    return [*_COMPARING, *_COUNTING, AS_IN_THE_DATA] if models > 1 else [AS_IN_THE_DATA, *_COUNTING]


@dataclass(frozen=True)
class Filters:
    """Which images are shown: those with at least one object or box of all that is asked for.

    Attributes:
        text: part of the file's name, or the id.
        category: a category id; None for any.
        size: of `SIZES`.
        outcome: of `OUTCOMES`, in any of the models.
    """

    text: str = ""
    category: int | None = None
    size: str = "all"
    outcome: str = ANY

    @property
    def is_of_boxes(self) -> bool:
        """Whether they ask for more than a name."""
        return self.category is not None or self.size != "all" or self.outcome != ANY

    def of(self, rows: pd.DataFrame) -> "pd.Series[bool]":
        """Which rows, with category_id and area, are of the class and size."""
        low, high = robustness.COCO_SIZES.areas[SIZES[self.size]]
        fits = rows["area"].between(low, high)
        return fits if self.category is None else fits & (rows["category_id"] == self.category)


@dataclass(frozen=True, eq=False)
class Selection:
    """The images to show.

    Attributes:
        ids: image ids in their order.
        remark: a sentence on the order and the filters.
        severity: that everything was counted at; NaN if nothing was counted.
        cells: what was counted in, by model.
        is_filtered: whether filters are set.
    """

    ids: list[int]
    remark: str
    severity: float
    cells: Mapping[str, Cell]
    is_filtered: bool


def select(
    view: RunView, models: Sequence[str], corruption: str, severity: float, order: str, filters: Filters
) -> Selection:
    """The images of a run that pass the filters, in an order.

    Args:
        view: the run.
        models: trainings; orders compare the first two.
        corruption: its name.
        severity: if it is not stored, the nearest that is counts.
        order: of `orders`.
        filters: of the images.
    """
    images = run_data.ground_truth(view).images
    every: NDArray[np.int64] = images["image_id"].to_numpy(np.int64)
    level, cells = _nearest_cells(view, models, corruption, severity)
    compared = [m for m in models[:2] if m in cells]
    sentences: list[str] = []
    ids: NDArray[np.int64] = every
    if order in _COMPARING and len(models) > 1:
        if len(compared) == 2:
            ids, remark = _by_difference(view, (compared[0], compared[1]), cells, order, filters, every)
            sentences.append(remark)
        else:
            sentences.append(
                "No severity is complete for both models, so images are in the order of the data set."
            )
    elif order in _COUNTING and cells:
        counts = _counts(view, cells.values(), _COUNTING[order], filters, every)
        ids = every[np.argsort(-counts, kind="stable")]
        sentences.append(f"In {(counts > 0).sum():,} of {len(every):,} images some are {_COUNTING[order]}.")
    if filters != Filters():
        kept = _passing(view, cells, compared, filters, images)
        ids = ids[np.isin(ids, every[kept])]
        sentences.append(f"{len(ids):,} of {len(every):,} images pass the filters.")
    return Selection([int(i) for i in ids], " ".join(sentences), level, cells, filters != Filters())


def _nearest_cells(
    view: RunView, models: Sequence[str], corruption: str, severity: float
) -> tuple[float, dict[str, Cell]]:
    """The severity nearest to one that most of the first two models have, and each model's cell there."""
    complete = run_data.complete_cells(view)
    name = CLEAN if severity == 0 else corruption
    stored = [s for m, c, s in complete if c == name and m in models[:2]]
    if not stored:
        return float("nan"), {}
    most = max(map(stored.count, stored))
    level = min((s for s in stored if stored.count(s) == most), key=lambda s: abs(s - severity))
    return level, {m: complete[m, name, level] for m in models if (m, name, level) in complete}


def _by_difference(
    view: RunView,
    pair: tuple[str, str],
    cells: Mapping[str, Cell],
    order: str,
    filters: Filters,
    every: NDArray[np.int64],
) -> tuple[NDArray[np.int64], str]:
    """All images, those first where the two models differ, and how many these are."""
    cell = cells[pair[1]]
    rows = differences(view, *pair, cell.corruption, cell.severity)
    rows = rows[filters.of(rows)]
    net = _per_image(rows["image_id"], every, rows["net"])
    either = _per_image(rows["image_id"], every, rows["net"].abs())
    if order == MAX_DIFFERENT:
        first, ranked = either > 0, np.lexsort((-np.abs(net), -either))
    else:
        sign = 1 if order == RIGHT_FINDS_MORE else -1
        first, ranked = sign * net > 0, np.argsort(-sign * net, kind="stable")
    ids = every[np.concatenate([ranked[first[ranked]], np.flatnonzero(~first)])]
    number = int(first.sum())
    finds = "finds" if cell.corruption == CLEAN else "still finds"
    where = f"In {number} of {len(every)} images" if number else "In no image"
    some = "some" if order == MAX_DIFFERENT else "more"
    come = "; they come first" * bool(number)
    return ids, f"{where} {_COMPARING[order]} {finds} {some} objects at severity {cell.severity:g}{come}."


def _passing(
    view: RunView,
    cells: Mapping[str, Cell],
    pair: Sequence[str],
    filters: Filters,
    images: pd.DataFrame,
) -> NDArray[np.bool_]:
    """Which images pass the filters."""
    every = images["image_id"].to_numpy(np.int64)
    passes = np.ones(len(images), bool)
    if filters.text:
        text = filters.text.strip().lower()
        names = images["file"].astype(str).str.replace(r".*/", "", regex=True).str.lower()
        passes &= (
            names.str.contains(text, regex=False) | (images["image_id"].astype(str) == text)
        ).to_numpy()
    if filters.outcome == FLIP:
        if len(pair) < 2:
            return np.zeros(len(images), bool)
        cell = cells[pair[1]]
        rows = differences(view, pair[0], pair[1], cell.corruption, cell.severity)
        passes &= _per_image(rows["image_id"][filters.of(rows)], every) > 0
    elif filters.is_of_boxes:
        passes &= _counts(view, cells.values(), filters.outcome, filters, every) > 0
    return passes


def _counts(
    view: RunView, cells: Iterable[Cell], outcome: str, filters: Filters, every: NDArray[np.int64]
) -> NDArray[np.int64]:
    """How many objects and boxes of an outcome each image has, in all of the cells."""
    total = np.zeros(len(every), np.int64)
    for cell in cells:
        rows = outcomes(view, cell)
        rows = rows[filters.of(rows)]
        if outcome != ANY:
            rows = rows[rows["outcome"] == KINDS.index(outcome)]
        total += _per_image(rows["image_id"], every)
    return total


def _per_image(
    ids: "pd.Series[int]", every: NDArray[np.int64], weights: "pd.Series[int] | None" = None
) -> NDArray[np.int64]:
    """The number of rows of each image, or the sum of their weights."""
    order = np.argsort(every)
    places = order[np.searchsorted(every[order], ids.to_numpy(np.int64))]
    return np.bincount(places, weights, minlength=len(every)).astype(np.int64)


@st.cache_resource(max_entries=24, show_spinner="Matching boxes to objects", hash_funcs=BY_FILES)
def outcomes(view: RunView, cell: Cell) -> pd.DataFrame:
    """What is found, missed and invented in a complete cell. Read-only: the cache makes no copy.

    Returns:
        A row per object and per false box: image_id, category_id, area (px^2), outcome (index in `KINDS`).
    """
    boxes = run_data.detections(view, cell, image_viewer.MIN_CONFIDENCE)
    result = robustness.match_outcomes(run_data.ground_truth(view), boxes)
    wrong = result.detections[result.detections["outcome"] == "false"]
    area = (wrong["x2"] - wrong["x1"]) * (wrong["y2"] - wrong["y1"])
    objects = result.objects[result.objects["outcome"] != "ignored"]
    both = pd.concat([objects, wrong.assign(area=area)], ignore_index=True)
    return pd.DataFrame(
        {
            "image_id": both["image_id"].astype(np.int64),
            "category_id": both["category_id"].astype(np.int64),
            "area": both["area"].astype(np.float32),
            "outcome": both["outcome"].map(KINDS.index).astype(np.int8),
        }
    )


@st.cache_data(
    max_entries=64, show_spinner="Ranking images by what only one of the models finds", hash_funcs=BY_FILES
)
def differences(view: RunView, left: str, right: str, corruption: str, severity: float) -> pd.DataFrame:
    """The objects that only one of two trainings finds.

    Under corruption, only objects that both find on clean images count.

    Returns:
        A row per object: image_id, category_id, area (px^2), annotation (row of the ground truth), net (1 if only the
        right one finds it, -1 if only the left one).
    """
    truth = run_data.ground_truth(view)
    if corruption == CLEAN:
        cells = run_data.complete_cells(view)
        found = []
        for model in (left, right):
            boxes = run_data.detections(view, cells[model, CLEAN, 0.0], image_viewer.MIN_CONFIDENCE)
            objects = robustness.match_outcomes(truth, boxes).objects
            found.append((objects["outcome"] == "matched").to_numpy(int))
        net: NDArray[np.int64] = found[1] - found[0]
        at = np.flatnonzero(net)
        net = net[at]
    else:
        flips = robustness.find_flips(view.run, left, right, only=[(corruption, severity)]).objects
        at = flips["annotation"].to_numpy(np.int64)
        net = np.where(flips["keeper"] == "model", 1, -1).astype(np.int64)
    rows = truth.annotations.iloc[at]
    return rows[["image_id", "category_id", "area"]].assign(annotation=at, net=net).reset_index(drop=True)
