"""The command that computes the rest of a run, from checked fields of its manifest, whose own `command` is data."""

import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.untrusted_input import escape_control_chars, short_repr
from robustbench_sgdm.store.runs import Run
from robustbench_sgdm.store.schema import Manifest, ModelInfo, RecordedConfig

Options = list[tuple[str, str]]
"""Names of options and their values; a flag has none."""

# Of the zoo or of a corruption, options in brackets.
_NAME = re.compile(r"\w[\w.+-]*(?:\[[\w.,=+-]*\])?", re.ASCII)
_DEVICE = re.compile(r"cpu|cuda(?::\d{1,3})?", re.ASCII)
_ENGINES = ("torch", "imgaug")
_EMBEDDED = "embedded"
_WEIGHTS = (".pt", ".safetensors")
_EXPORTS = (".onnx", ".xml", "_openvino_model")  # others run code
_RUNTIMES = ("onnx", "openvino", "tensorrt")
_DATA = (".json", ".yaml", ".yml")
_LONGEST = 4000  # characters of a value


def resume_command(run: Run) -> str:
    """What computes the missing cells of a run, for a POSIX shell.

    It is made of the models, the data, the corruptions and the settings that the manifest records; each is checked and
    quoted. Options that run code, `--trust-weights` and `--corruption-dir`, are never in it: where a run needs them, the
    command says so or starts another run.

    Raises:
        DataError: says what the manifest lacks, or which value no command can have.
    """
    manifest = run.manifest
    settings, models = manifest.settings, manifest.models
    if settings.engine not in _ENGINES:
        raise DataError(
            "its predictions were made elsewhere; `robustbench score` adds those that are missing"
        )
    if trained := [name for name, model in models.items() if model.group]:
        raise DataError(f"{short_repr(trained[0])} came with --from-train, whose folder no manifest names")
    if not _DEVICE.fullmatch(settings.device):
        raise DataError(f"its device is {short_repr(settings.device)}, neither cpu nor cuda")
    options = [*_models(models), *_data(manifest), *_corruptions(run)]
    options += [("engine", settings.engine), ("seed", str(settings.seed)), ("device", settings.device)]
    place = run.path if run.path.name not in ("", "..") else run.path.resolve()  # `.` says no name
    options += [
        *_inference(models.values()),
        *_exports(manifest.config),
        ("project", str(place.parent)),
        ("name", place.name),
    ]
    return shlex.join(["robustbench", "run", *(word for option in options for word in _words(*option))])


def _words(name: str, value: str) -> list[str]:
    if escape_control_chars(value) != value or value.startswith("-") or len(value) > _LONGEST:
        raise DataError(
            f"--{name} would be {short_repr(value)}, which holds what cannot be seen, begins with a dash or is too long"
        )
    return [f"--{name}", value] if value else [f"--{name}"]


def _models(models: Mapping[str, ModelInfo]) -> Options:
    options: Options = []
    for name, model in models.items():
        file = model.weights
        if file == _EMBEDDED and _NAME.fullmatch(name):
            options.append(("model", name))
        elif _is_export(file):
            if name != Path(file).name and not name.endswith(f"-{Path(file).name}"):
                raise DataError(f"{short_repr(name)} is not its file's name")
            options.append(("model", file))
        elif Path(file).suffix.lower() in _WEIGHTS:
            stem = Path(file).stem
            if name == stem or name.endswith(f"-{stem}"):  # a model is called after its file
                options.append(("model", file))
            elif _NAME.fullmatch(name):
                options += [("model", name), ("weights", f"{name}={file}")]
            else:
                raise DataError(f"{short_repr(name)} is neither a model of the zoo nor its file's name")
        else:
            raise DataError(f"the manifest names no file with the weights of {short_repr(name)}")
    if any(model.module and not model.baseline for model in models.values()):
        options.append(("no-baseline", ""))
    variants = [name for name, model in models.items() if model.baseline]
    baselines = {model.baseline for model in models.values() if model.baseline and model.baseline in models}
    for baseline in baselines if len(baselines) == 1 and len(variants) == len(models) - 1 else ():
        if not all(name.startswith((f"{baseline}-", f"{baseline}[")) for name in variants):
            file = models[baseline].weights
            options.append(("baseline", file if ("model", file) in options else baseline))
    return options


def _is_export(file: str) -> bool:
    return file.lower().endswith(_EXPORTS)


def _exports(config: RecordedConfig) -> Options:
    """What the user said of exported files that do not say it themselves."""
    names = config.classes
    if isinstance(names, tuple):
        if any("," in name for name in names):
            raise DataError("its class names hold commas, which --classes takes from a file alone")
        names = ",".join(names)
    settings = {"classes": names, "layout": config.layout, "normalize": config.normalize}
    return [(key, value) for key, value in settings.items() if value is not None]


def _data(manifest: Manifest) -> Options:
    source, config = manifest.data.source, manifest.config
    if source != "scenes" and Path(source).suffix.lower() not in _DATA:
        raise DataError(
            f"its data, {short_repr(source)}, are neither scenes nor a COCO json nor a dataset YAML"
        )
    options = [("data", source)] + [("fraction", str(config.fraction))] * (config.fraction < 1)
    options += [("images", config.images)] if config.images is not None else []
    return options + ([("split", config.split)] if config.split != "val" else [])


def _corruptions(run: Run) -> Options:
    names = run.manifest.corruptions
    if not names:
        raise DataError("it has clean images alone, and `robustbench run` takes a corruption")
    for name in names:
        if not _NAME.fullmatch(name):
            raise DataError(f"{short_repr(name)} is not a corruption")
    severities = run.manifest.severities or sorted({cell.severity for cell in run.cells})
    return [*(("noise", name) for name in names), ("severity", ",".join(f"{s:g}" for s in severities))]


def _inference(models: Collection[ModelInfo]) -> Options:
    """Sizes and thresholds, where the manifest has them; a size that differs is left to the models' files."""
    options: Options = []
    for key in ("imgsz", "conf", "iou", "max_det"):
        values = {value for model in models if (value := getattr(model, key)) is not None}
        if len(values) > 1 and key != "imgsz":
            raise DataError(f"its models differ in {key}, which one command cannot say")
        options += [(key.replace("_", "-"), str(value)) for value in values if len(values) == 1]
    runtimes = {model.runtime for model in models if not _is_export(model.weights)}
    if len(runtimes) > 1:
        raise DataError("its checkpoints ran in several runtimes, which one command cannot say")
    options += [("runtime", str(one)) for one in runtimes if one in _RUNTIMES]
    for key in ("half", "end2end"):
        options += [(key, "")] * any(getattr(model, key) for model in models)
    return options
