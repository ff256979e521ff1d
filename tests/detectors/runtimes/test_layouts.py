"""Layouts are recognised by names, types and shapes, or refused; never guessed."""

from typing import Any

import numpy as np
import pytest
import torch

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.detectors.runtimes.layouts import LAYOUTS, Output, recognise
from robustbench_sgdm.detectors.runtimes.metadata import FileMetadata

NOTHING = FileMetadata()
ULTRALYTICS = FileMetadata(is_ultralytics=True)
BOXES = np.array([[[10, 10, 50, 60], [0, 0, 64, 64]]], np.float32)


def floats(*shape: int, low: float = 0, high: float = 1) -> Any:
    return np.random.default_rng(0).uniform(low, high, shape).astype(np.float32)


def raw(classes: int, anchors: int = 84) -> Any:
    values = floats(1, 4 + classes, anchors)
    values[:, :4] *= 64
    return values


def rows(*, label: float = 1, score: float = 0.5) -> Any:
    return np.concatenate([BOXES, np.full((1, 2, 1), score), np.full((1, 2, 1), label)], 2).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "outputs", "metadata"),
    [
        ("raw", {"output0": raw(3)}, NOTHING),
        ("raw", {"output0": raw(3, anchors=7)}, ULTRALYTICS),
        (
            "raw",
            {"output0": raw(3, anchors=6)},
            ULTRALYTICS,
        ),  # in a file of Ultralytics' that says it is not end to end
        ("end2end", {"output0": rows()}, NOTHING),
        ("end2end", {"output0": np.zeros((1, 0, 6), np.float32)}, NOTHING),
        ("end2end", {"output0": rows()}, FileMetadata(is_end_to_end=True, is_ultralytics=True)),
        ("end2end", {"output0": rows()}, FileMetadata(has_nms=True, is_ultralytics=True)),
        ("rtdetr", {"output0": floats(1, 9, 7)}, FileMetadata(head="RTDETRDecoder")),
        ("rtdetr", {"output0": floats(1, 9, 7)}, ULTRALYTICS),  # of a version that did not name the head
        ("torchvision", {"boxes": BOXES[0], "labels": np.array([1, 2]), "scores": floats(2)}, NOTHING),
        ("torchvision", {"a": floats(2), "b": np.array([1, 2], np.int32), "c": BOXES[0]}, NOTHING),
        ("torchvision", {"labels": np.array([[1, 2]]), "boxes": BOXES, "scores": floats(1, 2)}, NOTHING),
        (
            "torchvision",
            {"boxes": BOXES[0][:0], "labels": np.zeros(0, np.int64), "scores": floats(0)},
            NOTHING,
        ),
        ("detr", {"logits": floats(1, 5, 4, low=-3), "pred_boxes": floats(1, 5, 4)}, NOTHING),
        ("detr", {"dets": floats(1, 5, 4), "logits": floats(1, 5, 3, low=-3)}, NOTHING),
    ],
)
def test_a_layout_is_recognised(name: str, outputs: dict[str, Any], metadata: FileMetadata) -> None:
    found = recognise([Output(key, value) for key, value in outputs.items()], 3, metadata)
    assert found.name == name and found.description == LAYOUTS[name]


