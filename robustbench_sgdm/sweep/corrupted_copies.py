"""Corrupted copies of a data set in COCO layout, for detectors that run somewhere else."""

import io
import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from robustbench_sgdm.config import CopyConfig
from robustbench_sgdm.core import atomic_io
from robustbench_sgdm.core.errors import CorruptionError
from robustbench_sgdm.core.progress import make_counter
from robustbench_sgdm.corruption import Corruption, corrupt_image
from robustbench_sgdm.datasets import Dataset, Image
from robustbench_sgdm.datasets.coco import describe_copy
from robustbench_sgdm.datasets.image_decoding import read_image

_Version = tuple[Corruption, float]


@dataclass(frozen=True)
class CopyResult:
    """What was written.

    Attributes:
        folders: of the complete copies.
        images: in each.
        errors: why corruptions failed that have no copy.
    """

    folders: Sequence[Path]
    images: int
    errors: Sequence[CorruptionError]


def write_copies(dataset: Dataset, corruptions: Sequence[Corruption], config: CopyConfig) -> CopyResult:
    """Write a copy of the data set for each corruption and severity; its json last, so a copy with one is complete."""
    dataset = take_first(dataset, config.limit)
    names = copy_names(dataset.images, config.format)
    versions = list_versions(corruptions, config)
    # The json of an earlier copy must not describe a mixture, should this stop half-way.
    for version in versions:
        _json_path(dataset, config.out, version).unlink(missing_ok=True)
    failed: dict[str, CorruptionError] = {}
    update = make_counter(config.progress, "writing", len(dataset) * len(versions))
    for image, name in zip(dataset.images, names, strict=True):
        _write_versions(image, name, versions, config, failed)
        update(len(versions))
    complete = [version for version in versions if version[0].name not in failed]
    by_id = {image.id: name for image, name in zip(dataset.images, names, strict=True)}
    text = json.dumps(describe_copy(dataset, by_id)) + "\n"  # one line: a polygon has hundreds of numbers
    for version in complete:
        atomic_io.write_text(_json_path(dataset, config.out, version), text)
    folders = [_folder(config.out, version) for version in complete]
    return CopyResult(folders, len(dataset), list(failed.values()))


def list_versions(corruptions: Sequence[Corruption], config: CopyConfig) -> list[_Version]:
    """Every corruption with the severities that it has of those asked for."""
    with_clean = [0.0] * (0 in config.severity)
    return [
        (one, s) for one in corruptions for s in [*with_clean, *one.effective_severities(config.severity)]
    ]


def first_image_versions(
    dataset: Dataset, corruptions: Sequence[Corruption], config: CopyConfig
) -> dict[str, dict[float, NDArray[np.uint8]]]:
    """The first image clean and under every corruption and severity: name -> severity -> (H, W, 3) RGB."""
    image = dataset.images[0]
    pixels = read_image(image)
    return {
        one.name: {
            s: _corrupt((one, s), pixels, image.id, config)
            for s in (0.0, *one.effective_severities(config.severity))
        }
        for one in corruptions
    }


def _corrupt(
    version: _Version, pixels: NDArray[np.uint8], image_id: int, config: CopyConfig
) -> NDArray[np.uint8]:
    corruption, severity = version
    return corrupt_image(
        corruption, pixels, severity, seed=config.seed, image_id=image_id, engine=config.engine
    )


def take_first(dataset: Dataset, limit: int) -> Dataset:
    """The data set cut to its first images; 0 for all of them."""
    images = dataset.images[:limit] if limit else dataset.images
    ids = {image.id for image in images}
    annotations = [a for a in dataset.annotations if a["image_id"] in ids]
    return replace(dataset, images=images, annotations=annotations)


def copy_names(images: Sequence[Image], suffix: str) -> list[str]:
    """The images' own names if no two are the same on any file system, else their ids."""
    stems = Counter(unicodedata.normalize("NFC", image.path.stem).casefold() for image in images)
    is_shared = stems.most_common(1)[0][1] > 1
    return [f"{image.id:012d}.{suffix}" if is_shared else f"{image.path.stem}.{suffix}" for image in images]


def _folder(out: Path, version: _Version) -> Path:
    return out / version[0].name / f"{version[1]:g}"


def _json_path(dataset: Dataset, out: Path, version: _Version) -> Path:
    return _folder(out, version) / "annotations" / f"{dataset.name}.json"


def _write_versions(
    image: Image,
    name: str,
    versions: Sequence[_Version],
    config: CopyConfig,
    failed: dict[str, CorruptionError],
) -> None:
    """Write one image into every copy; a corruption that fails is put into `failed` and skipped from then on."""
    pixels = read_image(image)
    for version in versions:
        corruption = version[0].name
        if corruption in failed:
            continue
        try:
            corrupted = Pillow.fromarray(_corrupt(version, pixels, image.id, config))
        except CorruptionError as error:
            failed[corruption] = error
            continue
        # Writing to a full disk itself, Pillow would leave half a JPEG without an error.
        buffer = io.BytesIO()
        if config.format == "jpg":
            corrupted.save(buffer, "JPEG", quality=config.quality, subsampling=0)
        else:
            corrupted.save(buffer, "PNG", compress_level=1)
        atomic_io.write_bytes(_folder(config.out, version) / "images" / name, buffer.getvalue())
