"""`robustbench export`: a checkpoint as a model of ONNX Runtime or OpenVINO."""

from pathlib import Path
from typing import Annotated

import typer

from robustbench_sgdm.cli.data import resolve_paths
from robustbench_sgdm.cli.shared_options import (
    End2EndOption,
    ImagesOption,
    ImgszOption,
    SplitOption,
    TrustOption,
)
from robustbench_sgdm.config import ExportFormat, InferenceConfig
from robustbench_sgdm.core import parsing


def export(
    model: Annotated[
        str, typer.Argument(help="Zoo name (see `robustbench list models`) or path of a checkpoint.")
    ],
    form: Annotated[ExportFormat, typer.Option("--format", help="Runtime of the export.")] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The file, ending in .onnx, or OpenVINO's folder, ending in _openvino_model; default: the model's name.",
        ),
    ] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="Weights of a zoo name.")] = None,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Quantise to 8 bits, by the runtime's own quantiser; needs --calibrate."),
    ] = False,
    calibrate: Annotated[
        str,
        typer.Option(
            "--calibrate", help="Data set, as in `run --data`, to whose images the 8-bit ranges are fitted."
        ),
    ] = "",
    images: ImagesOption = None,
    split: SplitOption = "val",
    imgsz: ImgszOption = InferenceConfig.imgsz,
    dynamic: Annotated[
        bool,
        typer.Option(
            "--dynamic",
            help="For batches and images of any size; default: single images of one size, which is faster.",
        ),
    ] = False,
    max_det: Annotated[
        int, typer.Option("--max-det", help="Maximum detections per image of a head that needs no NMS.")
    ] = InferenceConfig.max_det,
    end2end: End2EndOption = None,
    trust_weights: TrustOption = False,
) -> None:
    """Export a checkpoint to ONNX or OpenVINO, in float32 or 8 bits, for `run --model` and for deployment.

    The network is exported as it runs here: fused, SGDM folded. In float32 its boxes are compared with the checkpoint's
    on a few images, and an export that differs is an error.
    """
    from robustbench_sgdm import api
    from robustbench_sgdm.cli.console import info, progress_bars

    source, folder = resolve_paths(calibrate, images) if calibrate else ("", images)
    with progress_bars() as progress:
        path = api.export(
            str(parsing.find_path(model) or model),
            weights=weights,
            format=form,
            out=out,
            int8=int8,
            data=source,
            images=folder,
            split=split,
            dynamic=dynamic,
            imgsz=imgsz,
            max_det=max_det,
            end2end=end2end,
            trust_weights=trust_weights,
            progress=progress,
        )
    info(f"export  {path}")
