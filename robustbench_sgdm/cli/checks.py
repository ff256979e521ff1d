"""`robustbench checks`: why a model scores below its published AP; without one, the installation."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_sgdm.cli.shared_options import (
    ClassesOption,
    ConfOption,
    DataOption,
    DeviceOption,
    DownloadOption,
    End2EndOption,
    FormatOption,
    HalfOption,
    ImagesOption,
    ImgszOption,
    IouOption,
    LayoutOption,
    MaxDetOption,
    NormalizeOption,
    RuntimeOption,
    SplitOption,
    TableFormat,
    TrustOption,
)
from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core import parsing
from robustbench_sgdm.core.errors import UsageError


def checks(
    model: Annotated[
        str | None, typer.Option("--model", help="Check this model on --data; takes what `run` takes.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option("--predictions", help="Check a COCO results json instead.")
    ] = None,
    data: DataOption = "scenes",
    images: ImagesOption = None,
    split: SplitOption = "val",
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Weights of --model, if it is a name.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Images to run the model on.")] = 32,
    imgsz: ImgszOption = InferenceConfig.imgsz,
    device: DeviceOption = None,
    half: HalfOption = False,
    conf: ConfOption = InferenceConfig.conf,
    iou: IouOption = InferenceConfig.iou,
    max_det: MaxDetOption = InferenceConfig.max_det,
    end2end: End2EndOption = None,
    trust_weights: TrustOption = False,
    runtime: RuntimeOption = "pytorch",
    classes: ClassesOption = None,
    layout: LayoutOption = None,
    normalize: NormalizeOption = None,
    download: DownloadOption = False,
    form: FormatOption = "table",
) -> None:
    """Find out why AP is below the published one (--model, --predictions); else print versions and what is missing.

    Runs the model on a few images and looks for what lowers AP, with evidence: class names, thresholds, box format,
    labels, NMS, colour order, image size, images without boxes. Exit code 1 if something must be changed, or is missing.
    """
    if model is None and predictions is None:
        _check_installation(form)
        return
    from robustbench_sgdm import api
    from robustbench_sgdm.cli.console import print_as, print_line, progress_bars
    from robustbench_sgdm.cli.data import resolve_paths
    from robustbench_sgdm.tables import Table

    source, folder = resolve_paths(data, images)
    with progress_bars() as progress:
        report = api.checks(
            _one_model(model) if model else None,
            weights=weights,
            predictions=predictions,
            data=source,
            images=folder,
            split=split,
            limit=limit,
            imgsz=imgsz,
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
            progress=progress,
        )
    rows = [[one.check, "change" if one.remedy else "ok", one.evidence] for one in report.findings]
    title, columns = (
        f"{report.model} on {report.images:,} images of {report.data}",
        ["check", "result", "evidence"],
    )
    print_as(Table(title, columns, rows, text=columns), form)
    for one in report.problems:
        print_line(f"{one.check}: {one.remedy}")
    if not report.problems:
        print_line("nothing to change")
        return
    raise typer.Exit(1)


def _one_model(given: str) -> str:
    models = parsing.parse_models([given])
    if len(models) != 1:
        raise UsageError(f"--model {given} names {len(models)} models; check one at a time")
    return models[0]


def _check_installation(form: TableFormat) -> None:
    """Versions, devices, and what is missing; exit code 1 if something is."""
    from robustbench_sgdm import listings
    from robustbench_sgdm.cli.console import print_as
    from robustbench_sgdm.tables import Table

    frame, missing = listings.check_installation()
    verdict = f"missing: {', '.join(missing)}; install the package again" if missing else "nothing is missing"
    columns = list(frame.columns)
    print_as(Table("checks", columns, frame.to_numpy().tolist(), [verdict], text=columns), form)
    if missing:
        raise typer.Exit(1)
