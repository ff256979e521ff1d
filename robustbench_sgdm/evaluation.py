"""A run from its configuration to a complete run directory: load, plan, estimate, sweep, measure."""

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch

from robustbench_sgdm import corruption, datasets, training
from robustbench_sgdm.config import ChecksConfig, CopyConfig, EvaluationConfig, ExportConfig, ScoringConfig
from robustbench_sgdm.core.errors import DeviceError, IncompleteError, RobustBenchError, UsageError
from robustbench_sgdm.core.progress import Progress, format_duration_range, make_counter
from robustbench_sgdm.core.untrusted_input import short_list
from robustbench_sgdm.datasets import Dataset
from robustbench_sgdm.detectors import (
    Detector,
    DetectorEntry,
    compare_with_baseline,
    load_detectors,
    load_trained_detectors,
    select_device,
)
from robustbench_sgdm.store import CellStore, Run, Settings
from robustbench_sgdm.sweep import (
    REPORT_SECONDS,
    Capacity,
    ClassMatch,
    Executor,
    Plan,
    ProcessExecutor,
    ThreadExecutor,
    WorkUnit,
    available_cores,
    check_corruptions,
    check_ray_options,
    count_measurements,
    estimate_seconds,
    have_same_outputs,
    make_plan,
    match_detector,
    measure_image_quality,
    measure_latency,
    pending_units,
    ray_executor,
    run_sweep,
)

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Estimate:
    """How long a run takes.

    Attributes:
        parts: seconds (at least, at most) of each part of the run.
        predictions: images times cells to compute.
        workers: that share them.
        device: that they use.
    """

    parts: Mapping[str, tuple[float, float]]
    predictions: int
    workers: int
    device: str

    @property
    def seconds(self) -> tuple[float, float]:
        """The whole run: at least, at most."""
        low, high = zip(*self.parts.values(), strict=True)
        return sum(low), sum(high)

    def __str__(self) -> str:
        workers = "1 worker" if self.workers == 1 else f"{self.workers:,} workers"
        return f"{format_duration_range(*self.seconds)} on {self.device} with {workers}"

    @property
    def details(self) -> list[str]:
        """Each part and its duration, in words."""
        return [f"{name}: {format_duration_range(*span)}" for name, span in self.parts.items()]


