"""Classes matched by their names, one to one."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence


def match_classes(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """For each name the index of the class that it means, or -1.

    Equal lists match place by place. Otherwise equal names match, and names that differ only in case, separators
    (space, `_`, `-`) or Unicode form match where neither side has another such name. No class is given to two names: a
    name that stands twice matches nothing.

    >>> match_classes(["Chair", "chair", "traffic_light"], ["chair", "Chair", "Traffic Light"])
    [1, 0, 2]
    >>> match_classes(["CHAIR", "sofa"], ["chair", "Chair", "couch"])
    [-1, -1]
    """
    if list(names) == list(classes):
        return list(range(len(classes)))
    exact, loose = Counter(names), Counter(map(_fold, names))
    exact_places = _unique(classes)
    loose_places = _unique([_fold(name) for name in classes])
    return [
        exact_places[name]
        if name in exact_places and exact[name] == 1
        else loose_places[_fold(name)]
        if name not in exact_places and _fold(name) in loose_places and loose[_fold(name)] == 1
        else -1
        for name in names
    ]


def _fold(name: str) -> str:
    folded = unicodedata.normalize("NFD", name).casefold().strip()
    # Only between other characters: the signs of "O-" and "-1" are no separators.
    return unicodedata.normalize("NFC", re.sub(r"(?<=[^\s_-])[\s_-]+(?=[^\s_-])", " ", folded))


def _unique(names: Sequence[str]) -> dict[str, int]:
    """Place of each name that stands once."""
    counts = Counter(names)
    return {name: place for place, name in enumerate(names) if counts[name] == 1}
