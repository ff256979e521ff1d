import math

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from ultralytics.data.augment import LetterBox

from robustbench_sgdm.detectors import letterbox

SIZES = [
    (480, 640),
    (640, 480),
    (333, 500),
    (427, 640),
    (1000, 17),
    (3, 900),
    (64, 64),
    (50, 31),
    (641, 640),
    (1, 1),
]


def image(height: int, width: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(height).integers(0, 256, (3, height, width), np.uint8))


def ultralytics(rgb: NDArray[np.uint8], imgsz: int) -> NDArray[np.uint8]:
    """The lines of `BaseDataset.load_image`, then `LetterBox` as the validation set's transform has it."""
    h0, w0 = rgb.shape[:2]
    ratio = imgsz / max(h0, w0)
    if ratio != 1:
        w, h = min(math.ceil(w0 * ratio), imgsz), min(math.ceil(h0 * ratio), imgsz)
        rgb = cv2.resize(rgb, (w, h), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    return np.asarray(LetterBox((imgsz, imgsz), scaleup=False)(image=rgb))


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("imgsz", [64, 640])
def test_equals_ultralytics_bit_for_bit(height: int, width: int, imgsz: int) -> None:
    picture = image(height, width)
    before = picture.clone()
    square, where = letterbox.letterbox(picture, imgsz)
    expected = ultralytics(np.ascontiguousarray(picture.permute(1, 2, 0).numpy()), imgsz)
    np.testing.assert_array_equal(square.permute(1, 2, 0).numpy(), expected)
    assert torch.equal(picture, before)
    assert max(where.height, where.width) == imgsz
    assert where.top + where.height <= imgsz and where.left + where.width <= imgsz


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_other_devices_differ_by_a_grey_level_at_most(height: int, width: int) -> None:
    picture = image(height, width)
    square, where = letterbox.letterbox(picture, 320)
    inside = square[:, where.top : where.top + where.height, where.left : where.left + where.width]
    by_opencv = inside.int()
    by_torch = letterbox.resize_float(picture, where.height, where.width).int()
    assert (by_opencv - by_torch).abs().max() <= 1
