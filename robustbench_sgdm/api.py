"""One function for each thing this package does; the command line, the dashboard and notebooks call these."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from robustbench_sgdm.config import (
    ChecksConfig,
    ComparisonConfig,
    CopyConfig,
    EvaluationConfig,
    ExportConfig,
    InferenceConfig,
    LossSplit,
    ScoringConfig,
    TrainingConfig,
    check_name,
    check_severities,
)
from robustbench_sgdm.core.arguments import check_arguments
from robustbench_sgdm.core.config_fields import check_fields, takes
from robustbench_sgdm.core.errors import (
    DataError,
    IncompleteError,
    UnsafeFileError,
    UsageError,
    unknown_name_error,
)
from robustbench_sgdm.core.parsing import is_library_model
from robustbench_sgdm.core.progress import Progress, make_counter, no_progress
from robustbench_sgdm.core.untrusted_input import short_list
from robustbench_sgdm.core.worker_bootstrap import stop_second_run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from robustbench_sgdm import store
    from robustbench_sgdm.comparison import Comparison
    from robustbench_sgdm.corruption import Corruption
    from robustbench_sgdm.detectors import Detector
    from robustbench_sgdm.detectors.adapters.maite import MaiteAugmentation, MaiteModel
    from robustbench_sgdm.evaluation import Evaluation
    from robustbench_sgdm.figures import FigureResult, ImageRef, RunAnalysis
    from robustbench_sgdm.model_checks import ModelChecks
    from robustbench_sgdm.sweep.corrupted_copies import CopyResult
    from robustbench_sgdm.sweep.pixel_manifest import Verification
    from robustbench_sgdm.tables import Table
    from robustbench_sgdm.training import TrainedRun

AnyImage = TypeVar("AnyImage")

_LOG = logging.getLogger(__name__)


def prepare(config: EvaluationConfig) -> "Evaluation":
    """Load and check everything that a run needs, and write nothing; see `Evaluation`."""
    from robustbench_sgdm.evaluation import Evaluation

    return Evaluation.prepare(config)


@takes(EvaluationConfig)
def evaluate(config: EvaluationConfig) -> "Run":
    """Measure detectors under corruption: every cell that is not stored yet is computed.

    Takes the arguments of `EvaluationConfig`, the models first:

        run = evaluate("yolov8n-sgdm", data="scenes", noise="gaussian", severity=[0, 1, 3, 5])

    The same call again resumes it.

    Raises:
        UsageError: unknown names, or settings that cannot be combined.
        DataError: a file is missing, damaged, or not what it should be.
        IncompleteError: cells are missing; its `run` has the others.
    """
    stop_second_run()
    how: dict[str, Any] = {"corruptions": config.corruptions, "progress": config.progress}
    try:
        return Run(prepare(config).run(), **how)
    except IncompleteError as error:
        error.run = Run(error.directory, **how)
        raise


@takes(ScoringConfig)
def score(config: ScoringConfig) -> "Run":
    """Score predictions of a detector that ran somewhere else, like a run's own; several models may share a directory.

    Takes the arguments of `ScoringConfig`, the sources first:

        score("predictions/", model="mine", data="val.json")

    Raises:
        UsageError: an unknown corruption or baseline, or a cell that is given twice.
        DataError: damaged predictions, scores that cannot be, or a directory of other data.
    """
    from robustbench_sgdm import corruption
    from robustbench_sgdm.evaluation import load_dataset
    from robustbench_sgdm.sweep import external_predictions

    sources = [one for text in config.sources for one in external_predictions.discover_predictions(text)]
    for text in config.sources:
        if unread := external_predictions.unread_files(text, sources):
            _LOG.warning(
                "%d json or pickle file%s in %s not read (%s): predictions belong in CORRUPTION/SEVERITY/*.json, "
                "CORRUPTION/SEVERITY.json or clean.json",
                len(unread),
                "s" * (len(unread) != 1),
                text,
                unread[0],
            )
    data, registry = load_dataset(config), corruption.load_corruptions(config.corruptions)
    run = external_predictions.import_predictions(sources, data, registry, config)
    for text in run.manifest.models[config.model].notes:
        _LOG.warning("%s", text)
    return Run(run)


@takes(ChecksConfig)
def checks(config: ChecksConfig) -> "ModelChecks":
    """Look for what makes AP lower than published: class names, thresholds, box format, labels, colours, sizes.

    Takes the arguments of `ChecksConfig`, the model first:

        checks("best.pt", data="coco").problems

    Raises:
        UsageError: unknown names, or settings that cannot be combined.
        DataError: a file is missing, damaged, or not what it should be.
    """
    from robustbench_sgdm import model_checks
    from robustbench_sgdm.evaluation import load_dataset

    return model_checks.check_model(config, load_dataset(config))


@takes(TrainingConfig)
def train(config: TrainingConfig) -> "list[TrainedRun]":
    """Train detectors under one recipe: same images, same order, same initial values of shared tensors.

    Takes the arguments of `TrainingConfig`, the models first:

        train(["yolov8n", "yolov8n-sgdm"], data="scenes", seeds=[0, 1, 2])

    Raises:
        UsageError: an unknown model, class, recipe or argument, or a resume of something else.
        DataError: an empty split, or a box outside its image.
        TrainingFailedError: at the end, if runs failed; what they left is kept.
    """
    from robustbench_sgdm import training

    stop_second_run()
    return training.train(config)


def training_table(runs: "Sequence[TrainedRun]") -> "Table":
    """The trainings of one comparison as a table for people: mean and spread over seeds, difference to the baseline.

    Args:
        runs: at least one, as `train` returns them.

    Raises:
        DataError: the comparison's `recipe.yaml` is damaged.
    """
    from robustbench_sgdm import tables, training

    frame, data = training.runs_table(runs), training.read_recipe(runs[0].folder.parent)["data"]
    truth = f"Validation: {data['validation images']:,} images, {data['validation truth']}"
    return tables.training_table(training.summarize_runs(frame), frame, truth=truth)


@takes(ComparisonConfig)
def compare(config: ComparisonConfig) -> "Comparison":
    """Compare models of one run, or of several over the same images, seed and engine.

    Takes the arguments of `ComparisonConfig`, the runs first:

        compare(["runs/robustness/a", "runs/robustness/b"], baseline="yolov8n").table

    Raises:
        UsageError: an unknown metric.
        DataError: not a run directory, or one without a complete cell.
    """
    from robustbench_sgdm.comparison import Comparison

    runs = [one if isinstance(one, Run) else Run.open(one) for one in config.runs]
    return Comparison.create(config, [run.directory for run in runs])


def comparison_names(runs: "Sequence[Run]") -> set[str]:
    """The names of all models and groups when these runs are compared; a model of several runs is `name@run`."""
    from robustbench_sgdm import comparison

    return comparison.comparison_names([run.directory for run in runs])


@check_arguments
def join_runs(runs: "Sequence[str | Path | Run]", out: str | Path, *, command: str = "") -> "Run":
    """Join runs of the same images, seed and engine into one run directory, which has one report.

    Cells and cached statistics are copied; nothing is predicted. A model of several runs is called `name@run` and is
    compared with the first run's.

        join_runs(["runs/robustness/a", "runs/robustness/b"], "runs/robustness/both").report()

    Args:
        runs: directories, or opened runs.
        out: the new directory; that of the same join is written again.
        command: that its manifest records.

    Raises:
        UsageError: `out` holds something else.
        DataError: not a run directory, or runs that cannot be compared.
    """
    from robustbench_sgdm import robustness, store

    opened = [one.directory if isinstance(one, Run) else Run.open(one).directory for one in runs]
    different = list({run.path.resolve(): run for run in opened}.values())
    if not different:
        raise UsageError("there is no run to join; name run directories")
    robustness.check_comparable(different)
    names = robustness.unique_model_names(different)
    return Run(store.join_runs(different, names, Path(out), command))


@check_arguments
def write_leaderboard(
    runs: Sequence[str | Path],
    out: str | Path,
    *,
    resamples: int = 1000,
    progress: Progress = no_progress,
) -> tuple[Path, list[str]]:
    """Write a static leaderboard of runs; those that can be compared are ranked together.

    Args:
        runs: run directories, or folders of such.
        out: folder of the site.
        resamples: of the images, behind every interval; statistics are cached in the run directories.
        progress: called with the number of runs read.

    Returns:
        Its `index.html`, and why runs or reports are not in it, a line each.

    Raises:
        DataError: no run can be read.
    """
    from robustbench_sgdm import leaderboard

    return leaderboard.write_leaderboard(
        [Path(run) for run in runs], Path(out), resamples=resamples, progress=progress
    )


@takes(CopyConfig)
def corrupt_dataset(config: CopyConfig) -> "CopyResult":
    """Write corrupted copies of a data set in COCO layout; their pixels are those that `evaluate` sees.

    Takes the arguments of `CopyConfig`, the data first. With `manifest`, hashes of the pixels are written instead.

    Raises:
        UsageError: unknown names, or settings that cannot be combined.
        DataError: the data set or a corruption is broken.
    """
    from robustbench_sgdm import corruption, figures, sweep
    from robustbench_sgdm.evaluation import load_dataset
    from robustbench_sgdm.sweep import corrupted_copies, pixel_manifest

    if config.sheet is not None:
        figures.check_suffix(config.sheet)
    chosen = corruption.load_corruptions(config.corruptions).select(config.noise)
    sweep.check_corruptions(chosen, config.severity, config.engine)
    dataset = load_dataset(config)
    if config.sheet is not None:
        versions = corrupted_copies.first_image_versions(dataset, chosen, config)
        figures.save_figure(figures.draw_contact_sheet(versions), config.sheet)
    if config.manifest is None:
        return corrupted_copies.write_copies(dataset, chosen, config)
    dataset = corrupted_copies.take_first(dataset, config.limit)
    pixel_manifest.write_manifest(
        config.manifest,
        dataset,
        corrupted_copies.list_versions(chosen, config),
        seed=config.seed,
        engine=config.engine,
        progress=config.progress,
    )
    return corrupted_copies.CopyResult([], len(dataset), [])


@check_arguments
def verify_pixels(
    manifest: str | Path,
    data: str | Path = "scenes",
    *,
    images: Path | None = None,
    split: str = "val",
    corruptions: Sequence[Path] = (),
    progress: Progress = no_progress,
) -> "Verification":
    """Corrupt the images of a manifest here and compare the pixels.

    Args:
        manifest: written by `corrupt_dataset(manifest=...)`, here or on another machine.
        data, images, split, corruptions: as in `CopyConfig`.
        progress: called with the images hashed.

    Raises:
        DataError: the file is no manifest, or is of other images or another version of a corruption.
    """
    from robustbench_sgdm import corruption
    from robustbench_sgdm.evaluation import load_dataset
    from robustbench_sgdm.sweep import pixel_manifest

    config = CopyConfig(data, images=images, split=split, corruptions=corruptions, progress=progress)
    registry = corruption.load_corruptions(config.corruptions)
    return pixel_manifest.verify_manifest(Path(manifest), load_dataset(config), registry, progress)


@check_arguments
def loss_curves(runs: Sequence[str | Path], *, split: LossSplit = "train", smooth: float = 0.02) -> "Figure":
    """Draw the losses of trainings, ours or Ultralytics': a line per training, its seeds as a band.

    Args:
        runs: directories of trainings or of comparisons, or results.csv files.
        split: whose losses.
        smooth: width of the smoothing window as a share of the epochs.

    Raises:
        UsageError: another split.
        DataError: no log, or a damaged one.
    """
    from robustbench_sgdm import figures
    from robustbench_sgdm.store import logs_without_record, read_logs

    check_name("split", split, LossSplit)
    logs = read_logs([Path(run) for run in runs], split)
    if absent := logs_without_record(logs):
        _LOG.warning(
            "no recipe.yaml or args.yaml beside %s: it is unknown which runs are seeds of one training, so each has "
            "its own line",
            short_list(map(str, absent), 3),
        )
    return figures.draw_loss_curves(logs, split, smooth)


@takes(ExportConfig)
def export(config: ExportConfig) -> Path:
    """Export a checkpoint to ONNX or OpenVINO, in float32 or in 8 bits, and compare its boxes with the checkpoint's.

    Takes the arguments of `ExportConfig`, the model first:

        export("yolov8n", format="onnx", out="y.onnx")

    Returns:
        the file, or OpenVINO's folder.

    Raises:
        UsageError: an unknown name, no calibration data for 8 bits, or a package that is not installed.
        DataError: a file is missing or damaged.
        RobustBenchError: the model cannot be exported, or the export in float32 finds other boxes.
    """
    from robustbench_sgdm.detectors.runtimes import export_model
    from robustbench_sgdm.evaluation import load_dataset

    images = load_dataset(config).images if config.int8 else ()
    return export_model(config, images)


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A run directory, and what can be asked of it. In a notebook it shows itself as a table.

    Attributes:
        directory: the files.
        resamples: of the images, behind every interval; statistics are cached in the directory.
        corruptions: folders with corruptions of the user's own, to reproduce their images.
        progress: called while something is computed that is not stored yet.
    """

    directory: "store.Run"
    resamples: int = 1000
    corruptions: Sequence[Path] = ()
    progress: Progress = no_progress

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    @check_arguments
    def open(
        cls,
        path: str | Path,
        *,
        baseline: str | None = None,
        resamples: int = 1000,
        corruptions: Sequence[Path] = (),
        progress: Progress = no_progress,
    ) -> "Run":
        """Open a run directory.

        Args:
            path: the directory.
            baseline: compare all others with this model.
            resamples, corruptions, progress: as above.

        Raises:
            DataError: not a run directory, or damaged.
            UsageError: the run has no such model.
        """
        from robustbench_sgdm.store import Run as Directory

        return cls(Directory.open(Path(path), baseline=baseline), resamples, corruptions, progress)

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.directory.path

    @property
    def default_baseline(self) -> str | None:
        """The baseline, if it is only the first model because nobody chose one."""
        pairs = self.directory.baseline_pairs
        return pairs[0][0] if self.directory.has_default_baseline and pairs else None

    def against(self, baseline: str) -> "Run":
        """The same run, every other model compared with this one.

        Raises:
            UsageError: the run has no such model, or no other.
        """
        return replace(self, directory=self.directory.against(baseline))

    def results(self) -> "pd.DataFrame":
        """A row for each model, corruption and severity, as in `results.csv`."""
        return self.directory.results()

    @check_arguments
    def summary(self, metrics: Sequence[str] = ()) -> "pd.DataFrame":
        """P, mPC, rPC and mCE of every model.

        Args:
            metrics: such as AP and AP_S; the data set's own if none.
        """
        from robustbench_sgdm import robustness

        return robustness.summary(self.directory, metrics=self._metrics(metrics))

    @check_arguments
    def compare(self, baseline: str | None = None, metrics: Sequence[str] = ()) -> "pd.DataFrame":
        """Every score and every difference from the baseline, with intervals and p-values.

        Args:
            baseline: compare all others with this model; the run's own if None.
            metrics: of AP, AP50, AP75, AP_S, AP_M, AP_L and `robustness.MEASURES`; the data set's own if none.

        Raises:
            DataError: the run keeps no ground truth or no detections to resample.
            UsageError: the run has no such model, or no other.
        """
        from robustbench_sgdm import robustness

        run, names = self.against(baseline) if baseline else self, self._metrics(metrics)
        done = len(run.directory.cells) - len(run.directory.missing_cells())
        update = make_counter(run.progress, "resampling", done)
        intervals = robustness.bootstrap_intervals(
            run.directory, resamples=run.resamples, metrics=names, progress=update
        )
        return intervals.table(names)

    def shifts(self) -> "pd.DataFrame":
        """Clean against other data that the run was given with `shifts`; see `robustness.shift_table`.

        Raises:
            DataError: there is none, or it cannot be read.
        """
        return self.analysis().shifts

    def verdicts(self) -> list[str]:
        """What the comparison comes to: of three models and more their ranking, then a sentence for each pair.

        Pairs of three models and more have one if a baseline was named.

        Raises:
            DataError: as `compare`.
        """
        analysis = self.analysis()
        tables = analysis.score_tables
        if tables.reason:
            raise DataError(tables.reason)
        return [text for label, text in tables.closing(analysis.metric_name) if label == "verdict"]

    @check_arguments
    def report(self, *, summary: bool = False, page_size: str = "A4") -> tuple[Path, Path]:
        """Write `report.html` and `report.pdf` into the run directory; gives their paths.

        Sections without data are left out; images that cannot be reproduced are logged.

        Args:
            summary: write the first page alone, as `summary.html` and `summary.pdf`.
            page_size: of the PDF, A4 or Letter.

        Raises:
            UsageError: another page size.
        """
        from robustbench_sgdm import report

        analysis = self.analysis()
        wanted_images = [(analysis, "summary_images")]
        if not summary:
            wanted_images += [(pair, "image_refs") for pair in analysis.by_pair]
            wanted_images.append((analysis, "contact_sheet"))
        for each, wanted in wanted_images:
            try:
                self._make_images(each, getattr(each, wanted))
            except (DataError, UnsafeFileError, ImportError) as error:
                _LOG.info("without some images: %s", error)
        return report.write_report(analysis, summary_only=summary, page_size=page_size)

    def report_tables(self) -> "list[Table]":
        """The tables of the report's sections, whole, without those of single cells: see `results`.

        What is not cached yet is computed. Sections without data have none.

        Raises:
            DataError: no cell is complete.
        """
        from robustbench_sgdm import report

        return [table for own in report.section_tables(self.analysis()).values() for table in own]

    def model_index(self) -> str:
        """P, mPC and rPC of every model as the `model-index` of a model card on Hugging Face, in YAML.

        Raises:
            DataError: no cell is complete.
        """
        from robustbench_sgdm import tables

        analysis = self.analysis()
        metrics = list(dict.fromkeys([analysis.metric_name, *tables.METRICS_SHOWN]))
        data = self.directory.manifest.data
        return tables.model_index(analysis.score_tables, metrics, data.name, data.fingerprint)

    @check_arguments
    def figure(
        self,
        name: str,
        *,
        metric: str = "",
        model: str | tuple[str, str] | None = None,
        images: Sequence[int] = (),
        noise: tuple[str, float] | None = None,
        rows: int = 2,
        confidence: float = 0.25,
    ) -> "FigureResult":
        """Draw one figure; `robustbench list figures` shows them.

        Args:
            name: such as `severity`.
            metric: of COCO's twelve; the data set's own if empty.
            model: of a side-by-side figure, or (baseline, model), which may be single trainings; the first that is
                compared if None.
            images: of a side-by-side figure, by id; those that the two models flip most if none.
            noise: (corruption, severity) of a side-by-side figure; where flips are most frequent if None.
            rows: images for each direction of flips.
            confidence: least score of a box that is shown.

        Raises:
            UsageError: an unknown figure, metric or model, or a value outside its bounds.
            DataError: the run lacks data for it.
        """
        from robustbench_sgdm import figures

        if name not in figures.all_figures():
            raise unknown_name_error("figure", name, figures.all_figures())
        if rows < 1:
            raise UsageError(f"rows is {rows}, must be 1 or more")
        if not 0 <= confidence <= 1:
            raise UsageError(f"confidence is {confidence}, must be in [0, 1]")
        analysis = self.analysis(
            metric=metric,
            images=images,
            noise=noise,
            max_images=rows,
            confidence=confidence,
            models=trained_pair(self.directory, model) if name == "side-by-side" and model else None,
        )
        shown = {
            "side-by-side": "image_refs",
            "contact-sheet": "contact_sheet",
            "flipped-objects": "summary_images",
        }
        if name in shown:
            self._make_images(analysis, getattr(analysis, shown[name]))
        return figures.draw(name, analysis)

    def analysis(self, **what: Any) -> "RunAnalysis":
        """The frames behind figures and reports; `what` changes what of the run they show."""
        return replace(self._whole, **what) if what else self._whole

    @cached_property
    def _whole(self) -> "RunAnalysis":
        from robustbench_sgdm.figures import RunAnalysis

        return RunAnalysis(self.directory, resamples=self.resamples, progress=self.progress)

    def _metrics(self, metrics: Sequence[str]) -> list[str]:
        from robustbench_sgdm import robustness

        return list(metrics) or [robustness.primary_metric(self.directory)]

    def _make_images(self, analysis: "RunAnalysis", wanted: "Sequence[ImageRef]") -> None:
        """Store the corrupted images that the run lacks, made from its data set's."""
        from robustbench_sgdm.store import has_image

        todo = [one for one in dict.fromkeys(wanted) if not has_image(analysis.run, *one)]
        if not todo:
            return  # neither torch nor the images are needed
        from robustbench_sgdm import corruption, sweep

        registry, known = corruption.load_corruptions(self.corruptions), {}
        for name in dict.fromkeys(name for name, *_ in todo):
            with suppress(UsageError):  # one that is missing is reported where it is needed
                known[name] = registry.get(name)
        update = make_counter(self.progress, "corrupting images", len(todo))
        sweep.make_corrupted_images(analysis.run, todo, known, progress=update)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        return str(self.results().to_html(index=False, max_rows=60))


