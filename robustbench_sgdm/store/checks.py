"""What a run directory may hold: it may come from a stranger, and everything that reads it relies on this."""

import contextlib
import csv
import io
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from robustbench_sgdm.core.constants import METRICS
from robustbench_sgdm.core.errors import DataError, UnsafeFileError
from robustbench_sgdm.core.escaping import from_csv
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.core.untrusted_input import read_bytes, read_json, short_repr, validate_class_name
from robustbench_sgdm.store import parquet_pages

_LONGEST = 200  # bytes of a folder's name, with room for what is put before it and after it
_ROWS = 100_000  # a parquet file of more must have a byte for each: a few bytes can claim any number of equal rows
_FOOTER = 2**20  # bytes; that of a hundred million rows
_TEXT = 2**26  # bytes of a column of text; more only in files of a thirtieth
_MAGIC = b"PAR1"
_CSV_BYTES, _CSV_COLUMNS = 2**23, 1000
_JSON_BYTES = 2**22  # of scores; those of 20,000 classes take a quarter
_MODELS, _CORRUPTIONS = 1000, 1000  # of a plan
_PAIRS = 10_000  # models times corruptions, which tables have rows for
_RANGES: Mapping[str, tuple[float, float]] = {  # those of detections, and of a data set's json
    **dict.fromkeys(("image_id", "category_id"), (0, 2**53 - 1)),
    **dict.fromkeys(("width", "height"), (1, 2**31 - 1)),
    **dict.fromkeys(("x", "y"), (-1e9, 1e9)),
    **dict.fromkeys(("w", "h"), (-1e9, 1e9)),  # a few inverted boxes are scored as they are
    **{"area": (-1e18, 1e18), "iscrowd": (0, 1), "score": (0, 1)},
}
_PARTS: dict[str, type] = {"models": dict, "data": dict, "corruptions": dict, "settings": dict, "cells": list}
_FIELDS: dict[
    str, tuple[dict[str, type | tuple[type, ...]], tuple[str, ...]]
] = {  # kinds, and which must be there
    "data": (
        {
            **dict.fromkeys(("name", "truth", "source", "fingerprint"), str),
            **dict.fromkeys(("images", "boxes"), int),
            "notes": list,
        },
        ("name", "images"),
    ),
    "settings": ({"engine": str, "seed": int, "device": str}, ("engine", "seed")),
    "models": (
        {
            "baseline": (str, type(None)),
            "group": str,
            "seed": int,
            "module": (str, type(None)),
            "parameters": int,
            "weights": str,
            "fingerprint": str,
            "notes": list,
            "unmatched": list,
            "unfound": list,
        },
        (),
    ),
    "corruptions": (
        {"family": str, "summary": str, "source": str, "strengths": dict, "fingerprint": str},
        (),
    ),
}


def check_plan(plan: Mapping[str, Any], file: Path) -> None:
    """Refuse a plan whose parts are not what their readers take them for.

    Raises:
        DataError: says which part.
    """
    for key, kind in _PARTS.items():
        if not isinstance(plan.get(key), kind):
            raise _damaged(file, f"{key!r} is no {kind.__name__}")
    for part in ("data", "settings"):
        _check_fields(plan[part], part, part, file)
    _check_text(plan["data"]["name"], "the data's name is", file)
    for part in ("models", "corruptions"):
        for name, about in plan[part].items():
            try:
                where = f"{part} {short_repr(validate_class_name(name))}"
            except ValueError as error:
                raise _damaged(file, f"in {part} {error}") from error
            if not isinstance(name, str) or not isinstance(about, dict):
                raise _damaged(file, f"{where} is not described")
            _check_fields(about, part, where, file)
            for text in (about.get("family", ""), *map(str, about.get("strengths", {}).values())):
                _check_text(text, f"{where} names", file)
    _check_groups(plan["models"], file)
    for part in ("versions", "hardware"):
        if not isinstance(plan.get(part, {}), dict):
            raise _damaged(file, f"{part!r} is no dict")


def check_cell(cell: Any, file: Path) -> None:
    """Refuse a cell that would lie outside the run directory, or that no run makes.

    Raises:
        DataError: says why.
    """
    for part in (cell.model, cell.corruption):
        plain = (
            Path(part).name == part
            and part not in {"", ".", ".."}
            and "\\" not in part
            and part.isprintable()
        )
        if not plain or len(part.encode("utf-8", "replace")) > _LONGEST:
            raise DataError(f"{file} names {short_repr(part)}, which is no plain folder name")
    if not 0 <= cell.severity <= 5:
        raise DataError(f"{file} names severity {cell.severity:g}, which is outside [0, 5]")
    if not cell.key or not cell.key.isprintable() or "/" in cell.key or "\\" in cell.key:
        raise DataError(f"{file} names the key {short_repr(cell.key)}, which is no hash")


