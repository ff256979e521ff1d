"""Table 4's detectors: YOLOv8n's neck and head on a backbone of timm, as Ultralytics model YAMLs.

The published counts of the three baselines decide the design: at 20 classes it gives them to every printed
digit (EfficientViT-M0 4.016 M, 9.49 G; FasterNet-T0 4.178 M, 10.72 G; ConvNeXtV2-atto 14.12 G).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
from timm.models.efficientvit_msra import CascadedGroupAttention
from timm.models.fasternet import Partial_conv3
from timm.utils.model import reparameterize_model
from torch import Tensor, nn

PREFIX = "yolov8"
_SCALE = "n"
# YOLOv8's layers P3, P4 and SPPF, which its head reads, and what takes their place.
_REPLACED = {4: 1, 6: 2, 9: 4}
_FIRST_OF_HEAD = 10
_FEATURES = ("TimmBackbone", "Index", "Index", "Index", "SPPF")


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone of timm.

    Attributes:
        widths: channels of its maps at strides 8, 16 and 32.
        options: of `timm.create_model`.
        source: publication.
    """

    widths: tuple[int, int, int]
    options: Mapping[str, Any]
    source: str


BACKBONES = {
    "efficientvit_m0": BackboneSpec(
        (64, 128, 192),
        {"img_size": 448},  # at timm's 224 the last stage has 4 x 4 windows, not 7 x 7 as in the paper
        "EfficientViT-M0 (Liu et al. 2023), timm efficientvit_m0 with a stride of 8 before its first stage",
    ),
    "fasternet_t0": BackboneSpec(
        (80, 160, 320), {"out_indices": (1, 2, 3)}, "FasterNet-T0 (Chen et al. 2023), timm fasternet_t0"
    ),
    "convnextv2_atto": BackboneSpec(
        (80, 160, 320), {"out_indices": (1, 2, 3)}, "ConvNeXt V2-A (Woo et al. 2023), timm convnextv2_atto"
    ),
}


class TimmBackbone(nn.Module):
    """A backbone of `BACKBONES`, never pretrained: (B, 3, H, W) to its maps at strides 8, 16 and 32.

    EfficientViT-M0 has stages at strides 16, 32 and 64 for classification. Here the last convolution of its
    patch embedding has stride 1 instead of 2, as in detectors published with it: same parameters, strides 8,
    16 and 32, and the paper's count of operations.

    Args:
        name: key in `BACKBONES`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        if name not in BACKBONES:  # a file may ask for it: timm would download some names
            raise ValueError(f"backbone is {name!r}: it must be one of {', '.join(BACKBONES)}")
        self.body: Any = timm.create_model(
            name, pretrained=False, features_only=True, **BACKBONES[name].options
        )
        if name == "efficientvit_m0":
            last: Any = self.body.get_submodule("patch_embed_conv4.conv")
            last.stride = (1, 1)
        for part in self.body.modules():
            if isinstance(part, CascadedGroupAttention):
                part.__class__ = UncachedAttention
            elif isinstance(part, Partial_conv3):
                vars(part).pop("forward")
                part.__class__ = PartialConv

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps at strides 8, 16 and 32; Ultralytics' `Index` picks one."""
        maps: list[Tensor] = self.body(x)
        return maps

    def fold_(self) -> TimmBackbone:
        """Fold what timm can into its convolutions, for inference only, in place."""
        self.body = reparameterize_model(self.body, inplace=True)
        return self


class UncachedAttention(CascadedGroupAttention):
    """EfficientViT's attention, biases looked up anew: timm's cache survives a change of weights in place.

    Such a change is what Ultralytics' running average of the weights makes between two validations.
    """

    def get_attention_biases(self, device: Any) -> Tensor:  # noqa: ARG002 (timm's signature)
        """Biases (heads, positions, positions)."""
        places: Any = self.attention_bias_idxs
        return self.attention_biases[:, places]


class PartialConv(Partial_conv3):
    """FasterNet's partial convolution; timm picks its `forward` in a way that restricted loading refuses."""

    forward = Partial_conv3.forward_split_cat


def model_names() -> list[str]:
    """`yolov8-efficientvit_m0`, ..."""
    return [f"{PREFIX}-{name}" for name in BACKBONES]


def backbone_source(name: str) -> str:
    """Where the backbone of a name in `names()` comes from."""
    return BACKBONES[name.removeprefix(f"{PREFIX}-")].source


def model_config(name: str, yolov8n: Mapping[str, Any]) -> dict[str, Any]:
    """The model YAML of a name in `names()`.

    Args:
        name: `yolov8-<backbone>`.
        yolov8n: Ultralytics' own YAML of YOLOv8n, whose neck, head and width it takes.
    """
    backbone = name.removeprefix(f"{PREFIX}-")
    maps = [[0, 1, "Index", [width, i]] for i, width in enumerate(BACKBONES[backbone].widths)]
    sppf = copy.deepcopy(yolov8n["backbone"][-1])
    return {
        **yolov8n,
        "scale": _SCALE,
        "yaml_file": f"{name}.yaml",
        "backbone": [[-1, 1, "TimmBackbone", [backbone]], *maps, sppf],
        "head": [[_moved(source), *copy.deepcopy(row)] for source, *row in yolov8n["head"]],
    }


def _moved(source: int | Sequence[int]) -> Any:
    """A `from` of YOLOv8's head where its ten backbone layers have become five."""
    if not isinstance(source, int):
        return [_moved(one) for one in source]
    return source if source < 0 else _REPLACED.get(source, source - _FIRST_OF_HEAD + len(_FEATURES))
