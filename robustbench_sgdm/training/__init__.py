"""Training: the same images, order and start for every arm of a comparison, one folder for each.

Importing this package imports Ultralytics, quietly: every submodule may then import it plainly.
"""

import robustbench_sgdm.detectors  # noqa: F401
from robustbench_sgdm.training.data import TrainData, scenes_data
from robustbench_sgdm.training.progress import Progress, print_epochs
from robustbench_sgdm.training.recipes import RECIPES
from robustbench_sgdm.training.run import TrainedRun, train

__all__ = ["RECIPES", "Progress", "TrainData", "TrainedRun", "print_epochs", "scenes_data", "train"]
