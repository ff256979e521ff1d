"""Which images a split of an Ultralytics YAML names: its root, folders and lists, searched as Ultralytics does."""

import json
import os
import platform
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Self

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.untrusted_input import is_windows_absolute, short_repr

SUFFIXES = frozenset(
    {"avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp"}
)
"""What a file is called that Ultralytics takes for an image (its `IMG_FORMATS`), in lower case, without the dot."""

# Images, but not for Ultralytics: worth a word when they lie in a folder that is searched.
_OTHERS = frozenset({
    "arw", "cr2", "cr3", "exr", "gif", "hdr", "hif", "ico", "j2k", "jfif", "jpe", "jpx", "jxl", "nef", "orf", "pbm",
    "pfm", "pgm", "pnm", "ppm", "psd", "rw2", "svg", "tga",
})  # fmt: skip
_MAX_FOLDERS = 100_000
_MAX_BYTES = 256 * 2**20  # of a list
_MAX_SHOWN = 200  # characters of a line, in a message


@dataclass
class _Search:
    """What was found so far.

    Attributes:
        images: pairs of the name that Ultralytics sorts by and the absolute path.
        skipped: names by the reason, which begins a note.
        notes: one sentence each.
    """

    images: list[tuple[str, str]] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)

    def result(self) -> tuple[list[str], list[str]]:
        """The images in Ultralytics' order, and every note."""
        paths = [path for _, path in sorted(self.images)]
        if repeated := sorted(path for path, times in Counter(paths).items() if times > 1):
            self.skipped["images named more than once, which count each time as in Ultralytics"] += repeated
        counted = [
            f"{reason}: {len(names):,} (first: {printable_path(min(names))})"
            for reason, names in self.skipped.items()
        ]
        return paths, self.notes + counted


@dataclass(frozen=True)
class _Root:
    """The folder that all images lie in: as it is named, and as it is called without links."""

    name: str
    real: str

    @classmethod
    def of(cls, name: str) -> Self:
        return cls(name, os.path.realpath(name))

    def holds(self, place: str) -> bool:
        """Whether a path begins with the root. A link in the root may lead elsewhere: the user put it there."""
        begins = place.startswith((self.name + os.sep, self.real + os.sep))
        if begins and ".." not in PurePath(place).parts:
            return True
        return Path(os.path.realpath(place)).is_relative_to(self.real)


def find_split_images(
    source: Path, named: str | None, split: str, entries: Sequence[str], datasets: Path | None
) -> tuple[list[str], list[str]]:
    """The images of a split.

    Args:
        source: the YAML.
        named: its `path`, if it has one.
        split: what the entries are called in messages.
        entries: folders and lists.
        datasets: the folder where Ultralytics keeps data sets, if it is known.

    Returns:
        The absolute paths of the images in Ultralytics' order, and notes.

    Raises:
        DataError: an entry is absent, or lies outside the root.
    """
    roots = _roots(source, named, datasets)
    complete: list[tuple[str, list[str]]] = []
    for root in roots:
        places = [place for entry in entries if (place := _place(root, entry)) is not None]
        if len(places) == len(entries):
            complete.append((root, places))
    if not complete:
        raise DataError(_absent(source, split, entries, roots))
    base, places = _Root.of(complete[0][0]), complete[0][1]
    search = _Search()
    if others := [name for name, _ in complete[1:] if os.path.realpath(name) != base.real]:
        search.notes.append(
            f"`path: {named}` is read as {printable_path(base.name)}, as Ultralytics does; "
            f"{printable_path(others[0])} has "
            f"the {split} split too: an absolute path says which is meant"
        )
    for entry, place in zip(entries, places, strict=True):
        if not base.holds(place):
            raise DataError(_outside(source, split, entry, places, base))
        real = os.path.realpath(place)  # as Ultralytics does: labels are looked for from here
        if os.path.isdir(real):
            _walk(real, search)
        elif os.path.isfile(real):
            _listed(real, base, split, search)
        else:
            raise DataError(f"{place}, the {split} split of {source}, is neither a folder nor a regular file")
    return search.result()


