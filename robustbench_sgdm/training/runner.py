"""Train detectors under one recipe, for one or several seeds, so that they can be compared."""

import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ultralytics.utils import RANK

from robustbench_sgdm import corruption
from robustbench_sgdm.config import InferenceConfig, TrainingConfig
from robustbench_sgdm.core.errors import DataError, RobustBenchError, TrainingFailedError, UsageError
from robustbench_sgdm.core.safe_directory import SafeDirectory
from robustbench_sgdm.core.untrusted_input import short_list, short_repr
from robustbench_sgdm.core.worker_bootstrap import without_cwd_imports
from robustbench_sgdm.detectors import is_out_of_memory, select_device
from robustbench_sgdm.detectors.ultralytics import weights
from robustbench_sgdm.detectors.ultralytics.weights import Weights
from robustbench_sgdm.store.csv_files import parse_csv
from robustbench_sgdm.store.locks import exclusive_lock
from robustbench_sgdm.training import comparison, health, initialization, model_card, training_state
from robustbench_sgdm.training.augmentation import CorruptionAugmentation
from robustbench_sgdm.training.comparison import TrainedRun
from robustbench_sgdm.training.data import TrainingData, export_splits, load_training_data, sample_batches
from robustbench_sgdm.training.evaluate import evaluate_weights
from robustbench_sgdm.training.initialization import InitializedModel
from robustbench_sgdm.training.progress import ProgressCallback, ProgressFunction
from robustbench_sgdm.training.recipes import recipe as named_recipe
from robustbench_sgdm.training.trainer import Callback, ReproducibleTraining, SplitFolders, make_callbacks

_LOG = logging.getLogger(__name__)


def train(config: TrainingConfig) -> list[TrainedRun]:
    """Train each model with each seed in `project/name/<model>-seed<k>/`, one after the other.

    For a seed, all models see the same images in the same order with the same augmentation, and a grafted one starts
    from its baseline's tensors wherever it shares them. On one kind of CPU, with one thread and `workers=0`, the same
    call gives the same weights, bit for bit, interrupted and resumed or not.

    The folder also gets `data.yaml`, `recipe.yaml`, `runs.csv` and `summary.csv` (mean and spread over seeds).

    Raises:
        UsageError: an unknown model, class, recipe or argument, or a resume of something else.
        DataError: an empty split, or a box outside its image.
        TrainingFailedError: at the end, if runs failed; what they left is kept.
        RobustBenchError: another process trains in the folder.
    """
    models, seeds = list(dict.fromkeys(config.models)), list(dict.fromkeys(config.seeds))
    for model in models:
        initialization.check_trainable(model)
    comparison.check_names(models)
    noise = corruption.load_corruptions(config.corruptions).select(config.noise)
    arguments = _arguments(config, models)
    make_callbacks(config.loggers, [])
    data = _load_data(config)
    splits = export_splits(data, config.classes)
    init_weights = weights.read_weights(config.init) if config.init else None
    pictures = sample_batches(data.train, arguments["imgsz"]) if init_weights else []
    starts = [
        (initialization.initialize_model(m, splits.names, seed, init_weights, pictures), seed)
        for seed in seeds
        for m in models
    ]
    _warn(dict.fromkeys(model.note for model, _ in starts if model.note))
    settings = _SharedSettings(
        data,
        splits,
        config.recipe,
        arguments,
        CorruptionAugmentation(tuple(noise)) if noise else None,
        tuple(config.loggers),
        init_weights,
    )
    name = config.name or data.name
    folder = free_folder(config.project, name, config.exist_ok or config.resume)
    _warn(_unfinished_notes(config.project / name, folder))
    files = SafeDirectory(folder)
    if config.resume and not files.is_file("recipe.yaml"):
        _warn([f"{folder} has no comparison to resume; a new one starts there"])
    with exclusive_lock(folder):
        files.check()
        runs = [_TrainingRun(model, seed, folder, settings) for model, seed in starts]
        shared = settings.shared_metadata()
        for run in runs:
            run.prepare(config.resume)
        if config.resume:
            comparison.check_resumable(folder, shared)
        splits.write(folder / "data.yaml")
        comparison.write_recipe(folder, shared, [(run.model.name, run.seed) for run in runs])
        return _train_all(runs, folder, config.report)


