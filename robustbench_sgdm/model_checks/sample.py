"""A sample of a data set's images, what a detector found in them, and the readings that its boxes may have."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_iou

from robustbench_sgdm import detectors
from robustbench_sgdm.config import ChecksConfig
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.datasets import Dataset, Image, image_decoding
from robustbench_sgdm.detectors.adapters import AdaptedDetector
from robustbench_sgdm.detectors.base import check_detector
from robustbench_sgdm.detectors.letterbox import letterbox_placement
from robustbench_sgdm.scoring import Scorer
from robustbench_sgdm.sweep import match_detector

if TYPE_CHECKING:
    from robustbench_sgdm.detectors import Detector

_MARGIN, _RATIO = 5.0, 1.2  # by which another reading must raise AP: points, and times
MATCH_IOU = 0.5  # IoU
_SIDES = (640, 320, 416, 512, 800, 1024, 1280)  # px of squares that boxes may have been left in
_FRAMES = ("image", "stretched square", "letterboxed square", "square padded below and to the right")
_FINE = 4096  # px; so that the whole pixels of a letterbox are no error of shares


class Boxes(NamedTuple):
    """One image's boxes before anything is checked: corners (n, 4) px, scores (n,), places of classes (n,) or -1."""

    xyxy: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """Images with objects, evenly spaced through a data set, and their ground truth."""

    dataset: Dataset

    @classmethod
    def of(cls, dataset: Dataset, limit: int) -> "Sample":
        """At most `limit` images of a data set; raises `UsageError` where none has objects."""
        held = {a["image_id"] for a in dataset.annotations if not a["iscrowd"]}
        known = [image for image in dataset.images if image.id in held]
        if not known:
            raise UsageError(
                f"{dataset.name} has no objects, so that AP has no meaning; give images with boxes"
            )
        places = np.unique(np.linspace(0, len(known) - 1, min(limit, len(known))).round().astype(int))
        chosen = [known[place] for place in places]
        ids = {image.id for image in chosen}
        return cls(
            replace(
                dataset, images=chosen, annotations=[a for a in dataset.annotations if a["image_id"] in ids]
            )
        )

    @property
    def images(self) -> Sequence[Image]:
        """The images."""
        return self.dataset.images

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self.dataset)

    @cached_property
    def _blind(self) -> Scorer:
        """Of objects whatever their class."""
        objects = [dict(a) | {"category_id": 1} for a in self.dataset.annotations]
        return Scorer(replace(self.dataset, categories=[{"id": 1, "name": "object"}], annotations=objects))

    @cached_property
    def objects(self) -> list[tuple[NDArray[np.float64], NDArray[np.int64]]]:
        """Of each image, corners and places of classes; no crowds."""
        places = {c["id"]: place for place, c in enumerate(self.dataset.categories)}
        found: dict[int, list[Mapping[str, Any]]] = {image.id: [] for image in self.images}
        for one in self.dataset.annotations:
            if not one["iscrowd"]:
                found[one["image_id"]].append(one)
        each = [
            (np.array([a["bbox"] for a in of], float).reshape(-1, 4), [places[a["category_id"]] for a in of])
            for of in found.values()
        ]
        return [(np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], 1), np.array(c, np.int64)) for b, c in each]

    def ap(self, boxes: Sequence[Boxes], *, blind: bool = False) -> float:
        """AP in percent; `blind` to classes, if need be."""
        parts = []
        ids = np.array([c["id"] for c in self.dataset.categories])
        for image, one in zip(self.images, boxes, strict=True):
            keep = np.isfinite(one.xyxy).all(1) & np.isfinite(one.scores) & (blind | (one.classes >= 0))
            corners = np.clip(one.xyxy[keep], 0, [image.width, image.height] * 2)
            sides = np.maximum(corners[:, 2:] - corners[:, :2], 0)
            classes = np.ones(keep.sum()) if blind else ids[one.classes[keep]]
            columns = [np.full(keep.sum(), image.id), *corners[:, :2].T, *sides.T, one.scores[keep], classes]
            parts.append(np.stack(columns, 1).astype(np.float64))
        return (self._blind if blind else self._scorer).score(parts).metrics["AP"] or 0.0

    def confidence(self, boxes: Sequence[Boxes], *, blind: bool = False) -> NDArray[np.float64]:
        """Of each image, the mean over its objects of the best score of a box with IoU 0.5 and the right class."""
        means = []
        for (corners, classes), one in zip(self.objects, boxes, strict=True):
            fits = (iou_matrix(corners, one.xyxy) >= MATCH_IOU) & (
                blind | (classes[:, None] == one.classes[None])
            )
            best = np.where(fits, one.scores[None], 0.0)
            means.append(best.max(1, initial=0.0).mean())
        return np.array(means)


