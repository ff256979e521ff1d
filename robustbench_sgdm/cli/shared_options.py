"""Options that several commands have, each declared once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        help="scenes (rendered here), coco (val2017, downloaded on first use), a COCO json, or an Ultralytics dataset "
        "YAML.",
    ),
]
ImagesOption = Annotated[
    Path | None,
    typer.Option("--images", help="Image folder of a COCO json, unless it is in a usual place beside it."),
]
SplitOption = Annotated[
    str,
    typer.Option(
        "--split", help="Split of coco (train or val) or of an Ultralytics dataset YAML (test too)."
    ),
]
NoiseOption = Annotated[
    list[str],
    typer.Option(
        "--noise",
        help="Corruptions and groups (see `robustbench list corruptions`). At a strength of your own: "
        "gaussian_noise[sigma=0.15]. One after the other: fog+gaussian_noise, fog@2+gaussian_noise@4. Several: commas or "
        "repeats.",
    ),
]
SeverityOption = Annotated[
    list[str],
    typer.Option("--severity", help="Severities from 0 (clean) to 5, any real number: 0-5, 1,3, 2.5."),
]
CorruptionDirOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--corruption-dir",
        "--corruptions",
        help="Directory with corruptions of your own; its code is run. May be repeated.",
    ),
]
EngineOption = Annotated[
    str,
    typer.Option("--engine", help="Engine of the corruptions: torch (ours) or imgaug (the reference, slow)."),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Seed of the corruptions.")]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda, cuda:1 or an index; the first GPU if there is one, else cpu."),
]
ImgszOption = Annotated[
    int,
    typer.Option(
        "--imgsz",
        help="Letterbox size in pixels, a multiple of 32; 0: the training size in each model's file, or 640.",
    ),
]
HalfOption = Annotated[bool, typer.Option("--half", help="Half precision; only on a GPU.")]
ConfOption = Annotated[
    float, typer.Option("--conf", help="Lowest confidence of a detection; AP needs a low value.")
]
IouOption = Annotated[float, typer.Option("--iou", help="IoU above which NMS drops the weaker box.")]
MaxDetOption = Annotated[int, typer.Option("--max-det", help="Maximum detections per image.")]
End2EndOption = Annotated[
    bool | None,
    typer.Option(
        "--end2end/--no-end2end",
        help="Branch of YOLOv10's and YOLO26's heads: one-to-one without NMS, or one-to-many with it; default: as "
        "Ultralytics' val (one-to-many).",
    ),
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust-weights",
        help="Allow a .pt, .torchscript or TensorRT .engine to run the code in it. Only for files that you trust fully.",
    ),
]
RuntimeOption = Annotated[
    str,
    typer.Option(
        "--runtime",
        help="Runtime of Ultralytics checkpoints: pytorch, onnx, openvino or tensorrt (exported once, checked for "
        "equal boxes, cached), or auto, the fastest on this machine. Exported files have their own runtime.",
    ),
]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        "--classes",
        help="Class names, in label order, for exported files or other libraries' weights that have none: a file (a "
        "name per line, a json list, a dataset YAML) or names between commas.",
    ),
]
LayoutOption = Annotated[
    str | None,
    typer.Option(
        "--layout",
        help="Output layout of exported files, if it is ambiguous: raw, end2end, rtdetr, torchvision or detr.",
    ),
]
NormalizeOption = Annotated[
    str | None,
    typer.Option(
        "--normalize",
        help="Pixel normalisation of exported files, if it is unknown: unit (in [0, 1]) or imagenet.",
    ),
]
DownloadOption = Annotated[
    bool,
    typer.Option(
        "--download",
        help="Download missing weights: torchvision's published ones, or those of a name on Hugging Face's hub.",
    ),
]
TableFormat = Literal["table", "csv", "markdown", "latex"]
"""How a command prints its table."""
FormatOption = Annotated[
    TableFormat,
    typer.Option(
        "--format",
        help="table for the terminal, csv for spreadsheets, markdown or latex for documents.",
    ),
]
ProjectOption = Annotated[Path, typer.Option("--project", help="Folder of run directories.")]
RunArgument = Annotated[Path, typer.Argument(help="A run directory, written by `robustbench run`.")]
BaselineOption = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        help="Compare all others with this model; default: a variant with its own baseline, else all with the first.",
    ),
]
ResamplesOption = Annotated[
    int,
    typer.Option(
        "--resamples",
        min=2,
        help="Number of resamples of the images for each interval; cached in the run directory.",
    ),
]
QuietOption = Annotated[
    bool,
    typer.Option(
        "-q",
        "--quiet",
        help="Print only the closing lines (P, mPC, rPC, difference, verdict), warnings and errors.",
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json", help="Print the results as JSON instead, for programs; see `robustbench results`."
    ),
]
RUNS = Path("runs/robustness")
"""The default folder of run directories."""
