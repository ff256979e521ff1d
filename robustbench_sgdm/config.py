"""The settings that users choose: validated once, and written into the manifest of a run as they are.

A path may be given as text, and one value where a field holds several.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from robustbench_sgdm.core.config_fields import (
    Converted,
    NumbersField,
    OptionalPathField,
    OptionalTextsField,
    PathField,
    PathsField,
    SeedsField,
    TextsField,
    check_fields,
)
from robustbench_sgdm.core.errors import UsageError, unknown_name_error
from robustbench_sgdm.core.progress import Progress, no_progress

if TYPE_CHECKING:
    from robustbench_sgdm.api import Run
    from robustbench_sgdm.detectors import Detector
    from robustbench_sgdm.training import TrainingData, TrainingProgress


def ignore(_: object) -> None:
    """Do nothing."""


def check_severities(severities: Iterable[float]) -> tuple[float, ...]:
    """Severities in order, each once.

    Raises:
        UsageError: none, one is outside [0, 5], or finer than 0.001.
    """
    values = sorted({float(severity) for severity in severities})
    if not values:
        raise UsageError("--severity is empty; choose at least one, such as 0-5")
    for severity in values:
        if not 0 <= severity <= 5:
            raise UsageError(
                f"severity {severity:g} is outside [0, 5]; 0 is clean, 1 to 5 are the published levels"
            )
        if round(severity, 3) != severity:
            raise UsageError(f"severity {severity!r} has more than three decimals; round it")
    return tuple(values)


def check_name(what: str, value: str, known: Any) -> None:
    """Refuse what a `Literal` does not have; a type checker alone sees what a notebook passes."""
    if value not in get_args(known):
        raise unknown_name_error(what, value, get_args(known))


ImageIds = Literal["auto", "id", "file-name"]
"""How images are found: as the predictions tell, by `image_id` as the data set's id, or by `file_name`, else by
`image_id` as the stem of the file."""

CategoryIds = Literal["auto", "id", "from-0", "from-1", "coco", "name"]
"""What `category_id` is: as the predictions tell; the data set's id; the place among its classes, in the order of their
ids, counted from 0 or from 1; COCO's id, 1 to 90 with gaps; or nothing, where `category_name` names the class."""

ScoringEngine = Literal["elsewhere", "torch", "imgaug"]
"""What corrupted the images of predictions: another program, or one of ours."""

ImageFormat = Literal["png", "jpg"]
"""Of corrupted copies."""

ExportFormat = Literal["onnx", "openvino"]
"""Of exported models."""

LossSplit = Literal["train", "val"]
"""Whose losses a curve shows."""

