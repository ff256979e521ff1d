"""The style of every figure: the style file in `reports/`, and one colour per model everywhere."""

import base64
import io
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image as Pillow

from robustbench_sgdm.core import atomic_io, palette, resources
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.figures import fonts

Color = tuple[float, float, float]

COLUMN, PAGE = 3.4, 7.0
"""Widths in inches: a column of a paper, a whole page."""

MARKERS = "osD^vP*Xh<"

FEW = 3
"""Models up to which bands, bars and points of all of them can stand beside each other."""

_KEY = 0.5  # inches of a legend's key, beside the name
_HEADS, _MAX_PANELS = 0.75, 9.3  # inches of legend and label, and of all panels on a page
_COLUMN_GAP, _LEAST_COLUMN = 0.1, 1.7  # inches between its columns, and of one where there are many
_NAME, _LINE, _AROUND = 1.4, 0.13, 0.7  # inches of a name beside a line, of its height, and around a panel
_METADATA = {  # removed: it names dates and versions, which would change the bytes
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
}


PHOTO_DPI = 150
"""Dots per inch of photographs in SVG and JPEG files."""

PHOTO_EDGE = "#000001"
"""Black over photographs: unlike other lines it stays black in dark mode."""

_PLAIN_IN_URI = "!$*+,-./:;=?@_~"  # beside letters and digits
_PNG = re.compile(r"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)")


@contextmanager
def plot_style() -> Iterator[None]:
    """Draw in this package's style; matplotlib's global state is restored afterwards."""
    with mpl.rc_context(fname=resources.root() / "reports" / "plots.mplstyle"):
        mpl.rcParams["font.family"] = fonts.families()
        yield


def colors_of(models: Sequence[str]) -> dict[str, Color]:
    """A colour for each model, as `palette.model_colors` has it."""
    return {model: to_rgb(color) for model, color in palette.model_colors(models).items()}


def model_looks(models: Sequence[str]) -> dict[str, dict[str, Any]]:
    """How each model's line is drawn: its colour, and a marker for those who do not tell the colours apart."""
    colors = colors_of(models)
    return {m: {"color": colors[m], "marker": MARKERS[i % len(MARKERS)]} for i, m in enumerate(models)}


def with_bands(models: Sequence[str]) -> Sequence[str]:
    """The models whose intervals are drawn as bands: of many only the first, for bands on bands hide the lines."""
    return models if len(models) <= FEW else models[:1]


def describe_bands(models: Sequence[str]) -> str:
    """`with_bands`, for a caption."""
    return "Bands" if len(models) <= FEW else f"Band, drawn of {models[0]} alone"


