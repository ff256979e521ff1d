"""Why is this not the published AP? A few images, and what usually lowers AP, each with evidence and a remedy.

A fault is looked for by trying its opposite: boxes are read in other formats, labels with an offset, images with their
channels swapped. What raises AP by far was wrong.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import wilcoxon
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from robustbench_sgdm import detectors
from robustbench_sgdm.config import ChecksConfig, InferenceConfig
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.core.progress import make_counter
from robustbench_sgdm.core.untrusted_input import short_list
from robustbench_sgdm.datasets import Dataset, Image, image_decoding
from robustbench_sgdm.detectors.adapters import AdaptedDetector
from robustbench_sgdm.detectors.base import check_detector
from robustbench_sgdm.detectors.letterbox import letterbox_placement
from robustbench_sgdm.scoring import Predictions, Scorer
from robustbench_sgdm.sweep import match_detector

if TYPE_CHECKING:
    import pandas as pd

    from robustbench_sgdm.detectors import Detector

_CUT = 0.06  # lowest score that only a threshold explains; torchvision's own detectors cut at 0.05
_SOME = 20  # boxes from which a lowest score says something
_FULL = 100  # boxes an image that COCO counts
_MARGIN, _RATIO = 5.0, 1.2  # by which another reading must raise AP: points, and times
_SUPPRESSION = 2.0  # points by which suppression must
_SURE = 0.01  # p-value below which swapped channels are better
_FITS = 0.5  # IoU
_OBJECTS = 10  # that boxes fit, from which their labels say something
_STORED = 500  # images of stored predictions, which cost no time to make
_SIDES = (640, 320, 416, 512, 800, 1024, 1280)  # px of squares that boxes may have been left in
_FRAMES = ("image", "stretched square", "letterboxed square", "square padded below and to the right")
_FINE = 4096  # px; so that the whole pixels of a letterbox are no error of shares
_VAL_IOU, _PREDICT_CONF = 0.7, 0.25  # of Ultralytics


class Boxes(NamedTuple):
    """One image's boxes before anything is checked: corners (n, 4) px, scores (n,), places of classes (n,) or -1."""

    xyxy: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]


@dataclass(frozen=True)
class Finding:
    """What one check saw.

    Attributes:
        check: its name.
        evidence: in figures.
        remedy: what to change; empty where nothing is wrong.
    """

    check: str
    evidence: str
    remedy: str = ""


@dataclass(frozen=True)
class ModelChecks:
    """What all checks saw. In a notebook it shows itself as a table.

    Attributes:
        model: name of the detector, or the file of predictions.
        data: name of the data set.
        images: how many were looked at.
        findings: one for each check, also where nothing is wrong.
    """

    model: str
    data: str
    images: int
    findings: Sequence[Finding]

    @property
    def problems(self) -> list[Finding]:
        """The findings that ask for a change."""
        return [one for one in self.findings if one.remedy]

    def frame(self) -> "pd.DataFrame":
        """A row for each check."""
        import pandas as pd

        return pd.DataFrame([vars(one) for one in self.findings], columns=["check", "evidence", "remedy"])

    def _repr_html_(self) -> str:
        return str(self.frame().to_html(index=False))


def check_model(config: ChecksConfig, dataset: Dataset) -> ModelChecks:
    """Run a detector on a few images, or read stored predictions, and look for what lowers AP.

    Raises:
        UsageError: unknown names.
        DataError: damaged files, or a data set without objects.
        RobustBenchError: the detector failed.
    """
    if config.predictions is not None:
        return _check_predictions(config.predictions, dataset, config)
    detector = _load(config.model, config)
    sample = _Sample.of(dataset, config.limit)
    update = make_counter(config.progress, "running the model", 2 * len(sample.images))
    run = _Run.of(detector, sample, dataset, update)
    findings = [_class_names(detector, dataset), *_common(run)]
    findings += [_colours(detector, run, update), *_size(detector, run, config), *_settings(detector)]
    return ModelChecks(detector.name, dataset.name, len(sample.images), _conclude(run, findings))