EXECUTORS = ("local", "ray")
LAYOUT_NAMES = ("raw", "end2end", "rtdetr", "torchvision", "detr")
NORMALIZE_NAMES = ("unit", "imagenet")
RUNTIME_NAMES = ("pytorch", "onnx", "openvino", "tensorrt", "auto")
_MAX_IMGSZ = 7680  # px; Ultralytics keeps classes apart in suppression by shifting boxes as far
_MAX_BOXES = 30_000  # candidates that Ultralytics' suppression looks at


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """The settings that affect a detector's output besides its weights; defaults as in Ultralytics' `val`.

    Attributes:
        imgsz: side in pixels of the square that images are letterboxed into, a multiple of 32; 0 for the training size in
            each model's file, or 640. Other sizes, which Ultralytics would round up, are rejected, so that a result has
            the requested size.
        device: `cpu`, `cuda`, `cuda:1` or an index; None is the first GPU, or the CPU without one.
        half: float16 weights and activations; CUDA only.
        conf: confidence above which a box counts, in [0, 1).
        iou: IoU above which NMS drops the weaker box, in (0, 1].
        max_det: maximum boxes per image.
        end2end: use the one-to-one branch of a head that has two (YOLOv10, YOLO26); its boxes need no NMS. None
            does as Ultralytics' `val`: the other branch, unless fusion removed it.
        trust_weights: run the code in a `.pt`, a TorchScript file or a TensorRT engine. Only for files that you trust
            fully.
        classes: class names of exported files that have none, in label order; or a file of them.
        layout: output layout of exported files, if it is ambiguous: a name of `runtimes.LAYOUTS`.
        normalize: pixel normalisation of exported files, if it is unknown: `unit` (in [0, 1]) or `imagenet`.
        runtime: of checkpoints: `pytorch`, `onnx`, `openvino` or `tensorrt`; `auto` takes the fastest.
            Exported files have their own.
        download: fetch missing weights: torchvision's published ones, or those of a name on Hugging Face's hub.

    Raises:
        UsageError: a value is outside its bounds.
    """

    imgsz: int = 0
    device: str | int | None = None
    half: bool = False
    conf: float = 0.001
    iou: float = 0.7
    max_det: int = 300
    end2end: bool | None = None
    trust_weights: bool = False
    classes: str | Path | Sequence[str] | None = None
    layout: str | None = None
    normalize: str | None = None
    runtime: str = "pytorch"
    download: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if isinstance(self.device, int):  # 0 is a GPU, and would else read as no device
            object.__setattr__(self, "device", str(self.device))
        for what, value, known in (
            ("layout", self.layout, LAYOUT_NAMES),
            ("normalize", self.normalize, NORMALIZE_NAMES),
            ("runtime", self.runtime, RUNTIME_NAMES),
        ):
            if value is not None and value not in known:
                raise unknown_name_error(what, value, known)
        if self.imgsz and (not 32 <= self.imgsz <= _MAX_IMGSZ or self.imgsz % 32):
            nearest = min(max(round(self.imgsz / 32), 1) * 32, _MAX_IMGSZ)
            raise UsageError(f"imgsz is {self.imgsz}, must be 32, 64, ... {_MAX_IMGSZ} pixels; try {nearest}")
        if not 0 <= self.conf < 1:
            raise UsageError(f"conf is {self.conf}, must be in [0, 1); 0.001 for average precision")
        if not 0 < self.iou <= 1:
            raise UsageError(f"iou is {self.iou}, must be in (0, 1]; Ultralytics validates with 0.7")
        if not 1 <= self.max_det <= _MAX_BOXES:
            raise UsageError(f"max_det is {self.max_det}, must be from 1 to {_MAX_BOXES}")

    @property
    def inference(self) -> "InferenceConfig":
        """Only these settings, of a configuration that has more."""
        return InferenceConfig(**{one.name: getattr(self, one.name) for one in fields(InferenceConfig)})

    @property
    def output_settings(self) -> dict[str, Any]:
        """The part that decides boxes and so belongs to a detector's fingerprint."""
        return {name: getattr(self, name) for name in _OUTPUT}


_OUTPUT = ("imgsz", "conf", "iou", "max_det", "half", "end2end")


