"""Detectors and corruptions keep MAITE's published protocols, whether MAITE is there or not."""

from typing import Any

import numpy as np
import pytest
import torch

import robustbench_sgdm as rb
from robustbench_sgdm.core.errors import UsageError


def rows(images: list[np.ndarray]) -> list[np.ndarray]:  # type: ignore[type-arg]
    return [np.array([[1, 2, 3, 4, 0.5, 1]]) for _ in images]


def test_a_detector_is_a_model() -> None:
    model = rb.as_maite(rb.wrap_detector(rows, ["cat", "dog"], name="mine", fingerprint="1"))
    assert model.metadata == {"id": "mine", "index2label": {0: "cat", 1: "dog"}}
    batch: list[Any] = [np.zeros((3, 8, 9), np.uint8), torch.zeros((3, 5, 5), dtype=torch.uint8)]
    first, second = model(batch)
    assert first.boxes.shape == (1, 4) and first.labels.tolist() == [1] and second.scores.tolist() == [0.5]
    again = rb.wrap_detector(lambda images: [first for _ in images], ["cat", "dog"], fingerprint="2")
    assert again.predict([torch.zeros((3, 8, 9), dtype=torch.uint8)])[0].labels.tolist() == [1]
    with pytest.raises(UsageError, match="times 255"):
        model([np.zeros((3, 8, 9))])


def test_a_corruption_is_an_augmentation() -> None:
    augmentation = rb.as_maite("gaussian_noise", 3, seed=5)
    assert augmentation.metadata == {"id": "gaussian_noise@3"}
    image = np.full((3, 20, 30), 100, np.uint8)
    metadata_in: list[dict[str, Any]] = [{"id": 9}, {"id": "a"}, {"id": "9"}]
    batch = ([image, image, image], ["target"] * 3, metadata_in)
    (first, named, third), targets, metadata = augmentation(batch)
    expected = rb.corrupt(image.transpose(1, 2, 0), "gaussian_noise", 3, seed=5, image_id=9)
    assert np.array_equal(first.transpose(1, 2, 0), expected) and np.array_equal(first, third)
    assert not np.array_equal(first, named) and targets == batch[1] and metadata == batch[2]
    with pytest.raises(UsageError, match="severity=3"):
        rb.as_maite("fog")
    with pytest.raises(UsageError, match="unknown corruption"):
        rb.as_maite("fogg", 3)


def test_maite_s_own_protocols_take_them() -> None:
    protocols = pytest.importorskip("maite.protocols.object_detection")
    model = rb.as_maite(rb.wrap_detector(rows, ["cat", "dog"], fingerprint="1"))
    assert isinstance(model, protocols.Model)
    (target,) = model([np.zeros((3, 8, 9), np.uint8)])
    target_protocol = getattr(protocols.ObjectDetectionTarget, "__origin__", protocols.ObjectDetectionTarget)
    assert isinstance(target, target_protocol)
    assert isinstance(rb.as_maite("fog", 1), protocols.Augmentation)