def trained_pair(run: "store.Run", wanted: str | tuple[str, str]) -> tuple[str, str]:
    """Single trainings of a model and its baseline, of one seed where both have it.

    Args:
        run: that has them.
        wanted: the model, or (baseline, model); trainings, or networks of several.

    Raises:
        UsageError: an unknown model, or nothing to compare it with.
    """
    groups, seeds = run.groups, run.seeds
    known = dict.fromkeys([*groups, *run.manifest.models])
    names = (wanted,) if isinstance(wanted, str) else wanted
    for name in names:
        if name not in known:
            raise unknown_name_error("model", name, known)
    model = names[-1]
    baselines = names[:-1] or [b for b, m in [*run.baseline_pairs, *run.training_pairs] if m == model]
    if not baselines:
        raise UsageError(f"--model {model} has no baseline in this run; choose one with --baseline")
    sides = [groups.get(name, [name]) for name in (baselines[0], model)]
    pairs = [(b, m) for b in sides[0] for m in sides[1] if b != m]
    if not pairs or model == baselines[0]:
        raise UsageError(f"--model and --baseline are both {model}; name another model")
    return next(((b, m) for b, m in pairs if b in seeds and seeds[b] == seeds.get(m)), pairs[0])


def added_baselines(models: Sequence[str]) -> list[str]:
    """The baselines that `evaluate` adds for module variants such as `yolov8n-sgdm`."""
    from robustbench_sgdm import detectors

    return list(detectors.added_baselines(models))


