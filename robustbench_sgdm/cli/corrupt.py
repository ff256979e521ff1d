"""`robustbench corrupt`: a corrupted copy of a data set, for detectors that live elsewhere."""

import io
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_sgdm.cli import options
from robustbench_sgdm.cli.common import (
    CorruptionDirOption,
    DataOption,
    EngineOption,
    ImagesOption,
    NoiseOption,
    SeedOption,
    SeverityOption,
    SplitOption,
)
from robustbench_sgdm.cli.data import load_dataset
from robustbench_sgdm.core.errors import CorruptionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from robustbench_sgdm.corruption import Corruption
    from robustbench_sgdm.datasets import Dataset, Image

    Copy = tuple[Corruption, float]
    Corrupted = Callable[[Corruption, float, NDArray[np.uint8], int], NDArray[np.uint8]]


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
    limit: Annotated[
        int, typer.Option("--limit", min=0, help="Copy the first so many images only; 0: all of them.")
    ] = 0,
    engine: EngineOption = "torch",
    seed: SeedOption = 0,
    corruptions: CorruptionDirOption = None,
) -> None:
    """Write corrupted copies of a data set in COCO layout, with its boxes: they are never moved.

    A copy's json keeps every field of the json that it was made from; file names and sizes are the copy's, whose
    images are upright and without EXIF. From an Ultralytics YAML, image ids count from 1 in the order of the split and
    category ids are the YAML's class numbers, from 0.

    The pixels are those that `robustbench run` sees with the same seed. A copy's json is written last, so
    a copy that has one is complete.
    """
    from robustbench_sgdm import corruption as corrupting
    from robustbench_sgdm.cli.console import counting, note
    from robustbench_sgdm.figures import check_ending
    from robustbench_sgdm.sweep import rehearse

    if sheet is not None:
        check_ending(sheet)
    levels = options.severities(severity)
    chosen = corrupting.load_corruptions(corruptions or []).select(options.some(noise, "--noise", "gaussian"))
    rehearse(chosen, levels, engine)
    dataset = _first(load_dataset(data, images, split), limit)
    corrupted = _corruptor(engine, seed)
    if sheet is not None:
        _draw(sheet, dataset.images[0], chosen, levels, corrupted)
        note(f"sheet   {sheet}")
    names = _file_names(dataset.images, form)
    copies = [(one, s) for one in chosen for s in _with_clean(one, levels)]
    _drop_descriptions(dataset, out, copies)
    failed: dict[str, CorruptionError] = {}
    with counting("writing", len(dataset) * len(copies)) as update:
        for image, name in zip(dataset.images, names, strict=True):
            _copy(image, name, out, copies, corrupted, quality, failed)
            update(len(copies))
    done = [(one, s) for one, s in copies if one.name not in failed]
    _describe(dataset, names, out, done)
    note(f"copies  {out}: {len(done)}, of {len(dataset)} images each")
    if failed:
        raise CorruptionError("; ".join(map(str, failed.values())))


def _with_clean(one: "Corruption", levels: Sequence[float]) -> list[float]:
    return [0.0] * (0 in levels) + one.effective_severities(levels)


def _first(dataset: "Dataset", limit: int) -> "Dataset":
    from dataclasses import replace

    images = dataset.images[:limit] if limit else dataset.images
    kept = {image.id for image in images}
    return replace(
        dataset, images=images, annotations=[a for a in dataset.annotations if a["image_id"] in kept]
    )


def _corruptor(engine: str, seed: int) -> "Corrupted":
    from robustbench_sgdm.corruption import corrupt_image

    def corrupted(
        one: "Corruption", severity: float, picture: "NDArray[np.uint8]", image_id: int
    ) -> "NDArray[np.uint8]":
        return corrupt_image(one, picture, severity, seed=seed, image_id=image_id, engine=engine)

    return corrupted


def _file_names(images: "Sequence[Image]", form: Format) -> list[str]:
    """The images' own names where no two share one on any file system, else their ids."""
    same = Counter(unicodedata.normalize("NFC", image.path.stem).casefold() for image in images)
    shared = same.most_common(1)[0][1] > 1
    return [f"{image.id:012d}.{form}" if shared else f"{image.path.stem}.{form}" for image in images]


def _folder(out: Path, one: "Corruption", severity: float) -> Path:
    return out / one.name / f"{severity:g}"


def _copy(
    image: "Image",
    name: str,
    out: Path,
    copies: "Sequence[Copy]",
    corrupted: "Corrupted",
    quality: int,
    failed: dict[str, CorruptionError],
) -> None:
    """Write one image into every copy; a corruption that fails is put into `failed` and left out from there."""
    from PIL import Image as Pillow

    from robustbench_sgdm.core import atomic_io
    from robustbench_sgdm.datasets.image_decoding import read_image

    picture = read_image(image)
    how = {"quality": quality, "subsampling": 0} if name.endswith(".jpg") else {"compress_level": 1}
    form = "JPEG" if name.endswith(".jpg") else "PNG"
    for one, severity in copies:
        if one.name in failed:
            continue
        try:
            noisy = Pillow.fromarray(corrupted(one, severity, picture, image.id))
        except CorruptionError as error:
            failed[one.name] = error
            continue
        buffer = io.BytesIO()  # Pillow, writing to a full disk itself, leaves half a JPEG and says nothing
        noisy.save(buffer, form, **how)
        atomic_io.write_bytes(_folder(out, one, severity) / "images" / name, buffer.getvalue())


def _drop_descriptions(dataset: "Dataset", out: Path, copies: "Sequence[Copy]") -> None:
    """An earlier copy's json must not describe a mixture, should this command be stopped."""
    for one, severity in copies:
        _json(dataset, out, one, severity).unlink(missing_ok=True)


def _describe(dataset: "Dataset", names: Sequence[str], out: Path, copies: "Sequence[Copy]") -> None:
    from robustbench_sgdm.core import atomic_io
    from robustbench_sgdm.datasets.coco import describe_copy

    by_id = {image.id: name for image, name in zip(dataset.images, names, strict=True)}
    text = json.dumps(describe_copy(dataset, by_id)) + "\n"  # one line: a polygon has hundreds of numbers
    for one, severity in copies:
        atomic_io.write_text(_json(dataset, out, one, severity), text)


def _json(dataset: "Dataset", out: Path, one: "Corruption", severity: float) -> Path:
    return _folder(out, one, severity) / "annotations" / f"{dataset.name}.json"


def _draw(
    sheet: Path,
    image: "Image",
    chosen: "Sequence[Corruption]",
    levels: Sequence[float],
    corrupted: "Corrupted",
) -> None:
    from robustbench_sgdm.datasets.image_decoding import read_image
    from robustbench_sgdm.figures import contact_sheet, save

    picture = read_image(image)
    rows = {
        one.name: {s: corrupted(one, s, picture, image.id) for s in (0.0, *one.effective_severities(levels))}
        for one in chosen
    }
    save(contact_sheet(rows), sheet)