def check_names(models: Collection[str], corruptions: Collection[str], file: Path) -> None:
    """Refuse a plan of more models and corruptions than any run has: results take their product, whatever is stored.

    Raises:
        DataError: says how many.
    """
    for what, names, most in (("models", models, _MODELS), ("corruptions", corruptions, _CORRUPTIONS)):
        if len(names) > most:
            raise DataError(f"{file} names {len(names):,} {what}, may name {most:,}; split the run")
    if (pairs := len(models) * len(corruptions)) > _PAIRS:
        raise DataError(
            f"{file} names {len(models):,} models and {len(corruptions):,} corruptions, {pairs:,} pairs of them; may "
            f"name {_PAIRS:,}: split the run"
        )


def read_scores(path: Path, files: SafeDirectory) -> dict[str, Any]:
    """A cell's `scores.json`, or the `result.json` of a training run.

    Args:
        path: the file.
        files: of the directory that it lies in.

    Raises:
        DataError: missing, damaged, or no scores.
    """
    content = read_json(path, _JSON_BYTES, files)
    if not isinstance(content, dict):
        raise DataError(f"{path} does not hold an object; delete it and run again")
    metrics, classes, count = (content.get(key) for key in ("metrics", "per_class", "detections"))
    sound = (
        isinstance(metrics, dict)
        and isinstance(classes, dict)
        and all(metric in metrics for metric in METRICS)
        and all(map(_is_score, (*metrics.values(), *classes.values())))
        and (count is None or (type(count) is int and 0 <= count < 2**53))
    )
    if not sound:
        raise DataError(f"{path} does not hold the scores of a detector; delete it and run again")
    return content


def read_frame(path: Path, schema: pa.Schema, files: SafeDirectory) -> pd.DataFrame:
    """A parquet file's rows.

    Args:
        path: the file.
        schema: its columns.
        files: of the directory that it lies in.

    Raises:
        DataError: missing, damaged, of other columns, with gaps, not finite, or larger than it can hold.
    """
    frame: pd.DataFrame = read_table(path, schema, files).to_pandas()
    return frame


def read_table(path: Path, schema: pa.Schema, files: SafeDirectory, *, gaps: bool = False) -> pa.Table:
    """As `read_frame`, the table; `gaps` allows empty places and what is not finite."""
    try:
        with files.open(path) as content:
            size = os.fstat(content.fileno()).st_size
            _check_footer(content, size)
            texts = [field.name for field in schema if pa.types.is_string(field.type)]
            claims = pq.ParquetFile(content)
            _check_claims(claims, schema, size)
            parquet_pages.check(claims, content, size, schema.names)
            file = pq.ParquetFile(
                content, metadata=claims.metadata, read_dictionary=texts, page_checksum_verification=True
            )
            table = file.read(schema.names).select(schema.names)
            for name in texts:
                if (held := _expanded(table[name])) > max(_TEXT, 30 * size):
                    raise ValueError(f"{name} stands for {held:,} bytes of text, in a file of {size:,}")
            table = table.cast(schema.with_metadata(table.schema.metadata))
        for name, column in zip(table.column_names, table.columns, strict=True) if not gaps else ():
            if column.null_count:
                raise ValueError(f"{name} has gaps")
            if pa.types.is_floating(column.type) and not np.isfinite(column.to_numpy()).all():
                raise ValueError(f"{name} is not finite")
            if name in _RANGES and not column.to_pandas().between(*_RANGES[name]).all():
                raise ValueError("{} is not from {:g} to {:g}".format(name, *_RANGES[name]))
    except UnsafeFileError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path} cannot be read (no such file); delete it and run again") from error
    except Exception as error:  # whatever the bytes of a damaged file provoke
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"{path} cannot be read ({reason}); delete it and run again") from error
    return table


def _check_footer(content: IO[bytes], size: int) -> None:
    """What a parquet file says of itself takes a hundred times its bytes in memory."""
    content.seek(max(0, size - 8))
    length, magic = content.read(4), content.read()
    if magic != _MAGIC:
        raise ValueError("it does not end as a parquet file does")
    if (footer := int.from_bytes(length, "little")) > min(_FOOTER, size):
        raise ValueError(f"its footer claims {footer:,} bytes, may have {min(_FOOTER, size):,}")
    content.seek(0)


def _check_claims(file: pq.ParquetFile, schema: pa.Schema, size: int) -> None:
    """Refuse what `write_table` does not write: reading relies on these numbers, and a file may claim any."""
    found, claims = file.schema_arrow, file.metadata
    for field in schema:
        if found.names.count(field.name) != 1 or found.field(field.name).type != field.type:
            raise ValueError(f"it has no column {field.name} of {field.type}")
    bits = all(
        pa.types.is_boolean(field.type) for field in schema
    )  # a row of which takes one, if not compressed
    if claims.num_rows > max(_ROWS, size * 8 if bits else size):
        raise ValueError(f"it claims {claims.num_rows:,} rows")
    total = 0
    for group in map(claims.row_group, range(claims.num_row_groups)):
        total += group.num_rows
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema in schema.names and column.num_values != group.num_rows:
                raise ValueError(f"it claims {column.num_values:,} values in {group.num_rows:,} rows")
    if total != claims.num_rows:
        raise ValueError(f"it claims {claims.num_rows:,} rows, and {total:,} in groups")


