"""The labelled classes; each painter fills a canvas with one object, varied in shape, pattern and colour."""

from collections.abc import Callable

import numpy as np

from .canvas import Canvas
from .living import fish, leaf
from .made import ball, clock, key, umbrella
from .solids import book, die
from .turned import bolt, bottle, mug, mushroom

Painter = Callable[[Canvas, np.random.Generator], None]

# Painter, smallest long side in px at which it can be told, and whether it usually stands upright.
KINDS: dict[str, tuple[Painter, int, bool]] = {
    "ball": (ball, 8, False),
    "bolt": (bolt, 12, False),
    "book": (book, 10, False),
    "bottle": (bottle, 12, True),
    "clock": (clock, 10, True),
    "die": (die, 9, False),
    "fish": (fish, 12, False),
    "key": (key, 14, False),
    "leaf": (leaf, 12, False),
    "mug": (mug, 9, True),
    "mushroom": (mushroom, 10, True),
    "umbrella": (umbrella, 12, True),
}
