"""Image corruptions: declared in files, collected into a registry, applied to batches.

found = load().get("gaussian_noise")
noisy = apply(found, images, severity=3, seed=0, image_ids=[139, 285])
"""

from robustbench_sgdm.core.constants import BENCHMARK, HOLDOUT
from robustbench_sgdm.corruption.declare import (
    FAMILIES,
    MAX_SEVERITY,
    Declaration,
    Function,
    Parameter,
    corruption,
)
from robustbench_sgdm.corruption.engine import ENGINES, apply
from robustbench_sgdm.corruption.entry import Corruption
from robustbench_sgdm.corruption.measure import PHOTOGRAPHS, damage, photographs
from robustbench_sgdm.corruption.picture import apply_again, apply_to_any, apply_to_picture, check_own
from robustbench_sgdm.corruption.registry import GROUPS, Registry, load

__all__ = [
    "BENCHMARK",
    "ENGINES",
    "FAMILIES",
    "GROUPS",
    "HOLDOUT",
    "MAX_SEVERITY",
    "PHOTOGRAPHS",
    "Corruption",
    "Declaration",
    "Function",
    "Parameter",
    "Registry",
    "apply",
    "apply_again",
    "apply_to_any",
    "apply_to_picture",
    "check_own",
    "corruption",
    "damage",
    "load",
    "photographs",
]
