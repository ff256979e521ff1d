"""Side-by-side detections in the manner of the SGDM paper's figure 4: rows are images, columns models and noise."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from robustbench_sgdm import robustness
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.palette import OUTCOME_COLORS
from robustbench_sgdm.figures import fonts
from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.run_analysis import ImageRef, RunAnalysis
from robustbench_sgdm.figures.style import PAGE, plot_style
from robustbench_sgdm.store import GroundTruth, read_image
from robustbench_sgdm.tables import humanize

_LOOKS = {  # outcome -> line style, width in points: distinct without colour, too
    "matched": ("-", 1.3),
    "missed": ((0, (4, 1.6)), 1.5),
    "false": ((0, (1, 1.1)), 1.5),
    "truth": ("-", 0.5),
}
_LABELS = {
    "matched": "matched detection",
    "missed": "missed object",
    "false": "false detection",
    "truth": "ground truth",
}
_TOP, _BELOW, _LEFT, _GAP = 0.42, 0.2, 0.36, 0.05  # inches: heads, counts, row titles, between panels


@dataclass(frozen=True, eq=False)
class Panel:
    """One image with the boxes of one model.

    Attributes:
        picture: (h, w, 3) uint8 RGB, at any resolution.
        size: width and height of the image that boxes refer to, px.
        objects: columns x, y, w, h (px) and outcome: matched, missed or ignored.
        detections: columns x1, y1, x2, y2 (px) and outcome: matched, false or ignored.
    """

    picture: NDArray[np.uint8]
    size: tuple[int, int]
    objects: pd.DataFrame
    detections: pd.DataFrame

    @property
    def counts(self) -> tuple[int, int, int]:
        """Objects found, objects missed, false detections."""
        found, missed = (int((self.objects["outcome"] == o).sum()) for o in ("matched", "missed"))
        return found, missed, int((self.detections["outcome"] == "false").sum())


def draw_panels(rows: Sequence[tuple[str, Sequence[Panel]]], columns: Sequence[str]) -> Figure:
    """Draw rows of panels with their boxes, and the counts below each.

    Args:
        rows: the label of a row, and its panels, one for each column.
        columns: the heads of the columns.
    """
    width = (PAGE - _LEFT) / len(columns)
    heads = fonts.fit_names(columns, width - _GAP, 7.5)
    heights = [(width - _GAP) * max(_ratio(p) for p in panels) for _, panels in rows]
    total = _TOP + sum(h + _BELOW for h in heights)
    with plot_style():
        figure = Figure(figsize=(PAGE, total))
        top = total - _TOP
        for (title, panels), height in zip(rows, heights, strict=True):
            figure.text(
                _LEFT / 2 / PAGE,
                (top - height / 2) / total,
                fonts.make_legible(title, "\n"),
                rotation=90,
                ha="center",
                va="center",
                fontsize=6.5,
                linespacing=1.15,
            )
            for index, panel in enumerate(panels):
                place = (_LEFT + index * width, top - height, width - _GAP, height)
                axis = figure.add_axes((place[0] / PAGE, place[1] / total, place[2] / PAGE, place[3] / total))
                _draw(axis, panel)
                if top == total - _TOP:
                    axis.set_title(heads[columns[index]], fontsize=7.5, pad=3)
            top -= height + _BELOW
        # White on white needs its dark edge; the others are visible without one.
        handles = [Line2D([], [], **_look(kind, casing=kind == "truth")) for kind in _LOOKS]
        figure.legend(
            handles,
            [_LABELS[kind] for kind in _LOOKS],
            loc="upper center",
            ncols=len(_LOOKS),
            bbox_to_anchor=(0.5, 1),
            borderaxespad=0.1,
        )
    return figure


def _ratio(panel: Panel) -> float:
    return panel.size[1] / panel.size[0]


def _look(kind: str, casing: bool = True) -> dict[str, Any]:
    style, width = _LOOKS[kind]
    under: dict[str, Any] = {"color": OUTCOME_COLORS[kind], "linestyle": style, "linewidth": width}
    if casing:  # a dark edge, so that light lines are visible on light images
        under["path_effects"] = [withStroke(linewidth=width + 1.1, foreground="#000000", alpha=0.75)]
    return under


def _boxes(frame: pd.DataFrame, kind: str) -> LineCollection:
    x1, y1, x2, y2 = frame[["x1", "y1", "x2", "y2"]].to_numpy(float).T
    outlines = np.stack([np.stack([x1, x2, x2, x1, x1], 1), np.stack([y1, y1, y2, y2, y1], 1)], 2)
    return LineCollection(list(outlines), joinstyle="miter", **_look(kind))


def _draw(axis: Axes, panel: Panel) -> None:
    wide, high = panel.size
    axis.imshow(panel.picture, extent=(0, wide, high, 0), interpolation="antialiased")
    corners = panel.objects.assign(
        x1=panel.objects["x"],
        y1=panel.objects["y"],
        x2=panel.objects["x"] + panel.objects["w"],
        y2=panel.objects["y"] + panel.objects["h"],
    )
    for kind, frame in (
        ("truth", corners),
        ("missed", corners[corners["outcome"] == "missed"]),
        ("false", panel.detections[panel.detections["outcome"] == "false"]),
        ("matched", panel.detections[panel.detections["outcome"] == "matched"]),
    ):
        axis.add_collection(_boxes(frame, kind), autolim=False)
    axis.set(xlim=(0, wide), ylim=(high, 0), xticks=[], yticks=[])
    axis.set_aspect("equal", anchor="N")
    axis.grid(False)
    axis.spines[:].set_visible(False)
    found, missed, false = panel.counts
    axis.set_xlabel(f"{found} of {found + missed} found, {false} false", fontsize=6.5, labelpad=2)


@figure("side-by-side", "detections of both models on clean and corrupted images", section="detections")
def side_by_side(analysis: RunAnalysis) -> FigureResult:
    """The images with most flips, or the chosen ones."""
    return draw_side_by_side(analysis, [ref for refs in analysis.selected_images.values() for ref in refs])


def draw_side_by_side(analysis: RunAnalysis, pictures: list[ImageRef]) -> FigureResult:
    """The side-by-side figure of some images."""
    rows, table = [], []
    views = [(level, model) for level in ("clean", "noisy") for model in analysis.pair]
    if not analysis.has_clean:
        views = views[2:]
    truth, detections = analysis.run.ground_truth(), _detections(analysis, pictures)
    for corruption, severity, image_id in pictures:
        panels = _panels(analysis, truth.of_image(image_id), detections, (corruption, severity, image_id))
        rows.append((f"image {image_id}\n{humanize(corruption)}, severity {severity:g}", panels))
        for (level, model), panel in zip(views, panels, strict=True):
            table.append((image_id, corruption, severity, level, model, *panel.counts))
    baseline, model = analysis.pair
    columns = ["image_id", "corruption", "severity", "shown", "model", "found", "missed", "false"]
    data = pd.DataFrame(table, columns=columns)
    noisy = data[data["shown"] == "noisy"].groupby("model")["found"].sum()
    caption = (
        f"Detections at confidence {analysis.confidence:g} or more, matched at an overlap of 0.5: found objects with a "
        "solid blue box, missed ones dashed amber, false detections dotted pink, the ground truth thin white with a "
        "dark edge."
    )
    which = "clean and corrupted" if analysis.has_clean else "corrupted"
    alt = (
        f"{len(rows)} images, each {which}, with the detections of {baseline} and {model}. On the corrupted ones "
        f"{baseline} finds {noisy.get(baseline, 0)} objects and {model} {noisy.get(model, 0)}."
    )
    heads = [f"{name}, {level}" for level, name in views]
    return FigureResult(draw_panels(rows, heads), caption, alt, data, photographs=True)


def _panels(
    analysis: RunAnalysis,
    truth: GroundTruth,
    detections: Mapping[tuple[str, str, float], pd.DataFrame],
    shown: ImageRef,
) -> list[Panel]:
    """A row of a side-by-side figure: baseline and model on the clean image, if there is one, then on the corrupted."""
    corruption, severity, image_id = shown
    wide, high = (int(truth.images[side].iloc[0]) for side in ("width", "height"))
    row = []
    for name, level in [*([(CLEAN, 0.0)] if analysis.has_clean else []), (corruption, severity)]:
        picture = read_image(analysis.run, name, level, image_id)
        for model in analysis.pair:
            boxes = detections[model, name, level]
            outcomes = robustness.match_outcomes(
                truth, boxes[boxes["image_id"] == image_id], analysis.confidence
            )
            row.append(Panel(picture, (wide, high), outcomes.objects, outcomes.detections))
    return row


def _detections(
    analysis: RunAnalysis, pictures: Sequence[ImageRef]
) -> dict[tuple[str, str, float], pd.DataFrame]:
    """The detections of both models on the shown images, by cell; each cell is read once."""
    images = {image_id for *_, image_id in pictures}
    levels = {(corruption, severity) for corruption, severity, _ in pictures}
    levels |= {(CLEAN, 0.0)} if analysis.has_clean else set()
    cells = {(c.model, c.corruption, c.severity): c for c in analysis.run.cells}
    boxes = {}
    for model, (corruption, severity) in itertools.product(analysis.pair, sorted(levels)):
        cell = cells.get((model, corruption, severity))
        if cell is None or not analysis.run.store.is_complete(cell):
            raise DataError(
                f"{analysis.run.path} has no {model} under {corruption} at severity {severity:g}; run it too"
            )
        frame = analysis.run.store.read_detections(cell)
        boxes[model, corruption, severity] = frame[frame["image_id"].isin(images)]
    return boxes
