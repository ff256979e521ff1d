"""Detectors of other packages: entry points of the group `robustbench_sgdm.detectors`, and `module:factory`.

Both are functions without arguments that give a `Detector`. Nothing of a package is imported before its detector is
asked for by name.
"""

import importlib
import re
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.detectors.base import Detector

GROUP = "robustbench_sgdm.detectors"
_FACTORY = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")  # and no Windows path, whose drive is one letter


def plugin_names() -> list[str]:
    """The detectors that installed packages bring."""
    return sorted({one.name for one in entry_points(group=GROUP)})


def is_plugin(model: str) -> bool:
    """Whether a model is `module:factory` or one that an installed package brings."""
    return bool(_FACTORY.fullmatch(model) and model[1:2] != ":") or model in plugin_names()


def load_plugin(model: str) -> Detector:
    """Import a plug-in's module and call its factory.

    Raises:
        UsageError: it cannot be imported, raised, or gave something else than a detector; names the module.
    """
    points = [one for one in entry_points(group=GROUP) if one.name == model]
    if len({one.value for one in points}) > 1:
        places = " and ".join(sorted({one.value for one in points}))
        raise UsageError(f"detector {model!r} is brought by {places}; uninstall one of them")
    place = points[0].value if points else model
    try:
        detector = _factory(points[0] if points else model)()
    except Exception as error:  # whatever the other package does
        raise UsageError(f"detector {place} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(detector, Detector):
        raise UsageError(
            f"{place} gave a {type(detector).__name__}, which is no detector; return robustbench_sgdm.wrap_detector(...)"
        )
    return detector


def _factory(place: EntryPoint | str) -> Callable[[], Any]:
    if isinstance(place, EntryPoint):
        found: Callable[[], Any] = place.load()
        return found
    module, _, name = place.partition(":")
    target: Any = importlib.import_module(module)
    for part in name.split("."):
        target = getattr(target, part)
    factory: Callable[[], Any] = target
    return factory
