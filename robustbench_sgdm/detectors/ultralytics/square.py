"""What detectors of squares share: letterbox, suppression and boxes of Ultralytics' `val`, whatever runs the network."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from ultralytics.utils.nms import non_max_suppression
from ultralytics.utils.ops import scale_boxes

from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.detections import Detections
from robustbench_sgdm.core.transfer import to_device
from robustbench_sgdm.detectors.base import check_images
from robustbench_sgdm.detectors.letterbox import Placement, letterbox, resize_square


class SquareDetector(ABC):
    """A `Detector` that fits every image into a square and shows squares to a network in batches.

    Attributes:
        name: what results call it.
        settings: sizes and thresholds.
        device: where squares are made and boxes suppressed.
        imgsz: side of the square (px).
        fills_square: whether images are stretched to the whole square; else they are letterboxed.
        is_end_to_end: `forward` gives rows (xyxy, score, label) that need no suppression.
    """

    name: str
    settings: InferenceConfig
    device: torch.device
    fills_square: bool = False
    is_end_to_end: bool = False

    @property
    @abstractmethod
    def imgsz(self) -> int:
        """Side of the square (px)."""

    @abstractmethod
    def forward(self, batch: Tensor) -> Tensor:
        """Raw output of uint8 (B, 3, S, S): (B, 4 + classes, anchors), or (B, boxes, 6) if end to end."""

    @torch.inference_mode()
    def predict(self, images: Sequence[Tensor]) -> list[Detections]:
        """Detect in uint8 (3, H, W) RGB images, in one batch; see `Detector.predict`."""
        check_images(images)
        if not len(images):
            return []
        fit = resize_square if self.fills_square else letterbox
        squares, fits = zip(
            *(fit(to_device(image, self.device), self.imgsz) for image in images), strict=True
        )
        rows = self.predict_rows(torch.stack(squares))
        together = torch.cat(rows).float().cpu()  # one copy from a GPU
        on_host = torch.split(together, [len(one) for one in rows])
        return [self._detections(one, fit) for one, fit in zip(on_host, fits, strict=True)]

    @torch.inference_mode()
    def predict_rows(self, squares: Tensor) -> list[Tensor]:
        """Forward and suppression alone: uint8 (B, 3, S, S) to rows (n, 6) of xyxy, score, label each."""
        kept: list[Tensor] = non_max_suppression(
            self.forward(squares),
            self.settings.conf,
            self.settings.iou,
            multi_label=True,
            max_det=self.settings.max_det,
            max_time_img=math.inf,  # past its limit it silently returns nothing for the rest of the batch
            end2end=self.is_end_to_end,
        )
        return kept

    def _detections(self, rows: Tensor, fit: Placement) -> Detections:
        """Float rows (n, 6) of xyxy, score and label in the square, on the CPU, as boxes in the original image."""
        xyxy, score, label = rows[:, :4].contiguous(), rows[:, 4].contiguous(), rows[:, 5].long()
        scale_boxes((self.imgsz, self.imgsz), xyxy, fit.original, ratio_pad=fit.ratio_pad)  # in place
        xyxy[:, 2:].clamp_(min=xyxy[:, :2])  # a head without DFL can turn a box inside out
        return Detections(xyxy.numpy(), score.numpy(), label.numpy())
