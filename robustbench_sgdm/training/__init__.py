"""Training: the same images, order and start for every arm of a comparison, one folder for each.

Importing this package imports Ultralytics, quietly: every submodule may then import it plainly.
"""

import robustbench_sgdm.detectors  # noqa: F401
from robustbench_sgdm.training.comparison import TrainedRun, read_comparison, read_record, runs_table, summary
from robustbench_sgdm.training.data import TrainData, named_data, scenes_data
from robustbench_sgdm.training.progress import Progress, print_epochs
from robustbench_sgdm.training.recipes import RECIPES
from robustbench_sgdm.training.run import ArmsFailed, train
from robustbench_sgdm.training.trainer import LOGGERS

__all__ = [
    "LOGGERS",
    "RECIPES",
    "ArmsFailed",
    "Progress",
    "TrainData",
    "TrainedRun",
    "named_data",
    "print_epochs",
    "read_comparison",
    "read_record",
    "runs_table",
    "scenes_data",
    "summary",
    "train",
]