@dataclass(frozen=True)
class EvaluationConfig(InferenceConfig):
    """A run: detectors, data, corruptions, severities, and where it is computed and stored.

    Attributes:
        models: zoo names, paths of checkpoints or model YAMLs, and detectors that are loaded already. For a module
            variant such as `yolov8n-sgdm` its baseline is added.
        weights: files by the name of a model or of a baseline that runs beside one.
        from_train: instead of `models`: the directory of a comparison of trainings; each training runs beside the one of
            its baseline with the same seed.
        baseline: the model that all others are compared with; None for a module variant's own, else the first model.
        add_baselines: also run the baseline of each module variant.
        allow_identical: continue if two compared models detect the same, such as an untrained module.
        data: `scenes`, `coco`, a COCO json or an Ultralytics dataset YAML.
        images: image folder of a COCO json, if not in a usual place beside it.
        split: of `coco` or of a dataset YAML.
        shifts: other data sets by name, such as images at night: the models run on them too, and comparisons with them
            are not paired. In a folder in COCO-O's layout each data set is a shift.
        fraction: share of the images, in (0, 1]; always the same ones.
        noise: corruptions, groups, or corruptions with a strength (`gaussian_noise[sigma=0.15]`).
        severity: from 0 (clean) to 5, any real numbers.
        corruptions: folders with corruptions of the user's own. Their code is run.
        engine: `torch` (ours) or `imgaug` (the reference, slow); it corrupts the images.
        seed: of the corruptions.
        batch: images in a forward pass; 0 for 4 on the CPU and 32 on a GPU. No result depends on it.
        executor: `local` or `ray`.
        workers: processes; 0 for threads of this one, or as many as a Ray cluster has room for.
        address: `host:port` of a Ray cluster, or `auto`; None starts one for the run.
        gpus: of each Ray worker on a GPU; a half lets two share one.
        project: folder of run directories.
        name: of the run directory; by default made of models, corruptions and data.
        exist_ok: use an existing directory with another plan, and keep the cells that fit.
        command: that started the run, for its manifest.
        progress: called while the run is prepared and computed; not in the manifest.

    Raises:
        UsageError: a value is outside its bounds, or two cannot be combined.
    """

    models: Converted[
        "str | Path | Detector | Iterable[str | Path | Detector]", tuple["str | Path | Detector", ...]
    ] = Converted(())
    _: KW_ONLY
    weights: Mapping[str, str | Path] = field(default_factory=dict)
    from_train: OptionalPathField = OptionalPathField(None)
    baseline: str | None = None
    add_baselines: bool = True
    allow_identical: bool = False
    data: str | Path = "scenes"
    images: OptionalPathField = OptionalPathField(None)
    split: str = "val"
    shifts: Mapping[str, str | Path] = field(default_factory=dict)
    fraction: float = 1.0
    noise: TextsField = TextsField("gaussian")
    severity: NumbersField = NumbersField((0, 1, 2, 3, 4, 5))
    corruptions: PathsField = PathsField(())
    engine: str = "torch"
    seed: int = 0
    batch: int = 0
    executor: str = "local"
    workers: int = 0
    address: str | None = None
    gpus: float = 1.0
    project: PathField = PathField(Path("runs/robustness"))
    name: str | None = None
    exist_ok: bool = False
    command: str = ""
    progress: Progress = field(default=no_progress, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "severity", check_severities(self.severity))
        if self.from_train and (self.models or self.weights):
            raise UsageError("--from-train sets models and weights; leave out --model and --weights")
        for name in self.shifts:
            if not re.fullmatch(r"\w[\w.-]{0,40}", name):
                raise UsageError(f"--shift {name!r} must be 1 to 41 letters, digits, _, . or -")
        if not self.noise:
            raise UsageError("--noise is empty; choose at least one, such as gaussian")
        if self.executor not in EXECUTORS:
            raise unknown_name_error("executor", self.executor, EXECUTORS)
        if self.executor == "local" and (self.address is not None or self.gpus != 1):
            raise UsageError("--address and --gpus need --executor ray")
        if self.workers < 0 or self.batch < 0:
            raise UsageError(f"workers is {self.workers} and batch is {self.batch}; both must be 0 or more")

    def manifest(self) -> dict[str, Any]:
        """Every setting as plain types; a detector object by its name."""
        return _manifest(self)


