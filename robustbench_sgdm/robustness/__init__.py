"""What a run shows: P, mPC, rPC, mCE, and the paired bootstrap that says how sure they are.

summary(run)              # P, mPC, rPC and mCE of every model, metric and set of corruptions
bootstrap(run).table()    # the same and every cell, each difference, with intervals and p-values
"""

from robustbench_sgdm.robustness.aggregates import Over, classes, headline, sets, summarize, summary
from robustbench_sgdm.robustness.bootstrap import Draws, comparable
from robustbench_sgdm.robustness.intervals import Intervals, bootstrap
from robustbench_sgdm.robustness.resampling import METRICS

__all__ = [
    "METRICS",
    "Draws",
    "Intervals",
    "Over",
    "bootstrap",
    "classes",
    "comparable",
    "headline",
    "sets",
    "summarize",
    "summary",
]
