"""A run from its configuration to a finished run directory: load, plan, estimate, sweep, measure."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast

import torch

from robustbench_sgdm import corruption, datasets, training
from robustbench_sgdm.config import ChecksConfig, EvaluationConfig, ScoringConfig
from robustbench_sgdm.core.errors import DeviceError, IncompleteError, RobustBenchError, UsageError
from robustbench_sgdm.core.progress import Progress, format_duration_range, make_counter
from robustbench_sgdm.datasets import Dataset
from robustbench_sgdm.detectors import (
    Detector,
    DetectorEntry,
    compare_with_baseline,
    load_detectors,
    load_trained_detectors,
    select_device,
)
from robustbench_sgdm.store import CellStore, Run
from robustbench_sgdm.sweep import (
    Crew,
    Executor,
    Plan,
    Processes,
    Settings,
    Threads,
    Unit,
    check_ray,
    cores,
    estimate,
    latency,
    make_plan,
    match_detector,
    measure_damage,
    measurements,
    needed_units,
    on_ray,
    rehearse,
    same_outputs,
    sweep,
)

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Estimate:
    """What a run costs.

    Attributes:
        parts: seconds (at least, at most) of each part of the run.
        predictions: images times cells to compute.
        workers: that share them.
        device: they run on.
    """

    parts: Mapping[str, tuple[float, float]]
    predictions: int
    workers: int
    device: str

    @property
    def seconds(self) -> tuple[float, float]:
        """Of the whole run: at least, at most."""
        low, high = zip(*self.parts.values(), strict=True)
        return sum(low), sum(high)

    def __str__(self) -> str:
        workers = "1 worker" if self.workers == 1 else f"{self.workers:,} workers"
        return f"{format_duration_range(*self.seconds)} on {self.device} with {workers}"

    @property
    def details(self) -> list[str]:
        """Each part and its span, in words."""
        return [f"{name}: {format_duration_range(*span)}" for name, span in self.parts.items()]


@dataclass(frozen=True)
class Evaluation:
    """A run that is ready to start: everything is loaded and checked, nothing is written yet."""

    config: EvaluationConfig
    plan: Plan
    default_name: str

    @classmethod
    def prepare(cls, config: EvaluationConfig) -> "Evaluation":
        """Load data and detectors, and try every corruption once: what cannot work fails now, not hours later.

        Raises:
            UsageError: unknown names, or settings that do not go together.
            DataError: a file is missing, damaged, or not what it should be.
            RobustBenchError: no Ray cluster answers.
        """
        device = select_device(config.device)
        if config.executor == "ray":
            check_ray(config.address, device=device, gpus=config.gpus, connect=False)
        chosen = corruption.load_corruptions(config.corruptions).select(config.noise)
        rehearse(chosen, config.severities, config.engine, device)
        dataset = load_dataset(config).subset(config.fraction)
        smallest = min(dataset.images, key=lambda image: min(image.height, image.width))
        rehearse(chosen, config.severities, config.engine, device, (smallest.height, smallest.width))
        config = replace(config, device=device)
        entrants = _load_detectors(config)
        _check_detectors(entrants, dataset, config.imgsz)
        name = _default_name(config, entrants, dataset.name)
        if config.baseline:  # no part of the name: the cells are the same
            entrants = compare_with_baseline(entrants, config.baseline)
        settings = Settings(
            device=device,
            engine=config.engine,
            seed=config.seed,
            batch=config.batch or (4 if device == "cpu" else 32),
        )
        plan = make_plan(
            entrants,
            dataset,
            chosen,
            config.severities,
            settings,
            command=config.command,
            config=config.manifest(),
        )
        return cls(config, plan, name)

    @cached_property
    def identical(self) -> list[str]:
        """A sentence for each compared pair that detects the same on a few images, clean: an untrained module."""
        sentences = []
        for baseline, model in Run(Path(), self.plan.describe()).trained_pairs:
            if same_outputs(self.plan, baseline, model):
                modules = [
                    self.plan.models[name].detector.describe().get("module") for name in (baseline, model)
                ]
                why = "" if modules[0] == modules[1] else f": its {modules[1]} module is untrained"
                sentences.append(f"{model} detects the same as {baseline}{why}")
        return sentences

    def estimate(self) -> Estimate:
        """What the run costs from its beginning, measured on a little of it; nothing is written.

        Raises:
            RobustBenchError: an image, a corruption or the device fails.
        """
        with tempfile.TemporaryDirectory() as empty:
            units = needed_units(self.plan, CellStore(Path(empty)))
        return self._estimate(units, self._crew())

    def run(self, progress: Progress | None = None, *, allow_identical: bool = False) -> Run:
        """Compute every cell that is not stored yet; the same configuration resumes where it stopped.

        Args:
            progress: in place of the configuration's.
            allow_identical: go on where two compared models detect the same, whatever the configuration says.

        Raises:
            UsageError: two compared models detect the same, and `allow_identical` is off.
            IncompleteError: at the end, if cells are missing; what could be computed is stored.
            RobustBenchError: an image, the disk or memory failed; every finished shard is kept.
        """
        progress = progress or self.config.progress
        if not (allow_identical or self.config.allow_identical) and self.identical:
            raise UsageError(
                f"{self.identical[0]}, so there is nothing to compare; give trained weights, or --yes to run it"
            )
        if self.config.executor == "ray":
            check_ray(self.config.address, device=self.plan.settings.device, gpus=self.config.gpus)
        run = self._start()
        with run.lock():
            failed = self._sweep(run, progress)
            if not any(isinstance(error, DeviceError) for error in failed):
                if run.latency().empty:
                    run.write_latency(latency(self.plan))
                update = make_counter(progress, "measuring damage", measurements(self.plan, run))
                measure_damage(self.plan, run, workers=self._threads, progress=update)
            run.write_results()
        if failed:
            raise IncompleteError(run, failed)
        return run

    @property
    def size(self) -> str:
        """How many models, cells and images, in words."""
        counts = {
            "model": len(self.plan.models),
            "cell": len(self.plan.cells),
            "image": len(self.plan.dataset),
        }
        return ", ".join(f"{count:,} {what}{'s' * (count != 1)}" for what, count in counts.items())

    @property
    def _threads(self) -> int:
        if self.plan.settings.device != "cpu":
            return 2
        return min(self.config.workers or cores(), cores())

    def _start(self) -> Run:
        """The run directory: a new one, or the one where the same plan was started before."""
        config = self.config
        name = config.name or self.default_name
        run = Run.start(
            config.project, name, self.plan.describe(), truth=self.plan.truth(), exist_ok=config.exist_ok
        )
        if run.path.name != name:
            _LOG.info(
                "%s holds another plan, so this run goes to %s; --exist-ok instead puts it there and keeps the cells "
                "that fit",
                config.project / name,
                run.path,
            )
        return run

    def _sweep(self, run: Run, progress: Progress) -> list[RobustBenchError]:
        """Predict and score what is not stored yet."""
        units = needed_units(self.plan, run.store)
        todo = sum(unit.size for unit in units)
        stored = len(self.plan.cells) - len(run.missing())
        _LOG.info("%s: %s; %d cells stored, %s predictions to make", run.path, self.size, stored, f"{todo:,}")
        if not units:
            return sweep(self.plan, run.store, units=units)
        with self._executor() as executor:
            try:
                crew = replace(self._crew(), workers=executor.workers)
                cost = self._estimate(units, crew, run)
                _LOG.info("%s (%s)", cost, ", ".join(cost.details))
            except RobustBenchError as error:  # the sweep finds out whether anything comes of it
                _LOG.info("duration unknown: %s", error)
            update = make_counter(progress, "predicting", todo)
            return sweep(self.plan, run.store, units=units, on=executor, progress=update)

    def _estimate(self, units: Sequence[Unit], crew: Crew, run: Run | None = None) -> Estimate:
        parts = estimate(self.plan, units, crew, run)
        return Estimate(
            {name: (float(span[0]), float(span[1])) for name, span in parts.items()},
            sum(unit.size for unit in units),
            crew.workers,
            self.plan.settings.device,
        )

    def _executor(self) -> AbstractContextManager[Executor]:
        """What computes the units; for Ray, the context connects to the cluster."""
        config = self.config
        if config.executor == "ray":
            device = self.plan.settings.device
            return on_ray(config.address, workers=config.workers, device=device, gpus=config.gpus)
        return nullcontext(Processes(config.workers) if config.workers else Threads(self._threads))

    def _crew(self) -> Crew:
        return planned_crew(self.config, self.plan.settings.device, self._threads)


def planned_crew(config: EvaluationConfig, device: str, threads: int) -> Crew:
    """Who would compute a run; of a cluster whose size is not known, a single worker."""
    workers, remote = config.workers, bool(config.address)
    if config.executor == "local":
        return Crew(workers or threads, start=bool(workers))
    if device == "cpu":
        return Crew(workers or (1 if remote else cores()), elsewhere=remote, start=True)
    room = 1 if remote else max(int(torch.cuda.device_count() / config.gpus + 1e-9), 1)
    return Crew(workers or room, gpus=config.gpus, elsewhere=remote, start=True)


def load_dataset(config: ChecksConfig | EvaluationConfig | ScoringConfig) -> Dataset:
    """The data set; what was noticed while it was read is logged as warnings."""
    data = datasets.load_dataset(config.data, config.images, split=config.split, progress=config.progress)
    for text in data.notes:
        _LOG.warning("%s", text)
    return data


def _load_detectors(config: EvaluationConfig) -> dict[str, DetectorEntry]:
    if config.from_train:
        trained = training.read_comparison(config.from_train)
        return load_trained_detectors([(run.model, run.seed, run.weights) for run in trained], config)
    return load_detectors(
        cast(Sequence[str | Path | Detector], config.models),
        config,
        weights=config.weights,
        baselines=config.add_baselines,
    )


def _check_detectors(entrants: Mapping[str, DetectorEntry], dataset: Dataset, imgsz: int) -> None:
    """Refuse detectors whose classes do not go with the data; log what a user should know of the others."""
    for entrant in entrants.values():
        detector = entrant.detector
        match = match_detector(detector, dataset)
        if match.unfound and entrant.weights == "embedded":
            raise UsageError(
                f"{detector.name}'s embedded weights know the classes of scenes, and {dataset.name} has "
                f"{len(match.unfound)} others; give weights that were trained on such classes: --weights "
                f"{detector.name}=FILE"
            )
        for text in match.notes(detector.name, dataset.name):
            _LOG.warning("%s", text)
    _log_sizes([entrant.detector for entrant in entrants.values()], imgsz)


def _log_sizes(detectors: Sequence[Detector], imgsz: int) -> None:
    """At which size models run, where the user did not choose it or chose another than their files say."""
    sized = [one for one in detectors if one.imgsz]  # the others scale images by rules of their own
    for one in sized:
        trained: int | None = getattr(one, "trained_imgsz", None)
        if not imgsz and trained:
            _LOG.info("%s: %d px, as its file says", one.name, one.imgsz)
        elif not imgsz:
            _LOG.info(
                "%s: %d px, the default, since its file says no size; --imgsz sets it", one.name, one.imgsz
            )
        elif trained not in (None, imgsz):
            _LOG.info("%s: %d px by --imgsz; its file says it was trained at %d px", one.name, imgsz, trained)
    if len({one.imgsz for one in sized}) > 1:
        _LOG.warning("models run at different sizes; --imgsz gives all the same")


def _default_name(config: EvaluationConfig, entrants: Mapping[str, DetectorEntry], data: str) -> str:
    models = [name for name, entrant in entrants.items() if entrant.baseline] or list(entrants)
    if config.from_train:
        models = [config.from_train.resolve().name]
    return "_".join([*models[:3], "-".join(config.noise[:3]), data]).replace("/", "-")
