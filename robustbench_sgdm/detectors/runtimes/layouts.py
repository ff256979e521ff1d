"""Output layouts: what a network's tensors mean, recognised by their names, types and shapes; never guessed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.untrusted_input import short_list, short_repr
from robustbench_sgdm.detectors.runtimes.metadata import FileMetadata


@dataclass(frozen=True)
class Output:
    """A tensor that a network puts out for one image.

    Attributes:
        name: of the tensor.
        values: for an image of noise; (1, ...), or without that axis.
    """

    name: str
    values: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return self.values.shape

    def __str__(self) -> str:
        return f"{short_repr(self.name)} {self.values.dtype} {self.shape}"


@dataclass(frozen=True)
class Layout:
    """What a network's outputs mean.

    Attributes:
        name: that `--layout` takes.
        description: shapes, in words.
        is_end_to_end: `decode` gives rows (xyxy, score, label), best first, that need no suppression.
        fills_square: images fill the square, as what puts this out is trained; else they are letterboxed.
        order: which output is which, by its place.
        per_class: of RT-DETR, whether a box has a score for each class; else a score and a label.
    """

    name: str
    description: str
    is_end_to_end: bool
    fills_square: bool
    order: tuple[int, ...] = (0,)
    per_class: bool = True

    def decode(self, outputs: Sequence[Tensor], imgsz: int, classes: int, max_det: int) -> Tensor:
        """Outputs for a batch as (B, 4 + classes, anchors), or as rows (B, boxes, 6).

        Args:
            outputs: as the runtime gives them, float32 where they are not whole numbers.
            imgsz: side of the square (px).
            classes: how many.
            max_det: most boxes of an image.
        """
        ordered = [outputs[place] for place in self.order]
        return _DECODERS[self.name](ordered, imgsz, classes * self.per_class, max_det)


LAYOUTS = {
    "raw": "Ultralytics' raw (B, 4 + classes, anchors): centre, size, then a score for each class",
    "end2end": "boxes that are suppressed already (B, boxes, 6): x1, y1, x2, y2, score, label",
    "rtdetr": "Ultralytics' RT-DETR (B, boxes, 6 or 4 + classes): centre and size as shares of the image, then scores",
    "torchvision": "torchvision's boxes (boxes, 4), labels (boxes) and scores (boxes), for one image or a batch",
    "detr": "DETR's logits (B, boxes, classes or classes + 1) and boxes (B, boxes, 4): centre and size as shares",
}
"""What is known, by the name that `--layout` takes."""
_RTDETR = "RTDETRDecoder"


def recognise(
    outputs: Sequence[Output], classes: int | None, metadata: FileMetadata, wanted: str | None = None
) -> Layout:
    """The layout of a network's outputs.

    Args:
        outputs: for one image of noise.
        classes: how many the file or the user names; None if neither does.
        metadata: what the file says of itself.
        wanted: the layout's name, where the user says it, which counts more than `metadata`.

    Raises:
        DataError: none fits, or several; the number of classes is another; or values are not what the layout says.
    """
    if wanted is not None:
        metadata = FileMetadata(head=_RTDETR if wanted == "rtdetr" else None)
    fitting = {
        name: layout for name in LAYOUTS if (layout := _fit(name, outputs, classes, metadata)) is not None
    }
    if wanted is not None:
        fitting = {name: layout for name, layout in fitting.items() if name == wanted}
    if not fitting:
        raise DataError(_unknown(outputs, classes, wanted))
    if len(fitting) > 1:
        raise DataError(
            f"its output {short_list(map(str, outputs), 6)} can be read as {' or as '.join(fitting)}; choose "
            "one with --layout"
        )
    (layout,) = fitting.values()
    _check_values(layout, outputs, classes or 0)
    return layout


def suggest_classes(outputs: Sequence[Output]) -> str:
    """How many classes outputs would have, in words; for a file without names."""
    first = outputs[0].shape
    if len(outputs) == 1 and len(first) == 3 and 4 < first[1] < first[2]:
        return f" ({first[1] - 4} for the output {first} if it is raw)"
    widths = [one.shape[-1] for one in outputs if len(one.shape) == 3 and "box" not in one.name.lower()]
    return (
        f" ({widths[0] - 1} or {widths[0]} for logits of {widths[0]})" if len(outputs) == 2 and widths else ""
    )


def _fit(name: str, outputs: Sequence[Output], classes: int | None, metadata: FileMetadata) -> Layout | None:
    """The layout if shapes and types are its own, else None."""
    shapes = [one.shape for one in outputs]
    single = shapes[0] if len(shapes) == 1 and len(shapes[0]) == 3 and _is_float(outputs[0]) else None
    is_query = metadata.head == _RTDETR
    if name == "raw" and single and not is_query and not (metadata.is_end_to_end or metadata.has_nms):
        if single[1] == 4 + (classes or 0) and single[2] >= 1:
            return Layout(name, LAYOUTS[name], is_end_to_end=False, fills_square=False)
    elif name == "end2end" and single and not is_query:
        if single[2] == 6 and (metadata.is_end_to_end or metadata.has_nms or not metadata.is_ultralytics):
            return Layout(name, LAYOUTS[name], is_end_to_end=True, fills_square=False)
    elif name == "rtdetr" and single:
        labels, width = outputs[0].values[..., 5:6], 4 + (classes or 0)
        per_class = single[2] == width and not (width == 6 and (labels == np.round(labels)).all())
        unsaid = metadata.is_ultralytics and metadata.head is None and single[1] != width  # older exports
        if (is_query and (per_class or single[2] == 6)) or (unsaid and per_class):
            return Layout(name, LAYOUTS[name], is_end_to_end=True, fills_square=True, per_class=per_class)
    elif name == "torchvision" and len(outputs) == 3:
        return _fit_torchvision(outputs)
    elif name == "detr" and len(outputs) == 2:
        return _fit_detr(outputs, classes)
    return None


def _fit_torchvision(outputs: Sequence[Output]) -> Layout | None:
    """Boxes by their shape; labels by their type, or by their name where both others are of one type."""
    ranks = [len(one.shape) for one in outputs]
    boxes = [k for k, one in enumerate(outputs) if one.shape[-1:] == (4,) and ranks[k] == max(ranks)]
    flat = [k for k in range(3) if k not in boxes]
    if len(boxes) != 1 or any(outputs[k].shape != outputs[boxes[0]].shape[:-1] for k in flat):
        return None
    labels = [k for k in flat if not _is_float(outputs[k])]
    if not labels:
        labels = [k for k in flat if "label" in outputs[k].name.lower() or "class" in outputs[k].name.lower()]
    if len(labels) != 1 or max(ranks) not in (2, 3):
        return None
    (scores,) = (k for k in flat if k not in labels)
    order = (boxes[0], labels[0], scores)
    return Layout("torchvision", LAYOUTS["torchvision"], is_end_to_end=True, fills_square=False, order=order)


def _fit_detr(outputs: Sequence[Output], classes: int | None) -> Layout | None:
    if any(len(one.shape) != 3 or not _is_float(one) for one in outputs):
        return None
    if outputs[0].shape[1] != outputs[1].shape[1]:
        return None
    widths = [one.shape[2] for one in outputs]
    boxes = [k for k, width in enumerate(widths) if width == 4]
    if len(boxes) == 2:  # three or four classes: names decide
        boxes = [k for k in boxes if "box" in outputs[k].name.lower() or outputs[k].name.lower() == "dets"]
    if len(boxes) != 1 or widths[1 - boxes[0]] not in ((classes or 0), (classes or 0) + 1):
        return None
    order = (1 - boxes[0], boxes[0])
    return Layout("detr", LAYOUTS["detr"], is_end_to_end=True, fills_square=True, order=order)


def _is_float(output: Output) -> bool:
    return output.values.dtype.kind == "f"


def _check_values(layout: Layout, outputs: Sequence[Output], classes: int) -> None:
    """Hold what came out for an image of noise against what the layout says.

    Raises:
        DataError: values that cannot be scores, labels or boxes.
    """
    values = [outputs[place].values for place in layout.order]
    for one in values:
        if one.dtype.kind == "f" and not np.isfinite(one.astype(np.float32)).all():
            raise DataError("outputs NaN or infinity for an image of noise: its weights are damaged")
    if layout.name == "raw":
        _check_scores(values[0][:, 4:])
        if values[0][:, :4].max(initial=0) <= 2:
            raise DataError(
                f"its boxes reach to {float(values[0][:, :4].max(initial=0)):.3g}: shares of the image, "
                "must be pixels; export it with Ultralytics' own raw output"
            )
    elif layout.name == "end2end":
        _check_scores(values[0][..., 4])
        _check_labels(values[0][..., 5], classes)
    elif layout.name == "rtdetr":
        _check_scores(values[0][..., 4:] if layout.per_class else values[0][..., 4])
        _check_shares(values[0][..., :4])
        if not layout.per_class:
            _check_labels(values[0][..., 5], classes)
    elif layout.name == "torchvision":
        _check_scores(values[2])
        _check_labels(values[1], classes)
    else:
        _check_shares(values[1])
        name = outputs[layout.order[0]].name.lower()
        if "logit" not in name and values[0].min(initial=0) >= 0 and values[0].max(initial=0) <= 1:
            raise DataError(
                f"its output {short_repr(name)} lies in [0, 1], so it does not hold logits; export it before softmax "
                "or sigmoid"
            )


def _check_scores(scores: NDArray[Any]) -> None:
    low, high = float(scores.min(initial=0)), float(scores.max(initial=0))
    if low < -1e-6 or high > 1 + 1e-6:
        raise DataError(
            f"its scores span [{low:.3g}, {high:.3g}] for an image of noise, outside [0, 1]: export it "
            "with its sigmoid, or it has another layout"
        )


def _check_labels(labels: NDArray[Any], classes: int) -> None:
    low, high = float(labels.min(initial=0)), float(labels.max(initial=0))
    if np.abs(labels - np.round(labels)).max(initial=0) > 1e-3 or low < 0 or high >= classes:
        raise DataError(
            f"its labels span {low:g} to {high:g}, must be whole numbers from 0 to {classes - 1}; where label 0 is the "
            "background, as in torchvision, give a name for it too"
        )


def _check_shares(boxes: NDArray[Any]) -> None:
    low, high = float(boxes.min(initial=0)), float(boxes.max(initial=0))
    if low < -0.5 or high > 1.5:
        raise DataError(f"its boxes span [{low:.3g}, {high:.3g}], must be shares of the image in [0, 1]")


def _unknown(outputs: Sequence[Output], classes: int | None, wanted: str | None) -> str:
    known = "; ".join(f"{name}: {text}" for name, text in LAYOUTS.items())
    asked = f" as --layout {wanted}" if wanted else ""
    return (
        f"its output {short_list(map(str, outputs), 6)} with {classes} class names{suggest_classes(outputs)} cannot be "
        f"read{asked}. "
        f"Known layouts are {known}. Export it so, or wrap it with wrap_detector"
    )


# All take (outputs, imgsz, classes, max_det), with no classes where a box has a label.
def _decode_raw(outputs: list[Tensor], *_: int) -> Tensor:
    return outputs[0].float()


def _decode_rtdetr(outputs: list[Tensor], imgsz: int, classes: int, max_det: int) -> Tensor:
    rows = outputs[0].float()
    boxes = _corners(rows[..., :4], imgsz)
    if not classes:
        return torch.cat((boxes, rows[..., 4:]), 2)
    return _best(boxes, rows[..., 4:], max_det)


def _decode_torchvision(outputs: list[Tensor], *_: int) -> Tensor:
    boxes, labels, scores = (one.float() for one in outputs)
    if boxes.ndim == 2:
        boxes, labels, scores = boxes[None], labels[None], scores[None]
    rows = torch.cat((boxes, scores[..., None], labels[..., None]), 2)
    order = scores.argsort(dim=1, descending=True, stable=True)
    return rows.gather(1, order[..., None].expand_as(rows))


def _decode_detr(outputs: list[Tensor], imgsz: int, classes: int, max_det: int) -> Tensor:
    """As Hugging Face's `post_process_object_detection`: softmax where there is a place for no object, else sigmoid."""
    logits, boxes = outputs[0].float(), _corners(outputs[1].float(), imgsz)
    if logits.shape[2] == classes:
        return _best(boxes, logits.sigmoid(), max_det)
    scores, labels = logits.softmax(2)[..., :-1].max(2)
    rows = torch.cat((boxes, scores[..., None], labels[..., None].float()), 2)
    order = scores.argsort(dim=1, descending=True, stable=True)
    return rows.gather(1, order[..., None].expand_as(rows))


def _best(boxes: Tensor, scores: Tensor, most: int) -> Tensor:
    """Rows of the best pairs of a box and a class."""
    count = min(most, scores.shape[1] * scores.shape[2])
    best, place = scores.flatten(1).topk(count, 1)
    box = boxes.gather(1, (place // scores.shape[2])[..., None].expand(-1, -1, 4))
    return torch.cat((box, best[..., None], (place % scores.shape[2])[..., None].float()), 2)


def _corners(boxes: Tensor, imgsz: int) -> Tensor:
    """Centre and size as shares, as corners (px)."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((centre - half, centre + half), -1) * imgsz


_DECODERS: dict[str, Callable[[list[Tensor], int, int, int], Tensor]] = {
    "raw": _decode_raw,
    "end2end": _decode_raw,
    "rtdetr": _decode_rtdetr,
    "torchvision": _decode_torchvision,
    "detr": _decode_detr,
}
