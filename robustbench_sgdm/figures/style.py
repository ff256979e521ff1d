"""One look for every figure: the style file in `reports/`, and one colour per model everywhere."""

import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

from robustbench_sgdm import atomic, content
from robustbench_sgdm.errors import UsageError

Color = tuple[float, float, float]

_MODULES = ("", "sgdm", "cbam", "ca", "rfaconv")  # first in the palette, in the order of the paper's interest
_METADATA = {  # what would say when and by which version
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw with the suite's style; matplotlib's global state is as before afterwards."""
    with mpl.rc_context(fname=content.root() / "reports" / "plots.mplstyle"):
        yield


def colors(models: Sequence[str]) -> dict[str, Color]:
    """A colour-blind-safe colour for each model, the same one in every figure that shows the same models.

    A module has its colour, and so has what carries none; two models that want one colour get the next free.

    >>> colors(["yolov8n", "yolov8n-sgdm"]) == {**colors(["yolov8n"]), **colors(["yolov8n-sgdm"])}
    True
    """
    palette = sns.color_palette("colorblind", max(len(models), 10))
    free, chosen = list(range(len(palette))), {}
    for model in models:
        module = re.sub(r"\[.*", "", model).partition("-")[2].rpartition("-")[2]
        wanted = _MODULES.index(module) if module in _MODULES else zlib.crc32(model.encode()) % len(palette)
        place = wanted if wanted in free else free[0]
        free.remove(place)
        chosen[model] = palette[place]
    return chosen


def save(figure: Figure, path: Path) -> None:
    """Write a figure to a .svg, .pdf or .png file, the same bytes for the same figure.

    Raises:
        UsageError: another ending.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in _METADATA:
        raise UsageError(f"{path}: a figure's file must end in {', '.join(f'.{k}' for k in _METADATA)}")
    with mpl.rc_context({"svg.hashsalt": "robustbench", "svg.fonttype": "path", "pdf.fonttype": 42}):
        atomic.write(path, lambda p: figure.savefig(p, format=kind, metadata=_METADATA[kind]))


def svg(figure: Figure) -> str:
    """The figure as SVG text to put inside HTML, the same bytes for the same figure."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "robustbench", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata=_METADATA["svg"])
    text = buffer.getvalue()
    return text[text.index("<svg") :]
