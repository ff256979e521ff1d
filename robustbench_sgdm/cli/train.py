"""`robustbench train`: several detectors under one recipe and seed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_sgdm.cli import options
from robustbench_sgdm.cli.run import DeviceOption

if TYPE_CHECKING:
    from robustbench_sgdm.training import TrainData


def train(
    model: Annotated[
        list[str], typer.Option("--model", help="Zoo names, baseline first. Several: commas or repeats.")
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data", help="scenes (embedded), or the training split as a COCO json or Ultralytics YAML."
        ),
    ] = "scenes",
    val: Annotated[
        str | None,
        typer.Option("--val", help="Validation split as a COCO json; a YAML and scenes bring their own."),
    ] = None,
    recipe: Annotated[
        str, typer.Option("--recipe", help="quick, or ultralytics for its own defaults.")
    ] = "quick",
    init: Annotated[
        Path | None,
        typer.Option(
            "--init", help="Weights of the baseline that every arm starts from; from scratch without."
        ),
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the training split.")] = 20,
    imgsz: Annotated[int, typer.Option("--imgsz", min=32, help="Training size in pixels.")] = 320,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images a step.")] = 8,
    device: DeviceOption = None,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that load images.")] = 0,
    fraction: Annotated[
        float, typer.Option("--fraction", help="Share of the training images, in (0, 1].")
    ] = 1.0,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of initial weights, order and augmentation.")
    ] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Any Ultralytics training argument, KEY=VALUE, over the recipe's. May be repeated."
        ),
    ] = None,
    project: Annotated[Path, typer.Option("--project", help="Folder that comparisons are made in.")] = Path(
        "runs/train"
    ),
    name: Annotated[
        str | None, typer.Option("--name", help="The comparison's folder; default: the data's name.")
    ] = None,
    exist_ok: Annotated[bool, typer.Option("--exist-ok", help="Write into an existing folder.")] = False,
) -> None:
    """Train detectors under one recipe: same images, same order, same start where they share tensors.

    Each arm leaves Ultralytics' own files and `best.safetensors` in PROJECT/NAME/<model>-seed<k>/.
    """
    from robustbench_sgdm import training
    from robustbench_sgdm.cli.console import show
    from robustbench_sgdm.detectors import pick_device
    from robustbench_sgdm.tables import Table, number

    runs = training.train(
        options.split(model),
        data=_data(data, val),
        recipe=recipe,
        init=init,
        epochs=epochs,
        imgsz=imgsz,
        batch=batch,
        device=pick_device(device),
        workers=workers,
        fraction=fraction,
        seed=seed,
        project=project,
        name=name,
        exist_ok=exist_ok,
        **_overrides(set_ or []),
    )
    rows = [
        [
            r.model,
            *(number(r.scores.metrics[m]) for m in ("AP", "AP50", "AP_S")),
            str(r.best_epoch),
            str(r.weights),
        ]
        for r in runs
    ]
    show(Table("trained", ["model", "AP", "AP50", "AP_S", "best epoch", "weights"], rows))


def _data(train_split: str, val_split: str | None) -> "TrainData":
    from robustbench_sgdm import datasets
    from robustbench_sgdm.cli.console import counted
    from robustbench_sgdm.errors import UsageError
    from robustbench_sgdm.training import TrainData, scenes_data

    with counted("rendering scenes") as progress:
        if train_split == "scenes":
            return scenes_data(progress=progress)
        if val_split is None and Path(train_split).suffix in {".yaml", ".yml"}:
            val_split = train_split
        if val_split is None:
            raise UsageError("--data names the training split alone; give the validation split with --val")
        return TrainData.of(
            Path(train_split).stem,
            datasets.load(train_split, split="train", progress=progress),
            datasets.load(val_split, progress=progress),
        )


def _overrides(items: list[str]) -> dict[str, Any]:
    """KEY=VALUE pairs; values are read as YAML scalars."""
    from inspect import signature

    import yaml

    from robustbench_sgdm import training
    from robustbench_sgdm.errors import UsageError

    pairs = [item.partition("=") for item in items]
    bad = [key for key, equals, _ in pairs if not (key and equals)]
    if bad:
        raise UsageError(f"--set {bad[0]!r} is not KEY=VALUE")
    own = [key for key, _, _ in pairs if key in signature(training.train).parameters]
    if own:
        raise UsageError(f"--set {own[0]} is an option of its own: see `robustbench train --help`")
    try:
        return {key: yaml.safe_load(value) for key, _, value in pairs}
    except yaml.YAMLError as error:
        raise UsageError(f"--set cannot be read: {error}") from error
