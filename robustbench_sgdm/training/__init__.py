"""Training: the same images, order and start for every model of a comparison, one folder for each.

Importing this package imports Ultralytics, quietly: every submodule may then import it plainly.
"""

import robustbench_sgdm.detectors  # noqa: F401
from robustbench_sgdm.training.comparison import (
    TrainedRun,
    read_comparison,
    read_recipe,
    runs_table,
    summarize_runs,
)
from robustbench_sgdm.training.data import TrainingData, load_training_data, make_scenes_data
from robustbench_sgdm.training.progress import TrainingProgress
from robustbench_sgdm.training.recipes import RECIPES
from robustbench_sgdm.training.runner import train
from robustbench_sgdm.training.trainer import LOGGERS

__all__ = [
    "LOGGERS",
    "RECIPES",
    "TrainedRun",
    "TrainingData",
    "TrainingProgress",
    "load_training_data",
    "make_scenes_data",
    "read_comparison",
    "read_recipe",
    "runs_table",
    "summarize_runs",
    "train",
]