@check_arguments
def load_detector(
    model: str | Path,
    config: InferenceConfig = InferenceConfig(),
    *,
    weights: str | Path | None = None,
    classes: Sequence[str] | None = None,
    **settings: Any,
) -> "Detector":
    """Load a detector.

        load_detector("best.pt", imgsz=640, device="cuda")

    Args:
        model: a zoo name, the path of a checkpoint or of an exported model (`.onnx`, an OpenVINO folder or `.xml`),
            `torchvision:NAME`, `hf:FOLDER_OR_NAME`, or what a plug-in is called (`module:factory`).
        config: sizes, thresholds and device; the CPU where it names none.
        weights: of a zoo name, the bundled ones if None; of `torchvision:NAME`.
        classes: names in place of those in the file.
        settings: of `InferenceConfig`, in place of those of `config`.

    Raises:
        UsageError: an unknown name, or a value outside its bounds.
        DataError: the file is damaged, or no detector's.
    """
    from robustbench_sgdm import detectors

    known = [one.name for one in fields(InferenceConfig)]
    if unknown := [name for name in settings if name not in known]:
        raise unknown_name_error("setting", unknown[0], known)
    config = replace(config, **settings)
    if is_library_model(str(model)):
        return detectors.load_library_model(str(model), config, weights=weights, classes=classes)
    if detectors.is_plugin(str(model)):
        return detectors.load_plugin(str(model))
    return detectors.load_file(model, config, weights=weights, classes=classes)


