"""What `--model` means: a zoo name, a file, or a plug-in; and the detectors of a run beside their baselines.

A plug-in is an entry point of the group `robustbench_sgdm.detectors`, or `module:factory`: a function without arguments
that returns a `Detector`. Nothing of a package is imported before its detector is asked for by name.
"""

import importlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.errors import UsageError, describe_plugin_error, unknown_name_error
from robustbench_sgdm.core.parsing import is_library_model
from robustbench_sgdm.detectors.adapters import (
    LibraryDetector,
    load_library_model,
    model_name,
)
from robustbench_sgdm.detectors.base import Detector, check_detector
from robustbench_sgdm.detectors.runtimes import ExportedDetector, convert, is_exported, load_exported
from robustbench_sgdm.detectors.ultralytics import zoo
from robustbench_sgdm.detectors.ultralytics.adapter import NoEnd2EndError, UltralyticsDetector, load_detector
from robustbench_sgdm.detectors.ultralytics.weights import bundled_weights

_LOG = logging.getLogger(__name__)
GROUP = "robustbench_sgdm.detectors"
_FACTORY = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")  # and no Windows path, whose drive is one letter


@dataclass(frozen=True)
class DetectorEntry:
    """A detector of a run.

    Attributes:
        detector: ready to predict.
        weights: the file they came from, or `embedded`.
        baseline: name of the entry it is compared with, if that is in the run.
        group: the network that it is one training of, where there may be several.
        seed: of that training.
    """

    detector: Detector
    weights: str
    baseline: str | None = None
    group: str | None = None
    seed: int | None = None

    def describe(self) -> dict[str, Any]:
        """What rebuilds it, as plain types."""
        trained = {"group": self.group, "seed": self.seed} if self.group else {}
        size = _file_bytes(self.weights, self.detector.name)
        known = {"file_bytes": size} if size is not None else {}
        return {
            "baseline": self.baseline,
            **trained,
            "weights": self.weights,
            **known,
            **self.detector.describe(),
        }