@dataclass(frozen=True)
class ExportConfig(InferenceConfig):
    """An export of a checkpoint, fused as it runs here.

    Attributes:
        model: a zoo name or the path of a checkpoint.
        weights: of a zoo name; the bundled ones if None.
        format: `onnx` or `openvino`.
        out: the file (`.onnx`) or OpenVINO's folder (`_openvino_model`); None for the model's name in the current folder.
        int8: quantise to 8 bits, by ONNX Runtime's static quantiser or by NNCF.
        data: images to which the 8-bit ranges are fitted, as in `EvaluationConfig`, also `images` and `split`.
        dynamic: for batches and images of any size; else for single images of one size, which is faster on a CPU.
        progress: called while data are rendered.

    Raises:
        UsageError: an unknown format, or `int8` without `data`, or the reverse.
    """

    model: str | Path = ""
    _: KW_ONLY
    weights: OptionalPathField = OptionalPathField(None)
    format: ExportFormat = "onnx"
    out: OptionalPathField = OptionalPathField(None)
    int8: bool = False
    data: str | Path = ""
    images: OptionalPathField = OptionalPathField(None)
    split: str = "val"
    dynamic: bool = False
    progress: Progress = field(default=no_progress, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not str(self.model):
            raise UsageError("no model given; name one of `robustbench list models` or a checkpoint")
        check_name("format", self.format, ExportFormat)
        if self.int8 != bool(self.data):
            raise UsageError(
                "--int8 needs --calibrate DATA and vice versa: images, such as scenes, to choose the ranges of 8 bits"
            )


@dataclass(frozen=True)
class ChecksConfig(InferenceConfig):
    """Why is this not the published AP: a detector or stored predictions, and the data to look at.

    Attributes:
        model: a zoo name, a path, or whatever else `--model` takes, or a detector that is loaded already.
        weights: of a name.
        predictions: in place of `model`: a COCO results json.
        data: as in `EvaluationConfig`, also `images` and `split`.
        limit: images to run a detector on.
        progress: called after every image; not kept.

    Raises:
        UsageError: a value is outside its bounds, or not exactly one of `model` and `predictions`.
    """

    model: "str | Path | Detector | None" = None
    _: KW_ONLY
    weights: OptionalPathField = OptionalPathField(None)
    predictions: OptionalPathField = OptionalPathField(None)
    data: str | Path = "scenes"
    images: OptionalPathField = OptionalPathField(None)
    split: str = "val"
    limit: int = 32
    progress: Progress = field(default=no_progress, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.model is None) == (self.predictions is None):
            raise UsageError("give either a model or stored predictions to check: --model or --predictions")
        if self.limit < 1:
            raise UsageError(f"limit is {self.limit}, must be 1 or more images")


@dataclass(frozen=True)
class ScoringConfig:
    """Predictions of a detector that ran somewhere else, to be scored like a run's own.

    Attributes:
        sources: directories with CORRUPTION/SEVERITY/*.json and clean.json, `CORRUPTION@SEVERITY=FILE` or `clean=FILE`,
            where a file may be mmdetection's `.pkl`; or mmdetection's nested results as json, YAML or pickle.
        model: name of the detector.
        data: as in `EvaluationConfig`, also `images` and `split`.
        baseline: model of the same run directory to compare it with.
        engine: that corrupted the images: `elsewhere`, or `torch` or `imgaug` if `corrupt_dataset` did, which makes them
            comparable with our runs.
        seed: of the corruptions.
        image_ids: how to find the image of a prediction: `id`, `file-name`, or `auto`, whatever fits all predictions.
        category_ids: what `category_id` is: `id`, `from-0`, `from-1`, `coco`, `name`, or `auto`.
        corruptions: folders with corruptions of the user's own. Their code is run.
        project: folder of run directories.
        name: of the run directory, which may have other models; by default from the data.
        command: that started it, for the manifest.
        progress: called with the cells scored; not in the manifest.

    Raises:
        UsageError: no source, an unknown name, or a model name that cannot be the name of a folder.
    """

    sources: TextsField = TextsField(())
    _: KW_ONLY
    model: str
    data: str | Path
    images: OptionalPathField = OptionalPathField(None)
    split: str = "val"
    baseline: str | None = None
    engine: ScoringEngine = "elsewhere"
    seed: int = 0
    image_ids: ImageIds = "auto"
    category_ids: CategoryIds = "auto"
    corruptions: PathsField = PathsField(())
    project: PathField = PathField(Path("runs/robustness"))
    name: str | None = None
    command: str = ""
    progress: Progress = field(default=no_progress, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.sources:
            raise UsageError("no predictions; pass a directory or CORRUPTION@SEVERITY=FILE")
        if Path(self.model).name != self.model or self.model in {"", "..", "."}:
            raise UsageError(f"--model {self.model!r} must be a plain name: it becomes the name of a folder")
        check_name("engine", self.engine, ScoringEngine)
        check_name("image_ids", self.image_ids, ImageIds)
        check_name("category_ids", self.category_ids, CategoryIds)

    def manifest(self) -> dict[str, Any]:
        """Every setting as plain types."""
        return _manifest(self)


@dataclass(frozen=True)
class ComparisonConfig:
    """Models to compare, of one run or of several over the same images, seed and engine.

    Attributes:
        runs: run directories.
        baseline: compare with this model; None for a module variant's own, for a model of several runs the first run's,
            else the first model.
        models: compare only these with the baseline; all others if none.
        metrics: of AP, AP50, AP75, AP_S, AP_M, AP_L, the measures of `robustness.MEASURES`, and first-failure; the data
            set's own and AP_S if none. Capitals do not matter.
        confidence: from which boxes count in measures and first failures; None for each model's with the highest F1 on
            clean images.
        sizes: edges of ranges of object sizes in pixels, such as 0,16,32,96,inf, in the place of COCO's; the metrics are
            then called AP_0-16, recall_16-32 and so on.
        by_class: also each class, in those of the metrics that classes have, or else in AP.
        seed_groups: networks trained from several seeds, name -> models, in addition to the runs' own.
        resamples: of the images, behind every interval; cached in the run directories.
        seed: of the resamples.
        level: of the intervals, in (0, 1).
        progress: called while statistics are computed that are not cached.

    Raises:
        UsageError: no run.
    """

    runs: Converted["str | Path | Run | Iterable[str | Path | Run]", tuple["str | Path | Run", ...]] = (
        Converted(())
    )
    _: KW_ONLY
    baseline: str | None = None
    models: TextsField = TextsField(())
    metrics: TextsField = TextsField(())
    confidence: float | None = None
    sizes: str | Sequence[float] | None = None
    by_class: bool = False
    seed_groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    resamples: int = 1000
    seed: int = 0
    level: float = 0.95
    progress: Progress = field(default=no_progress, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.runs:
            raise UsageError("no run to compare; pass at least one run directory")


@dataclass(frozen=True)
class CopyConfig:
    """Corrupted copies of a data set, for detectors that run somewhere else.

    Attributes:
        data: as in `EvaluationConfig`, also `images`, `split`, `noise`, `severity`, `corruptions`, `engine` and `seed`.
        out: folder of the copies: OUT/CORRUPTION/SEVERITY/{images,annotations}.
        format: `png` keeps every pixel; `jpg` is a second corruption.
        quality: of JPEG files, 1 to 100.
        limit: copy only the first images; 0 for all.
        manifest: instead of copies, write the sha256 of each corrupted image's pixels into this json.
        sheet: also draw the middle of the first image, clean and under every corruption and severity, into this file.
        progress: called with the images written.

    Raises:
        UsageError: a value is outside its bounds.
    """

    data: str | Path = "scenes"
    _: KW_ONLY
    images: OptionalPathField = OptionalPathField(None)
    split: str = "val"
    noise: TextsField = TextsField("gaussian")
    severity: NumbersField = NumbersField((1, 2, 3, 4, 5))
    corruptions: PathsField = PathsField(())
    engine: str = "torch"
    seed: int = 0
    out: PathField = PathField(Path("runs/corrupted"))
    format: ImageFormat = "png"
    quality: int = 95
    limit: int = 0
    manifest: OptionalPathField = OptionalPathField(None)
    sheet: OptionalPathField = OptionalPathField(None)
    progress: Progress = field(default=no_progress, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "severity", check_severities(self.severity))
        if not self.noise:
            raise UsageError("--noise is empty; choose at least one, such as gaussian")
        check_name("format", self.format, ImageFormat)
        if not 1 <= self.quality <= 100:
            raise UsageError(f"quality is {self.quality}, must be from 1 to 100")
        if self.limit < 0:
            raise UsageError(f"limit is {self.limit}, must be 0 or more")


@dataclass(frozen=True)
class TrainingConfig:
    """A comparison of trainings: every model with every seed, on the same images in the same order.

    Attributes:
        models: zoo names or model YAMLs, such as `yolov8n` and `yolov8n-sgdm`; baseline first.
        data: `scenes`, `coco`, an Ultralytics dataset YAML by path or name (`VOC.yaml`), the training split as a COCO
            json, or data that are loaded already.
        val: the validation split, where `data` is a json.
        classes: to learn, in this order; all of the data's if None.
        fraction: share of the training split, in (0, 1]; the same images whatever the seed.
        recipe: a name of `training.RECIPES`, or `paper` for the models' family's.
        init: weights of the baseline that every model starts from; from scratch if None.
        seeds: of initial weights, order and augmentation.
        epochs: passes over the training split; the recipe's if None, as the next three.
        imgsz: side of the square that images are letterboxed to, px.
        batch: images a step.
        workers: processes that load images; Ultralytics takes 0 on the CPU.
        device: `cpu`, `cuda:0`, an index, or `0,1` for several GPUs; None is the first GPU, or the CPU without one.
        noise: corruptions and groups that half of the training images meet, at drawn severities.
        corruptions: folders with corruptions of the user's own. Their code is run.
        arguments: Ultralytics' training arguments, over the recipe's.
        loggers: Ultralytics' own to attach, such as `tensorboard`.
        project: folder of comparisons.
        name: of the comparison's folder; the data's name if None. An existing one gets a number.
        exist_ok: write into an existing folder instead.
        resume: in an existing folder: finished runs are read, interrupted ones continue.
        report: called after every batch and every epoch with a `training.TrainingProgress`.
        progress: called while data are rendered.

    Raises:
        UsageError: no model, or a seed that is no whole number from 0 to 2147483647.
    """

    models: TextsField = TextsField(())
    _: KW_ONLY
    data: "str | Path | TrainingData" = "scenes"
    val: str | None = None
    classes: OptionalTextsField = OptionalTextsField(None)
    fraction: float = 1.0
    recipe: str = "quick"
    init: OptionalPathField = OptionalPathField(None)
    seeds: SeedsField = SeedsField((0,))
    epochs: int | None = None
    imgsz: int | None = None
    batch: int | None = None
    workers: int | None = None
    device: str | int | None = None
    noise: TextsField = TextsField(())
    corruptions: PathsField = PathsField(())
    arguments: Mapping[str, Any] = field(default_factory=dict)
    loggers: TextsField = TextsField(())
    project: PathField = PathField(Path("runs/train"))
    name: str | None = None
    exist_ok: bool = False
    resume: bool = False
    report: "Callable[[TrainingProgress], None]" = field(default=ignore, compare=False, repr=False)
    progress: Progress = field(default=no_progress, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.models:
            raise UsageError("no model to train; give at least one, such as yolov8n")
        if not self.seeds:
            raise UsageError("no seed to train with; give at least one, such as 0")
        if bad := [seed for seed in self.seeds if not 0 <= seed < 2**31]:
            raise UsageError(f"seed {bad[0]} is not a whole number from 0 to 2147483647")


def _manifest(config: Any) -> dict[str, Any]:
    left_out = ("progress", "command")
    return {
        one.name: _to_plain(getattr(config, one.name)) for one in fields(config) if one.name not in left_out
    }


def _to_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _to_plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_to_plain(one) for one in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return str(getattr(value, "name", value)) if not isinstance(value, Path) else str(value)
