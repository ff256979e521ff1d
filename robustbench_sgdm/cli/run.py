"""`robustbench run`: options to a configuration, then tables and the report."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_sgdm.cli.data import resolve_paths
from robustbench_sgdm.cli.results import print_results, results_record
from robustbench_sgdm.cli.shared_options import (
    RUNS,
    BaselineOption,
    ClassesOption,
    ConfOption,
    CorruptionDirOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    End2EndOption,
    EngineOption,
    HalfOption,
    ImagesOption,
    ImgszOption,
    IouOption,
    JsonOption,
    LayoutOption,
    MaxDetOption,
    NoiseOption,
    NormalizeOption,
    ProjectOption,
    QuietOption,
    RuntimeOption,
    SeedOption,
    SeverityOption,
    SplitOption,
    TrustOption,
)
from robustbench_sgdm.config import EvaluationConfig, InferenceConfig
from robustbench_sgdm.core import parsing
from robustbench_sgdm.core.errors import IncompleteError, RobustBenchError, StoppedError, UsageError
from robustbench_sgdm.core.escaping import terminal
from robustbench_sgdm.core.progress import JobClock

if TYPE_CHECKING:
    from robustbench_sgdm.evaluation import Evaluation


def run(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="Zoo name (see `robustbench list models`), path of an Ultralytics detection checkpoint, of an "
            "exported model (.onnx, an OpenVINO folder or .xml; with --trust-weights .torchscript, .engine), model "
            "YAML with --weights, torchvision:NAME, hf:FOLDER_OR_NAME (transformers), or package.module:factory. "
            f"{parsing.LIST_HELP}",
        ),
    ] = None,
    from_train: Annotated[
        Path | None,
        typer.Option(
            "--from-train",
            help="Instead of --model: a folder written by `robustbench train`. Each training is compared with its "
            "baseline's training with the same seed, and the seeds of a network are averaged.",
        ),
    ] = None,
    noise: NoiseOption = ["gaussian"],  # noqa: B006 - typer wants a list
    severity: SeverityOption = ["0-5"],  # noqa: B006
    data: DataOption = "scenes",
    images: ImagesOption = None,
    split: SplitOption = "val",
    shift: Annotated[
        list[str] | None,
        typer.Option(
            "--shift",
            help="NAME=DATA: also run on other data, such as images at night, compared without pairs: a COCO json, a "
            "dataset YAML, or a folder in COCO-O's layout. May be repeated.",
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            help=f"Weights: FILE for every model, one FILE each in order, or NAME=FILE. {parsing.LIST_HELP}",
        ),
    ] = None,
    baseline: BaselineOption = None,
    no_baseline: Annotated[
        bool, typer.Option("--no-baseline", help="Do not also run the baseline of a module variant.")
    ] = False,
    imgsz: ImgszOption = InferenceConfig.imgsz,
    batch: Annotated[
        int, typer.Option("--batch", min=0, help="Images per forward pass; 0: 4 on the CPU, 32 on a GPU.")
    ] = 0,
    device: DeviceOption = None,
    half: HalfOption = False,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            min=0,
            help="Worker processes; 0: threads of this process (one per core on the CPU, 2 on a GPU), or as many as "
            "a Ray cluster has room for.",
        ),
    ] = 0,
    on: Annotated[
        str,
        typer.Option(
            "--executor",
            "--on",
            help="Where images are processed: local (this machine) or ray (workers of a Ray cluster).",
        ),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            "--address", help="Ray cluster: HOST:PORT or auto; default: start one here for the run."
        ),
    ] = None,
    gpus: Annotated[
        float,
        typer.Option("--gpus", help="GPUs per Ray worker on --device cuda; 0.5 lets two share one."),
    ] = 1.0,
    engine: EngineOption = "torch",
    seed: SeedOption = 0,
    fraction: Annotated[
        float, typer.Option("--fraction", help="Share of the images, in (0, 1]; each time the same ones.")
    ] = 1.0,
    conf: ConfOption = InferenceConfig.conf,
    iou: IouOption = InferenceConfig.iou,
    max_det: MaxDetOption = InferenceConfig.max_det,
    end2end: End2EndOption = None,
    corruptions: CorruptionDirOption = None,
    trust_weights: TrustOption = False,
    runtime: RuntimeOption = "pytorch",
    classes: ClassesOption = None,
    layout: LayoutOption = None,
    normalize: NormalizeOption = None,
    download: DownloadOption = False,
    project: ProjectOption = RUNS,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            help="Name of the run directory; default: models and corruptions. If it has another plan, a number is added.",
        ),
    ] = None,
    exist_ok: Annotated[
        bool,
        typer.Option(
            "--exist-ok", help="Use an existing directory with another plan, and keep the cells that fit."
        ),
    ] = False,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Run even if two models detect the same, such as an untrained module."),
    ] = False,
    no_report: Annotated[
        bool,
        typer.Option(
            "--no-report", help="Write no report; `robustbench report` writes it from the stored run."
        ),
    ] = False,
    only_estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Print how long the run would take and stop; nothing is written."),
    ] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure detectors under corruption: cells, scores, tables and a report.

    A module variant (yolov8n-sgdm) also runs its baseline. Of two models of your own, the first
    is the baseline, or the one that --baseline names. The same command again resumes and computes only what is missing.
    """
    models = parsing.parse_models(model or [])
    source, folder = resolve_paths(data, images)
    if not quiet:  # printed before libraries are imported, which takes seconds
        what = from_train or ", ".join(models)
        print(terminal(f"loading {what} and {data}"), file=sys.stderr, flush=True)
    from robustbench_sgdm import api
    from robustbench_sgdm.cli import console

    job = JobClock()
    job("loading", 0, 1)
    with console.quiet(quiet):
        with console.job_progress(job):
            evaluation = api.prepare(
                EvaluationConfig(
                    models,
                    weights=_weights(weights or [], models, not no_baseline),
                    from_train=from_train,
                    baseline=baseline,
                    add_baselines=not no_baseline,
                    allow_identical=yes,
                    data=source,
                    images=folder,
                    split=split,
                    shifts=parsing.parse_assignments(shift or [], "--shift"),
                    fraction=fraction,
                    noise=parsing.split_list(noise),
                    severity=parsing.parse_severities(severity),
                    corruptions=corruptions or [],
                    engine=engine,
                    seed=seed,
                    imgsz=imgsz,
                    batch=batch,
                    device=device,
                    half=half,
                    conf=conf,
                    iou=iou,
                    max_det=max_det,
                    end2end=end2end,
                    trust_weights=trust_weights,
                    runtime=runtime,
                    classes=classes,
                    layout=layout,
                    normalize=normalize,
                    download=download,
                    executor=on,
                    workers=workers,
                    address=address,
                    gpus=gpus,
                    project=project,
                    name=name,
                    exist_ok=exist_ok,
                    command=shlex.join(["robustbench", *sys.argv[1:]]),
                    progress=job,
                )
            )
        evaluation = replace(evaluation, has_report=not no_report)
        proceed = _ask_about_identical(evaluation, yes or only_estimate)
        if only_estimate:
            _show_estimate(evaluation)
            return
        try:
            _run(evaluation, job, corruptions or [], allow_identical=proceed, brief=quiet, as_json=as_json)
        except KeyboardInterrupt:
            raise StoppedError(
                "stopped; finished work is stored, and the same command resumes the run"
            ) from None


