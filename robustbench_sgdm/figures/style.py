"""One look for every figure: the style file in `reports/`, and one colour per model everywhere."""

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

_KEY = 0.5  # inches that a legend takes beside a name
_METADATA = {  # what would say when and by which version
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw with the suite's style; matplotlib's global state is as before afterwards."""
    with mpl.rc_context(fname=resources.root() / "reports" / "plots.mplstyle"):
        mpl.rcParams["font.family"] = fonts.families()
        yield


def colors(models: Sequence[str]) -> dict[str, Color]:
    """A colour for each model, as `palette.models` has it."""
    return {model: to_rgb(color) for model, color in palette.model_colors(models).items()}


def check_ending(path: Path) -> str:
    """The kind of file that a figure's path asks for: svg, pdf or png.

    Raises:
        UsageError: another ending.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in _METADATA:
        raise UsageError(f"{path}: a figure's file must end in {', '.join(f'.{k}' for k in _METADATA)}")
    return kind


def save(figure: Figure, path: Path) -> None:
    """Write a figure to a .svg, .pdf or .png file, the same bytes for the same figure.

    Raises:
        UsageError: another ending.
    """
    kind = check_ending(path)
    with mpl.rc_context({"svg.hashsalt": "robustbench", "svg.fonttype": "path", "pdf.fonttype": 42}):
        atomic_io.write(path, lambda file: figure.savefig(file, format=kind, metadata=_METADATA[kind]))


def svg(figure: Figure) -> str:
    """The figure as SVG text, the same bytes for the same figure."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "robustbench", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata=_METADATA["svg"])
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def jpeg(figure: Figure, dpi: int = 150, quality: int = 88) -> bytes:
    """A figure of photographs as JPEG; as SVG it would hold them uncompressed."""
    canvas: Any = FigureCanvasAgg(figure)
    figure.set_dpi(dpi)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    picture = Pillow.fromarray(pixels).convert("RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=0, optimize=True)
    return buffer.getvalue()


def uri(content: bytes | str) -> str:
    """SVG text or JPEG bytes as an address that holds them, for `src`."""
    kind = "image/svg+xml" if isinstance(content, str) else "image/jpeg"
    data = content.encode() if isinstance(content, str) else content
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def legend_above(figure: Figure, handles: Mapping[str, Any]) -> None:
    """One legend for all panels, above them, in as many columns as fit.

    Args:
        figure: of the panels.
        handles: what stands for each name.
    """
    room = float(figure.get_size_inches()[0]) - _KEY
    names = list(fonts.fit(handles, room).values())
    widest = max(map(fonts.width, names), default=0.0) + _KEY
    columns = min(len(names), 4, max(1, int((room + _KEY) / widest)))
    figure.legend(list(handles.values()), names, loc="outside upper center", ncols=columns)
