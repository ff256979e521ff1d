"""`robustbench corrupt`: corrupted copies of a data set, for detectors that run somewhere else."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from robustbench_sgdm.cli.data import resolve_paths
from robustbench_sgdm.cli.shared_options import (
    CorruptionDirOption,
    DataOption,
    EngineOption,
    ImagesOption,
    NoiseOption,
    SeedOption,
    SeverityOption,
    SplitOption,
)
from robustbench_sgdm.core import parsing


class Format(StrEnum):
    """Of the image files."""

    png = "png"
    jpg = "jpg"


def corrupt(
    data: DataOption = "scenes",
    images: ImagesOption = None,
    split: SplitOption = "val",
    noise: NoiseOption = ["gaussian"],  # noqa: B006 - typer wants a list
    severity: SeverityOption = ["1-5"],  # noqa: B006
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder for the copies: OUT/CORRUPTION/SEVERITY/{images,annotations}."),
    ] = Path("runs/corrupted"),
    form: Annotated[
        Format, typer.Option("--format", help="png keeps every pixel; jpg is a second corruption.")
    ] = Format.png,
    quality: Annotated[int, typer.Option("--quality", min=1, max=100, help="Of jpg files.")] = 95,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--sheet",
            help="Also draw the middle of the first image, clean and under every corruption and severity: a .png, "
            ".svg or .pdf.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Copy only the first N images; 0: all.")] = 0,
    engine: EngineOption = "torch",
    seed: SeedOption = 0,
    corruptions: CorruptionDirOption = None,
) -> None:
    """Write corrupted copies of a data set in COCO layout. Boxes stay where they are.

    A copy's json keeps every field of the original json; file names and sizes are the copy's, whose images are upright
    and without EXIF. For an Ultralytics YAML, image ids count from 1 in the order of the split, and category ids are the
    YAML's class numbers, from 0.

    The pixels are those that `robustbench run` sees with the same seed. A copy's json is written last, so a copy with a
    json is complete.
    """
    from robustbench_sgdm import api
    from robustbench_sgdm.cli.console import info, progress_bars

    source, folder = resolve_paths(data, images)
    with progress_bars() as progress:
        result = api.corrupt_dataset(
            source,
            images=folder,
            split=split,
            noise=parsing.require_items(noise, "--noise", "gaussian"),
            severity=parsing.parse_severities(severity),
            corruptions=corruptions or [],
            engine=engine,
            seed=seed,
            out=out,
            format=form.value,
            quality=quality,
            limit=limit,
            sheet=sheet,
            progress=progress,
        )
    if sheet is not None:
        info(f"sheet   {sheet}")
    info(f"copies  {out}: {len(result.folders)}, of {result.images} images each")
    if result.errors:
        raise result.errors[0].__class__("; ".join(map(str, result.errors)))
