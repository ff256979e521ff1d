"""The network that runs is the one that the file holds, or the file is refused with the layer that differs."""

import collections
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from ultralytics.nn import tasks
from ultralytics.nn.tasks import DetectionModel

from robustbench_sgdm.core.errors import DataError, UsageError
from robustbench_sgdm.detectors.ultralytics import graft, layer_settings, weights, zoo
from robustbench_sgdm.training import initialization
from tests.data.checkpoints.make import fill, image

CLASSES = ["cat", "dog"]


@pytest.fixture(scope="module")
def model() -> DetectionModel:
    built = zoo.build_model("yolov8n", 2, CLASSES).eval()
    with torch.no_grad():
        fill(built)
    return built


def run(network: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = network.eval()(image())[0]
    return found


def set_activation(layer: nn.Module) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model.model[9].cv1.act = layer

    return change


def every_activation(layer: nn.Module) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for one in model.modules():
            if hasattr(one, "act") and isinstance(one.act, nn.SiLU):
                one.act = layer

    return change


def set_attribute(name: str, **values: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        vars(model.get_submodule(name)).update(values)

    return change


CARRIED = {
    "no activation in SPPF, as Ultralytics 8.4.0 to 8.4.140": set_activation(nn.Identity()),
    "LeakyReLU": every_activation(nn.LeakyReLU(0.3)),
    "ReLU6": every_activation(nn.ReLU6()),
    "Hardswish": every_activation(nn.Hardswish()),
    "GELU": every_activation(nn.GELU("tanh")),
    "ELU": set_activation(nn.ELU(0.5)),
    "PReLU": set_activation(nn.PReLU(init=0.1)),
    "Softplus": set_activation(nn.Softplus(beta=2)),
    "eps": set_attribute("model.0.bn", eps=0.1),
    "upsampling": set_attribute("model.10", mode="bilinear", align_corners=False),
    "shortcut": set_attribute("model.2.m.0", add=False),
}


@pytest.mark.parametrize("kind", CARRIED)
def test_settings_are_carried_over(kind: str, model: DetectionModel, tmp_path: Path) -> None:
    other = copy.deepcopy(model)
    CARRIED[kind](other)
    assert not torch.equal(run(other), run(model))
    torch.save({"model": other}, tmp_path / "m.pt")
    read = weights.read_weights(tmp_path / "m.pt")
    torch.testing.assert_close(run(weights.copy_network(read)), run(other), rtol=0, atol=0)
    # And through our own format, which has to say what the YAML does not.
    path = tmp_path / "m.safetensors"
    weights.write_weights(path, read.state, read.config, read.classes, layers=read.layers, half=False)
    again = weights.read_weights(path)
    torch.testing.assert_close(run(weights.copy_network(again)), run(other), rtol=0, atol=0)
    assert again.layers == read.layers


class Conv(nn.Module):
    """A layer of a fork, under a name that Ultralytics has too."""

    def __init__(self, like: Any) -> None:
        super().__init__()
        self.conv, self.bn, self.act = like.conv, like.bn, like.act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.bn(self.conv(x)))
        return x * 2


def of_a_fork(model: Any) -> None:
    first = model.model[0]
    fork: Any = Conv(first)
    fork.i, fork.f, fork.type, fork.np = first.i, first.f, first.type, first.np
    model.model[0] = fork


def hooked(model: Any) -> None:
    model.model[0].register_forward_hook(print)


def replaced(model: Any) -> None:
    model.model[0].forward = model.model[1].forward


def nested_under_long_names(model: Any) -> None:
    layer: nn.Module = nn.Identity()
    for _ in range(50):
        outer = nn.Module()
        outer._modules["A" * 100_000] = layer
        layer = outer
    model.model[0].add_module("more", layer)


def reordered(model: Any) -> None:
    branch = model.model[22].cv2[0]
    branch._modules = dict(reversed(branch._modules.items()))


def half_fused(model: Any) -> None:
    model.model[1].forward = model.model[1].forward_fuse


def another_decoder(model: Any) -> None:
    model.model[22]._inference = model.model[22].decode_bboxes


def hooked_as_a_whole(model: Any) -> None:
    model.register_forward_hook(print)


def another_predict(model: Any) -> None:
    model.predict = model.model[0].forward


REFUSED = {
    "layers in another order": (reordered, r"22\.cv2\.0"),
    "a BatchNorm that is passed over": (half_fused, "its layer 1 skips its BatchNorm"),
    "a method that the YAML does not say": (another_decoder, "22"),
    "layers under names without end": (nested_under_long_names, "of more than 1,000 characters"),
    "hooks of the model": (hooked_as_a_whole, "hooks"),
    "another method of the model": (another_predict, "predict"),
    "stride": (set_attribute("model.1.conv", stride=(1, 1)), "1.conv"),
    "padding": (set_attribute("model.1.conv", padding=(0, 0)), "1.conv"),
    "padding mode": (set_attribute("model.1.conv", padding_mode="reflect"), "1.conv"),
    "dilation": (set_attribute("model.1.conv", dilation=(2, 2)), "1.conv"),
    "groups": (set_attribute("model.1.conv", groups=2), "1.conv"),
    "pooling": (set_attribute("model.9.m", kernel_size=3, padding=1), "9.m"),
    "scale": (set_attribute("model.10", scale_factor=4.0), "10"),
    "number of pools": (set_attribute("model.9", n=2), "9"),
    "source of a layer": (set_attribute("model.11", f=[-1, 4]), "11"),
    "bins of a box": (set_attribute("model.22", reg_max=8), "22"),
    "strides of the head": (set_attribute("model.22", stride=torch.tensor([4.0, 8.0, 16.0])), "22"),
    "form of the boxes": (set_attribute("model.22", xyxy=True), "22"),
    "a setting that Ultralytics does not know": (set_attribute("model.2", gain=2.0), "2"),
    "a layer of a fork": (of_a_fork, "test_layer_settings"),
    "a layer too many": (lambda m: m.model[0].add_module("more", nn.ReLU()), "more"),
    "a layer less": (lambda m: delattr(m.model[9], "m"), "9"),
    "hooks": (hooked, "hooks"),
    "another private method of the model": (
        set_attribute("", _predict_once=torch.nn.functional.relu),
        "_predict_once",
    ),
    "another private method": (
        set_attribute("model.0.conv", _conv_forward=torch.nn.functional.relu),
        "_conv_forward",
    ),
    "another forward": (replaced, "its layer 0|'0'"),
    "activation that is none": (set_activation(nn.BatchNorm2d(64)), "9.cv1.act"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_differences_are_refused_with_the_layer(
    kind: str, model: DetectionModel, tmp_path: Path
) -> None:
    change, named = REFUSED[kind]
    other = copy.deepcopy(model)
    change(other)
    torch.save({"model": other}, tmp_path / "m.pt")
    with pytest.raises(DataError, match=named) as caught:
        weights.read_weights(tmp_path / "m.pt")
    assert "\n" not in str(caught.value)


def test_a_safetensors_that_asks_for_other_layers_is_refused(model: DetectionModel, tmp_path: Path) -> None:
    layers = layer_settings.from_network(model.get_submodule("model"))
    layers["1.conv"] = {**layers["1.conv"], "stride": [1, 1]}
    path = tmp_path / "m.safetensors"
    config: Any = model.yaml
    weights.write_weights(path, model.state_dict(), config, CLASSES, layers=layers)
    with pytest.raises(DataError, match=r"1\.conv"):
        weights.read_weights(path)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({str(i): f"c{i}" for i in range(11)}, [f"c{i}" for i in range(11)]),
        ([f"c{i}" for i in range(11)], [f"c{i}" for i in range(11)]),
        ({i: f"c{i}" for i in reversed(range(11))}, [f"c{i}" for i in range(11)]),
        ({**{i: f"c{i}" for i in range(10)}, 11: "c11"}, None),
        ({i + 1: f"c{i}" for i in range(11)}, None),
        (collections.defaultdict(str, {i: f"c{i}" for i in range(11)}), [f"c{i}" for i in range(11)]),
        ({i: np.str_(f"c{i}") for i in range(11)}, None),
        ({i: f"c{i}" for i in range(10)}, None),
    ],
)
def test_class_names_are_in_label_order(names: Any, expected: list[str] | None, tmp_path: Path) -> None:
    """Text keys sorted as text would put class 10 behind class 1."""
    other = zoo.build_model("yolov5n", 11)
    other.names = names
    torch.save({"model": other}, tmp_path / "m.pt")
    if expected is None:
        with pytest.raises(DataError, match=r"classes|labels|class names"):
            weights.read_weights(tmp_path / "m.pt")
    else:
        assert list(weights.read_weights(tmp_path / "m.pt").classes) == expected


def test_layers_of_training_on_several_gpus(model: DetectionModel, tmp_path: Path) -> None:
    """SyncBatchNorm is BatchNorm in evaluation, and DataParallel holds the model itself."""
    other: Any = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model))  # type: ignore[no-untyped-call]
    torch.save({"model": nn.DataParallel(other)}, tmp_path / "m.pt")
    torch.testing.assert_close(
        run(weights.read_weights(tmp_path / "m.pt").network), run(model), rtol=0, atol=0
    )


