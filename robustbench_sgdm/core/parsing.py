"""Parses options that take lists: by commas or repeats; commas in brackets and in file names belong to the item."""

import itertools
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from robustbench_sgdm.core.errors import UsageError

_MAX_COMMAS = 16  # in a path within a list: each is a place where it may end
LIBRARIES = {"torchvision": "torchvision", "hf": "transformers"}
"""What `--model LIBRARY:NAME` starts with, and the library that it means."""
LIST_HELP = "Several: commas or repeats; a comma in the name of an existing file belongs to it."
"""For the help of options that take files."""


def split_list(values: Iterable[str], whole: Callable[[str], object] = lambda _: False) -> list[str]:
    """All items of a repeated, comma-separated option, in order, each once.

    Args:
        values: the option as given.
        whole: whether a text is one item, in spite of commas and brackets in it.

    >>> split_list(["a,b", "c[x=1,y=2]", "a"])
    ['a', 'b', 'c[x=1,y=2]']

    Raises:
        UsageError: brackets that do not match.
    """
    return list(dict.fromkeys(item for value in values for item in _items(value, whole)))


def parse_models(values: Iterable[str]) -> list[str]:
    """The models of `--model`: names, and paths as the file system writes them.

    Raises:
        UsageError: a path that does not exist, or brackets that do not match.
    """
    given = list(values)
    items = split_list(given, _find_whole_model)
    for item in items:
        if is_library_model(item):  # names of the hub have a slash
            continue
        if ("/" in item or "\\" in item) and item not in given and not _find_model(item):
            raise UsageError(
                f"--model: no file {item!r}. Commas separate models, except in the name of an existing file"
            )
    paths = {item: _find_model(item) for item in items}
    return list(
        dict.fromkeys(item if path in (None, Path(item)) else str(path) for item, path in paths.items())
    )


def _find_whole_model(text: str) -> Path | None:
    """What a model with commas in its name is: a file, or the folder of an exported or a transformers model."""
    folder = Path(text.removeprefix("hf:"))
    return folder if text.startswith("hf:") and folder.is_dir() else _find_model(text)


def is_library_model(model: str) -> bool:
    """Whether a model is `LIBRARY:NAME`, a name of another library, and not code to run (`module:factory`).

    >>> is_library_model("torchvision:fasterrcnn_resnet50_fpn_v2"), is_library_model("my.module:factory")
    (True, False)
    """
    library, colon, _ = model.partition(":")
    return bool(colon) and library in LIBRARIES


def find_path(name: str) -> Path | None:
    """The path of this name, also if the file system has it in another Unicode normal form.

    None if there is none, or if two names differ only in the form.
    """
    path, place = Path(name), Path()
    try:
        if path.exists():
            return path
        for part in () if name.isascii() else path.parts:
            same = [place / part] if (place / part).exists() else _same_in_any_form(place, part)
            if len(same) != 1:
                return None
            place = same[0]
    except (OSError, ValueError):  # an impossible name, or a folder without permission
        return None
    return None if name.isascii() else place


def _find_model(name: str) -> Path | None:
    """As `find_path`, where it is a regular file, or a folder whose name ends as that of an exported model."""
    path = find_path(name)
    return path if path and (path.is_file() or path.name.endswith("_model")) else None


def find_file(name: str) -> Path | None:
    """As `find_path`, for regular files."""
    path = find_path(name)
    return path if path and path.is_file() else None


def parse_assignments(values: Iterable[str], option: str) -> dict[str, str]:
    """NAME=VALUE items by name.

    Raises:
        UsageError: another form, or a name that is given twice.
    """
    assigned: dict[str, str] = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not (name and equals and rest):
            raise UsageError(f"{option} {value!r} is not NAME=VALUE")
        if name in assigned:
            raise UsageError(f"{option} {name} is given twice; use another name")
        assigned[name] = rest
    return assigned