@dataclass(frozen=True)
class Evaluation:
    """A run that is ready to start: everything is loaded and checked, and nothing is written yet.

    Attributes:
        config: what was asked for.
        plan: of the run.
        default_name: of its directory.
        shifts: plans of the same models on other data sets, clean, by the shift's name.
        has_report: whether a report follows, whose time estimates then contain.
    """

    config: EvaluationConfig
    plan: Plan
    default_name: str
    shifts: Mapping[str, Plan] = field(default_factory=dict)
    has_report: bool = False

    @classmethod
    def prepare(cls, config: EvaluationConfig) -> "Evaluation":
        """Load data and detectors, and try every corruption once, so that errors come now and not hours later.

        Raises:
            UsageError: unknown names, or settings that cannot be combined.
            DataError: a file is missing, damaged, or not what it should be.
            RobustBenchError: no Ray cluster answers.
        """
        device = select_device(config.device)
        if config.executor == "ray":
            check_ray_options(config.address, device=device, gpus=config.gpus, connect=False)
        chosen = corruption.load_corruptions(config.corruptions).select(config.noise)
        check_corruptions(chosen, config.severity, config.engine, device)
        dataset = load_dataset(config).subset(config.fraction)
        shifted = {
            # Under the shift's name: several are often called `val`.
            name: replace(
                load_dataset(replace(config, data=source, images=None, split="val")), name=name
            ).subset(config.fraction)
            for name, source in expand_shifts(config.shifts).items()
        }
        smallest = min(dataset.images, key=lambda image: min(image.height, image.width))
        check_corruptions(chosen, config.severity, config.engine, device, (smallest.height, smallest.width))
        config = replace(config, device=device)
        entries = _load_detectors(config)
        for one in (dataset, *shifted.values()):
            _check_detectors(entries, one)
        _log_sizes([entry.detector for entry in entries.values()], config.imgsz)
        name = _default_name(config, entries, dataset.name)
        if config.baseline:  # not part of the name: the cells are the same
            entries = compare_with_baseline(entries, config.baseline)
        settings = Settings(
            device=device,
            engine=config.engine,
            seed=config.seed,
            batch=config.batch or (4 if device == "cpu" else 32),
        )
        plan = make_plan(
            entries,
            dataset,
            chosen,
            config.severity,
            settings,
            command=config.command,
            config=config.manifest(),
        )
        shifts = {
            name: make_plan(
                entries, one, (), [0.0], settings, command=config.command, config=config.manifest()
            )
            for name, one in shifted.items()
        }
        return cls(config, plan, name, shifts)

    @cached_property
    def identical(self) -> list[str]:
        """A sentence for each compared pair that detects the same on a few clean images: an untrained module.

        An export should detect the same as its checkpoint, and is no such pair.
        """
        sentences = []
        runtimes = {name: one.detector.describe().get("runtime") for name, one in self.plan.models.items()}
        for baseline, model in Run(Path(), self.plan.to_manifest()).training_pairs:
            if runtimes[baseline] == runtimes[model] and have_same_outputs(self.plan, baseline, model):
                modules = [
                    self.plan.models[name].detector.describe().get("module") for name in (baseline, model)
                ]
                why = "" if modules[0] == modules[1] else f": its {modules[1]} module is untrained"
                sentences.append(f"{model} detects the same as {baseline}{why}")
        return sentences

    def estimate(self) -> Estimate:
        """How long the whole run takes, estimated from a few measurements; nothing is written.

        Raises:
            RobustBenchError: an image, a corruption or the device fails.
        """
        capacity = self._capacity()
        with tempfile.TemporaryDirectory() as empty:
            store = CellStore(Path(empty))
            whole = self._estimate(self.plan, pending_units(self.plan, store), capacity)
            for name, plan in self.shifts.items():
                one = self._estimate(plan, pending_units(plan, store), capacity)
                parts = {**whole.parts, f"predictions for {name}": one.parts["predictions"]}
                whole = replace(whole, parts=parts, predictions=whole.predictions + one.predictions)
        return whole

    def run(
        self,
        progress: Progress | None = None,
        *,
        allow_identical: bool = False,
        on_estimate: Callable[[Estimate], None] = lambda _: None,
    ) -> Run:
        """Compute every cell that is not stored yet; the same configuration resumes where it stopped.

        Args:
            progress: in place of the configuration's; its stages are the parts of the estimate.
            allow_identical: continue if two compared models detect the same, whatever the configuration says.
            on_estimate: called with the estimate of all that is to do, up to the report, before it begins.

        Raises:
            UsageError: two compared models detect the same, and `allow_identical` is off.
            IncompleteError: at the end, if cells are missing; what could be computed is stored.
            RobustBenchError: an image, the disk or memory failed; every finished shard stays stored.
        """
        progress = progress or self.config.progress
        if not (allow_identical or self.config.allow_identical) and self.identical:
            raise UsageError(
                f"{self.identical[0]}, so there is nothing to compare; pass trained weights, or --yes to run anyway"
            )
        if self.config.executor == "ray":
            check_ray_options(self.config.address, device=self.plan.settings.device, gpus=self.config.gpus)
        run = self._start(self.plan, self.config.name or self.default_name, exist_ok=self.config.exist_ok)
        with run.lock():
            failed = self._sweep(run, self.plan, progress, on_estimate=on_estimate)
            if not any(isinstance(error, DeviceError) for error in failed):
                if run.read_latency().empty:
                    stage = "latency of the models"
                    progress(stage, 0, 100)
                    latency = measure_latency(
                        self.plan, progress=lambda share: progress(stage, round(100 * share), 100)
                    )
                    run.write_latency(latency)
                update = make_counter(progress, "PSNR and SSIM", count_measurements(self.plan, run))
                measure_image_quality(self.plan, run, workers=self._threads, progress=update)
            run.write_results()
            run = run.with_shifts({**run.manifest.shifts, **self._run_shifts(run, failed, progress)})
        if failed:
            raise IncompleteError(run, failed)
        return run

    @property
    def size(self) -> str:
        """How many models, cells and images, in words."""
        return plan_size(self.plan)

    @property
    def _threads(self) -> int:
        if self.plan.settings.device != "cpu":
            return 2
        return min(self.config.workers or available_cores(), available_cores())

    def _run_shifts(self, run: Run, failed: list[RobustBenchError], progress: Progress) -> dict[str, str]:
        """Run the models on the other data sets; gives their directories by name, and adds to what failed."""
        directories = {}
        for name, plan in self.shifts.items():
            shifted = self._start(plan, f"{run.path.name}-{name}", exist_ok=True)
            with shifted.lock():
                failed += self._sweep(shifted, plan, progress, f"predictions for {name}")
                shifted.write_results()
            directories[name] = shifted.path.name
        return directories

    def _start(self, plan: Plan, name: str, *, exist_ok: bool) -> Run:
        """The run directory: a new one, or the one in which the same plan was started before."""
        config = self.config
        run = Run.create_or_resume(
            config.project, name, plan.to_manifest(), ground_truth=plan.ground_truth(), exist_ok=exist_ok
        )
        if run.path.name != name:
            _LOG.info(
                "%s has another plan, so this run writes %s; with --exist-ok it would use the first and keep the cells "
                "that fit",
                config.project / name,
                run.path,
            )
        return run

    def _sweep(
        self,
        run: Run,
        plan: Plan,
        progress: Progress,
        stage: str = "predictions",
        on_estimate: Callable[[Estimate], None] = lambda _: None,
    ) -> list[RobustBenchError]:
        """Predict and score everything that is not stored yet."""
        units = pending_units(plan, run.store)
        todo = sum(unit.size for unit in units)
        stored = len(plan.cells) - len(run.missing_cells())
        _LOG.info(
            "%s: %s; %d cells stored, %s predictions to make", run.path, plan_size(plan), stored, f"{todo:,}"
        )
        if not units:
            if self.has_report:
                low, high = REPORT_SECONDS.tolist()
                on_estimate(Estimate({"report": (low, high)}, 0, self._threads, plan.settings.device))
            return run_sweep(plan, run.store, units=units)
        with self._executor() as executor:
            try:
                capacity = replace(self._capacity(), workers=executor.workers)
                cost = self._estimate(plan, units, capacity, run)
                if plan is not self.plan:  # on other data models are not timed, and there is no report
                    cost = replace(cost, parts={stage: cost.parts["predictions"]})
                else:
                    on_estimate(self._with_shifts(cost))
                _LOG.info("%s (%s)", cost, ", ".join(cost.details))
            except RobustBenchError as error:  # the sweep reports the error, if it matters
                _LOG.info("duration unknown: %s", error)
            update = make_counter(progress, stage, todo)
            return run_sweep(plan, run.store, units=units, executor=executor, progress=update)

    def _with_shifts(self, cost: Estimate) -> Estimate:
        """The estimate with the predictions on other data, which come before anything is resampled."""
        low, high = (second / max(cost.predictions, 1) for second in cost.parts["predictions"])
        images = {name: len(plan.dataset) * len(plan.cells) for name, plan in self.shifts.items()}
        shifts = {f"predictions for {name}": (low * n, high * n) for name, n in images.items()}
        before = ("predictions", "latency of the models", "PSNR and SSIM")
        first = {name: cost.parts[name] for name in before}
        return replace(cost, parts={**first, **shifts, **cost.parts})

    def _estimate(
        self, plan: Plan, units: Sequence[WorkUnit], capacity: Capacity, run: Run | None = None
    ) -> Estimate:
        parts = estimate_seconds(plan, units, capacity, run)
        if not self.has_report:
            del parts["report"]
        return Estimate(
            {name: (float(span[0]), float(span[1])) for name, span in parts.items()},
            sum(unit.size for unit in units),
            capacity.workers,
            plan.settings.device,
        )

    def _executor(self) -> AbstractContextManager[Executor]:
        """The executor of the units; for Ray, the context connects to the cluster."""
        config = self.config
        if config.executor == "ray":
            device = self.plan.settings.device
            return ray_executor(config.address, workers=config.workers, device=device, gpus=config.gpus)
        return nullcontext(
            ProcessExecutor(config.workers) if config.workers else ThreadExecutor(self._threads)
        )

    def _capacity(self) -> Capacity:
        return planned_capacity(self.config, self.plan.settings.device, self._threads)


