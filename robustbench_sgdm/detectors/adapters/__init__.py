"""Detectors of other libraries as a `Detector`, and ours as other libraries take them."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import cast

from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.core.parsing import LIBRARIES
from robustbench_sgdm.detectors.adapters.base import AdaptedDetector, LibraryDetector, model_name
from robustbench_sgdm.detectors.adapters.callable import CallableDetector, wrap_detector
from robustbench_sgdm.detectors.adapters.results import RawBoxes, read_result

__all__ = [
    "AdaptedDetector",
    "CallableDetector",
    "LibraryDetector",
    "RawBoxes",
    "load_library_model",
    "model_name",
    "read_result",
    "wrap_detector",
]


def load_library_model(
    model: str,
    config: InferenceConfig = InferenceConfig(),
    *,
    weights: str | Path | None = None,
    classes: Sequence[str] | None = None,
) -> LibraryDetector:
    """Load a detector of another library; nothing of the library is imported before.

    Args:
        model: `LIBRARY:NAME`.
        config: sizes, thresholds and device; the CPU where it names none. Its `classes`, which are of a whole run, are
            taken where they fit or the weights have none.
        weights: file or folder, where the library takes one beside the name.
        classes: names in place of those in the weights.

    Raises:
        UsageError: the library is not installed, another runtime than PyTorch, or as its module's `load_...`.
        DataError: damaged weights.
    """
    if config.runtime not in ("pytorch", "auto"):
        raise UsageError(
            f"--runtime {config.runtime} is for checkpoints of Ultralytics, which it exports; {model} is computed by "
            "PyTorch alone: leave out --runtime, or give an exported file"
        )
    library = LIBRARIES[model.partition(":")[0]]
    try:
        module = import_module(f"robustbench_sgdm.detectors.adapters.{library}")
    except ImportError as error:
        raise UsageError(
            f"--model {model} needs {library}, which cannot be imported here ({error}); "
            'install it: pip install "robustbench-sgdm[hf]"'
        ) from error
    load = cast(Callable[..., LibraryDetector], getattr(module, f"load_{library}"))
    return load(model, config, weights=weights, classes=classes)
