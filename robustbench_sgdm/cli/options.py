"""Options that take lists: commas and repeats alike; commas inside brackets belong to the name."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from robustbench_sgdm.errors import UsageError


def split(values: Iterable[str]) -> list[str]:
    """All items of a repeated, comma-separated option, in order, each once.

    >>> split(["a,b", "c[x=1,y=2]", "a"])
    ['a', 'b', 'c[x=1,y=2]']
    """
    items: list[str] = []
    for value in values:
        depth, item = 0, ""
        for character in value:
            depth += {"[": 1, "]": -1}.get(character, 0)
            if character == "," and depth == 0:
                items.append(item)
                item = ""
            else:
                item += character
            if depth < 0:
                break
        if depth:
            raise UsageError(f"{value!r} has unbalanced brackets")
        items.append(item)
    return list(dict.fromkeys(i.strip() for i in items if i.strip()))


def some(values: Iterable[str], option: str, example: str) -> list[str]:
    """As `split`, where at least one is needed.

    Raises:
        UsageError: there is none; names the option.
    """
    items = split(values)
    if not items:
        raise UsageError(f"{option} names nothing; give at least one, such as {example}")
    return items


def severities(values: Iterable[str]) -> list[float]:
    """Severities from numbers and ranges.

    >>> severities(["0-2", "4.5"])
    [0.0, 1.0, 2.0, 4.5]

    Raises:
        UsageError: none, not a number, or outside [0, 5].
    """
    found: list[float] = []
    for item in some(values, "--severity", "0-5"):
        low, dash, high = item.partition("-") if item[:1].isdigit() and "e" not in item else (item, "", "")
        try:
            if dash and max(int(low), int(high)) > 5:
                raise UsageError(
                    f"severity range {item!r} is outside [0, 5]; 0 is clean, 5 the strongest published level"
                )
            found += [float(n) for n in range(int(low), int(high) + 1)] if dash else [float(item)]
        except ValueError:
            raise UsageError(f"severity {item!r} is neither a number nor a range such as 0-5") from None
        if dash and int(low) > int(high):
            raise UsageError(f"severity range {item!r} runs backwards; write {high}-{low}")
    fine = [s for s in found if math.isfinite(s) and round(s, 3) != s]
    if fine:
        raise UsageError(f"severity {fine[0]!r} is finer than 0.001; round it")
    outside = [s for s in found if not (math.isfinite(s) and 0 <= s <= 5)]
    if outside:
        raise UsageError(
            f"severity {outside[0]:g} is outside [0, 5]; 0 is clean, 1 to 5 are the published levels"
        )
    return sorted(set(found))


def weights(values: Iterable[str], models: Sequence[str], baselines: Sequence[str] = ()) -> dict[str, Path]:
    """Weights by model: `NAME=PATH`, or plain paths, one for all models or one for each in order.

    Args:
        values: the option as given.
        models: what the user named, in order.
        baselines: what runs beside them; these too can be given weights by name.

    Raises:
        UsageError: a name that is not a model of this run, or a count that fits neither rule.
    """
    known = [*models, *baselines]
    named: dict[str, Path] = {}
    plain: list[Path] = []
    for item in split(values):
        name, equals, path = item.rpartition("=")
        if equals and name in known:
            named[name] = Path(path)
        elif equals and not Path(item).exists():
            raise UsageError(f"--weights {item!r}: {name!r} is not a model of this run ({', '.join(known)})")
        else:
            plain.append(Path(item))
    if plain and len(plain) not in (1, len(models)):
        raise UsageError(f"{len(plain)} --weights for {len(models)} models; give one, one each, or NAME=PATH")
    return dict(zip(models, plain * len(models) if len(plain) == 1 else plain, strict=False)) | named
