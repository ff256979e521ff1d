"""The sweep: images read once, corrupted, shown to every detector, stored and scored as cells."""

from robustbench_sgdm.sweep.cell_scoring import score_cell
from robustbench_sgdm.sweep.class_matching import ClassMatch, map_classes, match_detector
from robustbench_sgdm.sweep.corrupted_images import make_corrupted_images
from robustbench_sgdm.sweep.estimate import REPORT_SECONDS, Capacity, estimate_seconds
from robustbench_sgdm.sweep.executors.base import Executor
from robustbench_sgdm.sweep.executors.processes import ProcessExecutor
from robustbench_sgdm.sweep.executors.ray import check_ray_options, ray_executor
from robustbench_sgdm.sweep.executors.threads import ThreadExecutor, available_cores
from robustbench_sgdm.sweep.image_quality import count_measurements, measure_image_quality
from robustbench_sgdm.sweep.latency import measure_latency
from robustbench_sgdm.sweep.plan import Plan, WorkUnit, make_plan, pending_units
from robustbench_sgdm.sweep.preflight import check_corruptions, have_same_outputs
from robustbench_sgdm.sweep.runner import run_sweep

__all__ = [
    "REPORT_SECONDS",
    "Capacity",
    "ClassMatch",
    "Executor",
    "Plan",
    "ProcessExecutor",
    "ThreadExecutor",
    "WorkUnit",
    "available_cores",
    "check_corruptions",
    "check_ray_options",
    "count_measurements",
    "estimate_seconds",
    "have_same_outputs",
    "make_corrupted_images",
    "make_plan",
    "map_classes",
    "match_detector",
    "measure_image_quality",
    "measure_latency",
    "pending_units",
    "ray_executor",
    "run_sweep",
    "score_cell",
]
