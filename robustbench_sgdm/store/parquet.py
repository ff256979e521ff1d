"""Parquet files of a run directory, which may come from a stranger: bounded before Arrow reads them, checked after."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from robustbench_sgdm.core.errors import DataError, UnsafeFileError
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.store import parquet_pages

_ROWS = 100_000  # a parquet file of more must have a byte for each: a few bytes can claim any number of equal rows
_FOOTER = 2**20  # bytes; that of a hundred million rows
_TEXT = 2**26  # bytes of a column of text; more only in files of a thirtieth
_MAGIC = b"PAR1"
_RANGES: Mapping[str, tuple[float, float]] = {  # those of detections, and of a data set's json
    **dict.fromkeys(("image_id", "category_id"), (0, 2**53 - 1)),
    **dict.fromkeys(("width", "height"), (1, 2**31 - 1)),
    **dict.fromkeys(("x", "y"), (-1e9, 1e9)),
    **dict.fromkeys(("w", "h"), (-1e9, 1e9)),  # a few inverted boxes are scored as they are
    **{"area": (-1e18, 1e18), "iscrowd": (0, 1), "score": (0, 1)},
}


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
                if (expanded := _text_bytes(table[name])) > max(_TEXT, 30 * size):
                    raise ValueError(f"{name} stands for {expanded:,} bytes of text, in a file of {size:,}")
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
        raise ValueError(f"its footer claims {footer:,} bytes; the limit is {min(_FOOTER, size):,}")
    content.seek(0)


def _check_claims(file: pq.ParquetFile, schema: pa.Schema, size: int) -> None:
    """Refuse what `write_table` does not write: reading relies on these numbers, and a file may claim any."""
    columns, claims = file.schema_arrow, file.metadata
    for field in schema:
        if columns.names.count(field.name) != 1 or columns.field(field.name).type != field.type:
            raise ValueError(f"it has no column {field.name} of {field.type}")
    # A row of which takes one, if not compressed.
    bits = all(pa.types.is_boolean(field.type) for field in schema)
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


def _text_bytes(column: pa.ChunkedArray) -> int:
    """Bytes of a column of text whose values are numbers in dictionaries."""
    total = 0
    for part in column.chunks:
        counts = pc.value_counts(part.indices.drop_null())
        lengths = pc.binary_length(part.dictionary).take(counts.field("values"))
        total += pc.sum(pc.multiply(lengths.cast(pa.int64()), counts.field("counts"))).as_py() or 0
    return total


def read_stamp(path: Path, key: str, files: SafeDirectory) -> str | None:
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


def column_names(path: Path, files: SafeDirectory) -> list[str]:
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