@pytest.mark.parametrize(
    ("outputs", "metadata", "says"),
    [
        (
            {"o": raw(80, anchors=8400)},
            NOTHING,
            r"'o' float32 \(1, 84, 8400\) with 3 class names \(80 for .* if it is raw\) cannot be read.*raw: .*detr: ",
        ),
        ({"o": floats(1, 8400, 7)}, NOTHING, "cannot be read"),  # transposed
        ({"o": floats(1, 9, 7)}, FileMetadata(head="Detect", is_ultralytics=True), "cannot be read"),
        ({"o": floats(1, 9, 7) * 64}, ULTRALYTICS, "scores span"),
        ({"o": rows() / 64}, FileMetadata(head="RTDETRDecoder"), "whole numbers from 0 to 2"),
        ({"o": floats(1, 3, 20, 20)}, NOTHING, "cannot be read"),
        ({"o": raw(3).astype(np.int64)}, NOTHING, "cannot be read"),
        ({"o": raw(3), "p": raw(3)}, NOTHING, "cannot be read"),
        ({"o": raw(3, anchors=6)}, NOTHING, "as raw or as end2end; choose one with --layout"),
        ({"o": raw(3) * 5 - 2}, NOTHING, r"scores span .*outside \[0, 1\]"),
        ({"o": floats(1, 7, 84)}, NOTHING, "shares of the image, must be pixels"),
        ({"o": raw(3) * np.nan}, NOTHING, "NaN or infinity"),
        ({"o": rows(label=3)}, NOTHING, "labels span 0 to 3, must be whole numbers from 0 to 2"),
        ({"o": rows(label=1.5)}, NOTHING, "whole numbers"),
        ({"o": rows(score=7)}, NOTHING, "scores span"),
        ({"b": BOXES[0], "l": np.array([1, 3]), "s": floats(2)}, NOTHING, "background"),
        ({"b": BOXES[0], "l": floats(2), "s": floats(2)}, NOTHING, "cannot be read"),
        ({"logits": floats(1, 5, 6), "pred_boxes": floats(1, 5, 4)}, NOTHING, "cannot be read"),
        (
            {"logits": floats(1, 5, 3, low=-3), "pred_boxes": floats(1, 5, 4) * 64},
            NOTHING,
            "shares of the image",
        ),
        ({"scores": floats(1, 5, 3), "boxes": floats(1, 5, 4)}, NOTHING, "not hold logits"),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(
    outputs: dict[str, Any], metadata: FileMetadata, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        recognise([Output(key, value) for key, value in outputs.items()], 3, metadata)


def test_what_can_be_two_things_is_what_the_user_says() -> None:
    outputs = [Output("o", raw(3, anchors=6))]
    assert recognise(outputs, 3, NOTHING, "raw").name == "raw"
    with pytest.raises(DataError, match="as --layout detr"):
        recognise(outputs, 3, NOTHING, "detr")
    lies = FileMetadata(has_nms=True, is_ultralytics=True)  # the user's word counts more than the file's
    with pytest.raises(DataError, match="cannot be read"):
        recognise([Output("o", raw(3))], 3, lies)
    assert recognise([Output("o", raw(3))], 3, lies, "raw").name == "raw"
    assert recognise([Output("o", floats(1, 9, 7))], 3, lies, "rtdetr").per_class


def test_two_classes_of_rtdetr_are_no_score_and_label() -> None:
    """Six numbers a box: scores of two classes, or a score and a label, which is whole."""
    rtdetr, boxes = FileMetadata(head="RTDETRDecoder"), torch.tensor([[[0.5, 0.5, 0.5, 0.5]]])
    scores = torch.cat((boxes, torch.tensor([[[0.25, 0.75]]])), 2)
    layout = recognise([Output("o", scores.numpy())], 2, rtdetr)
    assert layout.decode([scores], 64, 2, 300).tolist() == [
        [[16, 16, 48, 48, 0.75, 1], [16, 16, 48, 48, 0.25, 0]]
    ]
    labelled = torch.cat((boxes, torch.tensor([[[0.25, 1.0]]])), 2)
    layout = recognise([Output("o", labelled.numpy())], 2, rtdetr)
    assert layout.decode([labelled], 64, 2, 300).tolist() == [[[16, 16, 48, 48, 0.25, 1]]]


def test_detr_is_decoded_as_transformers_does() -> None:
    transformers = pytest.importorskip("transformers")
    from types import SimpleNamespace

    logits, boxes = torch.from_numpy(floats(2, 7, 4, low=-3, high=3)), torch.from_numpy(floats(2, 7, 4))
    layout = recognise(
        [Output("logits", logits[:1].numpy()), Output("pred_boxes", boxes[:1].numpy())], 3, NOTHING
    )
    got = layout.decode([logits, boxes], 64, 3, 300)
    theirs = transformers.DetrImageProcessor().post_process_object_detection(
        SimpleNamespace(logits=logits, pred_boxes=boxes), 0.0, [(64, 64)] * 2
    )
    for ours, one in zip(got, theirs, strict=True):
        order = one["scores"].argsort(descending=True, stable=True)
        torch.testing.assert_close(ours[:, :4], one["boxes"][order], atol=1e-4, rtol=0)
        torch.testing.assert_close(ours[:, 4], one["scores"][order])
        assert ours[:, 5].tolist() == one["labels"][order].tolist()


def test_rtdetr_of_transformers_has_a_sigmoid() -> None:
    logits, boxes = torch.from_numpy(floats(1, 7, 3, low=-3, high=3)), torch.from_numpy(floats(1, 7, 4))
    layout = recognise([Output("logits", logits.numpy()), Output("pred_boxes", boxes.numpy())], 3, NOTHING)
    got = layout.decode([logits, boxes], 64, 3, 5)[0]
    assert got.shape == (5, 6) and got[0, 4] == logits.sigmoid().max()
    assert int(got[0, 5]) == int(logits[0].amax(0).argmax())


def test_torchvision_puts_the_best_first() -> None:
    outputs = {"boxes": BOXES[0], "labels": np.array([1, 2]), "scores": np.array([0.2, 0.9], np.float32)}
    layout = recognise([Output(k, v) for k, v in outputs.items()], 3, NOTHING)
    got = layout.decode([torch.from_numpy(v) for v in outputs.values()], 64, 3, 300)
    assert got[0, :, 4].tolist() == pytest.approx([0.9, 0.2]) and got[0, 0, 5] == 2
