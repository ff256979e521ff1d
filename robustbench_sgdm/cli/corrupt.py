"""`robustbench corrupt`: corrupted copies of a data set, for detectors that run somewhere else."""

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
from robustbench_sgdm.config import ImageFormat
from robustbench_sgdm.core import parsing
from robustbench_sgdm.core.errors import UsageError


def corrupt(
    context: typer.Context,
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
        ImageFormat,
        typer.Option("--format", help="png keeps every pixel; jpg is lossy, a second corruption."),
    ] = "png",
    quality: Annotated[int, typer.Option("--quality", min=1, max=100, help="Quality of jpg files.")] = 95,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--sheet",
            help="Also draw the middle of the first image, clean and under every corruption and severity: a .png, "
            ".svg or .pdf.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Only the first N images; 0: all.")] = 0,
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest", help="Instead of copies, write the sha256 of each corrupted image's pixels here."
        ),
    ] = None,
    verify: Annotated[
        Path | None,
        typer.Option(
            "--verify",
            help="Check whether this machine makes the pixels of such a manifest. Needs only its --data; the manifest "
            "has the rest.",
        ),
    ] = None,
    engine: EngineOption = "torch",
    seed: SeedOption = 0,
    corruptions: CorruptionDirOption = None,
) -> None:
    """Write corrupted copies of a data set in COCO layout. Boxes stay where they are.

    A copy's json keeps every field of the original json. File names and sizes are those of the copies, which are upright
    and without EXIF. For an Ultralytics YAML, image ids count from 1 in the order of the split, and category ids are the
    YAML's class numbers, from 0.

    The pixels are those that `robustbench run` sees with the same seed. A copy's json is written last, so a copy with a
    json is complete.
    """
    from robustbench_sgdm import api
    from robustbench_sgdm.cli.console import info, pluralize, progress_bars

    source, folder = resolve_paths(data, images)
    if verify is not None:
        _require_default(context, "--verify", {"data", "images", "split", "corruptions", "verify"})
        with progress_bars() as progress:
            result = api.verify_pixels(
                verify, source, images=folder, split=split, corruptions=corruptions or [], progress=progress
            )
        result.check()
        info(f"pixels  {verify}: all {result.images} corrupted images are the same here")
        return
    if manifest is not None:
        _require_default(
            context, "--manifest", {name for name in context.params if name not in ("out", "form", "quality")}
        )
    with progress_bars() as progress:
        copies = api.corrupt_dataset(
            source,
            images=folder,
            split=split,
            noise=parsing.split_list(noise),
            severity=parsing.parse_severities(severity),
            corruptions=corruptions or [],
            engine=engine,
            seed=seed,
            out=out,
            format=form,
            quality=quality,
            limit=limit,
            manifest=manifest,
            sheet=sheet,
            progress=progress,
        )
    if sheet is not None:
        info(f"sheet   {sheet}")
    if manifest is not None:
        info(
            f"pixels  {manifest}: of {pluralize(copies.images, 'image')}; compare another machine's with --verify"
        )
        return
    info(f"copies  {out}: {len(copies.folders)}, of {pluralize(copies.images, 'image')} each")
    if copies.errors:
        raise copies.errors[0].__class__("; ".join(map(str, copies.errors)))


def _require_default(context: typer.Context, option: str, allowed: set[str]) -> None:
    """Refuse options that would be ignored.

    Raises:
        UsageError: one was given that does not go with `option`.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name not in allowed and source is not None and source.name != "DEFAULT":
            raise UsageError(f"{parameter.opts[0]} cannot be combined with {option}: leave one of them out")
