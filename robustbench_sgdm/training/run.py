"""Train detectors one after the other under one recipe and one seed, so that they can be compared."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ultralytics.utils import DEFAULT_CFG_DICT

from robustbench_sgdm import atomic
from robustbench_sgdm.detectors import weights, yolo
from robustbench_sgdm.errors import RobustBenchError, UsageError, unknown
from robustbench_sgdm.scoring import Scores
from robustbench_sgdm.training import arms, record
from robustbench_sgdm.training.arms import Arm
from robustbench_sgdm.training.data import TrainData, export, sample, scenes_data
from robustbench_sgdm.training.evaluate import evaluate
from robustbench_sgdm.training.progress import Clock, Report, print_epochs, print_rendering
from robustbench_sgdm.training.recipes import recipe as named_recipe
from robustbench_sgdm.training.trainer import ArmRun, Splits

_LOG = logging.getLogger(__name__)
_DECIDED = ("model", "resume", "pretrained", "task", "mode", "save_dir", "split", "val", "save", "time")


@dataclass(frozen=True)
class TrainedRun:
    """One trained detector and where its files are.

    Attributes:
        model: name in the zoo.
        folder: Ultralytics' files (`args.yaml`, `results.csv`, `weights/`) and ours.
        weights: `best.safetensors`, read by `detectors.weights.read`.
        scores: COCO scores on the validation images at `imgsz`, by pycocotools.
        best_epoch: the epoch whose averaged weights were kept, from 1.
        seconds: wall time of training, validation after each epoch included.
    """

    model: str
    folder: Path
    weights: Path
    scores: Scores
    best_epoch: int
    seconds: float


def train(
    models: Sequence[str],
    *,
    data: TrainData | str = "scenes",
    classes: Sequence[str] | None = None,
    seed: int = 0,
    epochs: int = 20,
    imgsz: int = 320,
    batch: int = 8,
    device: str = "cpu",
    workers: int = 0,
    fraction: float = 1.0,
    project: Path = Path("runs/train"),
    name: str | None = None,
    exist_ok: bool = False,
    recipe: str = "quick",
    init: Path | None = None,
    report: Report = print_epochs,
    **overrides: Any,
) -> list[TrainedRun]:
    """Train each model in `project/name/<model>-seed<k>/`, sequentially.

    All arms see the same images in the same order with the same augmentation, and a grafted arm starts
    from its baseline's tensors wherever it shares them. On one kind of CPU, with one thread and
    `workers=0`, the same call gives the same weights.

    Args:
        models: names in the zoo, such as `yolov8n` and `yolov8n-sgdm`.
        data: `scenes`, which is rendered on first use, or two data sets of one's own.
        classes: the classes to learn, in this order; all of the data's if None.
        seed: of initialisation, order and augmentation.
        epochs: passes over the training split.
        imgsz: side of the square that images are letterboxed to, px.
        batch: images a step.
        device: `cpu`, `cuda:0`...
        workers: processes that load images; Ultralytics takes 0 on the CPU.
        fraction: share of the training split, in (0, 1]; the same images whatever the seed.
        project: where comparison folders go.
        name: the comparison's folder; the data's name if None. An existing one gets a number.
        exist_ok: write into an existing folder instead.
        recipe: a name of `RECIPES`.
        init: weights of the baseline that every arm starts from; from scratch if None.
        report: called after every batch and every epoch.
        overrides: Ultralytics training arguments, over the recipe's. `amp="bf16"` works on the CPU too.

    Raises:
        UsageError: an unknown model, class, recipe or argument.
        DataError: an empty split, or a box outside its image.
    """
    if not models:
        raise UsageError("no model to train; give at least one, such as yolov8n")
    yolo.Inference(imgsz=imgsz)  # refused now rather than after an hour
    arguments = _arguments(recipe, overrides)
    given = scenes_data(progress=print_rendering) if data == "scenes" else data
    if isinstance(given, str):
        raise UsageError(f"data {given!r} is not known; give scenes, or TrainData of one's own")
    facts = {**given.facts, "fraction": fraction}
    used = TrainData(given.name, given.train.subset(fraction), given.val, facts)
    splits = export(used, classes)
    begin = weights.read(init) if init else None
    pictures = sample(used.train, imgsz) if begin else []
    starts = [arms.build(model, splits.names, seed, begin, pictures) for model in models]
    for arm in starts:
        _LOG.info("%s: %s", arm.name, arm.start)
    folder = free_folder(project, name or used.name, exist_ok)
    arguments |= {"seed": seed, "epochs": epochs, "imgsz": imgsz, "batch": batch, "device": device}
    arguments |= {"workers": workers, "project": str(folder.resolve()), "exist_ok": True, "data": used.name}
    return [_train_one(arm, used, splits, recipe, arguments, report) for arm in starts]


def _train_one(
    arm: Arm, data: TrainData, splits: Splits, recipe: str, arguments: dict[str, Any], report: Report
) -> TrainedRun:
    arguments = {**arguments, "model": arm.name, "name": f"{arm.file_name}-seed{arguments['seed']}"}
    folder = Path(arguments["project"]) / arguments["name"]
    facts = record.facts(arm, data, splits, recipe, arguments)
    atomic.write_text(folder / "recipe.yaml", record.as_yaml(facts))
    run = ArmRun(arm.model, splits, arguments, Clock(arm.name, report).events())
    start = time.perf_counter()
    run.train()  # type: ignore[no-untyped-call]
    seconds = time.perf_counter() - start
    if not run.best_state:
        raise RobustBenchError(f"{arm.name} finished without weights; see {folder / 'results.csv'}")
    facts |= {"best epoch": run.best_epoch, "seconds": round(seconds), "imgsz": arguments["imgsz"]}
    path = folder / "best.safetensors"
    weights.write(path, run.best_state, arm.config, splits.names, record.header(facts))
    batch, imgsz = 2 * arguments["batch"], arguments["imgsz"]
    scores = evaluate(path, data.val, imgsz=imgsz, batch=batch, device=arguments["device"])
    atomic.write_text(folder / "best.md", record.card(weights.read(path), {imgsz: scores}))
    return TrainedRun(arm.name, folder, path, scores, run.best_epoch, seconds)


def _arguments(recipe: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """A recipe's arguments with the overrides, every name known and none that is decided here."""
    for key in overrides:
        if key in _DECIDED:
            raise UsageError(f"{key} cannot be given: a comparison decides it; leave it out")
        if key not in DEFAULT_CFG_DICT:
            raise unknown("training argument", key, sorted(DEFAULT_CFG_DICT))
    return named_recipe(recipe, overrides)


def free_folder(project: Path, name: str, exist_ok: bool) -> Path:
    """`project/name`, numbered from 2 where it exists, as Ultralytics does."""
    if not name or Path(name).name != name or name.startswith("."):
        raise UsageError(f"--name {name!r} must be a plain folder name")
    folder = project / name
    number = 1
    while folder.exists() and not exist_ok:
        number += 1
        folder = project / f"{name}{number}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