def balance(count: int, most: int) -> tuple[int, int]:
    """Rows and columns for so many panels: few rows of at most so many panels, about equally long.

    >>> balance(6, 5), balance(10, 5), balance(2, 5)
    ((2, 3), (2, 5), (1, 2))
    """
    down = -(-count // most)
    return down, -(-count // down)


def make_panels(
    titles: Sequence[str], x: str, y: str, *, columns: int = 0, shared: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each title, in rows; labels stand at the outer axes.

    Args:
        titles: of the panels.
        x: label of the horizontal axes.
        y: label of the vertical axes.
        columns: panels in a row; 0: three or four, whichever fills the rows better.
        shared: whether all panels have the same axes.
    """
    count = len(titles)
    across = min(columns or (3 if count <= 9 and count % 4 != 0 and count != 7 else 4), count)
    down = -(-count // across)
    size = (COLUMN * 1.25, 2.9) if across == 1 else (PAGE, _HEADS + min(6.5 / across * down, _MAX_PANELS))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(down, across, squeeze=False, sharex=shared, sharey=shared).ravel()
    for index, axis in enumerate(axes):
        if index >= count:
            axis.set_axis_off()
            continue
        axis.set_title(fonts.shorten(titles[index], size[0] / across - 0.3, 8.5))
        axis.set(xlabel="" if shared else x, ylabel="" if index % across else y)
        if shared:
            axis.tick_params(labelbottom=index + across >= count)  # nothing is below it
    if shared:
        figure.supxlabel(x, fontsize=mpl.rcParams["axes.labelsize"], color=mpl.rcParams["axes.labelcolor"])
    return figure, list(axes[:count])


def name_lines(figure: Figure, axes: Sequence[Axes], lines: Mapping[str, Any]) -> None:
    """Name the lines: at their ends where there is one panel, else in a legend above.

    Args:
        figure: of the panels.
        axes: all of them.
        lines: matplotlib's of each name, as they are in one of the panels.
    """
    if len(axes) > 1:
        legend_above(figure, lines)
        return
    (axis,) = axes
    low, high = axis.get_ylim()
    step = (high - low) * _LINE / (float(figure.get_size_inches()[1]) - _AROUND)
    names = fonts.fit_names(lines, _NAME)
    points = {name: np.column_stack([line.get_xdata(), line.get_ydata()]) for name, line in lines.items()}
    last = {name: xy[np.isfinite(xy).all(axis=1)][-1:] for name, xy in points.items()}
    ends = sorted((float(xy[0, 1]), float(xy[0, 0]), name) for name, xy in last.items() if len(xy))
    ys, places = np.array([y for y, *_ in ends]), np.full(len(ends), -np.inf)
    for i, y in enumerate(ys):
        places[i] = max(y, places[i - 1] + step) if i else y
    places -= (places - ys).mean() if len(ends) else 0.0  # as far below the ends as above them
    right = axis.get_xlim()[1] + 0.01 * np.ptp(axis.get_xlim())
    for (y, x, name), place in zip(ends, places, strict=True):
        axis.annotate(
            names[name],
            (x, y),
            (right, float(place)),
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "linewidth": 1,
                "color": lines[name].get_color(),
                "shrinkA": 1,
                "shrinkB": 3,
            },
        )


def check_suffix(path: Path) -> str:
    """The file type of a figure's path: svg, pdf or png.

    Raises:
        UsageError: another ending.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in _METADATA:
        raise UsageError(f"{path}: a figure's file must end in {', '.join(f'.{k}' for k in _METADATA)}")
    return kind


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure to a .svg, .pdf or .png file; the same figure gives the same bytes.

    Raises:
        UsageError: another ending.
    """
    kind = check_suffix(path)
    fonts.keep_needed_families(figure)
    with mpl.rc_context({"svg.hashsalt": "robustbench", "svg.fonttype": "path", "pdf.fonttype": 42}):
        atomic_io.write(path, lambda file: figure.savefig(file, format=kind, metadata=_METADATA[kind]))


def encode_svg(figure: Figure, *, photographs: bool = False) -> str:
    """The figure as SVG text; the same figure gives the same text.

    Args:
        figure: drawn.
        photographs: store its images as JPEG; as PNG they would be several times as large.
    """
    buffer = io.StringIO()
    fonts.keep_needed_families(figure)
    with mpl.rc_context({"svg.hashsalt": "robustbench", "svg.fonttype": "path"}):
        dpi = PHOTO_DPI if photographs else "figure"
        figure.savefig(buffer, format="svg", dpi=dpi, metadata=_METADATA["svg"])
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    return _PNG.sub(_png_to_jpeg, text) if photographs else text


def _png_to_jpeg(match: re.Match[str]) -> str:
    """An image of an SVG file, smaller; one that can be seen through stays as it is."""
    picture = Pillow.open(io.BytesIO(base64.b64decode(match[1])))
    if np.asarray(picture.convert("RGBA"))[..., 3].min() < 255:
        return match[0]
    return data_uri(_to_jpeg(picture))


def encode_jpeg(figure: Figure) -> bytes:
    """A figure of photographs as JPEG, for PDF: there the images of an SVG would be stored uncompressed."""
    fonts.keep_needed_families(figure)
    canvas: Any = FigureCanvasAgg(figure)
    figure.set_dpi(PHOTO_DPI)
    canvas.draw()
    return _to_jpeg(Pillow.fromarray(np.asarray(canvas.buffer_rgba())))


def _to_jpeg(picture: Pillow.Image) -> bytes:
    buffer = io.BytesIO()
    # Not optimize=True: Pillow then fails on images of much noise, which need more than a byte per pixel.
    picture.convert("RGB").save(buffer, "JPEG", quality=88, subsampling=0)
    return buffer.getvalue()


def data_uri(content: bytes | str) -> str:
    """SVG text or JPEG bytes as a data URI, for `src`.

    SVG that holds photographs is percent-encoded: in base64 it would be a third larger. Lines alone are not, since
    every space of their coordinates takes three characters.
    """
    if isinstance(content, bytes):
        return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
    encoded = base64.b64encode(content.encode()).decode()
    quoted = urllib.parse.quote(content, safe=_PLAIN_IN_URI)
    return min(f"data:image/svg+xml;base64,{encoded}", f"data:image/svg+xml,{quoted}", key=len)


def legend_above(figure: Figure, handles: Mapping[str, Any]) -> int:
    """One legend for all panels, above them, in as many columns as fit; gives the number of its lines.

    Args:
        figure: of the panels.
        handles: the artist of each name.
    """
    wide = float(figure.get_size_inches()[0])
    # One long name must not put many models below each other.
    room = (wide if len(handles) <= FEW else max(wide / FEW, _LEAST_COLUMN)) - _KEY - _COLUMN_GAP
    names = list(fonts.fit_names(handles, room).values())
    widest = max(map(fonts.width, names), default=0.0) + _KEY
    columns = min(len(names), 5, max(1, int(wide / widest)))
    figure.legend(list(handles.values()), names, loc="outside upper center", ncols=columns)
    return -(-len(names) // max(columns, 1))
