"""Where the images are that an annotation file names: as they are written, or as other systems write them."""

import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.untrusted_input import is_windows_absolute, safe_join, short_repr

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_SAMPLE = 20  # images by which a folder is recognised
_HINTS = 3


@dataclass(frozen=True, slots=True)
class FileName:
    """A file name as an annotation file has it.

    Attributes:
        text: as written.
        parts: folders and file, without drive, root or a URL's address.
        kind: what else than a relative path it is, for messages; empty if nothing.
    """

    text: str
    parts: tuple[str, ...]
    kind: str


def parse_name(text: str) -> FileName:
    """Take a file name apart; `\\` separates as `/` does.

    Raises:
        ValueError: it leaves its folder by `..`, or no file can be called so.
    """
    plain, kind = text, ""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{short_repr(text)} holds half a surrogate pair, which no file's name does")
    if _URL.match(text):
        try:
            plain, kind = unquote(urlsplit(text).path), "a URL"
            plain = re.sub(r"^/[A-Za-z]:(?=/)", "", plain)  # file:///C:/...
        except ValueError:
            raise ValueError(f"{short_repr(text)} is not a valid address") from None
    elif is_windows_absolute(text):
        plain, kind = re.sub(r"^[A-Za-z]:", "", text), "an absolute Windows path"
    elif text.startswith("/"):
        plain, kind = text.partition("?d=")[2] or text, "an absolute path"  # ?d=: Label Studio's local files
    parts = tuple(part for part in plain.replace("\\", "/").split("/") if part not in {"", "."})
    if not parts:
        raise ValueError(f"{short_repr(text)} names no file")
    safe_join(Path(), "/".join(parts))
    return FileName(text, parts, kind)


@dataclass
class ImageFinder:
    """Finds files below one folder, never outside it.

    Args:
        folder: that of the images.
    """

    folder: Path
    _listings: dict[Path, dict[str, list[str]]] = field(default_factory=dict)

    def exact(self, name: FileName) -> Path | None:
        """The file of just this name."""
        if "\\" in name.text and not name.kind and "/" not in name.text:
            literal = self.folder / name.text  # an archive from Windows, unpacked elsewhere
            if literal.is_file():
                return literal
        path = self.folder.joinpath(*name.parts)
        return path if path.is_file() else None

    def similar(self, name: FileName) -> Path | None:
        """The one file that the end of the name names, or that differs in case or in Unicode's form alone."""
        tails = [name.parts[n:] for n in range(len(name.parts))]
        for tail in tails:
            if (path := self.folder.joinpath(*tail)).is_file():
                return path
        return next((found for tail in tails if (found := self._respelled(tail)) is not None), None)

    def near(self, name: FileName) -> list[str]:
        """Names in the folder that may be meant: another suffix, or the characters that Label Studio puts first."""
        wanted = name.parts[-1]
        stem = _key(Path(wanted).stem)
        there = (one for ones in self._listing(self.folder).values() for one in ones)
        close = (
            n
            for n in there
            if n != wanted
            and (_key(Path(n).stem) == stem or n.endswith(f"-{wanted}") or wanted.endswith(f"-{n}"))
        )
        return sorted(close)[:_HINTS]

    def _respelled(self, parts: Sequence[str]) -> Path | None:
        path = self.folder
        for part in parts:
            same = self._listing(path).get(_key(part), [])
            if part in same:
                path /= part
            elif len(same) == 1:
                path /= same[0]
            else:
                return None
        return path if path.is_file() else None

    def _listing(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._listings:
            listing: dict[str, list[str]] = {}
            try:
                for one in os.listdir(folder):  # noqa: PTH208 - names alone, of a folder that may be large
                    listing.setdefault(_key(one), []).append(one)
            except OSError:
                pass
            self._listings[folder] = listing
        return self._listings[folder]


def find_images(path: Path, names: Sequence[FileName], folder: Path | None) -> tuple[list[Path], list[str]]:
    """The files of these names, in their order, and what to say of how they were found.

    Args:
        path: the annotation file.
        names: as it has them.
        folder: where to look; the usual places beside the annotation file if None.

    Raises:
        DataError: images are absent (it says how many and which first), or two names are one file's.
    """
    finder = ImageFinder(folder) if folder is not None else _guess_folders(path, names[:_SAMPLE])
    paths = [finder.exact(name) for name in names]
    exact = {one for one in paths if one is not None}
    similar: dict[int, Path] = {}
    for n, name in enumerate(names):
        if paths[n] is None and (other := finder.similar(name)) is not None:
            similar[n] = paths[n] = other
    absent = [name for name, one in zip(names, paths, strict=True) if one is None]
    if absent:
        raise DataError(_absence(path, finder, absent, len(names)))
    for n, other in similar.items():
        if other in exact:
            raise DataError(
                f"{path}: file_name {short_repr(names[n].text)} and another one both lead to {other}; "
                "give the folder that the names are relative to with --images"
            )
        exact.add(other)
    if not similar:
        return [one for one in paths if one is not None], []
    first, other = next(iter(similar.items()))
    note = (
        f"{path}: {len(similar):,} of {len(names):,} images were found under another spelling of their file_name, "
        f"or by the end of it (first: {short_repr(names[first].text)}, taken to be {other})"
    )
    return [one for one in paths if one is not None], [note]


def _guess_folders(path: Path, names: Sequence[FileName]) -> ImageFinder:
    """The usual places, best match first: `images/<split>`, `<split>`, `images`, beside the json."""
    split = path.stem.removeprefix("instances_")
    bases = (path.parent.parent, path.parent)
    places = [ImageFinder(base / sub) for base in bases for sub in (f"images/{split}", split, "images", "")]
    for look in (ImageFinder.exact, ImageFinder.similar):
        counts = [sum(look(place, name) is not None for name in names) for place in places]
        if any(counts):
            return places[counts.index(max(counts))]
    looked = ", ".join(str(place.folder) for place in places[:4])
    near = next((_hint(place, names[0]) for place in places if place.near(names[0])), "")
    raise DataError(
        f"the images of {path} are in none of the usual places ({looked}): no {_describe_name(names[0])} there{near}; "
        "give their folder with --images"
    )


def _absence(path: Path, finder: ImageFinder, absent: Sequence[FileName], total: int) -> str:
    return (
        f"{len(absent):,} of {total:,} images named by {path} are not in {finder.folder} "
        f"(first: {_describe_name(absent[0])}{_hint(finder, absent[0])}); give their folder with --images"
    )


def _hint(finder: ImageFinder, name: FileName) -> str:
    near = finder.near(name)
    return (
        f", but {' and '.join(near)} in {finder.folder}: rename the files or correct file_name"
        if near
        else ""
    )


def _describe_name(name: FileName) -> str:
    """A name for a message, with what it was taken for."""
    return (
        f"{short_repr(name.text)}, {name.kind}, or {name.parts[-1]}" if name.kind else short_repr(name.text)
    )


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