@dataclass(frozen=True)
class SampleRun:
    """What a detector found in a sample.

    Attributes:
        sample: the images.
        boxes: of each image.
        labels: of each image, as the detector gave them.
        classes_of: the place of the data's class for each label, -1 for none.
        count: labels that the detector has.
        side: of the square that images are fitted into, px; 0 where that is not known.
    """

    sample: Sample
    boxes: Sequence[Boxes]
    labels: Sequence[NDArray[np.int64]]
    classes_of: Callable[[NDArray[np.int64]], NDArray[np.int64]]
    count: int
    side: int = 0

    @classmethod
    def of(
        cls, detector: "Detector", sample: Sample, dataset: Dataset, update: Callable[[int], None]
    ) -> "SampleRun":
        """Run a detector; `update` is called after each image."""
        try:
            ids = match_detector(detector, dataset).ids
        except UsageError:  # `find_unknown_classes` says so
            ids = np.full(len(detector.classes), -1, np.int64)
        places = {c["id"]: place for place, c in enumerate(dataset.categories)}
        known = np.array([places.get(int(one), -1) for one in ids], np.int64)
        if isinstance(detector, AdaptedDetector):  # labels of its library, with gaps
            known = np.array([known[k] if k >= 0 else -1 for k in detector.label_index], np.int64)

        def classes_of(labels: NDArray[np.int64]) -> NDArray[np.int64]:
            return look_up(known, labels)

        raw = [detect(detector, image) for image in image_tensors(sample, update)]
        boxes = [one._replace(classes=classes_of(one.classes)) for one in raw]
        return cls(sample, boxes, [one.classes for one in raw], classes_of, len(known), detector.imgsz)

    @cached_property
    def ap(self) -> float:
        """As the run would score them."""
        return self.sample.ap(self.boxes)

    @cached_property
    def best(self) -> tuple[str, list[Boxes]]:
        """The reading of the boxes that fits the objects best, and by it the boxes; no name where it is their own."""
        blind = self.sample.ap(self.boxes, blind=True)
        tried = {name: self._read(read) for name, read in _readings(self.side).items()}
        sure = {name: self.sample.confidence(boxes, blind=True).mean() for name, boxes in tried.items()}
        name = max(sure, key=lambda one: sure[one])  # AP of each would take long
        other = self.sample.ap(tried[name], blind=True)
        if is_better(other, blind):
            return f"{blind:.1f} as x1, y1, x2, y2 in pixels of the image, {other:.1f} as {name}", tried[name]
        return "", list(self.boxes)

    def _read(self, read: "_Reading") -> list[Boxes]:
        found = []
        for image, one in zip(self.sample.images, self.boxes, strict=True):
            xyxy = read(one.xyxy, image) if len(one.xyxy) else one.xyxy
            found.append(one._replace(xyxy=xyxy))
        return found


_Reading = Callable[[NDArray[np.float64], Image], NDArray[np.float64]]


def _readings(side: int) -> dict[str, _Reading]:
    """Other meanings that four numbers of a box may have, by name."""
    forms: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
        "x1, y1, x2, y2": lambda b: b,
        "x, y, width, height": lambda b: np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], 1),
        "centre x, centre y, width, height": lambda b: np.concatenate(
            [b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2], 1
        ),
        "y1, x1, y2, x2": lambda b: b[:, [1, 0, 3, 2]],
    }
    plain, *others = forms.items()
    sides = dict.fromkeys((side or _SIDES[0], *_SIDES))
    readings: dict[str, _Reading] = {
        f"{name} in pixels": lambda b, _, form=form: form(b)  # type: ignore[misc]
        for name, form in others
    }
    for frame in _FRAMES:
        readings |= {
            f"{name} as shares of the {frame}": partial(_unscale, form, frame, 1)
            for name, form in forms.items()
        }
        if frame != "image":
            readings |= {
                f"{plain[0]} in a {frame} of {one} px": partial(_unscale, plain[1], frame, one)
                for one in sides
            }
    return readings


def _unscale(
    form: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    frame: str,
    side: int,
    boxes: NDArray[np.float64],
    image: Image,
) -> NDArray[np.float64]:
    """Boxes in a square of some side, or in shares of the image, in pixels of the image."""
    shares = form(boxes) / side
    if frame in ("image", "stretched square"):
        return np.asarray(shares * np.array([image.width, image.height] * 2))
    where = letterbox_placement(image.height, image.width, _FINE)
    corner = [where.left, where.top] * 2 if frame == "letterboxed square" else [0] * 4
    return np.asarray((shares * _FINE - np.array(corner)) * (image.width / where.width))


def is_better(other: float, own: float) -> bool:
    """Whether another reading raises AP so far that the own one is wrong."""
    return other >= max(own + _MARGIN, own * _RATIO)


def detect(detector: "Detector", image: Tensor) -> Boxes:
    """What a detector found in an image; labels are its own."""
    if isinstance(detector, AdaptedDetector):
        (raw,) = detector.raw([image])
        return Boxes(raw.xyxy.astype(float), raw.scores.astype(float), raw.labels)
    (found,) = detector.predict([image])
    return Boxes(found.xyxy.astype(float), found.scores.astype(float), found.labels)


def image_tensors(sample: Sample, update: Callable[[int], None]) -> Iterator[Tensor]:
    """The images, uint8 (3, H, W) RGB."""
    for image in sample.images:
        yield torch.from_numpy(image_decoding.read_image(image).transpose(2, 0, 1).copy())
        update(1)


def iou_matrix(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of every box (n, 4) with every other (m, 4), corners in px: (n, m)."""
    overlaps: NDArray[np.float64] = box_iou(torch.from_numpy(one), torch.from_numpy(other)).numpy()
    return overlaps


def take_boxes(boxes: Boxes, rows: NDArray[Any]) -> Boxes:
    """The boxes of some rows."""
    return Boxes(boxes.xyxy[rows], boxes.scores[rows], boxes.classes[rows])


def look_up(table: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Entries of a table, -1 beyond it."""
    if not len(table):
        return np.full(len(labels), -1, np.int64)
    inside = (labels >= 0) & (labels < len(table))
    return np.where(inside, table[np.clip(labels, 0, len(table) - 1)], -1)


def load_model(model: Any, config: ChecksConfig) -> "Detector":
    """The detector that a configuration names, or that it holds."""
    if not isinstance(model, str | Path):
        return check_detector(model)
    weights = config.weights
    entries = detectors.load_detectors(
        [model], config, weights={str(model): weights} if weights else {}, baselines=False
    )
    return next(iter(entries.values())).detector