def _check_predictions(path: Path, dataset: Dataset, config: ChecksConfig) -> ModelChecks:
    """As `check_model`, of a COCO results json; nothing is run."""
    predictions = Predictions([path], dataset)
    frame = predictions.read(path)
    sample = _Sample.of(dataset, max(config.limit, _STORED))
    places = {c["id"]: place for place, c in enumerate(dataset.categories)}
    groups = {int(str(image)): rows for image, rows in frame.groupby("image_id")}
    empty = frame.iloc[:0]
    boxes = []
    for image in sample.images:
        rows = groups.get(image.id, empty)
        classes = rows["category_id"].map(places).to_numpy(np.int64)
        boxes.append(
            Boxes(
                rows[["x1", "y1", "x2", "y2"]].to_numpy(float, copy=True),
                rows["score"].to_numpy(float, copy=True),
                classes,
            )
        )
    labels = [one.classes for one in boxes]
    ids = np.arange(len(dataset.categories))
    run = _Run(sample, boxes, labels, lambda values: _at(ids, values), len(ids))
    notes = [
        Finding("reading the file", note, "See `robustbench score --help`.") for note in predictions.notes
    ]
    if not notes:
        notes = [Finding("reading the file", f"{len(frame):,} predictions, ids and boxes as the data's")]
    findings = _conclude(run, [*notes, *_common(run)])
    return ModelChecks(path.name, dataset.name, len(sample.images), findings)


def _load(model: Any, config: ChecksConfig) -> "Detector":
    if not isinstance(model, str | Path):
        return check_detector(model)
    weights = config.weights
    entries = detectors.load_detectors(
        [model], config, weights={str(model): weights} if weights else {}, baselines=False
    )
    return next(iter(entries.values())).detector


@dataclass(frozen=True)
class _Sample:
    """Images with objects, evenly spaced through a data set, and their ground truth."""

    dataset: Dataset

    @classmethod
    def of(cls, dataset: Dataset, limit: int) -> "_Sample":
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
            fits = (_iou(corners, one.xyxy) >= _FITS) & (blind | (classes[:, None] == one.classes[None]))
            best = np.where(fits, one.scores[None], 0.0)
            means.append(best.max(1, initial=0.0).mean())
        return np.array(means)


@dataclass(frozen=True)
class _Run:
    """What a detector found in a sample.

    Attributes:
        sample: the images.
        boxes: of each image.
        labels: of each image, as the detector gave them.
        classes_of: the place of the data's class for each label, -1 for none.
        count: labels that the detector has.
        side: of the square that images are fitted into, px; 0 where that is not known.
    """

    sample: _Sample
    boxes: Sequence[Boxes]
    labels: Sequence[NDArray[np.int64]]
    classes_of: Callable[[NDArray[np.int64]], NDArray[np.int64]]
    count: int
    side: int = 0

    @classmethod
    def of(
        cls, detector: "Detector", sample: _Sample, dataset: Dataset, update: Callable[[int], None]
    ) -> "_Run":
        try:
            ids = match_detector(detector, dataset).ids
        except UsageError:  # `_class_names` says so
            ids = np.full(len(detector.classes), -1, np.int64)
        places = {c["id"]: place for place, c in enumerate(dataset.categories)}
        known = np.array([places.get(int(one), -1) for one in ids], np.int64)
        if isinstance(detector, AdaptedDetector):  # labels of its library, with gaps
            known = np.array([known[k] if k >= 0 else -1 for k in detector.label_index], np.int64)

        def classes_of(labels: NDArray[np.int64]) -> NDArray[np.int64]:
            return _at(known, labels)

        raw = [_detect(detector, image) for image in _pixels(sample, update)]
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
        if _is_better(other, blind):
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


def _is_better(other: float, own: float) -> bool:
    return other >= max(own + _MARGIN, own * _RATIO)


def _common(run: _Run) -> list[Finding]:
    """The checks that need boxes alone."""
    return [
        _scores(run),
        _empty(run),
        _count(run),
        _format(run),
        _labels(run),
        _duplicates(run),
        _predict(run),
    ]


