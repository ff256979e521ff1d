"""The original YOLOv5: its counts, its decoding against a loop, its checkpoints, and what it refuses."""

import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from ultralytics.nn import modules as layers

from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core.errors import UsageError
from robustbench_sgdm.detectors import load_detector
from robustbench_sgdm.detectors.ultralytics import adapter, weights, yolov5, zoo
from robustbench_sgdm.detectors.ultralytics.architecture import build_meta
from robustbench_sgdm.detectors.ultralytics.yolov5 import ANCHORS, STRIDES, AnchorDetect

CLASSES = ("cat", "dog", "cow")
# 80 classes. Those without a module are the repository's own, to the last parameter.
COUNTS = {
    "yolov5on": (1_872_157, 4.564, 4.564),
    "yolov5os": (7_235_389, 16.625, 16.625),
    "yolov5on-sgdm": (2_057_473, 4.799, 4.755),
}


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    built = zoo.build_model("yolov5on", len(CLASSES), CLASSES).eval()
    generator = torch.Generator().manual_seed(0)
    for name, tensor in built.state_dict().items():
        if tensor.is_floating_point() and "anchors" not in name:
            tensor.mul_(1 + 0.1 * torch.rand(tensor.shape, generator=generator)).add_(0.01)
    return built


def outputs(model: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        result: Tensor = model.eval()(images)[0]
    return result


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name: str) -> None:
    found = zoo.model_cost(name, classes=80)
    assert (found.parameters, round(found.gflops_paper, 3), round(found.gflops_thop, 3)) == COUNTS[name]


def test_its_tensors_have_the_repositorys_names() -> None:
    state = build_meta(zoo.model_config("yolov5on", 80)).state_dict()
    assert {"0.conv.weight", "9.cv2.bn.running_var", "23.m.0.cv1.conv.weight", "24.m.2.bias"} <= set(state)
    assert state["24.anchors"].shape == (3, 3, 2)
    assert state["24.m.0.weight"].shape == (255, 64, 1, 1)


def decoded(maps: list[NDArray[np.float64]], classes: int) -> NDArray[np.float64]:
    """The repository's formula, a box at a time: (B, 4 + classes, boxes)."""

    def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(1 / (1 + np.exp(-x)))

    found: list[list[NDArray[np.float64]]] = [[] for _ in maps[0]]
    for values, stride, anchors in zip(maps, STRIDES, ANCHORS, strict=True):
        batch, _, height, width = values.shape
        for b in range(batch):
            for a in range(3):
                for y in range(height):
                    for x in range(width):
                        t = sigmoid(values[b, a * (5 + classes) : (a + 1) * (5 + classes), y, x])
                        centre = (t[:2] * 2 - 0.5 + (x, y)) * stride
                        size = (t[2:4] * 2) ** 2 * anchors[2 * a : 2 * a + 2]
                        found[b].append(np.concatenate([centre, size, t[4] * t[5:]]))
    return np.asarray(found).transpose(0, 2, 1)


def test_decoding_is_the_repositorys_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    head = AnchorDetect(3, ANCHORS, [4, 6, 8]).eval()
    for parameter in head.parameters():
        nn.init.normal_(parameter, generator=generator)
    shapes = [(2, 4, 4, 6), (2, 6, 2, 3), (2, 8, 1, 2)]
    boxes, raw = head([torch.randn(shape, generator=generator) for shape in shapes])
    expected = decoded([level.detach().double().numpy() for level in raw], 3)
    np.testing.assert_allclose(boxes.detach().numpy(), expected, rtol=1e-4, atol=1e-4)


def test_a_grafted_one_starts_as_the_identity(model: nn.Module, tmp_path: Path) -> None:
    weights.write_weights(
        tmp_path / "m.safetensors", model.state_dict(), zoo.model_config("yolov5on", 3), CLASSES, half=False
    )
    plain, grafted = (
        load_detector(name, InferenceConfig(imgsz=64), weights=tmp_path / "m.safetensors")
        for name in ("yolov5on", "yolov5on-sgdm")
    )
    picture = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(grafted.forward(picture), plain.forward(picture), rtol=1e-4, atol=1e-4)
    assert plain.classes == CLASSES
    boxes = plain.predict([picture[0]])[0]
    assert len(boxes) and (boxes.scores > 0.001).all()


