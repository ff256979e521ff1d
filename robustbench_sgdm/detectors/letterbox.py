"""Fit an image into a square as Ultralytics' validation does with `rect=False`: `load_image`, `LetterBox`."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import torch
from torch import Tensor
from torch.nn import functional as F

_GREY = 114  # the border that YOLO models are trained with


class Placement(NamedTuple):
    """Where an image of `original` (height, width) lies in the square: new size and top left corner, px."""

    original: tuple[int, int]
    height: int
    width: int
    top: int
    left: int

    @property
    def ratio_pad(self) -> tuple[tuple[float, float], tuple[int, int]]:
        """((gain_y, gain_x), (pad_x, pad_y)), as Ultralytics' `scale_boxes` takes it."""
        return (self.height / self.original[0], self.width / self.original[1]), (self.left, self.top)


def letterbox_placement(height: int, width: int, imgsz: int) -> Placement:
    """Scale the longer side to `imgsz`, the other rounded up, and centre the result."""
    # In this order of operations as Ultralytics has it: `load_image` rounds the shorter side up, `LetterBox` then halves
    # the rest and rounds -0.1 and +0.1, so that of an odd rest the larger half lies below and to the right.
    ratio = imgsz / max(height, width)
    new_h, new_w = (min(math.ceil(side * ratio), imgsz) for side in (height, width))
    top, left = (round((imgsz - side) / 2 - 0.1) for side in (new_h, new_w))
    return Placement((height, width), new_h, new_w, top, left)


def letterbox(image: Tensor, imgsz: int) -> tuple[Tensor, Placement]:
    """Fit a uint8 (3, H, W) image into a uint8 (3, imgsz, imgsz) one on the same device, the border grey.

    On the CPU by OpenCV, bit for bit as Ultralytics. On other devices by `interpolate` in float32, rounded:
    OpenCV computes with 11-bit fixed-point weights, so the two differ by at most 1 grey level.
    """
    where = letterbox_placement(image.shape[1], image.shape[2], imgsz)
    resize = _resize_cpu if image.device.type == "cpu" else resize_float
    # Channels last in memory, as the images are decoded and as OpenCV writes them: the copy below is then contiguous.
    square = torch.full((imgsz, imgsz, 3), _GREY, dtype=torch.uint8, device=image.device).permute(2, 0, 1)
    inside = square[:, where.top : where.top + where.height, where.left : where.left + where.width]
    inside.copy_(resize(image, where.height, where.width))
    return square, where


def resize_square(image: Tensor, imgsz: int) -> tuple[Tensor, Placement]:
    """As `letterbox`, but stretch the image to the whole square, as Ultralytics does for RT-DETR."""
    resize = _resize_cpu if image.device.type == "cpu" else resize_float
    return resize(image, imgsz, imgsz), Placement((image.shape[1], image.shape[2]), imgsz, imgsz, 0, 0)


def resize_float(image: Tensor, height: int, width: int) -> Tensor:
    """Bilinear (3, height, width) from a uint8 (3, H, W) image on any device, rounded to uint8."""
    if image.shape[1:] == (height, width):
        return image
    resized = F.interpolate(image[None].float(), (height, width), mode="bilinear", align_corners=False)[0]
    return resized.round_().clamp_(0, 255).byte()


def _resize_cpu(image: Tensor, height: int, width: int) -> Tensor:
    if image.shape[1:] == (height, width):
        return image
    array = image.permute(1, 2, 0).contiguous().numpy()
    resized = cv2.resize(array, (width, height), interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(resized).permute(2, 0, 1)
