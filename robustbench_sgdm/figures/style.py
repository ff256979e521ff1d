"""The style of every figure: the style file in `reports/`, and one colour per model everywhere."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
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

MARKERS = "osD^vP*X"

_KEY = 0.5  # inches of a legend's key, beside the name
_METADATA = {  # removed: it names dates and versions, which would change the bytes
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
}


@contextmanager
def plot_style() -> Iterator[None]:
    """Draw in this package's style; matplotlib's global state is restored afterwards."""
    with mpl.rc_context(fname=resources.root() / "reports" / "plots.mplstyle"):
        mpl.rcParams["font.family"] = fonts.families()
        yield


def colors_of(models: Sequence[str]) -> dict[str, Color]:
    """A colour for each model, as `palette.model_colors` has it."""
    return {model: to_rgb(color) for model, color in palette.model_colors(models).items()}


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
    with mpl.rc_context({"svg.hashsalt": "robustbench", "svg.fonttype": "path", "pdf.fonttype": 42}):
        atomic_io.write(path, lambda file: figure.savefig(file, format=kind, metadata=_METADATA[kind]))


def encode_svg(figure: Figure) -> str:
    """The figure as SVG text; the same figure gives the same text."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "robustbench", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata=_METADATA["svg"])
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def encode_jpeg(figure: Figure, dpi: int = 150, quality: int = 88) -> bytes:
    """A figure of photographs as JPEG; SVG would store them uncompressed."""
    canvas: Any = FigureCanvasAgg(figure)
    figure.set_dpi(dpi)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    picture = Pillow.fromarray(pixels).convert("RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=0, optimize=True)
    return buffer.getvalue()


def data_uri(content: bytes | str) -> str:
    """SVG text or JPEG bytes as a data URI, for `src`."""
    kind = "image/svg+xml" if isinstance(content, str) else "image/jpeg"
    data = content.encode() if isinstance(content, str) else content
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def legend_above(figure: Figure, handles: Mapping[str, Any]) -> int:
    """One legend for all panels, above them, in as many columns as fit; gives the number of its lines.

    Args:
        figure: of the panels.
        handles: the artist of each name.
    """
    room = float(figure.get_size_inches()[0]) - _KEY
    names = list(fonts.fit_names(handles, room).values())
    widest = max(map(fonts.width, names), default=0.0) + _KEY
    columns = min(len(names), 4, max(1, int((room + _KEY) / widest)))
    figure.legend(list(handles.values()), names, loc="outside upper center", ncols=columns)
    return -(-len(names) // max(columns, 1))
