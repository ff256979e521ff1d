"""Image corruptions: declared in files, collected into a registry, applied to batches.

noise = load_corruptions().get("gaussian_noise")
noisy = apply_corruption(noise, images, severity=3, seed=0, image_ids=[139, 285])
"""

from robustbench_sgdm.core.constants import BENCHMARK, HOLDOUT
from robustbench_sgdm.core.seeding import BatchRng
from robustbench_sgdm.corruption.composition import split_parts
from robustbench_sgdm.corruption.decorator import (
    FAMILIES,
    MAX_SEVERITY,
    CorruptionFunction,
    Declaration,
    Parameter,
    corruption,
)
from robustbench_sgdm.corruption.definition import Corruption
from robustbench_sgdm.corruption.engine import ENGINES, apply_corruption
from robustbench_sgdm.corruption.image_quality import PHOTOGRAPHS, measure_image_quality, photographs
from robustbench_sgdm.corruption.registry import GROUPS, CorruptionRegistry, load_corruptions
from robustbench_sgdm.corruption.single_image import (
    check_reproducible,
    corrupt_any_image,
    corrupt_image,
    reproduce,
)

__all__ = [
    "BENCHMARK",
    "ENGINES",
    "FAMILIES",
    "GROUPS",
    "HOLDOUT",
    "MAX_SEVERITY",
    "PHOTOGRAPHS",
    "BatchRng",
    "Corruption",
    "CorruptionFunction",
    "CorruptionRegistry",
    "Declaration",
    "Parameter",
    "apply_corruption",
    "check_reproducible",
    "corrupt_any_image",
    "corrupt_image",
    "corruption",
    "load_corruptions",
    "measure_image_quality",
    "photographs",
    "reproduce",
    "split_parts",
]
