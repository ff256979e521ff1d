"""Objects that only one of two models still finds under corruption, two images in either direction."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.figures import fonts
from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.run_analysis import RunAnalysis
from robustbench_sgdm.figures.style import PAGE, PHOTO_EDGE, colors_of, plot_style
from robustbench_sgdm.store import read_image
from robustbench_sgdm.tables import humanize

_GAP = 0.1  # inches between panels
_HEAD = 0.42  # inches of the titles
_RATIO = 0.8  # height of a panel over its width
_MARGIN = 0.35  # of the flipped objects' extent, around them
_LEAST = 0.4  # of an image's shorter side that a panel shows
_SIZE = 7  # points


@dataclass(frozen=True, eq=False)
class FlippedPanel:
    """A corrupted image with the objects that only one of two models finds.

    Attributes:
        picture: (h, w, 3) uint8 RGB, at any resolution.
        size: width and height of the image that boxes refer to, px.
        objects: columns x, y, w, h (px) and finder, the model that finds it.
        title: two lines.
    """

    picture: NDArray[np.uint8]
    size: tuple[int, int]
    objects: pd.DataFrame
    title: str


def draw_flipped_objects(panels: Sequence[FlippedPanel], models: Sequence[str]) -> Figure:
    """Draw the parts of the images around the flipped objects, a box in the colour of the model that finds it.

    Args:
        panels: side by side.
        models: whose colours they are, all of the run's.
    """
    width = (PAGE - _GAP * (len(panels) - 1)) / max(len(panels), 3)
    high = width * _RATIO + _HEAD
    wide = len(panels) * (width + _GAP) - _GAP
    color = colors_of(models)
    with plot_style():
        figure = Figure(figsize=(wide, high))
        for index, panel in enumerate(panels):
            place = (index * (width + _GAP) / wide, 0, width / wide, width * _RATIO / high)
            axis = figure.add_axes(place)
            axis.imshow(
                panel.picture, extent=(0, panel.size[0], panel.size[1], 0), interpolation="antialiased"
            )
            left, top, right, bottom = _crop(panel)
            axis.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
            axis.grid(False)
            axis.spines[:].set_visible(False)
            for box in panel.objects.to_dict("records"):
                shape = Rectangle(
                    (box["x"], box["y"]),
                    box["w"],
                    box["h"],
                    fill=False,
                    edgecolor=color[box["finder"]],
                    linewidth=1.6,
                    path_effects=[withStroke(linewidth=2.8, foreground=PHOTO_EDGE, alpha=0.75)],
                )
                axis.add_patch(shape)
            lines = [fonts.shorten(line, width, _SIZE) for line in panel.title.split("\n")]
            axis.set_title("\n".join(lines), fontsize=_SIZE, pad=3, loc="left", linespacing=1.3)
    return figure


def _crop(panel: FlippedPanel) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the part to show: the objects with a margin, of the panel's shape."""
    x, y, w, h = panel.objects[["x", "y", "w", "h"]].to_numpy(float).T
    middle = ((x.min() + (x + w).max()) / 2, (y.min() + (y + h).max()) / 2)
    extent = ((x + w).max() - x.min(), (y + h).max() - y.min())
    across = max(extent[0], extent[1] / _RATIO) * (1 + 2 * _MARGIN)
    across = max(across, _LEAST * min(panel.size))
    across = min(across, panel.size[0], panel.size[1] / _RATIO)
    sides = (across, across * _RATIO)
    left, top = (
        min(max(m - side / 2, 0), whole - side)
        for m, side, whole in zip(middle, sides, panel.size, strict=True)
    )
    return left, top, left + sides[0], top + sides[1]


@figure("flipped-objects", "objects that only one of two models finds", section="summary", place=3)
def flipped_objects(analysis: RunAnalysis) -> FigureResult:
    """The flips of a run's summary."""
    flips = analysis.summary.flips
    if not flips:
        raise DataError(f"{analysis.run.path} has no object that only one of two models finds under noise")
    truth = analysis.run.ground_truth()
    group_of = {name: group for group, members in analysis.run.groups.items() for name in members}
    panels, rows = [], []
    for one in flips:
        finders = [group_of[one.keeper]] * len(one.kept) + [group_of[one.other]] * len(one.lost)
        boxes = truth.annotations.iloc[[*one.kept, *one.lost]].assign(finder=finders)
        image = truth.images[truth.images["image_id"] == one.image_id].iloc[0]
        picture = read_image(analysis.run, one.corruption, one.severity, one.image_id)
        counts = f"{one.keeper} {len(one.kept)}" + f", {one.other} {len(one.lost)}" * bool(one.lost)
        title = f"{counts}\n{humanize(one.corruption)} {one.severity:g}, image {one.image_id}"
        panels.append(FlippedPanel(picture, (int(image["width"]), int(image["height"])), boxes, title))
        rows.append(one._asdict() | {"kept": len(one.kept), "lost": len(one.lost)})
    count = ", ".join(f"{one.keeper} {len(one.kept)} in image {one.image_id}" for one in flips)
    first = "both models find on the clean image and " if analysis.has_clean else ""
    caption = (
        f"Objects that {first}only one finds on the corrupted image, in the colour of the model that finds them. Above "
        "each image: that model and how many objects. The images with most of them in either direction are shown, "
        "from the cells where the scores differ most. They are examples and no further evidence."
    )
    alt = f"{len(flips)} parts of corrupted images, with boxes around the objects that only one model finds: {count}."
    drawn = draw_flipped_objects(panels, list(analysis.run.groups))
    return FigureResult(drawn, caption, alt, pd.DataFrame(rows), photographs=True)
