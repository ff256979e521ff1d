"""Which objects a cell finds at a confidence: what flips and first failures are made of."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from robustbench_sgdm.core import errors
from robustbench_sgdm.robustness.matching import match_objects
from robustbench_sgdm.robustness.outcomes import sort_truth
from robustbench_sgdm.store import Cell, Run
from robustbench_sgdm.store.parquet import read_table

_VERSION = b"1"  # of the cached files; those of another version are computed again
_FOUND_SCHEMA = pa.schema([("found", pa.bool_())])


class FoundObjects:
    """Which objects each cell finds, cached in the run directory."""

    def __init__(self, run: Run, confidence: float) -> None:
        """Find objects with boxes of at least a confidence."""
        self.run = run
        self.confidence = confidence
        self.truth = run.ground_truth()
        self._sorted = sort_truth(self.truth)
        self._by_cell: dict[Cell, NDArray[np.bool_]] = {}

    def __call__(self, cell: Cell) -> NDArray[np.bool_]:
        """(g,) for the objects in order of annotation; never a crowd."""
        if cell not in self._by_cell:
            self._by_cell[cell] = self._load(cell)
        return self._by_cell[cell]

    def _load(self, cell: Cell) -> NDArray[np.bool_]:
        file = self.run.statistics_folder(cell) / f"found-{self.confidence:g}.parquet"
        stamp = {
            b"key": cell.key.encode(),
            b"version": _VERSION,
            b"confidence": repr(self.confidence).encode(),  # the name of the file has only six digits of it
        }
        cached = _read_cached(self.run, file, stamp)
        if cached is not None and len(cached) == len(self.truth.annotations):
            return cached
        found = self._find(cell)
        table = pa.table({"found": found}, _FOUND_SCHEMA.with_metadata(stamp))
        self.run.files.write(file, lambda new: pq.write_table(table, new, compression="none"), sync=False)
        return found

    def _find(self, cell: Cell) -> NDArray[np.bool_]:
        boxes = self.run.store.read_detections(cell)
        indices = match_objects(self._sorted, boxes[boxes["score"] >= self.confidence])
        objects = np.zeros(len(self.truth.annotations), bool)
        objects[indices[indices >= 0]] = True
        return objects & (self.truth.annotations["iscrowd"] == 0).to_numpy()


def _read_cached(run: Run, path: Path, stamp: Mapping[bytes, bytes]) -> NDArray[np.bool_] | None:
    """The cached values, if they have this stamp."""
    try:
        table = read_table(path, _FOUND_SCHEMA, run.files)
    except errors.DataError:
        return None
    values: NDArray[np.bool_] = table["found"].to_numpy()
    return values if {k: (table.schema.metadata or {}).get(k) for k in stamp} == stamp else None
