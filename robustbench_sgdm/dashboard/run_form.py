"""What the page Start asks for, checked as it is typed, as arguments of `robustbench run`."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from robustbench_sgdm.config import EvaluationConfig, check_severities
from robustbench_sgdm.core import parsing
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.dashboard import sources

MAX_CHARACTERS = 10_000
"""Of all texts of the form."""

_SEVERAL = {"models": "--model", "noise": "--noise", "weights": "--weights", "shift": "--shift"}
_ONE = {  # left out at their defaults
    "severities": "--severity",
    "data": "--data",
    "fraction": "--fraction",
    "baseline": "--baseline",
    "images": "--images",
    "split": "--split",
    "imgsz": "--imgsz",
    "seed": "--seed",
    "conf": "--conf",
    "iou": "--iou",
    "max_det": "--max-det",
    "runtime": "--runtime",
    "device": "--device",
    "batch": "--batch",
    "workers": "--workers",
    "from_train": "--from-train",
    "classes": "--classes",
    "layout": "--layout",
    "normalize": "--normalize",
}
_FLAGS = {
    "no_baseline": "--no-baseline",
    "allow_identical": "--yes",
    "half": "--half",
    "end2end": "--end2end",
    "no_end2end": "--no-end2end",
}


@dataclass(frozen=True)
class RunForm:
    """The settings of a run; each is the option of its name, empty or its default where the visitor leaves it.

    Attributes:
        models: names, and paths of files within the folders that the page may use.
        noise: corruptions, groups and compositions.
        severities: ranges and numbers.
        data: a name, or the path of a file.
        weights: FILE or NAME=FILE.
        baseline: of `models`.
        images: folder of a COCO json.
        shift: NAME=DATA, other data that the models run on too.
        from_train: folder of a comparison of trainings, instead of `models`.
        classes: names in label order, for exported files without them; or a file of them.
        no_baseline: whether variants run without theirs.
        allow_identical: whether models may detect the same.
        end2end, no_end2end: which branch of a head that has two; neither for the usual one.
    """

    models: Sequence[str]
    noise: Sequence[str]
    severities: str = "0-5"
    data: str = "scenes"
    weights: Sequence[str] = ()
    baseline: str = ""
    images: str = ""
    split: str = EvaluationConfig.split
    fraction: float = 1.0
    imgsz: int = EvaluationConfig.imgsz
    seed: int = EvaluationConfig.seed
    conf: float = EvaluationConfig.conf
    iou: float = EvaluationConfig.iou
    max_det: int = EvaluationConfig.max_det
    runtime: str = EvaluationConfig.runtime
    device: str = ""
    batch: int = 0
    workers: int = 0
    shift: Sequence[str] = ()
    from_train: str = ""
    classes: str = ""
    layout: str = ""
    normalize: str = ""
    no_baseline: bool = False
    allow_identical: bool = False
    half: bool = False
    end2end: bool = False
    no_end2end: bool = False

    @classmethod
    def from_arguments(cls, words: Sequence[str]) -> "RunForm":
        """The form that gives these arguments.

        Raises:
            UsageError: none does.
        """
        names = {option: name for table in (_SEVERAL, _ONE, _FLAGS) for name, option in table.items()}
        kinds: dict[str, Any] = {field.name: type(field.default) for field in fields(cls)}
        values: dict[str, Any] = {"models": [], "noise": []}
        rest = iter(words)
        for option in rest:
            name = names.get(option)
            if name is None:
                raise UsageError(f"{option} is not an option of this page; continue the run in a terminal")
            if name in _FLAGS:
                values[name] = True
                continue
            try:
                value = next(rest, "")
                values[name] = [*values.get(name, []), value] if name in _SEVERAL else kinds[name](value)
            except ValueError:
                raise UsageError(f"{option} {value} is not a number") from None
        form = cls(**values)
        if tuple(form.to_arguments()) != tuple(words):
            raise UsageError("this page cannot start the same run; continue it in a terminal")
        return form

    def to_arguments(self) -> list[str]:
        """Arguments of `robustbench run`, parsed as the command line does.

        Raises:
            UsageError: an unknown name, a number out of bounds, a file outside the allowed folders, or code to run.
        """
        texts = [*self.models, *self.noise, *self.weights, *self.shift, self.severities]
        texts += [str(getattr(self, name)) for name in _ONE]
        if "\0" in "".join(texts):
            raise UsageError("the form contains a null character; remove it")
        if sum(map(len, texts)) > MAX_CHARACTERS:
            raise UsageError(
                f"this page takes at most {MAX_CHARACTERS:,} characters; name groups of corruptions, or start the run in "
                "a terminal"
            )
        models, selected = self._check_names(), parsing.split_list(self.noise)
        levels = check_severities(parsing.parse_severities([self.severities]))
        if not (models or self.from_train) or not selected:
            raise UsageError("choose at least one model and one corruption")
        from robustbench_sgdm import corruption  # imports torch, which no other page that opens at once needs

        corruption.load_corruptions().select(selected)
        if self.baseline and self.baseline not in models and not self.from_train:
            raise UsageError(f"the baseline {self.baseline!r} is none of the models ({', '.join(models)})")
        self._check_values(models, selected, levels)
        words = _repeat("models", models) + _repeat("noise", selected)
        words += ["--severity", ",".join(f"{level:g}" for level in levels), "--data", self.data]
        words += _repeat("weights", self.weights) + _repeat("shift", self.shift)
        words += ["--fraction", f"{self.fraction:g}"]
        for name in list(_ONE)[3:]:
            value = getattr(self, name)
            if value != next(field.default for field in fields(self) if field.name == name):
                words += [_ONE[name], f"{value:g}" if isinstance(value, float) else str(value)]
        return words + [option for name, option in _FLAGS.items() if getattr(self, name)]

    def _check_values(self, models: list[str], noise: list[str], severities: tuple[float, ...]) -> None:
        """What a run itself checks of numbers and choices before it reads anything."""
        EvaluationConfig(
            models,
            weights={one: one for one in self.weights},
            from_train=self.from_train or None,
            shifts=parsing.parse_assignments(self.shift, "--shift"),
            noise=noise,
            severity=severities,
            data=self.data,
            split=self.split,
            fraction=self.fraction,
            imgsz=self.imgsz,
            seed=self.seed,
            conf=self.conf,
            iou=self.iou,
            max_det=self.max_det,
            runtime=self.runtime,
            layout=self.layout or None,
            normalize=self.normalize or None,
            batch=self.batch,
            workers=self.workers,
        )

    def _check_names(self) -> list[str]:
        """The models; every name and path of the form is one that the page may use."""
        shifted = [item.partition("=")[2] for item in self.shift]
        files = [item if parsing.find_file(item) else item.rpartition("=")[2] for item in self.weights]
        named = [
            *parsing.split_list(self.models, parsing.find_file),
            *files,
            self.data,
            self.images,
            *shifted,
        ]
        named += [self.from_train, *[self.classes] * ("," not in self.classes)]  # else names, not a file
        plain = [*named, *self.weights, *self.shift, self.baseline, self.device]
        if bad := [name for name in plain if name.startswith("-")]:
            raise UsageError(f"{bad[0]!r} starts with a dash; names do not")
        for name in filter(None, named):
            folder = name.removeprefix("hf:")
            # Before any check whose message would tell whether such a file exists.
            sources.check_input_path(folder)
        if absent := [file for file in files if not parsing.find_path(file)]:
            raise UsageError(f"there is no file {absent[0]} to read weights from")
        items = parsing.parse_models(self.models)
        code = [item for item in items if ":" in item and not parsing.find_file(item)]
        if code := [item for item in code if not parsing.is_library_model(item)]:
            raise UsageError(
                f"{code[0]} names code to run, which this page does not allow; start the run in a terminal"
            )
        return items


def _repeat(name: str, items: Sequence[str]) -> list[str]:
    """An option that may be given several times."""
    return [word for item in items for word in (_SEVERAL[name], item)]
