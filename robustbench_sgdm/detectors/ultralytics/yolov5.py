"""The original, anchor-based YOLOv5 (the ultralytics/yolov5 repository, v6 and v7), built from Ultralytics' layers.

Its backbone and neck are those of Ultralytics' `yolov5.yaml`, which only replaced the head; layers and tensors
have the repository's names, so that its state dict loads. Called `yolov5on`, `yolov5os`, "o" for original: a
hyphen would begin a module's name. What works is loading, grafting, counting, inference and evaluation.

`weights.read_weights` takes the repository's `yolov5n.pt` where that holds only layers and plain values, else its state
dict, which the repository's code writes with `torch.save(checkpoint["model"].float().state_dict(), "state.pt")`.
A state dict names no classes: 80 are taken for COCO's.

Training is refused: the repository's loss matches boxes to anchors, which Ultralytics' trainer does not.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from robustbench_sgdm.core.errors import UsageError

FAMILY = "yolov5o"
ANCHOR_HEAD = "AnchorDetect"
STRIDES = (8, 16, 32)
# Widths and heights in pixels, three a level, as in the repository's models/yolov5n.yaml.
ANCHORS = [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119], [116, 90, 156, 198, 373, 326]]
UNTRAINABLE = (
    "the original YOLOv5 cannot be trained here: its loss matches boxes to anchors, which Ultralytics' trainer does "
    "not. Train it in the yolov5 repository and load its state dict, or train yolov5n"
)
_WIDTHS = {16: "n", 32: "s", 48: "m", 64: "l", 80: "x"}  # channels of the first layer


class AnchorDetect(nn.Module):
    """YOLOv5's head: for each place and each of its anchors a box, its objectness and class scores.

    Args:
        nc: number of classes.
        anchors: for each level widths and heights in pixels, alternating.
        channels: of each level's map.
    """

    anchors: Tensor
    export = False  # Ultralytics' exporter sets it: the decoded boxes alone
    format: str | None = None
    max_det = 300

    def __init__(self, nc: int, anchors: Sequence[Sequence[float]], channels: Sequence[int]) -> None:
        super().__init__()
        self.nc, self.nl, self.na = nc, len(channels), len(anchors[0]) // 2
        self.stride = torch.tensor(STRIDES[: self.nl], dtype=torch.float32, device="cpu")
        pixels = torch.tensor(anchors, dtype=torch.float32).view(self.nl, self.na, 2)
        self.register_buffer("anchors", pixels / self.stride.view(-1, 1, 1).to(pixels.device))
        self.m = nn.ModuleList(nn.Conv2d(c, (nc + 5) * self.na, 1) for c in channels)
        for conv, stride in zip(self.m, STRIDES, strict=False):
            _initialize_bias(conv, self.na, nc, stride)

    def forward(self, maps: list[Tensor]) -> Any:
        """In training the raw maps; else (B, 4 + nc, boxes) of xywh in pixels and scores, and the raw maps."""
        raw = [conv(x) for conv, x in zip(self.m, maps, strict=True)]
        if self.training:
            return raw
        boxes = torch.cat([self._decode(i, x) for i, x in enumerate(raw)], 2)
        return boxes if self.export else (boxes, raw)

    def _decode(self, level: int, raw: Tensor) -> Tensor:
        """A level's boxes (B, 4 + nc, na * H * W): score is objectness times class score."""
        stride, (height, width) = STRIDES[level], raw.shape[2:]
        values = raw.view(raw.shape[0], self.na, self.nc + 5, height, width).sigmoid()
        xy, wh, objectness, scores = torch.split(values, [2, 2, 1, self.nc], 2)
        y, x = (torch.arange(n, device=raw.device, dtype=raw.dtype) for n in (height, width))
        grid = torch.stack((x.expand(height, width), y[:, None].expand(height, width))) - 0.5
        centre = (xy * 2 + grid) * stride
        size = (wh * 2) ** 2 * (self.anchors[level] * stride).view(1, self.na, 2, 1, 1)
        decoded = torch.cat((centre, size, objectness * scores), 2)
        return decoded.transpose(1, 2).flatten(2)