def _arguments(config: TrainingConfig, models: Sequence[str]) -> dict[str, Any]:
    """What Ultralytics' trainer is told."""
    chosen = {name: getattr(config, name) for name in ("epochs", "imgsz", "batch", "workers")}
    arguments = named_recipe(config.recipe, models, {**config.arguments, **chosen})
    ignored = [key for key in ("lr0", "momentum") if config.arguments.get(key) is not None]
    if ignored and str(arguments.get("optimizer", "auto")).lower() == "auto":
        _warn(
            [
                f"optimizer=auto decides {' and '.join(ignored)} itself; name an optimizer, such as SGD, to set it"
            ]
        )
    InferenceConfig(imgsz=arguments["imgsz"])  # refused now rather than after an hour
    arguments["device"] = _select_devices(config.device)
    return arguments


def _warn(texts: Iterable[str]) -> None:
    for text in texts:
        _LOG.warning("%s", text)


def _train_all(runs: Sequence["_TrainingRun"], folder: Path, report: ProgressFunction) -> list[TrainedRun]:
    """One after the other; a run that fails does not cost the others."""
    done: list[TrainedRun] = []
    failed: dict[str, str] = {}
    left_out: list[str] = []
    for run in runs:
        _LOG.info("%s: %s", run.name, run.model.start)
        try:
            done.append(TrainedRun.read(run.folder) or run.train(report))
        except RobustBenchError as error:
            failed[run.name] = str(error)
            _LOG.error("%s failed: %s", run.name, error)
        else:
            try:
                left_out = comparison.write_tables(folder)
            except RobustBenchError as error:
                _LOG.warning("runs.csv and summary.csv are not written: %s", error)
            for finding in done[-1].health:
                _LOG.warning("%s: %s", run.name, finding)
    if left_out:
        _LOG.warning(
            "runs.csv and summary.csv leave out %s: trained on other data or with another recipe",
            short_list(left_out),
        )
    if failed:
        raise TrainingFailedError(failed, done)
    return done


@dataclass(frozen=True)
class _SharedSettings:
    """What all runs of a comparison share."""

    data: TrainingData
    splits: SplitFolders
    recipe: str
    arguments: Mapping[str, Any]
    noise: CorruptionAugmentation | None
    loggers: Sequence[str]
    init: Weights | None

    def metadata(self, model: InitializedModel, seed: int) -> dict[str, Any]:
        """Everything needed to do one run again."""
        shared = self.shared_metadata()
        arguments = dict(sorted({**shared["arguments"], "seed": seed}.items()))
        return {"model": model.name, "start": model.start, **shared, "arguments": arguments}

    def shared_metadata(self) -> dict[str, Any]:
        """What every run of the comparison is told alike."""
        metadata = model_card.run_metadata(self.data, self.splits, self.recipe, self.arguments, self.init)
        return metadata | ({"noise augmentation": self.noise.metadata()} if self.noise else {})


