"""One Dataset for every source: images on disk and COCO ground truth in memory."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, isclose
from pathlib import Path
from typing import Any, Self

from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.core.progress import Progress, no_progress

MAX_CLASSES = 20_000
"""Of a data set; V3Det, which has the most, has 13,204."""


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a data set: its COCO id, its file, and its size in pixels, as decoded and as its boxes mean it.

    `upright` says that its EXIF orientation is applied, which is so unless its boxes were plainly drawn on the
    picture as stored.
    """

    id: int
    path: Path
    width: int
    height: int
    upright: bool = True


@dataclass(frozen=True)
class DatasetRequest:
    """What the user asked for.

    Attributes:
        source: a name or a path.
        images: the folder of the images, where that is not in a usual place.
        split: `val`, `train` or `test`.
        progress: called while a source makes its images.
    """

    source: str
    images: Path | None = None
    split: str = "val"
    progress: Progress = no_progress

    @property
    def path(self) -> Path:
        """The source as a path."""
        return Path(self.source)


@dataclass(frozen=True)
class DatasetSource:
    """One thing that `--data` takes: a name, or a kind of file.

    Attributes:
        name: what the user writes, or what the kind of file is called.
        description: for lists and messages.
        load: reads it.
        suffixes: of the kind of file, in lower case; none where the source is a name.
        splits: that it has; none where there is only one, `val`.
        takes_images: whether the image folder can be given.
        status: whether it is on this machine, in words, and where; None for a kind of file.
    """

    name: str
    description: str
    load: "Callable[[DatasetRequest], Dataset]"
    suffixes: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("val",)
    takes_images: bool = False
    status: Callable[[], tuple[str, Path]] | None = None

    def accepts(self, source: str) -> bool:
        """Whether the user means this one."""
        return Path(source).suffix.lower() in self.suffixes if self.suffixes else source == self.name


@dataclass(frozen=True)
class Dataset:
    """Images with COCO ground truth.

    Attributes:
        name: short name for tables and file names.
        source: what the user gave, enough to load it again.
        images: in the order of the annotation file.
        categories: COCO categories (`id`, `name`), in the order of their ids.
        annotations: COCO annotations with `id`, `image_id`, `category_id`, `bbox` [x, y, w, h] px,
            `area` px^2 and `iscrowd`, for these images only.
        notes: what a user should know about how the source was read: what was skipped, with counts, and what looks
            wrong. One sentence each.
        annotation_file: the COCO json that it was read from, which has more fields than scores need; None otherwise.
        file_category_ids: the categories' ids in the order of that json; empty otherwise.
    """

    name: str
    source: str
    images: Sequence[Image]
    categories: Sequence[Mapping[str, Any]]
    annotations: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()
    annotation_file: Path | None = None
    file_category_ids: Sequence[int] = ()

    def __post_init__(self) -> None:
        if len(self.categories) > MAX_CLASSES:  # each takes memory, with or without boxes
            raise DataError(
                f"{self.source} has {len(self.categories):,} categories; the limit is {MAX_CLASSES:,}: leave out those "
                "without boxes"
            )

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Category names, in the order of their ids."""
        return tuple(str(c["name"]) for c in self.categories)

    def count_objects(self, classes: Collection[str] | None = None) -> int:
        """How many objects there are to find: boxes that are no crowds, of some classes or of all."""
        ids = {c["id"] for c in self.categories if classes is None or c["name"] in classes}
        return sum(not a["iscrowd"] and a["category_id"] in ids for a in self.annotations)

    @cached_property
    def ground_truth_summary(self) -> str:
        """How many boxes there are to find, and what AP by size goes by, in words.

        The same images give other counts and another AP_S as a COCO json and as YOLO labels, which have neither crowds
        nor areas of objects.
        """
        total, crowds = len(self.annotations), len(self.annotations) - self.count_objects()
        of_crowds = f"{crowds:,} of them crowds, which AP leaves out" if crowds else "none a crowd"
        boxed = all(isclose(a["area"], a["bbox"][2] * a["bbox"][3], rel_tol=1e-6) for a in self.annotations)
        area = "the area of each box, as the data give none of objects" if boxed else "the areas in the data"
        return f"{total:,} boxes, {of_crowds}; AP_S, AP_M and AP_L go by {area}"

    def to_coco(self) -> dict[str, Any]:
        """The ground truth as a COCO json object."""
        return {
            "info": {"description": self.name},
            "licenses": [],
            "images": [
                {"id": i.id, "file_name": i.path.name, "width": i.width, "height": i.height}
                for i in self.images
            ],
            "categories": [dict(c) for c in self.categories],
            "annotations": [dict(a) for a in self.annotations],
        }

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the images' bytes and the ground truth that scores depend on."""
        digest = hashlib.sha256()
        with ThreadPoolExecutor() as pool:
            for image, content in zip(self.images, pool.map(_file_digest, self.images), strict=True):
                digest.update(f"{image.id}:{content};{'' if image.upright else 'as stored;'}".encode())
        truth = [
            [a[k] for k in ("image_id", "category_id", "bbox", "area", "iscrowd")] for a in self.annotations
        ]
        classes = [[c["id"], c["name"]] for c in self.categories]
        digest.update(json.dumps([classes, truth]).encode())
        return digest.hexdigest()

    def subset(self, fraction: float) -> Self:
        """A fixed share of the images: the same ones for everybody, nested as the share grows.

        Args:
            fraction: in (0, 1]; at least one image is kept.
        """
        if not 0 < fraction <= 1:
            raise UsageError(f"fraction {fraction} is outside (0, 1]; 1 takes every image")
        if fraction == 1:
            return self
        by_hash = sorted(self.images, key=lambda i: hashlib.sha256(str(i.id).encode()).digest())
        kept = {i.id for i in by_hash[: max(1, ceil(fraction * len(self.images)))]}
        return replace(
            self,
            name=f"{self.name}-{fraction:g}",
            images=[i for i in self.images if i.id in kept],
            annotations=[a for a in self.annotations if a["image_id"] in kept],
        )


def _file_digest(image: Image) -> str:
    try:
        with image.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{image.path} cannot be read: {error.strerror or error}") from error
