"""What each json and YAML file of a run or a training holds: one class a file, checked whenever one is read.

Such a file may come from a stranger. `core.untrusted_input` and `core.safe_directory` have bounded its bytes and followed
no link before anything here sees it; here its depth, its counts and every field are checked: readers may rely on them.

A field that this version does not know is kept and never used: a later version may add what readers can do without, and
must raise `SCHEMA` for what they cannot, or where a field takes on another meaning.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    PlainValidator,
    Strict,
    ValidationError,
    model_validator,
)

from robustbench_sgdm.core.constants import CLEAN, METRICS
from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.core.untrusted_input import read_json, read_yaml, short_repr, validate_class_name

SCHEMA = 2
"""Number of what `manifest.json` and the recipes of trainings hold; see above."""

MANIFEST = "manifest.json"
"""The file that makes a directory a run's."""

FIRST_MANIFEST = "plan.yaml"
"""What it was called while `SCHEMA` was 1."""

_DEEPEST = 50
_LONGEST = 200  # bytes of a folder's name, with room for what is put before it and after it
_MOST = 1000  # models of a run; corruptions of a run
_MAX_PAIRS = 10_000  # models times corruptions, which tables have rows for
_MAX_RUNS = 10_000  # of a comparison
_MAX_ERRORS = 10_000  # that are worth their memory to look at


def _text(value: object) -> str:
    # Not pydantic's own: the name of a file that is not UTF-8 holds surrogates, which its text may not.
    if not isinstance(value, str):
        raise ValueError("must be text")
    return value


def _text_or_texts(value: object) -> str | tuple[str, ...]:
    return tuple(map(_text, value)) if isinstance(value, list | tuple) else _text(value)


def _name(value: str) -> str:
    try:
        value.encode("utf-8")
    except ValueError:
        raise ValueError("must be text without half a surrogate pair, which no table can hold") from None
    return value


def _folder_name(value: str) -> str:
    is_plain = Path(value).name == value and value not in {"", ".", ".."} and "\\" not in value
    if not is_plain or not value.isprintable() or len(value.encode("utf-8", "replace")) > _LONGEST:
        raise ValueError("must be a plain folder name")
    return value


def _key(value: str) -> str:
    if not value or not value.isprintable() or "/" in value or "\\" in value:
        raise ValueError("must be a hash")
    return value


def _group(value: str) -> str:
    try:
        return validate_class_name(value)
    except ValueError as error:
        raise ValueError(f"must be a name: {error}") from None


def _at_most_a_thousand(value: object) -> object:
    """Before its entries are made: each takes a hundred times its bytes."""
    if isinstance(value, dict) and len(value) > _MOST:
        raise ValueError(f"must have {_MOST:,} entries at most, not {len(value):,}")
    return value


def _twelve_metrics(value: dict[str, float | None]) -> dict[str, float | None]:
    if lacking := [metric for metric in METRICS if metric not in value]:
        raise ValueError(f"must have {lacking[0]}")
    return value


Text = Annotated[str, PlainValidator(_text)]
Name = Annotated[Text, AfterValidator(_name)]
FolderName = Annotated[Text, AfterValidator(_folder_name)]
Key = Annotated[Text, AfterValidator(_key)]
Integer = Annotated[int, Strict(), Field(ge=-(2**63), lt=2**63)]
Count = Annotated[int, Strict(), Field(ge=0, lt=2**53)]
Number = Annotated[float, Strict(), Field(gt=-(2**53), lt=2**53)]
Percent = Annotated[float, Strict(), Field(ge=-1000, le=1000)]
# Adding 0.0 makes -0.0 the 0.0 that it equals, so that both are one folder.
Severity = Annotated[float, Strict(), Field(ge=0, le=5), AfterValidator(lambda value: value + 0.0)]
Texts = Annotated[tuple[Text, ...], FailFast()]
Metrics = Annotated[dict[Text, Percent | None], AfterValidator(_twelve_metrics)]