def test_training_is_refused(model: nn.Module, images: Tensor) -> None:
    with pytest.raises(UsageError, match="cannot be trained here"):
        model.loss({"img": images})  # type: ignore[operator]


def test_it_exports_for_any_batch(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    head: Any = model.get_submodule("model.24")
    head.export = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model, (images,), tmp_path / "m.onnx", dynamo=False, input_names=["images"],
                output_names=["boxes"], dynamic_axes={"images": {0: "batch"}, "boxes": {0: "batch"}},
            )  # fmt: skip
        session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
        for count in (1, 3):
            batch = torch.cat([images, images.flip(3)])[:count]
            with torch.inference_mode():
                expected = model(batch).numpy()
            found = session.run(None, {"images": batch.numpy()})[0]
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-2)
    finally:
        head.export = False


@pytest.mark.parametrize("form", ["bare.pt", "nested.pt", "bare.safetensors"])
def test_a_state_dict_of_the_repository_is_read(
    model: nn.Module, images: Tensor, tmp_path: Path, form: str
) -> None:
    state = model.state_dict()
    path = tmp_path / form
    if path.suffix == ".pt":
        torch.save({"model": state} if form == "nested.pt" else state, path)
    else:
        safetensors.torch.save_file(state, path)
    found = weights.read_weights(path)
    assert found.classes == ("0", "1", "2")
    torch.testing.assert_close(
        outputs(weights.copy_network(found), images), outputs(model, images), rtol=0, atol=0
    )


def test_80_classes_are_cocos(tmp_path: Path) -> None:
    torch.save(zoo.build_model("yolov5on", 80).state_dict(), tmp_path / "state.pt")
    assert load_detector("yolov5on", InferenceConfig(imgsz=64), weights=tmp_path / "state.pt").classes[
        :2
    ] == (
        "person",
        "bicycle",
    )


# What the repository's own checkpoints call our classes.
ALIASES = [
    (yolov5.AnchorModel, "models.yolo.DetectionModel"),
    (yolov5.AnchorModel, "models.yolo.Model"),  # v6.0
    (yolov5.AnchorDetect, "models.yolo.Detect"),
    *(
        (getattr(layers, kind), f"models.common.{kind}")
        for kind in ("Conv", "C3", "Bottleneck", "SPPF", "Concat")
    ),
]


def test_a_checkpoint_of_the_repository_is_read_as_data(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its classes live in `models.yolo` and `models.common`, which are nowhere to be imported here."""
    model = zoo.build_model("yolov5on", 2, ("cat", "dog")).eval()
    expected = outputs(model, images)
    fake: dict[str, Any] = {}
    for cls, alias in ALIASES:
        module, _, name = alias.rpartition(".")
        holder = fake.setdefault(module, types.ModuleType(module))
        setattr(holder, name, type(name, cls.__mro__[1:2], {"__module__": module}))
        fake[alias] = getattr(holder, name)
    for part in model.modules():
        for cls, alias in ALIASES[:1] + ALIASES[2:]:
            if type(part) is cls:
                part.__class__ = fake[alias]
    vars(model)["yaml"] = {"nc": 2, "backbone": [], "head": [[[17, 20, 23], 1, "Detect", ["nc", "anchors"]]]}
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "models", types.ModuleType("models"))
        for module in ("models.yolo", "models.common"):
            patch.setitem(sys.modules, module, fake[module])
        torch.save({"model": model.half(), "ema": None, "epoch": -1, "date": "2022"}, tmp_path / "yolov5n.pt")
    found = weights.read_weights(tmp_path / "yolov5n.pt")
    assert found.classes == ("cat", "dog")
    torch.testing.assert_close(outputs(weights.copy_network(found), images), expected, rtol=1e-2, atol=1.0)


def test_the_detector_applies_the_same_suppression(model: Any) -> None:
    detector = adapter.UltralyticsDetector(model, "m", InferenceConfig(imgsz=64, conf=0.01))
    batch = torch.randint(
        0, 256, (1, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    rows = detector.predict_rows(batch)[0]
    assert rows.shape[1] == 6 and (rows[:, 4] > 0.01).all()
