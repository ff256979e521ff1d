"""RobustBench-SGDM: does a detector survive noise, and does a module help?

run = evaluate("yolov8n-sgdm", data="scenes", noise="gaussian", severity=[0, 1, 3, 5])
run.results(), run.summary(), run.compare(baseline="yolov8n"), run.report()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from robustbench_sgdm.api import (
        Run,
        as_maite,
        checks,
        compare,
        corrupt,
        corrupt_dataset,
        evaluate,
        export,
        join_runs,
        load_detector,
        loss_curves,
        score,
        train,
        verify_pixels,
        write_leaderboard,
    )
    from robustbench_sgdm.comparison import Comparison
    from robustbench_sgdm.config import (
        ChecksConfig,
        ComparisonConfig,
        CopyConfig,
        EvaluationConfig,
        ExportConfig,
        InferenceConfig,
        ScoringConfig,
        TrainingConfig,
    )
    from robustbench_sgdm.core.detections import Detections
    from robustbench_sgdm.core.errors import (
        CorruptionError,
        DataError,
        DeviceError,
        IncompleteError,
        RobustBenchError,
        StoppedError,
        TrainingFailedError,
        UnsafeFileError,
        UsageError,
    )
    from robustbench_sgdm.detectors import wrap_detector

__all__ = [
    "ChecksConfig",
    "Comparison",
    "ComparisonConfig",
    "CopyConfig",
    "CorruptionError",
    "DataError",
    "Detections",
    "DeviceError",
    "EvaluationConfig",
    "ExportConfig",
    "IncompleteError",
    "InferenceConfig",
    "RobustBenchError",
    "Run",
    "ScoringConfig",
    "StoppedError",
    "TrainingConfig",
    "TrainingFailedError",
    "UnsafeFileError",
    "UsageError",
    "__version__",
    "as_maite",
    "checks",
    "compare",
    "corrupt",
    "corrupt_dataset",
    "evaluate",
    "export",
    "join_runs",
    "load_detector",
    "loss_curves",
    "score",
    "train",
    "verify_pixels",
    "wrap_detector",
    "write_leaderboard",
]


_MODULES = {"Comparison": "comparison", "Detections": "core.detections", "wrap_detector": "detectors"}
"""Where names are from that are neither of `api` nor a configuration nor an error."""

if not TYPE_CHECKING:  # a type checker would take any name for one that is there

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used, so that importing the package costs nothing."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = _MODULES.get(name, "api")
        if name.endswith("Config"):
            module = "config"
        elif name.endswith("Error"):
            module = "core.errors"
        return getattr(import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
