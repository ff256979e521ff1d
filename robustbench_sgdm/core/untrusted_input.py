"""Files and names from strangers: read as data, bounded in bytes, depth and time, and kept inside their directory.

A few kilobytes of YAML can stand for billions of values (aliases that repeat aliases), and a short text can hide what it
says (control characters, overrides of direction). Both are bounded here before anything else sees them.
"""

import codecs
import json
import math
import os
import re
import reprlib
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any, ClassVar, Literal, TypeVar

import yaml

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.safe_directory import SafeDirectory

T = TypeVar("T")

MAX_YAML_BYTES = 4 * 2**20
"""Bytes of a YAML file; a run of a thousand cells takes a twentieth."""

MAX_YAML_NODES = 250_000
"""Values and keys that a YAML file writes down; a run of a thousand cells has a twentieth."""

MAX_VALUES = 1_000_000
"""Values in a file of plain values once everything shared is written out."""

MAX_NAME_BYTES = 255
"""Bytes of a file's or a folder's name that file systems take."""

_MAX_DEPTH = 50
_VALUE_LENGTH = 100  # characters of a text, or bytes, that count as one value
_MAX_DIGITS = 20  # of a whole number, as 64 bits have at most: thousands of larger ones can share a hash
_MAX_TAGS = 100  # that a YAML declares: libyaml compares each with all others
_MAX_PATH_BYTES = 4000  # bytes of a path that file systems take
_INT, _TIMESTAMP = (f"tag:yaml.org,2002:{name}" for name in ("int", "timestamp"))
_PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge", "value")
)
_short_repr = reprlib.Repr()
_short_repr.maxstring = _short_repr.maxother = 80


def read_json(path: Path, max_bytes: int | None = None, files: SafeDirectory | None = None) -> Any:
    """The content of a json file, in UTF-8, -16 or -32, with a byte order mark or without.

    Args:
        path: the file.
        max_bytes: bytes that it may have; any number of them where None.
        files: of the run directory that it lies in, if it lies in one.

    Raises:
        DataError: it is missing, not a regular file, too large, cannot be read, or is not json.
    """
    data = read_bytes(path, max_bytes, files)
    if not data.strip():
        raise DataError(f"{path} is empty; write it again")
    try:
        return json.loads(data)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} cannot be read as json: it is not UTF-8 ({error.reason} at byte {error.start})"
        ) from error
    except (ValueError, RecursionError) as error:
        if data.startswith(b"version https://git-lfs"):
            raise DataError(
                f"{path} is a pointer of Git LFS, not the file; fetch it with `git lfs pull`"
            ) from error
        raise DataError(
            f"{path} cannot be read as json: {error}; it begins with {short_repr(data[:40])}"
        ) from error


def read_yaml(
    path: Path, errors: Literal["strict", "ignore", "replace"] = "strict", files: SafeDirectory | None = None
) -> Any:
    """The content of a YAML file, as json could hold it: no tag in it makes an object or runs anything.

    Args:
        path: the file.
        errors: what becomes of bytes that are not UTF-8 and of characters that YAML forbids. `ignore` reads the file as
            Ultralytics reads its own, without them. `replace` puts U+FFFD in their places.
        files: of the run directory that it lies in, if it lies in one.

    Raises:
        DataError: it is missing, no plain file, over `MAX_YAML_BYTES`, `MAX_YAML_NODES` or `MAX_VALUES`, cannot be
            read, or is no YAML of plain values.
    """
    data = read_bytes(path, MAX_YAML_BYTES, files)
    try:
        if errors == "strict":
            return _parse_yaml(data.decode("utf-8"))
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if wide else "utf-8", errors)
        try:
            return _parse_yaml(text)
        except yaml.reader.ReaderError:
            return _parse_yaml(_FORBIDDEN.sub("" if errors == "ignore" else "\ufffd", text))
    except Exception as error:  # a wrong tag can provoke any kind: `!!int ''` an IndexError
        reason = " ".join(str(error).split())[:500]
        if errors != "strict" and len(data.decode("utf-8", "ignore").encode()) != len(data):
            reason += "; it is not UTF-8: save it as UTF-8"
        raise DataError(f"{path} cannot be read as YAML: {reason}") from error


def _parse_yaml(text: str) -> Any:
    if text.count("%TAG") > _MAX_TAGS:
        raise ValueError(f"it declares more than {_MAX_TAGS} tags")
    try:
        return _construct(_Loader(text))
    except yaml.scanner.ScannerError:
        # How Python writes a file's name that is not UTF-8, and libyaml takes no such escape.
        if not _SURROGATE.search(text) or len(text) > _MAX_SLOW:
            raise
        return _construct(_SlowLoader(text))


def _construct(loader: Any) -> Any:
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        check_expanded_size(node, _child_nodes, _MAX_DEPTH)
        return loader.construct_document(node)
    finally:
        loader.dispose()


