"""Text in any script: matplotlib's own font, then those of `reports/fonts/`, and escapes for invisible characters.

The fonts come with the package, so a figure has the same bytes on every machine.
"""

import base64
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager, get_font
from matplotlib.text import Text

from robustbench_sgdm.core import resources
from robustbench_sgdm.core.untrusted_input import escape_control_chars

DEJAVU = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
"""matplotlib's own font, which is on every machine."""

FOLDER = resources.root() / "reports" / "fonts"
"""Of the fonts that come with the package."""

_MEAN_WIDTH = 0.63  # em of a character of DejaVu Sans, on average
_JOINERS = "\u200c\u200d"  # format characters within words of many scripts, and within emoji
_MARKS = "\u25cc\ufe0f"  # the circle under a lone mark, and the selector that makes a character an emoji
_KEYCAP = "\u20e3"  # frames the digit before it, which is in another font
_MAX_WHOLE = 600  # characters up to which a font is embedded whole: shapers use more glyphs than a text has


class Face(NamedTuple):
    """A font embedded in a page.

    Attributes:
        family: its name.
        uri: the address that holds its glyphs.
        characters: that it is there for, as CSS writes a `unicode-range`.
    """

    family: str
    uri: str
    characters: str


def families() -> list[str]:
    """The families that matplotlib tries in turn for each character."""
    return list(_fonts())


def keep_needed_families(figure: Figure) -> None:
    """Let each text of a figure in this package's style try only the families that the figure needs.

    The glyphs stay the same. matplotlib looks every family up again for every text: half of the time of a figure.
    """
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_majorticklabels()  # else they have no texts before the figure is drawn
    own = families()
    texts = [one for one in figure.findobj(Text) if isinstance(one, Text) and one.get_fontfamily() == own]
    wanted = {ord(c) for text in texts for c in text.get_text()}
    needed: list[str] = []
    for family, (_, characters) in _fonts().items():
        if not needed or wanted & characters:
            needed.append(family)
            wanted -= characters
    for text in texts:
        text.set_fontfamily(needed)


def make_legible(text: str, keep: str = "") -> str:
    """As `untrusted_input.escape_control_chars`, and composed, with characters that no font has written out too.

    >>> make_legible("cat" + chr(0x13000))
    'cat\\\\U00013000'
    """
    known = drawable_characters()

    def written(match: re.Match[str]) -> str:
        return match[0] if ord(match[0]) in known or match[0] in keep else ascii(match[0])[1:-1]

    return re.sub(r"[^ -~]", written, escape_control_chars(unicodedata.normalize("NFC", text), keep))


def shorten(text: str, inches: float, points: float = 8) -> str:
    """Legible text, without its middle if it is wider than `inches` at a size of `points`.

    >>> shorten("a-very-long-name", 1)
    'a-very…g-name'
    """
    return _cut(make_legible(text), inches * 72 / points)


def fit_names(names: Iterable[str], inches: float, points: float = 8) -> dict[str, str]:
    """The label of each name in a figure: as `shorten`, and still distinct.

    >>> list(fit_names(["cat", "a-very-long-name-1", "a-very-long-name-2", "a-very-good-name-2"], 1).values())
    ['cat', 'a-very…name-1', 'a-ve…me-2 (1)', 'a-ve…me-2 (2)']
    """
    cut = {name: shorten(name if name.strip() else repr(name), inches, points) for name in names}
    looks = {name: " ".join(text.split()) for name, text in cut.items()}  # spaces look alike
    shared, seen = Counter(looks.values()), Counter[str]()
    for name, look in looks.items():
        if shared[look] > 1:
            seen[look] += 1
            number = f" ({seen[look]})"
            cut[name] = shorten(name, inches - width(number, points), points) + number
    return cut


def width(text: str, points: float = 8) -> float:
    """The approximate width of a text in inches."""
    return _ems(text) * points / 72


def faces(text: str) -> list[Face]:
    """The fonts that a page must embed to show a text, on machines that can show the characters of DejaVu Sans."""
    from fontTools import subset, ttLib

    (_, known), *others = _fonts().values()
    wanted, embedded = {ord(c) for c in escape_control_chars(text)} - known, []
    for family, (path, own) in zip(families()[1:], others, strict=True):
        if wanted & own:
            options: Any = subset.Options(hinting=False)
            subsetter = subset.Subsetter(options)
            used = own if len(own) <= _MAX_WHOLE else own & {ord(c) for c in text}
            subsetter.populate(unicodes=used)
            with ttLib.TTFont(path, lazy=True) as font:
                subsetter.subset(font)
                font.flavor, buffer = "woff", io.BytesIO()
                font.save(buffer)
            uri = f"data:font/woff;base64,{base64.b64encode(buffer.getvalue()).decode()}"
            theirs = (used - known - {ord(_KEYCAP)}) | used & set(map(ord, _JOINERS + _MARKS))
            embedded.append(Face(family, uri, ", ".join(f"U+{c:X}" for c in sorted(theirs))))
            wanted -= own
    return embedded


@cache
def _fonts() -> dict[str, tuple[Path, frozenset[int]]]:
    """Each family's file and characters, in the order in which they are tried; also registers them with matplotlib."""
    bundled = sorted(FOLDER.glob("*.ttf"))
    for path in bundled:
        fontManager.addfont(path)
    # They have one weight only; without bold entries matplotlib warns about each of them in a bold title.
    regular = [entry for entry in fontManager.ttflist if Path(entry.fname) in bundled]
    fontManager.ttflist += [replace(entry, weight=700) for entry in regular]
    opened = {path: get_font(path) for path in (DEJAVU, *bundled)}
    return {font.family_name: (path, frozenset(font.get_charmap())) for path, font in opened.items()}


@cache
def drawable_characters() -> frozenset[int]:
    """The code points that a figure's fonts have."""
    return frozenset().union(*(characters for _, characters in _fonts().values()))


def _ems(text: str) -> float:
    return sum(map(_em, text))


def _em(character: str) -> float:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 1 if unicodedata.east_asian_width(character) in "WF" else _MEAN_WIDTH


def _cut(text: str, room: float) -> str:
    """Text without its middle if it is wider than `room` em."""
    if _ems(text) <= room:
        return text
    half = (room - _em("…")) / 2
    head, tail = _start(text, half), _start(text[::-1], half)[::-1]
    # They belong to the character that was cut.
    while tail and unicodedata.category(tail[0]) in ("Mn", "Mc", "Me", "Cf"):
        tail = tail[1:]
    return f"{head.rstrip(_JOINERS)}…{tail}"


def _start(text: str, room: float) -> str:
    """As much of the start as fits into `room` em."""
    for place, character in enumerate(text):
        room -= _em(character)
        if room < 0:
            return text[:place]
    return text