def _class_names(detector: "Detector", dataset: Dataset) -> Finding:
    check, remedy = (
        "class names",
        "Rename the model's classes as the data's, or give weights trained on these classes.",
    )
    try:
        match = match_detector(detector, dataset)
    except UsageError as error:
        return Finding(check, str(error).partition(". Give")[0], remedy)
    unfound = [name for name in match.unfound if dataset.count_objects([name])]
    total = sum(dataset.count_objects([name]) > 0 for name in dataset.classes)
    if not unfound:
        return Finding(check, f"the model has all {total} classes that have objects")
    strange = f"; it has {short_list(match.unmatched, 5)} instead" if match.unmatched else ""
    return Finding(
        check,
        f"{len(unfound)} of {total} classes with objects count as AP 0, the model lacks them: "
        f"{short_list(unfound, 5)}{strange}",
        remedy,
    )


def _scores(run: _Run) -> Finding:
    check, scores = "scores", np.concatenate([one.scores for one in run.boxes])
    if not len(scores):
        return Finding(
            check, "no box at all", "Lower the confidence threshold, and look at what the model returns."
        )
    span = f"{len(scores):,} boxes, scores from {scores.min():.3g} to {scores.max():.3g}"
    if not (np.isfinite(scores).all() and scores.min() >= 0 and scores.max() <= 1):
        scale = (
            "divide by 100" if 1 < scores.max() <= 100 and scores.min() >= 0 else "apply sigmoid or softmax"
        )
        return Finding(check, span, f"Scores must lie in [0, 1]: {scale}.")
    if len(scores) < _SOME:
        return Finding(check, span)
    if scores.min() == scores.max():
        return Finding(
            check, span, "All scores are equal, and AP ranks boxes by them: return the confidences."
        )
    if scores.min() > _CUT:
        return Finding(
            check,
            f"{span}: a threshold drops the others",
            "AP is measured over all confidences: lower the model's threshold to 0.001 (predict's is 0.25).",
        )
    return Finding(check, span)


def _empty(run: _Run) -> Finding:
    check = "images without boxes"
    ids = [str(i.id) for i, one in zip(run.sample.images, run.boxes, strict=True) if not len(one.scores)]
    total = len(run.sample.images)
    if not ids:
        return Finding(check, f"none of {total} images that have objects")
    return Finding(
        check,
        f"{len(ids)} of {total} images that have objects: {short_list(ids, 5)}",
        "Lower the threshold; if the model did not see these images, leave them out of the data.",
    )


def _count(run: _Run) -> Finding:
    check, counts = "boxes an image", [len(one.scores) for one in run.boxes]
    most = max(counts)
    full = counts.count(most)
    span = f"{min(counts)} to {most}"
    if 1 < most < _FULL and full >= max(3, len(counts) / 4):
        return Finding(
            check,
            f"{span}; {full} of {len(counts)} images have exactly {most}",
            f"Raise the limit of {most} boxes: COCO counts {_FULL} of each class and image, val keeps 300.",
        )
    return Finding(check, span)


def _format(run: _Run) -> Finding:
    check, (text, _) = "box format", run.best
    sizes = [np.array([image.width, image.height] * 2) for image in run.sample.images]
    xyxy = np.concatenate([one.xyxy / size for one, size in zip(run.boxes, sizes, strict=True)])
    turned = float((xyxy[:, 2:] < xyxy[:, :2]).any(1).mean()) if len(xyxy) else 0.0
    outside = float(((xyxy < -0.1) | (xyxy > 1.1)).any(1).mean()) if len(xyxy) else 0.0
    seen = f"{outside:.0%} of boxes reach far out of the image, {turned:.0%} have x2 < x1 or y2 < y1"
    if text:
        return Finding(
            check,
            f"AP of any class is {text}; {seen}",
            "Convert boxes to x1, y1, x2, y2 in pixels of the original image.",
        )
    if turned or outside > 0.2:
        return Finding(check, seen, "Boxes must be x1, y1, x2, y2 in pixels of the original image.")
    return Finding(check, f"x1, y1, x2, y2 in pixels of the image; {seen}")


