"""What a run shows, how sure that is, and what the noise breaks; all from the store alone.

summary(run)              # P, mPC, rPC and mCE of every model, metric and set of corruptions
bootstrap(run).table()    # the same and every cell, each difference, with intervals and p-values
error_types(run)          # what each kind of error costs, cell by cell
flips(run, a, b)          # the objects that noise takes from one model and leaves the other
"""

from robustbench_sgdm.robustness.aggregates import (
    Over,
    average_trainings,
    classes,
    headline,
    sets,
    summarize,
    summary,
)
from robustbench_sgdm.robustness.bootstrap import Draws, comparable, kept
from robustbench_sgdm.robustness.diagnosis import ERRORS, OBJECTS, calibration, calibration_bins, error_types
from robustbench_sgdm.robustness.flips import Flips, flips, mcnemar
from robustbench_sgdm.robustness.halflife import half_lives
from robustbench_sgdm.robustness.identity import identical, why_identical
from robustbench_sgdm.robustness.intervals import Intervals, bootstrap, model_names
from robustbench_sgdm.robustness.outcomes import CONFIDENCE, Outcomes, outcomes
from robustbench_sgdm.robustness.resampling import METRICS
from robustbench_sgdm.robustness.statistics import decide, holm

__all__ = [
    "CONFIDENCE",
    "ERRORS",
    "METRICS",
    "OBJECTS",
    "Draws",
    "Flips",
    "Intervals",
    "Outcomes",
    "Over",
    "average_trainings",
    "bootstrap",
    "calibration",
    "calibration_bins",
    "classes",
    "comparable",
    "decide",
    "error_types",
    "flips",
    "half_lives",
    "headline",
    "holm",
    "identical",
    "kept",
    "mcnemar",
    "model_names",
    "outcomes",
    "sets",
    "summarize",
    "summary",
    "why_identical",
]
