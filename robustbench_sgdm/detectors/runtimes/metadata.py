"""What an exported file says of itself, and class names that the user gives for one that says none."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.core.untrusted_input import (
    read_bytes,
    read_json,
    read_yaml,
    short_repr,
    validate_class_name,
)

_MAX_TEXT = 2**20  # characters of one value; 20,000 class names take half
_MAX_CLASSES = 20_000
_MAX_NAMES_BYTES = 4 * 2**20


@dataclass(frozen=True)
class FileMetadata:
    """What Ultralytics writes into an export; each None or False where a file does not say it.

    Attributes:
        classes: names in label order.
        imgsz: side of the square it was exported for (px).
        task: such as `detect`.
        head: class of the last layer, such as `RTDETRDecoder`.
        is_end_to_end: it puts out boxes that need no suppression.
        has_nms: suppression is inside the file, at thresholds of its export.
        is_ultralytics: the file is Ultralytics' or ours.
    """

    classes: tuple[str, ...] | None = None
    imgsz: int | None = None
    task: str | None = None
    head: str | None = None
    is_end_to_end: bool = False
    has_nms: bool = False
    is_ultralytics: bool = False


def parse_metadata(fields: Mapping[str, Any]) -> FileMetadata:
    """The metadata of a file from its fields, whose values may be Python's own way to write them.

    Raises:
        DataError: a field is not what its name says.
    """
    values = {key: _value(fields[key]) for key in ("names", "imgsz", "args", "end2end") if key in fields}
    arguments = values.get("args")
    nms = isinstance(arguments, dict) and bool(arguments.get("nms"))
    return FileMetadata(
        classes=_classes(values["names"]) if values.get("names") else None,
        imgsz=_imgsz(values["imgsz"]) if "imgsz" in values else None,
        task=_text(fields.get("task")),
        head=_text(fields.get("head")),
        is_end_to_end=values.get("end2end") is True,
        has_nms=nms,
        is_ultralytics="names" in values and "stride" in fields,
    )


def read_class_names(given: str | Path | Sequence[str]) -> tuple[str, ...]:
    """Class names as the user gives them: a list, names between commas, or a file with a name in each line, a json list
    or a dataset YAML.

    Raises:
        UsageError: none, or one of two lines.
        DataError: the file cannot be read, or holds no names.
    """
    if not isinstance(given, str | Path):
        return _checked(list(given))
    path = Path(given)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):
        is_file = False
    if not is_file:
        if path.suffix.lower() in (".txt", ".json", ".yaml", ".yml", ".names"):
            raise DataError(f"--classes: there is no file {short_repr(str(given))}")
        return _checked([name.strip() for name in str(given).split(",") if name.strip()])
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        content = read_json(path, _MAX_NAMES_BYTES) if path.suffix.lower() == ".json" else read_yaml(path)
        names = content.get("names", content.get("id2label")) if isinstance(content, dict) else content
        try:
            return _classes(names)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    try:
        text = read_bytes(path, _MAX_NAMES_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: write a class name into each line") from error
    return _checked([line.strip() for line in text.splitlines() if line.strip()])


def _value(value: Any) -> Any:
    """A value that Ultralytics wrote as Python writes it; a text that is none stays a text."""
    if not isinstance(value, str):
        return value
    if len(value) > _MAX_TEXT:
        raise DataError(f"its metadata hold a text of {len(value):,} characters; the limit is {_MAX_TEXT:,}")
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def _classes(names: Any) -> tuple[str, ...]:
    """Names in label order, from a list or from a dict by label."""
    if isinstance(names, dict):
        try:
            by_label = {int(key): name for key, name in names.items()}
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"its class names are {short_repr(names)}, must be listed by label") from None
        if set(by_label) != set(range(len(names))):
            raise DataError(
                f"its class names have the labels {short_repr(sorted(by_label))}, must be 0, 1, 2, ..."
            )
        names = [by_label[label] for label in range(len(names))]
    if not isinstance(names, list | tuple):
        raise DataError(
            f"its class names are {short_repr(names)}, must be a list of texts or a dict by label"
        )
    return _checked(names, DataError)


def _checked(names: Sequence[Any], kind: type[DataError | UsageError] = UsageError) -> tuple[str, ...]:
    if not 1 <= len(names) <= _MAX_CLASSES:
        raise kind(f"{len(names):,} class names given, must be from 1 to {_MAX_CLASSES:,}")
    try:
        return tuple(validate_class_name(name) for name in names)
    except (ValueError, OverflowError) as error:
        raise kind(f"among the class names, {error}") from error


def _imgsz(value: Any) -> int | None:
    sides = value if isinstance(value, list | tuple) else [value]
    if not sides or not all(isinstance(one, int) and 0 < one < 100_000 for one in sides):
        return None
    side: int = max(sides)
    return side


def _text(value: Any) -> str | None:
    return value[:100] if isinstance(value, str) and value else None