def _labels(run: _Run) -> Finding:
    """Whether labels mean the classes that the objects under the boxes have."""
    check, (_, boxes) = "labels", run.best
    labels = np.concatenate(list(run.labels))
    span = f"labels from {labels.min()} to {labels.max()}, {run.count} known" if len(labels) else "no label"
    own = run.sample.ap(boxes)
    ids = {c["id"]: place for place, c in enumerate(run.sample.dataset.categories)}
    places = (
        np.array([ids.get(label, -1) for label in range(max(ids) + 1)]) if max(ids) < 2**20 else np.zeros(0)
    )
    tried: dict[str, Callable[[NDArray[np.int64]], NDArray[np.int64]]] = {
        "one less": lambda values: run.classes_of(values - 1),
        "one more": lambda values: run.classes_of(values + 1),
        "category ids of the data": lambda values: _at(places.astype(np.int64), values),
        "places among the data's classes": lambda values: _at(np.arange(len(ids)), values),
    }
    scores = {
        name: run.sample.ap(
            [b._replace(classes=of(found)) for b, found in zip(boxes, run.labels, strict=True)]
        )
        for name, of in tried.items()
    }
    name = max(scores, key=lambda one: scores[one])
    if _is_better(scores[name], own):
        return Finding(
            check,
            f"AP is {own:.1f} with labels as they are, {scores[name]:.1f} with {name}; {span}",
            f"Labels are off: give {name} (is a background counted as a class?).",
        )
    right, wrong = _confusions(run, boxes)
    total = right + wrong.total()
    if total >= _OBJECTS and right < total / 3:
        (theirs, ours), times = wrong.most_common(1)[0]
        return Finding(
            check,
            f"of {total} objects that a box fits, {right} have its label; most often {ours} is called {theirs} ({times})",
            "Give the classes in the order of the model's labels.",
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < run.count:
        return Finding(
            check, span, "A label is an index into the classes: give all of them, or map the labels."
        )
    return Finding(check, f"{span}; {right} of {total} objects that a box fits have its label")


def _confusions(run: _Run, boxes: Sequence[Boxes]) -> tuple[int, Counter[tuple[str, str]]]:
    """Of the objects that a box fits, those whose surest one has their class, and the pairs of the others."""
    names = [*run.sample.dataset.classes, "nothing known"]
    right, wrong = 0, Counter[tuple[str, str]]()
    for (corners, classes), one in zip(run.sample.objects, boxes, strict=True):
        scores = np.where(_iou(corners, one.xyxy) >= _FITS, one.scores[None], -1.0)
        for row, own in zip(scores, classes, strict=True):
            if not len(row) or row.max() < 0:
                continue
            called = int(one.classes[row.argmax()])
            if called == own:
                right += 1
            else:
                wrong[names[called], names[own]] += 1
    return right, wrong


def _duplicates(run: _Run) -> Finding:
    check, (_, boxes) = "suppression", run.best
    kept = []
    for one in boxes:
        sure = np.asarray(np.isfinite(one.xyxy).all(1))
        parts = (torch.from_numpy(np.ascontiguousarray(part[sure])) for part in one)
        left = batched_nms(
            *(part.float() if k < 2 else part for k, part in enumerate(parts)), _VAL_IOU
        ).numpy()
        kept.append(_take(_take(one, sure), left))
    own, other = run.sample.ap(boxes), run.sample.ap(kept)
    dropped = 1 - sum(len(one.scores) for one in kept) / max(sum(len(one.scores) for one in boxes), 1)
    seen = f"suppression at IoU {_VAL_IOU} drops {dropped:.0%} of the boxes, AP {own:.1f} to {other:.1f}"
    if other >= max(own + _SUPPRESSION, own * 1.05):
        return Finding(check, seen, f"Suppress overlapping boxes of one class (NMS, IoU {_VAL_IOU}).")
    return Finding(check, seen)


def _predict(run: _Run) -> Finding:
    """Ultralytics' `predict` keeps boxes from 0.25, each with one label."""
    kept = []
    for one in run.best[1]:
        order = np.argsort(-one.scores, kind="stable")
        _, first = np.unique(one.xyxy[order], axis=0, return_index=True)
        order = order[np.sort(first)]
        order = order[one.scores[order] >= _PREDICT_CONF][:300]
        kept.append(_take(one, order))
    own, other = run.sample.ap(run.best[1]), run.sample.ap(kept)
    return Finding(
        "settings of predict",
        f"conf {_PREDICT_CONF} and one label a box would make AP {other:.1f} of {own:.1f}",
    )


def _colours(detector: "Detector", run: _Run, update: Callable[[int], None]) -> Finding:
    check, rgb = "colour order", run.boxes
    swapped = [_detect(detector, image.flip(0)) for image in _pixels(run.sample, update)]
    bgr = [one._replace(classes=run.classes_of(one.classes)) for one in swapped]
    sure = [run.sample.confidence(boxes) for boxes in (rgb, bgr)]
    ap = [run.sample.ap(boxes) for boxes in (rgb, bgr)]
    means = [one.mean() for one in sure]
    seen = (
        f"AP {ap[0]:.1f} as RGB, {ap[1]:.1f} as BGR; confidence in objects {means[0]:.3f} and {means[1]:.3f}"
    )
    difference = sure[1] - sure[0]
    if (
        (difference != 0).sum()
        and wilcoxon(difference, alternative="greater").pvalue < _SURE
        and ap[1] >= ap[0]
    ):
        return Finding(check, seen, "The model wants BGR: swap the channels, image[..., ::-1], before it.")
    return Finding(check, seen)


def _size(detector: "Detector", run: _Run, config: ChecksConfig) -> list[Finding]:
    """Letterbox size against the one that the file says it was trained at."""
    trained: int | None = getattr(detector, "trained_imgsz", None)
    if not trained or not isinstance(config.model, str | Path):
        size = f"{detector.imgsz} px" if detector.imgsz else "the model's own scaling"
        return [Finding("image size", f"{size}; its file says nothing of a size in training")]
    if trained == detector.imgsz:
        return [Finding("image size", f"{trained} px, as its file says it was trained at")]
    other = _load(config.model, replace(config, imgsz=trained))
    found = _Run.of(other, run.sample, run.sample.dataset, lambda _: None)
    return [
        Finding(
            "image size",
            f"AP {run.ap:.1f} at {detector.imgsz} px, {found.ap:.1f} at the {trained} px that its file says it was "
            "trained at",
            f"Leave out --imgsz, or give --imgsz {trained}.",
        )
    ]


def _settings(detector: "Detector") -> list[Finding]:
    """Thresholds of a detector of ours that published figures are not made with."""
    settings: InferenceConfig | None = getattr(detector, "settings", None)
    if settings is None:
        return []
    usual = InferenceConfig()
    own = {name: getattr(settings, name) for name in ("conf", "iou", "max_det")}
    said = ", ".join(f"{name} {value:g}" for name, value in own.items())
    strict = settings.conf > 0.01 or settings.iou < 0.6 or settings.max_det < _FULL
    remedy = (
        f"Published figures have conf {usual.conf:g}, iou {usual.iou:g}, max_det {usual.max_det}."
        if strict
        else ""
    )
    return [Finding("thresholds", said, remedy)]


def _conclude(run: _Run, findings: Iterable[Finding]) -> list[Finding]:
    found = list(findings)
    seen, known = f"{run.ap:.1f} on {len(run.sample.images)} images", any(one.remedy for one in found)
    remedy = (
        "Nothing above explains it: are the weights trained, and on such data?"
        if run.ap < 1 and not known
        else ""
    )
    return [Finding("AP", seen, remedy), *found]


def _detect(detector: "Detector", image: Tensor) -> Boxes:
    """What a detector found in an image; labels are its own."""
    if isinstance(detector, AdaptedDetector):
        (raw,) = detector.raw([image])
        return Boxes(raw.xyxy.astype(float), raw.scores.astype(float), raw.labels)
    (found,) = detector.predict([image])
    return Boxes(found.xyxy.astype(float), found.scores.astype(float), found.labels)


def _pixels(sample: _Sample, update: Callable[[int], None]) -> Iterator[Tensor]:
    """The images, uint8 (3, H, W) RGB."""
    for image in sample.images:
        yield torch.from_numpy(image_decoding.read_image(image).transpose(2, 0, 1).copy())
        update(1)


def _iou(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = box_iou(torch.from_numpy(one), torch.from_numpy(other)).numpy()
    return found


def _take(boxes: Boxes, rows: NDArray[Any]) -> Boxes:
    return Boxes(boxes.xyxy[rows], boxes.scores[rows], boxes.classes[rows])


def _at(table: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Entries of a table, -1 beyond it."""
    if not len(table):
        return np.full(len(labels), -1, np.int64)
    inside = (labels >= 0) & (labels < len(table))
    return np.where(inside, table[np.clip(labels, 0, len(table) - 1)], -1)