class _CountingComposer(yaml.composer.Composer):
    """Composes nodes of plain values, no more than `MAX_YAML_NODES`, not nested deeper than any file of them."""

    _count = _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One node, counted before it is made."""
        self._count += 1
        self._depth += 1
        if self._count > MAX_YAML_NODES:
            raise ValueError(f"it holds more than {MAX_YAML_NODES:,} values and keys")
        if self._depth > _MAX_DEPTH:
            raise ValueError(f"nested deeper than {_MAX_DEPTH}")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _loader(parser: Any) -> Any:
    """A loader that is safe, and quick to refuse what is large; a date stays the text that it is, as in json."""

    class Loader(_CountingComposer, parser):  # type: ignore[misc]
        yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {
            first: [pair for pair in pairs if pair[0] != _TIMESTAMP]
            for first, pairs in parser.yaml_implicit_resolvers.items()
        }

        def __init__(self, text: str) -> None:
            parser.__init__(self, text)
            yaml.composer.Composer.__init__(self)

        def fetch_flow_collection_start(self, TokenClass: Any) -> None:
            """Without libyaml: with every bracket that is open, each further one takes PyYAML longer."""
            if self.flow_level > _MAX_DEPTH:
                raise ValueError(f"nested deeper than {_MAX_DEPTH}")
            super().fetch_flow_collection_start(TokenClass)

    return Loader


_SlowLoader = _loader(yaml.SafeLoader)
_Loader = _loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # libyaml's, where PyYAML was built with it
_SURROGATE = re.compile(r"\\(u|U0000)[dD][89a-fA-F]")
# Characters that are read without libyaml, in seconds; a plan of a thousand cells has 2**17.
_MAX_SLOW = 2**19

# In YAML.
_FORBIDDEN = re.compile(r"[^\x09\x0a\x0d\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")


def check_expanded_size(value: T, parts_of: Callable[[T], Iterable[T]], max_depth: int) -> None:
    """Refuse what shares its parts so that it is small in a file and without end, or nearly so, written out.

    Args:
        value: the whole; every 100 characters of a text in it count as a value.
        parts_of: gives the parts of a value.
        max_depth: values within each other; readers recurse as deep.

    Raises:
        ValueError: over `MAX_VALUES`, nested deeper, or a value lies within itself.
    """
    measured: dict[int, tuple[float, int]] = {}  # values written out, and how deep they are nested

    def measure(one: T) -> tuple[float, int]:
        if id(one) not in measured:
            measured[id(one)] = math.inf, 0  # until it is known: what lies within itself has no end
            weight, depth = 1.0 + (len(one) // _VALUE_LENGTH if isinstance(one, str | bytes) else 0), 0
            for part in parts_of(one):
                more, nested = measure(part)
                weight, depth = weight + more, max(depth, nested)
            measured[id(one)] = weight, depth + 1
        return measured[id(one)]

    weight, depth = measure(value)
    if weight > MAX_VALUES:
        raise ValueError(f"written out, it holds more than {MAX_VALUES:,} values")
    if depth > max_depth:
        raise ValueError(f"written out, it is nested deeper than {max_depth}")


def safe_join(root: Path, name: str) -> Path:
    """`root / name`, or an absolute `name` that lies in the root.

    Raises:
        ValueError: it would leave the root, or no file can be called so.
    """
    parts = PurePath(name.replace("\\", "/")).parts
    if "\0" in name:
        raise ValueError(f"{short_repr(name)} holds a NUL character, which no file's name does")
    if ".." in parts:
        raise ValueError(
            f"{short_repr(name)} leaves its folder by '..'; write it relative to the folder, without '..'"
        )
    if Path(name).is_absolute() and not Path(name).is_relative_to(root.absolute()):
        raise ValueError(
            f"{short_repr(name)} leaves its folder: it is an absolute path outside {root}; write it relative to that "
            "folder"
        )
    if is_windows_absolute(name):
        raise ValueError(f"{short_repr(name)} is an absolute Windows path; write it relative to {root}")
    if (
        any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in parts)
        or len(os.fsencode(root / name)) > _MAX_PATH_BYTES
    ):
        raise ValueError(f"{short_repr(name)} is longer than a file's name can be")
    return root / name


def is_windows_absolute(name: str) -> bool:
    """Whether a path begins with a drive or a share, as in `C:\\a.jpg`.

    >>> [is_windows_absolute(n) for n in (r"C:\\a.jpg", "c:/a.jpg", r"\\\\host\\share\\a.jpg", r"a\\b.jpg", "a.jpg")]
    [True, True, True, False, False]
    """
    drive = PureWindowsPath(name).drive
    return drive.startswith("\\\\") or (drive != "" and drive[0].isalpha() and name[2:3] in {"/", "\\"})


def normalize_name(text: str) -> str:
    """What two spellings of one name share: Unicode has two forms of `é`, and hands add spaces.

    >>> normalize_name("cafe\u0301 ") == normalize_name("caf\u00e9")
    True
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def validate_class_name(value: object) -> str:
    """The name of a class.

    Raises:
        ValueError: no text, of more than 500 characters, or what no file can hold (half a surrogate pair).
    """
    if not isinstance(value, str | int | float):
        raise ValueError(f"{short_repr(value)} is not a name")
    text = str(value)
    text.encode("utf-8")
    if len(text) > 500:
        raise ValueError(f"{short_repr(text)} has {len(text)} characters; the limit is 500")
    return text


