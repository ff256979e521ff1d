"""What usually lowers AP, a check each: evidence, and what to change."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import wilcoxon
from torchvision.ops import batched_nms

from robustbench_sgdm.config import ChecksConfig, InferenceConfig
from robustbench_sgdm.core.errors import RobustBenchError, UsageError
from robustbench_sgdm.core.untrusted_input import short_list
from robustbench_sgdm.datasets import Dataset
from robustbench_sgdm.model_checks.sample import (
    MATCH_IOU,
    Boxes,
    SampleRun,
    detect,
    image_tensors,
    iou_matrix,
    is_better,
    load_model,
    look_up,
    take_boxes,
)
from robustbench_sgdm.sweep import match_detector

if TYPE_CHECKING:
    from robustbench_sgdm.detectors import Detector

_CUT = 0.06  # lowest score that only a threshold explains; torchvision's own detectors cut at 0.05
_SOME = 20  # boxes from which a lowest score says something
_FULL = 100  # boxes an image that COCO counts
_SUPPRESSION = 2.0  # points by which suppression must
_SURE = 0.01  # p-value below which swapped channels are better
_OBJECTS = 10  # that boxes fit, from which their labels say something
_VAL_IOU, _PREDICT_CONF = 0.7, 0.25  # of Ultralytics


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


def common_findings(run: SampleRun) -> list[Finding]:
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


def find_unknown_classes(detector: "Detector", dataset: Dataset) -> Finding:
    """Classes with objects that the model lacks."""
    check, remedy = (
        "class names",
        "Rename the model's classes like the data's, or use weights trained on these classes.",
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


def _scores(run: SampleRun) -> Finding:
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


def _empty(run: SampleRun) -> Finding:
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


def _count(run: SampleRun) -> Finding:
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


def _format(run: SampleRun) -> Finding:
    check, (text, _) = "box format", run.best
    sizes = [np.array([image.width, image.height] * 2) for image in run.sample.images]
    xyxy = np.concatenate([one.xyxy / size for one, size in zip(run.boxes, sizes, strict=True)])
    turned = float((xyxy[:, 2:] < xyxy[:, :2]).any(1).mean()) if len(xyxy) else 0.0
    outside = float(((xyxy < -0.1) | (xyxy > 1.1)).any(1).mean()) if len(xyxy) else 0.0
    seen = f"{outside:.0%} of boxes extend far beyond the image, {turned:.0%} have x2 < x1 or y2 < y1"
    if text:
        return Finding(
            check,
            f"AP of any class is {text}; {seen}",
            "Convert boxes to x1, y1, x2, y2 in pixels of the original image.",
        )
    if turned or outside > 0.2:
        return Finding(check, seen, "Boxes must be x1, y1, x2, y2 in pixels of the original image.")
    return Finding(check, f"x1, y1, x2, y2 in pixels of the image; {seen}")


def _labels(run: SampleRun) -> Finding:
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
        "category ids of the data": lambda values: look_up(places.astype(np.int64), values),
        "places among the data's classes": lambda values: look_up(np.arange(len(ids)), values),
    }
    scores = {
        name: run.sample.ap(
            [b._replace(classes=of(found)) for b, found in zip(boxes, run.labels, strict=True)]
        )
        for name, of in tried.items()
    }
    name = max(scores, key=lambda one: scores[one])
    if is_better(scores[name], own):
        return Finding(
            check,
            f"AP is {own:.1f} with labels as they are, {scores[name]:.1f} with {name}; {span}",
            f"Labels are shifted: use {name} (is a background counted as a class?).",
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


def _confusions(run: SampleRun, boxes: Sequence[Boxes]) -> tuple[int, Counter[tuple[str, str]]]:
    """Of the objects that a box fits, those whose surest one has their class, and the pairs of the others."""
    names = [*run.sample.dataset.classes, "nothing known"]
    right, wrong = 0, Counter[tuple[str, str]]()
    for (corners, classes), one in zip(run.sample.objects, boxes, strict=True):
        scores = np.where(iou_matrix(corners, one.xyxy) >= MATCH_IOU, one.scores[None], -1.0)
        for row, own in zip(scores, classes, strict=True):
            if not len(row) or row.max() < 0:
                continue
            called = int(one.classes[row.argmax()])
            if called == own:
                right += 1
            else:
                wrong[names[called], names[own]] += 1
    return right, wrong


def _duplicates(run: SampleRun) -> Finding:
    check, (_, boxes) = "suppression", run.best
    kept = []
    for one in boxes:
        sure = np.asarray(np.isfinite(one.xyxy).all(1))
        parts = (torch.from_numpy(np.ascontiguousarray(part[sure])) for part in one)
        left = batched_nms(
            *(part.float() if k < 2 else part for k, part in enumerate(parts)), _VAL_IOU
        ).numpy()
        kept.append(take_boxes(take_boxes(one, sure), left))
    own, other = run.sample.ap(boxes), run.sample.ap(kept)
    dropped = 1 - sum(len(one.scores) for one in kept) / max(sum(len(one.scores) for one in boxes), 1)
    seen = f"NMS at IoU {_VAL_IOU} drops {dropped:.0%} of the boxes, AP {own:.1f} to {other:.1f}"
    if other >= max(own + _SUPPRESSION, own * 1.05):
        return Finding(check, seen, f"Suppress overlapping boxes of one class (NMS, IoU {_VAL_IOU}).")
    return Finding(check, seen)


def _predict(run: SampleRun) -> Finding:
    """Ultralytics' `predict` keeps boxes from 0.25, each with one label."""
    kept = []
    for one in run.best[1]:
        order = np.argsort(-one.scores, kind="stable")
        _, first = np.unique(one.xyxy[order], axis=0, return_index=True)
        order = order[np.sort(first)]
        order = order[one.scores[order] >= _PREDICT_CONF][:300]
        kept.append(take_boxes(one, order))
    own, other = run.sample.ap(run.best[1]), run.sample.ap(kept)
    return Finding(
        "settings of predict",
        f"conf {_PREDICT_CONF} and one label a box would make AP {other:.1f} of {own:.1f}",
    )


