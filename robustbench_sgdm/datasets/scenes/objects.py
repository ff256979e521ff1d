"""The labelled classes; each painter fills a canvas with one object, varied in shape, pattern and colour."""

from collections.abc import Callable

import numpy as np

from robustbench_sgdm.datasets.scenes.boxes import book, die
from robustbench_sgdm.datasets.scenes.canvas import Canvas
from robustbench_sgdm.datasets.scenes.lathe import bolt, bottle, mug, mushroom
from robustbench_sgdm.datasets.scenes.misc import ball, clock, key, umbrella
from robustbench_sgdm.datasets.scenes.organic import fish, leaf

Painter = Callable[[Canvas, np.random.Generator], None]

# Painter, smallest long side in px at which it can be told, and whether it usually stands upright.
CLASS_SPECS: dict[str, tuple[Painter, int, bool]] = {
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
