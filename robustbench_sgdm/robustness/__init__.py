"""Statistics of stored runs: aggregates, intervals, significance, error types, flips. Reads only the store.

summary(run)                        # P, mPC, rPC and mCE of every model, metric and set of corruptions
bootstrap_intervals(run).table()    # the same, every cell and each difference, with intervals and p-values
error_types(run)                    # what each type of error costs, cell by cell
find_flips(run, a, b)               # the objects that noise takes from one model and leaves the other
"""

from robustbench_sgdm.robustness.aggregates import (
    CorruptionSet,
    average_trainings,
    class_scores,
    corruption_sets,
    primary_metric,
    summarize,
    summary,
)
from robustbench_sgdm.robustness.by_class import (
    CLASS_METRICS,
    FEW_OBJECTS,
    class_intervals,
    has_class_intervals,
)
from robustbench_sgdm.robustness.error_analysis import (
    ERROR_TYPES,
    OBJECT_OUTCOMES,
    calibration,
    calibration_bins,
    error_types,
)
from robustbench_sgdm.robustness.first_failure import FirstFailures, first_failures
from robustbench_sgdm.robustness.flips import Flips, find_flips, mcnemar_p_value
from robustbench_sgdm.robustness.half_severity import half_severities
from robustbench_sgdm.robustness.identical_pairs import find_identical_pairs, why_identical
from robustbench_sgdm.robustness.inference import Intervals
from robustbench_sgdm.robustness.joined_runs import bootstrap_intervals, unique_model_names
from robustbench_sgdm.robustness.mean_curve import curve_set, mean_curve
from robustbench_sgdm.robustness.measures import MEASURES, lower_is_better, maximum, measures
from robustbench_sgdm.robustness.operating_point import (
    PooledBoxes,
    check_confidence,
    confusion_matrix,
    operating_confidences,
    pool_boxes,
    precision_recall,
    reliability,
)
from robustbench_sgdm.robustness.outcomes import CONFIDENCE, Outcomes, match_outcomes
from robustbench_sgdm.robustness.point_estimates import point_estimates
from robustbench_sgdm.robustness.ranking import compare_leaders, rank_networks
from robustbench_sgdm.robustness.resample_cache import (
    BootstrapSamples,
    check_comparable,
    has_cached_samples,
    load_means,
)
from robustbench_sgdm.robustness.resampling import METRICS
from robustbench_sgdm.robustness.shift import shift_table
from robustbench_sgdm.robustness.significance import holm, mark_significant
from robustbench_sgdm.robustness.sizes import COCO_SIZES, Sizes

__all__ = [
    "CLASS_METRICS",
    "COCO_SIZES",
    "CONFIDENCE",
    "ERROR_TYPES",
    "FEW_OBJECTS",
    "MEASURES",
    "METRICS",
    "OBJECT_OUTCOMES",
    "BootstrapSamples",
    "CorruptionSet",
    "FirstFailures",
    "Flips",
    "Intervals",
    "Outcomes",
    "PooledBoxes",
    "Sizes",
    "average_trainings",
    "bootstrap_intervals",
    "calibration",
    "calibration_bins",
    "check_comparable",
    "check_confidence",
    "class_intervals",
    "class_scores",
    "compare_leaders",
    "confusion_matrix",
    "corruption_sets",
    "curve_set",
    "error_types",
    "find_flips",
    "find_identical_pairs",
    "first_failures",
    "half_severities",
    "has_cached_samples",
    "has_class_intervals",
    "holm",
    "load_means",
    "lower_is_better",
    "mark_significant",
    "match_outcomes",
    "maximum",
    "mcnemar_p_value",
    "mean_curve",
    "measures",
    "operating_confidences",
    "point_estimates",
    "pool_boxes",
    "precision_recall",
    "primary_metric",
    "rank_networks",
    "reliability",
    "shift_table",
    "summarize",
    "summary",
    "unique_model_names",
    "why_identical",
]
