"""The colours of figures, report and dashboard: one for each model, outcome and difference.

Plain text, so that reading them loads no plotting library. Colour-blind readers can tell all of them apart.
"""

import re
import zlib
from collections.abc import Sequence

MODEL_COLORS = (
    *("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc"),
    *("#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9"),
)
"""seaborn's `colorblind`, in its order."""

OUTCOME_COLORS = {
    "matched": "#56b4e9",
    "missed": "#ffb000",
    "false": "#ff4fa3",
    "truth": "#ffffff",
    "both": "#56b4e9",  # found by both of two models, where there is no ground truth
    "only": "#ece133",
}
"""Of boxes on pictures, which are neither light nor dark: the lines have a dark edge."""

INK = "#1b1f24"
"""Text on light ground."""

_WORSE, _BETTER = "#b2500f", "#14618c"
_MIDDLE = {False: "#f4f5f7", True: "#232a3a"}
_LIFT = 0.25  # towards white, for contrast on dark ground
_MODULES = ("", "sgdm", "cbam", "ca", "rfaconv")  # first in the palette, in the order of the paper's interest


def model_colors(names: Sequence[str], *, dark: bool = False) -> dict[str, str]:
    """A colour for each model, the same one wherever the same models are shown.

    A module has its colour, and so has what carries none; two models that want one colour get the next free.

    >>> model_colors(["yolov8n", "yolov8n-sgdm"]) == {**model_colors(["yolov8n"]), **model_colors(["yolov8n-sgdm"])}
    True
    """
    palette = [MODEL_COLORS[i % len(MODEL_COLORS)] for i in range(max(len(names), len(MODEL_COLORS)))]
    free, chosen = list(range(len(palette))), {}
    for name in names:
        module = re.sub(r"\[.*| \(.*", "", name).partition("-")[2].rpartition("-")[2]
        preferred = _MODULES.index(module) if module in _MODULES else zlib.crc32(name.encode()) % len(palette)
        index = preferred if preferred in free else free[0]
        free.remove(index)
        chosen[name] = lift(palette[index]) if dark else palette[index]
    return chosen


def lift(color: str) -> str:
    """A colour as it is on dark ground."""
    return mix_colors(color, "#ffffff", _LIFT)


def difference_colors(*, dark: bool = False) -> list[str]:
    """Evenly spaced colours from the worst difference over none to the best: orange, neutral, blue."""
    low, high = (lift(end) if dark else end for end in (_WORSE, _BETTER))
    middle = _MIDDLE[dark]
    return [low, mix_colors(low, middle, 0.55), middle, mix_colors(high, middle, 0.55), high]


def interpolate_colors(colors: Sequence[str], place: float) -> str:
    """The colour at a place from 0 to 1 of evenly spaced ones, as gradients draw it.

    >>> interpolate_colors(["#000000", "#ffffff", "#ff0000"], 0.25), interpolate_colors(["#000000", "#ffffff"], 1)
    ('#808080', '#ffffff')
    """
    at = min(max(place, 0.0), 1.0) * (len(colors) - 1)
    first = min(int(at), len(colors) - 2)
    return mix_colors(colors[first], colors[first + 1], at - first)


def mix_colors(color: str, other: str, share: float) -> str:
    """A colour with a share of another.

    >>> mix_colors("#000000", "#ffffff", 0.2)
    '#333333'
    """
    pairs = zip(_parts(color), _parts(other), strict=True)
    return "#" + "".join(f"{round(255 * (a + (b - a) * share)):02x}" for a, b in pairs)


def readable_text_color(ground: str) -> str:
    """`INK` or white, whichever contrasts more with a colour.

    >>> readable_text_color("#ffffff"), readable_text_color("#14618c")
    ('#1b1f24', '#ffffff')
    """
    return max((INK, "#ffffff"), key=lambda text: contrast_ratio(text, ground))


def contrast_ratio(color: str, other: str) -> float:
    """Of two colours, 1 to 21, as WCAG 2.2 has it.

    >>> round(contrast_ratio("#ffffff", "#000000"), 1)
    21.0
    """
    dark, light = sorted(_luminance(c) for c in (color, other))
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _parts(color)]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _parts(color: str) -> list[float]:
    return [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
