"""Table 4's detectors: the counts of the paper's baselines, and everything that a detector goes through."""

import copy
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
import pytest
import torch
from timm.models.efficientvit_msra import CascadedGroupAttention
from torch import Tensor, nn
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel

from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.detectors.ultralytics import adapter, backbones, layer_settings, weights, zoo

CLASSES = ("cat", "dog")
NAMES = [name + module for name in backbones.model_names() for module in ("", "-sgdm")]
# 20 classes: parameters, then GFLOPs at 640 by the layers that thop counts.
COUNTS = {
    "yolov8-efficientvit_m0": (4.016, 9.49),
    "yolov8-efficientvit_m0-sgdm": (4.201, 9.68),
    "yolov8-fasternet_t0": (4.178, 10.72),
    "yolov8-fasternet_t0-sgdm": (4.363, 10.92),
    "yolov8-convnextv2_atto": (5.350, 14.12),
    "yolov8-convnextv2_atto-sgdm": (5.535, 14.31),
}


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> DetectionModel:
    """Every tensor differs from its start, BatchNorm statistics included."""
    built = zoo.build_model(request.param, len(CLASSES), CLASSES).eval()
    generator = torch.Generator().manual_seed(0)
    for tensor in built.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(1 + 0.1 * torch.rand(tensor.shape, generator=generator)).add_(0.01)
    return built


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def outputs(model: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        result: Tensor = model.eval()(images)[0]
    return result


def config(model: DetectionModel) -> dict[str, Any]:
    return cast(dict[str, Any], model.yaml)


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name: str) -> None:
    summary = zoo.model_cost(name, classes=20)
    assert (round(summary.parameters / 1e6, 3), round(summary.gflops_thop, 2)) == COUNTS[name]


def test_strides_are_8_16_32(model: DetectionModel) -> None:
    assert model.stride.tolist() == [8, 16, 32]


def test_one_step_reaches_every_parameter(model: DetectionModel, images: Tensor) -> None:
    learner: Any = copy.deepcopy(model).train()
    learner.args = get_cfg()  # as Ultralytics' trainer does
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.3, 0.6, 0.2, 0.5]])
    batch = {
        "img": images,
        "cls": torch.tensor([[0.0], [1.0]]),
        "bboxes": boxes,
        "batch_idx": torch.arange(2.0),
    }
    loss, _ = learner.loss(batch)
    loss.sum().backward()
    still = [name for name, p in learner.named_parameters() if p.grad is None and ".dfl." not in name]
    assert still == []


def test_it_is_written_and_read(model: DetectionModel, images: Tensor, tmp_path: Path) -> None:
    weights.write_weights(tmp_path / "m.safetensors", model.state_dict(), config(model), CLASSES, half=False)
    back = weights.copy_network(weights.read_weights(tmp_path / "m.safetensors"))
    torch.testing.assert_close(outputs(back, images), outputs(model, images), rtol=0, atol=0)


def test_a_checkpoint_is_read_as_data(model: DetectionModel, images: Tensor, tmp_path: Path) -> None:
    torch.save({"model": None, "ema": model}, tmp_path / "best.pt")
    back = weights.copy_network(weights.read_weights(tmp_path / "best.pt"))
    torch.testing.assert_close(outputs(back, images), outputs(model, images), rtol=0, atol=0)


def test_it_detects_as_it_did_unfused(model: DetectionModel, images: Tensor) -> None:
    detector = adapter.UltralyticsDetector(model, "m", InferenceConfig(imgsz=64))
    batch = (images * 255).byte()
    expected = outputs(model, batch.float() / 255)
    torch.testing.assert_close(detector.forward(batch), expected, rtol=1e-3, atol=1e-2)
    assert sum(p.numel() for p in detector.network.parameters()) < detector.parameters


@pytest.mark.slow
def test_it_exports_for_any_batch(model: DetectionModel, images: Tensor, tmp_path: Path) -> None:
    network = copy.deepcopy(model)
    head: Any = list(network.get_submodule("model").children())[-1]
    head.export, head.format = True, "onnx"
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks on EfficientViT's comparison of fixed sizes
        torch.onnx.export(
            network, (images,), path, dynamo=False, input_names=["images"], output_names=["boxes"],
            dynamic_axes={"images": {0: "batch"}, "boxes": {0: "batch"}},
        )  # fmt: skip
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for count in (1, 2, 3):
        batch = torch.cat([images, images.flip(3)])[:count]
        with torch.inference_mode():
            expected = network(batch).numpy()
        found = session.run(None, {"images": batch.numpy()})[0]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-2)


def test_attention_biases_follow_weights_that_change_in_place(images: Tensor) -> None:
    body = backbones.TimmBackbone("efficientvit_m0").eval()
    before = body(images)
    for part in body.modules():
        if isinstance(part, CascadedGroupAttention):
            nn.init.normal_(part.attention_biases, std=3.0, generator=torch.Generator().manual_seed(0))
            nn.init.ones_(part.get_parameter("proj.1.bn.weight"))  # 0 at the start: attention adds nothing
    changed = body(images)
    torch.testing.assert_close(copy.deepcopy(body)(images), changed)
    assert (before[0] - changed[0]).abs().max() > 1e-3
    for part in body.modules():
        if isinstance(part, CascadedGroupAttention):
            nn.init.zeros_(part.attention_biases)
    assert (body(images)[0] - changed[0]).abs().max() > 1e-4


def test_a_file_cannot_ask_timm_for_another_model(model: DetectionModel, tmp_path: Path) -> None:
    asked = copy.deepcopy(config(model))
    asked["backbone"][0][3] = ["resnet50"]
    layers = layer_settings.from_network(model.get_submodule("model"))
    weights.write_weights(tmp_path / "m.safetensors", model.state_dict(), asked, CLASSES, layers=layers)
    with pytest.raises((DataError, UsageError), match="backbone is 'resnet50'"):
        weights.copy_network(weights.read_weights(tmp_path / "m.safetensors"))