def _run(
    evaluation: "Evaluation",
    job: JobClock,
    corruptions: list[Path],
    *,
    allow_identical: bool,
    brief: bool,
    as_json: bool,
) -> None:
    """Compute, write the report unless it is not wanted, and print the results; also those of a run that fails."""
    from robustbench_sgdm import api, tables
    from robustbench_sgdm.cli.console import info, job_progress, print_document

    failure: RobustBenchError | OSError | None = None
    files: dict[str, Path] = {}
    with job_progress(job):
        try:
            directory = evaluation.run(
                job,
                allow_identical=allow_identical,
                on_estimate=lambda cost: job.expect({k: sum(span) / 2 for k, span in cost.parts.items()}),
            )
        except IncompleteError as error:
            failure, directory = error, error.directory
        run = api.Run(directory, corruptions=corruptions, progress=job)
        if not run.results().empty:
            job("resampling and error analysis", 0, 1)
            _ = run.analysis().score_tables
            if evaluation.has_report:
                job("report", 0, 1)
                try:
                    files = dict(zip(("html", "pdf"), run.report(), strict=True))
                except (RobustBenchError, OSError) as error:
                    failure = failure or error
    if as_json:
        record = results_record(run) | {"report": {kind: str(path) for kind, path in files.items()}}
        print_document(tables.to_json_text(record))
    else:
        print_results(run, brief=brief)
    for path in files.values():
        info(f"report      {path}")
    if not files and directory.is_outdated("report.html"):
        command = f"robustbench report {shlex.quote(str(directory.path))}"
        info(f"old report  {directory.path / 'report.html'}; `{command}` writes a new one")
    if failure:
        raise failure


def _weights(values: list[str], models: list[str], baselines: bool) -> dict[str, Path]:
    """Files by model; baselines that come with variants can be given theirs by name."""
    if not values:
        return {}
    from robustbench_sgdm import api

    return parsing.parse_weights(values, models, api.added_baselines(models) if baselines else [])


def _ask_about_identical(evaluation: "Evaluation", proceed: bool) -> bool:
    """Ask before time is spent on models that detect the same; gives whether to continue.

    Raises:
        UsageError: the answer is no.
    """
    from robustbench_sgdm.cli.console import warn

    for text in evaluation.identical:
        warn(f"warning: {text}")
    if proceed or not evaluation.identical or not sys.stdin.isatty():
        return proceed
    if not typer.confirm("Run it anyway?", err=True):
        raise UsageError("not started")
    return True


def _show_estimate(evaluation: "Evaluation") -> None:
    """Print cells, predictions and time of the whole run."""
    from robustbench_sgdm.cli.console import print_line

    cost = evaluation.estimate()
    print_line(f"{evaluation.size}, {cost.predictions:,} predictions: {cost}")
    for part in cost.details:
        print_line(f"  {part}")
    if evaluation.config.address and not evaluation.config.workers:
        print_line(
            "This is the time of one worker, because the cluster's size is unknown here; --workers N sets the number."
        )