def plan_size(plan: Plan) -> str:
    """How many models, cells and images, in words."""
    counts = {"model": len(plan.models), "cell": len(plan.cells), "image": len(plan.dataset)}
    return ", ".join(f"{count:,} {what}{'s' * (count != 1)}" for what, count in counts.items())


def planned_capacity(config: EvaluationConfig, device: str, threads: int) -> Capacity:
    """The workers that would compute a run; a single one for a cluster of unknown size."""
    workers, is_remote = config.workers, bool(config.address)
    if config.executor == "local":
        return Capacity(workers or threads, has_startup=bool(workers))
    if device == "cpu":
        return Capacity(
            workers or (1 if is_remote else available_cores()), is_remote=is_remote, has_startup=True
        )
    room = 1 if is_remote else max(int(torch.cuda.device_count() / config.gpus + 1e-9), 1)
    return Capacity(workers or room, gpus=config.gpus, is_remote=is_remote, has_startup=True)


def load_dataset(
    config: ChecksConfig | EvaluationConfig | ScoringConfig | CopyConfig | ExportConfig,
) -> Dataset:
    """Load the data set; notes from reading it are logged as warnings."""
    data = datasets.load_dataset(config.data, config.images, split=config.split, progress=config.progress)
    for text in data.notes:
        _LOG.warning("%s", text)
    return data


