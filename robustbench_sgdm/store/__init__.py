"""Run directories: cells written by shard, atomically; complete or absent; readable with pandas alone."""

from robustbench_sgdm.store.cells import Cell, CellStore, cell_key, shard_count, shard_size
from robustbench_sgdm.store.cleaning import Litter, find_litter, remove_litter
from robustbench_sgdm.store.commands import repeat_command
from robustbench_sgdm.store.locks import held
from robustbench_sgdm.store.logs import LOSSES, Log, LogGroup, group_logs, read_logs, unrecorded
from robustbench_sgdm.store.pictures import has_picture, keep_picture, picture_path, read_picture
from robustbench_sgdm.store.runs import IMAGE_QUALITY, SCHEMA, Run, list_runs, same_seeds
from robustbench_sgdm.store.truth import GroundTruth

__all__ = [
    "IMAGE_QUALITY",
    "LOSSES",
    "SCHEMA",
    "Cell",
    "CellStore",
    "GroundTruth",
    "Litter",
    "Log",
    "LogGroup",
    "Run",
    "cell_key",
    "find_litter",
    "group_logs",
    "has_picture",
    "held",
    "keep_picture",
    "list_runs",
    "picture_path",
    "read_logs",
    "read_picture",
    "remove_litter",
    "repeat_command",
    "same_seeds",
    "shard_count",
    "shard_size",
    "unrecorded",
]