@dataclass(frozen=True)
class _TrainingRun:
    """One (model, seed) of a comparison."""

    model: InitializedModel
    seed: int
    comparison: Path
    settings: _SharedSettings

    @property
    def name(self) -> str:
        return comparison.run_name(self.model.name, self.seed)

    @property
    def folder(self) -> Path:
        return self.comparison / self.name

    @property
    def files(self) -> SafeDirectory:
        return SafeDirectory(self.comparison)

    @property
    def metadata(self) -> dict[str, Any]:
        return self.settings.metadata(self.model, self.seed)

    @property
    def state(self) -> Path:
        return self.folder / "weights" / training_state.STATE_FILE

    @property
    def last(self) -> Path:
        return self.folder / "weights" / "last.pt"

    @property
    def best(self) -> Path:
        return self.folder / "weights" / "best.pt"

    def prepare(self, resume: bool) -> None:
        """Make sure that what lies in the folder is this run's, or nothing."""
        if resume:
            comparison.check_resumable(self.folder, self.metadata)
        else:
            comparison.clear_run_folder(self.folder)

    def train(self, report: ProgressFunction) -> TrainedRun:
        """Train from the start, or from where the folder's state says; then keep the best weights.

        Raises:
            RobustBenchError: whatever went wrong.
        """
        try:
            return self._train(report)
        except RobustBenchError:
            raise
        except Exception as error:  # Ultralytics and torch meet odd arguments with any kind
            raise RobustBenchError(self._reason(error)) from error

    def _train(self, report: ProgressFunction) -> TrainedRun:
        before = training_state.read_state(self.state, self.files) if self.files.is_file(self.state) else None
        if before:
            self._check()
        else:
            comparison.clear_run_folder(self.folder)
        if not (before and before["finished"]):
            self._epochs(before, report)
        if not (self.files.is_file(self.best) and self.files.is_file(self.state)):
            raise RobustBenchError(f"{self.name} finished without weights; see {self.folder / 'results.csv'}")
        return self._keep()

    def _check(self) -> None:
        """Refuse checkpoints that cannot be read at the end, before more epochs are spent on them."""
        for path in (self.last, self.best):
            try:
                if self.files.is_file(path):
                    weights.read_weights(path)
            except DataError as error:
                raise DataError(
                    f"{path} is damaged or not from here: remove {self.state} to train this model from its start"
                ) from error

    def _epochs(self, before: Mapping[str, Any] | None, report: ProgressFunction) -> None:
        shared = self.settings
        events: list[Mapping[str, Callback]] = [
            _RecipeWriter(self.metadata).events(),
            ProgressCallback(self.model.name, report).events(),
            health.HealthMonitor().events(),
        ]
        if shared.noise:
            events.append({"on_train_start": shared.noise.attach})
        arguments = {
            **shared.arguments,
            "seed": self.seed,
            "model": self.model.name,
            "data": str(self.comparison.resolve() / "data.yaml"),
            "project": str(self.comparison.resolve()),
            "name": self.name,
            "exist_ok": True,
        }
        if before:
            arguments["batch"] = before["batch"]  # halved in its first epoch, perhaps
            _LOG.info("%s: resumes after epoch %d", self.name, before["epoch"] + 1)
        run = ReproducibleTraining(overrides=arguments, _callbacks=make_callbacks(shared.loggers, events))
        run.model = self.model.model
        # Ultralytics empties the folder before it spawns processes, unless it resumes.
        run.resume = bool(before)
        self.files.check()  # Ultralytics writes there by path
        with without_cwd_imports():  # Ultralytics starts a process for each GPU
            run.train()  # type: ignore[no-untyped-call]

    def _reason(self, error: Exception) -> str:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        kept = (
            f"; {self.last} is kept, and --resume continues after it"
            if self.files.is_file(self.state)
            else ""
        )
        if is_out_of_memory(error):
            batch, imgsz = self.settings.arguments["batch"], self.settings.arguments["imgsz"]
            return (
                f"memory ran out with --batch {batch} at --imgsz {imgsz}: give less of either{kept} ({text})"
            )
        return f"{text}{kept}"

    def _keep(self) -> TrainedRun:
        """Write `best.safetensors`, its scores and its card, then the mark that all is done."""
        files, arguments = self.files, self.settings.arguments
        state = training_state.read_state(self.state, files)
        training_state.restore_logs(state, self.folder, files)
        log = parse_csv(self.folder / "results.csv", files)
        fitness = log["metrics/mAP50-95(B)"]
        epoch = int(log["epoch"][fitness == fitness.max()].iloc[-1]) if fitness.notna().any() else len(log)
        seconds = round(float(log["time"].iloc[-1]), 1)
        problems = health.diagnose_log(parse_csv(self.folder / "health.csv", files))
        if (batch := int(state["batch"])) != arguments["batch"]:
            problems.append(
                f"not enough memory for batch {arguments['batch']}: trained with {batch}, unlike the others; "
                f"train all with --batch {batch}"
            )
        metadata = {
            **self.metadata,
            "best_epoch": epoch,
            "seconds": round(seconds),
            "imgsz": arguments["imgsz"],
        }
        metadata["effective"] = comparison.read_recipe(self.folder, files).get("effective", {})
        path = self.folder / "best.safetensors"
        best, names = weights.read_weights(self.best), self.settings.splits.names
        header = model_card.weights_header(metadata)
        weights.write_weights(
            path, best.state, self.model.config, names, header, layers=best.layers, files=files
        )
        training_state.strip_checkpoint(self.last, files)
        training_state.strip_checkpoint(self.best, files)
        device = _select_devices(arguments["device"].split(",")[0])
        data = self.settings.data
        scores = evaluate_weights(path, data.val, imgsz=arguments["imgsz"], batch=2 * batch, device=device)
        objects = data.val.count_objects(names)
        problems += health.diagnose_run(len(data.train), batch, objects, scores.metrics["AP"])
        files.write_text(
            self.folder / "best.md",
            model_card.model_card_text(weights.read_weights(path), {arguments["imgsz"]: scores}, problems),
        )
        done = TrainedRun(
            self.model.name, self.seed, self.folder, scores, epoch, seconds, batch, tuple(problems)
        )
        done.write()
        return done