def make_names_unique(names: Sequence[str]) -> tuple[str, ...]:
    """Names of classes such that none is there twice: a later one gets its number. The same list, the same names.

    >>> make_names_unique(["person", "dog", "person"])
    ('person', 'dog', 'person (2)')
    """
    seen = set(names)
    if len(seen) == len(names):
        return tuple(names)
    unique: list[str] = []
    first: set[str] = set()
    for number, name in enumerate(names):
        new = name
        while new in first or (new != name and new in seen):
            new = f"{new} ({number})"
        first.add(new)
        unique.append(new)
    return tuple(unique)


def short_repr(value: object) -> str:
    """A value inside a message, cut short however large or deep it is.

    >>> short_repr("a" * 1000)[:5], len(short_repr("a" * 1000)), short_repr([[[[[[[[]]]]]]]])
    ("'aaaa", 80, '[[[[[[[...]]]]]]]')
    """
    return _short_repr.repr(value)


def short_list(names: Iterable[str], most: int = 20) -> str:
    """Names in a message, the first ones where there are many.

    >>> short_list("abc", 2)
    'a, b and 1 more'
    """
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def escape_control_chars(text: str, keep: str = "") -> str:
    """Text with what cannot be seen, or changes how other text is shown, written out: names come from files.

    Written out are control characters, format characters (marks and overrides of direction, zero-width spaces, soft
    hyphens), separators of lines and paragraphs, fillers without a glyph, halves of surrogate pairs and codes that are
    no characters. Joiners stay where they join, once behind a letter of another script than Latin or an emoji: Persian,
    Hindi and families of emoji are written with them.

    Args:
        text: any.
        keep: characters that are left as they are, such as line ends of our own.

    >>> escape_control_chars("cat" + chr(27) + "[2J" + chr(0x202E) + "s" + chr(10))
    'cat\\\\x1b[2J\\\\u202es\\\\n'
    """

    def written(match: re.Match[str]) -> str:
        one, before = match[0], text[match.start() - 1 : match.start()]
        joins = one in _JOINERS and before > "\u02ff" and not _is_hidden(before)
        return one if one in keep or joins or not _is_hidden(one) else ascii(one)[1:-1]

    if text.isprintable() and not _UNSEEN & set(text):  # nearly every text, and quick
        return text
    return re.sub(r"[^ -~]", written, text)


_JOINERS = "\u200c\u200d"
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # of Unicode: controls, formats, surrogates, separators of lines
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")  # letters and marks that have no glyph


def _is_hidden(one: str) -> bool:
    no_character = "\ufdd0" <= one <= "\ufdef" or ord(one) & 0xFFFE == 0xFFFE
    return no_character or one in _UNSEEN or unicodedata.category(one) in _INVISIBLE


def read_bytes(path: Path, max_bytes: int | None = None, files: SafeDirectory | None = None) -> bytes:
    """The content of a regular file.

    Args:
        path: the file.
        max_bytes: bytes that it may have; any number of them where None.
        files: of the run directory that it lies in, if it lies in one.

    Raises:
        DataError: missing, not a regular file, larger, or it cannot be read.
    """
    try:
        if files is not None:
            return _read_rooted(path, max_bytes, files)
        if not path.exists():
            raise DataError(f"{path} does not exist")
        if not path.is_file():
            raise DataError(f"{path} is not a regular file")  # a pipe would keep its reader waiting
        if max_bytes is not None and (size := path.stat().st_size) > max_bytes:
            raise DataError(f"{path} has {size:,} bytes; the limit is {max_bytes:,}")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _read_rooted(path: Path, max_bytes: int | None, files: SafeDirectory) -> bytes:
    try:
        data = files.read_bytes(path, None if max_bytes is None else max_bytes + 1)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    if max_bytes is not None and len(data) > max_bytes:
        raise DataError(f"{path} has more than {max_bytes:,} bytes; the limit is {max_bytes:,}")
    return data


def _child_nodes(node: yaml.Node) -> Iterable[yaml.Node]:
    if node.tag not in _PLAIN_TAGS:
        raise ValueError(f"it holds a {short_repr(node.tag)}, which is not a plain value")
    if node.tag == _INT and len(node.value) > _MAX_DIGITS:
        raise ValueError(
            f"it holds a whole number of {len(node.value)} characters; the limit is {_MAX_DIGITS}"
        )
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else ()
