"""The sweep: images read once, corrupted, shown to every detector, stored and scored as cells."""

from robustbench_sgdm.sweep.cluster import check_ray, on_ray
from robustbench_sgdm.sweep.damage import measure_damage, measurements
from robustbench_sgdm.sweep.engine import finish, sweep
from robustbench_sgdm.sweep.estimate import Crew, estimate
from robustbench_sgdm.sweep.executor import Executor
from robustbench_sgdm.sweep.latency import latency
from robustbench_sgdm.sweep.local import Threads, cores
from robustbench_sgdm.sweep.pictures import make_pictures
from robustbench_sgdm.sweep.plan import (
    Plan,
    Unit,
    category_ids,
    make_plan,
    match_detector,
    needed_units,
    rehearse,
    same_outputs,
)
from robustbench_sgdm.sweep.processes import Processes

__all__ = [
    "Crew",
    "Executor",
    "Plan",
    "Processes",
    "Threads",
    "Unit",
    "category_ids",
    "check_ray",
    "cores",
    "estimate",
    "finish",
    "latency",
    "make_pictures",
    "make_plan",
    "match_detector",
    "measure_damage",
    "measurements",
    "needed_units",
    "on_ray",
    "rehearse",
    "same_outputs",
    "sweep",
]