@dataclass
class _RecipeWriter:
    """Writes `recipe.yaml` in the run's folder, which a spawned process may just have made anew."""

    metadata: Mapping[str, Any]
    _batch: int = field(default=0, init=False)

    def events(self) -> dict[str, Callback]:
        """Callbacks by the name of Ultralytics' event."""
        return {"on_pretrain_routine_end": self._write, "on_train_epoch_start": self._write}

    def _write(self, run: ReproducibleTraining) -> None:
        if RANK <= 0 and run.batch_size != self._batch:  # at the start, and where memory was short
            self._batch = run.batch_size
            text = model_card.as_yaml({**self.metadata, "effective": model_card.effective_arguments(run)})
            training_state.files_of(run).write_text(Path(run.save_dir) / "recipe.yaml", text)


def _select_devices(device: str | int | None) -> str:
    """`cpu`, `cuda:0`, or `0,1` for several GPUs, each of them there.

    Raises:
        UsageError: one is not.
    """
    if device is None:
        return select_device()
    devices = list(dict.fromkeys(select_device(one.strip()) for one in str(device).split(",")))
    if len(devices) > 1 and "cpu" in devices:
        raise UsageError(f"device {device!r} mixes the CPU with GPUs; give one kind")
    return devices[0] if len(devices) == 1 else ",".join(one.removeprefix("cuda:") for one in devices)


def _load_data(config: TrainingConfig) -> TrainingData:
    if isinstance(config.data, str | Path):
        data = load_training_data(str(config.data), config.val, config.progress)
        _warn([*data.train.notes, *data.val.notes])
    elif isinstance(config.data, TrainingData):
        data = config.data
    else:
        raise UsageError(f"data is {short_repr(config.data)}, must be a name, a path or TrainingData")
    metadata = {**data.metadata, "fraction": config.fraction}
    return TrainingData(data.name, data.train.subset(config.fraction), data.val, metadata)


def _unfinished_notes(first: Path, folder: Path) -> list[str]:
    """A sentence for each unfinished comparison of the name that was asked for, which this one does not continue."""
    notes: list[str] = []
    for number in itertools.count(1):
        earlier = first if number == 1 else first.with_name(f"{first.name}{number}")
        if earlier == folder or not earlier.is_dir():
            return notes
        if absent := comparison.unfinished_runs(earlier):
            notes.append(
                f"{earlier} is an unfinished comparison that lacks {short_list(absent, 3)}: the command that "
                "began it "
                f"resumes it with --resume --name {earlier.name}; this one writes {folder}"
            )
    return notes


def free_folder(project: Path, name: str, exist_ok: bool) -> Path:
    """`project/name`; a new folder, numbered from 2 where it exists, as Ultralytics does, unless `exist_ok`."""
    if not name or Path(name).name != name or name.startswith("."):
        raise UsageError(f"--name {name!r} must be a plain folder name")
    if exist_ok:
        return project / name
    folder = project / name
    try:
        project.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(2):
            with suppress(FileExistsError):
                folder.mkdir()
                break
            folder = project / f"{name}{number}"
    except OSError as error:
        reason = error.strerror or error
        raise RobustBenchError(f"cannot make {folder}: {reason}; give another --project") from error
    return folder