def find_swapped_channels(detector: "Detector", run: SampleRun, update: Callable[[int], None]) -> Finding:
    """Whether the model does better on images whose channels are swapped."""
    check, rgb = "colour order", run.boxes
    swapped = [detect(detector, image.flip(0)) for image in image_tensors(run.sample, update)]
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
        return Finding(check, seen, "The model expects BGR: swap the channels first, image[..., ::-1].")
    return Finding(check, seen)


def find_other_size(detector: "Detector", run: SampleRun, config: ChecksConfig) -> list[Finding]:
    """Letterbox size against the one that the file says it was trained at."""
    trained: int | None = getattr(detector, "trained_imgsz", None)
    if not trained or not isinstance(config.model, str | Path):
        size = f"{detector.imgsz} px" if detector.imgsz else "the model's own scaling"
        return [Finding("image size", f"{size}; its file does not say its training size")]
    if trained == detector.imgsz:
        return [Finding("image size", f"{trained} px, as its file says it was trained at")]
    if getattr(detector, "takes_one_size", False):
        return [
            Finding(
                "image size",
                f"{detector.imgsz} px, the one size that the file takes; its metadata say {trained} px",
                f"Export it at {trained} px if it was trained at that size.",
            )
        ]
    try:
        other = load_model(config.model, replace(config, imgsz=trained))
        found = SampleRun.of(other, run.sample, run.sample.dataset, lambda _: None)
    except RobustBenchError as error:  # the file's own word may be wrong
        return [
            Finding(
                "image size",
                f"{detector.imgsz} px; the {trained} px that its file says it was trained at cannot be tried: {error}",
            )
        ]
    return [
        Finding(
            "image size",
            f"AP {run.ap:.1f} at {detector.imgsz} px, {found.ap:.1f} at the {trained} px that its file says it was "
            "trained at",
            f"Leave out --imgsz, or give --imgsz {trained}.",
        )
    ]


def find_unusual_thresholds(detector: "Detector") -> list[Finding]:
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


def conclude(run: SampleRun, findings: Iterable[Finding]) -> list[Finding]:
    """The AP before all findings, and whether they explain it."""
    found = list(findings)
    seen, known = f"{run.ap:.1f} on {len(run.sample.images)} images", any(one.remedy for one in found)
    remedy = (
        "The checks above do not explain it: are the weights trained, and on such data?"
        if run.ap < 1 and not known
        else ""
    )
    return [Finding("AP", seen, remedy), *found]
