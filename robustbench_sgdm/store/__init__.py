"""Run directories: cells written by shard, atomically; complete or absent; readable with pandas alone."""

from robustbench_sgdm.store.cells import Cell, CellStore, cell_key
from robustbench_sgdm.store.logs import Log, read_logs
from robustbench_sgdm.store.runs import SCHEMA, Run, list_runs
from robustbench_sgdm.store.truth import GroundTruth

__all__ = ["SCHEMA", "Cell", "CellStore", "GroundTruth", "Log", "Run", "cell_key", "list_runs", "read_logs"]