def test_the_size_of_training_in_the_yolov5_repository(model: DetectionModel, tmp_path: Path) -> None:
    torch.save({"model": model, "opt": {"imgsz": 320}}, tmp_path / "m.pt")
    assert weights.read_weights(tmp_path / "m.pt").imgsz == 320


@pytest.mark.parametrize("said", [320, [320, 256], 300, "320", "[320, 256]", 320.0, (256, 320)])
def test_the_size_of_training_is_known(said: Any, model: DetectionModel, tmp_path: Path) -> None:
    torch.save({"model": model, "train_args": {"imgsz": said}}, tmp_path / "m.pt")
    assert weights.read_weights(tmp_path / "m.pt").imgsz == 320


def test_channels_that_are_not_rgb_are_refused(tmp_path: Path) -> None:
    config = {**zoo.model_config("yolov5n", 2), "channels": 4}
    torch.save({"model": DetectionModel(config, ch=4, verbose=False)}, tmp_path / "m.pt")  # type: ignore[no-untyped-call]
    with pytest.raises(DataError, match="4 channels"):
        weights.read_weights(tmp_path / "m.pt")


def test_grafted_and_trained_models_keep_the_settings_of_their_start(
    model: DetectionModel, tmp_path: Path
) -> None:
    other = copy.deepcopy(model)
    every_activation(nn.LeakyReLU(0.3))(other)
    set_attribute("model.0.bn", eps=0.1)(other)
    torch.save({"model": other}, tmp_path / "m.pt")
    read = weights.read_weights(tmp_path / "m.pt")
    grafted = zoo.build_model("yolov8n-sgdm", 2, CLASSES, gamma=0.0)
    graft.transfer_weights(read.state, grafted, layers=read.layers)
    torch.testing.assert_close(run(grafted), run(other), rtol=1e-4, atol=1e-3)
    for name in ("yolov8n", "yolov8n-sgdm"):
        arm = initialization.initialize_model(name, CLASSES, 0, read)
        torch.testing.assert_close(run(arm.model), run(other), rtol=1e-4, atol=1e-3)


def test_a_start_of_another_shape_is_refused(model: DetectionModel) -> None:
    layers = layer_settings.from_network(model.get_submodule("model"))
    layers["1.conv"] = {**layers["1.conv"], "stride": [1, 1]}
    with pytest.raises(UsageError, match=r"1\.conv"):
        graft.transfer_weights(model.state_dict(), zoo.build_model("yolov8n", 2, CLASSES), layers=layers)


@pytest.mark.parametrize("name", ["yolov8n-rtdetr", "yolov8n", "yolo26n"])
def test_a_network_that_has_run_is_read_as_one_that_has_not(name: str, tmp_path: Path) -> None:
    # Heads remember the grids of their last image; every network that was trained has validated some.
    kind: Any = tasks.RTDETRDetectionModel if "rtdetr" in name else DetectionModel
    used = kind(f"{name}.yaml", nc=2, verbose=False).eval()
    used.names = dict(enumerate(CLASSES))
    with torch.no_grad():
        fill(used)
        used(torch.zeros(1, 3, 64, 96))
    torch.save({"model": used}, tmp_path / "m.pt")
    read = weights.read_weights(tmp_path / "m.pt")
    torch.testing.assert_close(run(weights.copy_network(read)), run(used), rtol=0, atol=0)
