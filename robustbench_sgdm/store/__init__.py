"""Run directories: cells written by shard, atomically; complete or absent; readable with pandas alone."""

from robustbench_sgdm.store.cells import CellStore, cell_key, shard_count, shard_size
from robustbench_sgdm.store.commands import resume_command
from robustbench_sgdm.store.corrupted_images import has_image, image_path, read_image, write_image
from robustbench_sgdm.store.garbage import StaleFile, find_stale_files, remove_stale_files
from robustbench_sgdm.store.ground_truth import GroundTruth
from robustbench_sgdm.store.joining import join_runs
from robustbench_sgdm.store.locks import is_locked
from robustbench_sgdm.store.runs import (
    IMAGE_QUALITY,
    Run,
    describe_state,
    is_run,
    list_runs,
    match_seeds,
)
from robustbench_sgdm.store.schema import (
    MANIFEST,
    SCHEMA,
    Cell,
    CellScores,
    CorruptionInfo,
    DatasetInfo,
    Manifest,
    ModelInfo,
    Settings,
)
from robustbench_sgdm.store.sharing import SharedStore, TakenOverError, revoke_workers, share_store
from robustbench_sgdm.store.training_logs import (
    LOSSES,
    LogGroup,
    TrainingLog,
    group_logs,
    logs_without_record,
    read_logs,
)

__all__ = [
    "IMAGE_QUALITY",
    "LOSSES",
    "MANIFEST",
    "SCHEMA",
    "Cell",
    "CellScores",
    "CellStore",
    "CorruptionInfo",
    "DatasetInfo",
    "GroundTruth",
    "LogGroup",
    "Manifest",
    "ModelInfo",
    "Run",
    "Settings",
    "SharedStore",
    "StaleFile",
    "TakenOverError",
    "TrainingLog",
    "cell_key",
    "describe_state",
    "find_stale_files",
    "group_logs",
    "has_image",
    "image_path",
    "is_locked",
    "is_run",
    "join_runs",
    "list_runs",
    "logs_without_record",
    "match_seeds",
    "read_image",
    "read_logs",
    "remove_stale_files",
    "resume_command",
    "revoke_workers",
    "shard_count",
    "shard_size",
    "share_store",
    "write_image",
]