def parse_severities(values: Iterable[str]) -> list[float]:
    """Severities from numbers and ranges.

    >>> parse_severities(["0-2", "4.5"])
    [0.0, 1.0, 2.0, 4.5]

    Raises:
        UsageError: not a number, or a range that is reversed or ends outside [0, 5]; see also
            `config.check_severities`.
    """
    severities: list[float] = []
    for item in split_list(values):
        low, dash, high = item.partition("-") if item[:1].isdigit() and "e" not in item else (item, "", "")
        try:
            if dash and max(int(low), int(high)) > 5:
                raise UsageError(
                    f"severity range {item!r} is outside [0, 5]; 0 is clean, 5 the strongest published level"
                )
            severities += [float(n) for n in range(int(low), int(high) + 1)] if dash else [float(item)]
        except ValueError:
            raise UsageError(f"severity {item!r} is neither a number nor a range such as 0-5") from None
        if dash and int(low) > int(high):
            raise UsageError(f"severity range {item!r} is reversed; write {high}-{low}")
    return severities


def parse_weights(
    values: Iterable[str], models: Sequence[str], baselines: Sequence[str] = ()
) -> dict[str, Path]:
    """Weights by model: `NAME=FILE`, or plain files, one for all models or one for each in order.

    Args:
        values: the option as given.
        models: of the user, in order.
        baselines: that run beside them; they can have weights by name too.

    Raises:
        UsageError: an unknown or repeated name, an ambiguous item, or a number of files that fits neither rule.
    """
    known = [*models, *baselines]

    def is_whole(text: str) -> bool:
        _, rest = _named(text, known)
        return bool(find_file(text) or (rest and find_file(rest)))

    named: dict[str, Path] = {}
    plain: list[Path] = []
    for item in (item for value in values for item in _items(value, is_whole)):
        file, (name, rest) = find_file(item), _named(item, known)
        if file and rest and find_file(rest):
            raise UsageError(
                f"--weights {item!r} is a file, and so is {rest!r}: write ./{item} for the first, or {name}=./{rest} "
                "for the second"
            )
        if name and not file:
            if name in named:
                raise UsageError(f"--weights has two files for {name}: {named[name]} and {rest}")
            named[name] = find_file(rest) or Path(rest)
        elif "=" in item and not file:
            raise UsageError(
                f"--weights {item!r}: no such file, and {item.partition('=')[0]!r} is not a model of this run "
                f"({', '.join(known)})"
            )
        else:
            plain.append(file or Path(item))
    plain = plain if len(set(plain)) > 1 else plain[:1]
    if plain and len(plain) not in (1, len(models)):
        raise UsageError(f"{len(plain)} --weights for {len(models)} models; pass one, one each, or NAME=FILE")
    return dict(zip(models, plain * len(models) if len(plain) == 1 else plain, strict=False)) | named


def _named(item: str, known: Sequence[str]) -> tuple[str, str]:
    """The model and the path of `NAME=FILE`; empty if it does not begin with a model's name."""
    names = {unicodedata.normalize("NFC", name): name for name in known}
    for place in (i for i in range(len(item) - 1, 0, -1) if item[i] == "="):
        name = names.get(unicodedata.normalize("NFC", item[:place]))
        if name is not None:
            return name, item[place + 1 :]
    return "", ""


def _items(value: str, whole: Callable[[str], object]) -> Iterator[str]:
    """The items of one value, repeats included."""
    rest = value
    while True:
        commas = itertools.islice((place for place, c in enumerate(rest) if c == ","), _MAX_COMMAS + 1)
        end = next((e for e in (len(rest), *reversed([*commas])) if e and whole(rest[:e])), None)
        if end is not None:
            yield rest[:end]
        else:
            end = _end(rest, value)
            if rest[:end].strip():
                yield rest[:end].strip()
        if end == len(rest):
            return
        rest = rest[end + 1 :]


def _end(rest: str, value: str) -> int:
    """The end of the first item: a comma outside brackets."""
    depth = 0
    for place, character in enumerate(rest):
        depth += {"[": 1, "]": -1}.get(character, 0)
        if depth < 0:
            break
        if character == "," and depth == 0:
            return place
    if depth:
        raise UsageError(f"{value!r} has unbalanced brackets and is not the name of a file")
    return len(rest)


def _same_in_any_form(folder: Path, name: str) -> list[Path]:
    """The entries of a folder with this name in any normal form."""
    wanted = unicodedata.normalize("NFC", name)
    return [one for one in folder.iterdir() if unicodedata.normalize("NFC", one.name) == wanted]