def label_file(image: str) -> str:
    """Where an image's labels are: the last folder `images` of the path becomes `labels`, the suffix `.txt`."""
    images, labels = f"{os.sep}images{os.sep}", f"{os.sep}labels{os.sep}"
    return labels.join(image.rsplit(images, 1)).rsplit(".", 1)[0] + ".txt"


def datasets_dir() -> Path | None:
    """The folder `datasets_dir` of Ultralytics' settings; importing it for that would take seconds."""
    places = {"Windows": "AppData/Roaming", "Darwin": "Library/Application Support"}
    if own := os.environ.get("YOLO_CONFIG_DIR"):
        base = Path(own)
    elif (system := platform.system()) in places:
        base = Path("~") / places[system]
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config")
    try:
        file = base.expanduser() / "Ultralytics" / "settings.json"
        return Path(json.loads(file.read_text("utf-8"))["datasets_dir"])
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, RecursionError):
        return None


def printable_path(path: str) -> str:
    """A path in a message: as it is where that can be printed, else escaped."""
    return path if path.isprintable() and path == path.strip() else repr(path)


def _roots(source: Path, named: str | None, datasets: Path | None) -> list[str]:
    """Where the entries may start from, in the order of preference; Ultralytics' own order, then beside the file.

    Raises:
        DataError: there is none.
    """
    if named is None:
        looked = [os.path.abspath(source.parent)]
    else:
        bases = [Path(), *([datasets] if datasets else []), source.parent]
        names = [name for name in (named, named.replace("\\", "/")) if "\0" not in name]
        looked = list(dict.fromkeys(os.path.abspath(base / name) for name in names for base in bases))
    roots = [place for place in looked if os.path.isdir(place)]
    if not roots:
        raise DataError(
            f"{source}: path {short_repr(named)} {_windows(str(named)) or 'is not a folder'} (looked for as "
            f"{', '.join(map(short_repr, looked))}); write the absolute path of the data's folder, and download the data "
            "first (Ultralytics' `download` key is not run)"
        )
    if below := [place for place in roots if os.path.realpath(place) != Path(os.path.realpath(place)).anchor]:
        return below
    raise DataError(
        f"{source}: path {short_repr(named or '/')} is the whole file system; write the folder of the data"
    )


def _place(root: str, entry: str) -> str | None:
    """Where an entry is; `../`, which Roboflow writes for what lies beside the file, is dropped if nothing is there."""
    for name in dict.fromkeys((entry, entry.replace("\\", "/"))):
        for one in dict.fromkeys((name, name.removeprefix("../"))):
            place = os.path.join(root, one)
            if os.path.exists(place):
                return place
    return None


def _absent(source: Path, split: str, entries: Sequence[str], roots: Sequence[str]) -> str:
    entry = next((e for e in entries if not _place(roots[0], e)), entries[0])
    reason = _windows(entry) or "does not exist"
    if any(c in entry for c in "*?["):
        reason += " (patterns are not expanded; name the folder, or write a list)"
    return (
        f"{source}: {split} {short_repr(entry)} {reason}, looked for in {' and '.join(map(printable_path, roots))}; "
        "download "
        "the data first, or correct `path` (Ultralytics' `download` key is not run)"
    )


def _outside(source: Path, split: str, entry: str, places: Sequence[str], root: _Root) -> str:
    """What to write so that the entries lie in the root: the folder above `images`, or above what they share."""
    real = [os.path.realpath(place) for place in places]
    parts = Path(os.path.commonpath(real)).parts
    last = max((n for n, part in enumerate(parts) if part == "images"), default=len(parts) - 1)
    folder = Path(*parts[:last]) if last else Path(parts[0])
    new = [os.path.relpath(place, folder) for place in real]
    instead = _instead(folder, split, new[0] if len(new) == 1 else str(new))
    return f"{instead} in {source}: {short_repr(entry)} lies outside {printable_path(root.name)}, the folder of the data"


def _instead(folder: Path, split: str, entry: str) -> str:
    if folder == Path(folder.anchor):
        return "move the data into one folder and write that as `path`"
    return f"write `path: {folder}` and `{split}: {entry}`"


def _windows(name: str) -> str:
    """What to say of a path with a drive on another system."""
    return "is a path of a Windows machine" if is_windows_absolute(name) and os.name != "nt" else ""