@overload
def as_maite(what: "Detector") -> "MaiteModel": ...


@overload
def as_maite(what: str, severity: float | None = None, *, seed: int = 0) -> "MaiteAugmentation": ...


@check_arguments
def as_maite(
    what: "Detector | str", severity: float | None = None, *, seed: int = 0
) -> "MaiteModel | MaiteAugmentation":
    """A detector as MAITE's object detection `Model`, or a corruption as its `Augmentation`; MAITE is not needed.

    Args:
        what: a detector, or the name of a corruption, whose images keep their boxes.
        severity: of the corruption, 0 to 5; 1 if None and it has one strength.
        seed: of the corruption's draws.

    Raises:
        UsageError: an unknown corruption, or a severity that is missing, outside [0, 5], or given with a detector.
    """
    from robustbench_sgdm.detectors.adapters.maite import MaiteAugmentation, MaiteModel

    if not isinstance(what, str):
        if severity is not None:
            raise UsageError("a detector has no severity; give a corruption's name with it")
        return MaiteModel(what)
    from robustbench_sgdm.corruption import load_corruptions

    corruption = load_corruptions().get(what)
    return MaiteAugmentation(corruption, _severity_of(corruption, severity), seed)


@check_arguments
def corrupt(
    image: AnyImage,
    corruption: str,
    severity: float | None = None,
    *,
    seed: int = 0,
    image_id: int = 0,
    engine: str = "torch",
) -> AnyImage:
    """The image under a corruption, as a run with the same seed sees the image of this id.

    Args:
        image: a uint8 (H, W, 3) RGB array, a uint8 (3, H, W) or (B, 3, H, W) RGB tensor on any device, or a PIL picture,
            which is made RGB.
        corruption: by name or alias, with a strength if need be: `gaussian_noise[sigma=0.1]`.
        severity: 0 (unchanged) to 5, any real number. A corruption with a strength, or a composition whose parts all
            have one, needs none.
        seed: of the corruptions.
        image_id: of the image; in a batch, of the first one, and the others follow.
        engine: `torch` or `imgaug`.

    Returns:
        The same type, size and device.

    Raises:
        UsageError: an unknown corruption, another severity or none, or another kind of image.
    """
    from robustbench_sgdm import corruption as corrupting

    one = corrupting.load_corruptions().get(corruption)
    severity = _severity_of(one, severity)
    return corrupting.corrupt_any_image(one, image, severity, seed=seed, image_id=image_id, engine=engine)


def _severity_of(corruption: "Corruption", severity: float | None) -> float:
    """The severity to apply a corruption at: what is given, or the only one it has.

    Raises:
        UsageError: outside [0, 5], or none where it has several.
    """
    if severity is not None:
        return check_severities([severity])[0]
    if corruption.explicit_parameters is None:
        raise UsageError(f"give {corruption.name} a severity from 0 to 5, such as severity=3")
    return 1.0
