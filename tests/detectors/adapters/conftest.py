"""Small detectors of other libraries with random weights, saved as their libraries save them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import get_model_builder

TORCHVISION = "ssdlite320_mobilenet_v3_large"
CLASSES = ("person", "cat")


def save_torchvision(path: Path, seed: int = 0, labels: int = len(CLASSES) + 1) -> torch.nn.Module:
    """An SSDlite whose scores are not all equal."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # noqa: TID251
        network: torch.nn.Module = get_model_builder(TORCHVISION)(
            weights=None, weights_backbone=None, num_classes=labels
        )
        with torch.no_grad():
            for layer in network.modules():
                if isinstance(layer, torch.nn.BatchNorm2d):
                    layer.momentum = 1.0  # else what images differ in fades from layer to layer
            network.get_submodule("backbone").train()(torch.rand(4, 3, 160, 160))
            for name, parameter in network.named_parameters():
                if name.startswith("head"):
                    parameter.normal_(0, 0.05)
    names = {"classes": list(CLASSES)} if labels == len(CLASSES) + 1 else {}
    torch.save({"model": network.state_dict(), **names}, path)
    return network.eval()


def save_transformers(folder: Path, seed: int = 0, kind: str = "yolos", **settings: Any) -> None:
    """A YOLOS or an RT-DETR of a few thousand parameters, with its image processor."""
    transformers = pytest.importorskip("transformers")
    names = dict(enumerate(CLASSES))
    labels: dict[str, Any] = {"id2label": names, "label2id": {v: k for k, v in names.items()}}
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # noqa: TID251
        if kind == "yolos":
            config = transformers.YolosConfig(
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=37,
                image_size=[64, 64],
                patch_size=16,
                num_detection_tokens=10,
                initializer_range=0.2,
                **labels,
                **settings,
            )
            processor = transformers.YolosImageProcessor(size={"shortest_edge": 128, "longest_edge": 320})
        else:
            backbone = transformers.RTDetrResNetConfig(
                embedding_size=8,
                hidden_sizes=[8, 16, 16, 16],
                depths=[1, 1, 1, 1],
                layer_type="basic",
                out_features=["stage2", "stage3", "stage4"],
            )
            config = transformers.RTDetrConfig(
                backbone_config=backbone,
                encoder_hidden_dim=16,
                encoder_in_channels=[16, 16, 16],
                encoder_ffn_dim=16,
                encoder_attention_heads=2,
                d_model=16,
                num_queries=12,
                decoder_in_channels=[16, 16, 16],
                decoder_ffn_dim=16,
                decoder_layers=2,
                decoder_attention_heads=2,
                **labels,
                **settings,
            )
            processor = transformers.RTDetrImageProcessor(size={"height": 64, "width": 64})
        transformers.AutoModelForObjectDetection.from_config(config).save_pretrained(folder)
    processor.save_pretrained(folder)
