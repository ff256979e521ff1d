"""A hash of every corrupted image: two machines that write the same file show their detectors the same pixels."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from robustbench_sgdm.core import atomic_io
from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.core.progress import Progress, make_counter, no_progress
from robustbench_sgdm.core.untrusted_input import read_json, short_list
from robustbench_sgdm.core.versions import installed_versions
from robustbench_sgdm.corruption import Corruption, CorruptionRegistry, corrupt_image
from robustbench_sgdm.datasets import Dataset, Image
from robustbench_sgdm.datasets.image_decoding import read_image
from robustbench_sgdm.store.schema import FolderName, Integer, Name, Record, Severity, Text
from robustbench_sgdm.sweep.executors.threads import available_cores

_LIBRARIES = ("robustbench-sgdm", "python", "numpy", "torch", "opencv-python", "pillow", "imaug")


def _is_sha256(value: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", value):
        raise ValueError("must be a sha256, 64 hexadecimal digits")
    return value


Sha256 = Annotated[Text, AfterValidator(_is_sha256)]


class CellPixels(Record):
    """A corruption at a severity.

    Attributes:
        corruption: its name.
        severity: 0 to 5.
        fingerprint: of the corruption, as in a run's manifest.
        sha256: of the H x W x 3 RGB bytes of each image, in the order of the manifest's images.
    """

    corruption: FolderName
    severity: Severity
    fingerprint: Text
    sha256: tuple[Sha256, ...]


class PixelManifest(Record):
    """What `robustbench corrupt --manifest` writes.

    Attributes:
        pixels: the number of this format.
        data: name of the data set.
        seed: of the corruptions.
        engine: what corrupted.
        versions: of the libraries that did.
        images: ids of the images.
        clean: sha256 of each image as it was decoded.
        cells: the corrupted ones.
    """

    most_bytes: ClassVar[int] = 2**26  # COCO's 5,000 images under the whole benchmark take 26 MB
    remedy: ClassVar[str] = "write it again with --manifest"

    pixels: Literal[1]
    data: Name
    seed: Integer
    engine: Name
    versions: Annotated[dict[Text, Text], Field(default_factory=dict)]
    images: Annotated[tuple[Integer, ...], Field(min_length=1)]
    clean: tuple[Sha256, ...]
    cells: Annotated[tuple[CellPixels, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _counts_agree(self) -> "PixelManifest":
        if len(set(self.images)) < len(self.images):
            raise ValueError("images must be there once each")
        if len({(cell.corruption, cell.severity) for cell in self.cells}) < len(self.cells):
            raise ValueError("cells must be there once each")
        for hashes in (self.clean, *(cell.sha256 for cell in self.cells)):
            if len(hashes) != len(self.images):
                raise ValueError(
                    f"must have a sha256 for each of {len(self.images)} images, not {len(hashes)}"
                )
        return self


_Version = tuple[Corruption, float]


def write_manifest(
    path: Path,
    dataset: Dataset,
    versions: Sequence[_Version],
    *,
    seed: int,
    engine: str,
    progress: Progress = no_progress,
) -> PixelManifest:
    """Corrupt every image and write the hashes.

    Args:
        path: of the json.
        dataset: its images are decoded and corrupted, once each.
        versions: corruptions with their severities.
        seed, engine: see `apply_corruption`.
        progress: called with the images hashed.

    Raises:
        DataError: an image or a corruption of the user fails.
    """
    rows = list(_hashes(dataset.images, versions, seed, engine, progress))
    clean, *columns = zip(*rows, strict=True)
    cells = [
        CellPixels(corruption=one.name, severity=severity, fingerprint=one.fingerprint(engine), sha256=hashes)
        for (one, severity), hashes in zip(versions, columns, strict=True)
    ]
    installed = installed_versions()
    manifest = PixelManifest(
        pixels=1,
        data=dataset.name,
        seed=seed,
        engine=engine,
        versions={name: installed[name] for name in _LIBRARIES if name in installed},
        images=tuple(image.id for image in dataset.images),
        clean=clean,
        cells=tuple(cells),
    )
    atomic_io.write_text(path, json.dumps(manifest.content(), indent=1) + "\n")
    return manifest


@dataclass(frozen=True)
class Verification:
    """What became of a manifest here.

    Attributes:
        images: corrupted images that were compared.
        different: (corruption, severity, image id) of those that are not the same.
        versions: libraries of other versions, in words.
    """

    images: int
    different: Sequence[tuple[str, float, int]]
    versions: Sequence[str]

    def check(self) -> None:
        """Do nothing where all are the same.

        Raises:
            DataError: names those that are not.
        """
        if not self.different:
            return
        by_cell: dict[str, list[int]] = {}
        for name, severity, image_id in self.different:
            by_cell.setdefault(f"{name} at severity {severity:g}", []).append(image_id)
        cells = short_list([f"{cell} (first image {ids[0]})" for cell, ids in by_cell.items()], 5)
        other = f"; versions differ: {', '.join(self.versions)}" if self.versions else ""
        raise DataError(f"{len(self.different)} of {self.images} corrupted images differ: {cells}{other}")


def verify_manifest(
    path: Path, dataset: Dataset, registry: CorruptionRegistry, progress: Progress = no_progress
) -> Verification:
    """Corrupt the images of a manifest again and compare.

    Raises:
        DataError: the file is no manifest, or is of other images or another version of a corruption.
    """
    manifest = PixelManifest.parse(read_json(path, PixelManifest.most_bytes), path)
    here = installed_versions()
    versions: list[_Version] = []
    for cell in manifest.cells:
        try:
            corruption = registry.get(cell.corruption)
            corruption.check_severity(cell.severity)
            fingerprint = corruption.fingerprint(manifest.engine)
        except UsageError as error:
            raise DataError(f"{path} cannot be verified: {error}") from error
        if fingerprint != cell.fingerprint:
            made_by, ours = (by_name.get("robustbench-sgdm") for by_name in (manifest.versions, here))
            other = f"verify it with robustbench-sgdm {made_by}, or " if made_by not in (None, ours) else ""
            raise DataError(
                f"{path} was made with another version of {cell.corruption}: {other}write it again"
            )
        versions.append((corruption, cell.severity))
    by_id = {image.id: image for image in dataset.images}
    if missing := [image_id for image_id in manifest.images if image_id not in by_id]:
        raise DataError(
            f"{path} was made from other images ({manifest.data}): {dataset.name} has no image "
            f"{short_list(map(str, missing), 5)}"
        )
    images = [by_id[image_id] for image_id in manifest.images]
    different: list[tuple[str, float, int]] = []
    rows = _hashes(images, versions, manifest.seed, manifest.engine, progress)
    for place, (image, (clean, *hashes)) in enumerate(zip(images, rows, strict=True)):
        if clean != manifest.clean[place]:
            raise DataError(
                f"{path} was made from other images ({manifest.data}): image {image.id}, {image.path}, has other pixels "
                "before it is corrupted"
            )
        for cell, found in zip(manifest.cells, hashes, strict=True):
            if found != cell.sha256[place]:
                different.append((cell.corruption, cell.severity, image.id))
    others = [
        f"{n} {v}, here {here.get(n, 'absent')}" for n, v in manifest.versions.items() if here.get(n) != v
    ]
    return Verification(len(images) * len(versions), different, others)


def _hashes(
    images: Sequence[Image], versions: Sequence[_Version], seed: int, engine: str, progress: Progress
) -> Iterator[list[str]]:
    """For each image the sha256 of its pixels, clean and in every version; several images at a time."""
    update = make_counter(progress, "hashing", len(images) * len(versions))

    def hashed(image: Image) -> list[str]:
        pixels = read_image(image)
        corrupted = (
            corrupt_image(one, pixels, severity, seed=seed, image_id=image.id, engine=engine)
            for one, severity in versions
        )
        return [_sha256(pixels), *map(_sha256, corrupted)]

    with ThreadPoolExecutor(available_cores()) as threads:
        try:
            for row in threads.map(hashed, images):
                update(len(versions))
                yield row
        finally:
            threads.shutdown(cancel_futures=True)


def _sha256(pixels: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