def _load_detectors(config: EvaluationConfig) -> dict[str, DetectorEntry]:
    if config.from_train:
        trained = training.read_comparison(config.from_train)
        return load_trained_detectors([(run.model, run.seed, run.weights) for run in trained], config)
    return load_detectors(
        config.models,
        config,
        weights=config.weights,
        baselines=config.add_baselines,
    )


def expand_shifts(shifts: Mapping[str, str | Path]) -> dict[str, str | Path]:
    """Data sets by name; a folder with a COCO json in `annotations/`, or folders of such, as COCO-O's, becomes them.

    Raises:
        UsageError: a folder without any, or two data sets of one name.
    """
    sources: dict[str, str | Path] = {}
    for name, source in shifts.items():
        folder = Path(source)
        if not folder.is_dir():
            sources[name] = source
            continue
        own = sorted(folder.glob("annotations/*.json"))
        below = sorted(folder.glob("*/annotations/*.json"))
        parents = [path.parent.parent for path in below]
        if len(own) > 1 or len(set(parents)) < len(parents):
            raise UsageError(
                f"--shift {name}: {folder} has several json files in a folder annotations; name one of them"
            )
        if not own and not below:
            raise UsageError(
                f"--shift {name}: {folder} has neither annotations/*.json nor */annotations/*.json, as COCO-O has; give "
                "a COCO json or a dataset YAML"
            )
        found = {name: own[0]} if own else {f"{name}-{path.parent.parent.name}": path for path in below}
        if taken := [one for one in found if one in sources or (one != name and one in shifts)]:
            raise UsageError(f"--shift {name}: two shifts are called {taken[0]}; rename one")
        sources |= found
    return sources


def _check_detectors(entries: Mapping[str, DetectorEntry], dataset: Dataset) -> None:
    """Reject detectors whose classes do not match the data; log what a user should know about the others."""
    alike: dict[tuple[tuple[object, ...], ...], tuple[ClassMatch, list[str]]] = {}
    for entry in entries.values():
        detector = entry.detector
        match = match_detector(detector, dataset)
        if match.unfound and entry.weights == "embedded":
            raise UsageError(
                f"{detector.name}'s bundled weights are for the classes of scenes, and {dataset.name} has "
                f"{len(match.unfound)} others; pass weights that were trained on such classes: --weights "
                f"{detector.name}=FILE"
            )
        key = tuple(map(tuple, (match.unmatched, match.unfound, match.alike)))
        alike.setdefault(key, (match, []))[1].append(detector.name)
    for match, models in alike.values():
        for text in match.notes(short_list(models), dataset.name):
            _LOG.warning("%s", text)


def _log_sizes(detectors: Sequence[Detector], imgsz: int) -> None:
    """Log the image size of models, if the user did not choose it or chose another one than in their files."""
    sized = [one for one in detectors if one.imgsz]  # the others scale images by rules of their own
    for one in sized:
        trained: int | None = getattr(one, "trained_imgsz", None)
        if not imgsz and trained:
            _LOG.info("%s: %d px, from its file", one.name, one.imgsz)
        elif not imgsz:
            _LOG.info(
                "%s: %d px, the default, because its file has no size; --imgsz sets it", one.name, one.imgsz
            )
        elif trained not in (None, imgsz):
            _LOG.info("%s: %d px by --imgsz; it was trained at %d px", one.name, imgsz, trained)
    if len({one.imgsz for one in sized}) > 1:
        _LOG.warning("models run at different sizes; --imgsz sets one for all")


def _default_name(config: EvaluationConfig, entries: Mapping[str, DetectorEntry], data: str) -> str:
    models = [name for name, entry in entries.items() if entry.baseline] or list(entries)
    if config.from_train:
        models = [config.from_train.resolve().name]
    return "_".join([*models[:3], "-".join(config.noise[:3]), data]).replace("/", "-")
