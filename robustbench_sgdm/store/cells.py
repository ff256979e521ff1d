"""Cells: the detections and scores of one model under one corruption at one severity."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.store.parquet import read_frame, read_table
from robustbench_sgdm.store.schema import Cell, CellScores

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


def cell_key(**parts: Any) -> str:
    """The content address of a cell: sha256 of its ingredients as canonical json."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def shard_size(images: int) -> int:
    """Images in a shard: what a crash can cost at the most, and small enough to keep several workers busy.

    A function of the data alone, since a run may resume with other workers than it began with.
    """
    return max(1, min(_LARGEST_SHARD, -(-images // _SHARDS)))


def shard_count(images: int) -> int:
    """How many shards a cell has.

    >>> shard_count(3), shard_count(500), shard_count(5000)
    (3, 16, 157)
    """
    return -(-images // shard_size(images))


# A table of a large run asks for every cell several times, and reading would be most of its time.
KnownScores = dict[Path, tuple[tuple[int, ...], CellScores]]
"""The scores in a file, and the state of the file that they are of."""


class CellStore:
    """Reads and writes the cells of one run directory.

    A shard holds the detections of a run of consecutive images. When a cell's shards are all there they
    are merged into `detections.parquet` and scored into `scores.json`; the latter, written last, makes
    the cell complete.
    """

    def __init__(
        self, root: Path, files: SafeDirectory | None = None, known: KnownScores | None = None
    ) -> None:
        """Args:
        root: the folder of the cells.
        files: of the run directory that it lies in; its own where it lies in none.
        known: scores that were read before; an empty one by default.
        """
        self.root = root
        self.files = files or SafeDirectory(root)
        self._known = {} if known is None else known

    def folder(self, cell: Cell) -> Path:
        """The cell's own folder."""
        return self.root / cell.folder

    def is_complete(self, cell: Cell) -> bool:
        """Whether the cell is stored, whole and made from the same ingredients."""
        return self._is_stored(cell, self._has_end)

    def verify(self, cell: Cell) -> bool:
        """As `is_complete`, its detections read and their checksums compared: a disk may lose the middle of a file."""
        return self._is_stored(cell, self._is_readable)

    def _is_stored(self, cell: Cell, check: Callable[[Path], bool]) -> bool:
        scores = self._scores(cell)
        if scores is None or scores.key != cell.key:
            return False
        return scores.detections is None or check(self.folder(cell) / "detections.parquet")

    def is_outdated(self, cell: Cell) -> bool:
        """Whether scores of other ingredients (weights, data, versions) lie where the cell belongs."""
        scores = self._scores(cell)
        return scores is not None and scores.key != cell.key

    def has_outdated_scores(self, cell: Cell, scoring: str) -> bool:
        """Whether a complete cell was scored by another version than `scoring`, and has detections to score again."""
        scores = self.read_scores(cell)
        return scores.detections is not None and scores.scoring != scoring

    def has_detections(self, cell: Cell) -> bool:
        """Whether a complete cell has its detections; one whose scores come from elsewhere has none."""
        return self.read_scores(cell).detections is not None

    def stored_shards(self, cell: Cell) -> set[int]:
        """Numbers of the shards that are there for this cell's key."""
        return self._shards(cell, self._has_end)

    def verified_shards(self, cell: Cell) -> set[int]:
        """As `stored_shards`, each read and its checksums compared."""
        return self._shards(cell, self._is_readable)

    def _shards(self, cell: Cell, check: Callable[[Path], bool]) -> set[int]:
        folder = self.folder(cell) / "shards"
        name = re.compile(rf"{re.escape(cell.key[:16])}-([0-9]{{6}})\.parquet")
        numbers = [match for match in map(name.fullmatch, self.files.names(folder)) if match]
        return {int(match[1]) for match in numbers if check(folder / match[0])}

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

    def merge_shards(self, cell: Cell, count: int) -> int:
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
            # Before the new detections take the place of the old: whenever this is interrupted, scores that are
            # there are those of the detections beside them. Not where they are of the same key: a worker that was
            # given up, and does the same as its successor, must not undo what that has completed.
            if not self.is_complete(cell):
                self.files.unlink(self.folder(cell) / "scores.json")

        self.files.write(self.folder(cell) / "detections.parquet", fill)
        return total

    def commit(
        self,
        cell: Cell,
        metrics: Mapping[str, float | None],
        per_class: Mapping[str, float | None] | None = None,
        *,
        detections: int | None,
        scoring: str = "",
    ) -> None:
        """Write `scores.json`, which makes the cell complete, and drop its shards.

        Args:
            metrics: COCO's twelve, percent.
            per_class: AP by class, percent.
            detections: how many are stored; None where the scores come from elsewhere.
            scoring: version of the code that scored them.
        """
        scores = CellScores(
            key=cell.key,
            scoring=scoring,
            metrics=dict(metrics),
            per_class=dict(per_class or {}),
            detections=detections,
        )
        scores.write(self.folder(cell) / "scores.json", self.files)
        # Not before: until the scores are there, a crash costs a merge and no prediction.
        self.drop_shards(cell)

    def drop_shards(self, cell: Cell) -> None:
        """Remove the shards of a complete cell, and those of other ingredients beside them."""
        self.files.remove_folder(self.folder(cell) / "shards")

    def read_detections(self, cell: Cell) -> pd.DataFrame:
        """The detections of a complete cell: columns image_id, category_id, score, x1, y1, x2, y2 (px).

        Raises:
            DataError: missing or damaged.
        """
        return read_frame(self.folder(cell) / "detections.parquet", _COLUMNS, self.files)

    def read_scores(self, cell: Cell) -> CellScores:
        """The scores of a complete cell.

        Raises:
            DataError: missing or damaged.
        """
        path = self.folder(cell) / "scores.json"
        try:
            about = self.files.stat(path)
        except OSError:
            about = None
        if about is None:
            return CellScores.read(path, self.files)  # which says why
        state = about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
        if path not in self._known or self._known[path][0] != state:
            self._known[path] = state, CellScores.read(path, self.files)
        return self._known[path][1]

    def _scores(self, cell: Cell) -> CellScores | None:
        try:
            return self.read_scores(cell)
        except (DataError, OSError):
            return None

    def _tables(self, cell: Cell, count: int) -> Iterator[pa.Table]:
        for number in range(count):
            try:
                yield read_table(self._shard(cell, number), _COLUMNS, self.files)
            except DataError as error:
                raise DataError(
                    f"{cell}: shard {number} of {count} is missing or damaged; run the same command again"
                ) from error

    def _shard(self, cell: Cell, number: int) -> Path:
        return self.folder(cell) / "shards" / f"{cell.key[:16]}-{number:06d}.parquet"

    def _is_readable(self, path: Path) -> bool:
        try:
            read_table(path, _COLUMNS, self.files)
        except DataError:
            return False
        return True

    def _has_end(self, path: Path) -> bool:
        """Whether a parquet file ends as one does: a disk that loses the end of a file has not lost it unseen."""
        try:
            with self.files.open(path) as file:
                file.seek(-len(_MAGIC), os.SEEK_END)
                return file.read() == _MAGIC
        except OSError:
            return False


def _regrouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in groups of one size: the file must not show how it was cut into shards."""
    rest = _COLUMNS.empty_table()
    for table in tables:
        rest = pa.concat_tables([rest, table])
        while rest.num_rows > _GROUP:
            yield rest.slice(0, _GROUP).combine_chunks()
            rest = rest.slice(_GROUP)
    yield rest.combine_chunks()
