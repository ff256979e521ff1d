"""`robustbench run`: options to a configuration, then tables and the report."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_sgdm.cli import options
from robustbench_sgdm.cli.common import (
    RUNS,
    BaselineOption,
    CorruptionDirOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    EngineOption,
    ImagesOption,
    NoiseOption,
    ProjectOption,
    SeedOption,
    SeverityOption,
    SplitOption,
)
from robustbench_sgdm.cli.data import find
from robustbench_sgdm.cli.figure import tell_baseline, write_report
from robustbench_sgdm.cli.results import show_results
from robustbench_sgdm.core.errors import IncompleteError, StoppedError, UsageError

if TYPE_CHECKING:
    from robustbench_sgdm.evaluation import Evaluation


def run(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="Zoo name (see `robustbench list models`), path of an Ultralytics detection checkpoint, model YAML with "
            "--weights, torchvision:NAME, hf:FOLDER_OR_NAME (transformers), or package.module:factory. "
            f"{options.SEVERAL}",
        ),
    ] = None,
    from_train: Annotated[
        Path | None,
        typer.Option(
            "--from-train",
            help="In place of --model: the folder that `robustbench train` made; each training is run beside that of its "
            "baseline with the same seed, and seeds are put together.",
        ),
    ] = None,
    noise: NoiseOption = ["gaussian"],  # noqa: B006 - typer wants a list
    severity: SeverityOption = ["0-5"],  # noqa: B006
    data: DataOption = "scenes",
    images: ImagesOption = None,
    split: SplitOption = "val",
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            help=f"Weights: FILE for every model, one FILE each in order, or NAME=FILE. {options.SEVERAL}",
        ),
    ] = None,
    baseline: BaselineOption = None,
    no_baseline: Annotated[
        bool, typer.Option("--no-baseline", help="Do not also run the baseline of a module variant.")
    ] = False,
    imgsz: Annotated[
        int,
        typer.Option(
            "--imgsz",
            help="Letterbox size in pixels, a multiple of 32; 0: what each model's file says it was trained at, or 640.",
        ),
    ] = 0,
    batch: Annotated[
        int, typer.Option("--batch", min=0, help="Images a forward pass; 0: 4 on the CPU, 32 on a GPU.")
    ] = 0,
    device: DeviceOption = None,
    half: Annotated[bool, typer.Option("--half", help="Half precision; GPU only.")] = False,
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
            help="Where images are worked on: local (this machine) or ray (workers of a Ray cluster).",
        ),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            "--address", help="Ray cluster: HOST:PORT or auto; default: one is started here for the run."
        ),
    ] = None,
    gpus: Annotated[
        float,
        typer.Option("--gpus", help="GPUs of each Ray worker on --device cuda; 0.5 lets two share one."),
    ] = 1.0,
    engine: EngineOption = "torch",
    seed: SeedOption = 0,
    fraction: Annotated[
        float, typer.Option("--fraction", help="Share of the images, in (0, 1]; always the same ones.")
    ] = 1.0,
    conf: Annotated[
        float, typer.Option("--conf", help="Least confidence of a detection; AP wants it low.")
    ] = 0.001,
    iou: Annotated[float, typer.Option("--iou", help="IoU above which NMS drops the weaker box.")] = 0.7,
    max_det: Annotated[int, typer.Option("--max-det", help="Most detections kept per image.")] = 300,
    end2end: Annotated[
        bool | None,
        typer.Option(
            "--end2end/--no-end2end",
            help="Branch of YOLOv10's and YOLO26's heads: one-to-one without NMS, or one-to-many with it; default: what "
            "Ultralytics' val takes (one-to-many).",
        ),
    ] = None,
    corruptions: CorruptionDirOption = None,
    trust_weights: Annotated[
        bool,
        typer.Option(
            "--trust-weights", help="Let a .pt file run the code it holds. Only for files you trust fully."
        ),
    ] = False,
    download: DownloadOption = False,
    project: ProjectOption = RUNS,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            help="Run directory; default: models and corruptions. Where it holds another plan, a number is added.",
        ),
    ] = None,
    exist_ok: Annotated[
        bool,
        typer.Option(
            "--exist-ok", help="Put another plan into an existing directory, keeping the cells that fit."
        ),
    ] = False,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Run also where two models detect the same, such as an untrained module."),
    ] = False,
    only_estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what the run would cost and stop; nothing is written.")
    ] = False,
) -> None:
    """Measure detectors under corruption: cells, scores, tables and a report.

    Naming a module variant (yolov8n-sgdm) also runs its baseline. Two models of your own are compared too: the first
    is the baseline, or the one that --baseline names. The same command again goes on where
    it stopped and computes only what is missing.
    """
    from robustbench_sgdm import api
    from robustbench_sgdm.cli.console import stages
    from robustbench_sgdm.config import EvaluationConfig

    models = options.models(model or [])
    source, folder = find(data, images)
    with stages() as progress:
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
                fraction=fraction,
                noise=options.split(noise),
                severity=options.severities(severity),
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
                download=download,
                executor=on,
                workers=workers,
                address=address,
                gpus=gpus,
                project=project,
                name=name,
                exist_ok=exist_ok,
                command=shlex.join(["robustbench", *sys.argv[1:]]),
                progress=progress,
            )
        )
    go_on = _ask_about_identical(evaluation, yes or only_estimate)
    if only_estimate:
        _show_estimate(evaluation)
        return
    try:
        _run(evaluation, corruptions or [], go_on)
    except KeyboardInterrupt:
        raise StoppedError(
            "stopped; what is finished is stored, and the same command resumes from there"
        ) from None


def _run(evaluation: "Evaluation", corruptions: list[Path], allow_identical: bool) -> None:
    from robustbench_sgdm.cli.console import stages

    failure = None
    with stages() as progress:
        try:
            run = evaluation.run(progress, allow_identical=allow_identical)
        except IncompleteError as error:
            failure, run = error, error.run
    tell_baseline(run)
    show_results(run)
    if any(run.store.complete(cell) for cell in run.cells):
        write_report(run, folders=corruptions)
    if failure:
        raise failure


def _weights(values: list[str], models: list[str], baselines: bool) -> dict[str, Path]:
    """Files by model; baselines that come with variants can be given theirs by name."""
    if not values:
        return {}
    from robustbench_sgdm.detectors import added_baselines

    return options.weights(values, models, added_baselines(models) if baselines else [])


def _ask_about_identical(evaluation: "Evaluation", go_on: bool) -> bool:
    """Ask before time is spent on models that detect the same; whether to go on.

    Raises:
        UsageError: the answer is no.
    """
    from robustbench_sgdm.cli.console import note

    for text in evaluation.identical:
        note(f"warning: {text}")
    if go_on or not evaluation.identical or not sys.stdin.isatty():
        return go_on
    if not typer.confirm("Run it all the same?", err=True):
        raise UsageError("nothing was run")
    return True


def _show_estimate(evaluation: "Evaluation") -> None:
    """Cells, predictions and time of the run from its beginning, on standard output."""
    from robustbench_sgdm.cli.console import line

    cost = evaluation.estimate()
    line(f"{evaluation.size}, {cost.predictions:,} predictions: {cost}")
    for part in cost.details:
        line(f"  {part}")
    if evaluation.config.address and not evaluation.config.workers:
        line(
            "The cluster was not asked for its size: its other workers share the predictions; see --workers."
        )