class Record(BaseModel):
    """Content of a file, as checked as its fields say.

    Attributes:
        most_bytes: of such a file.
        remedy: what the user is to do about a damaged one.
        numbers: schemas that can be read; no number where only this package reads the file, by a key of its content.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    most_bytes: ClassVar[int] = 2**22
    remedy: ClassVar[str] = "delete it and run again"
    numbers: ClassVar[tuple[int | None, ...]] = ()

    @classmethod
    def read(cls, path: Path, files: SafeDirectory) -> Self:
        """The content of a json file, or of a YAML file by its ending.

        Args:
            path: the file.
            files: of the directory that it lies in.

        Raises:
            DataError: missing, damaged, too large, or of another schema: one line that names the field and its value.
        """
        yaml = path.suffix == ".yaml"
        content = read_yaml(path, files=files) if yaml else read_json(path, cls.most_bytes, files)
        return cls.parse(content, path)

    @classmethod
    def parse(cls, content: object, source: Path | str) -> Self:
        """Check what a file holds that messages call `source`; raises as `read`."""
        if not isinstance(content, dict):
            raise DataError(f"{source} holds {short_repr(content)}, must hold an object; {cls.remedy}")
        number = content.get("schema")
        if cls.numbers and (isinstance(number, bool) or number not in cls.numbers):
            raise cls._other_schema(number, source)
        return cls.make({name: value for name, value in content.items() if name != "schema"}, source)

    @classmethod
    def make(cls, fields: dict[str, Any], source: Path | str) -> Self:
        """As the constructor, from anything; raises as `read`."""
        try:
            _check_plain(fields)
            return cls.model_validate(fields)
        except ValueError as error:
            reason = _first(error) if isinstance(error, ValidationError) else str(error)
            raise DataError(f"{source} is not valid: {reason}; {cls.remedy}") from None

    @classmethod
    def _other_schema(cls, number: object, source: Path | str) -> DataError:
        what = f"{source} has schema {short_repr(number)}, and this version reads {SCHEMA}"
        if type(number) is int and number > SCHEMA:
            return DataError(f"{what}: update robustbench-sgdm")
        return DataError(f"{what}; {cls.remedy}")

    def content(self) -> dict[str, Any]:
        """Plain types, as the file holds them."""
        return {**({"schema": SCHEMA} if self.numbers else {}), **self.model_dump()}

    def write(self, path: Path | str, files: SafeDirectory) -> None:
        """Write the json file atomically."""
        files.write_json(path, self.content())


@dataclass(frozen=True, order=True)
class Cell:
    """A cell of a run.

    Attributes:
        model: its name.
        corruption: its name, or `clean`.
        severity: 0 to 5.
        key: hash of everything that its content depends on.
    """

    model: FolderName
    corruption: FolderName
    severity: Severity
    key: Key

    @property
    def folder(self) -> Path:
        """Where it lies below `cells/`."""
        return Path(self.model) / self.corruption / f"{self.severity:g}"

    def __str__(self) -> str:
        return f"{self.model} under {self.corruption} at severity {self.severity:g}"


@dataclass(frozen=True)
class Settings:
    """What decides a cell beside its model, data, corruption and severity.

    Attributes:
        device: `cpu`, `cuda`, `cuda:1`; only its kind enters the key.
        engine: `torch` or `imgaug`, what corrupts; `elsewhere` for predictions whose images were corrupted there.
        seed: of the corruptions.
        batch: images a forward pass; never changes a corrupted pixel, so not part of the key.
    """

    device: Text
    engine: Name
    seed: Integer
    batch: Count = 0

    @property
    def device_kind(self) -> str:
        """`cpu` or `cuda`."""
        return self.device.partition(":")[0]


class ModelInfo(Record):
    """A model of a run, as its detector describes itself.

    Attributes:
        weights: the file they came from; `embedded`, `given` (a detector that was loaded already) or `elsewhere`.
        baseline: the model that it is compared with.
        group: the network that it is one training of.
        seed: of that training.
        fingerprint: hash of the weights and of every setting that decides the output.
        classes: that it finds, in the order of its labels.
        parameters: how many.
        gflops: operations on one image of `imgsz`, 1e9, 2 for each multiply-add.
        file_bytes: size of the weights' file.
        module: the variant of the zoo that it is, such as `sgdm`.
        given_fingerprint: the user's, of a function that is a detector.
        loader: what `--model` takes, such as `torchvision:NAME`, where that is no name of the zoo or file.
        device: `cpu`, `cuda`, `cuda:1`.
        imgsz: side of the square that images are fitted into, px.
        conf: score above which a box is kept.
        iou: overlap above which suppression drops the weaker box.
        max_det: most boxes in an image.
        half: whether in float16.
        end2end: whether by the one-to-one branch of a head that has two.
        runtime: what computes it, such as `onnx`; None is PyTorch.
        runtime_version: of the package that computes.
        layout: what the outputs of an exported model mean.
        pixels: how it takes them.
        unmatched: classes of the model that the data lack; their boxes are left out.
        unfound: classes of the data that the model lacks; they count as AP 0.
        notes: sentences for the user.
        config: `ScoringConfig` as plain types, where the predictions were made elsewhere.
    """

    weights: Text
    baseline: Text | None = None
    group: Annotated[Text, AfterValidator(_group)] | None = None
    seed: Integer | None = None
    fingerprint: Text | None = None
    classes: Texts = ()
    parameters: Count | None = None
    gflops: Number | None = None
    file_bytes: Count | None = None
    module: Text | None = None
    given_fingerprint: Text | None = None
    loader: Text | None = None
    device: Text | None = None
    imgsz: Count | None = None
    conf: Number | None = None
    iou: Number | None = None
    max_det: Count | None = None
    half: Annotated[bool, Strict()] | None = None
    end2end: Annotated[bool, Strict()] | None = None
    runtime: Text | None = None
    runtime_version: Text | None = None
    layout: Text | None = None
    pixels: Text | None = None
    unmatched: Texts = ()
    unfound: Texts = ()
    notes: Texts = ()
    config: dict[Text, Any] | None = None


class DatasetInfo(Record):
    """The images of a run and their ground truth.

    Attributes:
        name: in tables.
        source: what `--data` named.
        images: how many.
        boxes: how many.
        ground_truth: what the boxes are, in words.
        fingerprint: hash of images and ground truth; runs with the same one compare.
        notes: sentences for the user.
    """

    name: Name
    images: Count
    fingerprint: Text
    source: Text = ""
    boxes: Count = 0
    ground_truth: Text = ""
    notes: Texts = ()


class CorruptionInfo(Record):
    """A corruption of a run.

    Attributes:
        family: noise, blur, weather, digital, or of the user's own.
        fingerprint: hash of what decides its pixels.
        summary: what it does.
        source: where it is from.
        strengths: by severity, in words.
        units: of the parameters that these name.
    """

    family: Name
    fingerprint: Text
    summary: Text = ""
    source: Text = ""
    strengths: dict[Text, Name] = {}
    units: dict[Text, Text] = {}


class RecordedConfig(Record):
    """`EvaluationConfig` as plain types. All settings are kept; those that something reads again are checked.

    Attributes:
        fraction: share of the images, in (0, 1].
        images: image folder of a COCO json.
        split: of the data.
        classes: class names of exported files that have none, or a file of them.
        layout: what the outputs of exported files mean, where that is ambiguous.
        normalize: how exported files take pixels, where that is unknown.
    """

    fraction: Annotated[float, Strict(), Field(gt=0, le=1)] = 1.0
    images: Text | None = None
    split: Text = "val"
    classes: Annotated[str | tuple[str, ...], PlainValidator(_text_or_texts)] | None = None
    layout: Text | None = None
    normalize: Text | None = None


class Manifest(Record):
    """`manifest.json` of a run directory: everything needed to do the run again, and its cells with their keys.

    Attributes:
        name: of the directory when it was made.
        command: what started the run.
        config: what the user asked for.
        models: by name, the first one the baseline where nothing else says.
        data: the images and their ground truth.
        corruptions: by name.
        severities: that were asked for.
        settings: what else decides a cell.
        hardware: of the machine.
        inference: `inference_version` of the code that planned it.
        versions: of the libraries.
        cells: in order.
        shifts: run directories of the same models on other data sets, beside this one, by the shift's name.
    """

    numbers = (SCHEMA,)
    remedy = "run again under another --name"

    name: Text = ""
    command: Text = ""
    config: RecordedConfig = RecordedConfig()
    models: Annotated[dict[FolderName, ModelInfo], BeforeValidator(_at_most_a_thousand)]
    data: DatasetInfo
    corruptions: Annotated[dict[FolderName, CorruptionInfo], BeforeValidator(_at_most_a_thousand)]
    severities: Annotated[tuple[Severity, ...], FailFast()] = ()
    settings: Settings
    hardware: dict[Text, Any] = {}
    inference: Text = ""
    versions: dict[Text, Text] = {}
    cells: Annotated[tuple[Cell, ...], FailFast()]
    shifts: Annotated[dict[FolderName, FolderName], BeforeValidator(_at_most_a_thousand)] = {}

    @classmethod
    def _other_schema(cls, number: object, source: Path | str) -> DataError:
        if type(number) is not int or number >= SCHEMA:
            return super()._other_schema(number, source)
        return DataError(
            f"{source} was written by an earlier version (schema {short_repr(number)}; this one reads {SCHEMA}): run it "
            "again under another --name, or with `robustbench run --exist-ok` to keep its cells; pandas reads its "
            "results.csv"
        )

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        models, corruptions = self.models, self.corruptions
        if (pairs := len(models) * len(corruptions)) > _MAX_PAIRS:
            raise ValueError(
                f"it names {len(models):,} models and {len(corruptions):,} corruptions, {pairs:,} pairs of them; may "
                f"name {_MAX_PAIRS:,}"
            )
        for cell in self.cells:
            if cell.model not in models:
                raise ValueError(f"it lists a cell of {short_repr(cell.model)}, which it does not describe")
            if cell.corruption not in corruptions and cell.corruption != CLEAN:
                raise ValueError(
                    f"it lists a cell under {short_repr(cell.corruption)}, which it does not describe"
                )
        if len({cell.folder for cell in self.cells}) != len(self.cells):
            raise ValueError("it lists a cell twice")
        for name, model in models.items():
            # A group of trainings has a name of its own, or that of one of them.
            if model.group in models and models[model.group].group != model.group:
                raise ValueError(
                    f"{short_repr(name)} is of group {short_repr(model.group)}, which is another model"
                )
        return self


class CellScores(Record):
    """`scores.json` of a cell, which makes it complete.

    Attributes:
        key: of the cell that it was made for.
        metrics: COCO's twelve in percent; None where the ground truth has no such object.
        per_class: AP by class, in percent.
        detections: how many the cell stores; None where its scores come from elsewhere and it stores none.
        scoring: `versions.scoring_version` of the code that scored it.
    """

    key: Text
    scoring: Text = ""
    metrics: Metrics
    per_class: dict[Text, Percent | None]
    detections: Count | None


class ErrorAnalysis(Record):
    """`error_analysis.json` in the statistics of a cell: its errors and its calibration.

    Attributes:
        key: of the cell.
        version: of the analysis.
        objects: how many, by what became of them.
        false: boxes that found no object.
        delta_ap: AP50, in [0, 1], that correcting each of TIDE's error types would gain.
        counts: how many errors there are of each type.
        ece: expected calibration error.
        max_calibration_error: the largest of a bin.
        detections: how many were looked at.
        bins: of confidence: low, high, mean confidence, precision, count.
    """

    most_bytes = 2**20

    key: Text
    version: Count
    objects: dict[Text, Count]
    false: Count
    delta_ap: dict[Text, Number]
    counts: dict[Text, Count]
    ece: Number
    max_calibration_error: Number
    detections: Count
    bins: Annotated[tuple[tuple[Number, Number, Number, Number, Count], ...], FailFast()]


class TrainingResult(Record):
    """`result.json` of a training, which marks it as finished.

    Attributes:
        model: name in the zoo.
        seed: of initial weights, order and augmentation.
        metrics: as in `CellScores`, on the validation images at the training size.
        per_class: as there.
        best_epoch: the epoch whose averaged weights were kept, from 1.
        seconds: wall time of training, validation after each epoch included.
        batch: images a step, as it was after halving for want of memory.
        health: what was wrong, a line each.
    """

    remedy = "remove it, and --resume trains this run again"

    model: Text
    seed: Integer
    metrics: Metrics
    per_class: dict[Text, Percent | None]
    best_epoch: Count
    seconds: Number
    batch: Count
    health: Texts


class Recipe(Record):
    """`recipe.yaml` of a training or of a comparison, whose trainings share it; the first edition's too.

    Attributes:
        versions: of the libraries.
    """

    numbers = (None, SCHEMA)
    remedy = "give another --name to start again"

    versions: dict[Text, Text]


class ComparisonRecipe(Recipe):
    """What `recipe.yaml` of a comparison has more.

    Attributes:
        runs: seeds by model, finished or not.
    """

    runs: dict[Text, Annotated[tuple[Integer, ...], FailFast()]]

    @property
    def pairs(self) -> list[tuple[str, int]]:
        """(model, seed) of every run, in order."""
        return [(model, seed) for model, seeds in self.runs.items() for seed in seeds]

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        if not 0 < len(self.pairs) <= _MAX_RUNS:
            raise ValueError(f"it plans {len(self.pairs):,} runs, must plan 1 to {_MAX_RUNS:,}")
        return self


class DashboardJob(Record):
    """`dashboard.json` of a run that a dashboard started.

    Attributes:
        pid: of its process.
        arguments: of `robustbench run`, without the directory.
        started: when, in seconds since 1970.
        share: of the run that was there before, in [0, 1].
        stopping: when it was asked to stop; 0 for never.
    """

    most_bytes = 2**16

    pid: Annotated[int, Strict(), Field(gt=0, lt=2**31)]
    arguments: Texts
    started: Number
    share: Number = 0.0
    stopping: Number = 0.0


def _check_plain(value: object, deepest: int = _DEEPEST) -> None:
    """Refuse what json cannot write again; depth before anything else, since what reads it calls itself as often."""
    if deepest < 0:
        raise ValueError(f"it is nested deeper than {_DEEPEST}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"it holds {value}, and numbers must be finite")
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            _check_plain(part, deepest - 1)


_MUST = {
    **dict.fromkeys(("model_type", "dataclass_type", "dict_type"), "must be an object"),
    "tuple_type": "must be a list",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
}


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, in words: the field, what it holds, what it must hold."""
    if error.error_count() > _MAX_ERRORS:
        return f"{error.error_count():,} of its values are not what they must be"
    first = error.errors(include_url=False, include_context=False)[0]
    place, kind = _place(first["loc"]), first["type"]
    if kind == "missing":
        return f"it lacks {place}"
    must = _MUST.get(kind, first["msg"].removeprefix("Value error, ").replace("Input should be", "must be"))
    return f"{place} is {short_repr(first['input'])}, {must}" if place else must


def _place(parts: Sequence[int | str]) -> str:
    """A field as a message names it: `models.yolov8n.baseline`, `cells[3].key`."""
    text = ""
    for part in parts:
        if part == "[key]":  # pydantic's word for the name itself
            continue
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += "." * bool(text) + (part if part.isidentifier() and len(part) <= 60 else short_repr(part))
    return text
