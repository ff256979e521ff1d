"""Side-by-side detections in the manner of the SGDM paper's figure 4: a row per image, cropped to what flips.

On the left both models on the clean image, small; then each model on the corrupted one.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from robustbench_sgdm import robustness
from robustbench_sgdm.core.constants import CLEAN
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.palette import INK, OUTCOME_COLORS
from robustbench_sgdm.figures import fonts
from robustbench_sgdm.figures.figure_result import FigureResult
from robustbench_sgdm.figures.label_placement import place_labels
from robustbench_sgdm.figures.registry import figure
from robustbench_sgdm.figures.run_analysis import ImageRef, RunAnalysis
from robustbench_sgdm.figures.style import PAGE, PHOTO_EDGE, plot_style
from robustbench_sgdm.store import GroundTruth, read_image
from robustbench_sgdm.tables import humanize

_LOOKS = {  # outcome -> line style, width in points: distinct without colour, too
    "matched": ("-", 1.3),
    "missed": ((0, (4, 1.6)), 1.5),
    "false": ((0, (1, 1.1)), 1.5),
    "truth": ("-", 0.5),
}
_WORDS = {
    "matched": "found object",
    "missed": "missed object",
    "false": "false detection",
    "truth": "ground truth",
}
_FILL = 0.18  # of boxes around objects that flip, as in the dashboard
_SMALL = 7.0  # points of labels and counts
_LEGEND, _TITLE, _COUNTS, _ROW_GAP, _GAP = 0.26, 0.22, 0.17, 0.1, 0.08  # inches
_HEIGHT = 2.08  # inches of a panel of a corrupted image; two clean ones above each other are about as high
_CLEAN = 1.45  # inches of their width
_MARGIN, _LEAST = 0.3, 0.4  # of a crop: beside the objects, of their size; and its least share of the image
_LONGEST = 1.3  # inches of a class name
_COLUMNS = {"flip": False, "label": ""}  # and their values where they are absent

View = tuple[float, float, float, float]
"""What a panel shows of an image: x1, y1, x2, y2 in px."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One image with the boxes of one model.

    Attributes:
        picture: (h, w, 3) uint8 RGB, at any resolution.
        size: width and height of the image that boxes refer to, px.
        objects: columns x, y, w, h (px) and outcome: matched, missed or ignored; also label, the class, and flip,
            whether only one of the models finds it, where they are known.
        detections: columns x1, y1, x2, y2 (px) and outcome: matched, false or ignored; also label and flip.
        name: of the model.
    """

    picture: NDArray[np.uint8]
    size: tuple[int, int]
    objects: pd.DataFrame
    detections: pd.DataFrame
    name: str = ""

    @property
    def counts(self) -> tuple[int, int, int]:
        """Objects found, objects missed, false detections."""
        found, missed = (int((self.objects["outcome"] == o).sum()) for o in ("matched", "missed"))
        return found, missed, int((self.detections["outcome"] == "false").sum())


@dataclass(frozen=True, eq=False)
class PanelRow:
    """An image in two conditions.

    Attributes:
        title: of the corrupted image.
        corrupted: a panel per model.
        clean_title: of the clean image.
        clean: a panel per model; empty where there is no clean image.
    """

    title: str
    corrupted: Sequence[Panel]
    clean_title: str = ""
    clean: Sequence[Panel] = ()


def draw_panels(rows: Sequence[PanelRow]) -> Figure:
    """Draw rows of panels with their boxes, cropped to the objects that flip, and below each its counts.

    The counts are of the whole image.
    """
    each = _TITLE + _HEIGHT + _COUNTS + _ROW_GAP
    total = _LEGEND + each * len(rows)
    with plot_style():
        figure = Figure(figsize=(PAGE, total))
        for index, row in enumerate(rows):
            top = total - _LEGEND - each * index
            left = _CLEAN + 2 * _GAP if row.clean else 0.0
            titles = [(0.0, row.clean_title, left - _GAP), (left, row.title, PAGE - left)]
            for x, title, room in titles if row.clean else titles[1:]:
                text = fonts.shorten(title, room, 7.5)
                figure.text(x / PAGE, (top - 0.15) / total, text, fontsize=7.5, va="baseline")
            top -= _TITLE
            count = len(row.corrupted)
            wide = (PAGE - left - _GAP * (count - 1)) / count
            view = crop_view(row.corrupted[0], wide / _HEIGHT)
            high = (_HEIGHT - _COUNTS * (len(row.clean) - 1)) / max(len(row.clean), 1)
            places = [(0.0, top - high - (high + _COUNTS) * i, _CLEAN, high) for i in range(len(row.clean))]
            places += [(left + (wide + _GAP) * i, top - _HEIGHT, wide, _HEIGHT) for i in range(count)]
            for panel, (x, y, w, h) in zip([*row.clean, *row.corrupted], places, strict=True):
                axis = figure.add_axes((x / PAGE, y / total, w / PAGE, h / total))
                _draw(axis, panel, view, w, details=panel in row.corrupted)
        figure.legend(
            [*(Line2D([], [], **_look(kind, kind == "truth")) for kind in _LOOKS), _flip_key()],
            [*_WORDS.values(), "filled: only one model finds it"],
            loc="upper center",
            ncols=len(_LOOKS) + 1,
            bbox_to_anchor=(0.5, 1),
            borderaxespad=0.1,
            columnspacing=1.2,
            handlelength=1.6,
        )
    return figure


def crop_view(panel: Panel, aspect: float) -> View:
    """The part of an image around the objects that flip; the whole image if there is none.

    Args:
        panel: with the objects.
        aspect: width by height that the part has, if the image is large enough.
    """
    wide, high = panel.size
    objects = _with_defaults(panel.objects)
    flips = objects[objects["flip"].astype(bool)]
    if flips.empty:
        return 0.0, 0.0, float(wide), float(high)
    x1, y1 = flips["x"].min(), flips["y"].min()
    x2, y2 = (flips["x"] + flips["w"]).max(), (flips["y"] + flips["h"]).max()
    width = max((1 + 2 * _MARGIN) * (x2 - x1), _LEAST * wide)
    height = max((1 + 2 * _MARGIN) * (y2 - y1), _LEAST * high)
    width, height = max(width, height * aspect), max(height, width / aspect)
    width, height = min(width, wide), min(height, high)
    left = min(max((x1 + x2 - width) / 2, 0), wide - width)
    top = min(max((y1 + y2 - height) / 2, 0), high - height)
    return float(left), float(top), float(left + width), float(top + height)


def _with_defaults(frame: pd.DataFrame) -> pd.DataFrame:
    absent: dict[str, Any] = {name: value for name, value in _COLUMNS.items() if name not in frame}
    return frame.assign(**absent)


def _flip_key() -> Patch:
    color = OUTCOME_COLORS["matched"]
    return Patch(facecolor=to_rgba(color, 2 * _FILL), edgecolor=color, linewidth=1.3)


def _look(kind: str, casing: bool = True, scale: float = 1.0) -> dict[str, Any]:
    style, width = _LOOKS[kind]
    under: dict[str, Any] = {"color": OUTCOME_COLORS[kind], "linestyle": style, "linewidth": width * scale}
    if casing:  # a dark edge, so that light lines are visible on light images
        edge = withStroke(linewidth=width * scale + 1.1, foreground=PHOTO_EDGE, alpha=0.75)
        under["path_effects"] = [edge]
    return under


def _boxes(frame: pd.DataFrame, kind: str, scale: float) -> LineCollection:
    x1, y1, x2, y2 = frame[["x1", "y1", "x2", "y2"]].to_numpy(float).T
    outlines = np.stack([np.stack([x1, x2, x2, x1, x1], 1), np.stack([y1, y1, y2, y2, y1], 1)], 2)
    return LineCollection(list(outlines), joinstyle="miter", **_look(kind, scale=scale))


def _draw(axis: Axes, panel: Panel, view: View, inches: float, *, details: bool) -> None:
    """Draw a panel; labels are for large ones only."""
    wide, high = panel.size
    axis.imshow(panel.picture, extent=(0, wide, high, 0), interpolation="antialiased")
    objects, detections = _with_defaults(panel.objects), _with_defaults(panel.detections)
    corners = objects.assign(
        x1=objects["x"], y1=objects["y"], x2=objects["x"] + objects["w"], y2=objects["y"] + objects["h"]
    )
    kinds = {
        "truth": corners.assign(flip=False, label=""),
        "missed": corners[corners["outcome"] == "missed"],
        "false": detections[detections["outcome"] == "false"],
        "matched": detections[detections["outcome"] == "matched"],
    }
    scale = 1.0 if details else 0.7
    for kind, frame in kinds.items():
        filled = frame[frame["flip"].astype(bool)] if details else frame[:0]
        for x1, y1, x2, y2 in filled[["x1", "y1", "x2", "y2"]].to_numpy(float):
            axis.fill([x1, x2, x2, x1], [y1, y1, y2, y2], color=to_rgba(OUTCOME_COLORS[kind], _FILL))
        axis.add_collection(_boxes(frame, kind, scale), autolim=False)
    axis.set(xlim=(view[0], view[2]), ylim=(view[3], view[1]), xticks=[], yticks=[])
    axis.set_aspect("equal", anchor="NW")
    axis.grid(False)
    axis.spines[:].set_visible(False)
    found, missed, false = panel.counts
    counts = f"{found} of {found + missed}" + (f" found, {false} false" if details else "")
    if panel.name:
        room = inches - fonts.width(f": {counts}", _SMALL)
        counts = f"{fonts.shorten(panel.name, room, _SMALL)}: {counts}"
    axis.set_xlabel(counts, fontsize=_SMALL, labelpad=2, loc="left")
    if details:
        _label(axis, kinds, view)


def _label(axis: Axes, kinds: Mapping[str, pd.DataFrame], view: View) -> None:
    """Write the labels where they hide neither each other nor, if possible, an object that flips; these first."""
    figure: Any = axis.figure
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    to_pixels, dots = axis.transData, figure.dpi / 72
    axis.apply_aspect()
    edge = to_pixels.transform([(view[0], view[3]), (view[2], view[1])])
    texts, boxes, flips = [], [], []
    for kind in ("matched", "missed", "false"):
        for row in kinds[kind][kinds[kind]["label"] != ""].to_dict("records"):
            corners = to_pixels.transform([(row["x1"], row["y2"]), (row["x2"], row["y1"])])
            if (corners[1] <= edge[0]).any() or (corners[0] >= edge[1]).any():
                continue  # outside the crop
            ground = {"boxstyle": "round,pad=0.1,rounding_size=0.2", "linewidth": 0}
            text = axis.text(
                0, 0, row["label"], fontsize=_SMALL, color=INK, va="bottom", ha="left",
                bbox={"facecolor": OUTCOME_COLORS[kind], **ground}, zorder=5,
            )  # fmt: skip
            texts.append(text)
            boxes.append(np.concatenate([np.maximum(corners[0], edge[0]), np.minimum(corners[1], edge[1])]))
            flips.append(bool(row["flip"]))
    order = sorted(range(len(texts)), key=lambda i: not flips[i])
    pad = 0.15 * _SMALL * dots
    sizes = [text.get_window_extent(renderer) for text in texts]
    places = place_labels(
        np.array([boxes[i] for i in order]).reshape(-1, 4),
        np.array([(sizes[i].width + 2 * pad, sizes[i].height + 2 * pad) for i in order]).reshape(-1, 2),
        edge.ravel(),
        sum(flips),
    )
    back = to_pixels.inverted()
    for i, place in zip(order, places, strict=True):
        if place is None:
            texts[i].remove()
        else:
            x, y = back.transform((place[0] + pad, place[1] + pad))
            texts[i].set_position((float(x), float(y)))


@figure("side-by-side", "detections of both models on clean and corrupted images", section="detections")
def side_by_side(analysis: RunAnalysis) -> FigureResult:
    """The images with most flips, or the chosen ones."""
    return draw_side_by_side(analysis, [ref for refs in analysis.selected_images.values() for ref in refs])


def draw_side_by_side(analysis: RunAnalysis, pictures: list[ImageRef]) -> FigureResult:
    """The side-by-side figure of some images."""
    rows, table, sentences = [], [], []
    truth, detections = analysis.run.ground_truth(), _detections(analysis, pictures)
    for corruption, severity, image_id in pictures:
        row = _row(analysis, truth, detections, (corruption, severity, image_id))
        rows.append(row)
        sentences.append(f"image {image_id}, {row.title}")
        for level, panels in (("clean", row.clean), ("corrupted", row.corrupted)):
            for model, panel in zip(analysis.pair, panels, strict=False):
                table.append((image_id, corruption, severity, level, model, *panel.counts))
    columns = ["image_id", "corruption", "severity", "shown", "model", "found", "missed", "false"]
    data = pd.DataFrame(table, columns=columns)
    caption = (
        f"Detections at confidence {analysis.confidence:g} or more, matched at IoU 0.5: found objects with a "
        "solid blue box, missed ones dashed amber, false detections dotted pink, the ground truth thin white with a "
        "dark edge; filled where only one of the two models finds the object. Cropped to these objects; counts are of "
        "the whole image."
    )
    which = "clean and corrupted" if analysis.has_clean else "corrupted"
    baseline, model = analysis.pair
    alt = f"{len(rows)} images, each {which}, with the detections of {baseline} and {model}: {'; '.join(sentences)}."
    return FigureResult(draw_panels(rows), caption, alt, data, photographs=True)


def _row(
    analysis: RunAnalysis,
    truth: GroundTruth,
    detections: Mapping[tuple[str, str, float], pd.DataFrame],
    shown: ImageRef,
) -> PanelRow:
    """An image with baseline and model, clean, if there is a clean one, and corrupted."""
    corruption, severity, image_id = shown
    own = truth.of_image(image_id)
    size = int(own.images["width"].iloc[0]), int(own.images["height"].iloc[0])
    classes = {
        int(i): fonts.shorten(str(name), _LONGEST, _SMALL)
        for i, name in truth.categories[["category_id", "name"]].itertuples(index=False)
    }
    levels = {"clean": (CLEAN, 0.0)} if analysis.has_clean else {}
    panels: dict[str, list[Panel]] = {}
    for level, (name, strength) in {**levels, "corrupted": (corruption, severity)}.items():
        picture = read_image(analysis.run, name, strength, image_id)
        for model in analysis.pair:
            boxes = detections[model, name, strength]
            boxes = boxes[boxes["image_id"] == image_id]
            outcomes = robustness.match_outcomes(own, boxes, analysis.confidence)
            found = outcomes.detections
            labels = [
                f"{classes.get(c, c)} {s:.2f}"
                for c, s in zip(found["category_id"], found["score"], strict=True)
            ]
            panels.setdefault(level, []).append(
                Panel(
                    picture,
                    size,
                    outcomes.objects.assign(label=outcomes.objects["category_id"].map(classes)),
                    found.assign(label=labels),
                    model,
                )
            )
    matched = {
        level: [(p.objects["outcome"] == "matched").to_numpy() for p in few] for level, few in panels.items()
    }
    can_flip = np.logical_and.reduce(matched.get("clean", [np.ones(len(own.annotations), bool)]))
    flips = can_flip & (matched["corrupted"][0] != matched["corrupted"][1])
    where = f"{humanize(corruption)}, severity {severity:g}"
    return PanelRow(
        f"{where}: {_direction(analysis.pair, *(int((flips & f).sum()) for f in matched['corrupted']))}",
        [_mark(panel, flips) for panel in panels["corrupted"]],
        f"image {image_id}, clean",
        [_mark(panel, flips) for panel in panels.get("clean", [])],
    )


def _direction(pair: tuple[str, str], kept: int, gained: int) -> str:
    """Who finds what the other one loses.

    >>> _direction(("a", "b"), 1, 3), _direction(("a", "b"), 1, 0), _direction(("a", "b"), 0, 0)
    ('b finds 3 objects that a loses, a 1 that b loses', 'a finds 1 object that b loses', 'both find the same objects')
    """
    baseline, model = pair
    counts = [(kept, baseline, model), (gained, model, baseline)]
    parts = [part for part in sorted(counts, key=lambda part: -part[0]) if part[0]]
    if not parts:
        return "both find the same objects"
    (most, finder, loser), *rest = parts
    first = f"{finder} finds {most} object{'s' * (most > 1)} that {loser} loses"
    return ", ".join([first, *(f"{finder} {count} that {loser} loses" for count, finder, loser in rest)])


def _mark(panel: Panel, flips: NDArray[np.bool_]) -> Panel:
    """The panel with its objects that flip marked, and the boxes that find them."""
    finds = panel.detections["object"].to_numpy()
    return replace(
        panel,
        objects=panel.objects.assign(flip=flips),
        detections=panel.detections.assign(flip=np.append(flips, False)[finds]),
    )


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
