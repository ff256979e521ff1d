"""Cells: what one model found and scored under one corruption at one severity."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.store.checks import read_frame, read_scores, read_table

_LARGEST_SHARD = 32
_SHARDS = 16
_MAGIC = b"PAR1"
_COLUMNS = pa.schema(
    [
        ("image_id", pa.int64()),
        ("category_id", pa.int64()),
        ("score", pa.float32()),
        ("x1", pa.float32()),
        ("y1", pa.float32()),
        ("x2", pa.float32()),
        ("y2", pa.float32()),
    ]
)

_GROUP = 2**17  # rows, of 36 bytes: what merging holds at a time
_FORMAT: dict[str, Any] = {
    "use_dictionary": ["image_id", "category_id"],  # boxes and scores hardly repeat
    "write_page_checksum": True,
}


@dataclass(frozen=True, order=True)
class Cell:
    """(model, corruption, severity) and the key: the hash of everything its content depends on."""

    model: str
    corruption: str
    severity: float
    key: str

    @property
    def folder(self) -> Path:
        """Where it lies below `cells/`."""
        return Path(self.model) / self.corruption / f"{self.severity:g}"

    def __str__(self) -> str:
        return f"{self.model} under {self.corruption} at severity {self.severity:g}"


def cell_key(**parts: Any) -> str:
    """The content address of a cell: sha256 of its ingredients as canonical json."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def shard_size(images: int) -> int:
    """Images in a shard: what a crash can cost at the most, and small enough to keep several workers busy.

    A function of the data alone, since a run may go on with other workers than it began with.
    """
    return max(1, min(_LARGEST_SHARD, -(-images // _SHARDS)))


def shard_count(images: int) -> int:
    """How many shards a cell has.

    >>> shard_count(3), shard_count(500), shard_count(5000)
    (3, 16, 157)
    """
    return -(-images // shard_size(images))


class CellStore:
    """Reads and writes the cells of one run directory.

    A shard holds the detections of a run of consecutive images. When a cell's shards are all there they
    are merged into `detections.parquet` and scored into `scores.json`; the latter, written last, makes
    the cell complete.
    """

    def __init__(self, root: Path, files: SafeDirectory | None = None) -> None:
        """Args:
        root: the folder of the cells.
        files: of the run directory that it lies in; its own where it lies in none.
        """
        self.root = root
        self.files = files or SafeDirectory(root)

    def folder(self, cell: Cell) -> Path:
        """The cell's own folder."""
        return self.root / cell.folder

    def complete(self, cell: Cell) -> bool:
        """Whether the cell is stored, whole and made from the same ingredients."""
        try:
            scores = self.scores(cell)
        except (DataError, OSError):
            return False
        return scores.get("key") == cell.key and (
            not _has_detections(scores) or self._whole(self.folder(cell) / "detections.parquet")
        )

    def sound(self, cell: Cell) -> bool:
        """As `complete`, its detections read and their checksums compared: a disk may lose the middle of a file too."""
        return self.complete(cell) and (
            not self.has_detections(cell) or self._sound(self.folder(cell) / "detections.parquet")
        )

    def stale(self, cell: Cell) -> bool:
        """Whether scores of other ingredients (weights, data, code) lie where the cell belongs."""
        try:
            return self.scores(cell).get("key") != cell.key
        except (DataError, OSError):
            return False

    def has_old_scores(self, cell: Cell, scoring: str) -> bool:
        """Whether a complete cell was scored in another way than `scoring`, and has detections to score anew."""
        scores = self.scores(cell)
        return _has_detections(scores) and scores.get("scoring") != scoring

    def has_detections(self, cell: Cell) -> bool:
        """Whether a complete cell has its detections; one whose scores come from elsewhere has none."""
        return _has_detections(self.scores(cell))

    def shards(self, cell: Cell) -> set[int]:
        """Numbers of the shards that are there for this cell's key."""
        return {int(f.stem.rpartition("-")[2]) for f in self._shards(cell) if self._whole(f)}

    def sound_shards(self, cell: Cell) -> set[int]:
        """As `shards`, each read and its checksums compared."""
        return {int(f.stem.rpartition("-")[2]) for f in self._shards(cell) if self._sound(f)}

    def write_shard(self, cell: Cell, number: int, rows: Mapping[str, Any]) -> None:
        """Store one shard: columns image_id, category_id, score, x1, y1, x2, y2 (px)."""
        table = pa.table(dict(rows), schema=_COLUMNS)
        self.files.write(self._shard(cell, number), lambda file: pq.write_table(table, file, **_FORMAT))

    def read_shards(self, cell: Cell, count: int) -> Iterator[pd.DataFrame]:
        """The rows of the cell's shards 0 to count - 1, one shard at a time.

        Raises:
            DataError: a shard is missing or cannot be read.
        """
        for table in self._tables(cell, count):
            yield table.to_pandas()

    def merge(self, cell: Cell, count: int) -> int:
        """Join the cell's shards 0 to count - 1 into `detections.parquet`; gives how many rows it has.

        Raises:
            DataError: a shard is missing or cannot be read.
        """
        total = 0

        def fill(file: BinaryIO) -> None:
            nonlocal total
            with pq.ParquetWriter(file, _COLUMNS, **_FORMAT) as writer:
                for table in _regrouped(self._tables(cell, count)):
                    writer.write_table(table)
                    total += table.num_rows
            # Scores of older detections must not meet new ones, wherever this is interrupted.
            self.files.unlink(self.folder(cell) / "scores.json")

        self.files.write(self.folder(cell) / "detections.parquet", fill)
        return total

    def finish(self, cell: Cell, scores: Mapping[str, Any]) -> None:
        """Write `scores.json`, which makes the cell complete, and drop its shards."""
        self.files.write_json(self.folder(cell) / "scores.json", {"key": cell.key, **scores})
        self.drop_shards(cell)

    def drop_shards(self, cell: Cell) -> None:
        """Remove the shards of a complete cell, and those of other ingredients beside them."""
        self.files.remove_folder(self.folder(cell) / "shards")

    def detections(self, cell: Cell) -> pd.DataFrame:
        """The detections of a complete cell."""
        return read_frame(self.folder(cell) / "detections.parquet", _COLUMNS, self.files)

    def scores(self, cell: Cell) -> dict[str, Any]:
        """`scores.json` of a complete cell."""
        return read_scores(self.folder(cell) / "scores.json", self.files)

    def _tables(self, cell: Cell, count: int) -> Iterator[pa.Table]:
        for number in range(count):
            try:
                yield read_table(self._shard(cell, number), _COLUMNS, self.files)
            except DataError as error:
                raise DataError(
                    f"{cell}: shard {number} of {count} is missing or damaged; start again with the same command"
                ) from error

    def _shards(self, cell: Cell) -> Iterator[Path]:
        folder, ours = (
            self.folder(cell) / "shards",
            re.compile(rf"{re.escape(cell.key[:16])}-[0-9]{{6}}\.parquet"),
        )
        return (folder / name for name in self.files.names(folder) if ours.fullmatch(name))

    def _shard(self, cell: Cell, number: int) -> Path:
        return self.folder(cell) / "shards" / f"{cell.key[:16]}-{number:06d}.parquet"

    def _sound(self, path: Path) -> bool:
        try:
            read_table(path, _COLUMNS, self.files)
        except DataError:
            return False
        return True

    def _whole(self, path: Path) -> bool:
        """Whether a parquet file ends as one does: a disk that loses the end of a file has not lost it unseen."""
        try:
            with self.files.open(path) as file:
                file.seek(-len(_MAGIC), os.SEEK_END)
                return file.read() == _MAGIC
        except OSError:
            return False


def _has_detections(scores: Mapping[str, Any]) -> bool:
    return scores.get("detections", 0) is not None


def _regrouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in groups of one size: the file must not show how it was cut into shards."""
    held = _COLUMNS.empty_table()
    for table in tables:
        held = pa.concat_tables([held, table])
        while held.num_rows > _GROUP:
            yield held.slice(0, _GROUP).combine_chunks()
            held = held.slice(_GROUP)
    yield held.combine_chunks()
