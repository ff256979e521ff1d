"""Csv files of a run or a training, ours or anybody's: bounded before a table is made of them."""

import contextlib
import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.escaping import from_csv
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.core.untrusted_input import read_bytes

_MAX_BYTES, _MAX_COLUMNS = 2**23, 1000
_MAX_EMPTY = 100_000  # places of a table of few bytes


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
        DataError: missing, no plain file, over `_MAX_BYTES` or `_MAX_COLUMNS`, of more places than bytes, or no csv.
    """
    data = read_bytes(path, _MAX_BYTES, files)
    try:
        text = data.decode("utf-8-sig")
        # A table takes a kilobyte for each column, as long as a row, and a place in each row for every column.
        rows = widest = 0
        for row in csv.reader(io.StringIO(text)):
            rows, widest = rows + 1, max(widest, len(row))
            if widest > _MAX_COLUMNS:
                raise ValueError(f"it has {widest:,} columns; the limit is {_MAX_COLUMNS:,}")
        if rows * widest > max(_MAX_EMPTY, len(text)):
            raise ValueError(f"it has {rows:,} rows of {widest:,} columns, most of them empty")
        frame: pd.DataFrame = pd.read_csv(io.StringIO(text), skipinitialspace=True, **how)
    except Exception as error:  # whatever the text of a damaged file provokes
        raise DataError(f"{path} cannot be read as csv: {' '.join(str(error).split())[:300]}") from error
    return frame