def _file_bytes(weights: str, model: str) -> int | None:
    """The size of a file of weights, or of the files in a folder of them; None where there is no file."""
    path = bundled_weights(model) if weights == "embedded" else Path(weights)
    if path is None or not path.exists():
        return None
    files = [p for p in path.iterdir() if p.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def load_detectors(
    models: Sequence[str | Path | Detector],
    config: InferenceConfig = InferenceConfig(),
    *,
    weights: Mapping[str, str | Path] | None = None,
    baselines: bool = True,
    names: Mapping[str, str] | None = None,
) -> dict[str, DetectorEntry]:
    """Load every model, each module variant behind its baseline.

    Args:
        models: zoo names, paths of checkpoints and model YAMLs, and detectors that are loaded already.
        config: of all that are loaded here. `end2end` goes to the models that have a one-to-one branch.
        weights: files by the name of a model or of an added baseline. A baseline without a file takes its
            variant's, which must then hold a baseline.
        baselines: add the baseline of each module variant.
        names: what to call the models; by default zoo names, and files by their stem and folders.

    Raises:
        UsageError: no model, a name twice, weights that do not fit or are missing.
    """
    if not models:
        raise UsageError(
            "no model given; --model takes a name of `robustbench list models`, or the path of a checkpoint "
            "or of an exported model"
        )
    _refuse_unused(models, config)
    _warn_of_taken_names(models)
    ready = [
        load_plugin(m) if isinstance(m, str) and not is_library_model(m) and is_plugin(m) else m
        for m in models
    ]
    loaded = {m.name: m for m in ready if isinstance(m, Detector)}
    requested = [str(m) if isinstance(m, str | Path) else check_detector(m).name for m in ready]
    if repeated := [name for name, count in Counter(requested).items() if count > 1 and name in loaded]:
        raise UsageError(f"two models are called {repeated[0]}; give one of them another name")
    baseline_of = _with_baselines(requested, loaded, add=baselines)
    files = _files_by_model(baseline_of, requested, weights or {})
    names = names or _names(list(baseline_of), loaded)
    if repeated := [name for name, count in Counter(names.values()).items() if count > 1]:
        same = [model for model, name in names.items() if name == repeated[0]]
        raise UsageError(
            f"{' and '.join(same)} would both be called {repeated[0]} in the results; rename one of the files"
        )
    config = config.inference  # pickled with detectors for workers: without the rest of a run's configuration
    entries: dict[str, DetectorEntry] = {}
    without_end2end: list[NoEnd2EndError] = []
    for model, baseline in baseline_of.items():
        if model in loaded:
            entries[model] = DetectorEntry(loaded[model], "given")
            continue
        try:
            detector, no_end2end = _load(model, config, files.get(model))
        except UsageError as error:
            if model in requested:
                raise
            raise UsageError(
                f"{error}. As the baseline it came with {', '.join(requested)}: give it weights of its own "
                f"(--weights {model}=FILE) or leave it out (--no-baseline)"
            ) from error
        without_end2end += [no_end2end] if no_end2end else []
        detector.name = names[model]
        origin = getattr(detector, "weights", None) or str(
            files.get(model) or (model if _is_file(model) else "embedded")
        )
        entries[detector.name] = DetectorEntry(detector, origin, baseline)
    if without_end2end and len(without_end2end) == len(baseline_of) - len(loaded):
        raise without_end2end[0]  # the option would change no model of the run
    return entries


def _refuse_unused(models: Sequence[str | Path | Detector], config: InferenceConfig) -> None:
    """Refuse settings that no model takes, or that a plug-in is meant to follow and cannot.

    Raises:
        UsageError: names the option.
    """
    named = [str(m) for m in models if not isinstance(m, Detector)]
    exported, library = any(map(is_exported, named)), any(map(is_library_model, named))
    for option, has_use in (
        ("classes", exported or library),
        ("layout", exported),
        ("normalize", exported),
    ):
        if getattr(config, option) is not None and not has_use:
            others = " and other libraries' weights" if option == "classes" else ""
            raise UsageError(
                f"--{option} is for exported files{others}, and no model of this run is one; leave it out"
            )
    plugins = [m for m in named if not is_library_model(m) and is_plugin(m)]
    if plugins and config.runtime not in ("pytorch", "auto"):
        raise UsageError(
            f"--runtime {config.runtime} is for checkpoints of Ultralytics, which it exports; {plugins[0]} computes by "
            "itself: leave out --runtime"
        )


def _load(
    model: str, config: InferenceConfig, weights: str | Path | None
) -> tuple[UltralyticsDetector | ExportedDetector | LibraryDetector, NoEnd2EndError | None]:
    """A detector; where it has no one-to-one branch to choose, without that choice, and the error that says so."""
    load = load_library_model if is_library_model(model) else load_file
    try:
        return load(model, config, weights=weights), None
    except NoEnd2EndError as error:
        return load(model, replace(config, end2end=None), weights=weights), error


def _files_by_model(
    baseline_of: Mapping[str, str | None], requested: Collection[str], weights: Mapping[str, str | Path]
) -> dict[str, str | Path]:
    """Weight files by model; a baseline that was added takes its variant's, never embedded weights of other data."""
    if stray := [name for name in weights if name not in baseline_of]:
        raise unknown_name_error("model (--weights)", stray[0], baseline_of)
    files = dict(weights)
    for model, baseline in baseline_of.items():
        if baseline and model in files and baseline not in requested:
            files.setdefault(baseline, files[model])
    return files


def load_file(
    model: str | Path,
    config: InferenceConfig = InferenceConfig(),
    *,
    weights: str | Path | None = None,
    classes: Sequence[str] | None = None,
) -> UltralyticsDetector | ExportedDetector:
    """Load a zoo name, a checkpoint or an exported model; in the runtime that the configuration names.

    Raises:
        UsageError: an unknown name, weights for a file, or a runtime that is not installed.
        DataError: the file is damaged, or no detector's.
    """
    if is_exported(model):
        if weights is not None:
            raise UsageError(f"{model} holds its weights already; leave out --weights for it")
        return load_exported(model, config if classes is None else replace(config, classes=classes))
    return convert(load_detector(model, config, weights=weights, classes=classes), config.runtime)


def load_trained_detectors(
    runs: Sequence[tuple[str, int, Path]], config: InferenceConfig = InferenceConfig()
) -> dict[str, DetectorEntry]:
    """Load the detectors of a comparison of trainings, each beside the training of its baseline with the same seed.

    Args:
        runs: (model of the zoo, seed, file of weights).
        config: as for `load_detectors`.

    Raises:
        UsageError: as `load_detectors`.
    """
    models = {model: Path(model).stem if zoo.is_model_yaml(model) else model for model, *_ in runs}
    names = {str(file): f"{models[model]}-seed{seed}" for model, seed, file in runs}
    loaded = load_detectors([file for *_, file in runs], config, names=names)
    entries = {}
    for (model, seed, file), entry in zip(runs, loaded.values(), strict=True):
        baseline = zoo.resolve_model(model).baseline
        theirs = [s for other, s, _ in runs if other == baseline]
        twin = seed if seed in theirs else min(theirs, default=None)
        entries[names[str(file)]] = replace(
            entry,
            baseline=None if twin is None else f"{baseline}-seed{twin}",
            group=models[model],
            seed=seed,
        )
    return entries


def compare_with_baseline(entries: Mapping[str, DetectorEntry], baseline: str) -> dict[str, DetectorEntry]:
    """The same, every one compared with the named one; trainings of a group with that of the same seed.

    Args:
        entries: of a run.
        baseline: name of a detector that is in no group, or of a group; a path where it is that of a file.

    Raises:
        UsageError: no such detector, or no other.
    """
    groups: dict[str, list[str]] = {}
    for name, entry in entries.items():
        groups.setdefault(entry.group or name, []).append(name)
    chosen = next((n for n, e in entries.items() if e.weights == baseline and _is_file(baseline)), baseline)
    if chosen not in groups:
        raise unknown_name_error("--baseline", baseline, groups)
    if len(groups) == 1:
        raise UsageError(f"--baseline {baseline} is the only model of the run; there is nothing to compare")
    seeds = {entries[name].seed: name for name in reversed(groups[chosen])}
    return {
        name: replace(
            entry,
            baseline=None if name in groups[chosen] else seeds.get(entry.seed, groups[chosen][0]),
        )
        for name, entry in entries.items()
    }


def _with_baselines(
    models: Sequence[str], loaded: Collection[str] = (), *, add: bool = True
) -> dict[str, str | None]:
    """Every model's baseline, if that is in the run; added before it, where wanted and not named itself."""
    wanted: dict[str, str | None] = {}
    for model in models:
        baseline = (
            None
            if _is_file(model) or model in loaded or is_library_model(model) or is_plugin(model)
            else zoo.resolve_model(model).baseline
        )
        if baseline and baseline not in models and add:
            wanted.setdefault(baseline, None)
        wanted[model] = baseline if add or baseline in models else None
    return wanted


def added_baselines(models: Sequence[str]) -> list[str]:
    """The baselines of module variants that `load_detectors` would add."""
    return [name for name in _with_baselines(models) if name not in models]


def _names(models: Sequence[str], loaded: Collection[str] = ()) -> dict[str, str]:
    """A distinct name for each: a file's stem, behind as many of its folders as tell it from others.

    An exported model has its whole name: beside `best.pt` it is `best.onnx`.
    """
    files = [m for m in models if m not in loaded and (_is_file(m) or zoo.is_model_yaml(m))]
    names = {
        m: (Path(m).resolve().name if is_exported(m) else Path(m).stem) if m in files else m for m in models
    }
    names |= {m: model_name(m) for m in models if m not in loaded and is_library_model(m)}
    for depth in range(2, 10):
        counts = Counter(name.casefold() for name in names.values())
        for model in [m for m in files if counts[names[m].casefold()] > 1]:
            path = Path(model).resolve()
            parts = (path if is_exported(model) else path.with_suffix("")).parts[-depth:]
            names[model] = "-".join(p for p in parts if p not in ("weights", "/"))
    return names


def _is_file(model: str) -> bool:
    return Path(model).suffix.lower() in {".pt", ".safetensors"} or is_exported(model)


def plugin_names() -> list[str]:
    """The detectors that installed packages bring, but those whose name is taken."""
    return sorted({one.name for one in entry_points(group=GROUP) if not _is_in_zoo(one.name)})


def _is_in_zoo(name: str) -> bool:
    try:
        zoo.resolve_model(name)
    except UsageError:
        return False
    return True


def _warn_of_taken_names(models: Collection[object]) -> None:
    for point in entry_points(group=GROUP):
        if point.name in models and _is_in_zoo(point.name):
            _LOG.warning("detector %s of %s left out: the name is taken", point.name, point.value)


def is_plugin(model: str) -> bool:
    """Whether a model is `module:factory` or one that an installed package brings."""
    return bool(_FACTORY.fullmatch(model) and model[1:2] != ":") or model in plugin_names()


def load_plugin(model: str) -> Detector:
    """Import a plug-in's module and call its factory.

    Raises:
        UsageError: it cannot be imported, raised, or gave something else than a detector; names the module.
    """
    points = [one for one in entry_points(group=GROUP) if one.name == model]
    if len({one.value for one in points}) > 1:
        places = " and ".join(sorted({one.value for one in points}))
        raise UsageError(f"detector {model!r} is brought by {places}; uninstall one of them")
    place = points[0].value if points else model
    try:
        detector = _factory(points[0] if points else model)()
    except (Exception, SystemExit) as error:  # whatever the other package does
        raise UsageError(f"detector {place} cannot be loaded: {describe_plugin_error(error)}") from error
    if not isinstance(detector, Detector):
        raise UsageError(
            f"{place} gave {type(detector).__name__}, which is not a detector; return "
            "robustbench_sgdm.wrap_detector(...)"
        )
    return detector


def _factory(place: EntryPoint | str) -> Callable[[], Any]:
    if isinstance(place, EntryPoint):
        loaded: Callable[[], Any] = place.load()
        return loaded
    module, _, name = place.partition(":")
    target: Any = importlib.import_module(module)
    for part in name.split("."):
        target = getattr(target, part)
    factory: Callable[[], Any] = target
    return factory