class AnchorModel(DetectionModel):
    """An Ultralytics model with the anchor-based head in place of `Detect`.

    Args:
        config: model YAML whose last row is `AnchorDetect`.
        ch: channels of the image.
        verbose: as Ultralytics.
    """

    def __init__(self, config: dict[str, Any], ch: int = 3, verbose: bool = False) -> None:
        super().__init__(with_detect_head(config), ch, verbose=verbose)  # type: ignore[no-untyped-call]
        self.stride = replace_head(cast(nn.Sequential, self.model), config).stride
        self.yaml = cast(Any, config)

    def init_criterion(self) -> Any:
        """Refused.

        Raises:
            UsageError: always.
        """
        raise UsageError(UNTRAINABLE)


def model_names() -> list[str]:
    """All its sizes."""
    return [f"{FAMILY}{scale}" for scale in _WIDTHS.values()]


def model_config(name: str) -> dict[str, Any]:
    """The model YAML of `yolov5o<scale>`: Ultralytics' own of `yolov5<scale>` with the anchor-based head."""
    ultralytics: dict[str, Any] = yaml_model_load(f"yolov5{name[-1]}.yaml")  # type: ignore[no-untyped-call]
    sources = ultralytics["head"][-1][0]
    head = [
        *copy.deepcopy(ultralytics["head"][:-1]),
        [sources, 1, ANCHOR_HEAD, ["nc", copy.deepcopy(ANCHORS)]],
    ]
    return {**ultralytics, "head": head, "yaml_file": f"{name}.yaml"}


def detect_original_yolov5(state: object) -> tuple[dict[str, Any], int] | None:
    """The model YAML and the class count of a state dict of the yolov5 repository, or None if it is none."""
    if not isinstance(state, Mapping):
        return None
    bias, first = state.get("model.24.m.0.bias"), state.get("model.0.conv.weight")
    if not isinstance(bias, Tensor) or not isinstance(first, Tensor) or bias.ndim != 1 or first.ndim != 4:
        return None
    if len(first) not in _WIDTHS:
        return None
    classes = len(bias) // 3 - 5
    return {**model_config(f"{FAMILY}{_WIDTHS[len(first)]}"), "nc": classes}, classes


def with_detect_head(config: Mapping[str, Any]) -> dict[str, Any]:
    """With `Detect` for `AnchorDetect`: Ultralytics' parser takes several maps into heads of its own only."""
    *rows, (sources, repeats, kind, arguments) = config["head"]
    last = (
        [sources, repeats, "Detect", arguments[:1]]
        if kind == ANCHOR_HEAD
        else [sources, repeats, kind, arguments]
    )
    return {**config, "head": [*rows, last]}


def replace_head(layers: nn.Sequential, config: Mapping[str, Any]) -> Any:
    """Replace the `Detect` of a parsed `parseable(config)` by the head that `config` asks for, in place."""
    _, _, kind, arguments = config["head"][-1]
    old: Any = layers[-1]
    if kind != ANCHOR_HEAD:
        return old
    head: Any = AnchorDetect(config["nc"], arguments[1], [branch[0].conv.in_channels for branch in old.cv2])
    head.i, head.f, head.type = old.i, old.f, f"{AnchorDetect.__module__}.{ANCHOR_HEAD}"
    head.np = sum(p.numel() for p in head.parameters())
    layers[-1] = head
    return head


@torch.no_grad()
def _initialize_bias(conv: nn.Module, na: int, nc: int, stride: int) -> None:
    """As the repository starts: 8 objects in an image of 640 x 640, classes alike."""
    bias: Any = conv.bias
    bias.view(na, -1)[:, 4] += math.log(8 / (640 / stride) ** 2)
    bias.view(na, -1)[:, 5:] += math.log(0.6 / (nc - 0.99999))
