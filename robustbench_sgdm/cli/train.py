"""`robustbench train`: several detectors under one recipe, for one or several seeds."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_sgdm.cli.shared_options import CorruptionDirOption, FormatOption
from robustbench_sgdm.core import parsing
from robustbench_sgdm.core.errors import StoppedError, TrainingFailedError, UsageError

if TYPE_CHECKING:
    from robustbench_sgdm.training import TrainedRun, TrainingProgress


def train(
    model: Annotated[
        list[str],
        typer.Option("--model", help=f"Zoo names or model YAMLs; baseline first. {parsing.LIST_HELP}"),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help="scenes (rendered here); coco (train2017 and val2017); an Ultralytics dataset YAML, by path or name "
            "(VOC.yaml); or the training split as a COCO json.",
        ),
    ] = "scenes",
    val: Annotated[
        str | None,
        typer.Option("--val", help="Validation split as a COCO json; YAML, coco and scenes have their own."),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            help="quick; paper (table 1, for the models' family); or ultralytics for its own defaults.",
        ),
    ] = "quick",
    init: Annotated[
        Path | None,
        typer.Option(
            "--init", help="Weights of the baseline that every model starts from; default: from scratch."
        ),
    ] = None,
    seeds: Annotated[
        list[str],
        typer.Option(
            "--seeds", help="Seeds of initial weights, order and augmentation. Several: commas or repeats."
        ),
    ] = ["0"],  # noqa: B006 - typer wants a list
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="Passes over the training split; default: the recipe's."),
    ] = None,
    imgsz: Annotated[
        int | None, typer.Option("--imgsz", min=32, help="Training size in pixels; default: the recipe's.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Images per step; default: the recipe's.")
    ] = None,
    noise_aug: Annotated[
        list[str] | None,
        typer.Option(
            "--noise-aug",
            help="Corruptions and groups for half of the training images, at random severities; default: none.",
        ),
    ] = None,
    corruptions: CorruptionDirOption = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            help="cpu, cuda:1, an index, or several: 0,1; the first GPU if there is one, else cpu.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=0, help="Processes that load images; default: the recipe's."),
    ] = None,
    fraction: Annotated[
        float, typer.Option("--fraction", help="Share of the training images, in (0, 1].")
    ] = 1.0,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Any Ultralytics training argument, KEY=VALUE, over the recipe's. May be repeated."
        ),
    ] = None,
    loggers: Annotated[
        list[str] | None,
        typer.Option(
            "--loggers", help="Ultralytics' loggers to attach, such as tensorboard or wandb; default: none."
        ),
    ] = None,
    project: Annotated[Path, typer.Option("--project", help="Folder of comparisons.")] = Path("runs/train"),
    name: Annotated[
        str | None, typer.Option("--name", help="The comparison's folder; default: the data's name.")
    ] = None,
    exist_ok: Annotated[bool, typer.Option("--exist-ok", help="Write into an existing folder.")] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Resume each run of the folder at the epoch where it stopped; needs the same options.",
        ),
    ] = False,
    form: FormatOption = "table",
) -> None:
    """Train detectors under one recipe: same images, same order, same initial values of shared tensors.

    Each (model, seed) writes Ultralytics' own files, health.csv and best.safetensors into PROJECT/NAME/<model>-seed<k>/;
    runs.csv and summary.csv beside them have every run, and means and standard deviations.
    """
    from robustbench_sgdm import api
    from robustbench_sgdm.cli.console import info, print_as

    runs: list[TrainedRun] = []
    try:
        runs = api.train(
            parsing.parse_models(model),
            data=data,
            val=val,
            recipe=recipe,
            init=init,
            seeds=_seeds(seeds),
            epochs=epochs,
            imgsz=imgsz,
            batch=batch,
            device=device,
            workers=workers,
            fraction=fraction,
            noise=parsing.split_list(noise_aug or []),
            corruptions=corruptions or [],
            loggers=parsing.split_list(loggers or []),
            project=project,
            name=name,
            exist_ok=exist_ok,
            resume=resume,
            arguments=_overrides(set_ or []),
            report=_print_epoch,
            progress=_print_rendering,
        )
    except TrainingFailedError as failure:
        runs = failure.runs
        raise
    except KeyboardInterrupt:
        raise StoppedError(
            "stopped; finished epochs are stored, and the same command with --resume and the comparison's --name "
            "resumes"
        ) from None
    finally:
        if runs:
            print_as(api.training_table(runs), form)
            info(f"comparison  {runs[0].folder.parent}")


def _print_epoch(progress: "TrainingProgress") -> None:
    """A line after the first ten batches, as a first estimate, and after each epoch."""
    from robustbench_sgdm.cli.console import info

    if progress.map50_95 is not None or (progress.epoch, progress.batch) == (1, 10):
        info(str(progress))


def _print_rendering(stage: str, done: int, total: int) -> None:
    """A line for each tenth; the epochs that follow have lines too."""
    from robustbench_sgdm.cli.console import info

    if done == total or done % max(total // 10, 1) == 0:
        info(f"{stage}: {done} of {total}")


def _seeds(values: list[str]) -> list[int]:
    """Whole numbers.

    >>> _seeds(["0,1", "7"])
    [0, 1, 7]
    """
    items = parsing.split_list(values)
    if bad := [item for item in items if not item.isdecimal()]:
        raise UsageError(f"seed {bad[0]!r} is not a whole number from 0 to 2147483647")
    return [int(item) for item in items]


def _overrides(items: list[str]) -> dict[str, Any]:
    """KEY=VALUE pairs; values are read as YAML scalars."""
    from inspect import signature

    import yaml

    from robustbench_sgdm.config import TrainingConfig

    pairs = [item.partition("=") for item in items]
    bad = [key for key, equals, _ in pairs if not (key and equals)]
    if bad:
        raise UsageError(f"--set {bad[0]!r} is not KEY=VALUE")
    own = [key for key, _, _ in pairs if key in {*signature(TrainingConfig).parameters, "seed"}]
    if own:
        raise UsageError(f"--set {own[0]} is a separate option: see `robustbench train --help`")
    try:
        arguments = {key: yaml.safe_load(value) for key, _, value in pairs}
    except yaml.YAMLError as error:
        raise UsageError(f"--set cannot be read: {error}") from error
    for key, value in arguments.items():
        if value is None:
            raise UsageError(f"--set {key} has no value")
        with suppress(ValueError):  # YAML takes 1e-3 for a word
            arguments[key] = float(value) if isinstance(value, str) else value
    return arguments