def _expanded(column: pa.ChunkedArray) -> int:
    """Bytes of a column of text whose values are numbers in dictionaries."""
    total = 0
    for part in column.chunks:
        counts = pc.value_counts(part.indices.drop_null())
        lengths = pc.binary_length(part.dictionary).take(counts.field("values"))
        total += pc.sum(pc.multiply(lengths.cast(pa.int64()), counts.field("counts"))).as_py() or 0
    return total


def stamp(path: Path, key: str, files: SafeDirectory) -> str | None:
    """What a parquet file says of itself under a key; "" where it says nothing, None where it cannot be read.

    Args:
        path: the file.
        key: of its metadata.
        files: of the directory that it lies in.
    """
    schema = _schema(path, files)
    try:
        return None if schema is None else str((schema.metadata or {}).get(key.encode(), b"").decode())
    except ValueError:
        return None


def columns(path: Path, files: SafeDirectory) -> list[str]:
    """Names of a parquet file's columns; none where it cannot be read."""
    schema = _schema(path, files)
    return [] if schema is None else list(schema.names)


def _schema(path: Path, files: SafeDirectory) -> pa.Schema | None:
    try:
        with files.open(path) as content:
            _check_footer(content, os.fstat(content.fileno()).st_size)
            return pq.read_schema(content)
    except (OSError, ValueError, pa.ArrowException):
        return None


def read_csv(path: Path, kinds: Mapping[str, str], files: SafeDirectory) -> pd.DataFrame:
    """A table of these columns and kinds; without rows where there is none, or none that can be read.

    Args:
        path: the file.
        kinds: of its columns.
        files: of the directory that it lies in.
    """
    texts = [name for name, kind in kinds.items() if kind == "object"]
    with contextlib.suppress(DataError, ValueError, LookupError, TypeError, OverflowError):
        frame = parse_csv(path, files, converters=dict.fromkeys(texts, from_csv))
        return frame[list(kinds)].astype(kinds)
    return pd.DataFrame(columns=list(kinds)).astype(kinds)


def parse_csv(path: Path, files: SafeDirectory | None = None, **how: Any) -> pd.DataFrame:
    """The rows of a csv file, with the names in its first line.

    Args:
        path: the file.
        files: of the directory that it lies in, if it lies in a run or a comparison.
        how: further arguments of `pandas.read_csv`.

    Raises:
        DataError: missing, no plain file, over `_CSV_BYTES` or `_CSV_COLUMNS`, of more places than bytes, or no csv.
    """
    data = read_bytes(path, _CSV_BYTES, files)
    try:
        text = data.decode("utf-8-sig")
        # A table takes a kilobyte for each column, as long as a row, and a place in each row for every column.
        rows = widest = 0
        for row in csv.reader(io.StringIO(text)):
            rows, widest = rows + 1, max(widest, len(row))
            if widest > _CSV_COLUMNS:
                raise ValueError(f"it has {widest:,} columns, may have {_CSV_COLUMNS:,}")
        if rows * widest > max(_ROWS, len(text)):
            raise ValueError(f"it has {rows:,} rows of {widest:,} columns, most of them empty")
        frame: pd.DataFrame = pd.read_csv(io.StringIO(text), skipinitialspace=True, **how)
    except Exception as error:  # whatever the text of a damaged file provokes
        raise DataError(f"{path} cannot be read as csv: {' '.join(str(error).split())[:300]}") from error
    return frame


def _check_fields(found: Mapping[str, Any], part: str, where: str, file: Path) -> None:
    kinds, needed = _FIELDS[part]
    for key, kind in kinds.items():
        value = found.get(key)
        sound = isinstance(value, kind) and not isinstance(value, bool)
        if not sound and (key in found or key in needed):
            raise _damaged(file, f"{key!r} of {where} is {short_repr(value)}")


def _check_text(text: str, what: str, file: Path) -> None:
    """Refuse a text that no table can hold."""
    try:
        text.encode("utf-8")
    except ValueError as error:
        raise _damaged(file, f"{what} {short_repr(text)}, which holds half a surrogate pair") from error


def _check_groups(models: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    """A group of trainings has a name of its own, or that of one of them."""
    for name, about in models.items():
        if not (group := about.get("group")):
            continue
        try:
            validate_class_name(group)
        except ValueError as error:
            raise _damaged(file, f"the group of {short_repr(name)} is called so: {error}") from error
        if group in models and models[group].get("group") != group:
            raise _damaged(
                file, f"{short_repr(name)} is of group {short_repr(group)}, which is another model"
            )


def _damaged(file: Path, what: str) -> DataError:
    return DataError(f"{file} is damaged: {what}; run again under another --name")


def _is_score(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and abs(value) <= 1000)  # percent; NaN is not