def _walk(top: str, search: _Search) -> None:
    """Images in a folder and below; names that begin with a dot are passed over, as in Ultralytics' glob.

    Links to folders are followed, but not back into a folder that they lie in.
    """
    waiting = [(top, frozenset({_identity(top)}))]
    folders = 0
    while waiting:
        folder, above = waiting.pop()
        folders += 1
        if folders > _MAX_FOLDERS:
            raise DataError(f"{top} holds more than {_MAX_FOLDERS:,} folders; name the folders of the images")
        for entry, is_folder in _entries(folder, search):
            suffix = entry.name.rpartition(".")[2].lower() if "." in entry.name else ""
            if entry.name.startswith("."):
                if is_folder or suffix in SUFFIXES:
                    search.skipped["hidden files or folders skipped, as in Ultralytics"].append(entry.path)
                continue
            if is_folder:
                identity = _identity(entry.path)
                if identity in above:
                    search.skipped[
                        "links not followed because they lead back into a folder above them"
                    ].append(entry.path)
                else:
                    waiting.append((entry.path, above | {identity}))
            if suffix in SUFFIXES:
                search.images.append((entry.path, entry.path))
            elif suffix in _OTHERS and not is_folder:
                search.skipped[
                    "images skipped because Ultralytics reads no such files (convert them to PNG or JPEG)"
                ].append(entry.path)


def _entries(folder: str, search: _Search) -> Iterator[tuple["os.DirEntry[str]", bool]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    is_folder = entry.is_dir()
                except OSError:  # a link to itself
                    is_folder = False
                yield entry, is_folder
    except OSError:
        search.skipped["folders skipped because they cannot be read"].append(folder)


def _identity(folder: str) -> tuple[int, int]:
    try:
        status = os.stat(folder)
    except OSError:
        return (-1, -1)
    return status.st_dev, status.st_ino


def _listed(place: str, root: _Root, split: str, search: _Search) -> None:
    """Images of a list, one in each line."""
    parent = os.path.dirname(place)
    for line in _lines(place):
        if line.rpartition(".")[2].lower() not in SUFFIXES or "\0" in line:
            if line.strip() and not line.startswith("#"):
                search.skipped[
                    f"lines of {printable_path(place)} skipped because they do not end in the suffix of an image"
                ].append(line[:_MAX_SHOWN])
            continue
        if _windows(line):
            search.skipped[
                f"lines of {printable_path(place)} skipped because they are paths of a Windows machine (write ./ and the "
                "path from the list)"
            ].append(line[:_MAX_SHOWN])
            continue
        name, path = _named(line, parent, root)
        if not root.holds(path):
            folder = Path(os.path.commonpath([root.real, os.path.realpath(path)]))
            raise DataError(
                f"{_instead(folder, split, os.path.relpath(place, folder))}: {short_repr(line)} of the list {place} lies "
                f"outside {printable_path(root.name)}, the folder of the data"
            )
        search.images.append((name, path))


def _named(line: str, parent: str, root: _Root) -> tuple[str, str]:
    """What Ultralytics calls the image of a line, and its path.

    `./` is the list's folder. Other relative names are of the current folder, as in Ultralytics, or else of the
    list's, as everybody means them.
    """
    if "\\" in line and not os.path.lexists(os.path.join(parent, line)):
        line = line.replace("\\", "/")
    if line.startswith("./"):
        line = line.replace("./", parent + os.sep, 1)
    if os.path.isabs(line):
        return line, line
    here = os.path.abspath(line)
    if os.path.exists(here) and root.holds(here):
        return line, here
    path = os.path.normpath(os.path.join(parent, line))
    return path, path


def _lines(place: str) -> list[str]:
    if place.lower().endswith(".json"):
        raise DataError(f"{place} is not a list of images; a COCO json is data of its own: give it as --data")
    try:
        if (size := os.stat(place).st_size) > _MAX_BYTES:
            raise DataError(f"{place} has {size:,} bytes; a list may have {_MAX_BYTES:,}")
        return Path(place).read_text("utf-8").removeprefix("\ufeff").strip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        what = (
            "is an image; name its folder"
            if Path(place).suffix[1:].lower() in SUFFIXES
            else "write it as UTF-8"
        )
        raise DataError(f"{place} cannot be read as a list of images ({error}); {what}") from error
