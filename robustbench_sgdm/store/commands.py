"""The command that makes the rest of a run, from checked fields of its plan; the plan's own `command` is data."""

import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.untrusted_input import escape_control_chars, short_repr
from robustbench_sgdm.store.runs import Run

Options = list[tuple[str, str]]
"""Names of options and their values; a flag has none."""

_NAME = re.compile(
    r"\w[\w.+-]*(?:\[[\w.,=+-]*\])?", re.ASCII
)  # of the zoo or of a corruption, options in brackets
_DEVICE = re.compile(r"cpu|cuda(?::\d{1,3})?", re.ASCII)
_ENGINES = ("torch", "imgaug")
_EMBEDDED = "embedded"
_WEIGHTS = (".pt", ".safetensors")
_EXPORTS = (".onnx", ".xml", "_openvino_model")  # others run code
_RUNTIMES = ("onnx", "openvino", "tensorrt")
_DATA = (".json", ".yaml", ".yml")
_LONGEST = 4000  # characters of a value


def repeat_command(run: Run) -> str:
    """What makes the missing cells of a run, for a POSIX shell.

    It is made of the models, the data, the corruptions and the settings that the plan records; each is checked and
    quoted. Options that run code, `--trust-weights` and `--corruptions`, are never in it. `--images`, `--split` and these
    two are in no plan: where a run needs them, the command says so or starts another run.

    Raises:
        DataError: says what the plan lacks, or which value no command can have.
    """
    plan = run.plan
    settings, models = plan["settings"], plan["models"]
    if settings["engine"] not in _ENGINES:
        raise DataError(
            "its predictions were made elsewhere; `robustbench score` adds those that are missing"
        )
    if trained := [name for name, about in models.items() if about.get("group")]:
        raise DataError(f"{short_repr(trained[0])} came with --from-train, whose folder is in no plan")
    options = [*_models(models), *_data(plan["data"]), *_corruptions(run)]
    options += [("engine", settings["engine"]), ("seed", str(settings["seed"])), *_device(settings)]
    place = run.path if run.path.name not in ("", "..") else run.path.resolve()  # `.` says no name
    options += [
        *_inference(models.values()),
        *_exports(plan.get("config")),
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


def _models(models: Mapping[str, Mapping[str, Any]]) -> Options:
    options: Options = []
    for name, about in models.items():
        file = about.get("weights")
        if file == _EMBEDDED and _NAME.fullmatch(name):
            options.append(("model", name))
        elif _is_export(file):
            if name != Path(str(file)).name and not name.endswith(f"-{Path(str(file)).name}"):
                raise DataError(f"{short_repr(name)} is not its file's name")
            options.append(("model", str(file)))
        elif isinstance(file, str) and Path(file).suffix.lower() in _WEIGHTS:
            stem = Path(file).stem
            if name == stem or name.endswith(f"-{stem}"):  # a model is called after its file
                options.append(("model", file))
            elif _NAME.fullmatch(name):
                options += [("model", name), ("weights", f"{name}={file}")]
            else:
                raise DataError(f"{short_repr(name)} is neither a model of the zoo nor its file's name")
        else:
            raise DataError(f"the plan names no file with the weights of {short_repr(name)}")
    of = {name: about.get("baseline") for name, about in models.items()}
    if any(about.get("module") and not of[name] for name, about in models.items()):
        options.append(("no-baseline", ""))
    baselines = {str(baseline) for baseline in of.values() if baseline in models}
    variants = [name for name, baseline in of.items() if baseline]
    for baseline in baselines if len(baselines) == 1 and len(variants) == len(models) - 1 else ():
        if not all(name.startswith((f"{baseline}-", f"{baseline}[")) for name in variants):
            file = str(models[baseline]["weights"])
            options.append(("baseline", file if ("model", file) in options else str(baseline)))
    return options


def _is_export(file: object) -> bool:
    return isinstance(file, str) and file.lower().endswith(_EXPORTS)


def _exports(config: object) -> Options:
    """What the user said of exported files that say it not themselves."""
    said = config if isinstance(config, dict) else {}
    names = said.get("classes")
    if isinstance(names, list):
        if not all(isinstance(name, str) and "," not in name for name in names):
            raise DataError("its class names hold commas, which --classes takes from a file alone")
        names = ",".join(names)
    found = {"classes": names, "layout": said.get("layout"), "normalize": said.get("normalize")}
    return [(key, value) for key, value in found.items() if isinstance(value, str)]


def _data(about: Mapping[str, Any]) -> Options:
    source, name = str(about.get("source")), about["name"]
    if source != "scenes" and Path(source).suffix.lower() not in _DATA:
        raise DataError(
            f"its data, {short_repr(source)}, are neither scenes nor a COCO json nor a dataset YAML"
        )
    whole = Path(source).stem
    if name == whole:
        return [("data", source)]
    part = name.removeprefix(f"{whole}-")
    try:
        share = float(part) if part != name else 0.0
    except ValueError:
        share = 0.0
    if not 0 < share < 1 or f"{share:g}" != part:
        raise DataError(
            f"its data are called {short_repr(name)}, which says not which part of {short_repr(source)} they are"
        )
    return [("data", source), ("fraction", part)]


def _corruptions(run: Run) -> Options:
    names = run.plan["corruptions"]
    if not names:
        raise DataError("it has clean images alone, and `robustbench run` takes a corruption")
    for name in names:
        if not _NAME.fullmatch(name):
            raise DataError(f"{short_repr(name)} is no corruption's name")
    levels = run.plan.get("severities") or sorted({cell.severity for cell in run.cells})
    if not isinstance(levels, list) or not all(type(s) in (int, float) and 0 <= s <= 5 for s in levels):
        raise DataError(f"its severities are {short_repr(levels)}, not numbers from 0 to 5")
    return [*(("noise", name) for name in names), ("severity", ",".join(f"{s:g}" for s in levels))]


def _device(settings: Mapping[str, Any]) -> Options:
    device = settings.get("device", "cpu")
    if not _DEVICE.fullmatch(device):
        raise DataError(f"its device is {short_repr(device)}, neither cpu nor cuda")
    return [("device", device)]


def _inference(models: Collection[Mapping[str, Any]]) -> Options:
    """Sizes and thresholds, where the plan has them; a size that differs is left to the models' files."""
    options: Options = []
    for key in ("imgsz", "conf", "iou", "max_det"):
        values = [about[key] for about in models if key in about]
        if not all(type(value) in (int, float) for value in values):
            raise DataError(f"{key} is {short_repr(values)}, not numbers")
        if len(set(values)) > 1 and key != "imgsz":
            raise DataError(f"its models differ in {key}, which one command cannot say")
        options += [(key.replace("_", "-"), str(value)) for value in set(values) if len(set(values)) == 1]
    runtimes = {about.get("runtime") for about in models if not _is_export(about.get("weights"))}
    if len(runtimes) > 1:
        raise DataError("its checkpoints ran in several runtimes, which one command cannot say")
    options += [("runtime", str(one)) for one in runtimes if one in _RUNTIMES]
    for key in ("half", "end2end"):
        options += [(key, "")] * any(about.get(key) is True for about in models)
    return options
